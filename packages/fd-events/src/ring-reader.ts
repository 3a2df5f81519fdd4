/**
 * The reading end of a ring: an event source that drains it, and the calls for a loop of one's own.
 *
 * The argument for memory order is in ring-writer.ts.
 */
import { Buffer } from 'node:buffer'
import { ReactorError, sourceOptionChecks } from '@fd-reactor/core'
import type { Reactor, SourceEvents, SourceOptions } from '@fd-reactor/core'
import { checkOptions, eventfd, oneOf } from '@fd-reactor/core/sys'
import { RingWord, type Ring } from './ring.js'
import { distance, PAD, RECORD_HEADER, recordBytes } from './ring-layout.js'
import { NOTHING, RingSource } from './ring-source.js'
import type { Borrow } from './stream-options.js'
import { copyOut } from './word-copy.js'

/** The events of a {@link RingReader}. */
export interface RingReaderEvents<B extends Borrow = false> extends SourceEvents {
  /** A message, in the form that the `borrow` option names, and its sequence number (modulo 2^32). */
  message: B extends 'offsets'
    ? [data: Buffer, offset: number, length: number, sequence: number]
    : [bytes: Buffer, sequence: number]
  /** The writer was closed, and everything it had committed was delivered. A new writer may still come. */
  end: []
}

/** Options of a {@link RingReader}. */
export interface RingReaderOptions<B extends Borrow = false> extends SourceOptions {
  /**
   * How a message is handed to `'message'`: `false` (default) as a Buffer of its own, `true` as a view of the ring that is valid during the
   * handler only, `'offsets'` as `(data, offset, length)`, which allocates nothing.
   */
  borrow?: B
}

const CHECKS = { ...sourceOptionChecks, borrow: oneOf(false, true, 'offsets') }
/** For the hot path: V8 loads and checks an import each time it is used. */
const HEADER = RECORD_HEADER
const sizeOf = recordBytes

/**
 * Reads a ring, of which it is the only reader.
 *
 * As an event source it acknowledges a batch of messages when their handlers have returned (with `for await`: when they are
 * buffered). In a loop of one's own, `next()` finds the next message and `release()` acknowledges all that were found; `read()` does both,
 * with a copy. Use one or the other.
 *
 * Guaranteed: each message is delivered whole and in order; across threads and processes, and when the writer is killed: everything that
 * was committed, and nothing else; when this reader is killed: the next one begins with the first message that was not acknowledged, so
 * one that was being handled may come again, with the same sequence number. Whatever a hostile writer stores, nothing is read outside of the
 * ring: it ends with `ERR_RING_CORRUPT`. Not guaranteed: that a borrowed message does not change under a hostile writer; anything
 * after a power failure.
 *
 * @throws ReactorError `ERR_RING_CORRUPT`; SystemError `EMFILE`.
 * @throws TypeError, RangeError for options that do not exist or are out of range.
 * @example
 * import { Reactor } from '@fd-reactor/core'
 * import { Ring, RingReader, RingWriter } from '@fd-reactor/fd-events'
 * using reactor = new Reactor()
 * using ring = Ring.create()
 * const writer = new RingWriter(reactor, ring)
 * const reader = new RingReader(reactor, ring)
 * writer.write(Buffer.from('one'))
 * writer.write(Buffer.from('two'))
 * for await (const [bytes, sequence] of reader) {
 *   console.log(`${sequence} ${bytes}`) // 0 one
 *   break
 * }
 * console.log(String(reader.read())) // two
 * @see the layout, src/ring-layout.ts
 */
export class RingReader<B extends Borrow = false> extends RingSource<RingReaderEvents<B>> {
  /** The ring's data: what `next()` gives a place in. */
  readonly bytes: Buffer
  /** The same data as 32-bit words; divide a place by 4. */
  readonly words: Int32Array
  /** Of the message that `next()` found, in bytes. */
  length = 0
  readonly #ring: Ring
  readonly #control: Int32Array
  readonly #borrow: Borrow
  readonly #memory: ArrayBufferLike
  readonly #origin: number
  readonly #losable: boolean
  readonly #mask: number
  readonly #maxMessage: number
  #position: number
  #head: number
  /** Up to here messages lie side by side: `#position` when it has to look. */
  #end: number
  #released: number
  /** Which number follows; the first message says where the sequence is. */
  #next = 0
  #numbered = false
  #sequence = 0
  /** What `WriterEnded` was when 'end' was told. */
  #endTold = 0

