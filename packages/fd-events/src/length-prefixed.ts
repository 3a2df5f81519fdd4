/**
 * Frames that begin with their length.
 */
import { Buffer } from 'node:buffer'
import { checkOptions, oneOf } from '@fd-reactor/core/sys'
import {
  bytesOf,
  ChunkDecoder,
  DEFAULT_MAX_FRAME,
  frameSize,
  invalidFrame,
  partOf,
  tooLarge,
  type Codec,
} from './framing.js'

/** How many bytes the length takes, or an unsigned LEB128 number (as in protocol buffers) that takes as many as it needs. */
export type LengthPrefix = 1 | 2 | 4 | 'varint'

/** Options of {@link lengthPrefixed}. */
export interface LengthPrefixedOptions {
  /** See {@link LengthPrefix}. Default 4. */
  prefix?: LengthPrefix
  /** The order of a prefix of 2 or 4 bytes. Default `'big'`, as on the wire of most protocols. */
  byteOrder?: 'big' | 'little'
  /** The largest frame in bytes, without its prefix. Default 1 MiB, or what the prefix can say. */
  maxFrame?: number
}

const CHECKS = {
  prefix: oneOf(1, 2, 4, 'varint'),
  byteOrder: oneOf('big', 'little'),
  maxFrame: frameSize,
}

/** As many as a number of 64 bits takes. */
const MAX_VARINT_BYTES = 10

/**
 * Every frame begins with its length in bytes, which does not count itself; a frame may be empty.
 *
 * A prefix may be longer than it need be, up to 10 bytes for a varint. What a prefix announces is not allocated before it comes.
 *
 * @throws TypeError for an unknown option, a value of the wrong type, or a `byteOrder` for a varint; RangeError for a `maxFrame` beyond 2^30.
 * @example
 * import { lengthPrefixed } from '@fd-reactor/fd-events'
 * const codec = lengthPrefixed({ prefix: 2, byteOrder: 'little' })
 * console.log(codec.encode('hello')) // <Buffer 05 00 68 65 6c 6c 6f>
 * const decoder = codec.decoder()
 * for (const frame of decoder.push(codec.encode('hello'))) console.log(String(frame)) // hello
 */
export function lengthPrefixed(options: LengthPrefixedOptions = {}): Codec<Buffer, Uint8Array | string> {
  checkOptions('lengthPrefixed', options, CHECKS)
  const { prefix = 4, byteOrder = 'big' } = options
  if (prefix === 'varint' && options.byteOrder !== undefined)
    throw new TypeError(
      "lengthPrefixed option 'byteOrder' has no meaning with a varint, which has its own order",
    )
  const expressible = prefix === 'varint' ? Infinity : 2 ** (8 * prefix) - 1
  const maxFrame = Math.min(options.maxFrame ?? DEFAULT_MAX_FRAME, expressible)
  return {
    maxFrame,
    encode: (frame) => {
      const bytes = bytesOf(frame, maxFrame)
      const header = prefix === 'varint' ? varint(bytes.length) : integer(bytes.length, prefix, byteOrder)
      const encoded = Buffer.allocUnsafe(header.length + bytes.length)
      encoded.set(header)
      encoded.set(bytes, header.length)
      return encoded
    },
    decoder: () => new LengthPrefixedDecoder(prefix, byteOrder, maxFrame),
  }
}

function integer(value: number, size: number, byteOrder: 'big' | 'little'): number[] {
  const bytes = Array.from({ length: size }, (_, index) => (value >>> (8 * index)) & 0xff)
  return byteOrder === 'little' ? bytes : bytes.reverse()
}

function varint(value: number): number[] {
  const bytes: number[] = []
  for (; value > 0x7f; value >>>= 7) bytes.push((value & 0x7f) | 0x80)
  bytes.push(value)
  return bytes
}

class LengthPrefixedDecoder extends ChunkDecoder<Buffer> {
  readonly #prefix: LengthPrefix
  readonly #little: boolean
  readonly #maxFrame: number
  /** What was read of a prefix, and of how many bytes. */
  #value = 0
  #bytes = 0
  /** The length of the frame whose prefix is read; -1 while it is not. */
  #size = -1

  constructor(prefix: LengthPrefix, byteOrder: 'big' | 'little', maxFrame: number) {
    super(partOf)
    this.#prefix = prefix
    this.#little = byteOrder === 'little'
    this.#maxFrame = maxFrame
  }

  protected cut(): Buffer | undefined {
    while (this.#size < 0) {
      const byte = this.chunk[this.at]
      if (byte === undefined) return undefined
      this.at++
      this.#read(byte)
    }
    const frame = this.take(this.#size)
    if (frame !== undefined) this.#size = -1
    return frame
  }

  protected override last(): undefined {
    if (this.#size >= 0) throw this.incomplete(`${this.keptLength} of the ${this.#size} bytes of a frame`)
    if (this.#bytes > 0) throw this.incomplete(`${this.#bytes} bytes of a length prefix`)
  }

  /** Multiplies, since 32 bits do not fit a shift. */
  #read(byte: number): void {
    const index = this.#bytes++
    if (this.#prefix === 'varint') {
      this.#value += (byte & 0x7f) * 2 ** (7 * index)
      if (byte > 0x7f) {
        if (index + 1 < MAX_VARINT_BYTES) return
        throw invalidFrame(
          `A length prefix goes on after ${MAX_VARINT_BYTES} bytes. The two sides frame differently`,
        )
      }
    } else {
      this.#value = this.#little ? this.#value + byte * 2 ** (8 * index) : this.#value * 256 + byte
      if (index + 1 < this.#prefix) return
    }
    if (this.#value > this.#maxFrame) throw tooLarge(this.#value, this.#maxFrame)
    this.#size = this.#value
    this.#value = this.#bytes = 0
  }
}
