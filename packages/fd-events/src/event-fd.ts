/**
 * A counter that the kernel keeps, as a typed event source: the doorbell between threads and processes.
 *
 * One 8-byte read for each batch, done by the native drain, takes the count; writing is a system call that any holder of the
 * descriptor can make.
 */
import { Drain, FdHandle, Interest, Source, sourceOptionChecks, SystemError } from '@fd-reactor/core'
import type { BatchRecord, Reactor, SourceEvents, SourceOptions } from '@fd-reactor/core'
import { boolean, checkOptions, eventfd } from '@fd-reactor/core/sys'
import { readFileSync } from 'node:fs'

/** The events of an {@link EventFd}. */
export interface EventFdEvents extends SourceEvents {
  /** The count that was taken: all of it, or 1 in semaphore mode. */
  event: [count: bigint]
}

/** Options of an {@link EventFd}. */
export interface EventFdOptions extends SourceOptions {
  /** What the counter starts with, 0n … 2^64 − 2. Default 0n. */
  initial?: bigint
  /** Each read takes 1 instead of everything (EFD_SEMAPHORE). Default false. */
  semaphore?: boolean
}

/** Options of {@link EventFd.from}. */
export interface EventFdFromOptions extends SourceOptions {
  /** Whether it was made in semaphore mode. Default: what the kernel says, and false before Linux 6.5, which does not tell. */
  semaphore?: boolean
}

const MAX_COUNT = 2n ** 64n - 2n
const EINVAL = -22
const FROM_CHECKS = { ...sourceOptionChecks, semaphore: boolean }

function checkCount(value: bigint, name: string): bigint {
  if (typeof value !== 'bigint')
    throw new TypeError(`${name} must be a bigint, not ${typeof value} ${String(value)}`)
  if (value < 0n || value > MAX_COUNT)
    throw new RangeError(`${name} must be from 0n to 2^64 − 2, not ${value}`)
  return value
}

/** What the kernel tells of an eventfd. @throws SystemError `EINVAL` for anything else. */
export function eventFdInfo(fd: number): string {
  const info = readFileSync(`/proc/self/fdinfo/${fd}`, 'latin1')
  if (info.includes('eventfd-count:')) return info
  throw new SystemError(EINVAL, 'read', { path: `fd ${fd}`, hint: 'It is no eventfd' })
}

/**
 * Counts what is written to it and tells the sum, at most once in each batch.
 *
 * Guaranteed: what was written and not delivered is not lost by pausing, nor by `detach()`, which puts it back. Not guaranteed: one
 * event for each write, except in semaphore mode. Several readers of one counter share what is written.
 *
 * @throws SystemError `EMFILE` when no descriptor is left.
 * @throws TypeError, RangeError for options that do not exist or are out of range.
 * @example
 * import { Reactor } from '@fd-reactor/core'
 * import { EventFd } from '@fd-reactor/fd-events'
 * const reactor = new Reactor()
 * const bell = new EventFd(reactor)
 * bell.on('event', (count) => {
 *   console.log(count) // 3n
 *   bell.close()
 * })
 * bell.write(1n)
 * bell.write(2n)
 * await reactor.run()
 * @see eventfd(2)
 */
export class EventFd extends Source<EventFdEvents> {
  readonly #step: bigint
  #kept = 0n

  constructor(reactor: Reactor, options?: EventFdOptions)
  /** For `from()`, which has looked at the handle. */
  constructor(reactor: Reactor, options: EventFdFromOptions, handle: FdHandle)
  constructor(reactor: Reactor, options: EventFdOptions = {}, handle?: FdHandle) {
    checkOptions('EventFd', options, { ...FROM_CHECKS, initial: () => undefined })
    const { semaphore = false } = options
    const initial = checkCount(options.initial ?? 0n, "EventFd option 'initial'")
    if (handle === undefined) options.signal?.throwIfAborted() // otherwise the base does, and closes the handle
    const counter = handle ?? new FdHandle(eventfd.create(initial, semaphore))
    super(reactor, counter, { drain: Drain.Counter, interest: Interest.In }, options)
    this.#step = semaphore ? 1n : 0n
  }

  /**
   * Makes a source of an eventfd that came from elsewhere: passed by another process, or from `detach()`. The handle is the source's from then on.
   * @throws SystemError `EINVAL` for anything else; ReactorError `ERR_CLOSED`.
   */
  static from(reactor: Reactor, handle: FdHandle, options: EventFdFromOptions = {}): EventFd {
    checkOptions('EventFd.from', options, FROM_CHECKS)
    const info = eventFdInfo(handle.fd)
    const { semaphore = /eventfd-semaphore:\s*1/.test(info) } = options
    return new EventFd(reactor, { ...options, semaphore }, handle)
  }

  /**
   * Adds to an eventfd by its number, from a thread or process that has no reactor; false when the counter has no room.
   * @throws SystemError `EBADF` when it is not open, `EINVAL` when it is no eventfd.
   */
  static write(fd: number, value = 1n): boolean {
    return eventfd.write(fd, checkCount(value, 'The value'))
  }

  /** Adds to the counter; false, and nothing is added, when it would exceed 2^64 − 2. @throws ReactorError `ERR_CLOSED`. */
  write(value = 1n): boolean {
    return eventfd.write(this.fd, checkCount(value, 'The value'))
  }

  /** Ends the source and hands over its descriptor; what was taken from the counter and not delivered is put back. */
  detach(): FdHandle {
    const handle = this.detachHandle()
    if (this.#kept > 0n) eventfd.write(handle.fd, this.#kept)
    return handle.guard()
  }

  protected get consumerEvents(): readonly string[] {
    return ['event']
  }

  protected override get keepsSomething(): boolean {
    return this.#kept > 0n
  }

  onRecord(record: BatchRecord): void {
    if (record.result < 0) return this.fail(new SystemError(record.result, 'read', { path: this.label }))
    if (this.#kept === 0n && this.#step === 0n && this.flowing) {
      this.fire('event', record.value) // by far the most common case, and bigint arithmetic costs more than all the rest
    } else {
      this.#kept += record.value
      this.emitKept()
    }
  }

  override onSettle(record: BatchRecord): void {
    if (record.result > 0) this.#kept += record.value
  }

  protected override emitKept(): void {
    while (this.#kept > 0n && this.flowing) {
      const count = this.#step === 0n ? this.#kept : this.#step
      this.#kept -= count
      this.emit('event', count)
    }
  }

  protected override takeBack(name: string, events: readonly unknown[][]): void {
    if (name !== 'event') return
    for (const count of events.flat()) if (typeof count === 'bigint') this.#kept += count
  }

  /** `for await (const count of bell)`: the argument of each `'event'`. */
  async *[Symbol.asyncIterator](): AsyncGenerator<bigint, undefined, undefined> {
    for await (const [count] of this.events('event')) yield count
  }
}
