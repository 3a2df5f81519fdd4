/**
 * Bytes on their way to a stream socket: what one handler writes leaves in one system call, what the kernel does not take waits.
 *
 * A buffer that a handler wrote is only referred to until that handler returns (`flush`); what is left then is copied, so a
 * writer may reuse its memory, and a borrowed view of the slab may be written.
 */
import { Buffer } from 'node:buffer'
import type { FdHandle } from '@fd-reactor/core'
import { closeAll } from './passed-fds.js'

/**
 * Sends `length` bytes from `offset`, and `fds` with the first of them; returns how many the kernel took, {@link LATER}, or -errno.
 */
export type Send = (bytes: Uint8Array, offset: number, length: number, fds?: readonly FdHandle[]) => number

/** What leaves in its place by a function of its own, such as a file. */
export interface QueueItem {
  /**
   * Sends what the kernel takes. Above 0, how many bytes have left, and there may be more; 0, that all of it has; -EAGAIN, that it waits for
   * room; {@link LATER}, that it waits for something else and will say when to go on; any other -errno, that the socket is broken.
   */
  send(): number
  /** The stream has ended, for `reason` if there is one, and it will not be asked any more. */
  drop(reason?: Error): void
}

/** See {@link QueueItem}. */
export const LATER = -115

/** Pieces below this are joined before they are sent; copying them costs less than a system call. */
const JOIN_BYTES = 16 * 1024
/** How much items may send in one flush, so that a file does not keep the loop from the others. */
const ITEM_BYTES = 1024 * 1024
const EAGAIN = -11

interface Piece {
  bytes: Uint8Array
  offset: number
  length: number
  /** Descriptors that leave with the first byte. */
  fds?: readonly FdHandle[] | undefined
  item?: QueueItem
}

const NOTHING = new Uint8Array()

/** A queue of pieces, in order. The hot path, one write in a handler that the kernel takes whole, allocates nothing. */
export class StreamQueue {
  #pieces: Piece[] = []
  /** How many of them are the caller's memory, at the end of the list. */
  #borrowed = 0
  #length = 0
  #items = 0
  #needsRoom = false
  /** The only piece, while it has `#soleLength` bytes: the caller's memory. */
  #sole: Uint8Array = NOTHING
  #soleOffset = 0
  #soleLength = 0

  /** How many bytes wait; items have none. */
  get length(): number {
    return this.#length
  }

  /** Whether nothing waits, items included. */
  get empty(): boolean {
    return this.#length === 0 && this.#items === 0
  }

  /** Whether items or descriptors wait, which nobody but this queue can send. */
  get busy(): boolean {
    return this.#items > 0 || this.#pieces.some(({ fds }) => fds !== undefined)
  }

  /** Whether the last flush left something because the kernel had no room for it. */
  get needsRoom(): boolean {
    return this.#needsRoom
  }

  /** Adds what leaves by a function of its own. */
  push(item: QueueItem): void {
    this.#listSole()
    this.#pieces.push({ bytes: NOTHING, offset: 0, length: 0, item })
    this.#borrowed++
    this.#items++
  }

  /** Adds bytes that stay the caller's; `flush` must follow before they change. */
  borrow(bytes: Uint8Array, offset: number, length: number): void {
    if (this.#length === 0 && this.#items === 0) {
      this.#sole = bytes
      this.#soleOffset = offset
      this.#soleLength = length
    } else {
      this.#listSole()
      this.#pieces.push({ bytes, offset, length })
      this.#borrowed++
    }
    this.#length += length
  }

  /** As `borrow`, with descriptors, which are the queue's from now on. */
  pass(bytes: Uint8Array, fds: readonly FdHandle[]): void {
    this.#listSole()
    this.#pieces.push({ bytes, offset: 0, length: bytes.length, fds })
    this.#borrowed++
    this.#length += bytes.length
  }

