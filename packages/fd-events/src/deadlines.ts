/**
 * Deadlines for timeouts: any number of them for each reactor, on one timerfd that is armed for the earliest.
 *
 * Meant for limits, not for schedules: they are rarely reached, so adding and cancelling are what must be cheap. A cancelled one
 * stays in the queue until it is due.
 */
import { Drain, FdHandle, Interest, Source } from '@fd-reactor/core'
import type { Reactor, SourceEvents } from '@fd-reactor/core'
import { Clock, timerfd, TimerFlag } from '@fd-reactor/core/sys'
import TinyQueue from 'tinyqueue'

interface Deadline {
  dueNs: bigint
  callback: (() => void) | undefined
}

interface DeadlineEvents extends SourceEvents {
  due: []
}

const timers = new WeakMap<Reactor, DeadlineTimer>()

class DeadlineTimer extends Source<DeadlineEvents> {
  readonly #queue = new TinyQueue<Deadline>([], (a, b) => (a.dueNs < b.dueNs ? -1 : 1))
  #armedNs = 0n
  #expiring = false

  constructor(reactor: Reactor) {
    const handle = new FdHandle(timerfd.create('monotonic'))
    const registration = { drain: Drain.Timer, interest: Interest.In, argument: Clock.monotonic }
    super(reactor, handle, registration, { ref: false, label: 'Deadlines' })
    this.on('due', () => {
      this.#expire()
    })
  }

  add(deadline: Deadline): void {
    this.#queue.push(deadline)
    if (!this.#expiring) this.#arm()
  }

  protected get consumerEvents(): readonly string[] {
    return ['due']
  }

  onRecord(): void {
    this.emit('due')
  }

  #expire(): void {
    const now = timerfd.now('monotonic')
    this.#armedNs = 0n
    this.#expiring = true // what callbacks add is armed once, below
    try {
      for (
        let next = this.#queue.peek();
        next !== undefined && next.dueNs <= now;
        next = this.#queue.peek()
      ) {
        this.#queue.pop()
        next.callback?.()
        if (this.closed) return
      }
    } finally {
      this.#expiring = false
      if (!this.closed) this.#arm()
    }
  }

  #arm(): void {
    while (this.#queue.length > 0 && this.#queue.peek()?.callback === undefined) this.#queue.pop()
    const dueNs = this.#queue.peek()?.dueNs
    if (dueNs === undefined || (this.#armedNs !== 0n && this.#armedNs <= dueNs)) return
    this.#armedNs = dueNs
    timerfd.set(this.fd, TimerFlag.Absolute, dueNs, 0n)
  }
}

/** The reactor's timer. Whoever will need a deadline when descriptors have run out asks for it beforehand. */
export function deadlineTimer(reactor: Reactor): DeadlineTimer {
  let timer = timers.get(reactor)
  if (timer === undefined || timer.closed) {
    timer = new DeadlineTimer(reactor)
    timers.set(reactor, timer)
  }
  return timer
}

/** `handle`, when the reactor has its timer: for those that must not need a descriptor later. Without one the handle is closed. */
export function withDeadlines(reactor: Reactor, handle: FdHandle): FdHandle {
  try {
    deadlineTimer(reactor)
    return handle
  } catch (error) {
    handle.close()
    throw error
  }
}

/**
 * Calls back once when `delayNs` have passed; returns what cancels it. It does not keep the process going. The callback must not
 * throw: listeners are told in `onFlush` of their own source (`afterHandler`), where their errors belong to it.
 */
export function deadline(reactor: Reactor, delayNs: number, callback: () => void): () => void {
  const entry: Deadline = { dueNs: timerfd.now('monotonic') + BigInt(Math.ceil(delayNs)), callback }
  deadlineTimer(reactor).add(entry)
  return () => {
    entry.callback = undefined
  }
}
