/**
 * A Unix datagram socket. Receiving and sending are those of every message socket; here it gets its name and its destinations.
 *
 * A full receiver shows in EPOLLOUT only on a socket that is connected to it. For all others messages that wait are tried again after
 * a pause that grows, one for each destination, so that nothing spins and no slow receiver holds up the rest.
 */
import { Buffer } from 'node:buffer'
import {
  FdHandle,
  SystemError,
  type BatchRecord,
  type PackedMessages,
  type Reactor,
  type ReactorError,
} from '@fd-reactor/core'
import { boolean, checkOptions, Domain, socket, SocketType } from '@fd-reactor/core/sys'
import { deadline, withDeadlines } from './deadlines.js'
import {
  messageOptionChecks,
  sendOptionChecks,
  type MessageEvents,
  type MessageOptions,
  type SendOptions,
  type SendOutcome,
} from './message-options.js'
import type { Destination, Lane } from './message-queue.js'
import { CONNECTED, MessageSocket } from './message-socket.js'
import { expectSocket } from './socket-kind.js'
import {
  encodeUnixAddress,
  decodeUnixAddress,
  showUnixAddress,
  unnamedUnixAddress,
  type UnixAddress,
} from './unix-address.js'
import { unixSocketListenChecks } from './unix-socket-listener.js'
import { bindUnix, boundUnix, type FileOwner, type UnixName } from './unix-path.js'

const ECONNREFUSED = -111
const ECONNRESET = -104
const ENOTCONN = -107
const ESHUTDOWN = -108
const FIRST_PAUSE_NS = 200_000
const LAST_PAUSE_NS = 20_000_000

/** The events of a {@link UnixDatagram}. */
export type UnixDatagramEvents = MessageEvents

/** Options of a {@link UnixDatagram}. */
export type UnixDatagramOptions<B extends boolean = false> = MessageOptions<B>

/** Options of {@link UnixDatagram.from}. */
export interface UnixDatagramFromOptions<B extends boolean = false> extends UnixDatagramOptions<B> {
  /** Removes the socket's file on close. Default true for `bind()`, false for `from()`: who made the file sees to it. */
  unlinkOnClose?: boolean
}

/** Options of {@link UnixDatagram.bind}. */
export interface UnixDatagramBindOptions<B extends boolean = false> extends UnixDatagramFromOptions<B> {
  /** Permissions of the socket's file, set before it appears; who may not write may not send. Default: what the umask leaves of 0o777. */
  mode?: number
  /** Who owns the socket's file. Default: the process. */
  owner?: FileOwner
  /** Takes the place of a file whose socket is gone. Default true. */
  unlinkStale?: boolean
}

/** Options of {@link UnixDatagram.open}. */
export interface UnixDatagramOpenOptions<B extends boolean = false> extends UnixDatagramOptions<B> {
  /** Lets the kernel choose an abstract name, so that receivers can answer. Default false: a socket without a name. */
  autobind?: boolean
}

/** Options of {@link UnixDatagram.connect}. */
export interface UnixDatagramConnectOptions<B extends boolean = false>
  extends UnixDatagramBindOptions<B>, UnixDatagramOpenOptions<B> {
  /** The socket's own address, so that the peer can answer. Default: none. */
  bind?: UnixAddress
}

/** What can go with a datagram. */
export interface DatagramSendOptions extends SendOptions {
  /** Where it goes. Default: to whom the socket is connected. */
  to?: UnixAddress
}

const { mode, owner, unlinkStale, unlinkOnClose } = unixSocketListenChecks
const BIND_CHECKS = { ...messageOptionChecks, mode, owner, unlinkStale, unlinkOnClose }
const FROM_CHECKS = { ...messageOptionChecks, unlinkOnClose }
const OPEN_CHECKS = { ...messageOptionChecks, autobind: boolean }
const CONNECT_CHECKS = {
  ...BIND_CHECKS,
  ...OPEN_CHECKS,
  bind: encoded,
}
const SEND_CHECKS = { ...sendOptionChecks, to: encoded }

/**
 * Sends and receives datagrams over a Unix socket.
 *
 * Guaranteed: a datagram comes whole, once, and in the order of its sender, or is marked as cut; it is not lost on the way, since its
 * sender is told when the receiver is full (see `onCongestion`); every `send()` ends exactly once. Not guaranteed: that a receiver
 * takes out what it was sent before it closes; an order between senders. A receiver's queue holds /proc/sys/net/unix/max_dgram_qlen
 * datagrams (often 10), so bursts wait in ours.
 *
 * Errors of one destination (`ECONNREFUSED`, `ENOENT`) end that send only. A receiver that was restarted is found again, also by a
 * connected socket. With `credentials` or `pidFd` the kernel gives a sender without a name an abstract one.
 *
 * @throws SystemError `EADDRINUSE`, `ENAMETOOLONG`, `ENOENT`, `EACCES`, `ECONNREFUSED`; `ENOPROTOOPT` for `pidFd` before Linux 6.5.
 * @throws TypeError, RangeError for options that do not exist or are out of range.
 * @example
 * import { once, Reactor } from '@fd-reactor/core'
 * import { UnixDatagram } from '@fd-reactor/fd-events'
 * using reactor = new Reactor()
 * const address = { abstract: 'example-datagram' }
 * const server = UnixDatagram.bind(reactor, address)
 * server.on('message', (bytes, { from }) => from && server.send(`${bytes}, too`, { to: from }))
 * const client = UnixDatagram.connect(reactor, address, { autobind: true })
 * client.send('hello')
 * const [answer] = await once(client, 'message')
 * console.log(String(answer)) // hello, too
 * @see unix(7)
 */
