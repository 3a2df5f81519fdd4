/**
 * Connecting over TCP: a name is looked up, and its addresses are tried by turns of their families, each a little after the one before, until
 * the first is connected (happy eyeballs, RFC 8305). The others are closed.
 *
 * An attempt is a non-blocking connect(2): the reactor watches its socket for room to write, and SO_ERROR says how it went.
 */
import { lookup } from 'node:dns'
import { isIP } from 'node:net'
import { FdHandle, FdWatcher, Interest, ReactorError, SystemError, type Reactor } from '@fd-reactor/core'
import { Domain, socket, SocketType } from '@fd-reactor/core/sys'
import { deadline } from './deadlines.js'
import { encodeTcpAddress, showTcpAddress, type TcpAddress } from './tcp-address.js'

const ATTEMPT_DELAY_NS = 250e6
const EINPROGRESS = -115
const ECONNREFUSED = -111

/** What to connect to, and how. */
export interface TcpTarget extends TcpAddress {
  timeout: number
  signal: AbortSignal | undefined
  /** Called with each socket before it connects. */
  prepare: (handle: FdHandle) => void
}

/** No address of a name could be connected to. Its `code` is that of the first one. */
export class TcpConnectError extends SystemError {
  /** What happened to each address, in the order of their ends. */
  readonly errors: readonly SystemError[]

  /** `place` is what was asked for. */
  constructor(place: string, errors: readonly SystemError[]) {
    const all = errors.map(({ path = '', code }) => `${path} (${code})`).join(', ')
    super(errors[0]?.errno ?? ECONNREFUSED, 'connect', {
      path: place,
      hint: `All of its addresses failed: ${all}`,
    })
    this.errors = errors
  }
}

/** A connected socket. */
export async function connectTcp(reactor: Reactor, target: TcpTarget): Promise<FdHandle> {
  const { host, port, timeout, signal } = target
  signal?.throwIfAborted()
  return new Promise((resolve, reject) => {
    const race = new Race(reactor, target, (result) => {
      cancelTimeout()
      signal?.removeEventListener('abort', onAbort)
      if (result instanceof FdHandle) resolve(result)
      else reject(result)
    })
    const onAbort = (): void => {
      race.end(signal?.reason instanceof Error ? signal.reason : new Error(String(signal?.reason)))
    }
    const cancelTimeout = deadline(reactor, timeout, () => {
      const place = showTcpAddress({ host, port })
      race.end(new ReactorError('ERR_TIMEOUT', `'${place}' could not be reached within ${timeout / 1e6} ms`))
    })
    signal?.addEventListener('abort', onAbort)
    if (isIP(host) !== 0) race.begin([host])
    else {
      lookup(host, { all: true }, (error, addresses) => {
        if (error === null) race.begin(byTurns(addresses))
        else race.end(error)
      })
    }
  })
}

/** One family, then the other, in the order in which the resolver prefers them. */
export function byTurns(addresses: readonly { address: string; family: number }[]): string[] {
  const first = addresses.filter(({ family }) => family === addresses[0]?.family)
  const others = addresses.filter((address) => !first.includes(address))
  const turns = Array.from({ length: Math.max(first.length, others.length) }, (_, turn) => [
    first[turn],
    others[turn],
  ])
  return turns.flat().flatMap((entry) => (entry === undefined ? [] : [entry.address]))
}

class Race {
  readonly #open = new Map<FdHandle, FdWatcher>()
  readonly #errors: SystemError[] = []
  #addresses: string[] = []
  #cancelNext: (() => void) | undefined
  #over = false

  constructor(
    readonly reactor: Reactor,
    readonly target: TcpTarget,
    readonly settle: (result: FdHandle | Error) => void,
  ) {}

  begin(addresses: string[]): void {
    this.#addresses = addresses
    this.#next()
  }

  /** Settles, and closes every socket but the one that won. */
  end(result: FdHandle | Error): void {
    if (this.#over) {
      if (result instanceof FdHandle) result.close()
      return
    }
    this.#over = true
    this.#cancelNext?.()
    for (const [handle, watcher] of [...this.#open]) {
      watcher.close()
      if (handle !== result) handle.close()
    }
    this.settle(result)
  }

  #next(): void {
    this.#cancelNext?.()
    const host = this.#addresses.shift()
    if (this.#over || host === undefined) return
    try {
      if (this.#addresses.length > 0) {
        this.#cancelNext = deadline(this.reactor, ATTEMPT_DELAY_NS, () => {
          this.#next()
        })
      }
      this.#attempt({ host, port: this.target.port })
    } catch (error) {
      this.end(error instanceof Error ? error : new Error(String(error)))
    }
  }

  #attempt(address: TcpAddress): void {
    const domain = isIP(address.host) === 4 ? Domain.Ipv4 : Domain.Ipv6
    let handle: FdHandle
    try {
      handle = new FdHandle(socket.create(domain, SocketType.Stream))
    } catch (error) {
      // No descriptor is left, or the kernel has no such family: another address may still do.
      if (!(error instanceof SystemError)) throw error
      return this.#failed(new SystemError(error.errno, error.syscall, { path: showTcpAddress(address) }))
    }
    try {
      this.target.prepare(handle)
      const result = socket.connect(handle.fd, encodeTcpAddress(address))
      if (result !== EINPROGRESS) return this.#ended(handle, address, result)
      const watcher = new FdWatcher(this.reactor, handle.fd, { interest: Interest.Out, mode: 'oneshot' })
      this.#open.set(handle, watcher)
      watcher.on('ready', () => {
        this.#open.delete(handle)
        watcher.close()
        this.#ended(handle, address, -socket.takeError(handle.fd))
      })
      watcher.on('close', () => {
        // The reactor closes, and nothing will tell how the attempt ends.
        if (this.#open.has(handle))
          this.end(new ReactorError('ERR_CLOSED', 'The reactor was closed while it connected'))
      })
    } catch (error) {
      handle.close()
      throw error
    }
  }

  #ended(handle: FdHandle, address: TcpAddress, result: number): void {
    if (result === 0) return this.end(handle)
    handle.close()
    const hint = result === ECONNREFUSED ? 'Nobody listens there' : undefined
    this.#failed(new SystemError(result, 'connect', { path: showTcpAddress(address), hint }))
  }

  #failed(error: SystemError): void {
    this.#errors.push(error)
    if (this.#addresses.length > 0) return this.#next()
    if (this.#open.size > 0) return
    const [only] = this.#errors
    this.end(
      only !== undefined && this.#errors.length === 1
        ? only
        : new TcpConnectError(showTcpAddress(this.target), this.#errors),
    )
  }
}
