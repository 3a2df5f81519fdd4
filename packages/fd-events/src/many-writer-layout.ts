/**
 * The layout of rings with many writers and one reader: numbers and pure arithmetic.
 *
 * Control words, then `count` slots of the same size, a power of two of them. The header is that of all rings (ring-layout.ts), with the kind
 * `ManyWriters`; its `capacity` is the bytes of all slots. A **ticket** counts messages, modulo 2^32, from `FIRST_TICKET` on; `ticket mod count` is
 * its slot, `ticket div count` its **lap**. A slot is its `state`, the message's `length`, and the message.
 *
 * `state` has all there is to know about a slot in one word: the lap (22 bits), the owner (8 bits), and the status (2 bits). It goes round:
 *
 *   FREE(lap) ─ writer ─► CLAIMED(lap, owner) ─ the owner ─► COMMITTED(lap, owner) ─ reader ─► FREE(lap + 1)
 *                                       └─ the owner, or the reader when the owner is dead ─► ABANDONED(lap, owner) ─ reader ─┘
 *
 * Every arrow but the reader's last is a compare-and-swap, so a claim always names its owner, and nobody dies between claiming and saying so.
 * `head` is a hint that everybody helps forward: the first ticket that may be free. The reader's place is its own affair.
 *
 * Who sleeps says so as in ring-layout.ts. Each writer has a `waiting` word of its own, and sets `RoomWanted` after it, which the
 * reader looks at when it has freed slots.
 */

/** Where the words stand, in bytes from the beginning. */
export const ManyWriterOffset = {
  /** Of a slot. */
  SlotBytes: 16,
  // The writers' line.
  Head: 128,
  // Set by who sleeps and taken by who wakes it.
  ReaderWaiting: 256,
  RoomWanted: 384,
  /** Of writer 0, who does not exist; each has a line of its own. */
  WriterWaiting: 4096,
  Slots: 8192,
} as const

/** Bytes of a line of the processor's cache. */
export const LINE = 64
/** Writers have numbers from 1. */
export const MAX_WRITERS = 63
/** Of a slot before its message. */
export const SLOT_HEADER = 8
/** The limits of the number of slots, both powers of two. */
export const MIN_SLOTS = 16
export const MAX_SLOTS = 2 ** 16

/** A slot's status: the lowest bits of its state. */
export const Status = {
  Free: 0,
  Claimed: 1,
  Committed: 2,
  Abandoned: 3,
} as const
/** Of a state, from this bit on. */
const LAP_SHIFT = 10
const LAP_BITS = 32 - LAP_SHIFT
/** The first ticket, so that tickets start again from 0 in every test, and not only after years. */
export const FIRST_TICKET = -2048

/** How many bytes a slot for messages of up to `maxMessage` bytes takes. */
export function slotBytesFor(maxMessage: number): number {
  return Math.ceil((maxMessage + SLOT_HEADER) / LINE) * LINE
}

/** The lap of a ticket; `shift` is the logarithm of the number of slots. */
export function lapOf(ticket: number, shift: number): number {
  return ticket >>> shift
}

/** A state. */
export function stateOf(lap: number, owner: number, status: number): number {
  return (lap << LAP_SHIFT) | (owner << 2) | status
}

/** Who has claimed a slot. */
export function ownerOf(state: number): number {
  return (state >>> 2) & 0xff
}

/** What a state says of a slot: one of {@link Status}. */
export function statusOf(state: number): number {
  return state & 3
}

/** How many laps a state is ahead of a ticket: they count up to 2^22 or, with more than 1024 slots, as far as tickets do. */
export function lapsAhead(state: number, ticket: number, shift: number): number {
  const unused = 32 - Math.min(LAP_BITS, 32 - shift)
  return (((state >> LAP_SHIFT) - lapOf(ticket, shift)) << unused) >> unused
}
