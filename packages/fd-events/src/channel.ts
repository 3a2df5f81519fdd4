/**
 * A duplex channel of typed messages between two threads of one process: two rings in shared memory, and a port that tells when the other
 * thread has ended.
 *
 * The rings do the work (ring-reader.ts, ring-writer.ts); here values become bytes and back, and the ends of everything are made one.
 */
import { EventEmitter } from 'node:events'
import type { MessagePort } from 'node:worker_threads'
import { ReactorError, sourceOptionChecks, type Reactor } from '@fd-reactor/core'
import { checkOptions, eventfd, integer } from '@fd-reactor/core/sys'
import { checkCodec, codecOf, type AnyCodec, type ChannelCodec } from './channel-codec.js'
import { makeEnds, takeEnd, type ChannelEnd, type Standing } from './channel-end.js'
import { ringCapacity, RingWord, type Ring } from './ring.js'
import { MAX_CAPACITY } from './ring-layout.js'
import { RingReader } from './ring-reader.js'
import { RingWriter, type RingWriterOptions } from './ring-writer.js'

/** The events of a {@link Channel}. */
export interface ChannelEvents<Receive> {
  /** A value came. */
  message: [value: Receive]
  /** After `send()` returned false: what waited has gone, and there is room again. */
  drain: []
  /** The other thread has ended, or has closed its end. What it had sent before still comes; nothing can be sent any more. */
  gone: []
  /** Everything that the other side had sent was delivered, and it is gone; `'close'` follows. */
  end: []
  /** Something failed: a message that cannot be decoded, or a damaged ring. Without a listener it is thrown; `'close'` follows. */
  error: [error: Error]
  /** It was closed; the last event. */
  close: []
}

/** Options of {@link Channel.open}; those of its writer and of all sources are among them. */
export interface ChannelOptions<Send = unknown, Receive = unknown> extends RingWriterOptions {
  /**
   * How values become bytes: `'structured'` (default) by v8.serialize() and deserialize(), `'bytes'` not at all, or a codec of your own.
   * Both ends must use the same.
   */
  codec?: 'structured' | 'bytes' | ChannelCodec<Send, Receive>
}

/** Options of {@link Channel.create}. */
export interface ChannelCreateOptions<Send = unknown, Receive = unknown> extends ChannelOptions<
  Send,
  Receive
> {
  /** Bytes in each direction, rounded up to a power of two: 4 KiB … 1 GiB. The longest message has half of it, less 8. Default 1 MiB. */
  capacity?: number
}

/** A channel's statistics. */
export interface ChannelStats {
  /** Messages that are in the ring, or were. */
  sent: number
  /** Messages that were delivered. */
  received: number
  /** Messages that were dropped (`onFull: 'drop'`). */
  dropped: number
  /** Messages that wait here for room. */
  queued: number
  /** How often the other thread had to be woken by a system call. */
  rung: number
}

/** The option that makes it a channel of bytes. */
interface OfBytes {
  codec: 'bytes'
}

const OPEN_CHECKS = {
  ...sourceOptionChecks,
  codec: checkCodec,
  onFull: () => undefined, // the writer checks these two
  queueBytes: () => undefined,
}
const CREATE_CHECKS = { ...OPEN_CHECKS, capacity: integer(1, MAX_CAPACITY) }

/**
 * One end of a message channel between reactors in two threads of a process.
 *
 * {@link Channel.create} makes it. Its `there` goes to the other thread, by `workerData` or `postMessage()` with `there.port` in the
 * transfer list, and {@link Channel.open} makes the other end of it. One can send before the other end is open. The maker has 7
 * descriptors and the other one 6, each owned by its thread.
 *
 * Guaranteed, across threads: messages come whole, in order, each once; a sleeping thread is woken, a busy one without a system call.
 * When a thread ends in whatever way (its end, `process.exit()`, `terminate()`), what it had sent and what is not queued
 * (`stats.queued`) still comes to the other one, which is told `'gone'`; descriptors are closed with their thread, also of an end that was never
 * opened. Not guaranteed: that the other thread has handled what was sent to it before it ended. Across processes: nothing, the memory is
 * that of one process (see {@link offer}). After a crash of the process or a power failure: nothing is left.
 *
 * A structured value is what v8.serialize() takes: no functions, no class but JavaScript's own. A typed array in it is a view of the
 * message's memory. While the other side is gone and nobody takes messages it does not keep the process going.
 *
 * @throws SystemError `EMFILE`; RangeError for a capacity out of range; TypeError for unknown options.
 * @example
 * import { once } from 'node:events'
 * import { isMainThread, Worker, workerData } from 'node:worker_threads'
 * import { Reactor } from '@fd-reactor/core'
 * import { Channel } from '@fd-reactor/fd-events'
 * const reactor = new Reactor()
 * if (isMainThread) {
 *   const channel = Channel.create<string[], Map<string, number>>(reactor)
 *   const { there } = channel
 *   new Worker(new URL(import.meta.url), { workerData: there, transferList: [there.port] })
 *   channel.send(['shared', 'memory', 'wakes'])
 *   const [lengths] = await once(channel, 'message')
 *   console.log(lengths.get('wakes')) // 5
 *   channel.close() // the worker is told, and has nothing left to do
 * } else {
 *   const channel = Channel.open<Map<string, number>, string[]>(reactor, workerData)
 *   channel.on('message', (words) => channel.send(new Map(words.map((word) => [word, word.length]))))
 * }
 * @see worker_threads, v8.serialize()
 */
