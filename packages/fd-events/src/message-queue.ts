/**
 * Messages on their way out: what one handler sends leaves in one system call, what a receiver has no room for waits.
 *
 * One lane holds what the running handler sends, for whomever. A message whose destination is full moves to a lane of that
 * destination, where later ones for it line up, so that none overtakes another and no destination holds up the rest. Who owns
 * the queue says when such a lane is tried again. Every message ends exactly once (`#finish`), and takes its duplicates of descriptors along.
 */
import { PackedMessages, SystemError, type FdHandle } from '@fd-reactor/core'
import type { OnCongestion, SendOutcome } from './message-options.js'
import { closeAll, duplicates } from './passed-fds.js'

const EAGAIN = -11
const ENOBUFS = -105
/** What waits for the end of a handler leaves earlier when it is this much. */
const FRESH_MESSAGES = 64
const FRESH_BYTES = 64 * 1024
/** Messages for one system call from a lane. */
const RETRIED = 64

/** Whom messages go to. */
export interface Destination {
  /** The same for the same address. */
  readonly key: string
  /** Its sockaddr; undefined for whom the socket is connected to. */
  readonly address: Uint8Array | undefined
}

/** The socket under a queue. */
export interface MessageChannel {
  /** send(2) to whom it is connected to: how many bytes, or -errno. */
  sendBytes(bytes: Uint8Array, offset: number, length: number): number
  /** sendmmsg(2) of the first `count`: how many, or -errno. */
  sendPacked(packed: PackedMessages, count: number): number
  /** What a refusal means. */
  explain(errno: number, length: number, destination: Destination): SystemError
  /** Whether the socket cannot send any more after this one. */
  breaks(errno: number): boolean
  /** Messages begin to wait. */
  onCongested(lane: Lane): void
  /** A message whose sender gave no callback was refused; not called for what ends with the whole socket. */
  onLost(error: SystemError): void
  /** A callback has thrown, which must not keep the rest from going its way. */
  onThrown(error: unknown): void
}

interface Message {
  readonly destination: Destination
  readonly length: number
  readonly settled: ((outcome: SendOutcome) => void) | undefined
  /** The sender's descriptors. */
  readonly fds: readonly FdHandle[]
  /** Duplicates of them, once it waits. */
  own: readonly FdHandle[]
  /** How many bytes it takes in its lane. */
  size: number
}

/** Messages in the order in which they leave. */
export class Lane {
  readonly packed = new PackedMessages()
  readonly messages: Message[] = []
  /** For the owner: how long to wait before the next try, and what calls it off. */
  backoffNs = 0
  cancel: (() => void) | undefined

  /** `key` is its destination's. */
  constructor(readonly key: string) {}
}

const NO_FDS: readonly FdHandle[] = []
const NO_BYTES = new Uint8Array()

/** All that one socket has to send. */
export class MessageQueue {
  readonly #channel: MessageChannel
  readonly #policy: OnCongestion
  readonly #limit: number
  readonly #fresh = new Lane('')
  readonly #waiting = new Map<string, Lane>()
  /** The only fresh message, and its bytes, which are the sender's: by far the most common case needs no packing. */
  #sole: Message | undefined
  #soleBytes: Uint8Array = NO_BYTES
  #soleOffset = 0
  #ended: { settled: (outcome: SendOutcome) => void; outcome: SendOutcome }[] = []
  #broken: SystemError | undefined
  /** How many messages there are, fresh or waiting. */
  count = 0
  /** How many bytes they have. */
  length = 0
  sent = 0
  dropped = 0
  failed = 0

  /** `limit` is how many may wait for one destination. */
  constructor(channel: MessageChannel, policy: OnCongestion, limit: number) {
    this.#channel = channel
    this.#policy = policy
    this.#limit = limit
  }

  /** Why nothing can be sent any more. */
  get broken(): SystemError | undefined {
    return this.#broken
  }

  /** Those for whom messages wait. */
  get lanes(): Iterable<Lane> {
    return this.#waiting.values()
  }

