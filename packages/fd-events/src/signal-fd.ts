/**
 * Signals as typed events, read from a signalfd.
 *
 * The mask and the net that make this safe in a process full of threads are native and process-wide; who reads what is the hub's
 * business (signal-hub.ts). Here signals wait for their listeners: each goes through a queue of its own, so that one that was
 * paused, threw or listened late misses nothing, and order is kept.
 */
import process from 'node:process'
import { Drain, Interest, Source, sourceOptionChecks, SystemError } from '@fd-reactor/core'
import type { BatchRecord, Reactor, SourceEvents, SourceOptions } from '@fd-reactor/core'
import { boolean, checkOptions } from '@fd-reactor/core/sys'
import { SignalHub, type Subscription } from './signal-hub.js'
import type { SignalInfo } from './signal-info.js'
import { parseSignals, type SignalName } from './signal-names.js'

/** The events of a {@link SignalFd}: one for each signal that was asked for, and some for all. */
export type SignalFdEvents<Name extends SignalName = SignalName> = SourceEvents & {
  [Signal in Name]: [info: SignalInfo<Signal>]
} & {
  /** Any of the signals; comes after the signal's own event. */
  signal: [info: SignalInfo<Name>]
  /** So many signals were lost: the pipe under the mask was full, or 65,536 of one kind waited here. Without a listener, a warning. */
  lost: [count: number]
  /** It closes, and these had come and were not emitted. Comes before `'close'`, and only if there are any. */
  undelivered: [infos: SignalInfo<Name>[]]
}

/** Options of a {@link SignalFd}. */
export interface SignalFdOptions extends SourceOptions {
  /** Allows SIGCHLD, which takes it away from child_process. Default false. */
  allowChild?: boolean
}

const MAX_WAITING = 65_536

interface Inbox<Name extends SignalName> {
  readonly name: Name
  readonly waiting: SignalInfo<Name>[]
}

function isNamed<Name extends SignalName>(info: SignalInfo, name: Name): info is SignalInfo<Name> {
  return info.signal === name
}

/**
 * Turns signals into events: `'SIGTERM'` and so on, each with a {@link SignalInfo}.
 *
 * Signals are masks of the whole process: while a SignalFd has a signal, it is blocked in every thread, and `process.on('SIGTERM')` falls
 * silent. One reactor has a signal at a time; several SignalFds of one reactor can share it, and each gets every one. After the last
 * close, masks and handlers are as they were before, and what was still pending is told by `'undelivered'`, so that a SIGTERM which
 * comes while it closes never kills.
 *
 * Guaranteed: real-time signals queue and keep their order, signal by signal. A signal for which nobody listens anywhere waits in the
 * kernel; a paused subscriber gets its copies when it resumes. A thread that unblocks a signal by itself does not die of it, and
 * the event comes all the same. Not guaranteed: one event for each standard signal (the kernel merges those that are pending
 * already); order between different signals; signals that were sent to another thread than the reactor's, which wait until it unblocks
 * them. Child processes start with the signals unblocked.
 *
 * @throws SystemError `EBUSY` when another reactor has one of the signals, naming it; `EMFILE` when no descriptor is left.
 * @throws TypeError for an unknown or repeated name, for signals that cannot be had (with the reason), and for unknown options.
 * @example
 * import process from 'node:process'
 * import { Reactor } from '@fd-reactor/core'
 * import { SignalFd } from '@fd-reactor/fd-events'
 * const reactor = new Reactor()
 * const signals = new SignalFd(reactor, ['SIGHUP', 'SIGTERM'])
 * signals.on('SIGHUP', (info) => {
 *   console.log(info.signal, info.code, info.pid === process.pid) // SIGHUP SI_USER true
 *   signals.close()
 * })
 * process.kill(process.pid, 'SIGHUP')
 * await reactor.run()
 * @see signalfd(2), signal(7)
 */
export class SignalFd<Name extends SignalName = SignalName> extends Source<SignalFdEvents<Name>> {
  readonly #inboxes: ReadonlyMap<number, Inbox<Name>>
  readonly #subscription: Subscription
  #lost = 0
  #scheduled = false

