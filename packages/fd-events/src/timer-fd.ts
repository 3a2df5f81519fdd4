/**
 * A timer that the kernel keeps, as a typed event source.
 *
 * The schedule lives in the kernel (`first + n × interval`, always absolute), so a late handler never moves the next tick. One 8-byte
 * read for each batch, done by the native drain, says how many expirations have passed; the rest is arithmetic on that count.
 */
import { Drain, FdHandle, Instant, Interest, Source, SystemError } from '@fd-reactor/core'
import type { BatchRecord, Reactor, SourceEvents, SourceStats } from '@fd-reactor/core'
import { Clock, timerfd, TimerFlag } from '@fd-reactor/core/sys'
import {
  checkInstant,
  duration,
  LAST_INSTANT,
  parseTimerOptions,
  readableClock,
  type TimerClock,
  type TimerOptions,
  type TimerSettings,
  type TimerStartOptions,
} from './timer-options.js'
import { Schedule, type Reading } from './timer-schedule.js'

/** The events of a {@link TimerFd}. */
export interface TimerFdEvents extends SourceEvents {
  /** `expirations` ≥ 1 have passed since the last tick; the newest of them was due `latenessNs` ≥ 0 ago. */
  tick: [expirations: number, latenessNs: number]
  /** So many expirations get no tick, as `catchUp` asks; comes before the tick of those that do. */
  missed: [expirations: number]
  /** The realtime clock was set, or the machine was suspended, while a timer was armed for an instant of that clock. */
  clockStep: []
}

/** One tick, as `for await` gives it. */
export interface Tick {
  /** How many expirations it stands for. */
  expirations: number
  /** How long ago the newest of them was due. */
  latenessNs: number
}

/** The statistics of a {@link TimerFd}. What is in neither `missed` nor `kept` was part of a tick, or dropped by `rearm()` or `disarm()`. */
export interface TimerFdStats extends SourceStats {
  /** Expirations that were taken from the kernel. */
  expirations: number
  /** Those of them that `catchUp` gave no tick. */
  missed: number
  /** Those of them that wait for a tick: they were taken before it was paused, closed or detached, or lost its listener. */
  kept: number
}

const ECANCELED = -125

/**
 * Expires once or periodically on one of the kernel's clocks, and tells how often and how late.
 *
 * Durations are nanoseconds as a number (`ms(1)`), instants are nanoseconds of the clock as a bigint. Timers for a duration do not
 * move when the time of day is set: on `'realtime'` they count on the monotonic clock, as POSIX has it, on `'realtime-alarm'` on
 * the alarm clock of boottime. A timer from which no tick can come, because it was disarmed or its only one was told, keeps
 * neither `run()` nor the process going.
 *
 * Guaranteed: expirations are never lost, they are counted, also while the timer is paused or nobody listens; the due times do not
 * drift; no tick of an earlier arming after `disarm()` or `rearm()`. Not guaranteed: one tick for each expiration (see `catchUp`);
 * any bound on lateness without a real-time scheduling policy.
 *
 * When the time of day is set, the kernel gives up the timers that are armed for an instant of it, and their uncounted expirations. They
 * are armed again before `'clockStep'` tells of it: a single instant that has passed comes at once, a periodic timer goes on at the
 * first point of its schedule after what the clock shows now. What a step jumped over is not counted.
 *
 * @throws SystemError `EPERM` for an alarm clock without CAP_WAKE_ALARM; `EMFILE` when no descriptor is left.
 * @throws TypeError for an option that does not exist; RangeError for an interval that is not in 1 ns … 292 years.
 * @example
 * import { Reactor } from '@fd-reactor/core'
 * import { ms, TimerFd } from '@fd-reactor/fd-events'
 * const reactor = new Reactor()
 * const timer = TimerFd.every(reactor, ms(1))
 * let passed = 0
 * timer.on('tick', (expirations, latenessNs) => {
 *   if (expirations > 1) console.warn(`${expirations} at once, the newest ${latenessNs} ns ago`)
 *   passed += expirations
 *   if (passed >= 10) timer.close()
 * })
 * await reactor.run()
 * @see timerfd_create(2)
 */
export class TimerFd extends Source<TimerFdEvents> {
  readonly #settings: TimerSettings
  #first: number | bigint | undefined
  #schedule: Schedule
  #armed = new Instant(0n)
  #live = false
  #stepped = false
  #wanted: boolean
  #expirations = 0
  #missed = 0
  #kept = 0

