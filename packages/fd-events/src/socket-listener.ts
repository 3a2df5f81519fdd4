/**
 * A listening socket of any family: accepts in the native drain, and makes a source of each connection.
 *
 * Nothing is accepted while nobody listens to `'connection'`, while `maxConnections` are open, or while descriptors have run out;
 * who connects meanwhile waits in the kernel's backlog.
 */
import { Drain, FdHandle, Interest, Source, sourceOptionChecks, SystemError } from '@fd-reactor/core'
import type { BatchRecord, EventMap, Reactor, SourceEvents, SourceOptions } from '@fd-reactor/core'
import { integer, socket } from '@fd-reactor/core/sys'
import process from 'node:process'
import { deadline, withDeadlines } from './deadlines.js'

/** The events of a listener. */
export interface ListenerEvents<Connection> extends SourceEvents {
  /** Somebody connected. Nothing is read before the connection has a listener. */
  connection: [connection: Connection]
  /**
   * No connection can be accepted for lack of descriptors or memory (`EMFILE`, `ENFILE`, `ENOBUFS`, `ENOMEM`); it is tried again after
   * `delayNs`. Without a listener it is a process warning.
   */
  backoff: [error: SystemError, delayNs: number]
}

/** Options of every listener. */
export interface ListenerOptions extends SourceOptions {
  /** How many connections may wait to be accepted. Default 511; the kernel caps it at /proc/sys/net/core/somaxconn. */
  backlog?: number
  /** How many connections may be open; more wait in the backlog. Default: no limit. */
  maxConnections?: number
}

/** What `detach()` of a listener gives. */
export interface DetachedListener<Connection> {
  /** The listening socket. */
  handle: FdHandle
  /** Those that were accepted and not told yet. */
  connections: Connection[]
}

/** The checks of {@link ListenerOptions}. */
export const listenerOptionChecks = {
  ...sourceOptionChecks,
  backlog: integer(0, 2 ** 31 - 1),
  maxConnections: integer(1, Number.MAX_SAFE_INTEGER),
}

/** How many connections may wait, unless somebody asks for more or less. */
export const DEFAULT_BACKLOG = 511

/** EMFILE, ENFILE, ENOBUFS, ENOMEM: accepting again at once would spin. */
const EXHAUSTED = new Set([-24, -23, -105, -12])
const ECONNABORTED = -103
const FIRST_BACKOFF_NS = 20e6
const LAST_BACKOFF_NS = 1e9

/** What a listener must be able to do with its connections. */
export interface Connected {
  readonly closed: boolean
  close(): void
  destroy(): void
}

/**
 * What all listeners share: everything but where they listen, and what a connection is.
 *
 * Guaranteed: no connection is lost by listening to `'connection'` late; never more than `maxConnections` are open. Not guaranteed:
 * that who connected is still there when `'connection'` comes.
 */
export abstract class SocketListener<
  Connection extends Connected,
  Events extends ListenerEvents<Connection> & EventMap<Events> = ListenerEvents<Connection>,
