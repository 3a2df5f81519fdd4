/**
 * A connected Unix stream socket. Reading and writing are those of every stream socket; here it is connected, and the peer is known.
 */
import { Buffer } from 'node:buffer'
import { FdHandle, MAX_FDS, type Reactor } from '@fd-reactor/core'
import { checkOptions, Domain, integer, socket, SocketType, type PeerCredentials } from '@fd-reactor/core/sys'
import { askForSender } from './sender-options.js'
import { expectSocket } from './socket-kind.js'
import { streamWithFds } from './stream-control.js'
import {
  asDetached,
  duration,
  streamOptionChecks,
  type Borrow,
  type DetachedStream,
  type StreamEvents,
  type StreamOptions,
} from './stream-options.js'
import { StreamSocket } from './stream-socket.js'
import type { UnixAddress } from './unix-address.js'
import { connectUnix } from './unix-connect.js'

/** The events of a {@link UnixStream}. */
export interface UnixStreamEvents<B extends Borrow = false> extends StreamEvents<B> {
  /**
   * Descriptors came (`maxFds`), with the first byte of one `send()`. The `'data'` that follows holds that byte, perhaps behind bytes
   * of earlier sends, which the kernel has put before it. They are the listener's to close.
   */
  fds: [fds: FdHandle[]]
}

/** Options of a {@link UnixStream}. */
export interface UnixStreamOptions<B extends Borrow = false> extends StreamOptions<B> {
  /**
   * How many descriptors one `send()` of the peer may bring, 0 … 253; see `'fds'`. When more come the stream fails with
   * `ERR_FDS_TRUNCATED`. Default 0: the kernel closes what comes.
   */
  maxFds?: number
}

/** The checks of {@link UnixStreamOptions}. */
export const unixStreamOptionChecks = { ...streamOptionChecks, maxFds: integer(0, MAX_FDS) }

/** Options of {@link UnixStream.send}. */
export interface UnixSendOptions {
  /** Descriptors to pass, at most 253. */
  fds?: readonly FdHandle[]
}

const SEND_CHECKS = {
  fds: (value: unknown, name: string) => {
    if (!Array.isArray(value)) throw new TypeError(`${name} must be an array of FdHandles`)
  },
}

/** Options of {@link UnixStream.connect}. */
export interface UnixConnectOptions<B extends Borrow = false> extends UnixStreamOptions<B> {
  /** Nanoseconds until a listener whose backlog is full counts as unreachable. Default 10 s. */
  timeout?: number
}

/** The checks of {@link UnixConnectOptions}. */
export const unixConnectChecks = { ...unixStreamOptionChecks, timeout: duration }

/**
 * One connection over a Unix stream socket.
 *
 * Guaranteed: bytes come in order, each once, and all of them before `'end'`; nothing is read while nobody listens or while it is
 * paused, so nothing is lost by listening later; a writer's memory is free again when its handler, or outside of one `write()`,
 * returns. Not guaranteed: that chunks have the sizes in which they were written. When both sides are shut the stream closes.
 *
 * Errors (`ECONNRESET`, `EPIPE`) are `'error'` events, followed by `'close'`.
 *
 * @example
 * import { Reactor } from '@fd-reactor/core'
 * import { UnixListener, UnixStream } from '@fd-reactor/fd-events'
 * using reactor = new Reactor()
 * UnixListener.listen(reactor, '/tmp/example-stream.sock').on('connection', (peer) => peer.on('data', (bytes) => peer.write(bytes)))
 * const stream = await UnixStream.connect(reactor, '/tmp/example-stream.sock')
 * stream.write('hello')
 * for await (const bytes of stream) {
 *   console.log(String(bytes)) // hello
 *   break
 * }
 * @see unix(7)
 */
export class UnixStream<B extends Borrow = false> extends StreamSocket<B, UnixStreamEvents<B>> {
  #peer: PeerCredentials | undefined

  /** For sources that make streams: `handle` is a connected socket, `onClosed` hears of the end before anybody else. */
  constructor(reactor: Reactor, handle: FdHandle, options: UnixStreamOptions<B> = {}, onClosed?: () => void) {
    const { maxFds = 0 } = options
    super(reactor, handle, options, onClosed, maxFds > 0 ? streamWithFds(maxFds) : undefined)
  }

