/**
 * A listening Unix stream socket: accepts in the native drain, and makes a stream of each connection.
 *
 * Nothing is accepted while nobody listens to `'connection'`, while `maxConnections` are open, or while descriptors have run out;
 * who connects meanwhile waits in the kernel's backlog.
 */
import { Drain, FdHandle, Interest, Source, SystemError } from '@fd-reactor/core'
import type { BatchRecord, Reactor, SourceEvents } from '@fd-reactor/core'
import { boolean, checkOptions, integer, socket } from '@fd-reactor/core/sys'
import process from 'node:process'
import { deadline, deadlineTimer } from './deadlines.js'
import { bindAndListen, type FileOwner, type SocketFile } from './unix-path.js'
import { UnixStream, unixStreamOptionChecks, type Borrow, type UnixStreamOptions } from './unix-stream.js'

/** The events of a {@link UnixListener}. */
export interface UnixListenerEvents<B extends Borrow = false> extends SourceEvents {
  /** Somebody connected. Nothing is read before the stream has a listener. */
  connection: [stream: UnixStream<B>]
  /**
   * No connection can be accepted for lack of descriptors or memory (`EMFILE`, `ENFILE`, `ENOBUFS`, `ENOMEM`); it is tried again after
   * `delayNs`. Without a listener it is a process warning.
   */
  backoff: [error: SystemError, delayNs: number]
}

/** Options of {@link UnixListener.listen}; those of {@link UnixStreamOptions} go to the connections, `ref` and `signal` to the listener. */
export interface UnixListenerOptions<B extends Borrow = false> extends UnixStreamOptions<B> {
  /** Permissions of the socket's file, set before it appears; who may not write may not connect. Default: what the umask leaves of 0o777. */
  mode?: number
  /** Who owns the socket's file. Default: the process. */
  owner?: FileOwner
  /** How many connections may wait to be accepted. Default 511; the kernel caps it at /proc/sys/net/core/somaxconn. */
  backlog?: number
  /** How many connections may be open; more wait in the backlog. Default: no limit. */
  maxConnections?: number
  /** Takes the place of a file whose listener is dead. Default true. */
  unlinkStale?: boolean
}

const CHECKS = {
  ...unixStreamOptionChecks,
  mode: integer(0, 0o7777),
  owner: (value: unknown, name: string) => {
    if (typeof value !== 'object' || value === null)
      throw new TypeError(`${name} must be an object { uid, gid }`)
    checkOptions(name, value, { uid: integer(-1, 2 ** 32 - 2), gid: integer(-1, 2 ** 32 - 2) })
  },
  backlog: integer(0, 2 ** 31 - 1),
  maxConnections: integer(1, Number.MAX_SAFE_INTEGER),
  unlinkStale: boolean,
}

/** EMFILE, ENFILE, ENOBUFS, ENOMEM: accepting again at once would spin. */
const EXHAUSTED = new Set([-24, -23, -105, -12])
const ECONNABORTED = -103
const FIRST_BACKOFF_NS = 20e6
const LAST_BACKOFF_NS = 1e9

/**
 * Listens on a path.
 *
 * Guaranteed: no connection is lost by listening to `'connection'` late; two starters never both get the path; on close the file is
 * removed if it is still the one that was made. Not guaranteed: that the file goes away when the process is killed; the next
 * start takes its place.
 *
 * @throws SystemError `EADDRINUSE` when somebody listens there or the file is no socket; `ENAMETOOLONG`; `ENOENT`; `EACCES`.
 * @throws TypeError, RangeError for options that do not exist or are out of range.
 * @example
 * import { Reactor } from '@fd-reactor/core'
 * import { UnixListener } from '@fd-reactor/fd-events'
 * using reactor = new Reactor()
 * const listener = UnixListener.listen(reactor, '/tmp/example-listener.sock', { mode: 0o660, maxConnections: 100 })
 * listener.on('connection', (stream) => stream.on('data', (bytes) => stream.write(bytes)))
 * console.log(listener.path) // /tmp/example-listener.sock
 * @see unix(7)
 */
export class UnixListener<B extends Borrow = false> extends Source<UnixListenerEvents<B>> {
  /** Where it listens. */
  readonly path: string
  readonly #file: SocketFile
  readonly #streamOptions: UnixStreamOptions<B>
  readonly #maxConnections: number
  #kept: (FdHandle | UnixStream<B>)[] = []
  #connections = 0
  #backoffNs = 0
  #backingOff = false
  #ending = false

