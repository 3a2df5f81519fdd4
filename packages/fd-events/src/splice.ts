/**
 * Pumps: the kernel moves bytes between sockets and pipes, and JavaScript only hears how many.
 *
 * Each direction is a flow (splice-flow.ts), and each descriptor an end (splice-end.ts). What is here makes them, runs the flows that an
 * event concerns, and settles the promise when all of them are done.
 */
import { FdHandle, Interest, ReactorError, SystemError, type Reactor } from '@fd-reactor/core'
import { abortSignal, checkOptions, func } from '@fd-reactor/core/sys'
import { closeAll } from './passed-fds.js'
import { End } from './splice-end.js'
import { Flow } from './splice-flow.js'
import { asDetached, type DetachedStream } from './stream-options.js'

/**
 * One end of a pump: a stream, which is detached with what it has read and not sent, or the descriptor of a stream socket, pipe or FIFO.
 * The pump takes it over and closes it.
 */
export type PumpEnd = FdHandle | Detachable

/** A stream that a pump takes over. */
export interface Detachable {
  /** Gives up the socket, with what was read and not sent. */
  detach(): DetachedStream
  /** Closes it. */
  close(): void
}

/** Options of {@link pump}. */
export interface PumpOptions {
  /** Ends the pump when it is aborted; the promise is rejected with its reason. */
  signal?: AbortSignal
  /** Called with how many bytes have been moved so far, after each batch in which some were. */
  onProgress?: (bytes: number) => void
}

/** How many bytes a {@link proxy} has moved. */
export interface ProxyBytes {
  /** From the first end to the second. */
  forth: number
  /** From the second end to the first. */
  back: number
}

/** Options of {@link proxy}. */
export interface ProxyOptions {
  /** Ends the proxy when it is aborted; the promise is rejected with its reason. */
  signal?: AbortSignal
  /** Called with how many bytes have been moved so far, after each batch in which some were. */
  onProgress?: (bytes: ProxyBytes) => void
}

const EINVAL = -22
const OPTION_CHECKS = { signal: abortSignal, onProgress: func }

/**
 * Moves bytes from one end to the other until the first one ends, and resolves to how many that were.
 *
 * Each end is a stream socket, a pipe or a FIFO. What a stream had read goes first, then what the kernel has.
 * Backpressure is the kernel's: while the target is full nothing is taken from the source but one pipe of 64 KiB. The end is passed on.
 * Guaranteed: each byte once, in order; none of them enters JavaScript, unless the target is a socket in blocking mode, whose bytes are
 * copied. Both ends are closed when the promise is settled, also when it is refused at once. Not guaranteed: that descriptors sent along
 * with the bytes arrive; they are closed on the way.
 *
 * @throws SystemError `EPIPE`, `ECONNRESET` when an end went away before; `EINVAL` for what is neither a stream socket nor a pipe;
 * `EMFILE`. ReactorError `ERR_CLOSED` when the reactor was closed. The signal's reason. TypeError for options that do not exist.
 * @example
 * import { Reactor } from '@fd-reactor/core'
 * import { pump, UnixListener, UnixStream } from '@fd-reactor/fd-events'
 * using reactor = new Reactor()
 * const source = UnixListener.listen(reactor, '/tmp/example-pump-from.sock')
 * source.on('connection', (stream) => stream.end('hello'))
 * const target = UnixListener.listen(reactor, '/tmp/example-pump-to.sock')
 * const from = await UnixStream.connect(reactor, source.path)
 * const to = await UnixStream.connect(reactor, target.path)
 * console.log(await pump(reactor, from, to)) // 5
 * @see splice(2)
 */
export async function pump(
  reactor: Reactor,
  from: PumpEnd,
  to: PumpEnd,
  options: PumpOptions = {},
): Promise<number> {
  return new Promise((resolve, reject) => {
    const job = new Job(reactor, () => options.onProgress?.(flow.moved), reject)
    const [source, target] = job.take('pump', options, from, to)
    const flow = job.flow(source, target, true)
    // What the source's stream could not send yet goes its own way; usually it is nothing.
    if (source.unsent.length > 0) job.flow(undefined, source, false)
    job.start(() => {
      resolve(flow.moved)
    })
  })
}

/**
 * Moves bytes both ways between two stream sockets until both have ended, and resolves to how many that were.
 *
 * Everything that {@link pump} promises holds for each direction. The end of one direction is passed on and leaves the other one open. An end
 * that goes away for good ends both; it is an error only when bytes were on their way to it.
 *
 * @throws as {@link pump}.
 * @example
 * import { Reactor } from '@fd-reactor/core'
 * import { proxy, UnixListener, UnixStream } from '@fd-reactor/fd-events'
 * using reactor = new Reactor()
 * const server = UnixListener.listen(reactor, '/tmp/example-proxy-server.sock')
 * server.on('connection', (stream) => stream.on('data', (bytes) => stream.write(bytes)))
 * const front = UnixListener.listen(reactor, '/tmp/example-proxy.sock')
 * front.on('connection', async (client) => {
 *   await proxy(reactor, client, await UnixStream.connect(reactor, server.path))
 * })
 * const client = await UnixStream.connect(reactor, front.path)
 * client.end('hello')
 * for await (const bytes of client) console.log(String(bytes)) // hello
 * @see splice(2)
 */