  /** `first` is a delay, an instant, or undefined for one interval from now. */
  private constructor(
    reactor: Reactor,
    settings: TimerSettings,
    first: number | bigint | undefined,
    intervalNs: number,
    options: TimerOptions,
  ) {
    options.signal?.throwIfAborted()
    const handle = new FdHandle(timerfd.create(settings.kernelClock))
    const argument = Clock[settings.clock]
    super(reactor, handle, { drain: Drain.Timer, interest: Interest.In, argument }, options)
    this.#settings = settings
    this.#wanted = options.ref ?? true
    this.#first = first
    this.#schedule = this.#plan(intervalNs)
    this.#arm()
  }

  /** Expires every `intervalNs` nanoseconds, for the first time one interval from now. */
  static every(reactor: Reactor, intervalNs: number, options: TimerOptions = {}): TimerFd {
    duration(1)(intervalNs, 'The interval')
    return new TimerFd(reactor, parseTimerOptions('every', options), undefined, intervalNs, options)
  }

  /** Expires `delayNs` nanoseconds from now; once, or with `interval` periodically from then on. */
  static after(reactor: Reactor, delayNs: number, options: TimerStartOptions = {}): TimerFd {
    duration(0)(delayNs, 'The delay')
    return new TimerFd(reactor, parseTimerOptions('after', options), delayNs, options.interval ?? 0, options)
  }

  /**
   * Expires when the clock (default `'realtime'`) shows `instantNs`; once, or with `interval` periodically from then on. An instant
   * that has passed expires at once, a periodic one with everything that was due since.
   * @example
   * import { Reactor } from '@fd-reactor/core'
   * import { ms, TimerFd } from '@fd-reactor/fd-events'
   * const reactor = new Reactor()
   * // The next full tenth of a second, and every tenth from then on.
   * const tenth = BigInt(ms(100))
   * const next = (TimerFd.now('realtime') / tenth + 1n) * tenth
   * const timer = TimerFd.at(reactor, next, { interval: ms(100) })
   * timer.once('tick', () => timer.close())
   * await reactor.run()
   */
  static at(reactor: Reactor, instantNs: bigint, options: TimerStartOptions = {}): TimerFd {
    checkInstant(instantNs, 'The instant')
    return new TimerFd(reactor, parseTimerOptions('at', options), instantNs, options.interval ?? 0, options)
  }

  /** What a clock shows, in nanoseconds: where instants for {@link TimerFd.at} are counted from. */
  static now(clock: TimerClock): bigint {
    return timerfd.now(readableClock(clock))
  }

