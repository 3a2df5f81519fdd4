/**
 * A listening Unix stream socket: a listener of Unix sockets whose connections are streams.
 */
import type { FdHandle, Reactor } from '@fd-reactor/core'
import { checkOptions, SocketType } from '@fd-reactor/core/sys'
import type { Borrow } from './stream-options.js'
import type { UnixAddress } from './unix-address.js'
import type { UnixName } from './unix-path.js'
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
import { UnixStream, unixStreamOptionChecks, type UnixStreamOptions } from './unix-stream.js'

/** The events of a {@link UnixListener}. */
export type UnixListenerEvents<B extends Borrow = false> = UnixSocketListenerEvents<UnixStream<B>>

/** Options of {@link UnixListener.from}; those of {@link UnixStreamOptions} go to the connections, `ref` and `signal` to the listener. */
export type UnixListenerFromOptions<B extends Borrow = false> = UnixStreamOptions<B> & UnixSocketFromOptions

/** Options of {@link UnixListener.listen}. */
export type UnixListenerOptions<B extends Borrow = false> = UnixStreamOptions<B> & UnixSocketListenOptions

/** The checks of {@link UnixListenerOptions}. */
export const unixListenerChecks = { ...unixStreamOptionChecks, ...unixSocketListenChecks }

/**
 * Listens on a path, or on an abstract name.
 *
 * Guaranteed: no connection is lost by listening to `'connection'` late; two starters never both get the path; on close the file is
 * removed if it is still the one that was made. Not guaranteed: that the file goes away when the process is killed; the next
 * start takes its place. An abstract name (`{ abstract: 'name' }`) has no file and no permissions: anybody in the network namespace
 * may connect, unless `allow` says who, and anybody may take the name before it is bound.
 *
 * @throws SystemError `EADDRINUSE` when somebody listens there or the file is no socket; `ENAMETOOLONG`; `ENOENT`; `EACCES`.
 * @throws TypeError, RangeError for options that do not exist or are out of range.
 * @example
 * import { Reactor } from '@fd-reactor/core'
 * import { UnixListener } from '@fd-reactor/fd-events'
 * using reactor = new Reactor()
 * const listener = UnixListener.listen(reactor, '/tmp/example-listener.sock', { mode: 0o660, maxConnections: 100 })
 * listener.on('connection', (stream) => stream.on('data', (bytes) => stream.write(bytes)))
 * console.log(listener.path) // /tmp/example-listener.sock
 * @see unix(7)
 */
export class UnixListener<B extends Borrow = false> extends UnixSocketListener<UnixStream<B>> {
  readonly #streamOptions: UnixStreamOptions<B>

  private constructor(reactor: Reactor, handle: FdHandle, name: UnixName, options: UnixListenerOptions<B>) {
    super(reactor, handle, name, options)
    this.#streamOptions = connectionOptions(options)
  }

  /** Binds, listens, and takes the place of a dead file. */
  static listen<B extends Borrow = false>(
    reactor: Reactor,
    address: UnixAddress,
    options: UnixListenerOptions<B> = {},
  ): UnixListener<B> {
    checkOptions('UnixListener', options, unixListenerChecks)
    return listenUnix(SocketType.Stream, address, options, (handle, name) => {
      return new UnixListener(reactor, handle, name, options)
    })
  }

  /**
   * Makes a listener of a listening Unix stream socket that came from elsewhere: inherited, passed, or from `detach()`.
   * @throws SystemError `ENOTSOCK`, `EINVAL` for anything else.
   */
  static from<B extends Borrow = false>(
    reactor: Reactor,
    handle: FdHandle,
    options: UnixListenerFromOptions<B> = {},
  ): UnixListener<B> {
    checkOptions('UnixListener.from', options, { ...unixStreamOptionChecks, ...unixSocketFromChecks })
    const name = nameOfListening(handle, SocketType.Stream, options.unlinkOnClose)
    return new UnixListener(reactor, handle, name, options)
  }

  protected connect(handle: FdHandle, onClosed: () => void): UnixStream<B> {
    return new UnixStream(this.reactor, handle, this.#streamOptions, onClosed)
  }
}
