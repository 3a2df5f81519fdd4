/**
 * One of the writing ends of a ring with many writers.
 *
 * A claim is one compare-and-swap of the slot that `head` points to, from FREE(lap) to CLAIMED(lap, me); then `head` is helped forward by
 * another, by the claimer or by whoever finds the slot taken. A writer that is killed anywhere has either claimed nothing, or a slot that
 * names it, which the reader gives up for it once the kernel has closed its connection.
 *
 * Memory order: all accesses of `state`, `head` and the waiting words are sequentially consistent. A message is stored plainly before the
 * swap to COMMITTED, a release, and loaded by the reader after it has loaded that state, an acquire; it is stored after the swap to CLAIMED
 * saw FREE, which the reader has stored, a release, after its last load of the message before. On x86-64 these are `lock cmpxchg`, `xchg`
 * and plain loads; on arm64 `casal` (or `ldaxr`, `stlxr`), `stlr` and `ldar`. Sleeping is argued as in ring-writer.ts: a writer commits and then
 * loads `ReaderWaiting`, the reader stores that and then loads the state; a writer stores its waiting word, then `RoomWanted`, then loads the
 * state at `head`; the reader frees, then takes `RoomWanted`, then looks at all waiting words.
 *
 * Old values: a writer may sleep between loading FREE(lap) and its swap until that lap, modulo 2^22, comes round again (at least 2^26 messages,
 * with 1024 slots or more 2^32), and find exactly this one. Its swap still takes a slot that is free, names it, and is read in its turn,
 * after the slots before it were claimed: nothing is lost or torn, only this one message comes late. `head` may be moved by one that slept for
 * exactly 2^32 messages; the reader sees a free slot behind `head`, which cannot be otherwise, and gives it up as if its writer had died.
 */
import { Buffer } from 'node:buffer'
import { Drain, Interest, ReactorError, Source, sourceOptionChecks } from '@fd-reactor/core'
import type { FdHandle, Mapping, Reactor, SourceEvents, SourceStats } from '@fd-reactor/core'
import { checkOptions } from '@fd-reactor/core/sys'
import { eventFdInfo } from './event-fd.js'
import {
  lapOf,
  lapsAhead,
  LINE,
  MAX_SLOTS,
  MAX_WRITERS,
  ManyWriterOffset,
  MIN_SLOTS,
  SLOT_HEADER,
  stateOf,
  Status,
  statusOf,
} from './many-writer-layout.js'
import {
  acceptMemory,
  offeredNumber,
  type OfferHead,
  type OfferKind,
  type OfferLimits,
  type OfferPeer,
} from './memory-offer.js'
import { checkedHeader, layoutError, owning, wakeSleeper } from './ring.js'
import { RING_VERSION, RingKind } from './ring-layout.js'
import { backlogChecks, RingBacklog } from './ring-backlog.js'
import { watchPeer } from './ring-peer.js'
import type { RingWriterOptions } from './ring-writer.js'
import { SharedMemory } from './shared-memory.js'
import { duration } from './socket-limits.js'
import type { UnixSeqpacket } from './unix-seqpacket.js'

/** The events of a {@link ManyWriter}. */
export interface ManyWriterEvents extends SourceEvents {
  /** After `write()` returned false or `claim()` −1: what waited is in the ring, and there is room. */
  drain: []
  /** The reader has ended, however it did; `'close'` follows. What it had not read is gone. */
  gone: []
}

/** Options of {@link ManyWriter.accept}. `signal` gives up the handshake, and closes the writer later. */
export interface ManyWriterOptions extends RingWriterOptions, OfferLimits {}

/** A writer's statistics. */
export interface ManyWriterStats extends SourceStats {
  /** Messages that were committed by this writer. */
  written: number
  /** Messages that were dropped (`onFull: 'drop'`). */
  dropped: number
  /** Messages that wait here. */
  queued: number
  /** How often the reader had to be woken by a system call. */
  rung: number
}

