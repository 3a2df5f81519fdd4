/**
 * A listening TCP socket. Accepting is that of every listener; here it gets its address.
 */
import { FdHandle, type Reactor } from '@fd-reactor/core'
import {
  boolean,
  check,
  checkOptions,
  Domain,
  integer,
  socket,
  SocketOption,
  SocketType,
  string,
} from '@fd-reactor/core/sys'
import { isIP } from 'node:net'
import { expectSocket } from './socket-kind.js'
import {
  DEFAULT_BACKLOG,
  listenerOptionChecks,
  SocketListener,
  type ListenerEvents,
  type ListenerOptions,
} from './socket-listener.js'
import type { Borrow, StreamOptions } from './stream-options.js'
import { decodeTcpAddress, encodeTcpAddress, showTcpAddress, type TcpAddress } from './tcp-address.js'
import { configureTcp, tcpStreamOptionChecks, type TcpStreamOptions } from './tcp-options.js'
import { TcpStream } from './tcp-stream.js'

/** The events of a {@link TcpListener}. */
export type TcpListenerEvents<B extends Borrow = false> = ListenerEvents<TcpStream<B>>

/** Options of {@link TcpListener.from}; those of {@link TcpStreamOptions} go to the connections, `ref` and `signal` to the listener. */
export interface TcpListenerFromOptions<B extends Borrow = false>
  extends TcpStreamOptions<B>, Omit<ListenerOptions, 'backlog'> {}

/** Options of {@link TcpListener.listen}. */
export interface TcpListenerOptions<B extends Borrow = false> extends TcpStreamOptions<B>, ListenerOptions {
  /** An IPv4 or IPv6 address, no name. Default `'127.0.0.1'`: this machine only. `'::'` is every address, IPv4 too. */
  host?: string
  /** From 0 to 65535. Default 0: any free one, see `address`. */
  port?: number
  /** Lets several sockets of one user listen here, and the kernel spread the connections over them (SO_REUSEPORT). Default false. */
  reusePort?: boolean
  /** How many connections may be under way whose first bytes came with the SYN (TCP_FASTOPEN). Default: none. */
  fastOpen?: number
  /** Keeps `'::'` from IPv4. Default false. */
  ipv6Only?: boolean
}

const FROM_CHECKS = { ...tcpStreamOptionChecks, maxConnections: listenerOptionChecks.maxConnections }

/** The checks of {@link TcpListenerOptions}. */
export const tcpListenerChecks = {
  ...FROM_CHECKS,
  backlog: listenerOptionChecks.backlog,
  host: string,
  port: integer(0, 65_535),
  reusePort: boolean,
  fastOpen: integer(1, 2 ** 31 - 1),
  ipv6Only: boolean,
}

const BIND_HINTS: Readonly<Record<number, string>> = {
  [-98]: 'Another process listens there',
  [-99]: 'This machine has no such address',
  [-13]: 'Ports below 1024 need CAP_NET_BIND_SERVICE',
}

/**
 * Listens on a TCP port.
 *
 * Guaranteed: no connection is lost by listening to `'connection'` late; the port can be taken again at once after a restart
 * (SO_REUSEADDR). Not guaranteed: that `end()` gives out everybody: Linux resets who comes between the last accept and the close.
 *
 * @throws SystemError `EADDRINUSE`, `EADDRNOTAVAIL`, `EACCES` for a low port; TypeError for a host that is no address.
 * @throws TypeError, RangeError for options that do not exist or are out of range.
 * @example
 * import { Reactor } from '@fd-reactor/core'
 * import { TcpListener } from '@fd-reactor/fd-events'
 * using reactor = new Reactor()
 * const listener = TcpListener.listen(reactor, { host: '::1', port: 0, maxConnections: 100 })
 * listener.on('connection', (stream) => stream.on('data', (bytes) => stream.write(bytes)))
 * console.log(listener.address.host) // ::1
 * @see tcp(7)
 */
export class TcpListener<B extends Borrow = false> extends SocketListener<
  TcpStream<B>,
  TcpListenerEvents<B>
> {
  /** Where it listens, with the port that the kernel chose if none was asked for. */
  readonly address: TcpAddress
  readonly #streamOptions: StreamOptions<B>

  private constructor(reactor: Reactor, handle: FdHandle, options: TcpListenerFromOptions<B>) {
    const { ref, signal, label, maxConnections, ...rest } = options
    // The connections inherit what is set here, and need only what is left.
    const streamOptions = configureTcp<B>(handle, rest)
    super(reactor, handle, options)
    void [ref, signal, label, maxConnections]
    this.address = decodeTcpAddress(socket.name(handle.fd)) ?? { host: '', port: 0 }
    this.#streamOptions = streamOptions
  }

  /** Binds and listens. */
  static listen<B extends Borrow = false>(
    reactor: Reactor,
    options: TcpListenerOptions<B> = {},
  ): TcpListener<B> {
    checkOptions('TcpListener', options, tcpListenerChecks)
    options.signal?.throwIfAborted()
    const {
      host = '127.0.0.1',
      port = 0,
      backlog = DEFAULT_BACKLOG,
      reusePort,
      fastOpen,
      ipv6Only,
      ...rest
    } = options
    const address = encodeTcpAddress({ host, port })
    const domain = isIP(host) === 4 ? Domain.Ipv4 : Domain.Ipv6
    const handle = new FdHandle(socket.create(domain, SocketType.Stream))
    try {
      socket.set(handle.fd, SocketOption.ReuseAddress, 1)
      if (reusePort === true) socket.set(handle.fd, SocketOption.ReusePort, 1)
      if (domain === Domain.Ipv6) socket.set(handle.fd, SocketOption.Ipv6Only, ipv6Only === true ? 1 : 0)
      if (fastOpen !== undefined) socket.set(handle.fd, SocketOption.FastOpen, fastOpen)
      const result = socket.bind(handle.fd, address)
      check(result, 'bind', { path: showTcpAddress({ host, port }), hint: BIND_HINTS[result] })
      socket.listen(handle.fd, backlog)
      return new TcpListener(reactor, handle, rest)
    } catch (error) {
      handle.close()
      throw error
    }
  }

  /**
   * Makes a listener of a listening TCP socket that came from elsewhere: inherited, passed, or from `detach()`.
   * @throws SystemError `ENOTSOCK`, `EINVAL` for anything else.
   */
  static from<B extends Borrow = false>(
    reactor: Reactor,
    handle: FdHandle,
    options: TcpListenerFromOptions<B> = {},
  ): TcpListener<B> {
    checkOptions('TcpListener.from', options, FROM_CHECKS)
    expectSocket(handle.fd, 'a listening TCP socket', ({ domain, type, listening }) => {
      return domain !== Domain.Unix && type === SocketType.Stream && listening
    })
    return new TcpListener(reactor, handle, options)
  }

  /** As {@link listen} takes it: `tcp://127.0.0.1:7000`. */
  get uri(): string {
    return `tcp://${showTcpAddress(this.address)}`
  }

  protected welcome(handle: FdHandle, onClosed: () => void): TcpStream<B> {
    return new TcpStream(this.reactor, handle, this.#streamOptions, onClosed)
  }

  protected refuseNew(): void {
    // Linux has no way to do that and keep who waits
  }
}
