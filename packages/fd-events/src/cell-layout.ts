/**
 * Where everything lies in a cell: numbers only, in bytes from its beginning, little-endian.
 *
 *   0    magic u32, version u32, record size u32, slots u32, slot stride u32, 4 bytes of nothing, hash of the schema u64
 *   64   sequence u64: how many samples were published
 *   128  slots: sample n lies in slot n mod slots
 *
 * A cell begins at a multiple of 64, so that each of these has cache lines of its own. The magic is stored last: memory of
 * zeros holds no cell yet.
 */

/** 'FDLC' in memory. */
export const CELL_MAGIC = 0x43_4c_44_46
export const CELL_VERSION = 1

export const CELL_MAGIC_AT = 0
export const CELL_VERSION_AT = 4
export const CELL_RECORD_SIZE_AT = 8
export const CELL_SLOTS_AT = 12
export const CELL_STRIDE_AT = 16
export const CELL_HASH_AT = 24
export const CELL_HEADER_SIZE = 32

export const CELL_SEQUENCE_AT = 64
export const CELL_FIRST_SLOT_AT = 128

/** A cell and its slots begin at multiples of it. */
export const CELL_LINE = 64
/** The fewest that leave a reader any time, and the most; a power of two. */
export const CELL_MIN_SLOTS = 4
export const CELL_MAX_SLOTS = 1024

/** From one slot to the next, for records of `size` bytes. */
export function cellStride(size: number): number {
  return Math.ceil(size / CELL_LINE) * CELL_LINE
}

/** How many bytes a cell takes. */
export function cellSize(size: number, slots: number): number {
  return CELL_FIRST_SLOT_AT + slots * cellStride(size)
}
