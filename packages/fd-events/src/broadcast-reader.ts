/**
 * The reading end of a broadcast ring: an event source, and a call for a loop of one's own.
 *
 * It copies a stretch of the ring at once, looks whether the writer has begun to overwrite it meanwhile, and takes messages out of its
 * copy. The argument for memory order is in broadcast-writer.ts. Each value in the ring is loaded once, checked, and then used: the
 * writer may be hostile.
 */
import { Buffer } from 'node:buffer'
import { ReactorError, sourceOptionChecks } from '@fd-reactor/core'
import type { FdHandle, Mapping, Reactor, SourceEvents, SourceOptions } from '@fd-reactor/core'
import { checkOptions, oneOf, type PeerCredentials } from '@fd-reactor/core/sys'
import {
  BroadcastOffset,
  CELL,
  HEADER_CELLS,
  maxBroadcastBytes,
  recordCells,
  SeatOffset,
} from './broadcast-layout.js'
import { BROADCAST, BROADCAST_OFFER, BroadcastWord, loadPosition } from './broadcast-memory.js'
import { eventFdInfo } from './event-fd.js'
import {
  acceptMemory,
  offeredNumber,
  type OfferHead,
  type OfferLimits,
  type OfferPeer,
} from './memory-offer.js'
import { checkedHeader, layoutError, owning, wakeSleeper } from './ring.js'
import { MAX_CAPACITY, MIN_CAPACITY, PAD, RingKind } from './ring-layout.js'
import { watchPeer } from './ring-peer.js'
import { AGAIN, NOTHING, RingSource } from './ring-source.js'
import { SharedMemory } from './shared-memory.js'
import { duration } from './socket-limits.js'
import type { UnixSeqpacket } from './unix-seqpacket.js'

/** The events of a {@link BroadcastReader}. */
export interface BroadcastReaderEvents extends SourceEvents {
  /** A message, and its sequence number. */
  message: [bytes: Buffer, sequence: number]
  /** The writer was faster: so many messages are gone. The next one follows. */
  lapped: [missed: number]
  /** The writer's process has ended, or its side was closed. What can still be read comes nevertheless. */
  gone: []
  /** The writer was closed or is gone, and everything that could be read was delivered. */
  end: []
}

/** Options of {@link BroadcastReader.accept}. `signal` gives up the handshake, and closes the reader later. */
export interface BroadcastReaderOptions extends SourceOptions, OfferLimits {
  /** With which message it begins: the next one that is written after the offer (`'newest'`, default), or an older one that is still there. */
  from?: 'newest' | 'oldest'
}

const CHECKS = { ...sourceOptionChecks, timeout: duration, from: oneOf('newest', 'oldest') }
/** How much is copied at once, unless a message is longer. */
const STRETCH_CELLS = 8192
/** How often it tries to copy from a writer that overtakes it each time, before other sources have their turn. */
const TRIES = 8

/** What a reader is made of; it owns all of it. */
interface Parts {
  memory: SharedMemory
  mapping: Mapping
  capacity: number
  seat: SharedMemory
  seatMapping: Mapping
  bell: FdHandle
  position: number
  sequence: number
}

/**
 * Reads a broadcast ring at its own pace, together with any number of others.
 *
 * Messages are copies. As an event source it delivers in bounded batches; in a loop of one's own, `read()` gives the next message and
 * `missed` says how many are gone. Use one or the other. It does not acknowledge anything: nobody waits for it.
 *
 * Guaranteed: each message is whole, sequence numbers rise, and what is missing between two of them is told by one `'lapped'` before the second one
 * with the exact count, however long this reader slept; across threads and processes, and when the writer or another reader is killed at any
 * moment. Whatever a hostile writer stores, nothing is read outside of the ring: it ends with `ERR_RING_CORRUPT`. Not guaranteed: that it
 * is ever fast enough; that a reader that was killed can continue: the next one begins anew; anything after a power failure.
 *
 * @throws ReactorError `ERR_RING_CORRUPT`, as an event, or by `read()`.
 * @example
 * import { Reactor } from '@fd-reactor/core'
 * import { BroadcastReader, BroadcastWriter, UnixSeqpacketListener } from '@fd-reactor/fd-events'
 * using reactor = new Reactor()
 * using writer = new BroadcastWriter(reactor, { capacity: 4096 })
 * const address = { abstract: 'example-lapped' }
 * let reader
 * UnixSeqpacketListener.listen(reactor, address).on('connection', async (connection) => {
 *   reader = await BroadcastReader.accept(reactor, connection) // in real life: in another process
 * })
 * await writer.offer(address)
 * for (let i = 0; i < 1000; i++) writer.write(Buffer.alloc(100, i))
 * let received = 0
 * while (reader.read() !== undefined) received++
 * console.log(received > 0, received + reader.missed) // true 1000
 * @see the layout, src/broadcast-layout.ts
 */
