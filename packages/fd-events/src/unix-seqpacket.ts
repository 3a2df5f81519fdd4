/**
 * A connection over a Unix socket of packets, which keeps the bounds of messages.
 *
 * Messages come and go as on every message socket; here is what a connection adds: two ends, each of which may be shut. That part
 * is like StreamSocket's, and not shared with it: there it is woven into the bytes that are kept, here into messages, and what both
 * would call is two lines each.
 */
import type { SystemError } from '@fd-reactor/core'
import { FdHandle, Interest, ReactorError, type BatchRecord, type Reactor } from '@fd-reactor/core'
import {
  boolean,
  checkOptions,
  Domain,
  MessageFlag,
  socket,
  SocketType,
  type PeerCredentials,
} from '@fd-reactor/core/sys'
import { withDeadlines } from './deadlines.js'
import {
  messageOptionChecks,
  sendOptionChecks,
  type MessageEvents,
  type MessageOptions,
  type SendOptions,
  type SendOutcome,
} from './message-options.js'
import { CONNECTED, MessageSocket } from './message-socket.js'
import { expectSocket } from './socket-kind.js'
import { duration, SocketLimits } from './socket-limits.js'
import type { UnixAddress } from './unix-address.js'
import { connectUnix } from './unix-connect.js'

const ECONNRESET = -104
/** EPIPE, ECONNRESET, ENOTCONN: the connection is gone. */
const GONE = new Set([-32, ECONNRESET, -107])

/** The events of a {@link UnixSeqpacket}. */
export interface UnixSeqpacketEvents extends MessageEvents {
  /** The peer has shut its sending side; no `'message'` comes any more. */
  end: []
  /** No message moved in either direction for `idleTimeout`. Without a listener the connection is destroyed. */
  timeout: []
}

/** Options of a {@link UnixSeqpacket}. */
export interface UnixSeqpacketOptions<B extends boolean = false> extends MessageOptions<B> {
  /** Keeps the sending side open when the peer has shut its own. Default false: what waits is sent, then the connection closes. */
  allowHalfOpen?: boolean
  /** Nanoseconds without a message in either direction, seen to about a quarter of it. Default: none. */
  idleTimeout?: number
}

/** Options of {@link UnixSeqpacket.connect}. */
export interface UnixSeqpacketConnectOptions<B extends boolean = false> extends UnixSeqpacketOptions<B> {
  /** Nanoseconds until a listener whose backlog is full counts as unreachable. Default 10 s. */
  timeout?: number
}

/** The checks of {@link UnixSeqpacketOptions}. */
export const unixSeqpacketChecks = { ...messageOptionChecks, allowHalfOpen: boolean, idleTimeout: duration }
const CONNECT_CHECKS = { ...unixSeqpacketChecks, timeout: duration }

/**
 * One connection over a Unix socket of packets (SOCK_SEQPACKET).
 *
 * Guaranteed: messages come whole, in order, each once, and all of them before `'end'`; an empty one comes as an empty message, where
 * other receivers often take it for the end; what waits is tried again as soon as there is room; every `send()` ends exactly once. When
 * both sides are shut the connection closes. Not guaranteed: that a peer that closes has read what was sent.
 *
 * Errors (`ECONNRESET`, `EPIPE`, `ERR_FDS_TRUNCATED`) are `'error'` events, followed by `'close'`. A message that is too large
 * (`EMSGSIZE`) ends its own send only.
 *
 * @example
 * import { once, Reactor } from '@fd-reactor/core'
 * import { UnixSeqpacket, UnixSeqpacketListener } from '@fd-reactor/fd-events'
 * using reactor = new Reactor()
 * const address = { abstract: 'example-seqpacket' }
 * UnixSeqpacketListener.listen(reactor, address).on('connection', (peer) => peer.on('message', (bytes) => peer.send(bytes)))
 * const connection = await UnixSeqpacket.connect(reactor, address)
 * connection.send('one')
 * connection.send('two')
 * const [bytes] = await once(connection, 'message')
 * console.log(String(bytes)) // one
 * @see unix(7)
 */
export class UnixSeqpacket<B extends boolean = false> extends MessageSocket<B, UnixSeqpacketEvents> {
  readonly #onClosed: (() => void) | undefined
  #allowHalfOpen: boolean
  #ending = false
  #sendShut = false
  #readEnded = false
  #endTold = false
  #timedOut = false
  #broken: SystemError | undefined
  #limits: SocketLimits | undefined
  #peer: PeerCredentials | undefined

