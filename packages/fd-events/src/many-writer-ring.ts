/**
 * A ring that many write to, with its reading end: an event source, and a call for a loop of one's own.
 *
 * It reads slot after slot. A slot that is claimed by a writer whose connection has ended is given up in its place. The layout is in
 * many-writer-layout.ts, the argument for memory order in many-writer.ts.
 */
import { Buffer } from 'node:buffer'
import { ReactorError, sourceOptionChecks } from '@fd-reactor/core'
import type { FdHandle, Mapping, Reactor, SourceEvents, SourceOptions, SourceStats } from '@fd-reactor/core'
import { abortSignal, checkOptions, integer } from '@fd-reactor/core/sys'
import {
  FIRST_TICKET,
  lapOf,
  lapsAhead,
  LINE,
  MAX_SLOTS,
  MAX_WRITERS,
  ManyWriterOffset,
  MIN_SLOTS,
  ownerOf,
  SLOT_HEADER,
  slotBytesFor,
  stateOf,
  Status,
  statusOf,
} from './many-writer-layout.js'
import { MANY_WRITER_OFFER, ManyWriterWord } from './many-writer.js'
import { offerMemory, type OfferLimits, type OfferPeer } from './memory-offer.js'
import { bell, formatHeader, owning, wakeSleeper } from './ring.js'
import { MAX_CAPACITY, RingKind } from './ring-layout.js'
import { RingPeer } from './ring-peer.js'
import { AGAIN, NOTHING, RingSource } from './ring-source.js'
import { SharedMemory } from './shared-memory.js'
import { duration } from './socket-limits.js'

/** The events of a {@link ManyWriterRing}. */
export interface ManyWriterRingEvents extends SourceEvents {
  /** A message, and the number of its writer. */
  message: [bytes: Buffer, writer: number]
  /** In the place of a message: one that a writer had claimed and given up, or not committed when it ended. */
  abandoned: [writer: number]
}

/** Options of a {@link ManyWriterRing}. */
export interface ManyWriterRingOptions extends SourceOptions {
  /** The longest message in bytes; each slot is as long, with 8 bytes more, rounded up to a multiple of 64. Default 248. */
  maxMessage?: number
  /** How many messages there is room for, rounded up to a power of two: 16 … 65,536. Default 4096. All slots together: at most 1 GiB. */
  slots?: number
}

/** The statistics of a {@link ManyWriterRing}. */
export interface ManyWriterRingStats extends SourceStats {
  /** Messages that were read. */
  received: number
  /** Slots that were claimed and given up, by their writer or because it had ended. */
  abandoned: number
  /** How many writers there are. */
  writers: number
  /** How often a writer had to be woken by a system call. */
  rung: number
}

const CHECKS = {
  ...sourceOptionChecks,
  maxMessage: integer(1, MAX_CAPACITY / MIN_SLOTS - LINE),
  slots: integer(1, MAX_SLOTS),
}
const LIMIT_CHECKS = { timeout: duration, signal: abortSignal }
const DEFAULT_MESSAGE = 248
const DEFAULT_SLOTS = 4096

/** What the ring holds of one writer. */
interface Place {
  bell: FdHandle
}

