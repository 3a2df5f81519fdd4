/**
 * Frames that end with a sequence of bytes.
 *
 * Within a chunk the delimiter is searched by Node's `indexOf`. How much of one a chunk ends with is carried over by the automaton
 * of Knuth, Morris and Pratt, so no byte is looked at again, however the chunks are cut.
 */
import { Buffer } from 'node:buffer'
import { checkOptions } from '@fd-reactor/core/sys'
import {
  bytesOf,
  ChunkDecoder,
  DEFAULT_MAX_FRAME,
  frameSize,
  invalidFrame,
  partOf,
  tooLarge,
  type Codec,
  type MakeFrame,
} from './framing.js'

/** Options of {@link delimited}. */
export interface DelimitedOptions {
  /** The largest frame in bytes, without its delimiter. Default 1 MiB. */
  maxFrame?: number
}

/**
 * Every frame ends with `delimiter`, a string or any bytes; a frame may be empty.
 *
 * Frames come without it. What has none at the end of the stream is an error; only `lines()` takes that for a frame.
 *
 * @throws TypeError for an empty delimiter or an unknown option, RangeError for a `maxFrame` beyond 2^30.
 * @example
 * import { delimited } from '@fd-reactor/fd-events'
 * const decoder = delimited('\0').decoder()
 * for (const frame of decoder.push(Buffer.from('HOME=/root\0TERM='))) console.log(String(frame)) // HOME=/root
 */
export function delimited(
  delimiter: Uint8Array | string,
  options: DelimitedOptions = {},
): Codec<Buffer, Uint8Array | string> {
  checkOptions('delimited', options, { maxFrame: frameSize })
  if (!(delimiter instanceof Uint8Array || typeof delimiter === 'string') || delimiter.length === 0)
    throw new TypeError('delimited() takes a delimiter of at least one byte, a string or a Uint8Array')
  const { maxFrame = DEFAULT_MAX_FRAME } = options
  const end = Buffer.from(delimiter)
  const borders = bordersOf(end)
  return {
    maxFrame,
    encode: (frame) => {
      const bytes = bytesOf(frame, maxFrame)
      const encoded = Buffer.concat([bytes, end])
      // Searched with the delimiter on: one may also begin in the frame and end in the delimiter.
      if (encoded.indexOf(end) === bytes.length) return encoded
      throw invalidFrame(
        'A frame with the delimiter in it would come as two. Escape it, or send frames with their length',
      )
    },
    decoder: () => new DelimitedDecoder(end, borders, maxFrame, partOf),
  }
}

/** For each prefix of `delimiter`, how long its longest border is: a shorter prefix that it ends with as well. */
export function bordersOf(delimiter: Uint8Array): Uint32Array {
  const borders = new Uint32Array(delimiter.length)
  let border = 0
  for (let index = 1; index < delimiter.length; index++) {
    while (border > 0 && delimiter[index] !== delimiter[border]) border = borders[border - 1] ?? 0
    if (delimiter[index] === delimiter[border]) border++
    borders[index] = border
  }
  return borders
}

/** Cuts at a delimiter; `borders` are what {@link bordersOf} says of it, `slack` is by how much a frame may be too large before it is made. */
export class DelimitedDecoder<Frame> extends ChunkDecoder<Frame> {
  readonly #delimiter: Buffer
  readonly #borders: Uint32Array
  readonly #maxFrame: number
  readonly #slack: number
  /** How much of a delimiter the bytes end with that were searched. */
  #matched = 0

  constructor(delimiter: Buffer, borders: Uint32Array, maxFrame: number, make: MakeFrame<Frame>, slack = 0) {
    super(make)
    this.#delimiter = delimiter
    this.#borders = borders
    this.#maxFrame = maxFrame
    this.#slack = slack
  }

  protected cut(): Frame | undefined {
    const end = this.#search()
    const found = end >= 0
    const size = this.keptLength + (found ? end : this.chunk.length) - this.at
    const length = size - (found ? this.#delimiter.length : this.#matched)
    const limit = this.#maxFrame + this.#slack
    if (length > limit) throw tooLarge(length, this.#maxFrame, found)
    if (found) return this.take(size, this.#delimiter.length)
    this.keep(limit + this.#delimiter.length)
    return undefined
  }

  /** Where the first delimiter ends in the chunk, or -1. */
  #search(): number {
    const { chunk } = this
    const size = this.#delimiter.length
    let index = this.at
    while (this.#matched > 0 && index < chunk.length) if (this.#step(chunk[index++])) return index
    // Nothing that has come begins a delimiter. A number is searched faster than a Buffer.
    const found = chunk.indexOf(size === 1 ? (this.#delimiter[0] ?? 0) : this.#delimiter, index)
    if (found >= 0) return found + size
    for (index = Math.max(index, chunk.length - size + 1); index < chunk.length; index++)
      this.#step(chunk[index])
    return -1
  }

  /** Goes on by one byte; true when it ends a delimiter. */
  #step(byte: number | undefined): boolean {
    while (this.#matched > 0 && byte !== this.#delimiter[this.#matched]) {
      this.#matched = this.#borders[this.#matched - 1] ?? 0
    }
    if (byte === this.#delimiter[this.#matched]) this.#matched++
    if (this.#matched < this.#delimiter.length) return false
    this.#matched = 0
    return true
  }
}