  /** Sends what the kernel takes, and keeps the rest as its own. Returns 0, or -errno when the socket is broken. */
  flush(send: Send): number {
    this.#needsRoom = false
    if (this.#soleLength > 0) {
      const sent = send(this.#sole, this.#soleOffset, this.#soleLength)
      if (sent === this.#soleLength) {
        this.#soleLength = this.#length = 0
        this.#sole = NOTHING
        return 0
      }
      if (sent < 0 && sent !== EAGAIN) return sent
      if (sent > 0) {
        this.#soleOffset += sent
        this.#soleLength -= sent
        this.#length -= sent
      }
      this.#listSole()
    }
    let budget = ITEM_BYTES
    while (this.#pieces.length > 0) {
      const piece = this.#first()
      const { item } = piece
      const sent =
        item === undefined
          ? send(piece.bytes, piece.offset, piece.length, piece.fds)
          : budget > 0
            ? item.send()
            : EAGAIN
      if (sent === EAGAIN || sent === LATER) {
        this.#needsRoom = sent === EAGAIN
        break
      }
      if (sent < 0) return sent
      if (item !== undefined) {
        budget -= sent
        if (sent === 0) this.#leave(piece)
        continue
      }
      closeAll(piece.fds ?? [])
      piece.fds = undefined
      this.#length -= sent
      piece.offset += sent
      piece.length -= sent
      if (piece.length === 0) this.#pieces.shift()
    }
    this.own()
    return 0
  }

  /** Gives the bytes that wait to the caller, as a copy. There must be no items among them. */
  take(): Buffer {
    this.#listSole()
    const rest = Buffer.concat(
      this.#pieces.map(({ bytes, offset, length }) => bytes.subarray(offset, offset + length)),
    )
    this.clear()
    return rest
  }

  /** Forgets everything; items are told why. */
  clear(reason?: Error): void {
    const pieces = this.#pieces
    this.#pieces = []
    this.#sole = NOTHING
    this.#borrowed = this.#length = this.#soleLength = this.#items = 0
    this.#needsRoom = false
    for (const { item, fds } of pieces) {
      item?.drop(reason)
      closeAll(fds ?? [])
    }
  }

  /** An item has left, unless its last call has cleared the queue. */
  #leave(piece: Piece): void {
    if (this.#pieces[0] !== piece) return
    this.#pieces.shift()
    this.#borrowed = Math.min(this.#borrowed, this.#pieces.length)
    this.#items--
  }

  #listSole(): void {
    if (this.#soleLength === 0) return
    this.#pieces.push({ bytes: this.#sole, offset: this.#soleOffset, length: this.#soleLength })
    this.#borrowed++
    this.#sole = NOTHING
    this.#soleLength = 0
  }

  /** The first piece, joined with the small ones that follow it. */
  #first(): Piece {
    const pieces = this.#pieces
    let count = 0
    let total = 0
    for (const { length, item, fds } of pieces) {
      if (item !== undefined || fds !== undefined || length >= JOIN_BYTES || total + length > JOIN_BYTES)
        break
      total += length
      count++
    }
    const first = pieces[0] ?? { bytes: new Uint8Array(), offset: 0, length: 0 }
    if (count < 2) return first
    const joined = Buffer.allocUnsafe(total)
    let at = 0
    for (const { bytes, offset, length } of pieces.slice(0, count)) {
      joined.set(bytes.subarray(offset, offset + length), at)
      at += length
    }
    const piece = { bytes: joined, offset: 0, length: total }
    pieces.splice(0, count, piece)
    this.#borrowed = Math.min(this.#borrowed, pieces.length - 1)
    return piece
  }

  /** Copies what is still the caller's. */
  own(): void {
    this.#listSole()
    const pieces = this.#pieces
    for (let index = pieces.length - this.#borrowed; index < pieces.length; index++) {
      const piece = pieces[index]
      if (piece === undefined || piece.item !== undefined) continue
      piece.bytes = Buffer.from(piece.bytes.subarray(piece.offset, piece.offset + piece.length))
      piece.offset = 0
    }
    this.#borrowed = 0
  }
}