export class UnixDatagram<B extends boolean = false> extends MessageSocket<B> {
  readonly #name: UnixName | undefined
  readonly #peer: Uint8Array | undefined
  /** Where the last message went: the next one mostly goes there, too. */
  #to: UnixAddress | undefined
  #destination: Destination = CONNECTED
  #address: UnixAddress | undefined
  #due: Lane[] = []

  private constructor(
    reactor: Reactor,
    handle: FdHandle,
    options: UnixDatagramOptions<B>,
    name: UnixName | undefined,
    peer: Uint8Array | undefined,
  ) {
    // Who is connected hears from nobody else.
    // Waiting for a receiver must not need a descriptor.
    super(reactor, withDeadlines(reactor, handle), options, { address: peer === undefined, packets: false })
    this.#name = name
    this.#peer = peer
  }

  /** A socket with an address of its own, at which it receives. It takes the place of a file that a dead process left. */
  static override bind<B extends boolean = false>(
    reactor: Reactor,
    address: UnixAddress,
    options: UnixDatagramBindOptions<B> = {},
  ): UnixDatagram<B> {
    checkOptions('UnixDatagram.bind', options, BIND_CHECKS)
    return made(options, (handle) => {
      const name = named(handle, address, options)
      try {
        return new UnixDatagram(reactor, handle, options, name, undefined)
      } catch (error) {
        name.remove()
        throw error
      }
    })
  }

  /** A socket that sends to one address and receives from it alone. For answers it needs an address of its own: `bind` or `autobind`. */
  static connect<B extends boolean = false>(
    reactor: Reactor,
    address: UnixAddress,
    options: UnixDatagramConnectOptions<B> = {},
  ): UnixDatagram<B> {
    checkOptions('UnixDatagram.connect', options, CONNECT_CHECKS)
    const bytes = encodeUnixAddress(address, 'connect')
    return made(options, (handle) => {
      const { bind, autobind } = options
      const name = bind === undefined ? undefined : named(handle, bind, options)
      try {
        if (autobind === true) bindToAny(handle)
        const result = socket.connect(handle.fd, bytes)
        if (result < 0)
          throw new SystemError(result, 'connect', { path: showUnixAddress(address), hint: HINTS[result] })
        return new UnixDatagram(reactor, handle, options, name, bytes)
      } catch (error) {
        name?.remove()
        throw error
      }
    })
  }

  /** A socket that sends to whom each `send()` says. */
  static open<B extends boolean = false>(
    reactor: Reactor,
    options: UnixDatagramOpenOptions<B> = {},
  ): UnixDatagram<B> {
    checkOptions('UnixDatagram.open', options, OPEN_CHECKS)
    return made(options, (handle) => {
      if (options.autobind === true) bindToAny(handle)
      return new UnixDatagram(reactor, handle, options, undefined, undefined)
    })
  }

  /**
   * Makes a source of a Unix datagram socket that came from elsewhere: inherited, passed, or from `detach()`.
   * @throws SystemError `ENOTSOCK`, `EINVAL` for anything else.
   */
  static from<B extends boolean = false>(
    reactor: Reactor,
    handle: FdHandle,
    options: UnixDatagramFromOptions<B> = {},
  ): UnixDatagram<B> {
    const { unlinkOnClose = false } = options
    checkOptions('UnixDatagram.from', options, FROM_CHECKS)
    expectSocket(handle.fd, 'a Unix datagram socket', ({ domain, type }) => {
      return domain === Domain.Unix && type === SocketType.Datagram
    })
    return new UnixDatagram(reactor, handle, options, boundUnix(handle, unlinkOnClose), peerOf(handle))
  }