  constructor(reactor: Reactor, signals: readonly Name[], options: SignalFdOptions = {}) {
    checkOptions('SignalFd', options, { ...sourceOptionChecks, allowChild: boolean })
    const names = parseSignals(signals, options.allowChild ?? false)
    options.signal?.throwIfAborted()
    const subscription = SignalHub.subscribe(reactor, [...names.keys()], options.priority ?? 'normal')
    super(reactor, subscription, { drain: Drain.Signal, interest: Interest.In }, options)
    this.#inboxes = new Map(Array.from(names, ([signo, name]) => [signo, { name, waiting: [] }]))
    this.#subscription = subscription
    subscription.subscriber = {
      wants: (signo) => this.#wants(signo),
      take: (info) => this.#take(info),
      lose: (count) => this.#lose(count),
      left: () => this.#left(),
    }
  }

  /** The signals that it has, as they were asked for. */
  get signals(): Name[] {
    return Array.from(this.#inboxes.values(), ({ name }) => name)
  }

  protected get consumerEvents(): readonly string[] {
    return ['signal', ...this.signals]
  }

  protected override get keepsSomething(): boolean {
    return this.#lost > 0 || [...this.#inboxes.values()].some(({ waiting }) => waiting.length > 0)
  }

  onRecord(record: BatchRecord): void {
    if (record.result < 0) return this.fail(new SystemError(record.result, 'read', { path: this.label }))
    this.#subscription.fanOut(record)
  }

  override onSettle(record: BatchRecord): void {
    if (record.result > 0) this.#subscription.fanOut(record)
  }

  override onFlush(): void {
    super.onFlush()
    this.emitKept()
  }

  protected override update(): void {
    super.update()
    this.#subscription.changed()
  }

  protected override emitKept(): void {
    this.#scheduled = false
    try {
      this.#emitWaiting()
    } catch (error) {
      this.#schedule() // for what still waits
      throw error
    }
  }

  /** `for await (const info of signals)`: the argument of each `'signal'`. */
  async *[Symbol.asyncIterator](): AsyncGenerator<SignalInfo<Name>, undefined, undefined> {
    for await (const [info] of this.events('signal')) yield info
  }

  /** The base looks at whether anybody listens at all; here it matters to which signal. */
  protected override listenersChanged(): void {
    this.#subscription.changed()
  }

  #wants(signo: number): boolean {
    const name = this.#inboxes.get(signo)?.name
    return (
      this.flowing && name !== undefined && (this.listenerCount(name) > 0 || this.listenerCount('signal') > 0)
    )
  }

  #take(info: SignalInfo): void {
    const inbox = this.#inboxes.get(info.signo)
    if (inbox === undefined) return
    const { name, waiting } = inbox
    if (waiting.length === MAX_WAITING) return this.#lose(1)
    waiting.push(isNamed(info, name) ? info : { ...info, signal: name })
    if (this.#wants(info.signo)) this.#schedule()
  }

  #lose(count: number): void {
    this.#lost += count
    if (this.flowing) this.#schedule()
  }

  /** In a turn of its own, so that what its handlers throw is its own, whoever read the signal. */
  #schedule(): void {
    if (this.#scheduled) return
    this.#scheduled = true
    if (!this.reactor.afterHandler(this)) this.reactor.defer(() => this.emitKept())
  }

  #emitWaiting(): void {
    if (this.flowing) this.#tellLost()
    for (const [signo, { name, waiting }] of this.#inboxes) {
      while (this.#wants(signo)) {
        const info = waiting.shift()
        if (info === undefined) break
        this.fire(name, info)
        if (!this.closed) this.fire('signal', info)
      }
    }
  }

  #tellLost(): void {
    const lost = this.#lost
    if (lost === 0) return
    this.#lost = 0
    if (this.listenerCount('lost') > 0) this.fire('lost', lost)
    else process.emitWarning(`${this.label} lost ${lost} signals`, { code: 'FD_REACTOR_LOST_SIGNALS' })
  }

  #left(): void {
    const infos = [...this.#inboxes.values()].flatMap(({ waiting }) => waiting.splice(0))
    try {
      this.#tellLost()
      if (infos.length > 0) this.fire('undelivered', infos)
    } catch (error) {
      // 'close' must come all the same.
      process.nextTick(() => {
        throw error
      })
    }
  }
}
