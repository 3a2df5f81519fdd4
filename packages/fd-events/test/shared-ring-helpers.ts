/**
 * What the tests of rings with many readers or many writers share: both ends in one process, ends in others, and messages that tell whether they
 * are whole.
 */
import { readdirSync } from 'node:fs'
import { Mapping, Reactor, type FdHandle } from '@fd-reactor/core'
import { SharedMemory, UnixSeqpacket, UnixSeqpacketListener, type OfferPeer } from '@fd-reactor/fd-events'
import { afterAll, beforeAll, expect, onTestFinished } from 'vitest'
import { runForJson, type ChildOptions } from '../../core/test/support/child.js'
import { assertNoLeakedFds } from '../../core/test/support/fds.js'
import { turn, until } from '../../core/test/support/wait.js'
import { abstractName, packetPair } from './message-helpers.js'

/** For each test file: neither descriptors, nor mappings, nor names in /dev/shm are left. */
export function assertNothingLeft(): void {
  assertNoLeakedFds()
  let before: [number, string[]]
  const now = (): [number, string[]] => [
    Mapping.live,
    readdirSync('/dev/shm').filter((name) => name.includes(`-${process.pid}`)),
  ]
  beforeAll(() => (before = now()))
  afterAll(async () => {
    const same = (): boolean => {
      globalThis.gc?.() // a range is given back when its buffer was collected
      return JSON.stringify(now()) === JSON.stringify(before)
    }
    await until(same, '', 3000).catch(() => undefined)
    expect(now()).toEqual(before)
  })
}

/** Both sides of a handshake in this process. */
export async function attached<Offered, Accepted>(
  offer: (to: OfferPeer) => Promise<Offered>,
  accept: (from: OfferPeer) => Promise<Accepted>,
): Promise<[Offered, Accepted]> {
  const far = new Reactor({ wakeup: 'manual' })
  try {
    const [one, two] = await packetPair(far)
    const both = await Promise.all([offer(one), accept(two)])
    await turn() // out of the batch that brought the answer
    return both
  } finally {
    far.close()
  }
}

/** Where other processes come to be offered something, until the test ends. */
export function openOffice(reactor: Reactor, serve: (connection: UnixSeqpacket) => void): string {
  const { abstract } = abstractName()
  const listener = UnixSeqpacketListener.listen(reactor, { abstract }, { ref: false })
  listener.on('connection', serve)
  return abstract
}

/** What comes with an offer, taken by hand, as a hostile side does. */
export interface TakenOffer {
  head: Record<string, unknown>
  fds: readonly FdHandle[]
  connection: UnixSeqpacket
}

/** Takes an offer without being an honest end. */
export async function takeOffer(reactor: Reactor, from: OfferPeer): Promise<TakenOffer> {
  if (!(from instanceof UnixSeqpacket)) throw new TypeError('a connection, please')
  const connection = UnixSeqpacket.from(reactor, from.detach().handle, { maxFds: 16 })
  return new Promise((resolve) => {
    connection.once('message', (bytes, { fds }) => {
      connection.send(JSON.stringify({ accepted: true }))
      onTestFinished(() => {
        for (const fd of fds) fd.close()
        connection.close()
      })
      resolve({ head: JSON.parse(bytes.toString()) as Record<string, unknown>, fds, connection })
    })
  })
}

/** Makes an offer without being an honest end. Resolves with the answer. */
export async function makeOffer(
  reactor: Reactor,
  to: OfferPeer,
  head: Record<string, unknown>,
  fds: readonly FdHandle[],
): Promise<string> {
  if (!(to instanceof UnixSeqpacket)) throw new TypeError('a connection, please')
  const connection = UnixSeqpacket.from(reactor, to.detach().handle)
  connection.send(JSON.stringify(head), { fds })
  onTestFinished(() => connection.close())
  return new Promise((resolve) => {
    connection.once('message', (bytes) => resolve(bytes.toString()))
  })
}

/** A memory object for the test. */
export function memoryOf(size: number, options = {}): SharedMemory {
  const memory = SharedMemory.create(size, options)
  onTestFinished(() => memory.close())
  return memory
}

/** Its memory for the test. */
export function mapped(memory: SharedMemory, options = {}): ArrayBuffer {
  const mapping = memory.map(options)
  onTestFinished(() => mapping.unmap())
  return mapping.buffer
}

/** A message of 16 to 271 bytes that says its stream and its number, each byte of which follows from them. */
export function checked(stream: number, number: number): Buffer {
  let state = Math.imul(number + 1, 0x9e3779b1) ^ stream
  const bytes = Buffer.alloc(16 + ((state >>> 8) & 255))
  bytes.writeUInt32LE(stream, 0)
  bytes.writeUInt32LE(number, 4)
  for (let at = 8; at < bytes.length; at++) {
    state = Math.imul(state ^ (state >>> 15), 0x2c1b3c6d)
    bytes[at] = state >>> 24
  }
  return bytes
}

/** Stream and number of a message that is whole. */
export function whole(bytes: Buffer): [stream: number, number: number] {
  const stream = bytes.readUInt32LE(0)
  const number = bytes.readUInt32LE(4)
  if (!bytes.equals(checked(stream, number))) throw new Error(`message ${number} of ${stream} is torn`)
  return [stream, number]
}

/** For scripts: both functions, `ended(source)`, and `spin(ns)` for pauses that are shorter than a timer's. */
const PRELUDE = `${checked.toString()}
${whole.toString()}
const [, address, ...rest] = process.argv
const office = { abstract: address }
const reactor = new Reactor()
const spin = (microseconds) => { const end = performance.now() + microseconds / 1000; while (performance.now() < end); }
const ended = (source) => new Promise((resolve) => source.on('end', resolve).on('close', resolve))
const dieHere = () => { process.kill(process.pid, 'SIGKILL'); for (;;); }
`

/** Runs a script that attaches to the office at `address`, and gives what it printed as JSON. */
export async function inProcess(
  script: string,
  address: string,
  ...args: readonly unknown[]
): Promise<unknown> {
  const options: ChildOptions = { args: [address, ...args.map(String)], timeoutMs: 60_000 }
  return runForJson(PRELUDE + script, options)
}

/** A count that an environment variable raises. */
export function countOf(variable: string, usual: number): number {
  return Number(process.env[variable] ?? usual)
}