  /**
   * Connects to a listener. A Unix socket is connected at once or not at all; only while the listener's backlog is full it is
   * tried again, until `timeout`.
   * @throws SystemError `ENOENT`, `ECONNREFUSED` (nobody listens), `EACCES`, `ENAMETOOLONG`, `EMFILE`; ReactorError `ERR_TIMEOUT`; the signal's reason.
   */
  static async connect<B extends Borrow = false>(
    reactor: Reactor,
    address: UnixAddress,
    options: UnixConnectOptions<B> = {},
  ): Promise<UnixStream<B>> {
    checkOptions('UnixStream.connect', options, unixConnectChecks)
    const { timeout, ...streamOptions } = options
    const handle = await connectUnix(SocketType.Stream, address, { timeout, signal: options.signal })
    return new UnixStream(reactor, handle, streamOptions)
  }

  /**
   * Makes a stream of a connected Unix stream socket that came from elsewhere. Given all that `detach()` gave, what was unread comes first, and
   * what was unsent goes first.
   * @throws SystemError `ENOTSOCK`, `EINVAL` for anything else.
   */
  static from<B extends Borrow = false>(
    reactor: Reactor,
    source: FdHandle | DetachedStream,
    options: UnixStreamOptions<B> = {},
  ): UnixStream<B> {
    checkOptions('UnixStream.from', options, unixStreamOptionChecks)
    const detached = asDetached(source)
    const { handle } = detached
    expectSocket(handle.fd, 'a Unix stream socket', ({ domain, type, listening }) => {
      return domain === Domain.Unix && type === SocketType.Stream && !listening
    })
    if (options.maxFds !== undefined) askForSender(handle.fd, false, false)
    return new UnixStream(reactor, handle, options).restore(detached)
  }

  /**
   * As `write()`, and passes descriptors with the first byte, of which there must be one. The caller may close its own as soon as it returns:
   * what waits are duplicates, which are closed when they have left, or with the stream.
   * What has to wait because the user has too many descriptors in flight (ETOOMANYREFS) is tried again until a receiver has taken some.
   * @throws as `write()`; TypeError for no bytes or what is no FdHandle; RangeError for too many; SystemError `EMFILE`, `EBADF`.
   * @example
   * import { once, Reactor } from '@fd-reactor/core'
   * import { EventFd, UnixListener, UnixStream } from '@fd-reactor/fd-events'
   * using reactor = new Reactor()
   * const listener = UnixListener.listen(reactor, '/tmp/example-send-fds.sock', { maxFds: 1 })
   * listener.on('connection', (stream) => {
   *   stream.on('fds', ([handle]) => EventFd.from(reactor, handle).write(3n))
   *   stream.on('data', (bytes) => console.log(String(bytes))) // ring it
   * })
   * const bell = new EventFd(reactor)
   * const stream = await UnixStream.connect(reactor, '/tmp/example-send-fds.sock')
   * const handle = bell.detach()
   * stream.send('ring it', { fds: [handle] })
   * const [count] = await once(EventFd.from(reactor, handle), 'event')
   * console.log(count) // 3n
   * @see unix(7), SCM_RIGHTS
   */
  send(bytes: Uint8Array | string, options: UnixSendOptions = {}): boolean {
    checkOptions('UnixStream.send', options, SEND_CHECKS)
    const { fds = [] } = options
    if (fds.length === 0) return this.write(bytes)
    const chunk = typeof bytes === 'string' ? Buffer.from(bytes) : bytes
    if (!(chunk instanceof Uint8Array)) throw new TypeError('send() takes a Uint8Array or a string')
    if (chunk.length === 0) throw new TypeError('Descriptors leave with a byte: send() at least one')
    return this.writeWithFds(chunk, fds)
  }

  /** Who is at the other end, as the kernel noted when it connected; to who connected, the one who called listen(2). */
  get peer(): PeerCredentials {
    return (this.#peer ??= socket.peer(this.fd))
  }

  /** The supplementary groups of who is at the other end, as the kernel noted them when it connected. */
  get peerGroups(): readonly number[] {
    return socket.peerGroups(this.fd)
  }

  /**
   * A pidfd of the process at the other end, which stands for that process also after its pid was given to another. It is the caller's
   * to close.
   * @throws SystemError `ENOPROTOOPT` before Linux 6.5; `ESRCH` when the process was reaped, before Linux 6.16.
   * @see pidfd_open(2)
   */
  peerPidFd(): FdHandle {
    return new FdHandle(socket.peerPidFd(this.fd)).guard()
  }
}
