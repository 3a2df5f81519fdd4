/**
 * What is set on TCP sockets. Linux hands the settings of a listening socket on to the connections that it accepts, so a listener sets
 * them once and not for each connection.
 */
import type { FdHandle } from '@fd-reactor/core'
import { boolean, checkOptions, integer, socket, SocketOption } from '@fd-reactor/core/sys'
import { duration, streamOptionChecks, type Borrow, type StreamOptions } from './stream-options.js'

/** When a silent peer is asked whether it is still there. Times are nanoseconds, rounded up to seconds. */
export interface KeepAlive {
  /** Silence before the first question. Default: the kernel's, two hours. */
  idleNs?: number
  /** Time between questions. Default: the kernel's, 75 s. */
  intervalNs?: number
  /** How many questions without an answer end the connection. Default: the kernel's, 9. */
  count?: number
}

/** Options of a {@link TcpStream}. */
export interface TcpStreamOptions<B extends Borrow = false> extends StreamOptions<B> {
  /** TCP_NODELAY: small writes leave at once. Default true: what a handler writes leaves in one piece anyway. */
  noDelay?: boolean
  /** SO_KEEPALIVE. Default false; true for the kernel's times. */
  keepAlive?: boolean | KeepAlive
  /** TCP_USER_TIMEOUT: for how many nanoseconds (rounded up to ms) bytes may stay unacknowledged before the connection fails with `ETIMEDOUT`. */
  userTimeout?: number
}

const SECONDS = integer(1, 32_767e9)

/** The checks of {@link TcpStreamOptions}. */
export const tcpStreamOptionChecks = {
  ...streamOptionChecks,
  noDelay: boolean,
  keepAlive: (value: unknown, name: string): void => {
    if (typeof value === 'boolean') return
    checkOptions(name, value, { idleNs: SECONDS, intervalNs: SECONDS, count: integer(1, 127) })
  },
  userTimeout: duration,
}

/** Sets what `options` say, and returns what is left of them for the stream. */
export function configureTcp<B extends Borrow>(
  { fd }: FdHandle,
  { noDelay = true, keepAlive = false, userTimeout, sendBuffer, receiveBuffer, ...rest }: TcpStreamOptions<B>,
): StreamOptions<B> {
  const setUp = (option: SocketOption, value: number | undefined, unit = 1): void => {
    if (value !== undefined) socket.set(fd, option, Math.min(Math.ceil(value / unit), 2 ** 31 - 1))
  }
  setUp(SocketOption.NoDelay, noDelay ? 1 : 0)
  setUp(SocketOption.SendBuffer, sendBuffer)
  setUp(SocketOption.ReceiveBuffer, receiveBuffer)
  setUp(SocketOption.UserTimeout, userTimeout, 1e6)
  if (keepAlive === false) return rest
  setUp(SocketOption.KeepAlive, 1)
  if (keepAlive === true) return rest
  setUp(SocketOption.KeepIdle, keepAlive.idleNs, 1e9)
  setUp(SocketOption.KeepInterval, keepAlive.intervalNs, 1e9)
  setUp(SocketOption.KeepCount, keepAlive.count)
  return rest
}
