/**
 * Small copies, word by word, in a pool of our own: Node's does not tell where a Buffer of it lies, and to ask the Buffer costs
 * more than all else that is done for a small message. So does `set()`.
 */
import { Buffer } from 'node:buffer'
import { markAsUntransferable } from 'node:worker_threads'

/** What makes a Buffer of memory at hand without looking at its arguments: the class that `Buffer` derives its instances from. */
const { [Symbol.species]: FastBuffer } = Buffer as unknown as {
  readonly [Symbol.species]: new (memory: ArrayBuffer, offset: number, length: number) => Buffer
}

/** As much as Node's: what one message that is kept may pin. */
const POOL_BYTES = 8192
/** Up to here a loop is quicker. */
const SMALL_BYTES = 512

let pool = makePool()
let poolWords = new Int32Array(pool)
/** Where the next copy begins. */
let next = 0

/** A copy of bytes that begin at a multiple of 4. */
export function copyOut(bytes: Buffer, words: Int32Array, at: number, length: number): Buffer {
  if (length > SMALL_BYTES) {
    const copy = Buffer.allocUnsafe(length)
    copy.set(bytes.subarray(at, at + length))
    return copy
  }
  if (length > POOL_BYTES - next) {
    pool = makePool()
    poolWords = new Int32Array(pool)
    next = 0
  }
  const copy = new FastBuffer(pool, next, length)
  const to = poolWords
  const first = next >> 2
  const from = at >> 2
  const count = length >> 2
  for (let word = 0; word < count; word++) to[first + word] = words[from + word] ?? 0
  for (let byte = count << 2; byte < length; byte++) copy[byte] = bytes[at + byte] ?? 0
  next += (length + 7) & ~7 // as Node aligns them
  return copy
}

function makePool(): ArrayBuffer {
  const memory = new ArrayBuffer(POOL_BYTES)
  markAsUntransferable(memory) // a message that is transferred must not take its neighbours along
  return memory
}