  /**
   * Adds `length` bytes from `offset`, which may be read until `flush`; it must follow. Descriptors leave now, with what is there already, since
   * the sender may close them.
   */
  push(
    bytes: Uint8Array,
    offset: number,
    length: number,
    destination: Destination,
    fds: readonly FdHandle[] = NO_FDS,
    settled?: (outcome: SendOutcome) => void,
  ): void {
    const message: Message = { destination, length, settled, fds, own: NO_FDS, size: 0 }
    this.count++
    this.length += length
    if (this.#broken !== undefined) {
      this.#finish(message, this.#broken)
      return this.#tell()
    }
    const lane = this.#waiting.size > 0 ? this.#waiting.get(destination.key) : undefined
    if (lane === undefined && this.#sole === undefined && this.#fresh.messages.length === 0) {
      if (fds.length === 0 && destination.address === undefined) {
        this.#sole = message
        this.#soleBytes = bytes
        this.#soleOffset = offset
        return
      }
    }
    this.#packSole()
    const part = length === bytes.length ? bytes : bytes.subarray(offset, offset + length)
    if (lane !== undefined) this.#enqueue(message, part)
    else {
      message.size = this.#fresh.packed.push(part, destination.address, fds)
      this.#fresh.messages.push(message)
      const { messages, packed } = this.#fresh
      if (fds.length > 0 || messages.length >= FRESH_MESSAGES || packed.size >= FRESH_BYTES)
        this.#flushFresh()
    }
    this.#tell()
  }

  /** Sends what is fresh; what finds no room waits or goes, as the policy says. */
  flush(): void {
    const sole = this.#sole
    if (sole !== undefined) {
      this.#sole = undefined
      const result = this.#channel.sendBytes(this.#soleBytes, this.#soleOffset, sole.length)
      if (result >= 0) this.#finish(sole, 'sent')
      else if (result === EAGAIN) this.#enqueue(sole, this.#solePart(sole))
      else this.#refuse(sole, result)
      this.#soleBytes = NO_BYTES
    } else this.#flushFresh()
    this.#tell()
  }

  /** Tries to send what waits in a lane; true when some of it left. Why the rest did not is seen at the next try. */
  retry(lane: Lane): boolean {
    const { messages, packed } = lane
    let progress = false
    for (let short = false; messages.length > 0 && !short;) {
      const count = Math.min(messages.length, RETRIED)
      const result = this.#channel.sendPacked(packed, count)
      if (result === EAGAIN) break
      progress = true
      short = result >= 0 && result < count
      for (let taken = 0; taken < result; taken++) this.#finish(this.#shift(lane), 'sent')
      if (result < 0) this.#refuse(this.#shift(lane), result)
    }
    if (messages.length === 0) this.#waiting.delete(lane.key)
    this.#tell()
    return progress
  }

  /** Ends all that is there, and all that will come, with `outcome` if that is an error. */
  clear(outcome: SendOutcome): void {
    if (typeof outcome !== 'string') this.#broken ??= outcome
    this.#clear(outcome)
    this.#tell()
  }

  #clear(outcome: SendOutcome): void {
    const sole = this.#sole
    this.#sole = undefined
    for (const lane of this.#waiting.values()) {
      lane.cancel?.()
      while (lane.messages.length > 0) this.#finish(this.#shift(lane), outcome)
    }
    this.#waiting.clear()
    if (sole !== undefined) this.#finish(sole, outcome)
    while (this.#fresh.messages.length > 0) this.#finish(this.#shift(this.#fresh), outcome)
  }

