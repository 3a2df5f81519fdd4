/**
 * What the tests of datagrams and packets share: peers in other programs, and descriptors that say whether they are still open.
 */
import { spawn, spawnSync, type ChildProcessWithoutNullStreams } from 'node:child_process'
import { closeSync, openSync, readlinkSync } from 'node:fs'
import { FdHandle, type Reactor } from '@fd-reactor/core'
import {
  UnixDatagram,
  UnixSeqpacket,
  UnixSeqpacketListener,
  type SendOutcome,
  type UnixDatagramBindOptions,
  type UnixSeqpacketOptions,
} from '@fd-reactor/fd-events'
import { onTestFinished, type TestContext } from 'vitest'
import { settle } from '../../core/test/support/reactors.js'
import { until } from '../../core/test/support/wait.js'

let names = 0

/** An abstract name that nobody else has. */
export function abstractName(): { abstract: string } {
  return { abstract: `fd-reactor-test-${process.pid}-${names++}` }
}

/** Skips tests, and says so, of a peer that is not installed: for a test, or for `beforeEach` of several. */
export function needs(program: string): (context: TestContext) => void {
  const missing = spawnSync('sh', ['-c', `command -v ${program}`]).status !== 0
  return ({ skip }) => {
    skip(missing, `${program} is not installed`)
  }
}

/** Another program, killed after the test. */
export class Peer {
  readonly #child: ChildProcessWithoutNullStreams
  readonly exited: Promise<number | null>
  output = ''

  constructor(command: string, args: string[]) {
    this.#child = spawn(command, args)
    for (const stream of [this.#child.stdout, this.#child.stderr]) {
      stream.setEncoding('utf8').on('data', (text: string) => (this.output += text))
    }
    this.exited = new Promise((resolve) => this.#child.on('close', resolve))
    onTestFinished(async () => {
      this.#child.kill('SIGKILL')
      await this.exited
    })
  }

  get pid(): number {
    return this.#child.pid ?? -1
  }

  /** Writes to its standard input. */
  write(text: string): void {
    this.#child.stdin.write(text)
  }

  /** Waits for it to have printed `text`. */
  async said(text: string): Promise<void> {
    await until(() => this.output.includes(text), `'${text}' in ${JSON.stringify(this.output)}`)
  }
}

/** Python is the peer that can do everything by hand. */
export function python(script: string, ...args: string[]): Peer {
  return new Peer('python3', ['-u', '-c', `import array, os, socket, sys, time\n${script}`, ...args])
}

/** A descriptor of /dev/null, closed after the test. */
export function devNull(): FdHandle {
  const handle = FdHandle.adopt(openSync('/dev/null', 'r'))
  onTestFinished(() => {
    handle.close()
  })
  return handle
}

/** How many descriptors of /dev/null are open. */
export function openNulls(): number {
  let count = 0
  const highest = openSync('/dev/null', 'r')
  closeSync(highest)
  for (let fd = 3; fd < highest + 1024; fd++) {
    try {
      if (readlinkSync(`/proc/self/fd/${fd}`) === '/dev/null') count++
    } catch {
      // not open
    }
  }
  return count
}

/** A receiver that takes nothing until somebody listens, so that the kernel's queue fills. */
export function fullReceiver(reactor: Reactor, options: UnixDatagramBindOptions = {}): UnixDatagram {
  return UnixDatagram.bind(reactor, abstractName(), options)
}

/** Two connected sockets of packets. */
export async function packetPair(
  reactor: Reactor,
  options: UnixSeqpacketOptions = {},
): Promise<[near: UnixSeqpacket, peer: UnixSeqpacket]> {
  const listener = UnixSeqpacketListener.listen(reactor, abstractName(), options)
  let near: UnixSeqpacket | undefined
  listener.on('connection', (connection) => (near = connection))
  const peer = await UnixSeqpacket.connect(reactor, listener.address, options)
  settle(reactor)
  listener.close()
  if (near === undefined) throw new Error('no connection was accepted')
  return [near, peer]
}

/** Collects outcomes by the order of their sends, and fails on a second one. */
export class Outcomes {
  readonly list: (SendOutcome | undefined)[] = []

  /** A callback for the next send. */
  next(): (outcome: SendOutcome) => void {
    const index = this.list.push(undefined) - 1
    return (outcome) => {
      if (this.list[index] !== undefined) throw new Error(`send ${index} ended twice`)
      this.list[index] = outcome
    }
  }

  /** Outcomes as words: codes for errors. */
  get words(): string[] {
    return this.list.map((outcome) => {
      return outcome === undefined ? 'waiting' : typeof outcome === 'string' ? outcome : outcome.code
    })
  }

  /** How many there are of a word. */
  count(word: string): number {
    return this.words.filter((each) => each === word).length
  }
}
