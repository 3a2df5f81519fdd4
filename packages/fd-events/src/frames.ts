/**
 * Frames over a byte stream: what comes is decoded, what goes is encoded, and backpressure passes through.
 *
 * Frames are cut one by one, while somebody wants them. When nobody does, the stream is paused, and the rest of its chunk waits
 * undecoded: so a handler may pause, close or throw between two frames of one chunk, and a loop takes its time.
 */
import { EventEmitter } from 'node:events'
import process from 'node:process'
import type { ByteStream } from './byte-stream.js'
import { errorOf, type Codec, type Decoder } from './framing.js'

/** The events of a {@link FrameStream}. */
export interface FrameEvents<Frame> {
  /** A frame came. */
  frame: [frame: Frame]
  /** The peer has shut its writing side, and all frames were delivered. */
  end: []
  /** Everything that waited was taken by the kernel, after a `send()` that returned false. */
  drain: []
  /** The stream failed, or does not consist of frames (`ERR_FRAME_…`). Without a listener it is thrown. */
  error: [error: Error]
  /** The stream was closed; the last event. */
  close: []
}

/** What we build on of Node's emitter. Its own types cannot be narrowed by a subclass; ours are on {@link FrameStream}. */
interface UntypedEmitter {
  on(event: string, listener: object): this
  once(event: string, listener: object): this
  removeListener(event: string, listener: object): this
  /** Calls the listeners. */
  emit(event: string, ...args: unknown[]): boolean
  /** How many listeners an event has. */
  listenerCount(event: string): number
}
const Emitter: new () => UntypedEmitter = EventEmitter

interface Waiting<Frame> {
  resolve(frame: Frame | undefined): void
  reject(error: Error): void
}

/** The frames of a stream; see {@link frames}. */
export class FrameStream<Frame, Sendable = Frame> extends Emitter implements Disposable {
  /** What lies below. Its `pause()`, `resume()` and `'data'` are in use, and `detach()` would leave behind what was not decoded yet. */
  readonly stream: ByteStream
  readonly #codec: Codec<Frame, Sendable>
  readonly #decoder: Decoder<Frame>
  /** The frames of what came last, cut as far as they were delivered. */
  #cuts: Iterator<Frame, undefined> | undefined
  /** Whether their bytes must be copied if they are to outlive the handler. */
  #lent = false
  /** How many loops run, and those of them that wait for a frame. */
  #loops = 0
  #waiting: Waiting<Frame>[] = []
  /** What the loops throw. */
  #failure: Error | undefined
  #attached = false
  #paused = false
  /** Whether the stream is paused, by us. */
  #held = false
  #delivering = false
  #deferred = false
  /** The stream has ended; its frames are all delivered; it was closed before they were. */
  #ended = false
  #finished = false
  #gone = false
  #closed: boolean