> extends Source<Events> {
  readonly #maxConnections: number
  #kept: (FdHandle | Connection)[] = []
  #connections = 0
  #backoffNs = 0
  #backingOff = false
  #ending = false
  #detached: FdHandle[] | undefined

  /** `handle` is a listening socket. */
  protected constructor(reactor: Reactor, handle: FdHandle, options: ListenerOptions) {
    const maxConnections = options.maxConnections ?? Number.MAX_SAFE_INTEGER
    const registration = { drain: Drain.Accept, interest: Interest.In, argument: maxConnections }
    super(reactor, withDeadlines(reactor, handle), registration, options) // backing off must not need a descriptor
    this.#maxConnections = maxConnections
  }

  /** Where it listens, as `listen()` takes it: `unix:/run/x.sock`, `abstract:name`, `tcp://127.0.0.1:7000`. */
  abstract get uri(): string
  /** Makes a source of an accepted socket, or refuses it by undefined; `onClosed` must be called when the source ends. */
  protected abstract welcome(handle: FdHandle, onClosed: () => void): Connection | undefined
  /** Lets the kernel refuse who connects from now on, if it can do that and go on to give out who waits. */
  protected abstract refuseNew(): void

  /** How many accepted connections are open. */
  get connections(): number {
    return this.#connections
  }

  /**
   * Takes nothing new: who waits in the backlog still comes as `'connection'`, whatever `maxConnections` says; then it closes. While
   * descriptors have run out it stays open and goes on after a pause. Others who have the socket go on listening, if it came
   * by `from()`. Idempotent.
   */
  end(): void {
    if (this.closed || this.#ending) return
    this.#ending = true
    this.refuseNew()
    this.update()
    this.#acceptRest()
  }

  /**
   * Leaves the socket to another process that has it too, as after a hand-over: what was accepted here is told, then it closes. The
   * socket goes on listening, and who waits in its backlog is the other's. Idempotent.
   */
  leave(): void {
    if (this.closed) return
    this.#ending = true // what the batch holds is told rather than closed
    this.#tellRest()
    this.close()
  }

  /** Stops listening. Connections live on. Idempotent. */
  override close(): void {
    if (this.closed) return
    for (const kept of this.#kept.splice(0)) this.#letGo(kept)
    super.close()
  }

  /**
   * Ends the source and hands over the socket, which goes on listening: who connects waits in its backlog.
   * @throws ReactorError `ERR_CLOSED`.
   */
  detach(): DetachedListener<Connection> {
    this.assertOpen()
    const settled: FdHandle[] = []
    this.#detached = settled
    const handle = this.detachHandle().guard()
    const kept = [...this.#kept.splice(0), ...settled]
    const connections = kept.map((each) => (each instanceof FdHandle ? this.#makeLate(each) : each))
    return { handle, connections: connections.filter((each) => each !== undefined) }
  }

  protected get consumerEvents(): readonly string[] {
    return ['connection']
  }

  protected override get keepsSomething(): boolean {
    return this.#kept.length > 0
  }

  protected override wantedInterest(): number {
    return this.#ending || this.#backingOff || this.#connections >= this.#maxConnections
      ? 0
      : super.wantedInterest()
  }

  onRecord(record: BatchRecord): void {
    if (record.result < 0) return this.#backOff(record.result)
    this.#backoffNs = 0
    this.#connections++
    this.#kept.push(new FdHandle(record.result))
    if (this.#connections === this.#maxConnections) this.update()
    this.emitKept()
  }

  override onSettle(record: BatchRecord): void {
    if (record.result < 0) return
    const handle = new FdHandle(record.result)
    if (!this.#ending && this.#detached === undefined) return handle.close()
    this.#connections++
    if (this.#detached === undefined) this.#tellLate(handle)
    else this.#detached.push(handle)
  }

  override onFlush(): void {
    super.onFlush()
    if (this.#ending && !this.#backingOff) this.#acceptRest() // tried again; what a listener throws is this source's here
  }

  protected override emitKept(): void {
    while (this.flowing && this.#kept.length > 0) {
      const kept = this.#kept.shift()
      if (kept !== undefined) this.#tell(kept)
    }
  }

  protected override takeBack(name: string, events: readonly unknown[][]): void {
    if (name !== 'connection') return
    const connections = events.flat().filter((event): event is Connection => event instanceof Source)
    if (!this.closed) this.#kept.unshift(...connections)
    else for (const connection of connections) connection.destroy()
  }

  /** `for await (const connection of listener)`: each connection. */
  async *[Symbol.asyncIterator](): AsyncGenerator<Connection, undefined, undefined> {
    for await (const [connection] of this.events('connection')) yield connection
  }

  readonly #onClosed = (): void => {
    this.#connections--
    if (this.closed) return
    this.addArgument(1)
    if (this.#connections !== this.#maxConnections - 1) return
    try {
      this.update()
    } catch {
      this.close() // its descriptor was closed behind our back, which must not keep the connection from closing
    }
  }

  #make(handle: FdHandle): Connection | undefined {
    let connection: Connection | undefined
    try {
      connection = this.welcome(handle, this.#onClosed)
      return connection
    } finally {
      if (connection === undefined) {
        handle.close()
        this.#onClosed()
      }
    }
  }

  #tell(kept: FdHandle | Connection): void {
    const connection = kept instanceof FdHandle ? this.#make(kept) : kept
    if (connection?.closed === false) this.fire('connection', connection)
  }

  /** Tells while it ends, when nothing waits for listeners any more, and one that throws must keep neither the others nor the end. */
  #tellLate(kept: FdHandle | Connection): void {
    if (this.listenerCount('connection') === 0) return this.#letGo(kept)
    try {
      this.#tell(kept)
    } catch (error) {
      this.throwLater(error)
    }
  }

  #makeLate(handle: FdHandle): Connection | undefined {
    try {
      return this.#make(handle)
    } catch (error) {
      this.throwLater(error) // the others, and the listening socket, must reach who asked for them
      return undefined
    }
  }

  #tellRest(): void {
    for (const kept of this.#kept.splice(0)) {
      if (this.closed) this.#letGo(kept)
      else this.#tellLate(kept)
    }
  }

  #letGo(kept: FdHandle | Connection): void {
    kept.close()
    if (kept instanceof FdHandle) this.#onClosed()
  }

  #acceptRest(): void {
    if (this.closed) return
    for (;;) {
      const result = socket.accept(this.fd)
      if (EXHAUSTED.has(result)) {
        this.#tellRest() // they have the descriptors that are missing
        return this.#backOff(result)
      }
      if (result === ECONNABORTED) continue // the peer has gone meanwhile
      if (result < 0) break // EAGAIN: nobody is left
      this.#connections++
      this.#kept.push(new FdHandle(result))
    }
    this.#tellRest()
    this.close()
  }

  #backOff(result: number): void {
    const hint = EXHAUSTED.has(result) ? 'Connections wait in the backlog until it is tried again' : undefined
    const error = new SystemError(result, 'accept4', { path: this.uri, hint })
    if (!EXHAUSTED.has(result)) return this.fail(error)
    if (this.closed || this.#backingOff) return
    const first = this.#backoffNs === 0
    this.#backoffNs = first ? FIRST_BACKOFF_NS : Math.min(this.#backoffNs * 2, LAST_BACKOFF_NS)
    this.#backingOff = true
    this.update()
    deadline(this.reactor, this.#backoffNs, () => {
      this.#backingOff = false
      this.update()
    })
    if (this.listenerCount('backoff') > 0) {
      try {
        this.fire('backoff', error, this.#backoffNs)
      } catch (thrown) {
        this.throwLater(thrown) // it may be told from a timer that others use as well
      }
    } else if (first) process.emitWarning(error.message, { code: 'FD_REACTOR_ACCEPT_BACKOFF' })
  }
}
