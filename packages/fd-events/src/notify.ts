/**
 * Telling the service manager how a service is: the protocol of sd_notify(3), without libsystemd.
 *
 * NOTIFY_SOCKET names a datagram socket of the manager; a notification is a datagram of NAME=value lines. To know that the manager has read
 * them, a pipe is sent along behind: once it is closed there, everything before it was looked at.
 */
import { Buffer } from 'node:buffer'
import process from 'node:process'
import { FdHandle, FdWatcher, once, ReactorError, type Reactor } from '@fd-reactor/core'
import {
  abortSignal,
  boolean,
  checkOptions,
  integer,
  oneOf,
  timerfd,
  transfer,
  type Check,
} from '@fd-reactor/core/sys'
import { deadline } from './deadlines.js'
import { environmentError, environmentNumber } from './environment.js'
import type { UnixAddress } from './unix-address.js'
import { UnixDatagram } from './unix-datagram.js'

/** What is told. At least one of them. */
export interface NotifyState {
  /** Start-up is finished, or reloading. */
  ready?: true
  /** The configuration is being loaded again; `ready` follows. The time is sent along, as `Type=notify-reload` wants it. */
  reloading?: true
  /** The service is about to end. */
  stopping?: true
  /** One line for people: what the service is doing. */
  status?: string
  /** The service is alive; `'trigger'` asks to be treated as if it were not. See {@link watchdogInterval}. */
  watchdog?: true | 'trigger'
  /** Which process is the service, if it is not the one that was started. */
  mainPid?: number
  /** Why the service failed: an errno, of either sign. */
  errno?: number
  /** Nanoseconds by which starting, reloading or stopping may take longer from now on, rounded up to microseconds. */
  extendTimeout?: number
  /** Descriptors for the manager to keep; after a restart they are among `inheritedListeners()`. */
  fds?: readonly FdHandle[]
  /** What to call them: up to 255 characters of ASCII, without colons. Default: `'stored'`. */
  fdName?: string
  /** The name of descriptors that the manager shall no longer keep. */
  removeFds?: string
}

/** Options of {@link notify}. */
export interface NotifyOptions {
  /** Waits until the manager has looked at this and all that was sent before it. Default false. */
  barrier?: boolean
  /** Nanoseconds until the manager counts as unreachable. Default 5 s. */
  timeout?: number
  /** Ends the waiting. */
  signal?: AbortSignal
}

const MAX_BYTES = 4096 // the manager ignores what is longer
const MAX_PID = 2 ** 22
const NS_PER_US = 1000
const DEFAULT_TIMEOUT = 5e9

const yes = oneOf(true)
const STATE_CHECKS = {
  ready: yes,
  reloading: yes,
  stopping: yes,
  status: line,
  watchdog: oneOf(true, 'trigger'),
  mainPid: integer(1, MAX_PID),
  errno: integer(-4095, 4095),
  extendTimeout: integer(1, Number.MAX_SAFE_INTEGER),
  fds: ((value, name) => {
    if (!Array.isArray(value) || value.length === 0)
      throw new TypeError(`${name} must be an array of FdHandles that is not empty`)
  }) satisfies Check,
  fdName: storeName,
  removeFds: storeName,
}
const OPTION_CHECKS = {
  barrier: boolean,
  timeout: integer(1, Number.MAX_SAFE_INTEGER),
  signal: abortSignal,
}

/**
 * Tells the service manager how the service is, and resolves to true once the manager's socket has it; to false, and nothing is done, when no
 * manager asked for it (NOTIFY_SOCKET is not set).
 *
 * All of `state` goes in one datagram. Guaranteed: with `barrier` the manager has looked at it when the promise resolves, so that it is safe to exit.
 * Not guaranteed without: that the manager still knows who sent it, if the process ends at once; that notifications which are not awaited
 * arrive in order while the manager is too busy to read. It does not say whether the manager accepted anything: see `NotifyAccess=` and
 * `FileDescriptorStoreMax=` of the unit.
 *
 * @throws ReactorError `ERR_ENVIRONMENT` for a NOTIFY_SOCKET that is neither a path nor an abstract name; `ERR_TIMEOUT`; `ERR_CLOSED`. SystemError
 * `ECONNREFUSED`, `ENOENT`, `EACCES` when nobody is there. TypeError, RangeError for values that cannot be told. The signal's reason.
 * @example
 * import { once, Reactor } from '@fd-reactor/core'
 * import { notify, UnixDatagram } from '@fd-reactor/fd-events'
 * using reactor = new Reactor()
 * const manager = UnixDatagram.bind(reactor, { abstract: 'example-notify' })
 * process.env.NOTIFY_SOCKET = '@example-notify' // what a manager does
 * console.log(await notify(reactor, { ready: true, status: 'Serving' })) // true
 * const [bytes] = await once(manager, 'message')
 * console.log(String(bytes).split('\n').join()) // READY=1,STATUS=Serving
 * @see sd_notify(3)
 */
export async function notify(
  reactor: Reactor,
  state: NotifyState,
  options: NotifyOptions = {},
): Promise<boolean> {
  const text = encode(state)
  checkOptions('notify', options, OPTION_CHECKS)
  const { barrier = false, timeout = DEFAULT_TIMEOUT, signal } = options
  signal?.throwIfAborted()
  const address = managerAddress()
  if (address === undefined) return false
  const expiry = new AbortController()
  const cancel = deadline(reactor, timeout, () => {
    const message = `The service manager did not take the notification within ${timeout / 1e6} ms`
    expiry.abort(new ReactorError('ERR_TIMEOUT', message))
  })
  try {
    const limit = signal === undefined ? expiry.signal : AbortSignal.any([signal, expiry.signal])
    using manager = UnixDatagram.connect(reactor, address, { signal: limit })
    await send(manager, text, state.fds, limit)
    if (barrier) await pass(reactor, manager, limit)
    return true
  } finally {
    cancel()
  }
}

