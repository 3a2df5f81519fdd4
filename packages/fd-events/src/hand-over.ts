/**
 * The running process's side of a hand-over: offers its listening sockets and idle connections to a successor.
 *
 * 1. The successor connects to the control socket, hears `hello` (or is refused), and sends `take`.
 * 2. The predecessor sends `listener` and `connection` messages with a descriptor each, then `offered`. It goes on as before: both
 *    have the sockets, and only it uses them.
 * 3. The successor makes its sources and sends `ready`. By that message, if the kernel takes it, everything becomes the successor's.
 * 4. The predecessor stops accepting, gives up the sockets' files, and detaches those connections that are idle now: `handed` carries
 *    what each had not delivered and not sent, and the descriptor if it was not offered before. The successor closes its copies of the
 *    others. Then the control socket goes.
 */
import { Buffer } from 'node:buffer'
import process from 'node:process'
import { FdHandle, MAX_FDS, ReactorError, type Reactor } from '@fd-reactor/core'
import { abortSignal, checkOptions, func, transfer } from '@fd-reactor/core/sys'
import { channelOptions, HandOverChannel, NOT_OFFERED, type Head } from './hand-over-channel.js'
import { duration, type DetachedStream } from './stream-options.js'
import type { UnixAddress } from './unix-address.js'
import { allowCheck, allows, peerOf, type Allow, type UnixPeer } from './unix-peer.js'
import { UnixSeqpacketListener } from './unix-seqpacket-listener.js'

/** The version of the protocol that both sides must speak. */
export const HAND_OVER_VERSION = 1
/** How long a hand-over may take, unless somebody says otherwise. */
export const HAND_OVER_TIMEOUT = 10e9

/** What can be handed over: a `UnixListener`, a `UnixSeqpacketListener`, a `TcpListener`. */
export interface HandedListener {
  /** Whether it was closed: then it is not offered. */
  readonly closed: boolean
  /** The listening socket. */
  readonly fd: number
  /** Whether its file goes with it, where it has one. */
  unlinkOnClose?: boolean
  /** Stops accepting, and leaves the socket open. */
  leave(): void
  /** Stops listening. */
  close(): void
}

/** What can be handed over of connections: a `UnixStream`, a `TcpStream`. */
export interface HandedStream {
  /** Whether it was closed: then it is not handed over. */
  readonly closed: boolean
  /** The connected socket. */
  readonly fd: number
  /** Names it in errors. */
  readonly label: string
  /** Gives up the socket, with what was read and not sent. */
  detach(): DetachedStream
}

/** A connection that may be handed over, and what the successor should know of it. */
export interface IdleConnection {
  /** A `UnixStream` or a `TcpStream`. */
  stream: HandedStream
  /** Anything that JSON can carry. */
  state?: unknown
}

/** Options of {@link handOver}. */
export interface HandOverOptions {
  /** What is handed over, under names that the successor knows. */
  listeners: Readonly<Record<string, HandedListener>>
  /**
   * The connections that are idle now: between two requests, nothing of them kept by a codec. Asked when a successor comes, to see that it
   * has room for them, and once more when it is ready: those of the second answer go. Default: none.
   */
  connections?: () => Iterable<IdleConnection>
  /** Who may take over. Default: the own user. */
  allow?: Allow
  /** Nanoseconds that a successor may take from its connection on until it is ready. Default 10 s. */
  timeout?: number
  /** Ends the offer, and an attempt that is under way: the promise rejects with its reason. */
  signal?: AbortSignal
  /** An attempt failed, and this process goes on; or a connection could not be handed over, and stays. Default: a process warning. */
  onFailed?: (error: Error) => void
}

const CHECKS = {
  listeners: (value: unknown, name: string) => {
    const isListener = (each: unknown): boolean =>
      typeof each === 'object' && each !== null && 'leave' in each
    if (typeof value !== 'object' || value === null || !Object.values(value).every(isListener))
      throw new TypeError(`${name} must be an object whose values are listeners`)
  },
  connections: func,
  allow: allowCheck,
  timeout: duration,
  signal: abortSignal,
  onFailed: func,
}

