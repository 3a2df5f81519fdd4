/**
 * A socket that moves whole messages: what datagram and packet sockets share.
 *
 * The native drain receives up to 32 messages at a time into the batch's slab; here each becomes an event. What one handler sends
 * leaves in one system call when it returns (`MessageQueue`). A descriptor that came belongs to the listener of its message, and until then to us.
 */
import { Buffer } from 'node:buffer'
import {
  closeMessageHead,
  Drain,
  Interest,
  messageArgument,
  ReactorError,
  Source,
  SystemError,
  type BatchRecord,
  type EventMap,
  type FdHandle,
  type PackedMessages,
  type Reactor,
} from '@fd-reactor/core'
import { MessageFlag } from '@fd-reactor/core/sys'
import process from 'node:process'
import { closeInfo, InfoDecoder, isMessage, PLAIN } from './message-info.js'
import type {
  DetachedMessages,
  MessageEvents,
  MessageInfo,
  MessageOptions,
  MessageStats,
  SendOutcome,
} from './message-options.js'
import { MessageQueue, type Destination, type Lane } from './message-queue.js'
import { explainRefusal, prepared } from './message-setup.js'
import { copyOf } from './record-copy.js'
import { lend, loan } from './slab-loan.js'

const EAGAIN = -11
const DEFAULT_MESSAGE_BYTES = 64 * 1024
const DEFAULT_QUEUE_LIMIT = 1024
const DEFAULT_HIGH_WATER_MARK = 64 * 1024

/** What kind of socket it is. */
export interface MessageKind {
  /** Whether messages come with the address of who sent them. */
  address: boolean
  /** Whether they are packets of a connection, which ends. */
  packets: boolean
}

/** Where messages go that name no destination. */
export const CONNECTED: Destination = { key: '', address: undefined }

/**
 * What datagram and packet sockets share: everything but where messages go, and how it ends.
 *
 * Guaranteed: a message comes whole or is marked as cut; every `send()` ends exactly once; nothing is received while nobody listens or
 * while it is paused; a sender's memory is free again when its handler, or outside of one `send()`, returns.
 */
export abstract class MessageSocket<
  B extends boolean = false,
  Events extends MessageEvents & EventMap<Events> = MessageEvents,
