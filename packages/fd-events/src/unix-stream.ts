/**
 * A connected Unix stream socket: typed events for what comes, a queue with backpressure for what goes.
 *
 * The native drain receives into the batch's slab; here the bytes become events. Writes of one handler leave in one system call
 * when it returns. The stream is watched for reading while somebody wants its bytes, and for writing while bytes wait.
 */
import {
  Drain,
  FdHandle,
  Interest,
  ReactorError,
  Source,
  sourceOptionChecks,
  SystemError,
} from '@fd-reactor/core'
import type { BatchRecord, Reactor, SourceEvents, SourceOptions } from '@fd-reactor/core'
import {
  abortSignal,
  boolean,
  checkOptions,
  integer,
  oneOf,
  socket,
  type PeerCredentials,
} from '@fd-reactor/core/sys'
import { setTimeout as delay } from 'node:timers/promises'
import { deadline } from './deadlines.js'
import { StreamQueue } from './stream-queue.js'
import { encodeUnixPath } from './unix-path.js'

/**
 * How bytes are handed to `'data'`: `false` as a Buffer that may be kept, `true` as a view of the slab that is valid during the
 * handler only, `'offsets'` as `(slab, offset, length)`, which allocates nothing.
 */
export type Borrow = false | true | 'offsets'

/** The events of a {@link UnixStream}. */
export interface UnixStreamEvents<B extends Borrow = false> extends SourceEvents {
  /** Bytes came, in the form that the `borrow` option names. */
  data: B extends 'offsets' ? [slab: Buffer, offset: number, length: number] : [bytes: Buffer]
  /** The peer has shut its writing side; no `'data'` comes any more. */
  end: []
  /** Everything that waited was taken by the kernel, after a `write()` that returned false. */
  drain: []
  /** No byte moved in either direction for `idleTimeout`. Without a listener the stream is destroyed. */
  timeout: []
}

/** What listeners and connections have in common. */
export interface UnixStreamOptions<B extends Borrow = false> extends SourceOptions {
  /** See {@link Borrow}. Default false. */
  borrow?: B
  /** Keeps the writing side open when the peer has shut its own. Default false: what waits is flushed, then the stream closes. */
  allowHalfOpen?: boolean
  /** How many bytes may wait before `write()` returns false. Default 64 KiB. It is advice: nothing is refused beyond it. */
  highWaterMark?: number
  /** Nanoseconds without a byte in either direction, seen to about a quarter of it. Default: none. */
  idleTimeout?: number
  /** SO_SNDBUF in bytes. Default: the kernel's. */
  sendBuffer?: number
  /** SO_RCVBUF in bytes. Default: the kernel's. */
  receiveBuffer?: number
}

/** Options of {@link UnixStream.connect}. */
export interface UnixConnectOptions<B extends Borrow = false> extends UnixStreamOptions<B> {
  /** Nanoseconds until a listener whose backlog is full counts as unreachable. Default 10 s. */
  timeout?: number
}

/** What {@link UnixStream.detach} gives. */
export interface DetachedStream {
  /** The connected socket. */
  handle: FdHandle
  /** What was received and not delivered. */
  unread: Buffer
  /** What was written and not taken by the kernel; it must be written first. */
  unsent: Buffer
}

const BYTES = integer(1, 2 ** 30)
const DURATION = integer(1, Number.MAX_SAFE_INTEGER)

/** The checks of {@link UnixStreamOptions}. */
export const unixStreamOptionChecks = {
  ...sourceOptionChecks,
  borrow: oneOf(false, true, 'offsets'),
  allowHalfOpen: boolean,
  highWaterMark: integer(0, Number.MAX_SAFE_INTEGER),
  idleTimeout: DURATION,
  sendBuffer: BYTES,
  receiveBuffer: BYTES,
  signal: abortSignal,
}

const EAGAIN = -11
const NO_BYTES = Buffer.alloc(0)
const DEFAULT_HIGH_WATER_MARK = 64 * 1024
const DEFAULT_CONNECT_TIMEOUT = 10e9
const IDLE_PARTS = 4

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
export class UnixStream<B extends Borrow = false> extends Source<UnixStreamEvents<B>> {
  readonly #borrow: Borrow
  readonly #allowHalfOpen: boolean
  readonly #highWaterMark: number
  readonly #queue = new StreamQueue()
  readonly #socket: FdHandle
  readonly #onClosed: (() => void) | undefined
  #unread: Buffer[] = []
  #peer: PeerCredentials | undefined
  #bytesRead = 0
  #bytesWritten = 0
  #needsDrain = false
  #watchedForRoom = false
  #flushAsked = false
  #inRecord = false
  #view: Buffer | undefined
  #slab: Buffer = NO_BYTES
  #viewOffset = 0
  #ending = false
  #writeShut = false
  #readEnded = false
  #endTold = false
  #active = false
  #timedOut = false
  #broken: SystemError | undefined
  #cancelIdle: (() => void) | undefined