  /** See {@link frames}. */
  constructor(stream: ByteStream, codec: Codec<Frame, Sendable>) {
    super()
    this.stream = stream
    this.#codec = codec
    this.#decoder = codec.decoder()
    this.#closed = stream.closed
    this.#ended = stream.readableEnded === true // told already, and not to us
    stream.on('end', this.#onEnd)
    stream.on('drain', () => this.emit('drain'))
    stream.on('error', this.#report)
    stream.on('close', this.#onClose)
  }

  /** Whether it was closed: no frame comes any more. */
  get closed(): boolean {
    return this.#closed
  }

  /** Writes a frame; false when more than the stream's `highWaterMark` waits: go on at `'drain'`. @throws what the codec and `write()` throw. */
  send(frame: Sendable): boolean {
    return this.stream.write(this.#codec.encode(frame))
  }

  /** Shuts the writing side once everything is sent. */
  end(): void {
    this.stream.end()
  }

  /** Holds back frames from the next one on, those of the same chunk included. */
  pause(): this {
    this.#paused = true
    this.#hold(true)
    return this
  }

  /** Lets frames come again; what was held back comes first, once the caller has returned. */
  resume(): this {
    this.#paused = false
    this.#wake()
    return this
  }

  /** Closes the stream; no frame comes any more. Idempotent. */
  close(): void {
    this.#stop()
    if (this.#gone) this.#tellClose()
    else if (this.stream.close === undefined) this.stream.destroy()
    else this.stream.close()
  }

  /** `close()`, for `using`. */
  [Symbol.dispose](): void {
    this.close()
  }

  /** Calls `listener` for each `event`. The first one for `'frame'` starts the reading. */
  override on<Name extends EventName<Frame>>(
    event: Name,
    listener: (...args: FrameEvents<Frame>[Name]) => void,
  ): this {
    super.on(event, listener)
    if (event === 'frame') this.#wake()
    return this
  }

  /** Calls `listener` for the next `event` only. */
  override once<Name extends EventName<Frame>>(
    event: Name,
    listener: (...args: FrameEvents<Frame>[Name]) => void,
  ): this {
    return super.once(event, listener)
  }

  /** Takes a listener away. Without any for `'frame'` the reading ends. */
  override removeListener<Name extends EventName<Frame>>(
    event: Name,
    listener: (...args: FrameEvents<Frame>[Name]) => void,
  ): this {
    super.removeListener(event, listener)
    this.#settle()
    return this
  }

  /** The same as `removeListener`. */
  off<Name extends EventName<Frame>>(
    event: Name,
    listener: (...args: FrameEvents<Frame>[Name]) => void,
  ): this {
    return this.removeListener(event, listener)
  }

  /**
   * `for await (const frame of frames)`: what comes until the peer ends or the stream closes. While a loop runs it takes the frames,
   * and the listeners get none; what is left when it is left goes to the next. Frames may be kept, also those of a borrowed stream.
   */
  async *[Symbol.asyncIterator](): AsyncGenerator<Frame, undefined, undefined> {
    this.#loops++
    try {
      for (;;) {
        const frame = await this.#take()
        if (frame === undefined) return undefined
        yield frame
      }
    } finally {
      this.#loops--
      this.#wake()
    }
  }

  async #take(): Promise<Frame | undefined> {
    if (this.#failure !== undefined) throw this.#failure
    if (this.#closed || this.#finished) return undefined
    return new Promise((resolve, reject) => {
      this.#waiting.push({ resolve, reject })
      this.#deliver()
    })
  }

  /** Whether a frame would find somebody now. */
  get #wanted(): boolean {
    if (this.#paused || this.#closed) return false
    return this.#loops > 0 ? this.#waiting.length > 0 : this.listenerCount('frame') > 0
  }

  readonly #onData = (bytes: Buffer, offset?: number, length = 0): void => {
    if (this.#closed) return
    const chunk = offset === undefined ? bytes : bytes.subarray(offset, offset + length)
    this.#held = false // or else nothing would come
    this.#lent = this.stream.borrow !== false
    this.#cuts = this.#decoder.push(chunk)
    try {
      this.#deliver()
    } finally {
      this.#own()
    }
  }

  /** Delivers what is there, as long as somebody wants it. */
  #deliver(): void {
    if (this.#delivering) return
    this.#delivering = true
    try {
      while (this.#wanted) {
        const [loop] = this.#waiting
        if (loop !== undefined) this.#own()
        const frame = this.#cut()
        if (frame === undefined) {
          if (this.#ended) this.#finish()
          break
        }
        if (loop === undefined) this.emit('frame', frame)
        else this.#waiting.shift()?.resolve(frame)
      }
    } catch (error) {
      this.#defer() // what a listener left by throwing must not wait for the next chunk
      throw error
    } finally {
      this.#delivering = false
      this.#settle()
    }
  }

  #cut(): Frame | undefined {
    try {
      return this.#cuts?.next().value
    } catch (error) {
      this.#closed = true
      try {
        this.#report(errorOf(error))
      } finally {
        this.close()
      }
      return undefined
    }
  }

  /** Copies what is left of a chunk that is only lent. */
  #own(): void {
    if (this.#lent && this.#decoder.unread > 0) this.#decoder.own()
    this.#lent = false
  }

  #wake(): void {
    if (this.#decoder.unread > 0 || (this.#ended && !this.#finished)) this.#defer()
    else this.#settle()
  }

  /** Delivers among the handlers of the reactor, so that what they write leaves together. */
  #defer(): void {
    if (this.#deferred || this.#closed) return
    this.#deferred = true
    const deliver = (): void => {
      this.#deferred = false
      this.#deliver()
    }
    const { reactor } = this.stream
    if (reactor === undefined || reactor.closed) process.nextTick(deliver)
    else reactor.defer(deliver)
  }

  /** Reads while somebody wants frames and none waits. */
  #settle(): void {
    if (this.#delivering || this.#closed) return
    const wanted = this.#loops > 0 || this.listenerCount('frame') > 0
    if (wanted && !this.#attached) {
      this.#attached = true
      this.stream.on('data', this.#onData)
    }
    this.#hold(this.#paused || this.#decoder.unread > 0 || (this.#attached && !wanted))
  }

  #hold(hold: boolean): void {
    if (hold === this.#held || this.#closed) return
    this.#held = hold
    if (hold) this.stream.pause()
    else this.stream.resume()
  }

  readonly #onEnd = (): void => {
    this.#ended = true
    this.#cuts = this.#decoder.end()
    this.#deliver()
  }

  #finish(): void {
    if (this.#closed || this.#finished) return
    this.#finished = true
    this.#dismiss()
    try {
      this.emit('end')
    } finally {
      if (this.#gone) this.#tellClose()
    }
  }

  readonly #onClose = (): void => {
    // It closes by itself after its end; what was held back then is still to come.
    if (this.#ended && !this.#finished && !this.#closed && !this.#delivering) this.#gone = true
    else this.#tellClose()
  }

  #tellClose(): void {
    this.#gone = false
    this.#stop()
    this.emit('close')
  }

  readonly #report = (error: Error): void => {
    const loops = this.#loops
    if (loops > 0) this.#failure = error
    for (const loop of this.#waiting.splice(0)) loop.reject(error)
    if (loops === 0 || this.listenerCount('error') > 0) this.emit('error', error)
  }

  #stop(): void {
    this.#closed = true
    this.#cuts = undefined
    this.#dismiss()
  }

  #dismiss(): void {
    for (const loop of this.#waiting.splice(0)) loop.resolve(undefined)
  }
}

type EventName<Frame> = keyof FrameEvents<Frame>

/**
 * Reads and writes frames on a stream.
 *
 * Frames are delivered in order, each once, to the listeners of `'frame'` or to a `for await` loop; nothing is read while there is neither, so
 * nothing is lost by listening later. `pause()` and `close()` take effect before the next frame, also within a chunk. Of a stream that borrows
 * (`borrow: true` or `'offsets'`) a frame is valid during its handler only, unless it is a string; of others it may be kept, though a small one
 * that is kept for long holds its whole chunk.
 *
 * A frame beyond `maxFrame`, and one that the stream's end cuts off, is an `'error'`, and the stream is closed. At most the codec's `maxFrame`
 * and one chunk are held in memory. Not guaranteed: that a frame comes when its first bytes do; it comes when it is whole.
 *
 * @example
 * import { Reactor } from '@fd-reactor/core'
 * import { frames, lines, UnixListener, UnixStream } from '@fd-reactor/fd-events'
 * using reactor = new Reactor()
 * UnixListener.listen(reactor, '/tmp/example-frames.sock').on('connection', (stream) => {
 *   const client = frames(stream, lines())
 *   client.on('frame', (line) => client.send(line.toUpperCase()))
 * })
 * const server = frames(await UnixStream.connect(reactor, '/tmp/example-frames.sock'), lines())
 * server.send('hello')
 * for await (const line of server) {
 *   console.log(line) // HELLO
 *   break
 * }
 */
export function frames<Frame, Sendable = Frame>(
  stream: ByteStream,
  codec: Codec<Frame, Sendable>,
): FrameStream<Frame, Sendable> {
  return new FrameStream(stream, codec)
}