/** The words as indices of an Int32Array. */
export const ManyWriterWord = {
  SlotBytes: ManyWriterOffset.SlotBytes / 4,
  Head: ManyWriterOffset.Head / 4,
  ReaderWaiting: ManyWriterOffset.ReaderWaiting / 4,
  RoomWanted: ManyWriterOffset.RoomWanted / 4,
  WriterWaiting: ManyWriterOffset.WriterWaiting / 4,
} as const
/** What a writer is offered: the memory, the reader's doorbell, its own; and its number. */
export const MANY_WRITER_OFFER: OfferKind = { name: 'many-writer', version: RING_VERSION, fds: 3 }

const WHAT = 'ring of many writers'
const CHECKS = { ...sourceOptionChecks, ...backlogChecks, timeout: duration }
/** Each means that another writer was faster, or that somebody scribbles. */
const TRIES = 100_000

/** What a writer is made of; it owns all of it. */
interface Parts {
  memory: SharedMemory
  mapping: Mapping
  filled: FdHandle
  bell: FdHandle
  slotBytes: number
  count: number
  id: number
}

/**
 * Writes messages into a ring that others write to as well: the processes and threads that a `ManyWriterRing` was offered to.
 *
 * A message is copied into a slot, or written there by the caller between `claim()` and `commit()`. The order of messages is that of
 * their claims; a slot that is claimed and not committed holds up those behind it.
 *
 * Guaranteed: what was committed is delivered whole, once, in the order in which this writer claimed it, as long as the reader lives; this writer's
 * death at any moment neither stops the ring nor changes what it had committed; what it had claimed and not committed never was, and is counted by
 * the reader. Not guaranteed: anything after the reader's death, or a power failure; that what waits here (`stats.queued`) survives this
 * process; that a hostile writer leaves the others' messages alone: all of them can write to all of the memory.
 *
 * @throws ReactorError `ERR_MESSAGE_TOO_LARGE`, `ERR_RING_FULL`, `ERR_RING_CORRUPT`, `ERR_CLOSED`.
 * @example
 * import { once, Reactor } from '@fd-reactor/core'
 * import { ManyWriter, ManyWriterRing, UnixSeqpacketListener } from '@fd-reactor/fd-events'
 * using reactor = new Reactor()
 * const ring = new ManyWriterRing(reactor)
 * const address = { abstract: 'example-many-writer' }
 * let writer
 * UnixSeqpacketListener.listen(reactor, address).on('connection', async (connection) => {
 *   writer = await ManyWriter.accept(reactor, connection) // in real life: many, in other processes
 * })
 * await ring.offer(address)
 * const at = writer.claim(4) // where the message begins in `bytes`
 * writer.bytes.writeInt32LE(42, at)
 * writer.commit()
 * const [bytes, id] = await once(ring, 'message')
 * console.log(bytes.readInt32LE(), id === writer.id) // 42 true
 * @see the layout, src/many-writer-layout.ts
 */
export class ManyWriter extends Source<ManyWriterEvents> {
  /** The memory of the slots: what `claim()` gives a place in. */
  readonly bytes: Buffer
  /** Its number among the ring's writers, as it comes with its messages. */
  readonly id: number
  /** The longest message in bytes. */
  readonly maxMessage: number
  readonly #parts: Parts
  readonly #control: Int32Array
  readonly #words: Int32Array
  readonly #slotBytes: number
  readonly #mask: number
  readonly #shift: number
  readonly #waiting: number
  readonly #backlog: RingBacklog
  /** The tickets that were claimed and not committed. */
  readonly #claims: number[] = []
  #connection: UnixSeqpacket | undefined
  #written = 0
  #rung = 0
  /** Whether something was refused since 'drain'. */
  #wanted = false
  #armed = false

