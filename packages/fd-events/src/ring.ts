/**
 * A ring in memory with its two doorbells: what its writer and its reader stand on, and what is passed to another process.
 */
import { Buffer } from 'node:buffer'
import { FdHandle, ReactorError, type Mapping } from '@fd-reactor/core'
import { checkOptions, eventfd, integer } from '@fd-reactor/core/sys'
import { eventFdInfo } from './event-fd.js'
import {
  distance,
  MAX_CAPACITY,
  maxMessageBytes,
  MIN_CAPACITY,
  RING_MAGIC,
  RING_VERSION,
  RingKind,
  RingOffset,
} from './ring-layout.js'
import { SharedMemory } from './shared-memory.js'

/** Options of {@link Ring.create}. */
export interface RingOptions {
  /** Bytes of data, rounded up to a power of two: 4 KiB … 1 GiB. The longest message has half of it, less 8. Default 1 MiB. */
  capacity?: number
}

/** The words of the layout, as indices of an Int32Array. */
export const RingWord = {
  Magic: RingOffset.Magic / 4,
  Version: RingOffset.Version / 4,
  Kind: RingOffset.Kind / 4,
  Capacity: RingOffset.Capacity / 4,
  Head: RingOffset.Head / 4,
  Mark0Position: RingOffset.Mark0Position / 4,
  Mark0Sequence: RingOffset.Mark0Sequence / 4,
  Mark1Position: RingOffset.Mark1Position / 4,
  Mark1Sequence: RingOffset.Mark1Sequence / 4,
  WriterEnded: RingOffset.WriterEnded / 4,
  Tail: RingOffset.Tail / 4,
  ReaderWaiting: RingOffset.ReaderWaiting / 4,
  WriterWaiting: RingOffset.WriterWaiting / 4,
} as const

const WHAT = 'ring of one writer and one reader'
const CHECKS = { capacity: integer(1, MAX_CAPACITY) }

/**
 * One ring: shared memory, and the eventfds on which its reader (`filled`) and its writer (`drained`) sleep.
 *
 * It is made by one process and passed to another as `fds`; {@link offer} and {@link accept} do that. Within one process both ends can stand on
 * the same object. It has at most one writer and one reader at a time; after one of them was closed or killed, a new one goes on where
 * it was.
 *
 * Guaranteed: memory that another process passed is checked (size, magic, version, kind, capacity) before it is used. Across threads,
 * processes and `kill -9` of one of them the ring keeps what was committed and not acknowledged, as long as one of them has it. Not
 * guaranteed: anything after all of them have ended, or after a power failure: it is memory. That there is one writer is not enforced.
 *
 * @throws SystemError `EMFILE`, `ENOMEM`; RangeError for a capacity out of range.
 * @example
 * import { Reactor } from '@fd-reactor/core'
 * import { Ring, RingReader, RingWriter } from '@fd-reactor/fd-events'
 * using reactor = new Reactor()
 * using ring = Ring.create({ capacity: 65_536 })
 * const reader = new RingReader(reactor, ring)
 * const writer = new RingWriter(reactor, ring)
 * reader.on('message', (bytes, sequence) => {
 *   console.log(`${sequence} ${bytes}`) // 0 hello
 *   reactor.stop()
 * })
 * writer.write(Buffer.from('hello'))
 * await reactor.run({ keepOpen: true })
 * @see eventfd(2), memfd_create(2)
 */
export class Ring implements Disposable {
  /** Bytes of data. */
  readonly capacity: number
  /** The control words. */
  readonly control: Int32Array
  /** The data in words, for record headers and for messages of integers. */
  readonly words: Int32Array
  /** The data. */
  readonly bytes: Buffer
  /** What the reader sleeps on. */
  readonly filled: FdHandle
  /** What the writer sleeps on. */
  readonly drained: FdHandle
  /** Its reader and its writer on this side, which `close()` closes first. */
  readonly ends = new Set<Disposable>()
  readonly #memory: SharedMemory | undefined
  readonly #mapping: Mapping | undefined
  #closed = false