  /** For sources that make streams: `handle` is a connected socket, `onClosed` hears of the end before anybody else. */
  constructor(reactor: Reactor, handle: FdHandle, options: UnixStreamOptions<B> = {}, onClosed?: () => void) {
    super(reactor, handle, { drain: Drain.Stream, interest: Interest.In | Interest.RdHup }, options)
    this.#socket = handle
    this.#borrow = options.borrow ?? false
    this.#allowHalfOpen = options.allowHalfOpen ?? false
    this.#highWaterMark = options.highWaterMark ?? DEFAULT_HIGH_WATER_MARK
    this.#onClosed = onClosed
    if (options.sendBuffer !== undefined) socket.setSendBuffer(handle.fd, options.sendBuffer)
    if (options.receiveBuffer !== undefined) socket.setReceiveBuffer(handle.fd, options.receiveBuffer)
    if (options.idleTimeout !== undefined) this.#watchIdle(options.idleTimeout)
  }

  /**
   * Connects to a listener. A Unix socket is connected at once or not at all; only while the listener's backlog is full it is
   * tried again, until `timeout`.
   * @throws SystemError `ENOENT`, `ECONNREFUSED` (nobody listens), `EACCES`, `ENAMETOOLONG`, `EMFILE`; ReactorError `ERR_TIMEOUT`; the signal's reason.
   */
  static async connect<B extends Borrow = false>(
    reactor: Reactor,
    path: string,
    options: UnixConnectOptions<B> = {},
  ): Promise<UnixStream<B>> {
    checkOptions('UnixStream.connect', options, { ...unixStreamOptionChecks, timeout: DURATION })
    const { timeout = DEFAULT_CONNECT_TIMEOUT, ...streamOptions } = options
    const bytes = encodeUnixPath(path, 'connect')
    options.signal?.throwIfAborted()
    const handle = new FdHandle(socket.createUnix())
    try {
      const end = performance.now() + timeout / 1e6
      for (let pauseMs = 1; ; pauseMs = Math.min(pauseMs * 2, 50)) {
        const result = socket.connectUnix(handle.fd, bytes)
        if (result === 0) return new UnixStream(reactor, handle, streamOptions)
        const hint = result === -111 ? 'Nobody listens there' : undefined
        if (result !== EAGAIN) throw new SystemError(result, 'connect', { path, hint })
        if (performance.now() >= end) {
          throw new ReactorError('ERR_TIMEOUT', `The backlog of '${path}' was full for ${timeout / 1e6} ms`)
        }
        await delay(pauseMs, undefined, options.signal && { signal: options.signal }).catch(() => {
          options.signal?.throwIfAborted()
        })
      }
    } catch (error) {
      handle.close()
      throw error
    }
  }

  /** Makes a stream of a connected Unix stream socket that came from elsewhere, for example from `detach()`. */
  static from<B extends Borrow = false>(
    reactor: Reactor,
    handle: FdHandle,
    options: UnixStreamOptions<B> = {},
  ): UnixStream<B> {
    checkOptions('UnixStream.from', options, unixStreamOptionChecks)
    return new UnixStream(reactor, handle, options)
  }

