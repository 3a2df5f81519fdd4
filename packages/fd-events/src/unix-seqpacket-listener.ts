/**
 * A listening Unix socket of packets: a listener of Unix sockets whose connections keep the bounds of messages.
 */
import type { FdHandle, Reactor } from '@fd-reactor/core'
import { checkOptions, SocketType } from '@fd-reactor/core/sys'
import type { UnixAddress } from './unix-address.js'
import type { UnixName } from './unix-path.js'
import { UnixSeqpacket, unixSeqpacketChecks, type UnixSeqpacketOptions } from './unix-seqpacket.js'
import {
  connectionOptions,
  listenUnix,
  nameOfListening,
  UnixSocketListener,
  unixSocketFromChecks,
  unixSocketListenChecks,
  type UnixSocketFromOptions,
  type UnixSocketListenerEvents,
  type UnixSocketListenOptions,
} from './unix-socket-listener.js'

/** The events of a {@link UnixSeqpacketListener}. */
export type UnixSeqpacketListenerEvents<B extends boolean = false> = UnixSocketListenerEvents<
  UnixSeqpacket<B>
>

/** Options of {@link UnixSeqpacketListener.from}; those of {@link UnixSeqpacketOptions} go to the connections, `ref` and `signal` to the listener. */
export type UnixSeqpacketFromOptions<B extends boolean = false> = UnixSeqpacketOptions<B> &
  UnixSocketFromOptions

/** Options of {@link UnixSeqpacketListener.listen}. */
export type UnixSeqpacketListenOptions<B extends boolean = false> = UnixSeqpacketOptions<B> &
  UnixSocketListenOptions

const FROM_CHECKS = { ...unixSeqpacketChecks, ...unixSocketFromChecks }
const LISTEN_CHECKS = { ...unixSeqpacketChecks, ...unixSocketListenChecks }

/**
 * Listens for connections of packets on a path, or on an abstract name.
 *
 * Guarantees, options and events are those of a `UnixListener`: no connection is lost by listening late, two starters never both get the
 * path, `allow` refuses before anything is read. Streams cannot connect to it (`EPROTOTYPE`).
 *
 * @throws SystemError `EADDRINUSE` when somebody listens there or the file is no socket; `ENAMETOOLONG`; `ENOENT`; `EACCES`.
 * @throws TypeError, RangeError for options that do not exist or are out of range.
 * @example
 * import { Reactor } from '@fd-reactor/core'
 * import { UnixSeqpacketListener } from '@fd-reactor/fd-events'
 * using reactor = new Reactor()
 * const listener = UnixSeqpacketListener.listen(reactor, '/tmp/example-packets.sock', { mode: 0o660 })
 * listener.on('connection', (connection) => connection.on('message', (bytes) => connection.send(bytes)))
 * console.log(listener.path) // /tmp/example-packets.sock
 * @see unix(7)
 */
export class UnixSeqpacketListener<B extends boolean = false> extends UnixSocketListener<UnixSeqpacket<B>> {
  readonly #options: UnixSeqpacketOptions<B>

  private constructor(
    reactor: Reactor,
    handle: FdHandle,
    name: UnixName,
    options: UnixSeqpacketListenOptions<B>,
  ) {
    super(reactor, handle, name, options)
    this.#options = connectionOptions(options)
  }

  /** Binds, listens, and takes the place of a dead file. */
  static listen<B extends boolean = false>(
    reactor: Reactor,
    address: UnixAddress,
    options: UnixSeqpacketListenOptions<B> = {},
  ): UnixSeqpacketListener<B> {
    checkOptions('UnixSeqpacketListener', options, LISTEN_CHECKS)
    return listenUnix(SocketType.Seqpacket, address, options, (handle, name) => {
      return new UnixSeqpacketListener(reactor, handle, name, options)
    })
  }

  /**
   * Makes a listener of a listening Unix seqpacket socket that came from elsewhere: inherited, passed, or from `detach()`.
   * @throws SystemError `ENOTSOCK`, `EINVAL` for anything else.
   */
  static from<B extends boolean = false>(
    reactor: Reactor,
    handle: FdHandle,
    options: UnixSeqpacketFromOptions<B> = {},
  ): UnixSeqpacketListener<B> {
    checkOptions('UnixSeqpacketListener.from', options, FROM_CHECKS)
    const name = nameOfListening(handle, SocketType.Seqpacket, options.unlinkOnClose)
    return new UnixSeqpacketListener(reactor, handle, name, options)
  }

  protected connect(handle: FdHandle, onClosed: () => void): UnixSeqpacket<B> {
    return new UnixSeqpacket(this.reactor, handle, this.#options, onClosed)
  }
}
