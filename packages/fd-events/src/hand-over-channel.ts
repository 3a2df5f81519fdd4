/**
 * The control connection of a hand-over: messages with a JSON head, perhaps descriptors, and bytes of any number behind it.
 *
 * The head is one packet; the bytes follow in as many as they need. What comes in which order is written in hand-over.ts. A side
 * that gives up while it waits shuts its reading first and looks at what is there already: the kernel either queued the other's last
 * word before or refuses it, so that both sides know the same.
 */
import { Buffer } from 'node:buffer'
import { ReactorError, type FdHandle, type Reactor } from '@fd-reactor/core'
import { socket as sys } from '@fd-reactor/core/sys'
import { deadline } from './deadlines.js'
import type { MessageInfo } from './message-options.js'
import { closeAll } from './passed-fds.js'
import type { UnixSeqpacket } from './unix-seqpacket.js'

/** The messages, by their types. `hello` and `refused` are the same in every version, and so is `version` in `take`. */
interface Heads {
  /** The predecessor's first word. */
  hello: { version: number }
  /** A successor asks. */
  take: { version: number; connections?: boolean }
  /** Either side will not go on; people read why. */
  refused: { reason: string }
  /** A listening socket; whether its file is the holder's to remove. */
  listener: { name: string; unlinkOnClose: boolean }
  /** A connection that may be handed over; it is named by its index. */
  connection: { index: number }
  /** That was all. */
  offered: object
  /** The successor has made its sources. From here on everything is its own. */
  ready: object
  /**
   * A connection is handed over: one that was offered, or {@link NOT_OFFERED} and its descriptor first. With it: descriptors that were not
   * delivered. Behind it: what was unread, what was unsent, and its state as JSON.
   */
  handed: { index: number; unread: number; unsent: number }
}
/** One of the types of messages. */
type HeadType = keyof Heads
type AnyHead = { [T in HeadType]: { type: T } & Heads[T] }[HeadType]
/** A head of one of some types. */
export type Head<Type extends HeadType = HeadType> = Extract<AnyHead, { type: Type }>
/** A head as it came, and what came with it. */
type Received<Type extends HeadType> = Head<Type> & { fds: readonly FdHandle[]; bytes: Buffer }

const SHAPES: Readonly<Record<HeadType, Readonly<Record<string, 'string' | 'number' | 'boolean'>>>> = {
  hello: { version: 'number' },
  take: { version: 'number' },
  refused: { reason: 'string' },
  listener: { name: 'string', unlinkOnClose: 'boolean' },
  connection: { index: 'number' },
  offered: {},
  ready: {},
  handed: { index: 'number', unread: 'number', unsent: 'number' },
}

/** The index of a connection that came later. */
export const NOT_OFFERED = -1
/** What the sockets under it are made with: after the last word of one side the other may have more to say. */
export const channelOptions = { allowHalfOpen: true }
/** Small enough for any setting of SO_SNDBUF that people use. */
const PIECE_BYTES = 32 * 1024
const NO_BYTES = Buffer.alloc(0)

/** How a channel is limited. */
interface ChannelLimits {
  reactor: Reactor
  /** Nanoseconds for all of it. */
  timeout: number
  signal: AbortSignal | undefined
  /** Whom errors speak of. */
  peer: 'predecessor' | 'successor'
}

/** One end of a hand-over's connection. What is sent has left when its promise resolves. */
export class HandOverChannel {
  readonly #socket: UnixSeqpacket
  readonly #peer: string
  readonly #packets: AsyncGenerator<[bytes: Buffer, info: MessageInfo], undefined, undefined>
  readonly #cancel: () => void
  readonly #signal: AbortSignal | undefined
  #receiving = 0
  #failure: Error | undefined