  /** Whether a tick is still to come. False after `disarm()`, and in the handler of the only tick. */
  get armed(): boolean {
    return !this.closed && (this.#live || this.#kept > 0)
  }

  /** Nanoseconds from one expiration to the next; 0 when there is one only. */
  get intervalNs(): number {
    return this.#schedule.intervalNs
  }

  override get stats(): TimerFdStats {
    return { ...super.stats, expirations: this.#expirations, missed: this.#missed, kept: this.#kept }
  }

  /** Nanoseconds until the next expiration; 0 when it is due or none is to come. @throws ReactorError `ERR_CLOSED`. */
  remainingNs(): number {
    return Number(timerfd.get(this.fd))
  }

  /**
   * Begins anew: `first` nanoseconds from now (of `every` and `after`), or at the instant `first` (of `at`); without it as the last time.
   * The interval stays. What has expired and was not told yet is dropped.
   * @throws TypeError for a duration where an instant is wanted, and the other way round; RangeError; ReactorError `ERR_CLOSED`.
   */
  rearm(first?: number | bigint): this {
    this.assertOpen()
    if (first !== undefined) {
      if (typeof this.#first === 'bigint') checkInstant(first, 'The instant')
      else duration(0)(first, 'The delay')
      this.#first = first
    }
    this.#kept = 0
    this.#schedule = this.#plan(this.#schedule.intervalNs)
    this.#arm()
    return this
  }

  /**
   * Changes the interval and keeps the phase: the new one is counted from the newest expiration (before the first one: from the start of
   * `every`, while the first instant of `after` and `at` stays), and the next tick is the first that is still to come. What has
   * expired by now is still told. A disarmed timer takes it up with `rearm()`.
   * @throws RangeError; ReactorError `ERR_CLOSED`.
   */
  setInterval(intervalNs: number): this {
    this.assertOpen()
    duration(1)(intervalNs, 'The interval')
    const now = timerfd.now(this.#settings.clock)
    // Arming clears the kernel's count, and a count that was drained by now will be taken for one of the old arming.
    if (this.#live) this.#count(this.#schedule.due(now))
    this.#schedule.changeInterval(intervalNs, now)
    if (this.#live) this.#arm()
    this.#tellSoon()
    return this
  }

  /** Stops it until `rearm()`; what has expired and was not told yet is dropped. @throws ReactorError `ERR_CLOSED`. */
  disarm(): this {
    timerfd.set(this.fd, 0, 0n, 0n)
    this.#live = false
    this.#stepped = false
    this.#kept = 0
    return this.#hold()
  }

  override ref(): this {
    this.#wanted = true
    return this.#hold()
  }

  override unref(): this {
    this.#wanted = false
    return this.#hold()
  }

  /** Ends the source and hands over its descriptor, armed as it is. What was taken from it and not told is in `stats.kept`. */
  detach(): FdHandle {
    return this.detachHandle().guard()
  }

  protected get consumerEvents(): readonly string[] {
    return ['tick', 'clockStep']
  }

  protected override get keepsSomething(): boolean {
    return this.#stepped || this.#kept > 0
  }

  onRecord(record: BatchRecord): void {
    this.onSettle(record)
    this.#tell(record)
  }

  override onSettle(record: BatchRecord): void {
    if (!this.#live) return
    if (record.result === ECANCELED) return this.#onClockStep()
    if (record.result < 0) return this.fail(new SystemError(record.result, 'read', { path: this.label }))
    // Read before the last arming: it counts what that arming has replaced.
    if (record.since(this.#armed) >= 0) this.#count(record.numericValue)
  }

  protected override emitKept(): void {
    this.#tell(new Instant(timerfd.now(this.#settings.clock)))
  }

  /** `for await (const { expirations, latenessNs } of timer)`: each tick. */
  async *[Symbol.asyncIterator](): AsyncGenerator<Tick, undefined, undefined> {
    for await (const [expirations, latenessNs] of this.events('tick')) yield { expirations, latenessNs }
  }

  #plan(intervalNs: number): Schedule {
    if (typeof this.#first === 'bigint') return new Schedule(this.#first, intervalNs)
    const now = timerfd.now(this.#settings.clock)
    if (this.#first === undefined) return new Schedule(now + BigInt(intervalNs), intervalNs, now)
    return new Schedule(now + BigInt(this.#first), intervalNs)
  }

  #arm(): void {
    while (!this.#settime()) {
      this.#stepped = true
      this.#schedule.follow(timerfd.now(this.#settings.clock))
    }
    // Read afterwards: the clock cannot be set between this and a later read without that read saying so.
    this.#armed = new Instant(timerfd.now(this.#settings.clock))
    this.#live = true
    this.#hold()
    if (this.#stepped) this.#tellSoon()
  }

  /** False when the clock was set since the kernel was last asked: it has armed the timer, but for a time that is over. */
  #settime(): boolean {
    const { nextNs, intervalNs } = this.#schedule
    const flags = this.#settings.kernelClock.startsWith('realtime')
      ? TimerFlag.Absolute | TimerFlag.CancelOnSet
      : TimerFlag.Absolute
    try {
      timerfd.set(this.fd, flags, nextNs < LAST_INSTANT ? nextNs : LAST_INSTANT, BigInt(intervalNs))
      return true
    } catch (error) {
      if (error instanceof SystemError && error.errno === ECANCELED) return false
      throw error
    }
  }

  #onClockStep(): void {
    this.#stepped = true
    if (this.closed) return
    this.#schedule.follow(timerfd.now(this.#settings.clock))
    this.#arm()
  }

  #count(expirations: number): void {
    this.#schedule.count(expirations)
    this.#expirations += expirations
    this.#kept += expirations
    if (expirations > 0 && this.#schedule.intervalNs === 0) this.#live = false
  }

  /** Emits what is due, as long as somebody takes it: any handler may pause, close, or arm anew. */
  #tell(now: Reading): void {
    if (this.#stepped && this.flowing) {
      this.#stepped = false
      this.emit('clockStep')
    }
    const { catchUp, burstLimit } = this.#settings
    const ticks = catchUp === 'burst' ? burstLimit : 1
    if (catchUp !== 'coalesce' && this.#kept > ticks && this.#canTick) {
      const missed = this.#kept - ticks
      this.#kept = ticks
      this.#missed += missed
      this.emit('missed', missed)
    }
    // Bounded by `ticks`, too: a handler that calls setInterval() may add to what is kept.
    for (let left = ticks; left > 0 && this.#kept > 0 && this.#canTick; left--) {
      const expirations = catchUp === 'coalesce' ? this.#kept : 1
      this.#kept -= expirations
      if (!this.#live) this.#hold() // armed as it is, it holds the process already
      this.fire('tick', expirations, this.#schedule.latenessNs(now, this.#kept))
    }
  }

  get #canTick(): boolean {
    return this.flowing && this.listenerCount('tick') > 0
  }

  #tellSoon(): void {
    if (this.keepsSomething) this.reactor.defer(() => this.emitKept())
  }

  /** Nothing that can no longer tick keeps the process going. */
  #hold(): this {
    return this.#wanted && this.armed ? super.ref() : super.unref()
  }
}
