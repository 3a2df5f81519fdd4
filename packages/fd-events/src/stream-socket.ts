/**
 * A connected stream socket of any family: typed events for what comes, a queue with backpressure for what goes.
 *
 * The native drain receives into the batch's slab; here the bytes become events. Writes of one handler leave in one system call
 * when it returns. The stream is watched for reading while somebody wants its bytes, and for writing while bytes wait.
 */
import { Buffer } from 'node:buffer'
import {
  Drain,
  FdHandle,
  Interest,
  ReactorError,
  sendWithFds,
  Source,
  SystemError,
  type BatchRecord,
  type EventMap,
  type Reactor,
  type SourceRegistration,
} from '@fd-reactor/core'
import { socket, SocketOption } from '@fd-reactor/core/sys'
import { deadline, deadlineTimer, withDeadlines } from './deadlines.js'
import { copyOf } from './record-copy.js'
import { lend, loan } from './slab-loan.js'
import { SocketLimits, type Limit } from './socket-limits.js'
import { closeAll, duplicates } from './passed-fds.js'
import { ChunkFds } from './stream-control.js'
import type { Borrow, DetachedStream, StreamEvents, StreamOptions } from './stream-options.js'
import { LATER, StreamQueue, type Send } from './stream-queue.js'

const EAGAIN = -11
const EBUSY = -16
const EPIPE = -32
const ETOOMANYREFS = -109
/** What all streams share until they have something of their own; nothing is ever put in. */
const NOTHING_WAITS = new StreamQueue()
const NOTHING_KEPT: Buffer[] = []
const DEFAULT_HIGH_WATER_MARK = 64 * 1024
const FDS_RETRY_NS = 5e6
const STREAM: SourceRegistration = { drain: Drain.Stream, interest: Interest.In | Interest.RdHup }

// What is so or not about a stream: one field of bits, as in `Source`. The first three are options.
const HALF_OPEN = 1 << 0
/** `'data'` is borrowed bytes as a view, or as offsets; otherwise it is copied. */
const LENDS_VIEWS = 1 << 1
const LENDS_OFFSETS = 1 << 2
const NEEDS_DRAIN = 1 << 3
const WATCHED_FOR_ROOM = 1 << 4
const FLUSH_ASKED = 1 << 5
const IN_RECORD = 1 << 6
const ENDING = 1 << 7
const WRITE_SHUT = 1 << 8
const READ_ENDED = 1 << 9
const END_TOLD = 1 << 10

/** What few streams have; it is made for those. */
class Extras {
  limits: SocketLimits | undefined
  reached: Limit | undefined
  broken: SystemError | undefined
  /** Undefined unless descriptors are received. */
  fds: ChunkFds | undefined
  cancelRetry: (() => void) | undefined
  highWaterMark = DEFAULT_HIGH_WATER_MARK
}

/**
 * What TCP and Unix streams share: everything but how they come to be, and who is at the other end.
 *
 * Guaranteed: bytes come in order, each once, and all of them before `'end'`; nothing is read while nobody listens or while it is
 * paused, so nothing is lost by listening later; a writer's memory is free again when its handler, or outside of one `write()`,
 * returns. Not guaranteed: that chunks have the sizes in which they were written. When both sides are shut the stream closes.
 *
 * Errors (`ECONNRESET`, `EPIPE`) are `'error'` events, followed by `'close'`.
 */
export abstract class StreamSocket<
  B extends Borrow = false,
  Events extends StreamEvents<B> & EventMap<Events> = StreamEvents<B>,
