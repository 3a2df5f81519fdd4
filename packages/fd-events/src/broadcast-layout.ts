/**
 * The layout of broadcast rings in memory: numbers and pure arithmetic.
 *
 * One page of control words, then `capacity` bytes of data, a power of two. The header is that of all rings (ring-layout.ts), with
 * the kind `Broadcast`. Only the writer can write to this memory; each reader has a page of its own, a **seat**, with the one word that it writes.
 *
 * A **position** counts cells of 8 bytes since the ring was made and never wraps (2^53 cells are 64 PiB); `position mod (capacity / 8)` is its
 * place in the data. A **record** is two cells, then the message, filled up to a whole cell: `length`, an unused word, and the sequence
 * number in 64 bits, low word first. Positions and sequence numbers of any size are told apart, however far a reader was lapped. A record
 * never wraps: a cell whose first word is `PAD` fills the data up to its end.
 *
 * Three positions are published. Records lie between `floor` and `head`: whatever is below `floor` may be overwritten at any time. `resume`
 * is where a record begins, at least as far as `floor`, for a reader that was lapped.
 *
 * A position is published in two words, `high` (bits 31 to 62) and `low` (bits 0 to 31); bit 31 is in both. The writer stores `high`, when it
 * changes, before `low`. Who reads `high`, `low`, and the same `high` again has both of one time, or a `low` of just before the change of `high`;
 * then bit 31 differs, and `high` is one too large. So the words are right at every moment, also when the writer was killed between two.
 */

/** Where a broadcast ring's words stand, in bytes from its beginning. */
export const BroadcastOffset = {
  HeadHigh: 128,
  HeadLow: 132,
  WriterEnded: 136,
  FloorHigh: 256,
  FloorLow: 260,
  ResumeHigh: 264,
  ResumeLow: 268,
  Data: 4096,
} as const

/** Where a seat's words stand, behind the header of all rings. */
export const SeatOffset = {
  /** 1 while the reader sleeps. */
  Waiting: 128,
  /** Its size. */
  End: 4096,
} as const

/** Bytes of a cell. */
export const CELL = 8
/** Cells of a record's header. */
export const HEADER_CELLS = 2

/** How many cells a message of `length` bytes takes. */
export function recordCells(length: number): number {
  return HEADER_CELLS + Math.ceil(length / CELL)
}

/** The longest message: a quarter of the data, so that there is always a whole record for who was lapped. */
export function maxBroadcastBytes(capacity: number): number {
  return capacity / 4 - HEADER_CELLS * CELL
}

/** Where the floor goes when the data up to position `end` is about to be written: some further, so that it is not moved for each message. */
export function floorFor(end: number, cells: number): number {
  return end - cells + cells / 16
}

/** The upper word of a position. */
export function highOf(position: number): number {
  return Math.floor(position / 2 ** 31) | 0
}

/** The lower word of a position. */
export function lowOf(position: number): number {
  return position | 0
}

/** The position of which these are the words, where `high` may be that of the next one already. */
export function positionOf(high: number, low: number): number {
  const ahead = (high ^ (low >>> 31)) & 1
  return ((high >>> 0) - ahead) * 2 ** 31 + (low & 0x7fff_ffff)
}