/**
 * Offers listeners and idle connections to a successor, on a control socket at `path`; resolves to true when one has them, and to
 * false when the reactor is closed first.
 *
 * Guaranteed: nobody who connects is refused or reset by it: the sockets are never closed before the successor has them, and who waits in
 * a backlog is accepted by one of the two. A successor that fails, dies or is late before it is ready changes nothing: this process goes on, and
 * offers again. When the promise resolves this process accepts nothing more, the sockets' files are the successor's to remove, and the connections
 * that were handed over are closed here; bytes keep their order. Finish what is busy, and exit. Successors are served one after the other.
 *
 * Not guaranteed: anything of connections that are not offered; they are this process's until they end. A successor that dies after it
 * was ready takes what it was given with it. What an event handler of this process still does with a stream of which it said that it is idle
 * fails with `ERR_CLOSED`. The control socket does not keep `run()` going.
 *
 * @throws SystemError `EADDRINUSE` when another process offers at `path`; the signal's reason; TypeError, RangeError for options that do not
 * exist or are out of range.
 * @example
 * import { Reactor } from '@fd-reactor/core'
 * import { handOver, takeOver, UnixListener } from '@fd-reactor/fd-events'
 * using older = new Reactor()
 * using newer = new Reactor() // in life, that of another process
 * const web = UnixListener.listen(older, '/tmp/example-hand-over.sock')
 * const handedOver = handOver(older, '/tmp/example-hand-over.control', { listeners: { web } })
 * const taken = await takeOver(newer, '/tmp/example-hand-over.control', {
 *   listeners: { web: (handle) => UnixListener.from(newer, handle) },
 * })
 * console.log(await handedOver, web.closed) // true true
 * console.log(taken?.listeners.web?.path) // /tmp/example-hand-over.sock
 * @see unix(7), SCM_RIGHTS
 */
export async function handOver(
  reactor: Reactor,
  path: UnixAddress,
  options: HandOverOptions,
): Promise<boolean> {
  checkOptions('handOver', options, CHECKS)
  CHECKS.listeners(options.listeners, "handOver option 'listeners'")
  const { timeout = HAND_OVER_TIMEOUT, signal, onFailed = warn } = options
  signal?.throwIfAborted()
  using control = UnixSeqpacketListener.listen(reactor, path, {
    ...channelOptions,
    ...(typeof path === 'string' && { mode: 0o600 }),
    ref: false,
    label: 'HandOver',
    ...(signal && { signal }),
  })
  for await (const socket of control) {
    if (socket.closed) continue // with the reactor, while it waited for its turn
    const channel = new HandOverChannel(socket, { reactor, timeout, signal, peer: 'successor' })
    const offer = new Offer(channel, options)
    let given = false
    const failed = (error: unknown): void => {
      try {
        onFailed(error instanceof Error ? error : new Error(String(error)))
      } catch (thrown) {
        process.nextTick(() => {
          throw thrown // it must not end the offer, nor undo what was given
        })
      }
    }
    try {
      await offer.make(peerOf(socket.fd))
      given = true
      channel.ignoreLimits()
      const errors = offer.giveUp()
      control.close() // before the successor sees the end, so that it can listen there
      errors.push(...offer.detach())
      errors.forEach(failed)
      await offer.tell()
    } catch (error) {
      if (given || signal?.aborted !== true) failed(error)
    } finally {
      channel.close()
    }
    if (given) return true
  }
  signal?.throwIfAborted()
  return false
}

/** Whom a hand-over is for, unless somebody says otherwise. */
export function ownUser(): Allow {
  return { uids: [process.geteuid?.() ?? 0] }
}

function warn(error: Error): void {
  process.emitWarning(`Not everything was handed over. ${error.message}`, { code: 'FD_REACTOR_HAND_OVER' })
}

function closeDetached({ handle, fds = [] }: DetachedStream): void {
  for (const each of [handle, ...fds]) each.close()
}

/** One attempt. */
class Offer {
  readonly #channel: HandOverChannel
  readonly #options: HandOverOptions
  /** Undefined when the successor wants none. */
  #offered: IdleConnection['stream'][] | undefined
  readonly #handed: { index: number; detached: DetachedStream; state: string }[] = []