  #packSole(): void {
    const sole = this.#sole
    if (sole === undefined) return
    this.#sole = undefined
    sole.size = this.#fresh.packed.push(this.#solePart(sole), undefined)
    this.#fresh.messages.push(sole)
  }

  #solePart({ length }: Message): Uint8Array {
    return this.#soleBytes.subarray(this.#soleOffset, this.#soleOffset + length)
  }

  #flushFresh(): void {
    const fresh = this.#fresh
    let congested = false
    for (let next = fresh.messages[0]; next !== undefined; next = fresh.messages[0]) {
      const behind = congested && this.#waiting.has(next.destination.key)
      const count = congested ? 1 : fresh.messages.length
      const result = behind ? EAGAIN : this.#channel.sendPacked(fresh.packed, count)
      for (let taken = 0; taken < result; taken++) this.#finish(this.#shift(fresh), 'sent')
      if (result === EAGAIN) {
        congested = true
        this.#enqueue(next, undefined)
      } else if (result < 0) this.#refuse(this.#shift(fresh), result)
    }
  }

  /** Lets a message wait, if it may; `bytes` is undefined for the first fresh one, which is packed already. */
  #enqueue(message: Message, bytes: Uint8Array | undefined): void {
    const { key } = message.destination
    const lane = this.#waiting.get(key) ?? new Lane(key)
    const admitted = this.#admits(lane, message)
    if (bytes === undefined) this.#fresh.messages.shift()
    if (admitted && bytes !== undefined) {
      message.size = lane.packed.push(bytes, message.destination.address, message.own)
    } else if (admitted) this.#fresh.packed.moveTo(lane.packed, message.size, message.own)
    else if (bytes === undefined) this.#fresh.packed.skip(message.size)
    if (admitted) lane.messages.push(message)
    if (lane.messages.length === 0) this.#waiting.delete(key)
    else if (!this.#waiting.has(key)) {
      this.#waiting.set(key, lane)
      this.#channel.onCongested(lane)
    }
  }

  /** Whether a message may wait, with descriptors of its own; if not, it has ended. */
  #admits(lane: Lane, message: Message): boolean {
    const full = lane.messages.length >= this.#limit
    if (this.#policy === 'error' || (full && this.#policy === 'wait')) {
      const errno = this.#policy === 'error' ? EAGAIN : ENOBUFS
      this.#finish(message, this.#channel.explain(errno, message.length, message.destination))
      return false
    }
    if (full && (this.#policy === 'drop-new' || this.#limit === 0)) {
      this.#finish(message, 'dropped')
      return false
    }
    const own = duplicatesOf(message.fds)
    if (own instanceof SystemError) {
      this.#finish(message, own)
      return false
    }
    message.own = own
    if (full) this.#finish(this.#shift(lane), 'dropped')
    return true
  }

  #refuse(message: Message, errno: number): void {
    const error = this.#channel.explain(errno, message.length, message.destination)
    if (this.#channel.breaks(errno)) this.#broken = error
    this.#finish(message, error)
    if (this.#broken !== undefined) this.#clear(error)
  }

  #shift(lane: Lane): Message {
    const message = lane.messages.shift()
    if (message === undefined) throw new RangeError('The kernel took more messages than there were')
    lane.packed.skip(message.size)
    return message
  }

  #finish({ length, own, settled }: Message, outcome: SendOutcome): void {
    this.count--
    this.length -= length
    closeAll(own)
    if (outcome === 'sent') this.sent++
    else if (outcome === 'dropped') this.dropped++
    else this.failed++
    if (settled !== undefined) this.#ended.push({ settled, outcome })
    else if (typeof outcome !== 'string' && this.#broken === undefined) {
      this.#ended.push({ settled: () => this.#channel.onLost(outcome), outcome })
    }
  }

  /** Calls those whose messages have ended, when the queue is in order again: they may send, or close. All are called, whatever one throws. */
  #tell(): void {
    for (let next = this.#ended.shift(); next !== undefined; next = this.#ended.shift()) {
      try {
        next.settled(next.outcome)
      } catch (error) {
        this.#channel.onThrown(error)
      }
    }
  }
}

/** So that the sender may close its own: all, or why there are none. */
function duplicatesOf(fds: readonly FdHandle[]): readonly FdHandle[] | SystemError {
  if (fds.length === 0) return NO_FDS
  try {
    return duplicates(fds)
  } catch (error) {
    if (error instanceof SystemError) return error // EMFILE
    throw error
  }
}
