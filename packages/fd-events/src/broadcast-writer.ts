/**
 * The writing end of a broadcast ring, which never waits for anybody.
 *
 * It overwrites the oldest records, also while a reader copies them: what a reader copies is a guess until it has looked whether it still
 * holds, as with a sequence lock. The order that this needs:
 *
 *   writer                                          reader
 *   1. floor := F (Atomics.store)                   5. h := head (Atomics.load)
 *   2. fence (in Mapping.store)                     6. copies a record at p, p < h (relaxed word loads)
 *   3. stores cells below F + capacity (relaxed)    7. fence (in Mapping.load)
 *   4. head := H (Atomics.store)                    8. floor (Atomics.load): whole if floor <= p
 *
 * Whole at all: 4 is a release, 5 an acquire, so who sees H sees 3. Not overwritten: if 6 saw anything that a later 3 stored, then, with the
 * fences 2 and 7 between them, 8 sees the floor that was stored by 1 before; it is above p, and the copy is thrown away. On x86-64 loads are
 * not reordered with loads nor stores with stores, `Atomics.store` is `xchg`, and the fences only keep the compiler from it. On arm64 1 and 4 are
 * `stlr` and 5 and 8 `ldar`, which alone would allow 3 to be seen before 1 (a release holds back what comes before it, not after) and 6
 * to be done after 8 (an acquire holds back what comes after it); 2 and 7 are `dmb ish`, which forbid both. The copies are native,
 * because what plain JavaScript loads and stores do here is for no memory model to say.
 *
 * Sleeping: the reader stores `waiting` and then loads `head`; the writer stores `head` and then loads `waiting`, all four sequentially
 * consistent, so at least one of them sees the other (ring-writer.ts). A reader can hold the writer up in one way only: its seat has
 * the only word of it that is looked at, and its eventfd is rung after a look whether it has room, between which and the ringing a
 * hostile reader could clear O_NONBLOCK and fill it.
 */
import { Buffer } from 'node:buffer'
import { ReactorError, type FdHandle, type Mapping, type Reactor } from '@fd-reactor/core'
import { abortSignal, checkOptions, integer } from '@fd-reactor/core/sys'
import {
  BroadcastOffset,
  CELL,
  floorFor,
  HEADER_CELLS,
  maxBroadcastBytes,
  recordCells,
  SeatOffset,
} from './broadcast-layout.js'
import { BROADCAST_OFFER, BroadcastWord, storePosition } from './broadcast-memory.js'
import { offerMemory, type OfferLimits, type OfferPeer } from './memory-offer.js'
import { bell, formatHeader, owning, ringCapacity, wakeSleeper } from './ring.js'
import { MAX_CAPACITY, PAD, RingKind } from './ring-layout.js'
import { RingPeer } from './ring-peer.js'
import { SharedMemory } from './shared-memory.js'
import { duration } from './socket-limits.js'

/** Options of a {@link BroadcastWriter}. */
export interface BroadcastWriterOptions {
  /** Bytes of data, rounded up to a power of two: 4 KiB … 1 GiB. The longest message has a quarter of it, less 16. Default 1 MiB. */
  capacity?: number
}

/** A broadcast writer's statistics. */
export interface BroadcastWriterStats {
  /** How many messages were written. */
  written: number
  /** How often a reader had to be woken by a system call. */
  rung: number
  /** How many readers there are. */
  readers: number
}

/** What the writer holds of one reader. */
interface Seat extends Disposable {
  control: Int32Array
  handle: FdHandle
  bell: FdHandle
}

const CHECKS = { capacity: integer(1, MAX_CAPACITY) }
const LIMIT_CHECKS = { timeout: duration, signal: abortSignal }
/** From here on a message is not gathered with its header first. */
const DIRECT_BYTES = 4096

/**
 * Writes messages that any number of readers get, each at its own pace. The writer never waits: it overwrites what is oldest, and a
 * reader that was too slow is told exactly how many messages it missed.
 *
 * Each message has a sequence number, from 0. The ring keeps about the newest 15/16 of its capacity, each message with 16 bytes more
 * and filled up to a multiple of 8.
 *
 * Guaranteed: across threads and processes, what a reader gets is whole, in order, each message once, and received and missed ones add up. A
 * reader can harm neither the writer nor another reader: it cannot write to the data (F_SEAL_FUTURE_WRITE), and nothing of it is waited for. When
 * a reader is killed the others go on; when the writer is killed, at any moment, what readers can still read is whole, and they are told.
 * Not guaranteed: that a message reaches anybody; that a successor continues the ring of a writer that ended: its readers accept
 * a new one; anything after a power failure.
 *
 * @throws SystemError `EMFILE`, `ENOMEM`.
 * @throws TypeError, RangeError for options that do not exist or are out of range.
 * @example
 * import { once, Reactor } from '@fd-reactor/core'
 * import { BroadcastReader, BroadcastWriter, UnixSeqpacketListener } from '@fd-reactor/fd-events'
 * using reactor = new Reactor()
 * using writer = new BroadcastWriter(reactor)
 * const address = { abstract: 'example-broadcast' }
 * let reader
 * UnixSeqpacketListener.listen(reactor, address).on('connection', async (connection) => {
 *   reader = await BroadcastReader.accept(reactor, connection) // in real life: many, in other processes
 * })
 * await writer.offer(address)
 * writer.write(Buffer.from('news'))
 * const [bytes, sequence] = await once(reader, 'message')
 * console.log(`${sequence} ${bytes}`) // 0 news
 * @see memfd_create(2), F_SEAL_FUTURE_WRITE in fcntl(2)
 */