  private constructor(
    reactor: Reactor,
    handle: FdHandle,
    path: string,
    file: SocketFile,
    options: UnixListenerOptions<B>,
  ) {
    const maxConnections = options.maxConnections ?? Number.MAX_SAFE_INTEGER
    super(reactor, handle, { drain: Drain.Accept, interest: Interest.In, argument: maxConnections }, options)
    const {
      mode,
      owner,
      backlog,
      unlinkStale,
      ref,
      signal,
      label,
      maxConnections: _,
      ...streamOptions
    } = options
    void [mode, owner, backlog, unlinkStale, ref, signal, label]
    this.path = path
    this.#file = file
    this.#streamOptions = { ...streamOptions, label: 'UnixStream' }
    this.#maxConnections = maxConnections
    deadlineTimer(reactor) // backing off must not need a descriptor
  }

  /** Binds, listens, and takes the place of a dead file. */
  static listen<B extends Borrow = false>(
    reactor: Reactor,
    path: string,
    options: UnixListenerOptions<B> = {},
  ): UnixListener<B> {
    checkOptions('UnixListener', options, CHECKS)
    options.signal?.throwIfAborted()
    const handle = new FdHandle(socket.createUnix())
    try {
      const { mode, owner, backlog = 511, unlinkStale = true } = options
      const file = bindAndListen(handle, path, { mode, owner, backlog, unlinkStale })
      return new UnixListener(reactor, handle, path, file, options)
    } catch (error) {
      handle.close()
      throw error
    }
  }

  /** How many accepted connections are open. */
  get connections(): number {
    return this.#connections
  }

  /**
   * Takes nothing new: who connects from now on is refused, who waits in the backlog comes as `'connection'`, whatever
   * `maxConnections` says; then it closes. While descriptors have run out it stays open and goes on after a pause. Idempotent.
   */
  end(): void {
    if (this.closed || this.#ending) return
    this.#ending = true
    this.#file.remove()
    // From here on connect(2) is refused, and an empty backlog stays empty.
    socket.shutdownRead(this.fd)
    this.update()
    this.#acceptRest()
  }

  /** Stops listening and removes the socket's file if it is still ours. Connections live on. Idempotent. */
  override close(): void {
    if (this.closed) return
    for (const kept of this.#kept) kept.close()
    this.#kept = []
    try {
      this.#file.remove()
    } finally {
      super.close()
    }
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
    if (!this.#ending) return handle.close()
    this.#connections++
    this.#welcome(handle)
  }

  protected override emitKept(): void {
    while (this.flowing && this.#kept.length > 0) {
      const kept = this.#kept.shift()
      if (kept !== undefined) this.#welcome(kept)
    }
  }

  protected override takeBack(name: string, events: readonly unknown[][]): void {
    if (name !== 'connection') return
    const streams = events.flat().filter((stream): stream is UnixStream<B> => stream instanceof UnixStream)
    if (!this.closed) this.#kept.unshift(...streams)
    else for (const stream of streams) stream.destroy()
  }

  /** `for await (const stream of listener)`: each connection. */
  async *[Symbol.asyncIterator](): AsyncGenerator<UnixStream<B>, undefined, undefined> {
    for await (const [stream] of this.events('connection')) yield stream
  }

  readonly #onClosed = (): void => {
    this.#connections--
    if (this.closed) return
    this.addArgument(1)
    if (this.#connections !== this.#maxConnections - 1) return
    try {
      this.update()
    } catch {
      this.close() // its descriptor was closed behind our back, which must not keep the stream from closing
    }
  }

  #welcome(kept: FdHandle | UnixStream<B>): void {
    const stream =
      kept instanceof FdHandle
        ? new UnixStream(this.reactor, kept, this.#streamOptions, this.#onClosed)
        : kept
    if (!stream.closed) this.fire('connection', stream)
  }

  #acceptRest(): void {
    if (this.closed) return
    for (;;) {
      const result = socket.accept(this.fd)
      if (EXHAUSTED.has(result)) return this.#backOff(result)
      if (result === ECONNABORTED) continue // the peer has gone meanwhile
      if (result < 0) break // EAGAIN: nobody is left
      this.#connections++
      this.#kept.push(new FdHandle(result))
    }
    if (this.listenerCount('connection') > 0) {
      for (const kept of this.#kept.splice(0)) this.#welcome(kept)
    }
    this.close()
  }

  #backOff(result: number): void {
    const hint = EXHAUSTED.has(result) ? 'Connections wait in the backlog until it is tried again' : undefined
    const error = new SystemError(result, 'accept4', { path: this.path, hint })
    if (!EXHAUSTED.has(result)) return this.fail(error)
    const first = this.#backoffNs === 0
    this.#backoffNs = first ? FIRST_BACKOFF_NS : Math.min(this.#backoffNs * 2, LAST_BACKOFF_NS)
    this.#backingOff = true
    this.update()
    deadline(this.reactor, this.#backoffNs, () => {
      this.#backingOff = false
      if (this.#ending) this.#acceptRest()
      else this.update()
    })
    if (this.listenerCount('backoff') > 0) this.fire('backoff', error, this.#backoffNs)
    else if (first) process.emitWarning(error.message, { code: 'FD_REACTOR_ACCEPT_BACKOFF' })
  }
}
