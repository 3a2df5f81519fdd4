/**
 * The layout of rings in memory: numbers and pure arithmetic, for everybody who writes or reads one in any language.
 *
 * All words are 32 bits, little-endian, and aligned. A ring is one page of control words and `capacity` bytes of data, a power of two.
 * A **position** counts bytes written since the ring was made, modulo 2^32; `position mod capacity` is its place in the data. A **record** is
 * a header of two words, `length` and `sequence`, then the message, filled up to a multiple of 8. A record never wraps: what is left
 * before the end of the data is filled by a header of length `PAD`. Each party writes to cache lines of its own.
 *
 * The writer puts records behind `head` and then moves `head`, which commits them. The reader moves `tail`, which acknowledges them and
 * gives their room back. Nothing else says what a ring holds, so a party that is killed at any moment leaves it whole. Beside `head`
 * stand two marks, each a position and the sequence number of the record that begins there; the one whose position is `head` counts. The
 * writer fills the other one before it moves `head`.
 *
 * Who goes to sleep sets its `waiting` word (the reader to 1, the writer to how many bytes must be free), looks once more, and sleeps on its
 * eventfd. Who moved `head` (or `tail`) looks at the other side's `waiting` word; if that is fulfilled, and it is the one that takes the value
 * out, it writes to that eventfd. Both sides store before they load, in one total order (sequentially consistent), so at least one of
 * them sees the other. Who takes the place of one that was killed rings the other side once: the dead one may have taken a `waiting` word out
 * and not rung.
 *
 * `scripts/ring-header.mjs` writes `include/fd-reactor-ring.h` from these numbers.
 */

/** What stands in the first word: `FDRR`. */
export const RING_MAGIC = 0x52_52_44_46
/** The version of this layout. */
export const RING_VERSION = 1
/** The kind of an object in memory. */
export const RingKind = {
  /** One writer, one reader. */
  Single: 1,
  /** One writer, many readers, which never hold it up: broadcast-layout.ts. */
  Broadcast: 2,
  /** Many writers, one reader: many-writer-layout.ts. */
  ManyWriters: 3,
} as const

/** Where a ring's words stand, in bytes from its beginning. */
export const RingOffset = {
  Magic: 0,
  Version: 4,
  Kind: 8,
  Capacity: 12,
  // The writer's line.
  Head: 128,
  Mark0Position: 132,
  Mark0Sequence: 136,
  Mark1Position: 140,
  Mark1Sequence: 144,
  /** Odd after a writer's end; the next one makes it even again. */
  WriterEnded: 148,
  // The reader's line.
  Tail: 256,
  // Set by who sleeps and taken by who wakes it, so it stands on a line of its own.
  ReaderWaiting: 384,
  WriterWaiting: 512,
  Data: 4096,
} as const

/** Not exported, and so a constant for V8, which loads and checks what is exported at each use. */
const HEADER = 8
/** Bytes of a record's header. */
export const RECORD_HEADER = HEADER
/** The `length` of what only fills the data up to its end. */
export const PAD = -1
/** The limits of a ring's capacity, both powers of two. */
export const MIN_CAPACITY = 4096
export const MAX_CAPACITY = 2 ** 30

/** How many bytes a message of `length` takes. */
export function recordBytes(length: number): number {
  return (length + HEADER + 7) & ~7
}

/** The longest message: wherever it begins, it and the padding before it fit into an empty ring. */
export function maxMessageBytes(capacity: number): number {
  return capacity / 2 - HEADER
}

/** How many bytes lie from position `from` to position `to`. */
export function distance(from: number, to: number): number {
  return (to - from) >>> 0
}

/** How many bytes a record of `size` takes from a place in the data on, padding included. */
export function spaceFor(place: number, size: number, capacity: number): number {
  const toEnd = capacity - place
  return size > toEnd ? toEnd + size : size
}

/** How much must be free before a writer that needs `space` is woken: half at least, so that it is not woken for each message. */
export function wantedRoom(space: number, capacity: number): number {
  return Math.max(space, capacity / 2)
}
