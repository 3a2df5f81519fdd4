/**
 * What the framing codecs share: the shape of a codec, and a decoder that cuts frames out of chunks.
 *
 * A frame that lies whole in a chunk is a part of it. Of one that does not, what has come is copied into memory that doubles as it
 * fills and never exceeds what the codec allows, so the work is linear in the bytes, however they are cut.
 */
import { Buffer } from 'node:buffer'
import { ReactorError } from '@fd-reactor/core'
import { integer } from '@fd-reactor/core/sys'

/** How frames are told apart in a stream of bytes: `lines()`, `lengthPrefixed()`, `delimited()`, `fixed()`. */
export interface Codec<Frame, Sendable = Frame> {
  /** The largest frame in bytes, in both directions. */
  readonly maxFrame: number
  /**
   * The bytes that stand for a frame.
   * @throws ReactorError `ERR_FRAME_TOO_LARGE`; `ERR_FRAME_INVALID` for what would not come back as it is.
   */
  encode(frame: Sendable): Uint8Array
  /** A decoder for one stream. */
  decoder(): Decoder<Frame>
}

/**
 * Turns the chunks of one stream into frames.
 *
 * Frames are cut when they are asked for. Whoever leaves the loop early finds the rest in the next one. A frame is a part of the
 * chunk if it lies whole in it, so it is valid as long as the chunk is, and copied otherwise. When all frames were taken the
 * chunk is referred to no more: its memory may be used again.
 *
 * @throws ReactorError, from the loop: `ERR_FRAME_TOO_LARGE`, `ERR_FRAME_INVALID`, and at the end `ERR_FRAME_INCOMPLETE`. The decoder is of
 * no more use then.
 */
export interface Decoder<Frame> {
  /** Takes the next bytes, and gives the frames that are whole now. */
  push(chunk: Uint8Array): IterableIterator<Frame, undefined>
  /** Tells that no bytes come any more, and gives the frames that are left. */
  end(): IterableIterator<Frame, undefined>
  /** Copies what was pushed and not cut yet, so that the chunk's memory may be used again at once. */
  own(): void
  /** How many bytes were pushed and not cut yet; 0 once all frames were taken. */
  readonly unread: number
  /** How many bytes of memory are held: the unread ones, and room for the frame that is not whole. */
  readonly buffered: number
}

/** What `maxFrame` is unless it is given: 1 MiB. */
export const DEFAULT_MAX_FRAME = 1 << 20

/** The check of `maxFrame`. */
export const frameSize = integer(1, 2 ** 30)

/** An error for a frame that a codec does not allow; `size` may be a lower bound. */
export function tooLarge(size: number, limit: number, known = true): ReactorError {
  return new ReactorError(
    'ERR_FRAME_TOO_LARGE',
    `A frame has ${size} bytes${known ? '' : ' or more'}, and at most ${limit} are allowed. ` +
      'If such frames are right raise maxFrame; otherwise the two sides frame differently',
  )
}

/** An error for a frame that cannot be sent, or a header that cannot be read. */
export function invalidFrame(message: string): ReactorError {
  return new ReactorError('ERR_FRAME_INVALID', message)
}

/** The bytes of a frame that is to be sent, if they are few enough. */
export function bytesOf(
  frame: Uint8Array | string,
  limit: number,
  encoding: BufferEncoding = 'utf8',
): Uint8Array {
  const bytes = typeof frame === 'string' ? Buffer.from(frame, encoding) : frame
  if (!(bytes instanceof Uint8Array)) throw new TypeError('A frame must be a Uint8Array or a string')
  if (bytes.length > limit) throw tooLarge(bytes.length, limit)
  return bytes
}

const NOTHING = Buffer.alloc(0)

/** What was thrown, as an error. */
export function errorOf(thrown: unknown): Error {
  return thrown instanceof Error ? thrown : new Error(String(thrown))
}

/** Makes a frame of the bytes from `start` to `end`. */
export type MakeFrame<Frame> = (bytes: Buffer, start: number, end: number) => Frame

/** Makes a frame that is a part of where it lies. */
export const partOf: MakeFrame<Buffer> = (bytes, start, end) => bytes.subarray(start, end)