  constructor(socket: UnixSeqpacket, { reactor, timeout, signal, peer }: ChannelLimits) {
    this.#socket = socket
    this.#peer = peer
    this.#packets = socket.events('message')
    socket.on('error', () => undefined) // whoever waits is told
    this.#cancel = deadline(reactor, timeout, () => {
      this.#giveUp(
        new ReactorError(
          'ERR_TIMEOUT',
          `The ${peer} was not done with the hand-over within ${timeout / 1e6} ms`,
        ),
      )
    })
    this.#signal = signal
    signal?.addEventListener('abort', this.#onAbort)
  }

  /** From where there is no way back: only the other side's end counts. */
  ignoreLimits(): void {
    this.#cancel()
    this.#signal?.removeEventListener('abort', this.#onAbort)
  }

  /** Sends one message. @throws when it cannot be sent, or when the limits end it. */
  async send(head: Head, fds: readonly FdHandle[] = [], bytes = NO_BYTES): Promise<void> {
    await this.#post(Buffer.from(JSON.stringify({ ...head, size: bytes.length })), fds)
    for (let at = 0; at < bytes.length; at += PIECE_BYTES)
      await this.#post(bytes.subarray(at, at + PIECE_BYTES), [])
  }

  /** Tells why it will not go on, if that can still be told, and closes. */
  async refuse(reason: string): Promise<void> {
    await this.send({ type: 'refused', reason }).catch(() => undefined)
    this.close()
  }

  /** The next message, which must be of one of `types`. Its descriptors are the caller's. @throws ReactorError `ERR_HAND_OVER`, `ERR_TIMEOUT`. */
  async receive<Type extends HeadType>(...types: readonly Type[]): Promise<Received<Type>> {
    const [packet, { fds }] = await this.#next(types.join(' or '))
    try {
      const { head, size } = parse(packet)
      if (head.type === 'refused')
        throw new ReactorError('ERR_HAND_OVER', `The ${this.#peer} refused: ${head.reason}`)
      if (!isOneOf(head, types)) throw new Error(`'${head.type}' came where ${types.join(' or ')} was due`)
      const pieces: Buffer[] = []
      for (let left = size; left > 0;) {
        const [piece] = await this.#next('the rest of a message')
        pieces.push(piece)
        left -= piece.length
      }
      return { ...head, fds, bytes: Buffer.concat(pieces) }
    } catch (error) {
      closeAll(fds)
      if (error instanceof ReactorError) throw error
      throw new ReactorError('ERR_HAND_OVER', `The ${this.#peer} does not speak the protocol of hand-overs`, {
        cause: error,
      })
    }
  }

  /** Ends it; what was sent reaches the other side all the same. Idempotent. */
  close(): void {
    this.ignoreLimits()
    this.#socket.destroy()
    void this.#packets.return(undefined).catch(() => undefined)
  }

  async #next(what: string): Promise<[bytes: Buffer, info: MessageInfo]> {
    this.#receiving++
    let cause: unknown
    try {
      const { value } = await this.#packets.next()
      if (value !== undefined) return value
    } catch (error) {
      if (error instanceof ReactorError) throw error
      cause = error
    } finally {
      this.#receiving--
    }
    const ended = `The ${this.#peer} went away before it sent ${what}`
    throw this.#failure ?? new ReactorError('ERR_HAND_OVER', ended, { cause })
  }

  async #post(packet: Buffer, fds: readonly FdHandle[]): Promise<void> {
    try {
      await new Promise<void>((resolve, reject) => {
        this.#socket.send(packet, { fds }, (outcome) => {
          if (outcome === 'sent') resolve()
          else reject(outcome === 'dropped' ? new Error('The connection was closed') : outcome)
        })
      })
    } catch (error) {
      const ended = `The ${this.#peer} went away in the middle of the hand-over`
      throw this.#failure ?? new ReactorError('ERR_HAND_OVER', ended, { cause: error })
    }
  }

  readonly #onAbort = (): void => this.#giveUp(this.#signal?.reason)

  #giveUp(reason: unknown): void {
    if (this.#socket.closed) return
    this.#failure ??= reason instanceof Error ? reason : new Error(String(reason))
    // Who waits finds what is there already, or the end.
    if (this.#receiving > 0) sys.shutdownRead(this.#socket.fd)
    else this.#socket.destroy()
  }
}

function parse(packet: Buffer): { head: Head; size: number } {
  const value: unknown = JSON.parse(packet.toString())
  const size = typeof value === 'object' && value !== null && 'size' in value ? value.size : undefined
  if (!isHead(value) || typeof size !== 'number') throw new Error(`Not understood: ${packet.toString()}`)
  return { head: value, size }
}

function isHead(value: unknown): value is Head {
  if (typeof value !== 'object' || value === null || !('type' in value)) return false
  const shape = Object.entries(SHAPES).find(([type]) => type === value.type)?.[1]
  if (shape === undefined) return false
  const fields = new Map(Object.entries(value))
  return Object.entries(shape).every(([name, type]) => typeof fields.get(name) === type)
}

function isOneOf<Type extends HeadType>(head: Head, types: readonly Type[]): head is Head<Type> {
  return types.some((type) => type === head.type)
}
