/**
 * Small copies, word by word: `set()` costs more than all else that is done for a small message.
 */
import { Buffer } from 'node:buffer'

/** Up to here a loop is quicker. */
const SMALL_BYTES = 512

/** What Buffer.allocUnsafe() took memory from last, and the same as words: asking a Buffer for its memory is slow, too. */
let pool: ArrayBufferLike = new ArrayBuffer(0)
let poolWords = new Int32Array(pool)

/** A copy of bytes that begin at a multiple of 4. Small ones share Node's pool of 8 KiB, so that a kept one pins little. */
export function copyOut(bytes: Buffer, words: Int32Array, at: number, length: number): Buffer {
  const copy = Buffer.allocUnsafe(length)
  const begin = copy.byteOffset
  if (length > SMALL_BYTES || (begin & 3) !== 0) {
    copy.set(bytes.subarray(at, at + length))
    return copy
  }
  const { buffer } = copy
  if (buffer !== pool) {
    pool = buffer
    poolWords = new Int32Array(buffer, 0, buffer.byteLength >> 2)
  }
  const to = poolWords
  const first = begin >> 2
  const from = at >> 2
  const count = length >> 2
  for (let word = 0; word < count; word++) to[first + word] = words[from + word] ?? 0
  for (let byte = count << 2; byte < length; byte++) copy[byte] = bytes[at + byte] ?? 0
  return copy
}