/** The base of the decoders: a subclass says where the next frame ends. */
export abstract class ChunkDecoder<Frame> implements Decoder<Frame>, IterableIterator<Frame, undefined> {
  /** What was pushed last. */
  protected chunk: Buffer = NOTHING
  /** How far it was cut. */
  protected at = 0
  /** The beginning of a frame that began in an earlier chunk, in memory that may be longer. */
  protected kept: Buffer = NOTHING
  protected keptLength = 0
  readonly #make: MakeFrame<Frame>
  #ended = false
  #failure: Error | undefined

  constructor(make: MakeFrame<Frame>) {
    this.#make = make
  }

  /** The next frame that is whole, or undefined when all of the chunk was taken. */
  protected abstract cut(): Frame | undefined

  get unread(): number {
    return this.chunk.length - this.at
  }

  get buffered(): number {
    return this.unread + this.kept.length
  }

  push(chunk: Uint8Array): this {
    if (!(chunk instanceof Uint8Array)) throw new TypeError('push() takes a Uint8Array')
    if (this.#failure !== undefined) throw this.#failure
    if (this.#ended)
      throw new ReactorError('ERR_STREAM_ENDED', 'push() after end(): take a decoder for each stream')
    const bytes = Buffer.isBuffer(chunk) ? chunk : Buffer.from(chunk.buffer, chunk.byteOffset, chunk.length)
    this.chunk = this.unread === 0 ? bytes : Buffer.concat([this.chunk.subarray(this.at), bytes])
    this.at = 0
    return this
  }

  end(): this {
    this.#ended = true
    return this
  }

  own(): void {
    this.chunk = Buffer.from(this.chunk.subarray(this.at))
    this.at = 0
  }

  next(): IteratorResult<Frame, undefined> {
    if (this.#failure !== undefined) throw this.#failure
    try {
      const frame = (this.unread > 0 ? this.cut() : undefined) ?? this.#rest()
      return frame === undefined ? { done: true, value: undefined } : { done: false, value: frame }
    } catch (error) {
      this.#failure = errorOf(error)
      this.#forget()
      throw error
    }
  }

  [Symbol.iterator](): this {
    return this
  }

  /** What the end of the stream makes of a frame that is not whole. */
  protected last(): Frame | undefined {
    if (this.keptLength === 0) return undefined
    throw this.incomplete(`${this.keptLength} bytes of a frame`)
  }

  /** An error for an end in the middle of a frame. */
  protected incomplete(what: string): ReactorError {
    const message = `The stream ended after ${what}. The peer stopped in the middle of it, or the two sides frame differently`
    return new ReactorError('ERR_FRAME_INCOMPLETE', message)
  }

  /** Cuts a frame of `size` bytes, the last `drop` of which do not belong to it; keeps what there is of it when it is not whole. */
  protected take(size: number, drop = 0): Frame | undefined {
    const from = this.at
    const missing = size - this.keptLength
    if (missing > this.unread) {
      this.keep(size)
      return undefined
    }
    if (this.keptLength === 0) {
      this.at = from + size
      return this.#make(this.chunk, from, from + size - drop)
    }
    this.#append(missing, size)
    const bytes = this.kept
    this.kept = NOTHING
    this.keptLength = 0
    return this.#make(bytes, 0, size - drop)
  }

  /** Copies the rest of the chunk to what is kept, which will be `limit` bytes at most. */
  protected keep(limit: number): void {
    if (this.unread === 0) return
    const doubled = Math.max(this.keptLength + this.unread, 2 * this.kept.length)
    this.#append(this.unread, Math.min(limit, doubled))
  }

  /** Moves bytes from the chunk to what is kept, which becomes `room` bytes long if it is too short for them. */
  #append(length: number, room: number): void {
    if (this.kept.length < this.keptLength + length) {
      const larger = Buffer.allocUnsafe(room)
      larger.set(this.kept.subarray(0, this.keptLength))
      this.kept = larger
    }
    this.kept.set(this.chunk.subarray(this.at, this.at + length), this.keptLength)
    this.keptLength += length
    this.at += length
  }

  #rest(): Frame | undefined {
    this.chunk = NOTHING
    this.at = 0
    if (!this.#ended) return undefined
    const frame = this.last()
    this.#forget()
    return frame
  }

  #forget(): void {
    this.chunk = this.kept = NOTHING
    this.at = this.keptLength = 0
  }
}