/**
 * A ring of slots that up to 63 processes and threads write to, and one reads: the one that makes it.
 *
 * Each message takes a slot, however short it is. Messages are copies. As an event source it delivers in bounded batches and frees the slots of
 * a batch when their handlers have returned (with `for await`: when they are buffered). In a loop of one's own, `read()` gives the next message.
 * Use one or the other.
 *
 * Guaranteed: each committed message is delivered whole, once, in the order of claims, that of each writer in the order of its writes; across
 * threads and processes, and when writers are killed at any moment: one that was killed between claim and commit holds the ring up only until the
 * kernel has closed its connection; its slot is passed over, told by `'abandoned'` and counted. Whatever a hostile writer stores, nothing is
 * read outside of the ring: it ends with `ERR_RING_CORRUPT`. Not guaranteed: that a hostile writer leaves the others' messages alone, or that its
 * messages name it; that a living writer commits what it claimed; anything after the death of this process, or a power failure.
 *
 * @throws ReactorError `ERR_RING_CORRUPT`, as an event, or by `read()`; SystemError `EMFILE`, `ENOMEM`.
 * @throws TypeError, RangeError for options that do not exist or are out of range.
 * @example
 * import { once, Reactor } from '@fd-reactor/core'
 * import { ManyWriter, ManyWriterRing, UnixSeqpacketListener } from '@fd-reactor/fd-events'
 * using reactor = new Reactor()
 * const ring = new ManyWriterRing(reactor, { maxMessage: 120, slots: 256 })
 * const address = { abstract: 'example-many-writers' }
 * const writers = []
 * UnixSeqpacketListener.listen(reactor, address).on('connection', async (connection) => {
 *   writers.push(await ManyWriter.accept(reactor, connection)) // in real life: in other processes
 * })
 * await ring.offer(address)
 * await ring.offer(address)
 * writers[0].write(Buffer.from('from one'))
 * writers[1].write(Buffer.from('from two'))
 * for await (const [bytes, writer] of ring) {
 *   console.log(`${bytes} ${writer}`) // from one 1
 *   break
 * }
 * console.log(String(ring.read())) // from two
 * @see the layout, src/many-writer-layout.ts
 */
export class ManyWriterRing extends RingSource<ManyWriterRingEvents> {
  /** The longest message in bytes. */
  readonly maxMessage: number
  /** How many messages there is room for. */
  readonly slots: number
  readonly #memory: SharedMemory
  readonly #mapping: Mapping
  readonly #filled: FdHandle
  readonly #control: Int32Array
  readonly #words: Int32Array
  readonly #bytes: Buffer
  readonly #slotBytes: number
  readonly #shift: number
  readonly #places = new Map<number, Place>()
  readonly #peers = new Set<RingPeer>()
  #ticket = FIRST_TICKET
  /** From here on, slots that were read are not free yet. */
  #released = FIRST_TICKET
  #writer = 0
  #received = 0
  #abandoned = 0
  #rung = 0

