/**
 * Decodes what one crossing brings. The layout is that of native/record.h; change both together.
 *
 * A cursor over the records rather than an object for each: nothing is allocated on the way to a handler.
 */
import { Buffer } from 'node:buffer'
import type { FdHandle } from './fd-handle.js'
import type { Instant } from './instant.js'
import type { NativeReactor } from './sys/native.js'

const INTS = 10 // a record's size in 32-bit words
const WORDS = 5 // and in 64-bit words
const VIEWS = 2048 // views that are kept for reuse, one for each possible offset in the first 16 KiB of the slab

/** One drained event, valid only during the call that it is handed to. */
export interface BatchRecord {
  /** What epoll reported, as {@link Interest} bits. */
  readonly revents: number
  /** What the drain returned: 0 or more, or -errno. */
  readonly result: number
  /** Where the drained bytes begin in `slab`. */
  readonly offset: number
  /** How many bytes were drained. */
  readonly length: number
  /** The value of a counter. */
  readonly value: bigint
  /** The same as a number: exact below 2^53, and without allocating. */
  readonly numericValue: number
  /** `MessageFlag`s (of `sys`) of a message. */
  readonly messageFlags: number
  /** Where a message's head lies in `slab`, if it has one. */
  readonly messageHead: number
  /** The bytes; reused by the next batch. */
  readonly slab: Buffer
  /** The same memory as 32-bit words. */
  readonly words: Int32Array
  /** The drained bytes as a view of the slab. The same view may serve a later record, so it must not be kept. */
  view(): Buffer
  /** Nanoseconds from `earlier` to when a timer's counter was read, on the timer's own clock: exact below 2^53. */
  since(earlier: Instant): number
}

/**
 * The records of one crossing, and where the delivery has got to.
 *
 * `seek` copies a record's numbers into plain fields: handlers read each of them several times, and a field costs a fraction
 * of a typed array behind a getter.
 */
export class Batch implements BatchRecord {
  readonly slab: Buffer
  readonly words: Int32Array
  readonly #ints: Int32Array
  readonly #values: BigUint64Array
  readonly #times: BigInt64Array
  readonly #views: (Buffer | undefined)[] = []
  /** Which record the fields are about. */
  index = -1
  slot = -1
  generation = 0
  revents = 0
  result = 0
  offset = 0
  length = 0
  /** The first record that is not delivered yet. */
  next = 0
  /** How many records there are. */
  count = 0

  constructor(records: ArrayBuffer, slab: ArrayBuffer) {
    // Node marks external memory as untransferable by itself. Doing so again, with markAsUntransferable, makes Node 24 abort
    // when it exits.
    this.#ints = new Int32Array(records)
    this.#values = new BigUint64Array(records)
    this.#times = new BigInt64Array(records)
    this.slab = Buffer.from(slab)
    this.words = new Int32Array(slab)
  }

  /** Moves to record `index`. */
  seek(index: number): void {
    const ints = this.#ints
    const at = (index + 1) * INTS // the header takes the first place
    this.index = index
    this.slot = ints[at] ?? -1
    this.generation = (ints[at + 1] ?? 0) >>> 0
    this.revents = (ints[at + 2] ?? 0) >>> 0
    this.result = ints[at + 3] ?? 0
    this.offset = ints[at + 4] ?? 0
    this.length = ints[at + 5] ?? 0
  }

  get value(): bigint {
    return this.#values[(this.index + 1) * WORDS + 3] ?? 0n
  }

  get numericValue(): number {
    const at = (this.index + 1) * INTS
    return ((this.#ints[at + 7] ?? 0) >>> 0) * 2 ** 32 + ((this.#ints[at + 6] ?? 0) >>> 0)
  }

  since(earlier: Instant): number {
    const at = (this.index + 1) * INTS
    return earlier.until(this.#ints[at + 9] ?? 0, (this.#ints[at + 8] ?? 0) >>> 0)
  }

  get messageHead(): number {
    return (this.#ints[(this.index + 1) * INTS + 6] ?? 0) >>> 0
  }

  get messageFlags(): number {
    return (this.#ints[(this.index + 1) * INTS + 7] ?? 0) >>> 0
  }

  view(): Buffer {
    const { offset, length } = this
    const place = offset >>> 3 // the drain aligns offsets to 8
    const known = this.#views[place]
    if (known?.length === length) return known
    const view = this.slab.subarray(offset, offset + length)
    if (place < VIEWS) this.#views[place] = view
    return view
  }

  /** send(2) without blocking, as `send` of the native reactor wants it: the header carries arguments and result. */
  send(
    native: NativeReactor,
    handle: FdHandle,
    bytes: Uint8Array | number,
    offset: number,
    length: number,
  ): number {
    const ints = this.#ints
    ints[3] = handle.fd
    ints[8] = handle.serial
    ints[4] = offset
    ints[5] = length
    if (typeof bytes === 'number') {
      ints[7] = bytes
      native.sendSlab()
    } else {
      native.sendBytes(bytes)
    }
    return ints[6] ?? 0
  }

  /** When epoll_wait returned, in nanoseconds of CLOCK_MONOTONIC; 0 unless the reactor measures. */
  get returnedNs(): bigint {
    return this.#times[0] ?? 0n
  }

  /** Tells native code how far the delivery has got. */
  settle(reached: number): void {
    this.#ints[2] = reached
  }
}
