/**
 * The successor's side of a hand-over; the protocol is written in hand-over.ts.
 */
import { MAX_FDS, ReactorError, SystemError, type FdHandle, type Reactor } from '@fd-reactor/core'
import { abortSignal, boolean, checkOptions, SocketType } from '@fd-reactor/core/sys'
import { withDeadlines } from './deadlines.js'
import { channelOptions, HandOverChannel } from './hand-over-channel.js'
import { HAND_OVER_TIMEOUT, HAND_OVER_VERSION, ownUser, type HandedListener } from './hand-over.js'
import { duration, type DetachedStream } from './stream-options.js'
import { showUnixAddress, type UnixAddress } from './unix-address.js'
import { connectUnix } from './unix-connect.js'
import { allowCheck, allows, peerOf, type Allow } from './unix-peer.js'
import { UnixSeqpacket } from './unix-seqpacket.js'

/** How the successor makes a source of each listener; undefined from one whose listener is not wanted any more. */
export type ListenerMakers = Readonly<Record<string, (handle: FdHandle) => HandedListener | undefined>>

/** Options of {@link takeOver}. */
export interface TakeOverOptions<Makers extends ListenerMakers> {
  /** Makes a source of each listener by its name, as in `(handle) => UnixListener.from(reactor, handle)`. */
  listeners: Makers
  /** Whether idle connections are wanted too. Default false: they stay with the predecessor until they end. */
  connections?: boolean
  /** From whom it may be taken over. Default: the own user. */
  allow?: Allow
  /** Nanoseconds that all of it may take. Default 10 s. */
  timeout?: number
  /** Gives it up: the promise rejects with its reason, unless it was done already. */
  signal?: AbortSignal
}

/** A connection that was taken over: what `from()` of its class takes. */
export interface TakenConnection extends DetachedStream {
  /** What the predecessor said of it. */
  state: unknown
}

/** What was taken over. */
export interface TakenOver<Makers extends ListenerMakers> {
  /** What the makers made; a listener that was not offered is not there. */
  listeners: { [Name in keyof Makers]?: NonNullable<ReturnType<Makers[Name]>> }
  /** The idle connections, in the order of the predecessor's answer; they are the caller's to use or to close. */
  connections: TakenConnection[]
}

const CHECKS = {
  listeners: (value: unknown, name: string) => {
    const isMaker = (each: unknown): boolean => typeof each === 'function'
    if (typeof value !== 'object' || value === null || !Object.values(value).every(isMaker))
      throw new TypeError(`${name} must be an object whose values are functions that make listeners`)
  },
  connections: boolean,
  allow: allowCheck,
  timeout: duration,
  signal: abortSignal,
}

/** ENOENT, ECONNREFUSED: nobody offers there. */
const NOBODY = new Set([-2, -111])

/**
 * Takes over what a running process offers on the control socket at `path` with `handOver()`; undefined when nobody offers there. So a
 * program begins with `(await takeOver(…))?.listeners.web ?? UnixListener.listen(…)`.
 *
 * Guaranteed: when it resolves to what was taken, the predecessor has stopped accepting, or is dead, and the sockets' files are this process's
 * to remove if they were the predecessor's; nobody was refused meanwhile. When it rejects, nothing was taken: what the makers made is closed, and
 * the predecessor goes on. Call it last, when this process could serve at once.
 *
 * Not guaranteed: a file whose path is relative is only found when both have the same working directory. Makers must not set
 * `unlinkOnClose`. Connections are not counted for `maxConnections`.
 *
 * @typeParam Makers - What makes the listeners, by name.
 * @throws ReactorError `ERR_HAND_OVER` when the predecessor refuses, ends early, offers a listener that nobody makes, or is not to be trusted;
 * `ERR_TIMEOUT`, `ERR_FDS_TRUNCATED` when descriptors run out; SystemError `EACCES`; what a maker throws; the signal's reason.
 * @throws TypeError, RangeError for options that do not exist or are out of range.
 * @example
 * import { Reactor } from '@fd-reactor/core'
 * import { handOver, takeOver, UnixListener, UnixStream } from '@fd-reactor/fd-events'
 * using reactor = new Reactor()
 * const taken = await takeOver(reactor, '/tmp/example-take-over.control', {
 *   listeners: { web: (handle) => UnixListener.from(reactor, handle) },
 *   connections: true,
 * })
 * const web = taken?.listeners.web ?? UnixListener.listen(reactor, '/tmp/example-take-over.sock')
 * const serve = (stream: UnixStream) => stream.on('data', (bytes) => stream.write(bytes))
 * web.on('connection', serve)
 * for (const connection of taken?.connections ?? []) serve(UnixStream.from(reactor, connection))
 * console.log(taken, web.path) // undefined /tmp/example-take-over.sock
 * void handOver(reactor, '/tmp/example-take-over.control', { listeners: { web } }) // to the next one
 * @see unix(7), SCM_RIGHTS
 */