  /** For who made the memory, and has written its header. */
  protected constructor(buffer: ArrayBufferLike, filled: FdHandle, drained: FdHandle, memory?: MappedMemory) {
    this.control = new Int32Array(buffer, 0, RingOffset.Data / 4)
    this.capacity = checkedCapacity(this.control, buffer.byteLength)
    this.words = new Int32Array(buffer, RingOffset.Data, this.capacity / 4)
    this.bytes = Buffer.from(buffer, RingOffset.Data, this.capacity)
    this.filled = filled
    this.drained = drained
    this.#memory = memory?.memory
    this.#mapping = memory?.mapping
  }

  /** Makes an empty ring. */
  static create(options: RingOptions = {}): Ring {
    checkOptions('Ring.create', options, CHECKS)
    const capacity = ringCapacity(options.capacity)
    return owning((own) => {
      const memory = own(SharedMemory.create(RingOffset.Data + capacity))
      const mapping = own(memory.map())
      formatRing(mapping.buffer, capacity)
      return new Ring(mapping.buffer, own(bell()), own(bell()), { memory, mapping })
    })
  }

  /** Makes an empty ring in memory that the threads of this process share. What `fds` gives has no memory then. */
  static over(buffer: SharedArrayBuffer, filled: FdHandle, drained: FdHandle): Ring {
    return new Ring(buffer, filled, drained)
  }

  /**
   * The ring that another process has, from its `fds`, which are its own from then on.
   * @throws ReactorError `ERR_SHARED_LAYOUT` for what is no ring of this version; SystemError `EINVAL` for descriptors of something else.
   */
  static from(fds: readonly FdHandle[]): Ring {
    return owning((own) => {
      for (const fd of fds) own(fd)
      const [handle, filled, drained] = fds
      if (handle === undefined || filled === undefined || drained === undefined || fds.length !== 3)
        throw new TypeError(`A ring comes with 3 descriptors (memory and two doorbells), not ${fds.length}`)
      const memory = own(SharedMemory.from(handle))
      eventFdInfo(filled.fd)
      eventFdInfo(drained.fd)
      if (memory.size < RingOffset.Data + MIN_CAPACITY)
        throw layoutError(
          WHAT,
          `it has ${memory.size} bytes, and a ring at least ${RingOffset.Data + MIN_CAPACITY}`,
        )
      const mapping = own(memory.map())
      return new Ring(mapping.buffer, filled, drained, { memory, mapping })
    })
  }

