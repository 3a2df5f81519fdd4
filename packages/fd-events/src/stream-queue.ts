/**
 * Bytes on their way to a stream socket: what one handler writes leaves in one system call, what the kernel does not take waits.
 *
 * A buffer that a handler wrote is only referred to until that handler returns (`flush`); what is left then is copied, so a
 * writer may reuse its memory, and a borrowed view of the slab may be written.
 */

/** Sends `length` bytes from `offset`; returns how many the kernel took, or -errno. */
export type Send = (bytes: Uint8Array, offset: number, length: number) => number

/** Pieces below this are joined before they are sent; copying them costs less than a system call. */
const JOIN_BYTES = 16 * 1024
const EAGAIN = -11

interface Piece {
  bytes: Uint8Array
  offset: number
  length: number
}

const NOTHING = new Uint8Array()

/** A queue of pieces, in order. The hot path, one write in a handler that the kernel takes whole, allocates nothing. */
export class StreamQueue {
  #pieces: Piece[] = []
  /** How many of them are the caller's memory, at the end of the list. */
  #borrowed = 0
  #length = 0
  /** The only piece, while it has `#soleLength` bytes: the caller's memory. */
  #sole: Uint8Array = NOTHING
  #soleOffset = 0
  #soleLength = 0

  /** How many bytes wait. */
  get length(): number {
    return this.#length
  }

  /** Adds bytes that stay the caller's; `flush` must follow before they change. */
  borrow(bytes: Uint8Array, offset: number, length: number): void {
    if (this.#length === 0) {
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

  /** Sends what the kernel takes, and keeps the rest as its own. Returns 0, or -errno when the socket is broken. */
  flush(send: Send): number {
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
    while (this.#pieces.length > 0) {
      const piece = this.#first()
      const sent = send(piece.bytes, piece.offset, piece.length)
      if (sent === EAGAIN) break
      if (sent < 0) return sent
      this.#length -= sent
      piece.offset += sent
      piece.length -= sent
      if (piece.length === 0) this.#pieces.shift()
    }
    this.own()
    return 0
  }

  /** Gives what waits to the caller, as a copy. */
  take(): Buffer {
    this.#listSole()
    const rest = Buffer.concat(
      this.#pieces.map(({ bytes, offset, length }) => bytes.subarray(offset, offset + length)),
    )
    this.clear()
    return rest
  }

  /** Forgets everything. */
  clear(): void {
    this.#pieces = []
    this.#sole = NOTHING
    this.#borrowed = this.#length = this.#soleLength = 0
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
    for (const { length } of pieces) {
      if (length >= JOIN_BYTES || total + length > JOIN_BYTES) break
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
      if (piece === undefined) continue
      piece.bytes = Buffer.from(piece.bytes.subarray(piece.offset, piece.offset + piece.length))
      piece.offset = 0
    }
    this.#borrowed = 0
  }
}
