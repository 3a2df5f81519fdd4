/**
 * What a frame is: pixels in rows, 4 bytes each (red, green, blue, alpha), and in the first four pixels who it is.
 */

/** How large frames are, in pixels. */
export interface FrameSize {
  readonly width: number
  readonly height: number
}

/** How a checksum is made: over one word in {@link SAMPLE_STRIDE}, or over all of them. */
export type Check = 'sampled' | 'full'

/** Bytes of a pixel. */
const PIXEL_BYTES = 4
/** The words at the beginning of a frame. */
const HEADER_WORDS = 4
const MAGIC = 0x4d_41_52_46
/** A prime, so that the samples stand in other columns in each row. */
const SAMPLE_STRIDE = 509

/** How many bytes a frame has. */
export function frameBytes({ width, height }: FrameSize): number {
  return width * height * PIXEL_BYTES
}

/**
 * A rolling sum of the words behind the header, beginning with the number. It begins at another word in each frame, so that all of them
 * have their turn. Some 4,000 words of a full-HD frame take some 20 µs, which is no part of what is measured.
 */
function checksum(pixels: Uint32Array, number: number, check: Check): number {
  const stride = check === 'full' ? 1 : SAMPLE_STRIDE
  let sum = number | 0
  for (let word = HEADER_WORDS + (number % stride); word < pixels.length; word += stride) {
    sum = (Math.imul(sum, 31) + (pixels[word] ?? 0)) | 0
  }
  return sum >>> 0
}

/** Writes the header into a frame that is painted, and returns its checksum. */
export function seal(pixels: Uint32Array, number: number, check: Check): number {
  const sum = checksum(pixels, number, check)
  pixels.set([MAGIC, number, sum, pixels.length])
  return sum
}

/** What is wrong with a frame that came as `number` with the checksum `sum`; undefined when nothing is. */
export function fault(pixels: Uint32Array, number: number, sum: number, check: Check): string | undefined {
  const [magic, own, ownSum, words] = pixels
  if (magic !== MAGIC || words !== pixels.length) return 'it has no header'
  if (own !== number) return `it holds frame ${own}`
  if (ownSum !== sum) return `its header has the checksum ${ownSum}, and not ${sum}`
  const found = checksum(pixels, number, check)
  return found === sum ? undefined : `its checksum is ${found}, and not ${sum}`
}
