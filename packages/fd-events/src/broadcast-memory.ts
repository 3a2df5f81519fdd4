/**
 * A broadcast ring's words as indices, and how positions are stored and loaded.
 */
import { BroadcastOffset, highOf, lowOf, positionOf, SeatOffset } from './broadcast-layout.js'
import { RING_VERSION } from './ring-layout.js'
import type { OfferKind } from './memory-offer.js'

/** The words of the data's control page and of a seat, as indices of an Int32Array. A position is named by its `high` word; `low` follows. */
export const BroadcastWord = {
  Head: BroadcastOffset.HeadHigh / 4,
  WriterEnded: BroadcastOffset.WriterEnded / 4,
  Floor: BroadcastOffset.FloorHigh / 4,
  Resume: BroadcastOffset.ResumeHigh / 4,
  SeatWaiting: SeatOffset.Waiting / 4,
} as const

/** What a reader is offered: the data, its seat, its doorbell; and where it may begin. */
export const BROADCAST_OFFER: OfferKind = { name: 'broadcast', version: RING_VERSION, fds: 3 }
/** How errors name the memory. */
export const BROADCAST = 'broadcast ring'
/** More than these in a row do not happen: each means that 2^34 bytes were written between two loads. */
const TRIES = 100

/** Publishes a position: everything that was stored before is seen by who loads it. */
export function storePosition(control: Int32Array, word: number, position: number, before: number): void {
  const high = highOf(position)
  if (high !== highOf(before)) Atomics.store(control, word, high)
  Atomics.store(control, word + 1, lowOf(position))
}

/** The position that was published last; −1 for words that are changed all the time, as no honest writer does. */
export function loadPosition(control: Int32Array, word: number): number {
  let high = Atomics.load(control, word)
  for (let tries = 0; tries < TRIES; tries++) {
    const low = Atomics.load(control, word + 1)
    const again = Atomics.load(control, word)
    if (again === high) return positionOf(high, low)
    high = again
  }
  return -1
}