export class Channel<Send = unknown, Receive = unknown>
  extends EventEmitter<ChannelEvents<Receive>>
  implements Disposable, AsyncIterable<Receive>
{
  /** What the other thread opens; undefined at the end that it has opened. */
  readonly there: ChannelEnd | undefined
  readonly #codec: AnyCodec
  readonly #out: Ring
  readonly #inward: Ring
  readonly #port: MessagePort
  readonly #standing: Standing
  readonly #writer: RingWriter
  readonly #reader: RingReader
  #received = 0
  #iterating = 0
  #gone = false
  #closed = false

  private constructor(
    reactor: Reactor,
    standing: Standing,
    options: ChannelOptions<Send, Receive>,
    there?: ChannelEnd,
  ) {
    super()
    const { codec, onFull, queueBytes, ...common } = options
    const limits = {
      ...(onFull !== undefined && { onFull }),
      ...(queueBytes !== undefined && { queueBytes }),
    }
    this.there = there
    this.#codec = codecOf(codec)
    this.#standing = standing
    this.#out = standing.out
    this.#inward = standing.inward
    this.#port = standing.port
    const label = options.label ?? 'Channel'
    this.#writer = new RingWriter(reactor, this.#out, { ...common, ...limits, label })
    try {
      this.#reader = new RingReader(reactor, this.#inward, { ...common, label })
    } catch (error) {
      this.#writer.close()
      throw error
    }
    this.#connect()
  }

  /** Makes a channel of bytes, and this end of it. */
  static create(reactor: Reactor, options: ChannelCreateOptions & OfBytes): Channel<Uint8Array, Buffer>
  /** Makes a channel and this end of it. */
  static create<Send = unknown, Receive = unknown>(
    reactor: Reactor,
    options?: ChannelCreateOptions<Send, Receive>,
  ): Channel<Send, Receive>
  static create(reactor: Reactor, options: ChannelCreateOptions = {}): Channel {
    checkOptions('Channel.create', options, CREATE_CHECKS)
    options.signal?.throwIfAborted()
    const { capacity, ...rest } = options
    const { mine, there } = makeEnds(ringCapacity(capacity))
    return orDisposed(mine, () => new Channel(reactor, mine, rest, there))
  }

  /** Opens the other end of a channel of bytes. */
  static open(
    reactor: Reactor,
    end: ChannelEnd,
    options: ChannelOptions & OfBytes,
  ): Channel<Uint8Array, Buffer>
  /**
   * Opens the other end of a channel, in the thread that it was passed to.
   * @throws ReactorError `ERR_CLOSED` when the maker has closed it or its thread has ended, `ERR_HANDSHAKE` for a second time; TypeError
   * for what is no end; SystemError `EMFILE`.
   */
  static open<Send = unknown, Receive = unknown>(
    reactor: Reactor,
    end: ChannelEnd,
    options?: ChannelOptions<Send, Receive>,
  ): Channel<Send, Receive>
  static open(reactor: Reactor, end: ChannelEnd, options: ChannelOptions = {}): Channel {
    checkOptions('Channel.open', options, OPEN_CHECKS)
    options.signal?.throwIfAborted()
    const standing = takeEnd(end)
    return orDisposed(standing, () => new Channel(reactor, standing, options))
  }

  /** Whether the other side was not heard to have gone. It is true before it has opened its end, too. */
  get connected(): boolean {
    return !this.#gone && !this.#closed
  }

  /** Whether it was closed. */
  get closed(): boolean {
    return this.#closed
  }

  /** The longest message in bytes. */
  get maxMessage(): number {
    return this.#out.maxMessage
  }

  /** Its class, or the `label` option, and a descriptor. */
  get label(): string {
    return this.#reader.label
  }

  /** Its statistics. */
  get stats(): ChannelStats {
    const { written, dropped, queued, rung } = this.#writer.stats
    return { sent: written, received: this.#received, dropped, queued, rung }
  }

  /**
   * Sends a value. False when the ring is full: then `onFull` decides, and `'drain'` follows.
   * @throws ReactorError `ERR_MESSAGE_INVALID` for what the codec refuses, `ERR_MESSAGE_TOO_LARGE`, `ERR_RING_FULL`, `ERR_CLOSED` also when the
   * other side is gone.
   */
  send(value: Send): boolean {
    if (this.#closed) throw new ReactorError('ERR_CLOSED', `${this.label} is closed`)
    if (this.#gone) throw new ReactorError('ERR_CLOSED', `${this.label}: the other side is gone`)
    return this.#writer.write(this.#encode(value))
  }

  /** Stops `'message'` from the next one on; what comes meanwhile waits in the ring. */
  pause(): this {
    this.#reader.pause()
    return this
  }

  /** Lets messages come again. */
  resume(): this {
    this.#reader.resume()
    return this
  }

  /** Lets it keep `run()` and the process going, as it does from the beginning. */
  ref(): this {
    this.#reader.ref()
    this.#writer.ref()
    return this
  }

  /** It no longer keeps `run()` and the process going. */
  unref(): this {
    this.#reader.unref()
    this.#writer.unref()
    return this
  }

  /** Ends it: the other side is told `'gone'`, and `'end'` once it has taken what was sent. What is queued here is thrown away. Idempotent. */
  close(): void {
    if (this.#closed) return
    this.#closed = true
    this.#writer.close()
    this.#reader.close()
    this.#standing[Symbol.dispose]()
    this.emit('close')
  }

  /** `close()`, for `using`. */
  [Symbol.dispose](): void {
    this.close()
  }

  /** `for await (const value of channel)`, until the other side is gone and everything was taken. */
  async *[Symbol.asyncIterator](): AsyncGenerator<Receive, undefined, undefined> {
    this.#iterating++
    try {
      for await (const [bytes] of this.#reader.events('message')) yield this.#decode(bytes)
    } finally {
      this.#iterating--
    }
  }

  #connect(): void {
    const deliver = (bytes: Buffer): void => this.#deliver(bytes)
    const unheard = (name: unknown): boolean => name === 'message' && this.listenerCount('message') === 0
    // The ring is read while somebody listens, and only then.
    EventEmitter.prototype.on.call(this, 'newListener', (name) => {
      if (unheard(name)) this.#reader.on('message', deliver)
    })
    EventEmitter.prototype.on.call(this, 'removeListener', (name) => {
      if (unheard(name)) this.#reader.off('message', deliver)
    })
    this.#writer.on('drain', () => this.#tell('drain'))
    this.#writer.on('error', (error) => this.#fail(error))
    this.#writer.on('close', () => {
      if (!this.#gone) this.close()
    })
    this.#reader.on('end', () => this.#onEnd())
    this.#reader.on('error', (error) => this.#fail(error))
    this.#reader.on('close', () => this.close())
    this.#port.on('close', () => this.#onGone())
    this.#port.unref()
  }

  #deliver(bytes: Buffer): void {
    let value: Receive
    try {
      value = this.#decode(bytes)
    } catch (error) {
      return this.#fail(error)
    }
    this.#tell('message', value)
  }

  /** An iterator throws what fails by itself. */
  #fail(error: unknown): void {
    try {
      if (this.#iterating === 0 || this.listenerCount('error') > 0) this.#tell('error', error)
    } finally {
      this.close()
    }
  }

  /** Once; the port has closed, or the reader has found that the writer has. */
  #onGone(): void {
    if (this.#gone || this.#closed) return
    this.#gone = true
    this.#writer.close()
    // Nobody writes that ring any more, and who was terminated did not say so there: the reader tells 'end' by it.
    const { control, filled } = this.#inward
    Atomics.store(control, RingWord.WriterEnded, 1)
    if (Atomics.exchange(control, RingWord.ReaderWaiting, 0) === 1) eventfd.write(filled.fd, 1n)
    if (this.#reader.stats.interest === 0) this.#reader.unref()
    this.#tell('gone')
  }

  #onEnd(): void {
    try {
      this.#onGone()
      this.#tell('end')
    } finally {
      this.close()
    }
  }

  #encode(value: Send): Uint8Array {
    let bytes: unknown
    try {
      bytes = this.#codec.encode(value)
    } catch (error) {
      throw this.#invalid('the value cannot be sent', error)
    }
    if (bytes instanceof Uint8Array) return bytes
    throw new TypeError(`${this.label}: the codec's encode() must return a Uint8Array`)
  }

  #decode(bytes: Buffer): Receive {
    this.#received++
    try {
      return this.#codec.decode(bytes) as Receive
    } catch (error) {
      throw this.#invalid('a message cannot be decoded; both ends need the same codec', error)
    }
  }

  #invalid(what: string, cause: unknown): ReactorError {
    const why = cause instanceof Error ? cause.message : String(cause)
    return new ReactorError('ERR_MESSAGE_INVALID', `${this.label}: ${what}: ${why}`, { cause })
  }

  /** emit() for types that depend on a parameter. */
  #tell(event: string, ...args: unknown[]): void {
    EventEmitter.prototype.emit.call(this, event, ...args)
  }
}

function orDisposed<Result>(standing: Disposable, action: () => Result): Result {
  try {
    return action()
  } catch (error) {
    standing[Symbol.dispose]()
    throw error
  }
}