export class BroadcastWriter implements Disposable {
  /** Bytes of data. */
  readonly capacity: number
  /** The longest message in bytes. */
  readonly maxMessage: number
  readonly #reactor: Reactor
  readonly #memory: SharedMemory
  readonly #mapping: Mapping
  readonly #control: Int32Array
  readonly #cells: number
  readonly #peers = new Map<RingPeer, Seat>()
  #seats: readonly Seat[] = []
  #ids = 0
  /** The next record in the data, in cells, and its position and number. */
  #place = 0
  #head = 0
  #sequence = 0
  #floor = 0
  #resume = 0
  #resumeSequence = 0
  #lastStart = 0
  #rung = 0
  #closed = false
  /** A record as it will stand in the ring. */
  readonly #header = new Int32Array(2 * HEADER_CELLS)
  readonly #headerBytes = Buffer.from(this.#header.buffer)
  readonly #padBytes = Buffer.from(Int32Array.of(PAD, 0).buffer)
  #staged = Buffer.from(new ArrayBuffer(1024))

  /** Makes an empty ring without readers. */
  constructor(reactor: Reactor, options: BroadcastWriterOptions = {}) {
    checkOptions('BroadcastWriter', options, CHECKS)
    this.#reactor = reactor
    this.capacity = ringCapacity(options.capacity)
    this.maxMessage = maxBroadcastBytes(this.capacity)
    this.#cells = this.capacity / CELL
    const { memory, mapping } = owning((own) => {
      const memory = own(SharedMemory.create(BroadcastOffset.Data + this.capacity, { sealed: false }))
      const mapping = own(memory.map())
      memory.seal('future-write', 'seal') // from now on nobody can map it for writing, not even this process
      return { memory, mapping }
    })
    this.#memory = memory
    this.#mapping = mapping
    this.#control = new Int32Array(mapping.buffer, 0, BroadcastOffset.Data / 4)
    formatHeader(this.#control, RingKind.Broadcast, this.capacity)
  }

  /** The sequence number of the next message. */
  get sequence(): number {
    return this.#sequence
  }

  /** Its readers. */
  get readers(): readonly RingPeer[] {
    return [...this.#peers.keys()]
  }

  /** Its statistics. */
  get stats(): BroadcastWriterStats {
    return { written: this.#sequence, rung: this.#rung, readers: this.#peers.size }
  }

  /** Whether `close()` was called. */
  get closed(): boolean {
    return this.#closed
  }

  /** Writes a message, wakes the readers that sleep, and returns its sequence number. @throws ReactorError `ERR_MESSAGE_TOO_LARGE`, `ERR_CLOSED`; TypeError. */
  write(message: Uint8Array): number {
    if (!(message instanceof Uint8Array)) throw new TypeError('write() takes a Uint8Array')
    if (this.#closed) throw closed()
    const { length } = message
    if (length > this.maxMessage) throw this.#tooLarge(length)
    const size = recordCells(length)
    const start = this.#makeRoom(size)
    const sequence = this.#sequence
    this.#store(message)
    this.#place += size
    this.#lastStart = start
    this.#sequence = sequence + 1
    this.#publish(start + size)
    return sequence
  }

  /**
   * Adds a reader, which calls `BroadcastReader.accept()`: it begins with the message that is written next, or with the oldest one that
   * is safe to begin with. `to` is an address to connect to, or a connection over a Unix socket of packets, which is used up. The reader is
   * taken away when its connection ends.
   * @throws ReactorError `ERR_HANDSHAKE`, `ERR_TIMEOUT`, `ERR_CLOSED`; SystemError as connecting, `EMFILE`, `ENOMEM`.
   */
  async offer(to: OfferPeer, limits: OfferLimits = {}): Promise<RingPeer> {
    checkOptions('BroadcastWriter.offer', limits, LIMIT_CHECKS)
    if (this.#closed) throw closed()
    const seat = makeSeat()
    try {
      const start = {
        position: this.#head,
        sequence: this.#sequence,
        oldest: this.#resume,
        oldestSequence: this.#resumeSequence,
      }
      const fds = [this.#memory.handle, seat.handle, seat.bell]
      return this.#seated(seat, await offerMemory(this.#reactor, to, BROADCAST_OFFER, fds, limits, start))
    } catch (error) {
      seat[Symbol.dispose]()
      throw error
    }
  }

  /** No message follows: each reader tells `'end'` once it has read what it can. Idempotent. */
  close(): void {
    if (this.#closed) return
    this.#closed = true
    Atomics.store(this.#control, BroadcastWord.WriterEnded, 1)
    for (const peer of this.readers) peer.close()
    this.#mapping.unmap()
    this.#memory.close()
  }

  /** `close()`, for `using`. */
  [Symbol.dispose](): void {
    this.close()
  }

  /** Gives up the oldest records where the next one will stand, and returns its position. */
  #makeRoom(size: number): number {
    const toEnd = this.#cells - this.#place
    const pad = size > toEnd ? toEnd : 0
    const start = this.#head + pad
    if (start + size - this.#cells > this.#floor) this.#moveFloor(start + size)
    if (pad > 0) {
      this.#mapping.store(BroadcastOffset.Data + this.#place * CELL, this.#padBytes)
      this.#place = 0
    } else if (toEnd === 0) this.#place = 0
    return start
  }

  /** `resume` first: who sees the floor finds it where it can go on. It goes on a quarter above, or it would soon be lapped again. */
  #moveFloor(end: number): void {
    const floor = floorFor(end, this.#cells)
    if (this.#resume < floor + this.#cells / 4) {
      storePosition(this.#control, BroadcastWord.Resume, this.#lastStart, this.#resume)
      this.#resume = this.#lastStart
      this.#resumeSequence = this.#sequence - 1
    }
    storePosition(this.#control, BroadcastWord.Floor, floor, this.#floor)
    this.#floor = floor
  }

  #store(message: Uint8Array): void {
    const { length } = message
    const header = this.#header
    const at = BroadcastOffset.Data + this.#place * CELL
    header[0] = length
    header[2] = this.#sequence | 0
    header[3] = Math.floor(this.#sequence / 2 ** 32)
    const headerBytes = HEADER_CELLS * CELL
    if (length >= DIRECT_BYTES && message.byteOffset % CELL === 0) {
      this.#mapping.store(at, this.#headerBytes)
      this.#mapping.store(at + headerBytes, message)
    } else {
      const staged = this.#stage(headerBytes + length)
      staged.set(this.#headerBytes)
      staged.set(message, headerBytes)
      this.#mapping.store(at, staged)
    }
  }

  /** One view is kept: messages are often of one size. */
  #stage(size: number): Buffer {
    if (size === this.#staged.length) return this.#staged
    const { buffer } = this.#staged
    const enough = size <= buffer.byteLength ? buffer : new ArrayBuffer(2 ** Math.ceil(Math.log2(size)))
    return (this.#staged = Buffer.from(enough, 0, size))
  }

  #publish(head: number): void {
    storePosition(this.#control, BroadcastWord.Head, head, this.#head)
    this.#head = head
    for (const seat of this.#seats)
      if (Atomics.load(seat.control, BroadcastWord.SeatWaiting) !== 0) this.#wake(seat)
  }

  #wake({ control, bell }: Seat): void {
    if (wakeSleeper(control, BroadcastWord.SeatWaiting, bell.fd)) this.#rung++
  }

  #seated(seat: Seat, connection: Awaited<ReturnType<typeof offerMemory>>): RingPeer {
    if (this.#closed) {
      connection.close()
      throw closed()
    }
    const peer = new RingPeer(this.#reactor, this.#ids++, connection, () => {
      this.#peers.delete(peer)
      this.#seats = [...this.#peers.values()]
      seat[Symbol.dispose]()
    })
    this.#peers.set(peer, seat)
    this.#seats = [...this.#peers.values()]
    // It may have gone to sleep before it stood on the list.
    Atomics.store(seat.control, BroadcastWord.SeatWaiting, 1)
    this.#wake(seat)
    return peer
  }

  #tooLarge(length: number): ReactorError {
    return new ReactorError(
      'ERR_MESSAGE_TOO_LARGE',
      `A message of ${length} bytes does not fit: a broadcast ring of ${this.capacity} bytes takes up to ${this.maxMessage}. Make ` +
        `one with a capacity of at least ${4 * (length + HEADER_CELLS * CELL)}`,
    )
  }
}

function closed(): ReactorError {
  return new ReactorError('ERR_CLOSED', 'The broadcast ring is closed')
}

/** A page that one reader writes to, and its doorbell. */
function makeSeat(): Seat {
  return owning((own) => {
    const memory = own(SharedMemory.create(SeatOffset.End))
    const mapping = own(memory.map())
    const control = new Int32Array(mapping.buffer)
    formatHeader(control, RingKind.Broadcast, 0)
    const rings = own(bell())
    const dispose = (): void => {
      mapping.unmap()
      memory.close()
      rings.close()
    }
    return { control, handle: memory.handle, bell: rings, [Symbol.dispose]: dispose }
  })
}