export async function takeOver<Makers extends ListenerMakers>(
  reactor: Reactor,
  path: UnixAddress,
  options: TakeOverOptions<Makers>,
): Promise<TakenOver<Makers> | undefined> {
  checkOptions('takeOver', options, CHECKS)
  CHECKS.listeners(options.listeners, "takeOver option 'listeners'")
  const { timeout = HAND_OVER_TIMEOUT, signal } = options
  const socket = await connect(reactor, path, timeout, signal)
  if (socket === undefined) return undefined
  const channel = new HandOverChannel(socket, { reactor, timeout, signal, peer: 'predecessor' })
  const taking = new Taking(channel, options)
  try {
    const peer = peerOf(socket.fd)
    if (!allows(options.allow ?? ownUser(), peer)) {
      const who = `'${showUnixAddress(path)}' belongs to uid ${peer.uid}, from whom nothing is taken over`
      throw new ReactorError('ERR_HAND_OVER', `${who}. See the option 'allow' of takeOver()`)
    }
    await taking.prepare()
  } catch (error) {
    taking.undo()
    await channel.refuse(error instanceof Error ? error.message : String(error))
    throw error
  }
  try {
    return await taking.finish()
  } finally {
    channel.close()
  }
}

async function connect(
  reactor: Reactor,
  path: UnixAddress,
  timeout: number,
  signal: AbortSignal | undefined,
): Promise<UnixSeqpacket | undefined> {
  try {
    const handle = await connectUnix(SocketType.Seqpacket, path, { timeout, signal })
    const limited = withDeadlines(reactor, handle) // the channel must not need a descriptor for its limit
    return UnixSeqpacket.from(reactor, limited, { ...channelOptions, maxFds: MAX_FDS, label: 'TakeOver' })
  } catch (error) {
    if (error instanceof SystemError && NOBODY.has(error.errno)) return undefined
    throw error
  }
}

class Taking<Makers extends ListenerMakers> {
  readonly #channel: HandOverChannel
  readonly #options: TakeOverOptions<Makers>
  readonly #offered = new Map<string, { handle: FdHandle; unlinkOnClose: boolean }>()
  readonly #connections = new Map<number, FdHandle>()
  readonly #made = new Map<string, HandedListener>()

  constructor(channel: HandOverChannel, options: TakeOverOptions<Makers>) {
    this.#channel = channel
    this.#options = options
  }

  /** Receives everything, makes the sources, and says so: from then on they are ours. */
  async prepare(): Promise<void> {
    const { listeners: makers, connections = false } = this.#options
    const { version } = await this.#channel.receive('hello')
    if (version !== HAND_OVER_VERSION) {
      const both = `The predecessor speaks version ${version} of the protocol, and this process ${HAND_OVER_VERSION}`
      throw new ReactorError('ERR_HAND_OVER', `${both}. Stop the older process, then start the newer one`)
    }
    await this.#channel.send({ type: 'take', version: HAND_OVER_VERSION, connections })
    while (await this.#receiveOffer());
    for (const [name, { handle }] of this.#offered) {
      const make = Object.hasOwn(makers, name) ? makers[name] : undefined
      if (make === undefined) {
        const what = `The predecessor offers a listener '${name}' that the successor does not make`
        throw new ReactorError('ERR_HAND_OVER', `${what}: a function that returns undefined gives it up`)
      }
      const made = make(handle)
      if (made === undefined) handle.close()
      else this.#made.set(name, made)
    }
    await this.#channel.send({ type: 'ready' })
  }

  /** Closes all that came; the predecessor has it too. */
  undo(): void {
    for (const listener of this.#made.values()) {
      if (listener.unlinkOnClose !== undefined) listener.unlinkOnClose = false
      listener.close()
    }
    for (const { handle } of this.#offered.values()) handle.close()
    for (const handle of this.#connections.values()) handle.close()
  }

  /** Waits until the predecessor has told what was in its memory, or is gone. */
  async finish(): Promise<TakenOver<Makers>> {
    this.#channel.ignoreLimits()
    for (const [name, listener] of this.#made) {
      if (listener.unlinkOnClose !== undefined)
        listener.unlinkOnClose = this.#offered.get(name)?.unlinkOnClose ?? false
    }
    const connections: TakenConnection[] = []
    try {
      for (;;) connections.push(...(await this.#receiveHanded()))
    } catch {
      // The predecessor has ended; what came complete counts.
    }
    // They were busy, and stay with the predecessor if it lives.
    for (const handle of this.#connections.values()) handle.close()
    // Each name has what its own maker made.
    return { listeners: Object.fromEntries(this.#made) as TakenOver<Makers>['listeners'], connections }
  }

  async #receiveHanded(): Promise<TakenConnection[]> {
    const { index, unread, unsent, bytes, fds } = await this.#channel.receive('handed')
    const offered = this.#connections.get(index)
    const [handle, ...rest] = offered === undefined ? fds : [offered, ...fds]
    if (handle === undefined) return []
    const json = bytes.subarray(unread + unsent).toString()
    const state: unknown = json === '' ? undefined : JSON.parse(json)
    this.#connections.delete(index)
    const detached = { handle: handle.guard(), unread: bytes.subarray(0, unread), fds: rest }
    return [{ ...detached, unsent: bytes.subarray(unread, unread + unsent), state }]
  }

  async #receiveOffer(): Promise<boolean> {
    const message = await this.#channel.receive('listener', 'connection', 'offered')
    if (message.type === 'offered') return false
    const [handle] = message.fds
    if (handle === undefined)
      throw new ReactorError('ERR_HAND_OVER', `The predecessor sent a ${message.type} without its descriptor`)
    if (message.type === 'connection') this.#connections.set(message.index, handle)
    else this.#offered.set(message.name, { handle, unlinkOnClose: message.unlinkOnClose })
    return true
  }
}
