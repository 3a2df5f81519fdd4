/**
 * The writing end of a ring.
 *
 * A message is copied into the data, or written there by the caller between `claim()` and `commit()`. Committing is one store and one
 * look at whether the reader sleeps. It is a source for the sake of one event: that there is room again.
 *
 * Memory order: the message is stored with plain stores, then `head` with a sequentially consistent one, which is a release; the reader
 * loads `head` with an acquire before it looks at the message. On x86-64 the store is `xchg`, and stores are not reordered
 * anyway; on arm64 it is `stlr`, behind which no earlier store can be seen missing. Room is used again only after `tail` was loaded, an
 * acquire (`ldar`), before which the reader has released it with its own `stlr` after its last load. So no plain access of one side
 * overlaps one of the other. Sleeping needs more: head must be stored before `ReaderWaiting` is loaded, and the other way round on the other side.
 * That is the one reordering which even x86-64 does; `xchg` and the pair `stlr`, `ldar` forbid it.
 */
import { Drain, Interest, ReactorError, Source, sourceOptionChecks } from '@fd-reactor/core'
import type { Reactor, SourceEvents, SourceOptions, SourceStats } from '@fd-reactor/core'
import { checkOptions, eventfd } from '@fd-reactor/core/sys'
import { backlogChecks, RingBacklog, type BacklogOptions } from './ring-backlog.js'
import { RingWord, type Ring } from './ring.js'
import { distance, PAD, recordBytes, RECORD_HEADER, spaceFor, wantedRoom } from './ring-layout.js'

/** The events of a {@link RingWriter}. */
export interface RingWriterEvents extends SourceEvents {
  /** After `write()` returned false or `claim()` −1: what waited is in the ring, and half of it is free, or as much as was asked for. */
  drain: []
}

/** Options of a {@link RingWriter}. */
export interface RingWriterOptions extends SourceOptions, BacklogOptions {}

/** A ring writer's statistics. */
export interface RingWriterStats extends SourceStats {
  /** Messages that were committed by this writer. */
  written: number
  /** Messages that were dropped (`onFull: 'drop'`). */
  dropped: number
  /** Messages that wait here. */
  queued: number
  /** How often the reader had to be woken by a system call. */
  rung: number
}

const CHECKS = { ...sourceOptionChecks, ...backlogChecks }
/** For the hot path: V8 loads and checks an import each time it is used. */
const HEADER = RECORD_HEADER
const sizeOf = recordBytes
/** Up to here a loop is quicker than `set()`. */
const SMALL_BYTES = 32

/**
 * Writes messages into a ring, of which it is the only writer.
 *
 * Guaranteed: messages arrive whole, in order, each with the next sequence number (modulo 2^32), also when a new writer goes on after one
 * that was killed; a message is in the ring once it is committed, and is neither lost nor changed by the death of this process; the reader is
 * woken if it sleeps. What was claimed and not committed when a writer ends never was. Not guaranteed: that what waits here
 * (`stats.queued`) survives this process; anything after a power failure; that there is only one writer, which is for the caller to see to.
 *
 * @throws ReactorError `ERR_RING_CORRUPT` when the ring's words contradict each other; SystemError `EMFILE`.
 * @throws TypeError, RangeError for options that do not exist or are out of range.
 * @example
 * import { Reactor } from '@fd-reactor/core'
 * import { Ring, RingReader, RingWriter } from '@fd-reactor/fd-events'
 * using reactor = new Reactor()
 * using ring = Ring.create()
 * const writer = new RingWriter(reactor, ring)
 * for (let i = 1; i <= 3; i++) {
 *   const at = writer.claim(8) // where the message begins in `bytes` and, in words, in `words`
 *   writer.words[at / 4] = i
 *   writer.words[at / 4 + 1] = i * i
 * }
 * writer.commit() // three messages at once
 * const reader = new RingReader(reactor, ring)
 * let sum = 0
 * for (let at = reader.next(); at >= 0; at = reader.next()) sum += reader.words[at / 4 + 1]
 * reader.release()
 * console.log(sum) // 14
 * @see the layout, src/ring-layout.ts
 */
