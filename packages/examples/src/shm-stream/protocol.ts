/**
 * What the two sides say to each other over the Unix socket: records of 32 bytes; with `uds` the frame follows behind its `ready`.
 *
 * Consumer: `hello` with the next frame it needs. Producer: `start` with the sizes, and with `shm` the memory's descriptor; `ready` for each
 * frame; `bye` after the last. Consumer: `done` for each frame, in order.
 */
import type { Check, FrameSize } from './frame.js'

/** How the pixels come. */
export type Transport = 'uds' | 'shm'

/** A record. */
export type Message =
  /** `next` is undefined for a consumer that has not seen any. */
  | { type: 'hello'; next: number | undefined }
  | { type: 'start'; size: FrameSize; slots: number; check: Check; transport: Transport }
  /** `sentNs` is the monotonic clock, which all processes share. */
  | { type: 'ready'; number: number; sum: number; sentNs: bigint }
  | { type: 'done'; number: number }
  | { type: 'bye' }

const RECORD_BYTES = 32
const TYPES = ['hello', 'start', 'ready', 'done', 'bye'] as const
const CHECKS: readonly Check[] = ['sampled', 'full']
const TRANSPORTS: readonly Transport[] = ['uds', 'shm']
/** No frame has this number. */
const NONE = 0xffff_ffff

/** The bytes of a record. */
export function encode(message: Message): Buffer {
  const bytes = Buffer.alloc(RECORD_BYTES)
  const put = (...words: readonly number[]): void => {
    for (const [index, word] of words.entries()) bytes.writeUInt32LE(word, 4 + index * 4)
  }
  bytes.writeUInt32LE(TYPES.indexOf(message.type))
  switch (message.type) {
    case 'hello':
      put(message.next ?? NONE)
      break
    case 'start': {
      const { size, slots, check, transport } = message
      put(size.width, size.height, slots, CHECKS.indexOf(check), TRANSPORTS.indexOf(transport))
      break
    }
    case 'ready':
      put(message.number, message.sum)
      bytes.writeBigUInt64LE(message.sentNs, 24)
      break
    case 'done':
      put(message.number)
      break
    case 'bye':
      break
  }
  return bytes
}

/** @throws Error for what is no record: somebody else is at the other end. */
function decode(bytes: Buffer): Message {
  const word = (index: number): number => bytes.readUInt32LE(4 + index * 4)
  const type = TYPES[bytes.readUInt32LE()]
  switch (type) {
    case 'hello':
      return { type, next: word(0) === NONE ? undefined : word(0) }
    case 'start': {
      const [check, transport] = [CHECKS[word(3)], TRANSPORTS[word(4)]]
      if (check === undefined || transport === undefined) break
      return { type, size: { width: word(0), height: word(1) }, slots: word(2), check, transport }
    }
    case 'ready':
      return { type, number: word(0), sum: word(1), sentNs: bytes.readBigUInt64LE(24) }
    case 'done':
      return { type, number: word(0) }
    case 'bye':
      return { type }
    case undefined:
      break
  }
  throw new Error('The other side does not speak the protocol of shm-stream')
}

/** Where the bytes behind a record go, if any follow. */
export type Body = { readonly target: Uint8Array; readonly done: () => void } | undefined

/** Finds the records, and what follows them, in the chunks of a stream. */
export class RecordReader {
  readonly #onMessage: (message: Message) => Body
  readonly #record = Buffer.alloc(RECORD_BYTES)
  #target: Uint8Array = this.#record
  #filled = 0
  #done: (() => void) | undefined

  /** `onMessage` returns where the bytes behind the record are wanted. */
  constructor(onMessage: (message: Message) => Body) {
    this.#onMessage = onMessage
  }

  /** Takes a part of the stream; the bytes are not kept. */
  push(chunk: Uint8Array): void {
    let taken = 0
    while (taken < chunk.length) {
      const part = chunk.subarray(taken, taken + this.#target.length - this.#filled)
      this.#target.set(part, this.#filled)
      this.#filled += part.length
      taken += part.length
      if (this.#filled === this.#target.length) this.#full()
    }
  }

  #full(): void {
    this.#filled = 0
    const done = this.#done
    const body = done === undefined ? this.#onMessage(decode(this.#record)) : undefined
    this.#target = body?.target ?? this.#record
    this.#done = body?.done
    done?.()
  }
}