/**
 * Within how many nanoseconds the manager wants to hear `notify(reactor, { watchdog: true })`, again and again: do it twice as often. Undefined when it
 * does not watch this process.
 *
 * @throws ReactorError `ERR_ENVIRONMENT` when WATCHDOG_USEC or WATCHDOG_PID is no number.
 * @example
 * import { Reactor } from '@fd-reactor/core'
 * import { notify, TimerFd, watchdogInterval } from '@fd-reactor/fd-events'
 * using reactor = new Reactor()
 * process.env.WATCHDOG_USEC = '30000000' // what a manager does
 * const interval = watchdogInterval()
 * console.log(interval) // 30000000000
 * if (interval !== undefined) {
 *   TimerFd.every(reactor, interval / 2).on('tick', () => notify(reactor, { watchdog: true }))
 * }
 * @see sd_watchdog_enabled(3)
 */
export function watchdogInterval(): number | undefined {
  const { WATCHDOG_USEC: usec, WATCHDOG_PID: pid } = process.env
  if (usec === undefined) return undefined
  const interval = environmentNumber('WATCHDOG_USEC', usec, 1, Number.MAX_SAFE_INTEGER) * NS_PER_US
  const ours = pid === undefined || environmentNumber('WATCHDOG_PID', pid, 1, MAX_PID) === process.pid
  return ours ? interval : undefined
}

function encode(state: NotifyState): string {
  checkOptions('notify', state, STATE_CHECKS)
  const { errno, extendTimeout, fds, fdName, removeFds } = state
  if (removeFds !== undefined && (fds !== undefined || fdName !== undefined)) {
    throw new TypeError('notify() cannot store and remove descriptors at once: they would share a name')
  }
  if (fdName !== undefined && fds === undefined) throw new TypeError("notify() option 'fdName' needs fds")
  const now = state.reloading && timerfd.now('monotonic') / BigInt(NS_PER_US)
  const lines = {
    READY: state.ready && 1,
    RELOADING: state.reloading && 1,
    MONOTONIC_USEC: now,
    STOPPING: state.stopping && 1,
    STATUS: state.status,
    WATCHDOG: state.watchdog === true ? 1 : state.watchdog,
    MAINPID: state.mainPid,
    ERRNO: errno && Math.abs(errno),
    EXTEND_TIMEOUT_USEC: extendTimeout && Math.ceil(extendTimeout / NS_PER_US),
    FDSTORE: fds && 1,
    FDSTOREREMOVE: removeFds === undefined ? undefined : 1,
    FDNAME: fdName ?? removeFds,
  }
  const text = Object.entries(lines)
    .filter(([, value]) => value !== undefined)
    .map(([name, value]) => `${name}=${value}`)
    .join('\n')
  if (text === '') throw new TypeError('notify() needs something to tell, such as { ready: true }')
  const length = Buffer.byteLength(text)
  if (length > MAX_BYTES) {
    throw new RangeError(
      `notify(): ${length} bytes are more than the ${MAX_BYTES} that a manager reads: shorten the status`,
    )
  }
  return text
}

function managerAddress(): UnixAddress | undefined {
  const address = process.env['NOTIFY_SOCKET']
  if (address === undefined) return undefined
  if (address.startsWith('/')) return address
  if (address.startsWith('@') && address.length > 1) return { abstract: address.slice(1) }
  throw environmentError(
    `NOTIFY_SOCKET is '${address}', and must be an absolute path, or an abstract name after an @`,
  )
}

async function send(
  manager: UnixDatagram,
  text: string,
  fds: readonly FdHandle[] | undefined,
  limit: AbortSignal,
): Promise<void> {
  return new Promise((resolve, reject) => {
    manager.send(text, fds === undefined ? {} : { fds }, (outcome) => {
      if (outcome === 'sent') return resolve()
      const closed = new ReactorError('ERR_CLOSED', 'The reactor was closed before the notification had left')
      const why: unknown = limit.aborted ? limit.reason : closed
      reject(outcome !== 'dropped' ? outcome : why instanceof Error ? why : new Error(String(why)))
    })
  })
}

/** Waits until the manager has closed a descriptor that came behind everything else. */
async function pass(reactor: Reactor, manager: UnixDatagram, limit: AbortSignal): Promise<void> {
  const [readEnd, writeEnd] = transfer.pipe()
  using read = new FdHandle(readEnd)
  using write = new FdHandle(writeEnd)
  await send(manager, 'BARRIER=1', [write], limit)
  write.close()
  using watcher = new FdWatcher(reactor, read.fd)
  await once(watcher, 'ready', { signal: limit })
}

/** A newline would begin another variable. */
function line(value: unknown, name: string): void {
  if (typeof value !== 'string') throw new TypeError(`${name} must be a string`)
  if (/[\n\0]/.test(value)) throw new TypeError(`${name} must be one line, without a newline or NUL`)
}

function storeName(value: unknown, name: string): void {
  if (typeof value !== 'string' || !/^[ -9;-~]{1,255}$/.test(value))
    throw new TypeError(`${name} must be 1 to 255 characters of printable ASCII other than ':'`)
}