> extends Source<Events> {
  declare protected readonly ownedHandle: FdHandle
  readonly #borrow: boolean
  readonly #maxFds: number
  readonly #highWaterMark: number
  readonly #queueLimit: number
  readonly #queue: MessageQueue
  readonly #infos = new InfoDecoder()
  #unread: [bytes: Buffer, info: MessageInfo][] = []
  #received = 0
  #needsDrain = false
  #watchedForRoom = false
  #flushAsked = false
  #inRecord = false
  #detaching = false
  #warned = false

  protected constructor(reactor: Reactor, handle: FdHandle, options: MessageOptions<B>, kind: MessageKind) {
    const {
      maxMessageBytes = DEFAULT_MESSAGE_BYTES,
      maxFds = 0,
      credentials = false,
      pidFd = false,
    } = options
    const argument = messageArgument({ maxBytes: maxMessageBytes, maxFds, credentials, pidFd, ...kind })
    const registration = { drain: Drain.Messages, interest: Interest.In | Interest.RdHup, argument }
    super(reactor, prepared(handle, options, kind.packets), registration, options)
    this.#borrow = options.borrow ?? false
    this.#maxFds = maxFds
    this.#highWaterMark = options.highWaterMark ?? DEFAULT_HIGH_WATER_MARK
    this.#queueLimit = options.queueLimit ?? DEFAULT_QUEUE_LIMIT
    this.#queue = new MessageQueue(
      {
        sendBytes: (bytes, offset, length) => this.sendBytes(bytes, offset, length),
        sendPacked: (packed, count) => this.sendPacked(packed, count),
        explain: (errno, length, destination) => {
          const path = this.nameOf(destination)
          const refusal = { errno, length, path, queueLimit: this.#queueLimit }
          return explainRefusal(this.owned ? this.ownedHandle : undefined, refusal)
        },
        breaks: (errno) => this.breaks(errno),
        onCongested: (lane) => this.onCongested(lane),
        onLost: (error) => this.lose(error),
        onThrown: (error) => this.throwLater(error),
      },
      options.onCongestion ?? 'wait',
      this.#queueLimit,
    )
  }

  /** Its statistics. */
  override get stats(): MessageStats {
    const { sent, dropped, failed, count } = this.#queue
    return { ...super.stats, received: this.#received, sent, dropped, failed, queued: count }
  }

  /** How many bytes wait to be sent. */
  get writableLength(): number {
    return this.#queue.length
  }

  /** How errors name a destination. */
  protected abstract nameOf(destination: Destination): string | undefined
  /** Whether nothing can be sent any more after this error. */
  protected abstract breaks(errno: number): boolean
  /** Messages begin to wait for a destination that has no room. */
  protected abstract onCongested(lane: Lane): void
  /** Whether EPOLLOUT says when messages that wait may leave. */
  protected abstract get watchesRoom(): boolean
  /** The connection has ended, or nothing can be received any more. */
  protected abstract onEnd(record: BatchRecord): void
  /** Receiving failed. */
  protected abstract onReceiveError(error: SystemError): void
  /** Descriptors came that did not fit; the message is gone. */
  protected abstract onTruncatedFds(error: ReactorError): void

  /** What waits to be sent. */
  protected get queue(): MessageQueue {
    return this.#queue
  }

  /** Gives the kernel what it takes of what waits, and closes; the rest is dropped, and so is what was not delivered. Idempotent. */
  override close(): void {
    try {
      if (!this.closed) this.flushAll()
    } finally {
      this.destroy()
    }
  }

  /** Closes and drops what waits. Idempotent. */
  destroy(): void {
    if (this.closed) return
    this.dismiss()
    try {
      super.close()
    } finally {
      for (const [, info] of this.#unread.splice(0)) closeInfo(info)
      this.#queue.clear('dropped')
    }
  }

  /** Ends the source and hands over the socket, with what was not delivered; what waits to be sent is tried once more, and dropped. @throws ReactorError `ERR_CLOSED`. */
  detach(): DetachedMessages {
    this.assertOpen()
    this.flushAll()
    this.assertOpen() // a callback may have closed it
    this.#detaching = true
    this.dismiss()
    const handle = this.detachHandle().guard()
    this.#queue.clear('dropped')
    return { handle, unread: this.#unread.splice(0) }
  }

  /** Sends, or lets it wait for the handler's end; see the subclasses' `send`. */
  protected enqueue(
    bytes: Uint8Array | string,
    destination: Destination,
    fds: readonly FdHandle[] | undefined,
    settled: ((outcome: SendOutcome) => void) | undefined,
  ): boolean {
    if (this.closed) this.assertOpen()
    const chunk = typeof bytes === 'string' ? Buffer.from(bytes) : bytes
    if (!(chunk instanceof Uint8Array)) throw new TypeError('send() takes a Uint8Array or a string')
    const length = chunk.length
    if (chunk === loan.view) this.#queue.push(loan.slab, loan.offset, length, destination, fds, settled)
    else this.#queue.push(chunk, 0, length, destination, fds, settled)
    if (!this.#inRecord) this.flushLater()
    if (this.#queue.broken !== undefined) return false // who goes on while it is true must not go on for ever
    if (this.#queue.length <= this.#highWaterMark && this.#queue.count < this.#queueLimit) return true
    this.#needsDrain = true
    if (!this.#inRecord && !this.#flushAsked) this.#watchRoom()
    return false
  }

  protected get consumerEvents(): readonly string[] {
    return ['message']
  }

  protected override get keepsSomething(): boolean {
    return this.#unread.length > 0
  }

  protected override wantedInterest(): number {
    return this.readInterest() | (this.#watchedForRoom ? Interest.Out : 0)
  }

  /** What to watch for while nothing waits to be sent. */
  protected readInterest(): number {
    return super.wantedInterest()
  }

  onRecord(record: BatchRecord): void {
    this.#inRecord = true
    try {
      this.#take(record)
    } finally {
      this.#inRecord = false
      if (!this.closed) this.#flush((record.revents & Interest.Out) !== 0)
    }
    if ((record.revents & Interest.Out) !== 0) this.#tellDrain()
  }

  #take(record: BatchRecord): void {
    const { result, messageFlags } = record
    if (result < 0) {
      if (result === EAGAIN) return // there is room for sending, and nothing to receive
      return this.onReceiveError(new SystemError(result, 'recvmmsg', { path: this.label }))
    }
    if (messageFlags === 0 && !this.#borrow && this.flowing && this.#unread.length === 0) {
      this.#received++
      return this.fire('message', copyOf(record), PLAIN)
    }
    if ((messageFlags & MessageFlag.End) !== 0) return this.onEnd(record)
    if ((messageFlags & MessageFlag.ControlTruncated) !== 0 && this.#maxFds > 0) {
      closeMessageHead(record)
      return this.onTruncatedFds(
        new ReactorError(
          'ERR_FDS_TRUNCATED',
          `${this.label}: a message came with more descriptors than maxFds (${this.#maxFds}), or than this process may still open. ` +
            'All of them were closed, and the message was dropped: raise maxFds, or the limit of open files',
        ),
      )
    }
    const info = this.#infos.decode(record)
    if (!this.flowing || this.#unread.length > 0) {
      this.#unread.push([copyOf(record), info])
      return this.emitKept()
    }
    this.#received++
    if (!this.#borrow) return this.fire('message', copyOf(record), info)
    try {
      this.fire('message', lend(record), info)
    } finally {
      loan.view = undefined
    }
  }

  override onSettle(record: BatchRecord): void {
    if (record.result < 0 || (record.messageFlags & MessageFlag.End) !== 0) return
    const cut = this.#maxFds > 0 && (record.messageFlags & MessageFlag.ControlTruncated) !== 0
    if (this.#detaching && !cut) {
      this.#unread.push([copyOf(record), this.#infos.decode(record)])
    } else closeMessageHead(record)
  }

  protected override emitKept(): void {
    while (this.flowing && this.#unread.length > 0) {
      const next = this.#unread.shift()
      if (next === undefined) break
      this.#received++
      this.fire('message', ...next)
    }
  }

  protected override takeBack(name: string, events: readonly unknown[][]): void {
    if (name !== 'message') return
    const messages = events.filter(isMessage)
    if (this.closed || this.#borrow) for (const [, info] of messages) closeInfo(info)
    else {
      this.#unread.unshift(...messages)
      this.#received -= messages.length
    }
  }

  /** `for await (const [bytes, info] of socket)`. Borrowed bytes do not live long enough for it: a type error. */
  [Symbol.asyncIterator](): B extends false
    ? AsyncGenerator<[bytes: Buffer, info: MessageInfo], undefined, undefined>
    : undefined
  [Symbol.asyncIterator](
    this: MessageSocket,
  ): AsyncGenerator<[bytes: Buffer, info: MessageInfo], undefined, undefined> | undefined {
    return this.events('message')
  }

  override onFlush(): void {
    if (this.#flushAsked) {
      this.#flushAsked = false
      if (!this.closed) this.#flush(false)
    }
    super.onFlush()
  }

  /** A message is gone, one way or the other, and the socket goes on. */
  protected lose(error: SystemError | ReactorError): void {
    if (this.listenerCount('lost') > 0) this.fire('lost', error)
    else if (!this.#warned) {
      this.#warned = true
      process.emitWarning(`${error.message} (${this.label} tells later ones only to listeners of 'lost')`, {
        code: 'FD_REACTOR_MESSAGE_LOST',
      })
    }
  }

  /** Lets what waits leave at the end of the handler, or now. */
  protected flushLater(): void {
    if (this.#inRecord || this.#flushAsked) return
    if (this.reactor.afterHandler(this)) this.#flushAsked = true
    else this.#flush(false)
  }

  /** Lets go what the kernel takes. */
  protected flushAll(): void {
    this.#queue.flush()
    for (const lane of [...this.#queue.lanes]) while (this.#queue.retry(lane) && lane.messages.length > 0);
  }

  /** For subclasses that are no longer concerned once it ends, in whatever way. Called once. */
  protected dismiss(): void {}

  /** For subclasses that end when everything is sent, or because nothing can be. */
  protected onFlushed(): void {}

  /** send(2) to whom it is connected: how many bytes, or -errno. */
  protected sendBytes(bytes: Uint8Array, offset: number, length: number): number {
    return this.reactor.send(this.ownedHandle, bytes, offset, length)
  }

  /** sendmmsg(2) of the first `count`: how many, or -errno. */
  protected sendPacked(packed: PackedMessages, count: number): number {
    return packed.send(this.ownedHandle, count)
  }

  #flush(hasRoom: boolean): void {
    if (this.#queue.count > 0) {
      this.#queue.flush()
      if (hasRoom && this.watchesRoom) for (const lane of this.#queue.lanes) this.#queue.retry(lane)
    }
    if (this.closed) return
    this.onFlushed()
    this.#watchRoom()
  }

  #watchRoom(): void {
    if (this.closed) return
    if (this.#queue.broken !== undefined) this.#needsDrain = false // nothing has left, and nothing will
    const waiting = this.#queue.count > 0
    // Without a peer of its own the socket has room whoever is full, so only the retries count.
    const watch = waiting ? this.watchesRoom : this.#needsDrain
    if (watch === this.#watchedForRoom) return
    this.#watchedForRoom = watch
    this.update()
  }

  /** Waits for a batch of its own, so that who sends on at every `'drain'` does not keep the loop from the others. */
  #tellDrain(): void {
    if (this.closed || this.#queue.count > 0 || !this.#needsDrain) return
    this.#needsDrain = this.#watchedForRoom = false
    this.update()
    this.fire('drain')
  }
}
