/**
 * What the tests of the duplex share: connected ones, and programs of others to talk to.
 */
import { spawn, spawnSync, type ChildProcessWithoutNullStreams } from 'node:child_process'
import { once as onceEvent } from 'node:events'
import type { Server } from 'node:http'
import { onTestFinished } from 'vitest'
import { once, type FdHandle, type Reactor } from '@fd-reactor/core'
import {
  toDuplex,
  UnixListener,
  UnixStream,
  type SocketDuplex,
  type UnixListenerOptions,
  type UnixStreamOptions,
} from '@fd-reactor/fd-events'
import { socketPath } from '../../core/test/support/reactors.js'
import { within } from '../../core/test/support/wait.js'
import { pair } from './unix-helpers.js'

/** Bytes whose period has no common factor with the sizes of buffers, so that a piece that moves or repeats is seen. */
export function pattern(size: number): Buffer {
  const bytes = Buffer.allocUnsafe(size)
  for (let at = 0; at < size; at++) bytes[at] = (at * 7 + Math.floor(at / 251)) % 253
  return bytes
}

/** A duplex, and the raw socket at its other end. */
export async function duplexAndPeer(
  reactor: Reactor,
  options: UnixStreamOptions = {},
): Promise<[duplex: SocketDuplex, peer: FdHandle, stream: UnixStream]> {
  const [stream, peer] = await pair(reactor, options)
  return [toDuplex(stream), peer, stream]
}

/** Two duplexes that are connected to each other. */
export async function duplexPair(
  reactor: Reactor,
  options: UnixStreamOptions = {},
): Promise<[one: SocketDuplex, other: SocketDuplex]> {
  const listener = UnixListener.listen(reactor, socketPath(), options)
  const connection = once(listener, 'connection')
  const one = await UnixStream.connect(reactor, listener.path, options)
  const [other] = await connection
  listener.close()
  return [toDuplex(one), toDuplex(other)]
}

/** Serves HTTP on a Unix socket of ours, and returns its path. */
export function serve(reactor: Reactor, server: Server, options: UnixListenerOptions = {}): string {
  const listener = UnixListener.listen(reactor, socketPath(), options)
  listener.on('connection', (stream) => server.emit('connection', toDuplex(stream)))
  onTestFinished(() => {
    server.close()
  })
  return listener.path
}

/** Whether a program is there to be talked to. */
export function isMissing(command: string): boolean {
  return spawnSync('which', [command]).status !== 0
}

/** Starts a program, which is killed after the test if it still runs. */
export function start(command: string, args: string[]): ChildProcessWithoutNullStreams {
  const child = spawn(command, args)
  child.stdin.on('error', () => undefined) // it may end before it has read everything
  onTestFinished(() => void child.kill('SIGKILL')) // of one that has ended nothing is left to kill
  return child
}

/** How a program ended, and what it printed. */
export interface Ended {
  code: number | null
  stdout: Buffer
  stderr: string
}

/** Waits for a program's end. */
export async function ended(child: ChildProcessWithoutNullStreams): Promise<Ended> {
  const stdout: Buffer[] = []
  let stderr = ''
  child.stdout.on('data', (bytes: Buffer) => stdout.push(bytes))
  child.stderr.on('data', (bytes: Buffer) => (stderr += String(bytes)))
  await within(onceEvent(child, 'close'), `the end of ${child.spawnfile}`, 20_000)
  return { code: child.exitCode, stdout: Buffer.concat(stdout), stderr }
}

/** Runs a program to its end; it gets `input` to read. */
export async function run(command: string, args: string[], input: Uint8Array | string = ''): Promise<Ended> {
  const child = start(command, args)
  child.stdin.end(input)
  return ended(child)
}