  /** What is passed to another process: memory, `filled`, `drained`. They stay the ring's. */
  get fds(): readonly FdHandle[] {
    return [...(this.#memory === undefined ? [] : [this.#memory.handle]), this.filled, this.drained]
  }

  /** The longest message in bytes. */
  get maxMessage(): number {
    return maxMessageBytes(this.capacity)
  }

  /**
   * How many bytes are committed and not acknowledged, with headers and padding. Of a ring that a hostile peer writes to: any number.
   * @throws ReactorError `ERR_CLOSED`.
   */
  get used(): number {
    if (this.#closed) throw new ReactorError('ERR_CLOSED', 'The ring is closed')
    return distance(Atomics.load(this.control, RingWord.Tail), Atomics.load(this.control, RingWord.Head))
  }

  /** Whether `close()` was called. */
  get closed(): boolean {
    return this.#closed
  }

  /** Whether its memory can be cut short by somebody else, because it is not sealed. */
  get losable(): boolean {
    return this.#memory !== undefined && !this.#memory.seals.includes('shrink')
  }

  /** @throws ReactorError `ERR_MEMORY_LOST` when that has happened; `ERR_CLOSED`. */
  assertIntact(): void {
    this.#mapping?.assertIntact()
  }

  /**
   * Rings both doorbells: reader and writer look once more. For who notices that the other side was killed, which may have happened between a
   * commit and its ring; {@link RingLink} does it. A new reader or writer does it for the other side. @throws ReactorError `ERR_CLOSED`.
   */
  wake(): void {
    eventfd.write(this.filled.fd, 1n)
    eventfd.write(this.drained.fd, 1n)
  }

  /** Closes its reader and its writer on this side, unmaps the memory and closes the descriptors. Idempotent. */
  close(): void {
    if (this.#closed) return
    this.#closed = true
    try {
      for (const end of this.ends) end[Symbol.dispose]()
    } finally {
      this.#mapping?.unmap()
      this.#memory?.close()
      this.filled.close()
      this.drained.close()
    }
  }

  /** `close()`, for `using`. */
  [Symbol.dispose](): void {
    this.close()
  }
}

interface MappedMemory {
  memory: SharedMemory
  mapping: Mapping
}

/** A capacity that a user asked for, as rings have it. */
export function ringCapacity(wanted = 2 ** 20): number {
  return Math.max(MIN_CAPACITY, 2 ** Math.ceil(Math.log2(wanted)))
}

/** Writes the header of an empty ring into zeroed memory. */
export function formatRing(buffer: ArrayBufferLike, capacity: number): void {
  formatHeader(new Int32Array(buffer, 0, RingOffset.Data / 4), RingKind.Single, capacity)
}

/** Writes the header that every kind of ring has into zeroed memory. */
export function formatHeader(control: Int32Array, kind: number, capacity: number): void {
  control[RingWord.Version] = RING_VERSION
  control[RingWord.Kind] = kind
  control[RingWord.Capacity] = capacity
  Atomics.store(control, RingWord.Magic, RING_MAGIC)
}

/** Read once, checked, and then used. */
function checkedCapacity(control: Int32Array, size: number): number {
  const capacity = checkedHeader(control, RingKind.Single, WHAT)
  const fits = capacity >= MIN_CAPACITY && capacity <= size - RingOffset.Data
  if (!fits || (capacity & (capacity - 1)) !== 0)
    throw layoutError(WHAT, `its capacity is ${capacity}, in memory of ${size} bytes`)
  return capacity
}

/** The capacity that a header tells, read once. Whether it fits is for the caller to check; `what` is what the memory should be. */
export function checkedHeader(control: Int32Array, kind: number, what: string): number {
  const magic = Atomics.load(control, RingWord.Magic)
  if (magic !== RING_MAGIC) throw layoutError(what, `it begins with 0x${(magic >>> 0).toString(16)}`)
  const version = control[RingWord.Version] ?? 0
  if (version !== RING_VERSION)
    throw layoutError(
      what,
      `its version is ${version}, and this side knows ${RING_VERSION}: run the same release on both`,
    )
  const found = control[RingWord.Kind] ?? 0
  if (found !== kind) throw layoutError(what, `its kind is ${found}`)
  return control[RingWord.Capacity] ?? 0
}

/** For memory that is not what it should be. */
export function layoutError(what: string, why: string): ReactorError {
  return new ReactorError('ERR_SHARED_LAYOUT', `The memory is no ${what}: ${why}`)
}

/** Wakes who sleeps by this word, unless somebody else does: who takes the value out of it rings. Whether it did. */
export function wakeSleeper(control: Int32Array, word: number, fd: number): boolean {
  if (Atomics.exchange(control, word, 0) === 0) return false
  eventfd.write(fd, 1n)
  return true
}

/** An eventfd to sleep on. */
export function bell(): FdHandle {
  return new FdHandle(eventfd.create(0n, false)).guard()
}

/** What `action` owns is disposed of, newest first, if it throws. */
export function owning<Result>(
  action: (own: <Thing extends Disposable>(thing: Thing) => Thing) => Result,
): Result {
  const owned: Disposable[] = []
  try {
    return action((thing) => {
      owned.push(thing)
      return thing
    })
  } catch (error) {
    for (const thing of owned.reverse()) thing[Symbol.dispose]()
    throw error
  }
}