export class BroadcastReader extends RingSource<BroadcastReaderEvents> {
  /** Bytes of data in the ring. */
  readonly capacity: number
  readonly #parts: Parts
  readonly #control: Int32Array
  readonly #seat: Int32Array
  readonly #cells: number
  readonly #maxMessage: number
  #connection: UnixSeqpacket | undefined
  /** Where the next record begins, and its sequence number, if none is missed. */
  #position: number
  #next: number
  #head: number
  #sequence = 0
  #missed = 0
  #told = 0
  /** Whether the last look found that it was lapped, and the next record may have a higher number. */
  #jumped = false
  /** A copy of the ring from position `#from` to `#to`. */
  #copy = Buffer.from(new ArrayBuffer(0))
  #words = new Int32Array(0)
  #from = 0
  #to = 0
  #gone = false
  #endTold = false

  /** For `accept()`. */
  private constructor(reactor: Reactor, parts: Parts, options: SourceOptions) {
    super(reactor, parts.bell, options)
    this.#parts = parts
    this.capacity = parts.capacity
    this.#control = new Int32Array(parts.mapping.buffer, 0, BroadcastOffset.Data / 4)
    this.#seat = new Int32Array(parts.seatMapping.buffer)
    this.#cells = parts.capacity / CELL
    this.#maxMessage = maxBroadcastBytes(parts.capacity)
    this.#position = this.#head = this.#from = this.#to = parts.position
    this.#next = parts.sequence
  }

  /**
   * Takes what a writer offers by `BroadcastWriter.offer()`. `from` is an address to connect to, or a connection over a Unix socket of packets,
   * which is used up. The memory that comes is checked before it is used.
   * @throws ReactorError `ERR_HANDSHAKE`, `ERR_TIMEOUT`, `ERR_SHARED_LAYOUT`; SystemError as connecting, `EMFILE`, `ENOMEM`.
   */
  static async accept(
    reactor: Reactor,
    from: OfferPeer,
    options: BroadcastReaderOptions = {},
  ): Promise<BroadcastReader> {
    checkOptions('BroadcastReader.accept', options, CHECKS)
    const { timeout, from: where = 'newest', ...sourceOptions } = options
    const { signal } = sourceOptions
    signal?.throwIfAborted()
    const limits = { ...(timeout !== undefined && { timeout }), ...(signal && { signal }) }
    const make = (fds: readonly FdHandle[], head: OfferHead): BroadcastReader =>
      owning((own) => new BroadcastReader(reactor, takeParts(own, fds, head, where), sourceOptions))
    const [reader, connection] = await acceptMemory(reactor, from, BROADCAST_OFFER, make, limits)
    reader.#watch(connection)
    return reader
  }

  /** The sequence number of the message that was found last. */
  get sequence(): number {
    return this.#sequence
  }

  /** How many messages were missed so far. */
  get missed(): number {
    return this.#missed
  }

  /** Whether the writer is there. */
  get connected(): boolean {
    return this.#connection !== undefined
  }

  /** The writer's process, as the kernel noted it when it connected; undefined when it is gone. */
  get writer(): PeerCredentials | undefined {
    return this.#connection?.peer
  }

  /**
   * The next message; undefined when there is none, or none could be had before the writer overtook it again.
   * @throws ReactorError `ERR_RING_CORRUPT`, which closes the reader; `ERR_CLOSED`.
   */
  read(): Buffer | undefined {
    const kept = this.takeKeptMessage()
    if (kept !== undefined) {
      this.#sequence = kept[1]
      return kept[0]
    }
    this.assertOpen()
    const at = this.#find()
    this.#told = this.#missed
    return at < 0 ? undefined : this.#take(at)
  }