  private constructor(reactor: Reactor, parts: Parts, options: RingWriterOptions) {
    super(reactor, parts.bell, { drain: Drain.Counter, interest: Interest.In }, options)
    const { mapping, slotBytes, count, id } = parts
    this.#parts = parts
    this.id = id
    this.maxMessage = slotBytes - SLOT_HEADER
    this.bytes = Buffer.from(mapping.buffer, ManyWriterOffset.Slots, count * slotBytes)
    this.#control = new Int32Array(mapping.buffer, 0, ManyWriterOffset.Slots / 4)
    this.#words = new Int32Array(mapping.buffer, ManyWriterOffset.Slots, (count * slotBytes) / 4)
    this.#slotBytes = slotBytes
    this.#mask = count - 1
    this.#shift = Math.log2(count)
    this.#waiting = ManyWriterWord.WriterWaiting + (id * LINE) / 4
    this.#backlog = new RingBacklog(options)
  }

  /**
   * Takes what `ManyWriterRing.offer()` offers. `from` is an address to connect to, or a connection over a Unix socket of packets, which is used
   * up. The memory that comes is checked before it is used.
   * @throws ReactorError `ERR_HANDSHAKE`, `ERR_TIMEOUT`, `ERR_SHARED_LAYOUT`; SystemError as connecting, `EMFILE`, `ENOMEM`.
   */
  static async accept(
    reactor: Reactor,
    from: OfferPeer,
    options: ManyWriterOptions = {},
  ): Promise<ManyWriter> {
    checkOptions('ManyWriter.accept', options, CHECKS)
    const { timeout, ...writerOptions } = options
    const { signal } = writerOptions
    signal?.throwIfAborted()
    const limits = { ...(timeout !== undefined && { timeout }), ...(signal && { signal }) }
    const make = (fds: readonly FdHandle[], head: OfferHead): ManyWriter =>
      owning((own) => new ManyWriter(reactor, takeParts(own, fds, head), writerOptions))
    const [writer, connection] = await acceptMemory(reactor, from, MANY_WRITER_OFFER, make, limits)
    writer.#watch(connection)
    return writer
  }

  /** Whether the reader is there. */
  get connected(): boolean {
    return this.#connection !== undefined
  }

