/**
 * Frames that are lines of text.
 *
 * They are cut as bytes and decoded whole, so a character that lies in two chunks is none of our worry. In UTF-8 and Latin-1 no other
 * character has the byte of a newline in it.
 */
import { Buffer } from 'node:buffer'
import { checkOptions, oneOf } from '@fd-reactor/core/sys'
import { bordersOf, DelimitedDecoder } from './delimited.js'
import { bytesOf, DEFAULT_MAX_FRAME, frameSize, invalidFrame, partOf, tooLarge } from './framing.js'
import type { Codec, MakeFrame } from './framing.js'

/** What a line is: text in an encoding, or its bytes. */
export type LineEncoding = 'utf8' | 'latin1' | 'buffer'

/** A line in the form that its encoding names. */
export type Line<E extends LineEncoding> = E extends 'buffer' ? Buffer : string

/** Options of {@link lines}. */
export interface LinesOptions<E extends LineEncoding = 'utf8'> {
  /** `'utf8'` or `'latin1'` for strings, `'buffer'` for bytes. Default `'utf8'`; what is no UTF-8 becomes U+FFFD. */
  encoding?: E
  /** The longest line in bytes, without its end. Default 1 MiB. */
  maxFrame?: number
}

const NEWLINE = Buffer.from('\n')
const BORDERS = bordersOf(NEWLINE)
const LF = 0x0a
const CR = 0x0d

/**
 * Every frame is a line, without the `\n` or `\r\n` that ends it; a line may be empty.
 *
 * The last line of a stream need not be ended. Lines are sent with `\n`; those that have one in them, or end with `\r`, are refused, since
 * they would not come back as they are.
 *
 * @throws TypeError for an unknown option or encoding, RangeError for a `maxFrame` beyond 2^30.
 * @example
 * import { lines } from '@fd-reactor/fd-events'
 * const decoder = lines().decoder()
 * for (const line of decoder.push(Buffer.from('hello\r\nwor'))) console.log(line) // hello
 * decoder.push(Buffer.from('ld'))
 * for (const line of decoder.end()) console.log(line) // world
 */
export function lines<E extends LineEncoding = 'utf8'>(
  options?: LinesOptions<E>,
): Codec<Line<E>, Uint8Array | string>
export function lines(
  options: LinesOptions<LineEncoding> = {},
): Codec<Buffer, Uint8Array | string> | Codec<string, Uint8Array | string> {
  checkOptions('lines', options, { encoding: oneOf('utf8', 'latin1', 'buffer'), maxFrame: frameSize })
  const { encoding = 'utf8', maxFrame = DEFAULT_MAX_FRAME } = options
  const text = encoding === 'buffer' ? 'utf8' : encoding
  const encode = (line: Uint8Array | string): Uint8Array => {
    const bytes = bytesOf(line, maxFrame, text)
    if (bytes.includes(LF))
      throw invalidFrame('A line with a newline in it would come as two. Send them one by one')
    if (bytes.at(-1) === CR)
      throw invalidFrame("A line that ends with '\\r' would come without it. Leave it away")
    return Buffer.concat([bytes, NEWLINE])
  }
  if (encoding === 'buffer') return { maxFrame, encode, decoder: () => new LinesDecoder(maxFrame, partOf) }
  return {
    maxFrame,
    encode,
    decoder: () => new LinesDecoder(maxFrame, (bytes, start, end) => bytes.toString(encoding, start, end)),
  }
}

class LinesDecoder<Frame> extends DelimitedDecoder<Frame> {
  readonly #makeLine: MakeFrame<Frame>

  constructor(maxFrame: number, make: MakeFrame<Frame>) {
    const makeLine: MakeFrame<Frame> = (bytes, start, end) => {
      const line = end > start && bytes[end - 1] === CR ? end - 1 : end
      if (line - start > maxFrame) throw tooLarge(line - start, maxFrame)
      return make(bytes, start, line)
    }
    // One byte more until the line is made: a carriage return is not of the line.
    super(NEWLINE, BORDERS, maxFrame, makeLine, 1)
    this.#makeLine = makeLine
  }

  protected override last(): Frame | undefined {
    return this.keptLength > 0 ? this.#makeLine(this.kept, 0, this.keptLength) : undefined
  }
}