  /** Ends it. Idempotent. */
  override close(): void {
    if (this.closed) return
    try {
      super.close()
    } finally {
      const { mapping, memory, seatMapping, seat } = this.#parts
      mapping.unmap()
      memory.close()
      seatMapping.unmap()
      seat.close()
      this.#connection?.close()
    }
  }

  /** `for await (const [bytes, sequence] of reader)`, until the writer is closed or gone. What was missed is told by `missed`. */
  [Symbol.asyncIterator](): AsyncGenerator<[bytes: Buffer, sequence: number], undefined, undefined> {
    return this.events('message')
  }

  protected override get endEvents(): readonly string[] {
    return ['end']
  }

  protected override get hasEnded(): boolean {
    return this.#endTold
  }

  protected deliverNext(): number {
    const at = this.#find()
    if (at < 0) return at
    const { missed } = this
    if (missed !== this.#told) {
      const more = missed - this.#told
      this.#told = missed
      this.fire('lapped', more)
      if (!this.flowing) return AGAIN // the message is found again
    }
    const copy = this.#take(at)
    this.fire('message', copy, this.#sequence)
    return copy.length
  }

  protected acknowledge(): void {
    // Nobody waits for it.
  }

  protected sleep(): void {
    Atomics.store(this.#seat, BroadcastWord.SeatWaiting, 1)
    // After saying so, or the writer might end unseen; before the last look, so that what it had written is seen.
    const ended = this.#gone || Atomics.load(this.#control, BroadcastWord.WriterEnded) === 1
    if (loadPosition(this.#control, BroadcastWord.Head) !== this.#position) {
      wakeSleeper(this.#seat, BroadcastWord.SeatWaiting, this.fd)
    } else if (ended && !this.#endTold) {
      this.#endTold = true
      this.fire('end')
    }
  }

  /** Finds the next record and returns where it begins in the copy, in bytes; it is the next one until `#take()`. */
  #find(): number {
    for (let tries = 0; tries < TRIES;) {
      if (this.#position >= this.#to) {
        const copied = this.#load(STRETCH_CELLS)
        if (copied === NOTHING) return NOTHING
        tries++
        if (copied === AGAIN) continue
      }
      const word = (this.#position - this.#from) * 2
      const length = this.#words[word] ?? 0
      const place = this.#position % this.#cells
      if (length === PAD && place > 0) {
        this.#position += this.#cells - place
        continue
      }
      const size = recordCells(length)
      if (length >>> 0 > this.#maxMessage || this.#position + size > this.#head || place + size > this.#cells)
        throw this.#corrupt(`a record of ${length} bytes at ${this.#position}`)
      if (this.#position + size <= this.#to) {
        this.#countMissed(word)
        return word * 4
      }
      tries++
      this.#load(Math.max(size, STRETCH_CELLS)) // only its beginning was copied
    }
    return AGAIN
  }

  #countMissed(word: number): void {
    const low = this.#words[word + 2] ?? 0
    const high = this.#words[word + 3] ?? 0
    const sequence = (high >>> 0) * 2 ** 32 + (low >>> 0)
    if (sequence === this.#next) return
    if (!this.#jumped || sequence < this.#next || !Number.isSafeInteger(sequence))
      throw this.#corrupt(`number ${sequence} after ${this.#next - 1}`)
    this.#missed += sequence - this.#next
    this.#next = sequence
  }

  #take(at: number): Buffer {
    const length = this.#words[at / 4] ?? 0
    const begin = at + HEADER_CELLS * CELL
    const message = Buffer.allocUnsafe(length)
    message.set(this.#copy.subarray(begin, begin + length))
    this.#position += recordCells(length)
    this.#sequence = this.#next++
    this.#jumped = false
    return message
  }

  /** Copies up to `most` cells from the position on. {@link AGAIN} when the writer was faster, and the position is another one now. */
  #load(most: number): number {
    const head = loadPosition(this.#control, BroadcastWord.Head)
    const position = this.#position
    if (head === position) return NOTHING
    if (head < position) throw this.#corrupt(`head is ${head} and the reader at ${position}`)
    this.#head = head
    if (head - position > this.#cells) return this.#jump(loadPosition(this.#control, BroadcastWord.Floor))
    const place = position % this.#cells
    const count = Math.min(most, head - position, this.#cells - place)
    this.#parts.mapping.load(BroadcastOffset.Data + place * CELL, this.#room(count))
    this.#from = position
    this.#to = position + count
    const floor = loadPosition(this.#control, BroadcastWord.Floor)
    if (floor < 0) throw this.#corrupt('its floor never stands still')
    return floor > position ? this.#jump(floor) : 0
  }

  /** Goes on where the writer says that a record begins. It says so before it moves the floor, and moves the floor before the head. */
  #jump(floor: number): number {
    const resume = loadPosition(this.#control, BroadcastWord.Resume)
    const head = loadPosition(this.#control, BroadcastWord.Head)
    if (resume < this.#position || resume < floor || resume >= head)
      throw this.#corrupt(
        `head is ${head}, floor ${floor}, and readers at ${this.#position} shall go on at ${resume}`,
      )
    this.#position = this.#from = this.#to = resume
    this.#jumped = true
    return AGAIN
  }

  #room(cells: number): Buffer {
    const size = cells * CELL
    if (size > this.#copy.length) {
      const buffer = new ArrayBuffer(Math.min(Math.max(2 ** Math.ceil(Math.log2(size)), 4096), this.capacity))
      this.#copy = Buffer.from(buffer)
      this.#words = new Int32Array(buffer)
    }
    return this.#copy.subarray(0, size)
  }

  #watch(connection: UnixSeqpacket): void {
    if (this.closed) return connection.close()
    this.#connection = connection
    watchPeer(this.reactor, connection, () => {
      this.#connection = undefined
      if (this.closed) return
      this.#gone = true
      this.ringItself() // the writer may have been killed before it rang
      this.fire('gone')
    })
  }

  #corrupt(why: string): unknown {
    const what = `${this.label}: ${why}, which cannot be; the writer has damaged the ring, and nothing more is read from it`
    return this.broken(new ReactorError('ERR_RING_CORRUPT', what))
  }
}

/** Checks what came and maps it. */
function takeParts(
  own: <Thing extends Disposable>(thing: Thing) => Thing,
  fds: readonly FdHandle[],
  head: OfferHead,
  from: 'newest' | 'oldest',
): Parts {
  for (const fd of fds) own(fd)
  const [data, page, bell] = fds
  if (data === undefined || page === undefined || bell === undefined)
    throw new TypeError(`A broadcast ring comes with 3 descriptors, not ${fds.length}`)
  eventFdInfo(bell.fd)
  const memory = own(SharedMemory.from(data))
  const seat = own(SharedMemory.from(page))
  for (const { seals } of [memory, seat])
    if (!seals.includes('shrink')) throw layoutError(BROADCAST, 'it is not sealed against shrinking')
  if (memory.size < BroadcastOffset.Data + MIN_CAPACITY || seat.size !== SeatOffset.End)
    throw layoutError(BROADCAST, `it has ${memory.size} bytes, and its seat ${seat.size}`)
  const mapping = own(
    memory.map({ access: 'read', length: Math.min(memory.size, BroadcastOffset.Data + MAX_CAPACITY) }),
  )
  const capacity = checkedHeader(
    new Int32Array(mapping.buffer, 0, BroadcastOffset.Data / 4),
    RingKind.Broadcast,
    BROADCAST,
  )
  const fits = capacity >= MIN_CAPACITY && capacity <= mapping.buffer.byteLength - BroadcastOffset.Data
  if (!fits || (capacity & (capacity - 1)) !== 0)
    throw layoutError(BROADCAST, `its capacity is ${capacity}, in memory of ${memory.size} bytes`)
  const seatMapping = own(seat.map())
  checkedHeader(new Int32Array(seatMapping.buffer), RingKind.Broadcast, BROADCAST)
  const oldest = from === 'oldest'
  const position = offeredNumber(head, oldest ? 'oldest' : 'position')
  const sequence = offeredNumber(head, oldest ? 'oldestSequence' : 'sequence')
  return { memory, mapping, capacity, seat, seatMapping, bell, position, sequence }
}
