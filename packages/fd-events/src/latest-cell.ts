/**
 * The newest sample of a fixed-size record in shared memory.
 *
 * Each end has a private staging buffer that typed accessors look at, and one native function without arguments that moves the
 * record between it and the memory (`core/native/cell.cc`, where the order of loads and stores is argued). What that did, it says
 * in numbers ahead of the record, which are cheaper to look at than a result would be to make. A writer can do without both.
 */
import { ReactorError, type CellPlace, type Mapping } from '@fd-reactor/core'
import { checkOptions, integer } from '@fd-reactor/core/sys'
import { layoutError, loadHeader, loadSequence, nameOf, slotCount, storeHeader } from './cell-header.js'
import * as at from './cell-layout.js'
import type { RecordValue } from './record-accessors.js'
import type { RecordFields } from './record-layout.js'
import type { RecordSchema, RecordShape } from './record-schema.js'

/** Options of {@link LatestCellReader}. */
export interface LatestCellOptions {
  /** Where the cell begins in the mapping: a multiple of 64 bytes. Default 0. */
  offset?: number
}

/** Options of {@link LatestCellWriter.size}. */
export interface LatestCellSizeOptions {
  /** How many samples it has room for: a power of two from 4 to 1024. Default 16. */
  slots?: number
}

/** Options of {@link LatestCellWriter}. */
export interface LatestCellWriterOptions extends LatestCellOptions, LatestCellSizeOptions {}

/** What the native function says it did (`Outcome` in cell.cc), and where it says the rest. */
const NOTHING_NEW = 0
const DONE = 1
const CLOSED = 2
const LOST = 3
const LAPPED = 4
const OUTCOME = 0
const SEQUENCE = 1
const RETRIES = 2
/** The numbers have a cache line of the staging buffer for themselves. */
const RECORD_AT = 64

/** Whether plain stores are seen in their order: of x86-64, and of V8, which makes those to typed arrays one after the other. */
const STORES_IN_ORDER = process.arch === 'x64'

const DEFAULT_SLOTS = 16
const MAX_OFFSET = 2 ** 32
const SIZE_CHECKS = { slots: slotCount }
const CHECKS = { offset: integer(0, MAX_OFFSET) }

abstract class CellEnd<Fields extends RecordFields> {
  /** The schema of its records. */
  readonly schema: RecordSchema<Fields>
  /** How many samples it has room for. */
  readonly slots: number
  /** Where it begins in the mapping, in bytes. */
  readonly offset: number
  /** The staging buffer. @internal */
  protected readonly record: RecordValue<Fields>
  /** The native function. @internal */
  protected readonly move: () => void
  /** What it said: OUTCOME, SEQUENCE, RETRIES. @internal */
  protected readonly said: Float64Array
  /** @internal */
  protected readonly mapping: Mapping

  protected constructor(
    mapping: Mapping,
    schema: RecordSchema<Fields>,
    offset: number,
    slots: number,
    from?: number,
  ) {
    this.schema = schema
    this.slots = slots
    this.offset = offset
    this.mapping = mapping
    const end = mapping.cell(placeOf(schema, offset, slots), from !== undefined, from ?? 0)
    this.move = end.move
    this.said = new Float64Array(end.buffer, 0, RECORD_AT / 8)
    this.said[SEQUENCE] = from ?? 0
    this.record = schema.view(end.buffer, RECORD_AT)
  }

  /** The number of the sample that was published or read last, from 1; 0 before the first. */
  get sequence(): number {
    return this.said[SEQUENCE] ?? 0
  }

  /** Out of the hot path: why nothing was moved. @internal */
  protected fail(): never {
    const name = nameOf(this.mapping, this.offset)
    const outcome = this.said[OUTCOME]
    // Node 22 lets transfer() move even memory that native code holds; that is safe, and there is nothing to look at any more.
    if (outcome === undefined)
      throw new ReactorError(
        'ERR_CLOSED',
        `${name}: the buffer behind its value was transferred. Make it anew`,
      )
    if (outcome === CLOSED)
      throw new ReactorError('ERR_CLOSED', `${name}: its memory was unmapped. Make it anew on a new mapping`)
    if (outcome === LOST) this.mapping.assertIntact()
    if (outcome === LAPPED)
      throw new ReactorError(
        'ERR_CELL_LAPPED',
        `${name}: the writer overtook 1000 attempts to read. Make the cell with more than ${this.slots} slots`,
      )
    throw new ReactorError(
      'ERR_CELL_CORRUPT',
      `${name}: its sequence went back behind ${this.sequence}, or is no count: somebody else wrote to it. Make a new cell`,
    )
  }
}