  /** Its statistics. */
  override get stats(): ManyWriterStats {
    const { dropped, length: queued } = this.#backlog
    return { ...super.stats, written: this.#written, dropped, queued, rung: this.#rung }
  }

  /**
   * Copies a message into the ring and commits it, together with what was claimed before. False when it did not go there, because there is
   * no room or others wait: then `onFull` decides, and `'drain'` follows.
   * @throws ReactorError `ERR_MESSAGE_TOO_LARGE`, `ERR_RING_FULL`, `ERR_RING_CORRUPT`, `ERR_CLOSED`; TypeError.
   */
  write(message: Uint8Array): boolean {
    if (!(message instanceof Uint8Array)) throw new TypeError('write() takes a Uint8Array')
    this.#checkLength(message.length)
    if (this.#backlog.length > 0 || !this.#put(message)) return this.#full(message)
    this.commit()
    return true
  }

  /**
   * Takes a slot for a message of `length` bytes and returns where it begins in `bytes`, a multiple of 8; −1 when there is none, or others
   * wait: then `'drain'` follows. Nothing may be stored outside of it, nor after `commit()` or `abandon()`. The reader waits for it.
   * @throws ReactorError `ERR_MESSAGE_TOO_LARGE`, `ERR_RING_CORRUPT`, `ERR_CLOSED`.
   */
  claim(length: number): number {
    this.#checkLength(length)
    const at = this.#backlog.length > 0 ? -1 : this.#claim(length)
    if (at < 0) this.#wantRoom()
    return at
  }

  /**
   * Commits what was claimed: the reader may read it from now on, and is woken if it sleeps.
   * @throws ReactorError `ERR_RING_CORRUPT` when somebody else has changed a slot that was claimed; `ERR_CLOSED`.
   */
  commit(): void {
    this.#settle(Status.Committed)
  }

  /** Gives up what was claimed: the reader passes over it, and counts it. @throws as `commit()`. */
  abandon(): void {
    this.#settle(Status.Abandoned)
  }

  /** Ends it: gives up what was claimed, throws away what waits here, and the reader is told. Idempotent. */
  override close(): void {
    if (this.closed) return
    try {
      this.#backlog.clear()
      this.#swapClaims(Status.Abandoned)
      super.close()
    } finally {
      this.#parts.mapping.unmap()
      this.#parts.memory.close()
      this.#parts.filled.close()
      this.#connection?.close()
    }
  }

  protected get consumerEvents(): readonly string[] {
    return ['drain']
  }

  protected override get keepsSomething(): boolean {
    return this.#wanted && !this.#armed
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
    if (this.closed || this.#armed || !this.#wanted) return
    try {
      if (!this.#flush() || !this.#hasRoom()) return this.#arm()
    } catch (error) {
      return this.fail(error instanceof Error ? error : new Error(String(error)))
    }
    if (!this.flowing) return
    this.#wanted = false
    this.fire('drain')
  }

  /** Claims a slot for a message and copies it there. */
  #put(message: Uint8Array): boolean {
    const at = this.#claim(message.length)
    if (at >= 0) this.bytes.set(message, at)
    return at >= 0
  }

  #claim(length: number): number {
    const control = this.#control
    const words = this.#words
    for (let tries = 0; tries < TRIES; tries++) {
      const ticket = Atomics.load(control, ManyWriterWord.Head)
      const at = (ticket & this.#mask) * this.#slotBytes
      const lap = lapOf(ticket, this.#shift)
      const free = stateOf(lap, 0, Status.Free)
      const state = Atomics.load(words, at >> 2)
      if (state === free) {
        if (Atomics.compareExchange(words, at >> 2, free, stateOf(lap, this.id, Status.Claimed)) !== free)
          continue
        Atomics.compareExchange(control, ManyWriterWord.Head, ticket, (ticket + 1) | 0)
        words[(at >> 2) + 1] = length
        this.#claims.push(ticket)
        return at + SLOT_HEADER
      }
      const ahead = lapsAhead(state, ticket, this.#shift)
      if (ahead === 0 && statusOf(state) !== Status.Free) {
        Atomics.compareExchange(control, ManyWriterWord.Head, ticket, (ticket + 1) | 0) // whoever claimed it may be dead
      } else if (ahead === -1) {
        return -1 // the reader has not come by since the last lap
      } else if (Atomics.load(control, ManyWriterWord.Head) === ticket) {
        throw this.#corrupt(`slot ${ticket & this.#mask} has state ${state >>> 0} at ${ticket >>> 0}`)
      }
    }
    throw this.#corrupt('its slots never stand still')
  }

  #settle(status: number): void {
    this.assertOpen()
    if (this.#claims.length === 0) return
    const count = this.#claims.length
    const foreign = this.#swapClaims(status)
    if (status === Status.Committed) this.#written += count
    if (foreign !== undefined) throw this.#corrupt(`a claimed slot has state ${foreign >>> 0}`)
  }

  /** Returns a state that should not have been there. */
  #swapClaims(status: number): number | undefined {
    const claims = this.#claims
    if (claims.length === 0) return undefined
    let foreign: number | undefined
    for (const ticket of claims) {
      const word = ((ticket & this.#mask) * this.#slotBytes) >> 2
      const lap = lapOf(ticket, this.#shift)
      const claimed = stateOf(lap, this.id, Status.Claimed)
      const found = Atomics.compareExchange(this.#words, word, claimed, stateOf(lap, this.id, status))
      if (found !== claimed) foreign = found
    }
    claims.length = 0
    if (Atomics.load(this.#control, ManyWriterWord.ReaderWaiting) !== 0) this.#wakeReader()
    return foreign
  }

  #wakeReader(): void {
    if (wakeSleeper(this.#control, ManyWriterWord.ReaderWaiting, this.#parts.filled.fd)) this.#rung++
  }

  #full(message: Uint8Array): boolean {
    this.#wantRoom()
    const { count } = this.#parts
    const kept = this.#backlog.take(message, (waiting) => {
      const what = `${this.label}: the ring of ${count} slots has none for ${message.length} bytes more${waiting}`
      return new ReactorError('ERR_RING_FULL', `${what}. Go on at 'drain'`)
    })
    if (!kept) return false
    this.update()
    if (!this.#armed) this.#arm() // also when nobody listens
    return false
  }

  /** False when something still waits. */
  #flush(): boolean {
    const sent = this.#backlog.flush((message) => this.#put(message))
    if (sent > 0) {
      this.commit()
      this.update()
    }
    return this.#backlog.length === 0
  }

  #wantRoom(): void {
    this.#wanted = true
    if (!this.#armed && (this.flowing || this.#backlog.length > 0)) this.#arm()
  }

  /** Whether there is a free slot; also true when `head` has to be helped first. */
  #hasRoom(): boolean {
    const ticket = Atomics.load(this.#control, ManyWriterWord.Head)
    const state = Atomics.load(this.#words, ((ticket & this.#mask) * this.#slotBytes) >> 2)
    return lapsAhead(state, ticket, this.#shift) >= 0
  }

  /** Says that it sleeps, and looks once more. */
  #arm(): void {
    this.#armed = true
    Atomics.store(this.#control, this.#waiting, 1)
    Atomics.store(this.#control, ManyWriterWord.RoomWanted, 1)
    if (this.#hasRoom()) wakeSleeper(this.#control, this.#waiting, this.fd)
  }

  #checkLength(length: number): void {
    this.assertOpen()
    if (!Number.isInteger(length) || length < 0)
      throw new RangeError(`${this.label}: a message has 0 to ${this.maxMessage} bytes, not ${length}`)
    if (length <= this.maxMessage) return
    throw new ReactorError(
      'ERR_MESSAGE_TOO_LARGE',
      `${this.label}: a message of ${length} bytes does not fit: a slot takes up to ${this.maxMessage}. Make the ring with a ` +
        'larger maxMessage',
    )
  }

  #watch(connection: UnixSeqpacket): void {
    if (this.closed) return connection.close()
    this.#connection = connection
    watchPeer(this.reactor, connection, () => {
      this.#connection = undefined
      if (this.closed) return
      try {
        this.fire('gone')
      } finally {
        this.close()
      }
    })
  }

  #corrupt(why: string): ReactorError {
    this.close()
    return new ReactorError(
      'ERR_RING_CORRUPT',
      `${this.label}: ${why}, which cannot be; somebody has damaged the ring`,
    )
  }
}

/** Checks what came and maps it. */
function takeParts(
  own: <Thing extends Disposable>(thing: Thing) => Thing,
  fds: readonly FdHandle[],
  head: OfferHead,
): Parts {
  for (const fd of fds) own(fd)
  const [handle, filled, bell] = fds
  if (handle === undefined || filled === undefined || bell === undefined)
    throw new TypeError(`A ring comes with 3 descriptors (memory and two doorbells), not ${fds.length}`)
  eventFdInfo(filled.fd)
  eventFdInfo(bell.fd)
  const memory = own(SharedMemory.from(handle))
  if (!memory.seals.includes('shrink')) throw layoutError(WHAT, 'it is not sealed against shrinking')
  if (memory.size < ManyWriterOffset.Slots) throw layoutError(WHAT, `it has ${memory.size} bytes`)
  const mapping = own(memory.map())
  const control = new Int32Array(mapping.buffer, 0, ManyWriterOffset.Slots / 4)
  const capacity = checkedHeader(control, RingKind.ManyWriters, WHAT)
  const slotBytes = control[ManyWriterWord.SlotBytes] ?? 0
  const count = capacity / slotBytes
  if (
    slotBytes < LINE ||
    slotBytes % LINE !== 0 ||
    !(count >= MIN_SLOTS && count <= MAX_SLOTS) ||
    !Number.isInteger(Math.log2(count)) ||
    capacity > mapping.buffer.byteLength - ManyWriterOffset.Slots
  )
    throw layoutError(
      WHAT,
      `it has slots of ${slotBytes} bytes in ${capacity}, in memory of ${memory.size} bytes`,
    )
  const id = offeredNumber(head, 'writer', MAX_WRITERS)
  return { memory, mapping, filled, bell, slotBytes, count, id }
}
