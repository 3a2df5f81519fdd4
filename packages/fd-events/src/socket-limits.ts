/**
 * How long a connection may be idle, take for a header, or leave our bytes waiting.
 *
 * Nothing is timed for each connection: those of a reactor with the same shortest limit are looked at together, four times within it, by one
 * deadline. A look compares counters that are kept anyway, so a limit costs nothing while bytes move.
 */
import type { Reactor } from '@fd-reactor/core'
import { integer } from '@fd-reactor/core/sys'
import { deadline } from './deadlines.js'

/** Limits of a connection, in nanoseconds; each is seen to about a quarter of the shortest of them. */
export interface LimitOptions {
  /** Without a byte in either direction. Default: none. */
  idleTimeout?: number
  /** From the start, or `expectHeader()`, to `headerDone()`, however many bytes come meanwhile. Default: none. */
  headerTimeout?: number
  /** With bytes waiting of which the peer takes none. Default: none. */
  writeTimeout?: number
}

/** Which limit was reached. */
export type Limit = 'idle' | 'header' | 'write'

/** The check of a duration in nanoseconds. */
export const duration = integer(1, Number.MAX_SAFE_INTEGER)

/** The checks of {@link LimitOptions}. */
export const limitChecks = { idleTimeout: duration, headerTimeout: duration, writeTimeout: duration }

/** What is looked at. */
export interface Limited {
  readonly bytesRead: number
  readonly bytesWritten: number
  /** Whether something waits because the peer takes too little. */
  readonly blocked: boolean
  /** How much the kernel holds for the peer. A slow peer takes of that long before the kernel takes more of us. */
  readonly unsentLength: number
}

const LOOKS = 4
const rounds = new WeakMap<Reactor, Map<number, Set<SocketLimits>>>()

/** The limits of one connection. */
export class SocketLimits {
  readonly #socket: Limited
  readonly #reached: (limit: Limit) => void
  readonly #members: Set<SocketLimits>
  /** How many looks each limit is long; infinite without it. */
  readonly #idleLooks: number
  readonly #headerLooks: number
  readonly #writeLooks: number
  /** How many whole periods each has lasted: the one in which it began does not count. */
  #idle = -1
  #header = -1
  #write = -1
  #awaitsHeader = true
  #read = 0
  #written = 0
  #unsent = 0

  /** `reached` is called each time that a limit is reached, outside of the source's handlers; it must not throw. */
  constructor(reactor: Reactor, options: LimitOptions, socket: Limited, reached: (limit: Limit) => void) {
    const { idleTimeout = Infinity, headerTimeout = Infinity, writeTimeout = Infinity } = options
    const periodNs = Math.ceil(Math.min(idleTimeout, headerTimeout, writeTimeout) / LOOKS)
    this.#idleLooks = Math.ceil(idleTimeout / periodNs)
    this.#headerLooks = Math.ceil(headerTimeout / periodNs)
    this.#writeLooks = Math.ceil(writeTimeout / periodNs)
    this.#socket = socket
    this.#reached = reached
    this.#members = roundOf(reactor, periodNs)
    this.#members.add(this)
  }

  /** Begins the time for a header anew. */
  expectHeader(): void {
    this.#header = -1
    this.#awaitsHeader = true
  }

  /** Ends it. */
  headerDone(): void {
    this.#awaitsHeader = false
  }

  /** Ends all limits. */
  stop(): void {
    this.#members.delete(this)
  }

  /** One of the regular looks. */
  look(): void {
    const { bytesRead, bytesWritten, blocked } = this.#socket
    const unsent = blocked ? this.#socket.unsentLength : 0
    const wrote = bytesWritten !== this.#written || unsent < this.#unsent
    this.#idle = wrote || bytesRead !== this.#read ? 0 : this.#idle + 1
    if (!blocked) this.#write = -1
    else this.#write = wrote ? 0 : this.#write + 1
    this.#read = bytesRead
    this.#written = bytesWritten
    this.#unsent = unsent
    if (this.#awaitsHeader && ++this.#header >= this.#headerLooks) {
      this.#awaitsHeader = false
      this.#reached('header')
    } else if (this.#write >= this.#writeLooks) {
      this.#write = 0
      this.#reached('write')
    } else if (this.#idle >= this.#idleLooks) {
      this.#idle = 0
      this.#reached('idle')
    }
  }
}

/** Those of a reactor that are looked at every `periodNs`, for as long as there are any. */
function roundOf(reactor: Reactor, periodNs: number): Set<SocketLimits> {
  const known = rounds.get(reactor) ?? new Map<number, Set<SocketLimits>>()
  rounds.set(reactor, known)
  const found = known.get(periodNs)
  if (found !== undefined) return found
  const members = new Set<SocketLimits>()
  const look = (): void => {
    for (const member of members) member.look()
    if (members.size > 0) deadline(reactor, periodNs, look)
    else known.delete(periodNs)
  }
  deadline(reactor, periodNs, look)
  known.set(periodNs, members)
  return members
}