/**
 * The one writer of a cell: fill in `value`, then `publish()` it.
 *
 * A cell takes `LatestCellWriter.size(schema)` bytes of a mapping. Where those are zeros it is made; where there is one of the
 * same schema, its writer is replaced, and the sequence goes on. `value` is private and keeps what was stored in it last, so that fields
 * which do not change need not be stored again; until the first `publish()` all are zero. A publication copies `schema.size` bytes in one
 * native call, which neither allocates nor makes a system call. Whoever stores every field each time needs no copy: `claim()` gives the
 * record of the next sample where it will lie, and `commit()` publishes it, which takes a third of the time.
 *
 * Guaranteed: neither `publish()` nor `commit()` ever waits for a reader or repeats anything, whatever readers do. Across processes and threads:
 * readers see whole samples only, on x86-64 and arm64 (with `commit()` by what V8 makes of stores to memory of several processes, which
 * ECMAScript does not promise, and the tests look at). Across crashes: a writer killed at any point leaves the last sample that it
 * published readable. Not guaranteed: that anybody reads every sample (a ring does that); anything after a power failure,
 * for which a `MappedFile` has to be flushed. There must not be two writers at a time, which nothing prevents: their samples would be
 * torn. Readers with write access to the memory can spoil it; pass them an object sealed with `'future-write'`.
 *
 * @throws ReactorError `ERR_SHARED_LAYOUT` when something else lies there; `ERR_CLOSED` for memory that was unmapped.
 * @throws TypeError for a mapping that cannot be written to, RangeError for one that is too small.
 * @example
 * import { LatestCellReader, LatestCellWriter, record, SharedMemory } from '@fd-reactor/fd-events'
 * const Pose = record({ position: 'f64', axes: ['f64', 3], flags: 'i32' })
 * using memory = SharedMemory.create(LatestCellWriter.size(Pose))
 * const writer = new LatestCellWriter(memory.map(), Pose)
 * const reader = new LatestCellReader(memory.map({ access: 'read' }), Pose)
 * writer.value.position = 1.5
 * writer.value.axes[2] = 7
 * writer.publish()
 * console.log(reader.read(), reader.value.position, reader.value.axes[2]) // true 1.5 7
 * console.log(reader.read(), reader.sequence) // false 1
 * @see https://docs.kernel.org/locking/seqlock.html
 */
export class LatestCellWriter<Fields extends RecordFields> extends CellEnd<Fields> {
  /** What `publish()` will publish. */
  readonly value: RecordValue<Fields>
  /** The sequence in the memory, as two halves. */
  readonly #words: Int32Array
  /** What `claim()` gives, one for each slot; empty before the first. */
  readonly #places: RecordValue<Fields>[] = []

  /** Makes a cell in `mapping`, or takes over the one that is there. */
  constructor(mapping: Mapping, schema: RecordSchema<Fields>, options: LatestCellWriterOptions = {}) {
    checkOptions('LatestCellWriter', options, { ...CHECKS, ...SIZE_CHECKS })
    const offset = checkedOffset(options)
    if (!mapping.writable) {
      throw new TypeError(
        `${nameOf(mapping, offset)}: its writer needs a mapping with access 'write', and this one is read-only`,
      )
    }
    const header = loadHeader(mapping, schema, offset)
    const slots = header?.slots ?? options.slots ?? DEFAULT_SLOTS
    if (options.slots !== undefined && slots !== options.slots) {
      const wanted = `the cell has ${slots} slots, not ${options.slots}`
      throw layoutError(
        mapping,
        offset,
        `${wanted}. Leave the option out to take it over, or use memory of zeros`,
      )
    }
    if (header === undefined) storeHeader(mapping, schema, offset, slots)
    super(mapping, schema, offset, slots, loadSequence(mapping, offset))
    this.value = this.record
    this.#words = new Int32Array(mapping.buffer, offset + at.CELL_SEQUENCE_AT, 2)
  }

  /** How many bytes of memory a cell takes. */
  static size(schema: RecordShape, options: LatestCellSizeOptions = {}): number {
    checkOptions('LatestCellWriter.size', options, SIZE_CHECKS)
    return at.cellSize(schema.size, options.slots ?? DEFAULT_SLOTS)
  }

  /**
   * Makes `value` the newest sample.
   * @throws ReactorError `ERR_CLOSED` after `mapping.unmap()`; `ERR_MEMORY_LOST` when the memory was cut short.
   */
  publish(): void {
    this.move()
    if (this.said[OUTCOME] !== DONE) this.fail()
  }

  /**
   * The record of the next sample, in the memory: store **every** field, for what is there is an older sample, then `commit()`. Nothing may be
   * stored after that, and nothing read back that matters: who has access to the memory can change it.
   */
  claim(): RecordValue<Fields> {
    return this.#places[(this.sequence + 1) & (this.slots - 1)] ?? this.#firstPlace()
  }