> extends Source<Events> {
  declare protected readonly ownedHandle: FdHandle
  readonly #onClosed: (() => void) | undefined
  #state = 0
  /** Its own from the first write on, as is what is unread: an idle connection costs little. */
  #queue = NOTHING_WAITS
  #ownSend: Send | undefined
  #unread = NOTHING_KEPT
  #bytesRead = 0
  #bytesWritten = 0
  #extras: Extras | undefined

  /** `handle` is a connected socket; `onClosed` hears of the end before anybody else. */
  protected constructor(
    reactor: Reactor,
    handle: FdHandle,
    options: StreamOptions<B>,
    onClosed?: () => void,
    registration: SourceRegistration = STREAM,
  ) {
    super(reactor, prepared(reactor, handle, options), registration, options)
    if (options.allowHalfOpen === true) this.#state |= HALF_OPEN
    if (options.borrow === true) this.#state |= LENDS_VIEWS
    if (options.borrow === 'offsets') this.#state |= LENDS_OFFSETS
    if (options.highWaterMark !== undefined) this.#ownExtras.highWaterMark = options.highWaterMark
    this.#onClosed = onClosed
    if (registration.drain === Drain.StreamControl) this.#ownExtras.fds = new ChunkFds()
    const { idleTimeout, headerTimeout, writeTimeout } = options
    if ((idleTimeout ?? headerTimeout ?? writeTimeout) !== undefined) this.#limit(options)
  }

  /** In which form `'data'` comes: the option. */
  get borrow(): Borrow {
    if ((this.#state & LENDS_VIEWS) !== 0) return true
    return (this.#state & LENDS_OFFSETS) !== 0 ? 'offsets' : false
  }

  /** Whether the writing side stays open when the peer has shut its own: the option, and what it was set to since. */
  get allowHalfOpen(): boolean {
    return (this.#state & HALF_OPEN) !== 0
  }

  /** From now on. */
  set allowHalfOpen(allow: boolean) {
    if (allow) this.#state |= HALF_OPEN
    else this.#state &= ~HALF_OPEN
  }

  /** Whether `'end'` was told: no bytes come any more. */
  get readableEnded(): boolean {
    return (this.#state & END_TOLD) !== 0
  }

  /** Whether `end()` was called: no bytes can be written any more. */
  get writableEnded(): boolean {
    return (this.#state & ENDING) !== 0
  }

  /** Whether the kernel has taken all that was written. If not, `'drain'` or `'error'` follows, whatever `highWaterMark` says. */
  flushed(): boolean {
    if (this.#extras?.broken !== undefined) return false // the error is told at the end of what the peer said
    if (this.#queue.empty) return true
    this.#state |= NEEDS_DRAIN
    return false
  }

  /** How many bytes were delivered. */
  get bytesRead(): number {
    return this.#bytesRead
  }

  /** How many bytes the kernel has taken. */
  get bytesWritten(): number {
    return this.#bytesWritten
  }

  /** How many bytes have come and were not delivered, kept here or waiting in the kernel. */
  get readableLength(): number {
    return socket.readable(this.fd) + this.#unread.reduce((sum, { length }) => sum + length, 0)
  }

  /** How many bytes wait to be written. */
  get writableLength(): number {
    return this.#queue.length
  }

  /** Whether something waits to be written because the peer takes too little. */
  get blocked(): boolean {
    return this.#queue.needsRoom && !this.#queue.empty
  }

  /** How many bytes the kernel holds that the peer has not taken; of a Unix socket, the memory that they take. */
  get unsentLength(): number {
    // Asked by a timer: a descriptor that was closed behind our back must not throw there.
    return this.closed || !this.owned ? 0 : Math.max(0, socket.unsent(this.ownedHandle.fd))
  }

  /** The header of a message is complete: `headerTimeout` no longer runs. */
  headerDone(): void {
    this.#extras?.limits?.headerDone()
  }

  /** Another header may begin now: `headerTimeout` begins anew. */
  expectHeader(): void {
    this.#extras?.limits?.expectHeader()
  }

  /**
   * Sends bytes, or a part of them. Inside a handler they leave when it returns, together with what else it writes; outside at once.
   * False when more than `highWaterMark` bytes wait: go on at `'drain'`.
   * @throws ReactorError `ERR_CLOSED`, or `ERR_STREAM_ENDED` after `end()`; TypeError, RangeError for what is not within `bytes`.
   */
  write(bytes: Uint8Array | string, offset = 0, length?: number): boolean {
    if (this.closed) this.assertOpen()
    if (this.writableEnded) throw new ReactorError('ERR_STREAM_ENDED', `${this.label}: write() after end()`)
    const chunk = typeof bytes === 'string' ? Buffer.from(bytes) : bytes
    if (!(chunk instanceof Uint8Array)) throw new TypeError('write() takes a Uint8Array or a string')
    const size = length ?? chunk.length - offset
    // Beyond its end a chunk would be filled up with whatever lies in memory.
    if (!(offset >= 0 && size >= 0 && offset + size <= chunk.length)) {
      throw new RangeError(
        `write(): offset ${offset} and length ${size} are not within ${chunk.length} bytes`,
      )
    }
    if (this.#extras?.broken !== undefined) return false // 'error' follows, at the end of what the peer said
    if (size === 0) return this.#belowMark()
    if (chunk === loan.view) this.#ownQueue.borrow(loan.slab, loan.offset + offset, size)
    else this.#ownQueue.borrow(chunk, offset, size)
    this.#askFlush()
    return this.#belowMark()
  }

  /** Writes `bytes`, if any, and shuts the writing side once everything is sent. Idempotent. */
  end(bytes?: Uint8Array | string): void {
    if (bytes !== undefined) this.write(bytes)
    if (this.writableEnded || this.closed) return
    this.#state |= ENDING
    this.#askFlush()
  }

  /**
   * For what is sent by a function of its own: puts it behind what waits. `send` and `drop` are those of a `QueueItem`, and `send` is
   * given the socket.
   * @throws ReactorError `ERR_CLOSED`, or `ERR_STREAM_ENDED` after `end()`; what broke the stream.
   */
  enqueue(send: (to: FdHandle) => number, drop: (reason?: Error) => void): void {
    this.assertOpen()
    if (this.writableEnded)
      throw new ReactorError('ERR_STREAM_ENDED', `${this.label}: it was asked to send after end()`)
    if (this.#extras?.broken !== undefined) throw this.#extras.broken
    this.#ownQueue.push({ send: () => this.#count(send(this.ownedHandle)), drop })
    this.#askFlush()
  }

  /** For what was enqueued and waited for something of its own: lets it go on. */
  proceed(): void {
    if (this.closed) return
    this.reactor.defer(() => {
      if (!this.closed) this.#flush()
    })
  }

  /** Gives the kernel what it takes of what waits, and closes; the rest is discarded. Idempotent. */
  override close(): void {
    if (!this.closed && !this.#queue.empty) this.#queue.flush(this.#send)
    this.destroy()
  }

  /** Closes and discards what waits. Idempotent. */
  destroy(): void {
    if (this.closed) return
    this.#dismiss()
    try {
      super.close()
    } finally {
      this.#extras?.fds?.close()
    }
  }

  /**
   * Ends the source and hands over the socket, with what was not delivered and what the kernel did not take.
   * @throws ReactorError `ERR_CLOSED`; SystemError `EBUSY` while a file is being sent.
   */
  detach(): DetachedStream {
    this.assertOpen()
    if (this.#queue.busy) {
      const hint =
        'What is being sent would be torn apart: wait for the promise of sendFile(), or for descriptors to leave'
      throw new SystemError(EBUSY, 'detach', { path: this.label, hint })
    }
    this.#queue.flush(this.#send)
    const unsent = this.#queue.take()
    this.#dismiss()
    const handle = this.detachHandle().guard()
    const detached = { handle, unread: Buffer.concat(this.#unread), unsent }
    const received = this.#extras?.fds
    if (received === undefined) return detached
    const fds = received.takeAll(this.#unread)
    if (received.failure === undefined) return { ...detached, fds }
    closeAll([handle, ...fds])
    throw received.failure
  }

  /** The inverse of `detach()`: what was unread comes first, and what was unsent goes first. */
  protected restore({ unread, unsent, fds = [] }: DetachedStream): this {
    if (unread.length > 0 || fds.length > 0) this.#ownUnread.push(unread)
    const received = this.#extras?.fds
    if (received !== undefined && fds.length > 0) received.put(unread, fds)
    else closeAll(fds)
    if (unsent.length === 0) return this
    this.#ownQueue.borrow(unsent, 0, unsent.length)
    this.proceed() // later, so that an error finds who listens to it
    return this
  }

  protected get consumerEvents(): readonly string[] {
    return ['data']
  }

  protected override get endEvents(): readonly string[] {
    return ['end']
  }

  protected override get hasEnded(): boolean {
    return this.readableEnded
  }

  protected override takeKept(name: string): unknown[][] {
    if (name !== 'data' || !(this.closed || this.readableEnded)) return []
    const chunks = this.#ownUnread.splice(0)
    for (const { length } of chunks) this.#bytesRead += length
    return chunks.map((bytes) => [bytes])
  }

  protected override get keepsSomething(): boolean {
    return this.#unread.length > 0 || (this.#state & (READ_ENDED | END_TOLD)) === READ_ENDED
  }

  protected override wantedInterest(): number {
    // Once the end is told, or nothing is sent any more, only the peer's going is of interest, also when nobody reads; epoll reports
    // that unasked, to whoever is in the set.
    const state = this.#state
    const rest =
      (state & END_TOLD) !== 0 || (this.#sendsNothing && (state & READ_ENDED) === 0) ? Interest.Err : 0
    const reads = this.flowing && (state & READ_ENDED) === 0 && this.#extras?.fds?.stalled !== true
    const read = reads ? Interest.In | Interest.RdHup : rest
    return (state & WATCHED_FOR_ROOM) !== 0 ? read | Interest.Out : read
  }

  onRecord(record: BatchRecord): void {
    // What the handlers of this record write to this stream leaves when they have returned, below; it is by far the most common case.
    this.#state |= IN_RECORD
    try {
      this.#take(record)
    } finally {
      this.#state &= ~IN_RECORD
      if (!this.closed && (!this.#queue.empty || (this.#state & (ENDING | WRITE_SHUT)) === ENDING)) {
        if ((this.#state & WATCHED_FOR_ROOM) !== 0 && (record.revents & Interest.Out) === 0) this.#queue.own()
        else this.#flush()
      }
    }
    if ((record.revents & Interest.Out) !== 0) this.#tellDrain()
  }

  #take(record: BatchRecord): void {
    const result = record.result
    if (result > 0) {
      const fds = this.#extras?.fds
      if (!this.flowing || this.#unread.length > 0 || fds?.cameWith(record) === true) {
        this.#keep(record)
        if (fds?.failure !== undefined) return this.fail(fds.failure)
        this.emitKept()
        return
      }
      this.#bytesRead += result
      if ((this.#state & (LENDS_VIEWS | LENDS_OFFSETS)) === 0) {
        this.fire('data', copyOf(record))
      } else if ((this.#state & LENDS_OFFSETS) !== 0) {
        this.fire('data', record.slab, record.offset, result)
      } else {
        this.fire('data', lend(record))
        loan.view = undefined
      }
    } else if (result === 0) {
      const gone = (record.revents & Interest.Hup) !== 0 && (this.#state & WRITE_SHUT) === 0
      this.#state |= READ_ENDED
      try {
        this.emitKept()
      } finally {
        this.update()
        // The peer has closed both directions: what waits can reach nobody.
        if (gone && this.readableEnded) {
          this.#queue.clear(new SystemError(EPIPE, 'send', { path: this.label }))
          this.destroy()
        }
      }
    } else if (result !== EAGAIN) {
      const error = this.#extras?.broken ?? new SystemError(result, 'recv', { path: this.label })
      this.#queue.clear(error)
      this.fail(error)
    }
  }

  override onSettle(record: BatchRecord): void {
    if (record.result > 0) {
      this.#keep(record)
    } else if (record.result === 0) {
      this.#state |= READ_ENDED
    }
  }

  protected override emitKept(): void {
    const fds = this.#extras?.fds
    while (this.flowing && this.#unread.length > 0) {
      if (fds !== undefined && !this.#tellFds(fds)) return
      const bytes = this.#unread.shift()
      if (bytes === undefined) break
      if (bytes.length === 0) continue // it stood for descriptors
      this.#bytesRead += bytes.length
      if ((this.#state & LENDS_OFFSETS) !== 0) this.fire('data', bytes, 0, bytes.length)
      else this.fire('data', bytes)
    }
    if ((this.#state & (READ_ENDED | END_TOLD)) !== READ_ENDED || !(this.flowing || this.#abandoned)) return
    this.#state |= END_TOLD
    try {
      this.fire('end')
    } finally {
      this.#afterEnd() // also when a listener throws: nothing else would come that could close it
    }
  }

  /** Nothing is sent any more, nobody listens to what comes, and nothing has come: nobody needs to be waited for. */
  get #abandoned(): boolean {
    const quiet = !this.paused && this.#unread.length === 0 && this.listenerCount('data') === 0
    return quiet && this.#sendsNothing
  }

  /** Whether nothing is sent any more, by `end()` or because nothing can be. */
  get #sendsNothing(): boolean {
    return (this.#state & WRITE_SHUT) !== 0 || this.#extras?.broken !== undefined
  }

  #keep(record: BatchRecord): void {
    const chunk = copyOf(record)
    this.#ownUnread.push(chunk)
    this.#extras?.fds?.keep(chunk, record, this.label)
  }

  /** Tells what came with the next chunk before its bytes; false when these must wait. */
  #tellFds(fds: ChunkFds): boolean {
    const [chunk] = this.#unread
    const stalled = fds.has(chunk) && this.listenerCount('fds') === 0
    if (stalled !== fds.stalled) {
      fds.stalled = stalled
      this.update()
    }
    if (stalled) return false
    const handles = fds.take(chunk)
    if (handles === undefined) return true
    try {
      this.fire('fds', handles)
    } catch (error) {
      if (!this.closed) this.reactor.defer(() => this.emitKept()) // the bytes must not wait for the next record
      throw error
    }
    return this.flowing
  }

  #afterEnd(): void {
    if (this.closed) return
    if (this.#extras?.broken !== undefined) return this.fail(this.#extras.broken)
    if ((this.#state & HALF_OPEN) === 0) this.end()
    if ((this.#state & WRITE_SHUT) !== 0) this.destroy()
  }

  override onFlush(): void {
    if ((this.#state & FLUSH_ASKED) !== 0) {
      this.#state &= ~FLUSH_ASKED
      if (!this.closed) this.#flush()
    }
    super.onFlush()
    const extras = this.#extras
    const limit = extras?.reached
    if (extras === undefined || limit === undefined) return
    extras.reached = undefined
    if (this.listenerCount('timeout') === 0) this.destroy()
    else if (!this.closed) this.fire('timeout', limit)
  }

  protected override takeBack(name: string, events: readonly unknown[][]): void {
    if (name === 'fds') this.#takeFdsBack(events.flat())
    if (name !== 'data' || (this.#state & (LENDS_VIEWS | LENDS_OFFSETS)) !== 0) return
    const chunks = events.flat().filter((chunk) => Buffer.isBuffer(chunk))
    this.#ownUnread.unshift(...chunks)
    for (const { length } of chunks) this.#bytesRead -= length
  }

  /** `for await (const bytes of stream)`: what comes until the peer ends. Borrowed bytes do not live long enough for it: a type error. */
  [Symbol.asyncIterator](): B extends false ? AsyncGenerator<Buffer, undefined, undefined> : undefined
  [Symbol.asyncIterator](this: StreamSocket): AsyncGenerator<Buffer, undefined, undefined> | undefined {
    return chunksOf(this)
  }

  #takeFdsBack(sets: unknown[]): void {
    const fds = this.#extras?.fds
    for (const set of sets.reverse()) {
      const handles = Array.isArray(set) ? set.filter((fd): fd is FdHandle => fd instanceof FdHandle) : []
      if (this.closed || fds === undefined) {
        closeAll(handles)
      } else {
        const chunk = Buffer.alloc(0)
        fds.put(chunk, handles)
        this.#ownUnread.unshift(chunk)
      }
    }
  }

  /** As `write()` of a whole chunk, with descriptors. They are duplicated: the caller may close its own at once. */
  protected writeWithFds(bytes: Uint8Array, fds: readonly FdHandle[]): boolean {
    this.assertOpen()
    if (this.writableEnded) throw new ReactorError('ERR_STREAM_ENDED', `${this.label}: send() after end()`)
    if (this.#extras?.broken !== undefined) return false
    deadlineTimer(this.reactor) // trying again must not need a descriptor
    this.#ownQueue.pass(bytes, duplicates(fds))
    this.#askFlush()
    return this.#belowMark()
  }

  get #ownQueue(): StreamQueue {
    return this.#queue === NOTHING_WAITS ? (this.#queue = new StreamQueue()) : this.#queue
  }

  get #ownUnread(): Buffer[] {
    return this.#unread === NOTHING_KEPT ? (this.#unread = []) : this.#unread
  }

  get #send(): Send {
    return this.#ownSend ?? this.#makeSend()
  }

  /** Apart: a function that makes a closure makes a context for it at each call, 40 bytes for every message. */
  #makeSend(): Send {
    return (this.#ownSend = (bytes, offset, length, fds) => this.#sendNow(bytes, offset, length, fds))
  }

  get #ownExtras(): Extras {
    return (this.#extras ??= new Extras())
  }

  #sendNow(bytes: Uint8Array, offset: number, length: number, fds?: readonly FdHandle[]): number {
    if (fds === undefined) return this.#count(this.reactor.send(this.ownedHandle, bytes, offset, length))
    const sent = sendWithFds(this.ownedHandle, bytes, offset, length, fds)
    if (sent !== ETOOMANYREFS) return this.#count(sent)
    // The user has as many descriptors in flight as may be open; nothing tells when a receiver takes some.
    const extras = this.#ownExtras
    extras.cancelRetry ??= deadline(this.reactor, FDS_RETRY_NS, () => {
      extras.cancelRetry = undefined
      this.proceed()
    })
    return LATER
  }

  #count(sent: number): number {
    if (sent > 0) this.#bytesWritten += sent
    return sent
  }

  #askFlush(): void {
    if ((this.#state & (IN_RECORD | FLUSH_ASKED)) !== 0) return
    if (this.reactor.afterHandler(this)) this.#state |= FLUSH_ASKED
    else this.#flush()
  }

  #belowMark(): boolean {
    if (this.#queue.length <= (this.#extras?.highWaterMark ?? DEFAULT_HIGH_WATER_MARK)) return true
    this.#state |= NEEDS_DRAIN
    return false
  }

  #flush(): void {
    const result = this.#queue.flush(this.#send)
    if (result < 0) this.#break(new SystemError(result, 'send', { path: this.label }))
    if (this.closed) return
    const waiting = !this.#queue.empty
    const watch = waiting ? this.#queue.needsRoom : (this.#state & NEEDS_DRAIN) !== 0
    if (watch !== ((this.#state & WATCHED_FOR_ROOM) !== 0)) {
      this.#state ^= WATCHED_FOR_ROOM
      this.update()
    }
    if (waiting || (this.#state & (ENDING | WRITE_SHUT)) !== ENDING) return
    this.#state |= WRITE_SHUT
    if (this.owned) socket.shutdownWrite(this.ownedHandle.fd) // ENOTCONN: the peer is gone, which the reading side tells
    if (this.readableEnded) this.destroy()
    else this.update()
  }

  /** Waits for a batch of its own, so that who writes on at every `'drain'` does not keep the loop from the others. */
  #tellDrain(): void {
    if (this.closed || !this.#queue.empty || (this.#state & NEEDS_DRAIN) === 0) return
    this.#state &= ~(NEEDS_DRAIN | WATCHED_FOR_ROOM)
    this.update()
    this.fire('drain')
  }

  /** Writing failed. If reading goes on, what the peer said before it went comes first, and the error at the end of that. */
  #break(error: SystemError): void {
    this.#queue.clear(error)
    if (!this.flowing || (this.#state & READ_ENDED) !== 0) return this.fail(error)
    this.#ownExtras.broken = error
    this.#state &= ~NEEDS_DRAIN
    if (this.owned) socket.shutdownRead(this.ownedHandle.fd) // what has come is still read; behind it is the end, where the error is told
  }

  #limit(options: StreamOptions<B>): void {
    const extras = this.#ownExtras
    extras.limits = new SocketLimits(this.reactor, options, this, (limit) => {
      // Told there, where what a listener throws is this stream's and not the timer's.
      if (this.reactor.afterHandler(this)) extras.reached ??= limit
    })
  }

  #dismiss(): void {
    this.#queue.clear()
    this.#extras?.limits?.stop()
    this.#extras?.cancelRetry?.()
    this.#onClosed?.()
  }
}

/** Done before it is registered, so that a refusal leaves nothing behind. */
function prepared(reactor: Reactor, handle: FdHandle, options: StreamOptions<Borrow>): FdHandle {
  const { sendBuffer, receiveBuffer, idleTimeout, headerTimeout, writeTimeout } = options
  try {
    if (sendBuffer !== undefined) socket.set(handle.fd, SocketOption.SendBuffer, sendBuffer)
    if (receiveBuffer !== undefined) socket.set(handle.fd, SocketOption.ReceiveBuffer, receiveBuffer)
    return (idleTimeout ?? headerTimeout ?? writeTimeout) === undefined
      ? handle
      : withDeadlines(reactor, handle)
  } catch (error) {
    handle.close()
    throw error
  }
}

async function* chunksOf(stream: StreamSocket): AsyncGenerator<Buffer, undefined, undefined> {
  for await (const [bytes] of stream.events('data')) yield bytes
}
