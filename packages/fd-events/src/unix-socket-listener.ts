/**
 * A listening Unix socket of any type. Accepting is that of every listener; here it gets its name, and its file if the name is a path,
 * and peers that may not connect are refused.
 */
import { inspect } from 'node:util'
import { FdHandle, type EventMap, type Reactor } from '@fd-reactor/core'
import { boolean, checkOptions, Domain, integer, socket } from '@fd-reactor/core/sys'
import { describeKind, expectSocket } from './socket-kind.js'
import {
  DEFAULT_BACKLOG,
  listenerOptionChecks,
  SocketListener,
  type Connected,
  type ListenerEvents,
  type ListenerOptions,
} from './socket-listener.js'
import { showUnixAddress, type UnixAddress } from './unix-address.js'
import { bindUnix, boundUnix, type FileOwner, type UnixName } from './unix-path.js'
import { allowCheck, allows, peerOf, type Allow, type UnixPeer } from './unix-peer.js'

/** The events of a listener of Unix sockets. */
export interface UnixSocketListenerEvents<Connection> extends ListenerEvents<Connection> {
  /** Somebody connected whom `allow` does not let in; the connection is closed, and nothing of it was read. */
  refused: [peer: UnixPeer]
}

/** Options of every listener of Unix sockets that is made of a socket. */
export interface UnixSocketFromOptions extends Omit<ListenerOptions, 'backlog'> {
  /** Who may connect; others are refused. Default: who may write to the socket's file, and for an abstract name anybody. */
  allow?: Allow
  /** Removes the socket's file on close. Default true for `listen()`, false for `from()`: who made the file sees to it. */
  unlinkOnClose?: boolean
}

/** Options of every listener of Unix sockets. */
export interface UnixSocketListenOptions extends UnixSocketFromOptions, ListenerOptions {
  /** Permissions of the socket's file, set before it appears; who may not write may not connect. Default: what the umask leaves of 0o777. */
  mode?: number
  /** Who owns the socket's file. Default: the process. */
  owner?: FileOwner
  /** Takes the place of a file whose listener is dead. Default true. */
  unlinkStale?: boolean
}

const { backlog: backlogCheck, ...everyListener } = listenerOptionChecks

/** The checks of {@link UnixSocketFromOptions}. */
export const unixSocketFromChecks = { ...everyListener, allow: allowCheck, unlinkOnClose: boolean }

/** The checks of {@link UnixSocketListenOptions}. */
export const unixSocketListenChecks = {
  ...unixSocketFromChecks,
  backlog: backlogCheck,
  mode: integer(0, 0o7777),
  owner: (value: unknown, name: string) => {
    if (typeof value !== 'object' || value === null)
      throw new TypeError(`${name} must be an object { uid, gid }`)
    checkOptions(name, value, { uid: integer(-1, 2 ** 32 - 2), gid: integer(-1, 2 ** 32 - 2) })
  },
  unlinkStale: boolean,
}

/** What of a listener's options is for its connections. */
export function connectionOptions<Options extends UnixSocketListenOptions>(options: Options) {
  const { allow, backlog, label, maxConnections, mode, owner, ref, signal, ...rest } = options
  const { unlinkOnClose, unlinkStale, ...forConnections } = rest
  void [allow, backlog, label, maxConnections, mode, owner, ref, signal, unlinkOnClose, unlinkStale]
  return forConnections
}

/** Binds and listens with a socket of `type` (a `SocketType`), and lets `make` make the listener. */
export function listenUnix<Listener>(
  type: number,
  address: UnixAddress,
  options: UnixSocketListenOptions,
  make: (handle: FdHandle, name: UnixName) => Listener,
): Listener {
  options.signal?.throwIfAborted()
  const { mode, owner, backlog = DEFAULT_BACKLOG, unlinkStale = true, unlinkOnClose = true } = options
  const handle = new FdHandle(socket.create(Domain.Unix, type))
  let name: UnixName | undefined
  try {
    name = bindUnix(handle, address, { mode, owner, backlog, unlinkStale, unlinkOnClose })
    return make(handle, name)
  } catch (error) {
    name?.remove()
    handle.close()
    throw error
  }
}

/** The name of a listening socket of `type` that came from elsewhere. @throws SystemError `ENOTSOCK`, `EINVAL` for anything else. */
export function nameOfListening(handle: FdHandle, wanted: number, unlinkOnClose = false): UnixName {
  const what = describeKind({ domain: Domain.Unix, type: wanted, listening: true })
  expectSocket(handle.fd, what, ({ domain, type, listening }) => {
    return domain === Domain.Unix && type === wanted && listening
  })
  return boundUnix(handle, unlinkOnClose)
}

/** What all listeners of Unix sockets share: everything but what a connection is. */
export abstract class UnixSocketListener<
  Connection extends Connected,
  Events extends UnixSocketListenerEvents<Connection> & EventMap<Events> =
    UnixSocketListenerEvents<Connection>,
> extends SocketListener<Connection, Events> {
  /** Where it listens, as `connect()` takes it. */
  readonly address: UnixAddress
  /** The same for people: a path, or an abstract name after an `@`. */
  readonly path: string
  readonly #name: UnixName
  readonly #allow: Allow | undefined

  /** `handle` is a listening socket, and `name` where it is bound. */
  protected constructor(reactor: Reactor, handle: FdHandle, name: UnixName, options: UnixSocketFromOptions) {
    super(reactor, handle, options)
    this.address = name.address
    this.path = showUnixAddress(name.address)
    this.#name = name
    this.#allow = options.allow
  }

  /** Makes a source of an accepted socket; `onClosed` must be called when the source ends. */
  protected abstract connect(handle: FdHandle, onClosed: () => void): Connection

  /** As `listen()` takes it: `unix:/run/x.sock`, or `abstract:name`. */
  get uri(): string {
    return typeof this.address === 'string' ? `unix:${this.path}` : `abstract:${this.path.slice(1)}`
  }

  /** Whether the socket's file is removed on close: the option, and what it was set to since. A file that is taken over must be there. */
  get unlinkOnClose(): boolean {
    return this.#name.unlinkOnClose
  }

  /** From now on. */
  set unlinkOnClose(unlink: boolean) {
    this.#name.unlinkOnClose = unlink
  }

  /** Stops listening and removes the socket's file if it is still ours. Connections live on. Idempotent. */
  override close(): void {
    if (this.closed) return
    this.#name.remove()
    super.close()
  }

  protected welcome(handle: FdHandle, onClosed: () => void): Connection | undefined {
    if (this.#allow !== undefined && !this.#lets(this.#allow, handle)) return undefined
    return this.connect(handle, onClosed)
  }

  protected refuseNew(): void {
    this.#name.remove()
    // From then on connect(2) is refused, and an empty backlog stays empty: for everybody who has the socket.
    if (!this.#name.shared) socket.shutdownRead(this.fd)
  }

  #lets(allow: Allow, handle: FdHandle): boolean {
    const peer = peerOf(handle.fd)
    let failure: Error | undefined
    try {
      if (allows(allow, peer)) return true
    } catch (error) {
      failure = error instanceof Error ? error : new Error(`allow threw ${inspect(error)}`)
    }
    handle.close()
    this.fire('refused', peer)
    if (failure === undefined) return false
    if (this.listenerCount('error') === 0) throw failure
    this.fire('error', failure)
    return false
  }
}
