/**
 * The consumer: connects, checks every frame where it lies, and acknowledges it.
 *
 * It goes on until the producer says that there are no more: without a producer it waits for one, and tells it which frame it needs next.
 */
import process from 'node:process'
import { SystemError, type FdHandle, type Reactor } from '@fd-reactor/core'
import { UnixStream } from '@fd-reactor/fd-events'
import { Latency, Meter } from './figures.js'
import { fault, frameBytes, type FrameSize } from './frame.js'
import { writePng } from './picture.js'
import { encode, RecordReader, type Body, type Message } from './protocol.js'
import { openSlots, ownSlot, type Slots } from './slots.js'

/** What a consumer is told; it learns the rest from the producer. */
export interface ConsumerOptions {
  socket: string
  /** Where one of the frames is written. */
  png: string | undefined
  log: (line: string) => void
}

type Start = Extract<Message, { type: 'start' }>
type Ready = Extract<Message, { type: 'ready' }>

const RETRY_MS = 20
const RECEIVE_BUFFER = 1024 * 1024
/** Nobody listens there yet, or not any more. */
const WAITING: readonly string[] = ['ENOENT', 'ECONNREFUSED']

/** Consumes until the producer says good-bye, and stops the reactor then; with 1 when a frame was bad or missing. */
export class Consumer {
  readonly #reactor: Reactor
  readonly #options: ConsumerOptions
  readonly #meter = new Meter()
  readonly #latency = new Latency()
  #start: Start | undefined
  #slots: Slots | undefined
  #fds: FdHandle[] = []
  /** Undefined before the first frame: it may follow those that a predecessor has acknowledged. */
  #next: number | undefined
  #first = 0
  #bad = 0
  #missed = 0
  #ended = false
  #connected = false
  #last = false
  #kept: { pixels: Uint32Array; size: FrameSize; number: number } | undefined

  constructor(reactor: Reactor, options: ConsumerOptions) {
    this.#reactor = reactor
    this.#options = options
  }

  /** No producer will come any more: it ends instead of waiting for one. */
  stopWaiting(): void {
    this.#last = true
    if (!this.#connected && !this.#ended) this.#giveUp()
  }

  /** Connects, or waits until it can. @throws SystemError when it never will. */
  async connect(): Promise<void> {
    let stream: UnixStream<true> | undefined
    while (stream === undefined) {
      if (this.#reactor.closed) return
      try {
        stream = await UnixStream.connect<true>(this.#reactor, this.#options.socket, {
          borrow: true,
          maxFds: 1,
          receiveBuffer: RECEIVE_BUFFER,
        })
      } catch (error) {
        if (!(error instanceof SystemError) || !WAITING.includes(error.code)) throw error
        await new Promise((resolve) => setTimeout(resolve, RETRY_MS))
      }
    }
    this.#connected = true
    this.#use(stream)
  }

  #use(stream: UnixStream<true>): void {
    const records = new RecordReader((message) => this.#onMessage(stream, message))
    stream.on('fds', (fds) => this.#fds.push(...fds))
    stream.on('data', (bytes) => {
      try {
        records.push(bytes)
      } catch (error) {
        this.#options.log(String(error))
        this.#reactor.stop(1)
      }
    })
    stream.on('error', () => undefined) // followed by 'close'
    stream.on('close', () => this.#onClose())
    stream.write(encode({ type: 'hello', next: this.#next }))
  }

  #onMessage(stream: UnixStream<true>, message: Message): Body {
    switch (message.type) {
      case 'start':
        this.#begin(message)
        return undefined
      case 'ready':
        return this.#onReady(stream, message)
      case 'bye':
        this.#ended = true
        return undefined
      case 'hello':
      case 'done':
        throw new Error(`The producer said ${message.type} where it should not`)
    }
  }

  #begin(start: Start): void {
    this.#start = start
    this.#slots?.[Symbol.dispose]()
    const handle = this.#fds.shift()
    if (start.transport === 'uds') this.#slots = ownSlot(start.size)
    else if (handle !== undefined) this.#slots = openSlots(handle, start.size, start.slots)
    else throw new Error('The producer has sent no memory')
  }

  #onReady(stream: UnixStream<true>, ready: Ready): Body {
    const pixels = this.#slots?.pixels(ready.number)
    if (pixels === undefined) throw new Error('The producer has sent a frame before its size')
    const done = (): void => {
      this.#check(ready, pixels)
      stream.write(encode({ type: 'done', number: ready.number }))
    }
    if (this.#start?.transport === 'uds')
      return { target: new Uint8Array(pixels.buffer, pixels.byteOffset, pixels.byteLength), done }
    done()
    return undefined
  }

  #check({ number, sum, sentNs }: Ready, pixels: Uint32Array): void {
    const start = this.#start
    if (start === undefined) return
    if (this.#next === undefined) this.#first = number
    else if (number !== this.#next) {
      this.#missed++
      this.#options.log(`frame ${number} came, and not ${this.#next}`)
    }
    this.#next = number + 1
    const wrong = fault(pixels, number, sum, start.check)
    this.#latency.record(process.hrtime.bigint() - sentNs)
    this.#meter.count()
    if (wrong !== undefined) {
      this.#bad++
      this.#options.log(`frame ${number}: ${wrong}`)
    }
    // The last one whose number is a power of two is kept, or the very first: a few copies, whatever the end will be.
    if (this.#options.png !== undefined && (this.#kept === undefined || (number & (number - 1)) === 0))
      this.#kept = { pixels: pixels.slice(), size: start.size, number }
  }

  #onClose(): void {
    for (const fd of this.#fds.splice(0)) fd.close()
    this.#connected = false
    if (this.#reactor.closed) return
    if (this.#ended) {
      this.#report()
      this.#reactor.stop(this.#bad + this.#missed === 0 ? 0 : 1)
      return
    }
    if (this.#last) return this.#giveUp()
    this.#options.log(
      `the producer is gone: ${this.#next ?? 'any'} is the next frame, waiting for another one`,
    )
    this.connect().catch((error: unknown) => {
      this.#options.log(String(error))
      this.#reactor.stop(1)
    })
  }

  #giveUp(): void {
    this.#options.log(`there is no producer: ${this.#next ?? 'any'} was the next frame`)
    this.#reactor.stop(1)
  }

  #report(): void {
    const { log, png } = this.#options
    const { frames, seconds, cpu } = this.#meter
    if (this.#start === undefined || frames === 0) return log('no frames came')
    const { transport, check, size } = this.#start
    const rate = this.#meter.rate(frameBytes(size))
    log(
      `${frames} frames (${this.#first} to ${(this.#next ?? 0) - 1}) in ${seconds.toFixed(2)} s over ${transport}: ${rate}; CPU ${cpu}`,
    )
    log(
      `every frame was checked (${check}): ${this.#bad} bad, ${this.#missed} missed; from ready to checked: ${String(this.#latency)}`,
    )
    if (png === undefined || this.#kept === undefined) return
    writePng(png, this.#kept.pixels, this.#kept.size)
    log(`frame ${this.#kept.number} is in ${png}`)
  }
}