  /** Its own address, as `to` takes it; undefined without one. */
  get address(): UnixAddress | undefined {
    return (this.#address ??= decodeUnixAddress(socket.name(this.fd)))
  }

  /**
   * Sends one datagram. Inside a handler it leaves when that returns, together with what else it sends; with descriptors, or outside, at
   * once. False when more than `highWaterMark` bytes or `queueLimit` messages wait: go on at `'drain'`. `settled` is called exactly once, possibly before
   * this returns; without it what the kernel refuses is told by `'lost'`.
   * @throws ReactorError `ERR_CLOSED`; TypeError, SystemError `ENAMETOOLONG` for what is no address; TypeError for what are no bytes.
   */
  send(
    bytes: Uint8Array | string,
    options?: DatagramSendOptions,
    settled?: (outcome: SendOutcome) => void,
  ): boolean {
    if (options === undefined) return this.enqueue(bytes, CONNECTED, undefined, settled)
    checkOptions('UnixDatagram.send', options, SEND_CHECKS)
    const { to, fds } = options
    if (to === undefined) return this.enqueue(bytes, CONNECTED, fds, settled)
    if (this.#peer === undefined) return this.enqueue(bytes, this.#destinationOf(to), fds, settled)
    throw new TypeError(`${this.label} is connected: leave out 'to', or send from another socket`)
  }

  /** Closes and drops what waits; removes the socket's file if it is still ours. Idempotent. */
  override destroy(): void {
    if (this.closed) return
    this.#name?.remove()
    super.destroy()
  }

  protected nameOf({ address = this.#peer }: Destination): string | undefined {
    const name = address === undefined ? undefined : decodeUnixAddress(address)
    return name === undefined ? undefined : showUnixAddress(name)
  }

  protected breaks(): boolean {
    return false
  }

  protected get watchesRoom(): boolean {
    return this.#peer !== undefined
  }

  protected onCongested(lane: Lane): void {
    if (this.watchesRoom) return
    lane.backoffNs = Math.min(Math.max(lane.backoffNs * 2, FIRST_PAUSE_NS), LAST_PAUSE_NS)
    lane.cancel = deadline(this.reactor, lane.backoffNs, () => {
      this.#due.push(lane)
      this.flushLater()
    })
  }

  override onFlush(): void {
    for (const lane of this.#due.splice(0)) {
      if (this.closed) break
      if (this.queue.retry(lane)) lane.backoffNs = 0
      if (lane.messages.length > 0) this.onCongested(lane)
    }
    super.onFlush()
  }

  /** A receiver that was started anew is another socket: the connection to the old one is made anew once. */
  protected override sendBytes(bytes: Uint8Array, offset: number, length: number): number {
    return this.#again(super.sendBytes(bytes, offset, length), () => super.sendBytes(bytes, offset, length))
  }

  /** The same for several. */
  protected override sendPacked(packed: PackedMessages, count: number): number {
    return this.#again(super.sendPacked(packed, count), () => super.sendPacked(packed, count))
  }

  protected onEnd(_record: BatchRecord): void {
    const hint = 'Another holder of the socket has shut it for reading'
    this.fail(new SystemError(ESHUTDOWN, 'recvmmsg', { path: this.label, hint }))
  }

  protected onReceiveError(error: SystemError): void {
    // A peer that was connected to us, and we to it, has turned to another without reading what we had sent.
    if (error.errno === ECONNRESET) this.lose(error)
    else this.fail(error)
  }

  protected onTruncatedFds(error: ReactorError): void {
    this.lose(error)
  }

  #again(result: number, send: () => number): number {
    if ((result !== ECONNREFUSED && result !== ENOTCONN) || !this.owned) return result
    if (this.#peer === undefined || this.#peer.length === unnamedUnixAddress.length) return result
    const connected = socket.connect(this.ownedHandle.fd, this.#peer)
    return connected < 0 ? connected : send()
  }

  #destinationOf(to: UnixAddress): Destination {
    if (to !== this.#to || typeof to !== 'string') {
      const address = encodeUnixAddress(to, 'sendmsg')
      this.#destination = { key: Buffer.from(address).toString('latin1'), address }
      this.#to = to
    }
    return this.#destination
  }
}

const HINTS: Readonly<Record<number, string>> = {
  [ECONNREFUSED]: 'Nobody receives there',
  [-91]: 'The socket there has another type',
  [-1]: 'The socket there is connected to another one, and hears from that alone',
}

/** Makes a socket, and closes it again if what is to become of it fails. */
function made<T>({ signal }: { signal?: AbortSignal }, use: (handle: FdHandle) => T): T {
  signal?.throwIfAborted()
  const handle = new FdHandle(socket.create(Domain.Unix, SocketType.Datagram))
  try {
    return use(handle)
  } catch (error) {
    handle.close()
    throw error
  }
}

function named(handle: FdHandle, address: UnixAddress, options: UnixDatagramBindOptions<boolean>): UnixName {
  const { mode, owner, unlinkStale = true, unlinkOnClose = true } = options
  return bindUnix(handle, address, { mode, owner, backlog: undefined, unlinkStale, unlinkOnClose })
}

function bindToAny(handle: FdHandle): void {
  const result = socket.bind(handle.fd, unnamedUnixAddress)
  if (result < 0) throw new SystemError(result, 'bind')
}

/** Encoding an address checks it. */
function encoded(): void {
  // nothing is left to check
}

/** To whom a socket is connected, if it is. */
function peerOf(handle: FdHandle): Uint8Array | undefined {
  try {
    return socket.peerName(handle.fd)
  } catch (error) {
    if (error instanceof SystemError && error.errno === ENOTCONN) return undefined
    throw error
  }
}
