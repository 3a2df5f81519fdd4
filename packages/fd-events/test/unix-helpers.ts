/**
 * What the tests of Unix sockets share: raw peers, whose every read and write is the test's own, and peers of Node's.
 */
import { once as onceEvent } from 'node:events'
import { readSync, writeSync } from 'node:fs'
import { connect, type Socket } from 'node:net'
import { onTestFinished } from 'vitest'
import { FdHandle, SystemError, type Reactor } from '@fd-reactor/core'
import { Domain, socket, SocketType } from '@fd-reactor/core/sys'
import { UnixListener, type Borrow, type UnixListenerOptions, type UnixStream } from '@fd-reactor/fd-events'
import { socketPath } from '../../core/test/support/reactors.js'
import { turn, until } from '../../core/test/support/wait.js'
import { encodeUnixAddress } from '../src/unix-address.js'

/** Enough turns for anything that is ready to be delivered: for tests that something does not come. */
export async function quiet(): Promise<void> {
  for (let turns = 0; turns < 20; turns++) await turn()
}

/** A connected client of Node's own. Its errors are ignored: tests look at what our side says. */
export async function netClient(path: string, options: { allowHalfOpen?: boolean } = {}): Promise<Socket> {
  const client = connect({ path, ...options })
  client.on('error', () => undefined)
  onTestFinished(() => {
    client.destroy()
  })
  await onceEvent(client, 'connect')
  return client
}

/** A connected socket and nothing around it, closed after the test. */
export function rawClient(path: string): FdHandle {
  const handle = new FdHandle(socket.create(Domain.Unix, SocketType.Stream))
  onTestFinished(() => {
    handle.close()
  })
  const result = socket.connect(handle.fd, encodeUnixAddress(path, 'connect'))
  if (result < 0) throw new SystemError(result, 'connect', { path })
  return handle
}

/** A socket file whose listener is gone, as a killed process leaves it. */
export function leaveDeadSocket(path: string): void {
  using handle = new FdHandle(socket.create(Domain.Unix, SocketType.Stream))
  const result = socket.bind(handle.fd, encodeUnixAddress(path, 'bind'))
  if (result < 0) throw new SystemError(result, 'bind', { path })
  socket.listen(handle.fd, 1)
}

/** Reads what is there now: undefined when there is nothing, empty at the end of the stream. */
export function readNow(handle: FdHandle, size = 1 << 20): Buffer | undefined {
  const bytes = Buffer.alloc(size)
  try {
    return bytes.subarray(0, readSync(handle.fd, bytes, 0, size, null))
  } catch (error) {
    if (errorCode(error) === 'EAGAIN') return undefined
    throw error
  }
}

/** Writes until the kernel takes no more, and returns how many bytes it took. */
export function writeAll(handle: FdHandle, bytes: Uint8Array | string): number {
  const chunk = typeof bytes === 'string' ? Buffer.from(bytes) : bytes
  let sent = 0
  try {
    while (sent < chunk.length) sent += writeSync(handle.fd, chunk, sent)
  } catch (error) {
    if (errorCode(error) !== 'EAGAIN') throw error
  }
  return sent
}

/** The `code` of an error, whatever it is. */
export function errorCode(error: unknown): unknown {
  return typeof error === 'object' && error !== null && 'code' in error ? error.code : undefined
}

/** What `action` throws. */
export function thrownBy(action: () => unknown): unknown {
  try {
    action()
  } catch (error) {
    return error
  }
  throw new Error(`nothing was thrown by ${String(action)}`)
}

/** A stream of `reactor`, and the raw socket at its other end. Their listener is gone. */
export async function pair<B extends Borrow = false>(
  reactor: Reactor,
  options: UnixListenerOptions<B> = {},
): Promise<[stream: UnixStream<B>, peer: FdHandle]> {
  const listener = UnixListener.listen(reactor, socketPath(), options)
  let accepted: UnixStream<B> | undefined
  listener.on('connection', (stream) => (accepted = stream))
  const peer = rawClient(listener.path)
  await until(() => accepted !== undefined, 'the connection')
  listener.close()
  if (accepted === undefined) throw new Error('no connection was accepted')
  return [accepted, peer]
}