  /** Makes what was stored in `claim()`'s record the newest sample. @throws as `publish()`. */
  commit(): void {
    const sample = (this.said[SEQUENCE] ?? NaN) + 1
    const low = sample | 0
    const words = this.#words
    if (low === 0 || words.length === 0 || this.mapping.losable) this.#commitSlowly(sample)
    // `xchg`, which Atomics.store() is, waits for a line that readers hold, and that takes longer than all the rest.
    else if (STORES_IN_ORDER) words[0] = low
    else Atomics.store(words, 0, low)
    if (!STORES_IN_ORDER) Atomics.load(words, 0) // W2 in cell.cc, for what is stored next
    this.said[SEQUENCE] = sample
  }

  /** Also when the upper half of the sequence changes, so all of it is stored. */
  #commitSlowly(sample: number): void {
    if (this.#words.length === 0) this.said[OUTCOME] = CLOSED
    if (this.#words.length === 0 || Number.isNaN(sample)) this.fail()
    this.mapping.assertIntact()
    const { buffer, byteOffset } = this.#words
    Atomics.store(new BigInt64Array(buffer, byteOffset, 1), 0, BigInt(sample))
  }

  #firstPlace(): RecordValue<Fields> {
    const stride = at.cellStride(this.schema.size)
    const first = this.offset + at.CELL_FIRST_SLOT_AT
    for (let slot = 0; slot < this.slots; slot++)
      this.#places.push(this.schema.view(this.mapping.buffer, first + slot * stride))
    return this.claim()
  }
}

/**
 * A reader of a cell: `read()` brings the newest sample, which `value` then shows until the next `read()`.
 *
 * Any number of readers can be there, each at its own pace, with a mapping of its own; `access: 'read'` will do. A read
 * copies `schema.size` bytes in one native call, which neither allocates nor makes a system call.
 *
 * Guaranteed: what `value` shows is one whole sample, and never an older one than before; the writer does not notice. A copy that
 * the writer overtook is thrown away and made again (`retries` counts that): it happens when `slots − 1` samples were published meanwhile.
 * Across crashes: the last sample stays readable after its writer was killed, whenever that was, and the next writer's follow it.
 * Not guaranteed: seeing every sample; `sequence` tells how many were missed. Who has write access to the memory can make values up, and
 * then gets readers errors, but neither a crash nor a hang: after 1000 attempts `read()` throws.
 *
 * @throws ReactorError `ERR_SHARED_LAYOUT` when no cell of this schema lies there; `ERR_CLOSED` for memory that was unmapped.
 * @throws RangeError for an offset outside of the mapping.
 * @example
 * import { LatestCellReader, LatestCellWriter, record, SharedMemory } from '@fd-reactor/fd-events'
 * const Level = record({ level: 'f32' })
 * using memory = SharedMemory.create(LatestCellWriter.size(Level))
 * const writer = new LatestCellWriter(memory.map(), Level)
 * const reader = new LatestCellReader(memory.map({ access: 'read' }), Level)
 * for (const level of [1, 2, 3]) {
 *   writer.value.level = level
 *   writer.publish()
 * }
 * console.log(reader.read(), reader.value.level, reader.sequence) // true 3 3
 */
export class LatestCellReader<Fields extends RecordFields> extends CellEnd<Fields> {
  /** The sample that was read last; zeros before the first. */
  readonly value: Readonly<RecordValue<Fields>>

  /** Looks for the cell that a writer has made in `mapping`. */
  constructor(mapping: Mapping, schema: RecordSchema<Fields>, options: LatestCellOptions = {}) {
    checkOptions('LatestCellReader', options, CHECKS)
    const offset = checkedOffset(options)
    const header = loadHeader(mapping, schema, offset)
    if (header === undefined)
      throw layoutError(mapping, offset, 'there is no cell yet: its writer has to make it first')
    super(mapping, schema, offset, header.slots)
    this.value = this.record
  }

  /** How many copies were thrown away because the writer had overtaken them. */
  get retries(): number {
    return this.said[RETRIES] ?? 0
  }

  /**
   * Brings the newest sample into `value`; false when that is there already, or none was published yet.
   * @throws ReactorError `ERR_CLOSED` after `mapping.unmap()`; `ERR_CELL_LAPPED` when the writer is too fast for so few slots;
   * `ERR_CELL_CORRUPT` when the sequence is not what the writer made it; `ERR_MEMORY_LOST` when the memory was cut short.
   */
  read(): boolean {
    this.move()
    const outcome = this.said[OUTCOME]
    if (outcome === DONE) return true
    if (outcome !== NOTHING_NEW) this.fail()
    return false
  }
}

function placeOf(schema: RecordShape, offset: number, slots: number): CellPlace {
  return {
    sequenceAt: offset + at.CELL_SEQUENCE_AT,
    slotsAt: offset + at.CELL_FIRST_SLOT_AT,
    slots,
    stride: at.cellStride(schema.size),
    size: Math.ceil(schema.size / 8) * 8,
  }
}

function checkedOffset({ offset = 0 }: LatestCellOptions): number {
  if (offset % at.CELL_LINE === 0) return offset
  throw new RangeError(`The offset of a cell must be a multiple of ${at.CELL_LINE}, not ${offset}`)
}
