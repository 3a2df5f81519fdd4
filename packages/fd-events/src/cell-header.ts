/**
 * The header of a cell: made by its first writer, checked by everybody else.
 */
import { ReactorError, type Mapping } from '@fd-reactor/core'
import { integer, type Check } from '@fd-reactor/core/sys'
import * as at from './cell-layout.js'
import type { RecordShape } from './record-schema.js'

/** How many slots a cell can have. */
export const slotCount: Check = (value, name) => {
  integer(at.CELL_MIN_SLOTS, at.CELL_MAX_SLOTS)(value, name)
  if (!isPowerOfTwo(Number(value)))
    throw new RangeError(`${name} must be a power of two, not ${Number(value)}`)
}

/** Undefined where there is no cell yet. It is copied first: who can write there can change it while it is checked. */
export function loadHeader(
  mapping: Mapping,
  schema: RecordShape,
  offset: number,
): { slots: number } | undefined {
  const bytes = new Uint8Array(at.CELL_HEADER_SIZE)
  mapping.load(offset, bytes)
  const header = new DataView(bytes.buffer)
  const field = (where: number): number => header.getUint32(where, true)
  const magic = field(at.CELL_MAGIC_AT)
  if (magic === 0) return undefined
  if (magic !== at.CELL_MAGIC)
    throw layoutError(
      mapping,
      offset,
      'something else than a cell lies there. Look for it at its offset, or use memory of zeros',
    )
  const version = field(at.CELL_VERSION_AT)
  if (version !== at.CELL_VERSION)
    throw layoutError(
      mapping,
      offset,
      `the cell has version ${version}, not ${at.CELL_VERSION}. Use the same release on both sides`,
    )
  const size = field(at.CELL_RECORD_SIZE_AT)
  const hash = header.getBigUint64(at.CELL_HASH_AT, true)
  if (size !== schema.size || hash !== schema.hash) {
    const theirs = `records of ${size} bytes and hash ${hash.toString(16)}`
    const ours = `${schema.size} bytes and hash ${schema.hash.toString(16)} (${schema.description})`
    throw layoutError(
      mapping,
      offset,
      `the cell has ${theirs}, not ${ours}. Use the same schema on both sides`,
    )
  }
  const slots = field(at.CELL_SLOTS_AT)
  const stride = field(at.CELL_STRIDE_AT)
  const sane = slots >= at.CELL_MIN_SLOTS && slots <= at.CELL_MAX_SLOTS && isPowerOfTwo(slots)
  if (!sane || stride !== at.cellStride(size))
    throw layoutError(
      mapping,
      offset,
      `the cell cannot have ${slots} slots, one each ${stride} bytes. Make a new one`,
    )
  return { slots }
}

/** The magic comes last: a writer that is killed before leaves no cell. */
export function storeHeader(mapping: Mapping, schema: RecordShape, offset: number, slots: number): void {
  const end = offset + at.cellSize(schema.size, slots)
  if (end > mapping.buffer.byteLength) {
    const needed = `a cell of ${slots} slots ends at byte ${end} and the mapping at ${mapping.buffer.byteLength}`
    throw new RangeError(
      `${nameOf(mapping, offset)}: ${needed}. LatestCellWriter.size() tells how much it needs`,
    )
  }
  const bytes = new Uint8Array(at.CELL_HEADER_SIZE)
  const header = new DataView(bytes.buffer)
  header.setUint32(at.CELL_VERSION_AT, at.CELL_VERSION, true)
  header.setUint32(at.CELL_RECORD_SIZE_AT, schema.size, true)
  header.setUint32(at.CELL_SLOTS_AT, slots, true)
  header.setUint32(at.CELL_STRIDE_AT, at.cellStride(schema.size), true)
  header.setBigUint64(at.CELL_HASH_AT, schema.hash, true)
  mapping.store(offset, bytes)
  header.setUint32(at.CELL_MAGIC_AT, at.CELL_MAGIC, true)
  mapping.store(offset + at.CELL_MAGIC_AT, bytes.subarray(at.CELL_MAGIC_AT, at.CELL_VERSION_AT))
}

/** How many samples were published. @throws ReactorError `ERR_CELL_CORRUPT`. */
export function loadSequence(mapping: Mapping, offset: number): number {
  const sequence = new BigUint64Array(1)
  mapping.load(offset + at.CELL_SEQUENCE_AT, new Uint8Array(sequence.buffer))
  const count = Number(sequence[0])
  if (Number.isSafeInteger(count)) return count
  const message = `${nameOf(mapping, offset)}: its sequence is no count: somebody else wrote to it. Make a new cell`
  throw new ReactorError('ERR_CELL_CORRUPT', message)
}

function isPowerOfTwo(value: number): boolean {
  return value > 0 && (value & (value - 1)) === 0
}

/** What errors call a cell. */
export function nameOf(mapping: Mapping, offset: number): string {
  return `LatestCell at ${offset} in ${mapping.label}`
}

/** An error for a cell that is not as it should be. */
export function layoutError(mapping: Mapping, offset: number, message: string): ReactorError {
  return new ReactorError('ERR_SHARED_LAYOUT', `${nameOf(mapping, offset)}: ${message}`)
}