  constructor(channel: HandOverChannel, options: HandOverOptions) {
    this.#channel = channel
    this.#options = options
  }

  /** Resolves when the successor is ready. Until then nothing is given up. */
  async make(peer: UnixPeer): Promise<void> {
    const channel = this.#channel
    const { listeners, connections, allow = ownUser() } = this.#options
    if (!allows(allow, peer))
      return this.#refuse(`uid ${peer.uid} may not take over. See the option 'allow' of handOver()`)
    await channel.send({ type: 'hello', version: HAND_OVER_VERSION })
    const { version, connections: wanted } = await channel.receive('take')
    if (version !== HAND_OVER_VERSION) {
      const both = `it speaks version ${HAND_OVER_VERSION} of the protocol, and not ${version}`
      return this.#refuse(`${both}. Stop the older process, then start the newer one`)
    }
    for (const [name, listener] of Object.entries(listeners)) {
      if (listener.closed) continue
      const { unlinkOnClose = false } = listener
      await this.#pass({ type: 'listener', name, unlinkOnClose }, listener.fd)
    }
    if (wanted === true) this.#offered = Array.from(connections?.() ?? [], ({ stream }) => stream)
    for (const [index, stream] of this.#offered?.entries() ?? []) {
      if (!stream.closed) await this.#pass({ type: 'connection', index }, stream.fd)
    }
    // Waited for from now on, so that a limit that is reached in between finds what has come.
    const ready = channel.receive('ready')
    await Promise.all([channel.send({ type: 'offered' }), ready])
  }

  /** Stops using what is the successor's now. There is no way back, so what goes wrong is returned. */
  giveUp(): unknown[] {
    const errors: unknown[] = []
    for (const listener of Object.values(this.#options.listeners)) {
      if (listener.closed) continue
      try {
        if (listener.unlinkOnClose !== undefined) listener.unlinkOnClose = false
        listener.leave()
      } catch (error) {
        errors.push(error)
      }
    }
    return errors
  }

  /** Detaches the connections that are idle now. Those with which something is wrong stay, and the errors are returned. */
  detach(): unknown[] {
    const errors: unknown[] = []
    const indexes = new Map(this.#offered?.map((stream, index) => [stream, index]))
    try {
      for (const { stream, state } of (this.#offered && this.#options.connections?.()) ?? [])
        if (!stream.closed) this.#detachOne(indexes.get(stream) ?? NOT_OFFERED, stream, state, errors)
    } catch (error) {
      errors.push(error)
    }
    return errors
  }

  #detachOne(index: number, stream: IdleConnection['stream'], state: unknown, errors: unknown[]): void {
    try {
      const json: unknown = JSON.stringify(state) // undefined for what JSON cannot carry at all
      const text = typeof json === 'string' ? json : ''
      const detached = stream.detach()
      if (detached.fds === undefined || detached.fds.length < MAX_FDS) {
        this.#handed.push({ index, detached, state: text })
      } else {
        closeDetached(detached)
        errors.push(new Error(`${stream.label} was closed: it kept more descriptors than can go along`))
      }
    } catch (error) {
      errors.push(error)
    }
  }

  /** Tells the successor what of the connections was in this process's memory. */
  async tell(): Promise<void> {
    try {
      for (const { index, detached, state } of this.#handed) {
        const { handle, unread, unsent, fds = [] } = detached
        await this.#channel.send(
          { type: 'handed', index, unread: unread.length, unsent: unsent.length },
          index === NOT_OFFERED ? [handle, ...fds] : fds,
          Buffer.concat([unread, unsent, Buffer.from(state)]),
        )
      }
    } finally {
      for (const { detached } of this.#handed) closeDetached(detached)
    }
  }

  async #pass(head: Head<'listener' | 'connection'>, fd: number): Promise<void> {
    using copy = new FdHandle(transfer.duplicate(fd))
    await this.#channel.send(head, [copy])
  }

  async #refuse(reason: string): Promise<never> {
    await this.#channel.refuse(reason)
    throw new ReactorError('ERR_HAND_OVER', `The successor was refused: ${reason}`)
  }
}
