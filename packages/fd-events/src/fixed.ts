/**
 * Frames of one size: records.
 */
import { bytesOf, ChunkDecoder, frameSize, invalidFrame, partOf, type Codec } from './framing.js'

/**
 * Every frame has `size` bytes, from 1 to 2^30.
 *
 * @throws RangeError for another size.
 * @example
 * import { fixed } from '@fd-reactor/fd-events'
 * const decoder = fixed(4).decoder()
 * for (const record of decoder.push(Buffer.from('abcdef'))) console.log(String(record)) // abcd
 */
export function fixed(size: number): Codec<Buffer, Uint8Array | string> {
  frameSize(size, 'fixed() size')
  return {
    maxFrame: size,
    encode: (frame) => {
      const bytes = bytesOf(frame, size)
      if (bytes.length === size) return bytes
      throw invalidFrame(
        `fixed(${size}) sends frames of ${size} bytes, not of ${bytes.length}. Fill the frame up`,
      )
    },
    decoder: () => new FixedDecoder(size),
  }
}

class FixedDecoder extends ChunkDecoder<Buffer> {
  readonly #size: number

  constructor(size: number) {
    super(partOf)
    this.#size = size
  }

  protected cut(): Buffer | undefined {
    return this.take(this.#size)
  }

  protected override last(): undefined {
    if (this.keptLength > 0) throw this.incomplete(`${this.keptLength} of the ${this.#size} bytes of a frame`)
  }
}
