/**
 * Records of fixed size, declared once: their layout, and typed accessors of them.
 */
import { Buffer } from 'node:buffer'
import { endianness } from 'node:os'
import { ReactorError } from '@fd-reactor/core'
import { integer } from '@fd-reactor/core/sys'
import { compileAccessors, type RecordValue } from './record-accessors.js'
import {
  alignUp,
  describe,
  layOut,
  MAX_SIZE,
  sizeOf,
  type RecordField,
  type RecordFields,
} from './record-layout.js'

type ValueClass<Fields extends RecordFields> = new (
  buffer: ArrayBuffer,
  offset: number,
) => RecordValue<Fields>

/** What two sides have to agree on of a {@link RecordSchema}, whatever its fields. */
export type RecordShape = Pick<RecordSchema<RecordFields>, 'size' | 'hash' | 'description'>

/**
 * The layout of a record, for {@link LatestCellWriter}, {@link LatestCellReader} and whoever else has records in memory. Made by
 * {@link record}.
 */
export class RecordSchema<Fields extends RecordFields> {
  /** What it was made of. */
  readonly declared: Fields
  /** In bytes, up to the alignment of the whole: what `sizeof` gives in C. */
  readonly size: number
  /** Of the whole, in bytes: that of its widest field. */
  readonly alignment: number
  /** Its fields in order. */
  readonly fields: readonly RecordField[]
  /** All that matters to somebody else, such as `'position:f64@0 axes:f64[6]@8 size:56'`. */
  readonly description: string
  /** A hash of `description`, which cells carry: FNV-1a with 64 bits, as a program in C computes it too. */
  readonly hash: bigint
  readonly #Value: ValueClass<Fields>

  /** See {@link record}. */
  constructor(fields: Fields) {
    if (endianness() !== 'LE') {
      const message = 'Records are little-endian, and this machine is not. There is no way around that'
      throw new ReactorError('ERR_UNSUPPORTED_PLATFORM', message)
    }
    this.declared = fields
    const layout = layOut(fields)
    const last = layout.at(-1)
    if (last === undefined) throw new TypeError('A record has at least one field')
    this.alignment = Math.max(...layout.map((field) => sizeOf(field)))
    this.size = alignUp(last.offset + sizeOf(last) * last.length, this.alignment)
    if (this.size > MAX_SIZE)
      throw new RangeError(`A record has at most ${MAX_SIZE} bytes, not ${this.size}: share a ring instead`)
    this.fields = layout.map(({ as: _as, ...field }) => Object.freeze(field))
    this.description = describe(layout, this.size)
    this.hash = fnv1a(this.description)
    const made = compileAccessors(layout, this.size)
    if (!this.#isValueClass(made)) throw new TypeError('The accessors of a record are a class')
    this.#Value = made
  }

  /**
   * Accessors of a record that lies at `offset` of a buffer, which begins at a multiple of `alignment`. They do not allocate once
   * V8 has optimised their caller, but for bigints (and for `u64` and `i64` above 2^31 in Node 22 and later, 16 bytes in each turn of a
   * function that never returns from its first loop). @throws RangeError when it does not lie there.
   */
  view(buffer: ArrayBuffer, offset = 0): RecordValue<Fields> {
    integer(0, Math.max(0, buffer.byteLength - this.size))(offset, 'The offset of a record')
    if (offset % this.alignment !== 0)
      throw new RangeError(`The offset of a record must be a multiple of ${this.alignment}, not ${offset}`)
    if (buffer.byteLength < this.size)
      throw new RangeError(`A record of ${this.size} bytes is not within ${buffer.byteLength} bytes`)
    return new this.#Value(buffer, offset)
  }

  #isValueClass(made: unknown): made is ValueClass<Fields> {
    return typeof made === 'function'
  }
}

/**
 * A schema of records: a fixed list of fields, each a number, or an array of so many numbers.
 *
 * The layout is that of the same struct in C: fields in order, each at a multiple of its own size, the whole up to a multiple
 * of the widest, little-endian. So `{ flags: 'i32', axes: ['f64', 2] }` is `struct { int32_t flags; double axes[2]; }` of 24 bytes.
 * Numbers that are stored into `f32` and the integers up to 32 bits are rounded or wrapped as typed arrays do it; `u64` and `i64` throw a
 * RangeError for what is not a whole number below 2^53, when they are stored and when they are read. Names are identifiers.
 *
 * @throws TypeError for names and types that do not exist; RangeError for more than 1 MiB.
 * @example
 * import { record } from '@fd-reactor/fd-events'
 * const Pose = record({ flags: 'i32', axes: ['f64', 2], stamp: 'u64' })
 * const pose = Pose.view(new ArrayBuffer(Pose.size))
 * pose.stamp = 2 ** 40
 * pose.axes[1] = 0.5
 * console.log(Pose.size, pose.stamp, pose.axes[1], pose.flags) // 32 1099511627776 0.5 0
 */
export function record<const Fields extends RecordFields>(fields: Fields): RecordSchema<Fields> {
  return new RecordSchema(fields)
}

function fnv1a(text: string): bigint {
  let hash = 0xcbf2_9ce4_8422_2325n
  for (const byte of Buffer.from(text)) hash = BigInt.asUintN(64, (hash ^ BigInt(byte)) * 0x100_0000_01b3n)
  return hash
}