  /** For sources that make connections: `handle` is a connected socket, `onClosed` hears of the end before anybody else. */
  constructor(
    reactor: Reactor,
    handle: FdHandle,
    options: UnixSeqpacketOptions<B> = {},
    onClosed?: () => void,
  ) {
    const { idleTimeout } = options
    const socket = idleTimeout === undefined ? handle : withDeadlines(reactor, handle)
    super(reactor, socket, options, { address: false, packets: true })
    this.#onClosed = onClosed
    this.#allowHalfOpen = options.allowHalfOpen ?? false
    if (idleTimeout === undefined) return
    this.#limits = new SocketLimits(reactor, { idleTimeout }, new Moved(this), () => {
      // There, what a listener throws is this socket's and not the timer's.
      this.#timedOut = this.reactor.afterHandler(this)
    })
  }

  /**
   * Connects to a listener. A Unix socket is connected at once or not at all; only while the listener's backlog is full it is
   * tried again, until `timeout`.
   * @throws SystemError `ENOENT`, `ECONNREFUSED` (nobody listens), `EPROTOTYPE` (a listener for streams), `EACCES`, `ENAMETOOLONG`, `EMFILE`;
   * ReactorError `ERR_TIMEOUT`; the signal's reason.
   */
  static async connect<B extends boolean = false>(
    reactor: Reactor,
    address: UnixAddress,
    options: UnixSeqpacketConnectOptions<B> = {},
  ): Promise<UnixSeqpacket<B>> {
    checkOptions('UnixSeqpacket.connect', options, CONNECT_CHECKS)
    const { timeout, signal } = options
    const handle = await connectUnix(SocketType.Seqpacket, address, { timeout, signal })
    return new UnixSeqpacket(reactor, handle, options)
  }

  /**
   * Makes a source of a connected Unix seqpacket socket that came from elsewhere: inherited, passed, or from `detach()`.
   * @throws SystemError `ENOTSOCK`, `EINVAL` for anything else.
   */
  static from<B extends boolean = false>(
    reactor: Reactor,
    handle: FdHandle,
    options: UnixSeqpacketOptions<B> = {},
  ): UnixSeqpacket<B> {
    checkOptions('UnixSeqpacket.from', options, unixSeqpacketChecks)
    expectSocket(handle.fd, 'a Unix seqpacket socket', ({ domain, type, listening }) => {
      return domain === Domain.Unix && type === SocketType.Seqpacket && !listening
    })
    return new UnixSeqpacket(reactor, handle, options)
  }

  /** Who is at the other end, as the kernel noted when it connected. */
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
   * @throws SystemError `ENOPROTOOPT` before Linux 6.5; `ESRCH` when the process was reaped.
   */
  peerPidFd(): FdHandle {
    return new FdHandle(socket.peerPidFd(this.fd)).guard()
  }

  /** Whether the sending side stays open when the peer has shut its own: the option, and what it was set to since. */
  get allowHalfOpen(): boolean {
    return this.#allowHalfOpen
  }

  /** Changes it from now on. */
  set allowHalfOpen(allow: boolean) {
    this.#allowHalfOpen = allow
  }

  /**
   * Sends one message. Inside a handler it leaves when that returns, together with what else it sends; with descriptors, or outside, at
   * once. False when more than `highWaterMark` bytes or `queueLimit` messages wait: go on at `'drain'`. `settled` is called exactly once,
   * possibly before this returns; without it what is refused is told by `'lost'`.
   * @throws ReactorError `ERR_CLOSED`, or `ERR_STREAM_ENDED` after `end()`; TypeError for what are no bytes.
   */
  send(bytes: Uint8Array | string, options?: SendOptions, settled?: (outcome: SendOutcome) => void): boolean {
    if (options !== undefined) checkOptions('UnixSeqpacket.send', options, sendOptionChecks)
    if (this.#ending && !this.closed) {
      throw new ReactorError('ERR_STREAM_ENDED', `${this.label}: send() after end()`)
    }
    return this.enqueue(bytes, CONNECTED, options?.fds, settled)
  }

  /** Shuts the sending side once everything is sent. Idempotent. */
  end(): void {
    if (this.#ending || this.closed) return
    this.#ending = true
    this.flushLater()
  }

  protected override dismiss(): void {
    this.#limits?.stop()
    this.#onClosed?.()
  }

  protected override get endEvents(): readonly string[] {
    return ['end']
  }

  protected override get hasEnded(): boolean {
    return this.#endTold
  }

  protected override get keepsSomething(): boolean {
    return super.keepsSomething || (this.#readEnded && !this.#endTold)
  }

  protected override readInterest(): number {
    // Once the end is told, or nothing is sent any more, only the peer's going is of interest, also when nobody receives; epoll reports
    // that unasked, to whoever is in the set.
    if (this.#readEnded) return this.#endTold ? Interest.Err : 0
    return super.readInterest() || (this.#sendsNothing ? Interest.Err : 0)
  }

  protected override emitKept(): void {
    super.emitKept()
    if (!this.#readEnded || this.#endTold || !(this.flowing || this.#abandoned)) return
    this.#endTold = true
    try {
      this.fire('end')
    } finally {
      this.#afterEnd() // also when a listener throws: nothing else would come that could close it
    }
  }

  /** Nothing is sent any more, nobody listens to what comes, and nothing has come: nobody needs to be waited for. */
  get #abandoned(): boolean {
    return this.#sendsNothing && !this.paused && !super.keepsSomething && this.listenerCount('message') === 0
  }

  /** Whether nothing is sent any more, by `end()` or because nothing can be. */
  get #sendsNothing(): boolean {
    return this.#sendShut || this.#broken !== undefined
  }

  #afterEnd(): void {
    if (this.closed) return
    if (this.#broken !== undefined) return this.fail(this.#broken)
    if (!this.#allowHalfOpen) this.end()
    if (this.#sendShut) this.destroy()
  }

  override onFlush(): void {
    super.onFlush()
    if (!this.#timedOut) return
    this.#timedOut = false
    if (this.listenerCount('timeout') === 0) this.destroy()
    else if (!this.closed) this.fire('timeout')
  }

  protected onEnd(record: BatchRecord): void {
    const gone = (record.revents & Interest.Hup) !== 0 && !this.#sendShut
    this.#readEnded = true
    try {
      this.emitKept()
    } finally {
      this.update()
      // The peer has closed both directions: what waits can reach nobody.
      if (gone && this.#endTold) this.destroy()
    }
  }

  override onSettle(record: BatchRecord): void {
    if ((record.messageFlags & MessageFlag.End) !== 0) this.#readEnded = true
    else super.onSettle(record)
  }

  /** The kernel reports a reset before the messages that came ahead of it; the error is told at their end. */
  protected onReceiveError(error: SystemError): void {
    if (error.errno !== ECONNRESET || this.#broken !== undefined) return this.fail(error)
    this.#broken = error
    this.queue.clear(error)
  }

  protected onTruncatedFds(error: ReactorError): void {
    this.fail(error)
  }

  protected override onFlushed(): void {
    const { broken, count } = this.queue
    if (broken !== undefined && this.#broken === undefined) {
      // Sending failed. If receiving goes on, what the peer said before it went comes first.
      if (!this.flowing || this.#readEnded) return this.fail(broken)
      this.#broken = broken
    }
    if (count > 0 || !this.#ending || this.#sendShut) return
    this.#sendShut = true
    if (this.owned) socket.shutdownWrite(this.ownedHandle.fd) // ENOTCONN: the peer is gone, which the receiving side tells
    if (this.#endTold) this.destroy()
    else this.update()
  }

  protected nameOf(): undefined {
    return undefined
  }

  protected breaks(errno: number): boolean {
    return GONE.has(errno)
  }

  protected onCongested(): void {
    // EPOLLOUT comes when there is room
  }

  protected get watchesRoom(): boolean {
    return true
  }
}

/** What moves on a connection, for its idle limit: messages, since an empty one is a sign of life too. */
class Moved {
  readonly #socket: UnixSeqpacket<boolean>
  readonly blocked = false
  readonly unsentLength = 0

  constructor(socket: UnixSeqpacket<boolean>) {
    this.#socket = socket
  }

  get bytesRead(): number {
    return this.#socket.stats.received
  }

  get bytesWritten(): number {
    return this.#socket.stats.sent
  }
}