export class RingWriter extends Source<RingWriterEvents> {
  /** The ring's data: what `claim()` gives a place in. */
  readonly bytes: Buffer
  /** The same data as 32-bit words; divide a place by 4. */
  readonly words: Int32Array
  readonly #ring: Ring
  readonly #control: Int32Array
  readonly #losable: boolean
  readonly #mask: number
  readonly #maxMessage: number
  #committed: number
  #claimed: number
  /** Up to here there is room for messages side by side; whoever needs more, or must not have it, takes the slow way: `#claimed` when closed. */
  #limit: number
  #sequence: number
  /** What `#sequence` was at the last commit. */
  #numbered: number
  #mark: number
  #written = 0
  #rung = 0
  readonly #backlog: RingBacklog
  /** How many bytes must be free before it goes on; 0 when nothing was refused since. */
  #wanted = 0
  #armed = false
  /** While the queue goes into the ring: what fails then is an event, and a claim may take what others wait for. */
  #flushing = false

  /** Takes the place of the ring's writer: goes on where the last one committed. */
  constructor(reactor: Reactor, ring: Ring, options: RingWriterOptions = {}) {
    checkOptions('RingWriter', options, CHECKS)
    options.signal?.throwIfAborted()
    const { head, sequence, mark } = resume(ring)
    super(reactor, ring.drained.duplicate(), { drain: Drain.Counter, interest: Interest.In }, options)
    this.#ring = ring
    this.#control = ring.control
    this.bytes = ring.bytes
    this.words = ring.words
    this.#backlog = new RingBacklog(options)
    this.#losable = ring.losable
    this.#mask = ring.capacity - 1
    this.#maxMessage = ring.maxMessage
    this.#committed = this.#claimed = this.#limit = head
    this.#sequence = this.#numbered = sequence
    this.#mark = mark
    this.#control[RingWord.WriterWaiting] = 0
    Atomics.store(
      this.#control,
      RingWord.WriterEnded,
      (Atomics.load(this.#control, RingWord.WriterEnded) | 1) + 1,
    )
    ring.ends.add(this)
    eventfd.write(ring.filled.fd, 1n) // the last one may have been killed when it was about to
  }

  /** The sequence number of the next message. */
  get sequence(): number {
    return this.#sequence >>> 0
  }

  /** Its statistics. */
  override get stats(): RingWriterStats {
    const { label, fd, priority, interest, ref, events } = super.stats
    const counts = {
      written: this.#written,
      dropped: this.#backlog.dropped,
      queued: this.#backlog.length,
      rung: this.#rung,
    }
    return { label, fd, priority, interest, ref, events, ...counts }
  }

  /**
   * Copies a message into the ring and commits it, together with what was claimed before. False when it did not go there, because there is
   * no room or others wait: then `onFull` decides, and `'drain'` follows.
   * @throws ReactorError `ERR_MESSAGE_TOO_LARGE`, `ERR_RING_FULL`, `ERR_RING_CORRUPT`, `ERR_CLOSED`; TypeError.
   */
  write(message: Uint8Array): boolean {
    if (!(message instanceof Uint8Array)) throw new TypeError('write() takes a Uint8Array')
    const { length } = message
    const at = this.#backlog.length > 0 ? this.#noRoom(length) : this.claim(length)
    if (at < 0) return this.#full(message)
    this.#fill(at, message)
    this.commit()
    return true
  }

  /**
   * Takes room for a message of `length` bytes and returns where it begins in `bytes`, a multiple of 8; −1 when there is none. It is not in the
   * ring before `commit()`, which every `write()` does, too. Nothing may be stored outside of it, nor after the commit. `'drain'` follows only
   * if what was claimed before is committed: it takes room itself.
   * @throws ReactorError `ERR_MESSAGE_TOO_LARGE`, `ERR_RING_CORRUPT`, `ERR_CLOSED`.
   */
  claim(length: number): number {
    const position = this.#claimed
    // Unsigned: a negative or a fractional length, too.
    if (length >>> 0 !== length || length > ((this.#limit - position) | 0) - HEADER)
      return this.#claimSlowly(length)
    const place = position & this.#mask
    const sequence = this.#sequence | 0 // without `| 0`, it goes through a double
    const { words } = this
    words[place >> 2] = length
    words[(place >> 2) + 1] = sequence
    this.#sequence = (sequence + 1) | 0
    this.#claimed = (position + sizeOf(length)) | 0
    return place + HEADER
  }

  /** Commits what was claimed: the reader sees all of it from now on, and is woken if it sleeps. @throws ReactorError `ERR_CLOSED`. */
  commit(): void {
    const position = this.#claimed
    if (position === this.#committed) return this.assertOpen()
    const control = this.#control
    control[this.#mark] = position
    control[this.#mark + 1] = this.#sequence
    this.#mark = RingWord.Mark0Position + RingWord.Mark1Position - this.#mark
    this.#written += (this.#sequence - this.#numbered) >>> 0
    this.#numbered = this.#sequence
    this.#committed = position
    Atomics.store(control, RingWord.Head, position)
    if (Atomics.load(control, RingWord.ReaderWaiting) !== 0) this.#ringReader()
  }

  /** No message follows: the reader tells `'end'` once it has read what is there. What waits here, or is not committed, is gone. Idempotent. */
  override close(): void {
    if (this.closed) return
    this.#claimed = this.#limit = this.#committed
    this.#backlog.clear()
    this.#ring.ends.delete(this)
    Atomics.store(this.#control, RingWord.WriterEnded, Atomics.load(this.#control, RingWord.WriterEnded) | 1)
    this.#ringReader()
    super.close()
  }

  protected get consumerEvents(): readonly string[] {
    return ['drain']
  }

  protected override get keepsSomething(): boolean {
    return this.#wanted > 0 && !this.#armed
  }

  protected override wantedInterest(): number {
    return this.#backlog.length > 0 ? Interest.In : super.wantedInterest()
  }

  onRecord(): void {
    this.#armed = false
    this.emitKept()
  }

  override onSettle(): void {
    this.#armed = false
  }

  /** Puts what waits into the ring, tells of room, or goes to sleep again. */
  protected override emitKept(): void {
    if (this.closed || this.#armed || this.#wanted === 0) return
    this.#flushing = true
    try {
      if (!this.#flushBacklog() || !this.#hasRoom()) return this.#arm()
    } catch (error) {
      return this.fail(error instanceof Error ? error : new Error(String(error)))
    } finally {
      this.#flushing = false
    }
    if (!this.flowing) return
    this.#wanted = 0
    this.fire('drain')
  }

  #fill(at: number, message: Uint8Array): void {
    const { length } = message
    const { bytes } = this
    if (length > SMALL_BYTES) bytes.set(message, at)
    else for (let index = 0; index < length; index++) bytes[at + index] = message[index] ?? 0
  }

  /** Looks at how far the reader is, and passes the end of the data. */
  #claimSlowly(length: number): number {
    this.assertOpen()
    if (length >>> 0 !== length || length > this.#maxMessage) throw this.#tooLarge(length)
    const capacity = this.#mask + 1
    const size = recordBytes(length)
    const space = spaceFor(this.#claimed & this.#mask, size, capacity)
    const free = capacity - this.#used()
    if (space > free || (this.#backlog.length > 0 && !this.#flushing)) {
      this.#wanted = wantedRoom(space, capacity)
      if (this.flowing) this.#arm()
      return -1
    }
    if (space !== size) {
      this.words[(this.#claimed & this.#mask) >> 2] = PAD
      this.#claimed = (this.#claimed + space - size) | 0
    }
    const room = Math.min(free - space + size, capacity - (this.#claimed & this.#mask))
    this.#limit = (this.#claimed + Math.min(room, this.#maxMessage + RECORD_HEADER)) | 0
    return this.claim(length)
  }

  /** How many bytes are taken. `tail` is read once, checked, and then used: it may be anything. */
  #used(): number {
    if (this.#losable) this.#assertIntact()
    const tail = Atomics.load(this.#control, RingWord.Tail)
    const used = distance(tail, this.#claimed)
    if (used <= this.#mask + 1 && (tail & 7) === 0) return used
    if (this.#losable) this.#assertIntact() // rather than what a lost page reads as
    throw this.#broken(
      new ReactorError(
        'ERR_RING_CORRUPT',
        `${this.label}: tail is ${tail >>> 0}, which cannot be; the reader has damaged the ring`,
      ),
    )
  }

  #noRoom(length: number): -1 {
    this.assertOpen()
    if (length > this.#maxMessage) throw this.#tooLarge(length)
    return -1
  }

  #full(message: Uint8Array): boolean {
    const refusal = (waiting: string): Error =>
      new ReactorError(
        'ERR_RING_FULL',
        `${this.label}: the ring of ${this.#ring.capacity} bytes has no room for ${message.length} more${waiting}. Go on at 'drain'`,
      )
    if (!this.#backlog.take(message, refusal)) return false
    this.#limit = this.#claimed // no claim may overtake it
    if (this.#wanted === 0) this.#wanted = wantedRoom(0, this.#mask + 1)
    this.update()
    if (!this.#armed) this.#arm()
    return false
  }

  /** False when something still waits. */
  #flushBacklog(): boolean {
    const sent = this.#backlog.flush((message) => {
      const at = this.claim(message.length)
      if (at >= 0) this.#fill(at, message)
      return at >= 0
    })
    if (sent > 0) {
      this.commit()
      this.update()
    }
    if (this.#backlog.length > 0) this.#limit = this.#claimed
    return this.#backlog.length === 0
  }

  #hasRoom(): boolean {
    return this.#used() <= this.#mask + 1 - this.#wanted
  }

  /** Says that it sleeps, and looks once more. */
  #arm(): void {
    this.#armed = true
    Atomics.store(this.#control, RingWord.WriterWaiting, this.#wanted)
    if (this.#hasRoom() && Atomics.exchange(this.#control, RingWord.WriterWaiting, 0) !== 0)
      eventfd.write(this.fd, 1n)
  }

  #ringReader(): void {
    if (Atomics.exchange(this.#control, RingWord.ReaderWaiting, 0) !== 1) return
    this.#rung++
    eventfd.write(this.#ring.filled.fd, 1n)
  }

  #tooLarge(length: number): Error {
    if (!Number.isInteger(length) || length < 0)
      return new RangeError(`${this.label}: a message has 0 to ${this.#maxMessage} bytes, not ${length}`)
    return new ReactorError(
      'ERR_MESSAGE_TOO_LARGE',
      `${this.label}: a message of ${length} bytes does not fit: the ring of ${this.#ring.capacity} bytes takes up to ` +
        `${this.#maxMessage}. Make one with a capacity of at least ${2 * (length + RECORD_HEADER)}`,
    )
  }

  #assertIntact(): void {
    try {
      this.#ring.assertIntact()
    } catch (error) {
      throw this.#broken(error)
    }
  }

  #broken(error: unknown): unknown {
    if (!this.#flushing) this.close()
    return error
  }
}

/** Where a new writer begins: the mark whose position is `head` has the sequence number. */
function resume(ring: Ring): { head: number; sequence: number; mark: number } {
  ring.assertIntact()
  const { control, capacity } = ring
  const head = Atomics.load(control, RingWord.Head)
  const tail = Atomics.load(control, RingWord.Tail)
  const marks = [RingWord.Mark0Position, RingWord.Mark1Position]
  const current = marks.find((mark) => control[mark] === head)
  if (current === undefined || distance(tail, head) > capacity || ((head | tail) & 7) !== 0) {
    throw new ReactorError(
      'ERR_RING_CORRUPT',
      `The ring cannot be written to: head is ${head >>> 0} and tail ${tail >>> 0}, which cannot be; somebody has damaged it`,
    )
  }
  const mark = marks.find((each) => each !== current) ?? current
  return { head, sequence: control[current + 1] ?? 0, mark }
}