  /** Makes an empty ring without writers. */
  constructor(reactor: Reactor, options: ManyWriterRingOptions = {}) {
    checkOptions('ManyWriterRing', options, CHECKS)
    options.signal?.throwIfAborted()
    const { maxMessage = DEFAULT_MESSAGE, slots = DEFAULT_SLOTS } = options
    const slotBytes = slotBytesFor(maxMessage)
    const count = Math.max(MIN_SLOTS, 2 ** Math.ceil(Math.log2(slots)))
    if (count * slotBytes > MAX_CAPACITY)
      throw new RangeError(`ManyWriterRing: ${count} slots of ${slotBytes} bytes are more than 1 GiB`)
    const { memory, mapping, filled } = owning((own) => {
      const memory = own(SharedMemory.create(ManyWriterOffset.Slots + count * slotBytes))
      return { memory, mapping: own(memory.map()), filled: bell() }
    })
    try {
      super(reactor, filled, options)
    } catch (error) {
      mapping.unmap()
      memory.close()
      throw error
    }
    this.#memory = memory
    this.#mapping = mapping
    this.#filled = filled
    this.maxMessage = slotBytes - SLOT_HEADER
    this.slots = count
    this.#slotBytes = slotBytes
    this.#shift = Math.log2(count)
    this.#control = new Int32Array(mapping.buffer, 0, ManyWriterOffset.Slots / 4)
    this.#words = new Int32Array(mapping.buffer, ManyWriterOffset.Slots)
    this.#bytes = Buffer.from(mapping.buffer, ManyWriterOffset.Slots)
    this.#control[ManyWriterWord.SlotBytes] = slotBytes
    this.#control[ManyWriterWord.Head] = FIRST_TICKET
    for (let slot = 0; slot < count; slot++) this.#free(FIRST_TICKET + slot)
    formatHeader(this.#control, RingKind.ManyWriters, count * slotBytes)
  }

  /** Its writers. */
  get writers(): readonly RingPeer[] {
    return [...this.#peers]
  }

  /** The number of the writer of the message that `read()` gave last. */
  get writer(): number {
    return this.#writer
  }

  /** Its statistics. */
  override get stats(): ManyWriterRingStats {
    const counts = { received: this.#received, abandoned: this.#abandoned, rung: this.#rung }
    return { ...super.stats, ...counts, writers: this.#peers.size }
  }

  /**
   * Adds a writer, which calls `ManyWriter.accept()`. `to` is an address to connect to, or a connection over a Unix socket of packets, which is
   * used up. When the connection ends, what the writer had claimed and not committed is given up, and its number may go to another.
   * @throws ReactorError `ERR_RING_FULL` when there are 63 writers; `ERR_HANDSHAKE`, `ERR_TIMEOUT`, `ERR_CLOSED`; SystemError as connecting, `EMFILE`, `ENOMEM`.
   */
  async offer(to: OfferPeer, limits: OfferLimits = {}): Promise<RingPeer> {
    checkOptions('ManyWriterRing.offer', limits, LIMIT_CHECKS)
    this.assertOpen()
    const id = this.#freeNumber()
    const place = { bell: bell() }
    this.#places.set(id, place)
    try {
      const fds = [this.#memory.handle, this.#filled, place.bell]
      const connection = await offerMemory(this.reactor, to, MANY_WRITER_OFFER, fds, limits, { writer: id })
      if (this.closed) connection.close()
      this.assertOpen()
      const peer = new RingPeer(this.reactor, id, connection, () => {
        this.#peers.delete(peer)
        this.#leave(id, place)
      })
      this.#peers.add(peer)
      return peer
    } catch (error) {
      this.#leave(id, place) // it may have accepted, and claimed something, all the same
      throw error
    }
  }

  /**
   * The next message as a Buffer of its own; undefined when there is none.
   * @throws ReactorError `ERR_RING_CORRUPT`, which closes the ring; `ERR_CLOSED`.
   */
  read(): Buffer | undefined {
    const kept = this.takeKeptMessage()
    if (kept !== undefined) {
      this.#writer = kept[1]
      return kept[0]
    }
    this.assertOpen()
    const word = this.#find()
    const message = word < 0 ? undefined : this.#take(word)
    this.acknowledge()
    if (message === undefined) this.#wakeWriters()
    return message
  }

  /** Ends it; its writers are told that it is gone. Idempotent. */
  override close(): void {
    if (this.closed) return
    try {
      super.close()
    } finally {
      for (const peer of this.writers) peer.close()
      this.#mapping.unmap()
      this.#memory.close()
    }
  }

  /** `for await (const [bytes, writer] of ring)`, until it is closed. */
  [Symbol.asyncIterator](): AsyncGenerator<[bytes: Buffer, writer: number], undefined, undefined> {
    return this.events('message')
  }

  protected deliverNext(): number {
    const word = this.#find()
    if (word < 0) return NOTHING
    if (!this.flowing) return AGAIN // since 'abandoned'
    const message = this.#take(word)
    this.fire('message', message, this.#writer)
    return message.length
  }

  /** Frees the slots that were read, and wakes writers once half of all are free. */
  protected acknowledge(): void {
    const from = this.#released
    const to = this.#ticket
    if (from === to) return
    for (let ticket = from; ticket !== to; ticket = (ticket + 1) | 0) {
      // Whoever claimed it may have died before it moved head, and nobody may find a slot of the next lap there.
      if (Atomics.load(this.#control, ManyWriterWord.Head) === ticket)
        Atomics.compareExchange(this.#control, ManyWriterWord.Head, ticket, (ticket + 1) | 0)
      this.#free((ticket + this.slots) | 0)
    }
    this.#released = to
    const used = (Atomics.load(this.#control, ManyWriterWord.Head) - to) >>> 0
    if (used <= this.slots / 2) this.#wakeWriters()
  }

  protected sleep(): void {
    this.#wakeWriters()
    Atomics.store(this.#control, ManyWriterWord.ReaderWaiting, 1)
    if (this.#isNext(Atomics.load(this.#words, this.#wordOf(this.#ticket))))
      wakeSleeper(this.#control, ManyWriterWord.ReaderWaiting, this.fd)
  }

  /** A ticket's slot is its own, and the message that was there before is gone. */
  #free(ticket: number): void {
    Atomics.store(this.#words, this.#wordOf(ticket), stateOf(lapOf(ticket, this.#shift), 0, Status.Free))
  }

  /** Whether a slot in this state has something for the reader to do. */
  #isNext(state: number): boolean {
    const status = statusOf(state)
    if (status === Status.Claimed) return !this.#places.has(ownerOf(state))
    return status !== Status.Free || this.#skipped(state)
  }

  /** Whether `head` has passed a free slot. */
  #skipped(state: number): boolean {
    const head = Atomics.load(this.#control, ManyWriterWord.Head)
    return lapsAhead(state, this.#ticket, this.#shift) === 0 && ((head - this.#ticket) | 0) > 0
  }

  /** Passes over what was given up, and returns the word where the next message's slot begins. */
  #find(): number {
    for (let passed = 0; passed < this.slots && !this.closed;) {
      if (((this.#ticket - this.#released) | 0) >= this.slots) this.acknowledge() // once round
      const word = this.#wordOf(this.#ticket)
      const state = Atomics.load(this.#words, word)
      const status = statusOf(state)
      if (lapsAhead(state, this.#ticket, this.#shift) !== 0)
        throw this.#corrupt(`slot ${word} has state ${state >>> 0} at ${this.#ticket >>> 0}`)
      if (status === Status.Committed) return word
      if (status === Status.Abandoned) {
        passed++
        this.#pass(ownerOf(state))
      } else if (!this.#isNext(state)) return NOTHING
      else this.#giveUp(word, state)
    }
    return NOTHING
  }

  #take(word: number): Buffer {
    const length = this.#words[word + 1] ?? 0
    if (length >>> 0 > this.maxMessage)
      throw this.#corrupt(`a message of ${length} bytes at ${this.#ticket >>> 0}`)
    const begin = word * 4 + SLOT_HEADER
    const message = Buffer.allocUnsafe(length)
    message.set(this.#bytes.subarray(begin, begin + length))
    this.#writer = ownerOf(this.#words[word] ?? 0)
    this.#ticket = (this.#ticket + 1) | 0
    this.#received++
    return message
  }

  #pass(writer: number): void {
    this.#ticket = (this.#ticket + 1) | 0
    this.#abandoned++
    this.fire('abandoned', writer)
  }

  /** In the place of a writer that is dead; one that is not finds out when it commits. */
  #giveUp(word: number, state: number): void {
    Atomics.compareExchange(this.#words, word, state, (state & ~3) | Status.Abandoned)
  }

  /** A writer has ended: everything that it had claimed is given up before its number goes to another. */
  #leave(id: number, place: Place): void {
    place.bell.close()
    if (!this.closed) {
      for (let slot = 0; slot < this.slots; slot++) {
        const word = (slot * this.#slotBytes) >> 2
        const state = Atomics.load(this.#words, word)
        if (statusOf(state) === Status.Claimed && ownerOf(state) === id) this.#giveUp(word, state)
      }
      Atomics.store(this.#control, this.#waitingOf(id), 0)
      this.ringItself() // it may have been killed before it rang
    }
    this.#places.delete(id)
  }

  /** Those that sleep until there is room. */
  #wakeWriters(): void {
    if (Atomics.load(this.#control, ManyWriterWord.RoomWanted) === 0) return
    Atomics.exchange(this.#control, ManyWriterWord.RoomWanted, 0)
    for (const [id, { bell }] of this.#places)
      if (wakeSleeper(this.#control, this.#waitingOf(id), bell.fd)) this.#rung++
  }

  #freeNumber(): number {
    for (let id = 1; id <= MAX_WRITERS; id++) if (!this.#places.has(id)) return id
    throw new ReactorError(
      'ERR_RING_FULL',
      `${this.label}: it has ${MAX_WRITERS} writers already; close one of them`,
    )
  }

  #waitingOf(id: number): number {
    return ManyWriterWord.WriterWaiting + (id * LINE) / 4
  }

  #wordOf(ticket: number): number {
    return ((ticket & (this.slots - 1)) * this.#slotBytes) >> 2
  }

  #corrupt(why: string): unknown {
    const what = `${this.label}: ${why}, which cannot be; a writer has damaged the ring, and nothing more is read from it`
    return this.broken(new ReactorError('ERR_RING_CORRUPT', what))
  }
}
