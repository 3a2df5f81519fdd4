/**
 * The producer: listens, paints frames, and sends each until it was acknowledged.
 *
 * It goes on for as long as somebody wants frames: without a consumer it waits, and the next one begins with the first frame that was not
 * acknowledged. At most as many frames are on their way as there are slots.
 */
import process from 'node:process'
import type { Reactor } from '@fd-reactor/core'
import { TimerFd, UnixListener, type UnixStream } from '@fd-reactor/fd-events'
import { Meter } from './figures.js'
import { frameBytes, seal, type Check, type FrameSize } from './frame.js'
import { Painter } from './painter.js'
import { encode, RecordReader, type Message, type Transport } from './protocol.js'
import { createSlots, ownSlot, type Slots } from './slots.js'

/** What a producer is told. */
export interface ProducerOptions {
  socket: string
  transport: Transport
  size: FrameSize
  slots: number
  check: Check
  /** How many frames there are; undefined for no end. */
  frames: number | undefined
  /** How long it goes on after the first one; undefined for no end. */
  seconds: number | undefined
  /** Frames a second; undefined for as many as are taken. */
  fps: number | undefined
  log: (line: string) => void
}

/** Of a write; the kernel copies it, and what it does not take is copied once more. */
const PIECE_BYTES = 256 * 1024
const SEND_BUFFER = 1024 * 1024

/** Produces until all frames were acknowledged, and stops the reactor then. */
export class Producer implements Disposable {
  readonly #reactor: Reactor
  readonly #options: ProducerOptions
  readonly #listener: UnixListener<true>
  readonly #painter: Painter
  readonly #slots: Slots
  readonly #meter = new Meter()
  readonly #timer: TimerFd | undefined
  #consumer: UnixStream<true> | undefined
  /** The first frame that was not acknowledged. */
  #acknowledged = 0
  #known = false
  #next = 0
  #again = 0
  /** How many frames may be painted by now, with `fps`. */
  #due = 0
  #scheduled = false
  /** What of the frame on its way is not written yet. */
  #unsent: Uint8Array | undefined

  constructor(reactor: Reactor, options: ProducerOptions) {
    this.#reactor = reactor
    this.#options = options
    const { socket, transport, size, slots, fps } = options
    this.#painter = new Painter(size)
    this.#slots = transport === 'shm' ? createSlots(size, slots) : ownSlot(size)
    this.#listener = UnixListener.listen<true>(reactor, socket, {
      borrow: true,
      mode: 0o600,
      sendBuffer: SEND_BUFFER,
    })
    this.#listener.on('connection', (stream) => this.#onConnection(stream))
    if (fps === undefined) return
    this.#timer = TimerFd.every(reactor, Math.max(1, Math.round(1e9 / fps)))
    this.#timer.on('tick', (periods) => {
      this.#due = Math.min(this.#due + periods, options.slots) // what nobody was ready for is not made up for
      this.#schedule()
    })
  }

  /** Ends it; the socket's file is removed. */
  [Symbol.dispose](): void {
    this.#listener.close()
    this.#slots[Symbol.dispose]()
  }

  #onConnection(stream: UnixStream<true>): void {
    if (this.#consumer !== undefined) {
      this.#options.log('there is a consumer already: another one was refused')
      stream.destroy()
      return
    }
    this.#consumer = stream
    const records = new RecordReader((message) => {
      this.#onMessage(stream, message)
      return undefined
    })
    stream.on('data', (bytes) => {
      try {
        records.push(bytes)
      } catch (error) {
        this.#options.log(String(error))
        stream.destroy()
      }
    })
    stream.on('drain', () => this.#writePieces(stream))
    stream.on('error', () => undefined) // followed by 'close'
    stream.on('close', () => this.#onClose(stream))
  }

  #onMessage(stream: UnixStream<true>, message: Message): void {
    if (message.type === 'hello') this.#begin(stream, message.next)
    else if (message.type === 'done' && message.number === this.#acknowledged) this.#onDone()
    else throw new Error(`The consumer said ${message.type} where it should not`)
  }

  /** Who has outlived the other knows which frame is the next. */
  #begin(stream: UnixStream<true>, wanted: number | undefined): void {
    const from = Math.max(this.#acknowledged, wanted ?? 0)
    this.#acknowledged = this.#next = from
    const { size, slots, check, transport } = this.#options
    const { handle } = this.#slots
    const start = encode({ type: 'start', size, slots, check, transport })
    stream.send(start, { fds: handle === undefined ? [] : [handle] })
    this.#known = true
    this.#options.log(`sending from frame ${from}`)
    this.#schedule()
  }

  #onDone(): void {
    this.#acknowledged++
    this.#meter.count()
    this.#schedule()
  }

  #onClose(stream: UnixStream<true>): void {
    if (this.#consumer !== stream) return
    this.#consumer = this.#unsent = undefined
    this.#known = false
    if (this.#finished) {
      this.#report()
      this.#reactor.stop(0)
      return
    }
    this.#again += this.#next - this.#acknowledged
    this.#options.log(
      `the consumer is gone: frame ${this.#acknowledged} is the next, waiting for another one`,
    )
  }

  /** One frame, then the loop's other work: the answers. */
  #schedule(): void {
    if (this.#scheduled) return
    this.#scheduled = true
    setImmediate(() => {
      this.#scheduled = false
      this.#proceed()
    })
  }

  #proceed(): void {
    const consumer = this.#consumer
    if (consumer === undefined || consumer.closed || !this.#known || this.#unsent !== undefined) return
    if (this.#allSent) {
      if (this.#acknowledged < this.#next) return
      consumer.end(encode({ type: 'bye' })) // it closes, and then so do we
      this.#known = false
    } else if (
      this.#next - this.#acknowledged < this.#options.slots &&
      (this.#timer === undefined || this.#due > 0)
    ) {
      this.#due--
      this.#send(consumer)
      this.#schedule()
    }
  }

  #send(consumer: UnixStream<true>): void {
    const number = this.#next++
    const { check, transport } = this.#options
    const pixels = this.#slots.pixels(number)
    this.#painter.paint(pixels, number)
    const sum = seal(pixels, number, check)
    consumer.write(encode({ type: 'ready', number, sum, sentNs: process.hrtime.bigint() }))
    if (transport === 'shm') return
    this.#unsent = new Uint8Array(pixels.buffer, pixels.byteOffset, pixels.byteLength)
    this.#writePieces(consumer)
  }

  /** As much of the frame as the socket takes; `'drain'` goes on. The frame's memory is free when all of it was written. */
  #writePieces(consumer: UnixStream<true>): void {
    let unsent = this.#unsent
    while (unsent !== undefined && !consumer.closed) {
      const piece = unsent.subarray(0, PIECE_BYTES)
      unsent = unsent.length > piece.length ? unsent.subarray(piece.length) : undefined
      this.#unsent = unsent
      if (!consumer.write(piece)) break
    }
    if (unsent === undefined) this.#schedule()
  }

  get #allSent(): boolean {
    const { frames = Infinity, seconds = Infinity } = this.#options
    return this.#next >= frames || this.#meter.elapsed >= seconds
  }

  get #finished(): boolean {
    return this.#allSent && this.#acknowledged === this.#next
  }

  #report(): void {
    const { frames, cpu } = this.#meter
    const rate = this.#meter.rate(frameBytes(this.#options.size))
    this.#options.log(
      `${frames} frames acknowledged to this process, ${this.#again} sent again to another consumer: ${rate}; CPU ${cpu}`,
    )
  }
}