export async function proxy(
  reactor: Reactor,
  a: PumpEnd,
  b: PumpEnd,
  options: ProxyOptions = {},
): Promise<ProxyBytes> {
  return new Promise((resolve, reject) => {
    const bytes = (): ProxyBytes => ({ forth: forth.moved, back: back.moved })
    const job = new Job(reactor, () => options.onProgress?.(bytes()), reject)
    const [first, second] = job.take('proxy', options, a, b)
    const forth = job.flow(first, second, false)
    const back = job.flow(second, first, false)
    job.start(() => {
      resolve(bytes())
    })
  })
}

/** What moves together and ends together: the ends, the flows between them, and the promise about them. */
class Job {
  readonly #reactor: Reactor
  readonly #onMoved: () => void
  readonly #reject: (error: unknown) => void
  readonly #ends: End[] = []
  readonly #flows: Flow[] = []
  #signal: AbortSignal | undefined
  #resolve: (() => void) | undefined
  #stopped = false

  constructor(reactor: Reactor, onMoved: () => void, reject: (error: unknown) => void) {
    this.#reactor = reactor
    this.#onMoved = onMoved
    this.#reject = reject
  }

  /** Takes both ends over, or closes both and throws. */
  take(what: 'pump' | 'proxy', options: { signal?: AbortSignal }, a: PumpEnd, b: PumpEnd): [End, End] {
    try {
      checkOptions(what, options, OPTION_CHECKS)
      options.signal?.throwIfAborted()
      this.#signal = options.signal
      const ends: [End, End] = [this.#end(a), this.#end(b)]
      if (what === 'pump' || ends.every((end) => end.socket)) return ends
      const hint = 'A pipe goes one way only: use pump()'
      throw new SystemError(EINVAL, 'splice', { path: what, hint })
    } catch (error) {
      this.#stop(error)
      try {
        a.close()
      } finally {
        b.close() // also when a listener of the other throws
      }
      throw error
    }
  }

  #end(taken: PumpEnd): End {
    const detached = asDetached(taken instanceof FdHandle ? taken : taken.detach())
    closeAll(detached.fds ?? []) // they do not travel
    const end = new End(this.#reactor, detached, (revents) => {
      this.#run(end, revents)
    })
    this.#ends.push(end)
    return end
  }

  /** Adds a flow. `whole`: the target must not go away before the source has ended. Without a source only what waits is sent. */
  flow(from: End | undefined, to: End, whole: boolean): Flow {
    try {
      const flow = new Flow(this.#reactor, from, to, whole)
      this.#flows.push(flow)
      return flow
    } catch (error) {
      this.#stop(error) // EMFILE: no pipe
      throw error
    }
  }

  start(resolve: () => void): void {
    this.#resolve = resolve
    this.#signal?.addEventListener('abort', this.#onAbort)
    for (const end of this.#ends) {
      end.on('close', () => {
        if (end.finished) return
        this.#stop(
          new ReactorError('ERR_CLOSED', `The reactor was closed while ${end.label} was being pumped`),
        )
      })
    }
    this.#run(undefined, 0)
  }

  readonly #onAbort = (): void => {
    this.#stop(this.#signal?.reason)
  }

  /** Something happened at `end`, or it all begins. */
  #run(end: End | undefined, revents: number): void {
    try {
      let moved = false
      if (end !== undefined && (revents & (Interest.Hup | Interest.Err)) !== 0) end.gone = true
      for (const flow of this.#flows) {
        const before = flow.moved
        if (end === undefined) flow.begin()
        else if (flow.concerns(end, revents)) flow.run()
        moved ||= flow.moved > before
      }
      if (moved) this.#onMoved()
    } catch (error) {
      return this.#stop(error)
    }
    if (this.#flows.every(({ done }) => done)) {
      const failed = this.#flows.find(({ error }) => error !== undefined)
      if (failed === undefined) this.#stop()
      else this.#stop(failed.error)
    } else {
      for (const each of this.#ends) each.watch()
    }
  }

  #stop(...failure: [error?: unknown]): void {
    if (this.#stopped) return
    this.#stopped = true
    this.#signal?.removeEventListener('abort', this.#onAbort)
    for (const flow of this.#flows) flow.close()
    for (const end of this.#ends) end.close()
    if (failure.length > 0) this.#reject(failure[0])
    else this.#resolve?.()
  }
}
