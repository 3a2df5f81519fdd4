/**
 * Connecting a Unix socket. It is connected at once or not at all; only a listener whose backlog is full is worth another try.
 */
import { FdHandle, ReactorError, SystemError } from '@fd-reactor/core'
import { Domain, socket } from '@fd-reactor/core/sys'
import { setTimeout as delay } from 'node:timers/promises'
import { encodeUnixAddress, showUnixAddress, type UnixAddress } from './unix-address.js'

const EAGAIN = -11
const ECONNREFUSED = -111
const EPROTOTYPE = -91
const DEFAULT_TIMEOUT = 10e9

/** What to do about a connection that the kernel refused. */
const HINTS: Readonly<Record<number, string>> = {
  [ECONNREFUSED]: 'Nobody listens there',
  [EPROTOTYPE]: 'The socket there has another type',
}

/** A socket of `type` (a `SocketType`) that is connected to `address`. */
export async function connectUnix(
  type: number,
  address: UnixAddress,
  { timeout = DEFAULT_TIMEOUT, signal }: { timeout?: number | undefined; signal?: AbortSignal | undefined },
): Promise<FdHandle> {
  const bytes = encodeUnixAddress(address, 'connect')
  const path = showUnixAddress(address)
  signal?.throwIfAborted()
  const handle = new FdHandle(socket.create(Domain.Unix, type))
  try {
    const end = performance.now() + timeout / 1e6
    for (let pauseMs = 1; ; pauseMs = Math.min(pauseMs * 2, 50)) {
      const result = socket.connect(handle.fd, bytes)
      if (result === 0) return handle
      if (result !== EAGAIN) throw new SystemError(result, 'connect', { path, hint: HINTS[result] })
      if (performance.now() >= end) {
        throw new ReactorError('ERR_TIMEOUT', `The backlog of '${path}' was full for ${timeout / 1e6} ms`)
      }
      await delay(pauseMs, undefined, signal && { signal }).catch(() => {
        signal?.throwIfAborted()
      })
    }
  } catch (error) {
    handle.close()
    throw error
  }
}