  /** Takes the place of the ring's reader: begins with the first message that was not acknowledged. */
  constructor(reactor: Reactor, ring: Ring, options: RingReaderOptions<B> = {}) {
    checkOptions('RingReader', options, CHECKS)
    options.signal?.throwIfAborted()
    const tail = resume(ring)
    super(reactor, ring.filled.duplicate(), options)
    this.#ring = ring
    this.#control = ring.control
    this.bytes = ring.bytes
    this.#memory = ring.bytes.buffer
    this.#origin = ring.bytes.byteOffset
    this.words = ring.words
    this.#borrow = options.borrow ?? false
    this.#losable = ring.losable
    this.#mask = ring.capacity - 1
    this.#maxMessage = ring.maxMessage
    this.#position = this.#head = this.#end = this.#released = tail
    Atomics.store(this.#control, RingWord.ReaderWaiting, 0)
    ring.ends.add(this)
    eventfd.write(ring.drained.fd, 1n) // the last one may have been killed when it was about to
  }

  /** The sequence number of the message that `next()` or `read()` found last. */
  get sequence(): number {
    return this.#sequence >>> 0
  }

  /** Whether the writer was closed and `next()` has found everything that it had committed. A new writer may still come. False once this reader is closed. */
  get ended(): boolean {
    if (this.closed) return false
    const ended = (Atomics.load(this.#control, RingWord.WriterEnded) & 1) === 1 // before the look for more
    return ended && Atomics.load(this.#control, RingWord.Head) === this.#position
  }

  /**
   * Finds the next message and returns where it begins in `bytes`; −1 when there is none. Its length is `length`. It stays there until
   * `release()`. Whoever wants throughput pauses for some microseconds after −1: a reader close behind the writer slows it down several times.
   * @throws ReactorError `ERR_RING_CORRUPT`, which closes the reader; `ERR_MEMORY_LOST`, `ERR_CLOSED`.
   */
  next(): number {
    const position = this.#position
    if (position === this.#end) return this.#nextSlowly()
    const place = position & this.#mask
    const { words } = this
    const length = words[place >> 2] ?? 0
    const sequence = words[(place >> 2) + 1] ?? 0
    if (length >>> 0 > ((this.#end - position) | 0) - HEADER || sequence !== (this.#next | 0))
      return this.#nextSlowly()
    return this.#accept(position, length, sequence)
  }

  /** Acknowledges every message that `next()` found: their room is the writer's again, which is woken if it waits for room. */
  release(): void {
    const position = this.#position
    if (position === this.#released) return
    this.#released = position
    const control = this.#control
    Atomics.store(control, RingWord.Tail, position)
    if (Atomics.load(control, RingWord.WriterWaiting) !== 0) this.#wakeWriter()
  }

  /** The next message as a Buffer of its own, acknowledged with all that `next()` found before; undefined when there is none. @throws as `next()`. */
  read(): Buffer | undefined {
    const kept = this.takeKeptMessage()
    if (kept !== undefined) {
      this.#sequence = kept[1] | 0
      return kept[0]
    }
    const at = this.next()
    if (at < 0) return undefined
    const copy = this.#copy(at)
    this.release()
    return copy
  }

  /** Ends it; what was not acknowledged is the next reader's. In a handler, its message and those before are acknowledged. Idempotent. */
  override close(): void {
    if (this.closed) return
    if (this.delivering) this.release()
    this.#end = this.#head = this.#position = this.#released // so that next() looks, and finds it closed
    this.#ring.ends.delete(this)
    super.close()
  }

  /** `for await (const [bytes, sequence] of reader)`, until the writer is closed. Borrowed bytes do not live long enough for it: a type error. */
  [Symbol.asyncIterator](): B extends false
    ? AsyncGenerator<[bytes: Buffer, sequence: number], undefined, undefined>
    : undefined
  [Symbol.asyncIterator](
    this: RingReader,
  ): AsyncGenerator<[bytes: Buffer, sequence: number], undefined, undefined> | undefined {
    return this.events('message')
  }

  protected override get endEvents(): readonly string[] {
    return ['end']
  }

  protected override get hasEnded(): boolean {
    return this.ended && this.#endTold === Atomics.load(this.#control, RingWord.WriterEnded)
  }

  protected deliverNext(): number {
    const at = this.next()
    if (at < 0) return NOTHING
    const { length } = this
    const borrow = this.#borrow
    const sequence = this.#sequence >>> 0
    if (borrow === false) this.fire('message', this.#copy(at), sequence)
    else if (borrow === 'offsets') this.fire('message', this.bytes, at, length, sequence)
    else this.fire('message', Buffer.from(this.#memory, this.#origin + at, length), sequence) // quicker than subarray()
    return length
  }

  protected acknowledge(): void {
    this.release()
  }

  /** Says that it sleeps, and looks once more. */
  protected sleep(): void {
    const control = this.#control
    Atomics.store(control, RingWord.ReaderWaiting, 1)
    // After saying so, or the writer might end unseen; before the last look, so that what it had committed is seen.
    const ended = Atomics.load(control, RingWord.WriterEnded)
    if (Atomics.load(control, RingWord.Head) !== this.#position) {
      if (Atomics.exchange(control, RingWord.ReaderWaiting, 0) === 1) this.ringItself()
    } else if ((ended & 1) === 1 && ended !== this.#endTold) {
      this.#endTold = ended
      this.fire('end')
    }
  }

  /** Looks at how far the writer is, and passes the end of the data. What is read there is read once, checked, and then used. */
  #nextSlowly(): number {
    if (!this.#lookForMore()) return -1
    const { words } = this
    const capacity = this.#mask + 1
    let position = this.#position
    let place = position & this.#mask
    let length = words[place >> 2] ?? 0
    if (length === PAD) {
      position = (position + capacity - place) | 0
      place = 0
      length = words[0] ?? 0
    }
    const sequence = words[(place >> 2) + 1] ?? 0
    const room = Math.min(distance(position, this.#head), capacity - place)
    if (
      distance(position, this.#head) > capacity ||
      length >>> 0 > Math.min(room, this.#maxMessage + RECORD_HEADER) - RECORD_HEADER ||
      (this.#numbered && sequence !== this.#next)
    )
      throw this.#corrupt(
        `a record of ${length} bytes with the number ${sequence >>> 0} at ${position >>> 0}`,
      )
    this.#end = (position + room) | 0
    this.#numbered = true
    return this.#accept(position, length, sequence)
  }

  #accept(position: number, length: number, sequence: number): number {
    this.#sequence = sequence
    this.#next = (sequence + 1) | 0
    this.length = length
    this.#position = (position + sizeOf(length)) | 0
    return (position & this.#mask) + HEADER
  }

  #copy(at: number): Buffer {
    const copy = copyOut(this.bytes, this.words, at, this.length)
    if (this.#losable) this.#assertIntact() // otherwise it may be zeros in the place of what was lost
    return copy
  }

  /** Looks at how far the writer is. Read once, checked, and then used. */
  #lookForMore(): boolean {
    this.assertOpen()
    if (this.#losable) this.#assertIntact()
    const head = Atomics.load(this.#control, RingWord.Head)
    if (distance(this.#position, head) > this.#mask + 1 || (head & 7) !== 0)
      throw this.#corrupt(`head is ${head >>> 0} and tail ${this.#position >>> 0}`)
    this.#head = head
    return head !== this.#position
  }

  #wakeWriter(): void {
    const control = this.#control
    const wanted = Atomics.load(control, RingWord.WriterWaiting)
    if (wanted === 0 || distance(this.#position, this.#head) > this.#mask + 1 - wanted) return
    if (Atomics.compareExchange(control, RingWord.WriterWaiting, wanted, 0) === wanted)
      eventfd.write(this.#ring.drained.fd, 1n)
  }

  #corrupt(why: string): unknown {
    if (this.#losable) this.#assertIntact() // rather than what a lost page reads as
    return this.broken(
      new ReactorError(
        'ERR_RING_CORRUPT',
        `${this.label}: ${why}, which cannot be; the writer has damaged the ring, and nothing more is read from it`,
      ),
    )
  }

  #assertIntact(): void {
    try {
      this.#ring.assertIntact()
    } catch (error) {
      throw this.broken(error)
    }
  }
}

/** Where a new reader begins. */
function resume(ring: Ring): number {
  ring.assertIntact()
  const head = Atomics.load(ring.control, RingWord.Head)
  const tail = Atomics.load(ring.control, RingWord.Tail)
  if (distance(tail, head) <= ring.capacity && ((head | tail) & 7) === 0) return tail
  throw new ReactorError(
    'ERR_RING_CORRUPT',
    `The ring cannot be read: head is ${head >>> 0} and tail ${tail >>> 0}, which cannot be; somebody has damaged it`,
  )
}
