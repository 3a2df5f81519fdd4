/**
 * A connected TCP socket. Reading and writing are those of every stream socket; here it is connected, and both ends have addresses.
 */
import { type FdHandle, type Reactor } from '@fd-reactor/core'
import {
  boolean,
  checkOptions,
  Domain,
  integer,
  socket,
  SocketOption,
  SocketType,
  string,
} from '@fd-reactor/core/sys'
import { expectSocket } from './socket-kind.js'
import {
  asDetached,
  duration,
  type Borrow,
  type DetachedStream,
  type StreamEvents,
  type StreamOptions,
} from './stream-options.js'
import { StreamSocket } from './stream-socket.js'
import { decodeTcpAddress, type TcpAddress } from './tcp-address.js'
import { connectTcp } from './tcp-connect.js'
import { configureTcp, tcpStreamOptionChecks, type TcpStreamOptions } from './tcp-options.js'

/** The events of a {@link TcpStream}. */
export type TcpStreamEvents<B extends Borrow = false> = StreamEvents<B>

/** Options of {@link TcpStream.connect}. */
export interface TcpConnectOptions<B extends Borrow = false> extends TcpStreamOptions<B> {
  /** An address, or a name that is looked up. */
  host: string
  /** From 1 to 65535. */
  port: number
  /** Nanoseconds until it is given up, the lookup included. Default 10 s. */
  timeout?: number
  /**
   * TCP_FASTOPEN_CONNECT. Default false. With it the stream may be there before the peer is: the first bytes go with the SYN if the peer
   * has given a cookie before, and an error comes when they are written.
   */
  fastOpen?: boolean
}

const DEFAULT_CONNECT_TIMEOUT = 10e9

/** The checks of {@link TcpConnectOptions}. */
export const tcpConnectChecks = {
  ...tcpStreamOptionChecks,
  host: (value: unknown, name: string): void => {
    string(value, name)
    if (value === '') throw new TypeError(`${name} must be an address or a name, and is empty`) // Node finds no address, and no fault
  },
  port: integer(1, 65_535),
  timeout: duration,
  fastOpen: boolean,
}

/**
 * One connection over TCP, by IPv4 or IPv6.
 *
 * Guaranteed: what {@link StreamSocket} guarantees. Not guaranteed: that bytes which the kernel took have arrived: `end()` and wait for
 * the peer's `'end'` to know. A stream that closes with bytes unread resets the connection, as the kernel does.
 *
 * Errors (`ECONNRESET`, `EPIPE`, `ETIMEDOUT`) are `'error'` events, followed by `'close'`.
 *
 * @example
 * import { Reactor } from '@fd-reactor/core'
 * import { TcpListener, TcpStream } from '@fd-reactor/fd-events'
 * using reactor = new Reactor()
 * const listener = TcpListener.listen(reactor, { host: '127.0.0.1', port: 0 })
 * listener.on('connection', (peer) => peer.on('data', (bytes) => peer.write(bytes)))
 * const stream = await TcpStream.connect(reactor, { host: 'localhost', port: listener.address.port })
 * stream.write('hello')
 * for await (const bytes of stream) {
 *   console.log(String(bytes)) // hello
 *   break
 * }
 * @see tcp(7)
 */
export class TcpStream<B extends Borrow = false> extends StreamSocket<B, TcpStreamEvents<B>> {
  #remote: TcpAddress | undefined

  /** For sources that make streams: `handle` is connected and configured, `onClosed` hears of the end before anybody else. */
  constructor(reactor: Reactor, handle: FdHandle, options: StreamOptions<B> = {}, onClosed?: () => void) {
    super(reactor, handle, options, onClosed)
  }

  /**
   * Connects. A name's addresses are tried by turns of their families, 250 ms apart, and the first one that is connected wins.
   * @throws SystemError `ECONNREFUSED`, `ENETUNREACH`, `EHOSTUNREACH`, `ETIMEDOUT`, `EMFILE`; for a name with several addresses a
   * {@link TcpConnectError} that tells of each. ReactorError `ERR_TIMEOUT`, `ERR_CLOSED`; Node's `ENOTFOUND` and `EAI_AGAIN`
   * for names; the signal's reason.
   */
  static async connect<B extends Borrow = false>(
    reactor: Reactor,
    options: TcpConnectOptions<B>,
  ): Promise<TcpStream<B>> {
    checkOptions('TcpStream.connect', options, tcpConnectChecks)
    tcpConnectChecks.host(options.host, "TcpStream.connect option 'host'")
    tcpConnectChecks.port(options.port, "TcpStream.connect option 'port'")
    const { host, port, timeout = DEFAULT_CONNECT_TIMEOUT, fastOpen = false, ...rest } = options
    let streamOptions: StreamOptions<B> = {}
    const prepare = (handle: FdHandle): void => {
      streamOptions = configureTcp(handle, rest)
      if (fastOpen) socket.set(handle.fd, SocketOption.FastOpenConnect, 1)
    }
    const handle = await connectTcp(reactor, { host, port, timeout, signal: options.signal, prepare })
    return new TcpStream(reactor, handle, streamOptions)
  }

  /**
   * Makes a stream of a connected TCP socket that came from elsewhere. Given all that `detach()` gave, what was unread comes first, and
   * what was unsent goes first.
   * @throws SystemError `ENOTSOCK`, `EINVAL` for anything else.
   */
  static from<B extends Borrow = false>(
    reactor: Reactor,
    source: FdHandle | DetachedStream,
    options: TcpStreamOptions<B> = {},
  ): TcpStream<B> {
    checkOptions('TcpStream.from', options, tcpStreamOptionChecks)
    const detached = asDetached(source)
    const { handle } = detached
    expectSocket(handle.fd, 'a TCP stream socket', ({ domain, type, listening }) => {
      return domain !== Domain.Unix && type === SocketType.Stream && !listening
    })
    return new TcpStream(reactor, handle, configureTcp(handle, options)).restore(detached)
  }

  /** Our end. */
  get localAddress(): TcpAddress | undefined {
    return decodeTcpAddress(socket.name(this.fd))
  }

  /** The other end; undefined when it was not asked for while the connection was there. */
  get remoteAddress(): TcpAddress | undefined {
    if (this.#remote !== undefined || this.closed) return this.#remote
    try {
      this.#remote = decodeTcpAddress(socket.peerName(this.fd))
    } catch {
      // ENOTCONN: it was reset meanwhile, and the kernel has forgotten
    }
    return this.#remote
  }
}