  /** Who is at the other end, as the kernel noted when it connected. */
  get peer(): PeerCredentials {
    return (this.#peer ??= socket.peer(this.fd))
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

  /**
   * Sends bytes, or a part of them. Inside a handler they leave when it returns, together with what else it writes; outside at once.
   * False when more than `highWaterMark` bytes wait: go on at `'drain'`.
   * @throws ReactorError `ERR_CLOSED`, or `ERR_STREAM_ENDED` after `end()`; TypeError, RangeError for what is not within `bytes`.
   */
  write(bytes: Uint8Array | string, offset = 0, length?: number): boolean {
    if (this.closed) this.assertOpen()
    if (this.#ending) throw new ReactorError('ERR_STREAM_ENDED', `${this.label}: write() after end()`)
    const chunk = typeof bytes === 'string' ? Buffer.from(bytes) : bytes
    if (!(chunk instanceof Uint8Array)) throw new TypeError('write() takes a Uint8Array or a string')
    const size = length ?? chunk.length - offset
    // Beyond its end a chunk would be filled up with whatever lies in memory.
    if (!(offset >= 0 && size >= 0 && offset + size <= chunk.length)) {
      throw new RangeError(
        `write(): offset ${offset} and length ${size} are not within ${chunk.length} bytes`,
      )
    }
    if (size === 0 || this.#broken !== undefined) return this.#belowMark()
    if (chunk === this.#view) this.#queue.borrow(this.#slab, this.#viewOffset + offset, size)
    else this.#queue.borrow(chunk, offset, size)
    if (!this.#inRecord && !this.#flushAsked) {
      if (this.reactor.afterHandler(this)) this.#flushAsked = true
      else this.#flush()
    }
    return this.#belowMark()
  }

  /** Writes `bytes`, if any, and shuts the writing side once everything is sent. Idempotent. */
  end(bytes?: Uint8Array | string): void {
    if (bytes !== undefined) this.write(bytes)
    if (this.#ending || this.closed) return
    this.#ending = true
    if (this.#inRecord || this.#flushAsked) return
    if (this.reactor.afterHandler(this)) this.#flushAsked = true
    else this.#flush()
  }

  /** Gives the kernel what it takes of what waits, and closes; the rest is discarded. Idempotent. */
  override close(): void {
    if (!this.closed && this.#queue.length > 0) this.#queue.flush(this.#send)
    this.destroy()
  }

  /** Closes and discards what waits. Idempotent. */
  destroy(): void {
    if (this.closed) return
    this.#dismiss()
    super.close()
  }

  /** Ends the source and hands over the socket, with what was not delivered and what the kernel did not take. @throws ReactorError `ERR_CLOSED`. */
  detach(): DetachedStream {
    this.assertOpen()
    this.#queue.flush(this.#send)
    const unsent = this.#queue.take()
    this.#dismiss()
    const handle = this.detachHandle().guard()
    return { handle, unread: Buffer.concat(this.#unread), unsent }
  }

  protected get consumerEvents(): readonly string[] {
    return ['data']
  }

  protected override get endEvents(): readonly string[] {
    return ['end']
  }

  protected override get keepsSomething(): boolean {
    return this.#unread.length > 0 || (this.#readEnded && !this.#endTold)
  }

  protected override wantedInterest(): number {
    // Once the end is told only the peer's going is of interest; epoll reports that unasked, to whoever is in the set.
    const rest = this.#endTold ? Interest.Err : 0
    const read = this.flowing && !this.#readEnded ? Interest.In | Interest.RdHup : rest
    return this.#watchedForRoom ? read | Interest.Out : read
  }

  onRecord(record: BatchRecord): void {
    // What the handlers of this record write to this stream leaves when they have returned, below; it is by far the most common case.
    this.#inRecord = true
    try {
      this.#take(record)
    } finally {
      this.#inRecord = false
      if (!this.closed && (this.#queue.length > 0 || (this.#ending && !this.#writeShut))) {
        if (this.#watchedForRoom && (record.revents & Interest.Out) === 0) this.#queue.own()
        else this.#flush()
      }
    }
    if ((record.revents & Interest.Out) !== 0) this.#tellDrain()
  }

  #take(record: BatchRecord): void {
    const result = record.result
    if (result > 0) {
      this.#active = true
      if (!this.flowing || this.#unread.length > 0) {
        this.#unread.push(copyOf(record))
        this.emitKept()
        return
      }
      this.#bytesRead += result
      if (this.#borrow === false) {
        this.fire('data', copyOf(record))
      } else if (this.#borrow === 'offsets') {
        this.fire('data', record.slab, record.offset, result)
      } else {
        const view = record.view()
        this.#view = view
        this.#slab = record.slab
        this.#viewOffset = record.offset
        this.fire('data', view)
        this.#view = undefined
      }
    } else if (result === 0) {
      const gone = (record.revents & Interest.Hup) !== 0 && !this.#writeShut
      this.#readEnded = true
      try {
        this.emitKept()
      } finally {
        this.update()
        // The peer has closed both directions: what waits can reach nobody.
        if (gone && this.#endTold) this.destroy()
      }
    } else if (result !== EAGAIN) {
      this.fail(this.#broken ?? new SystemError(result, 'recv', { path: this.label }))
    }
  }

  override onSettle(record: BatchRecord): void {
    if (record.result > 0) {
      this.#unread.push(copyOf(record))
    } else if (record.result === 0) {
      this.#readEnded = true
    }
  }

  protected override emitKept(): void {
    while (this.flowing && this.#unread.length > 0) {
      const bytes = this.#unread.shift()
      if (bytes === undefined) break
      this.#bytesRead += bytes.length
      if (this.#borrow === 'offsets') this.fire('data', bytes, 0, bytes.length)
      else this.fire('data', bytes)
    }
    if (!this.flowing || !this.#readEnded || this.#endTold) return
    this.#endTold = true
    try {
      this.fire('end')
    } finally {
      this.#afterEnd() // also when a listener throws: nothing else would come that could close it
    }
  }

  #afterEnd(): void {
    if (this.closed) return
    if (this.#broken !== undefined) return this.fail(this.#broken)
    if (!this.#allowHalfOpen) this.end()
    if (this.#writeShut) this.destroy()
  }

  override onFlush(): void {
    if (this.#flushAsked) {
      this.#flushAsked = false
      if (!this.closed) this.#flush()
    }
    super.onFlush()
    if (!this.#timedOut) return
    this.#timedOut = false
    if (this.listenerCount('timeout') === 0) this.destroy()
    else if (!this.closed) this.fire('timeout')
  }

  protected override takeBack(name: string, events: readonly unknown[][]): void {
    if (name !== 'data' || this.#borrow !== false) return
    const chunks = events.flat().filter((chunk) => Buffer.isBuffer(chunk))
    this.#unread.unshift(...chunks)
    for (const { length } of chunks) this.#bytesRead -= length
  }

  /** `for await (const bytes of stream)`: what comes until the peer ends. Borrowed bytes do not live long enough for it: a type error. */
  [Symbol.asyncIterator](): B extends false ? AsyncGenerator<Buffer, undefined, undefined> : undefined
  [Symbol.asyncIterator](this: UnixStream): AsyncGenerator<Buffer, undefined, undefined> | undefined {
    return chunksOf(this)
  }

  readonly #send = (bytes: Uint8Array, offset: number, length: number): number => {
    const sent = this.reactor.send(this.#socket, bytes, offset, length)
    if (sent > 0) {
      this.#bytesWritten += sent
      this.#active = true
    }
    return sent
  }

  #belowMark(): boolean {
    if (this.#queue.length <= this.#highWaterMark) return true
    this.#needsDrain = true
    return false
  }

  #flush(): void {
    const result = this.#queue.flush(this.#send)
    if (result < 0) this.#break(new SystemError(result, 'send', { path: this.label }))
    if (this.closed) return
    const waiting = this.#queue.length > 0
    const watch = waiting || this.#needsDrain
    if (watch !== this.#watchedForRoom) {
      this.#watchedForRoom = watch
      this.update()
    }
    if (waiting || !this.#ending || this.#writeShut) return
    this.#writeShut = true
    if (this.owned) socket.shutdownWrite(this.#socket.fd) // ENOTCONN: the peer is gone, which the reading side tells
    if (this.#endTold) this.destroy()
  }

  /** Waits for a batch of its own, so that who writes on at every `'drain'` does not keep the loop from the others. */
  #tellDrain(): void {
    if (this.closed || this.#queue.length > 0 || !this.#needsDrain) return
    this.#needsDrain = this.#watchedForRoom = false
    this.update()
    this.fire('drain')
  }

  /** Writing failed. If reading goes on, what the peer said before it went comes first, and the error at the end of that. */
  #break(error: SystemError): void {
    if (!this.flowing || this.#readEnded) return this.fail(error)
    this.#broken = error
    this.#needsDrain = false
    this.#queue.clear()
  }

  #watchIdle(idleNs: number): void {
    let quiet = 0
    const look = (): void => {
      quiet = this.#active ? 0 : quiet + 1
      this.#active = false
      if (quiet === IDLE_PARTS) {
        quiet = 0
        this.#timedOut = this.reactor.afterHandler(this) // there, what a listener throws is this stream's and not the timer's
      }
      this.#cancelIdle = deadline(this.reactor, idleNs / IDLE_PARTS, look)
    }
    this.#cancelIdle = deadline(this.reactor, idleNs / IDLE_PARTS, look)
  }

  #dismiss(): void {
    this.#queue.clear()
    this.#cancelIdle?.()
    this.#onClosed?.()
  }
}

async function* chunksOf(stream: UnixStream): AsyncGenerator<Buffer, undefined, undefined> {
  for await (const [bytes] of stream.events('data')) yield bytes
}

/** A copy that its reader may keep. Small ones share Node's pool of 8 KiB, so that a kept one pins little. */
function copyOf(record: BatchRecord): Buffer {
  const copy = Buffer.allocUnsafe(record.length)
  copy.set(record.view())
  return copy
}
