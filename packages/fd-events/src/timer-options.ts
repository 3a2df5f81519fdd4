/**
 * What a timer may be asked for, checked once; and which of the kernel's clocks keeps it.
 */
import { sourceOptionChecks, type SourceOptions } from '@fd-reactor/core'
import { checkOptions, integer, oneOf } from '@fd-reactor/core/sys'

/**
 * A clock. `'monotonic'` never jumps and stands still while the machine is suspended; `'boottime'` goes on then; `'realtime'` is the
 * time of day, which can be set. The alarm clocks wake a suspended machine, and need CAP_WAKE_ALARM.
 */
export type TimerClock = 'monotonic' | 'realtime' | 'boottime' | 'realtime-alarm' | 'boottime-alarm'

/** What becomes of several expirations that are told together, because a handler or the machine was late. */
export type CatchUp = 'coalesce' | 'skip' | 'burst'

/** Options of every timer. */
export interface TimerOptions extends SourceOptions {
  /** Default `'monotonic'`; for an instant, `'realtime'`. */
  clock?: TimerClock
  /**
   * `'coalesce'` (default): one tick with their number. `'skip'`: one tick for the newest, the others are missed. `'burst'`: one tick for
   * each, oldest first; of more than `burstLimit` the oldest are missed. What is missed is told by `'missed'`.
   */
  catchUp?: CatchUp
  /** How many ticks one `'burst'` may have, 1 … 1,000,000. Default 100: waking from suspend must not replay an hour. */
  burstLimit?: number
}

/** Options of a timer whose first expiration is given by itself. */
export interface TimerStartOptions extends TimerOptions {
  /** Nanoseconds from one expiration to the next. Default: there is one only. */
  interval?: number
}

/** A timer's options with every default filled in. */
export interface TimerSettings {
  /** The clock that the kernel keeps the timer on. */
  readonly kernelClock: TimerClock
  /** The same clock as one that can be read. */
  readonly clock: ReadableClock
  readonly catchUp: CatchUp
  readonly burstLimit: number
}

/** clock_gettime(2) refuses alarm clocks on machines without a battery-backed one; each shows what another clock shows. */
export type ReadableClock = 'monotonic' | 'realtime' | 'boottime'

const READABLE: Readonly<Record<TimerClock, ReadableClock>> = {
  monotonic: 'monotonic',
  realtime: 'realtime',
  boottime: 'boottime',
  'realtime-alarm': 'realtime',
  'boottime-alarm': 'boottime',
}

// A duration must not change when the clock is set. The kernel, too, keeps relative timers of the realtime clock on the monotonic one
// (POSIX asks for it), but not those of the alarm clock. On a clock that is never set every due time is known exactly.
const FOR_DURATIONS: Readonly<Record<TimerClock, TimerClock>> = {
  monotonic: 'monotonic',
  realtime: 'monotonic',
  boottime: 'boottime',
  'realtime-alarm': 'boottime-alarm',
  'boottime-alarm': 'boottime-alarm',
}

/** The last instant that the kernel's ktime_t holds, 292 years after a clock's zero. */
export const LAST_INSTANT = 2n ** 63n - 1n
const LONGEST = 2 ** 63 - 1024 // the largest number below 2 ** 63

const clock = oneOf(...Object.keys(READABLE))

/** Checks a duration in nanoseconds, for use as an option check too. */
export function duration(least: 0 | 1) {
  return (value: unknown, name: string): void => {
    const fits = typeof value !== 'number' || (Number.isInteger(value) && value >= least && value <= LONGEST)
    if (fits) return integer(least, LONGEST)(value, name) // refuses other types
    const range = `${least} … ${LONGEST} nanoseconds (292 years, what the kernel holds)`
    throw Object.assign(new RangeError(`${name} must be an integer from ${range}, not ${value}`), {
      code: 'ERR_OUT_OF_RANGE',
    })
  }
}

/** Checks an instant in nanoseconds of its clock. */
export function checkInstant(value: unknown, name: string): void {
  if (typeof value !== 'bigint') {
    const error = new TypeError(
      `${name} must be a bigint of nanoseconds, not ${typeof value} ${String(value)}`,
    )
    throw Object.assign(error, { code: 'ERR_INVALID_ARG_TYPE' })
  }
  if (value >= 1n && value <= LAST_INSTANT) return
  const error = new RangeError(
    `${name} must be from 1n to 2n ** 63n - 1n (292 years, what the kernel holds), not ${value}n`,
  )
  throw Object.assign(error, { code: 'ERR_OUT_OF_RANGE' })
}

/** Checks a clock's name and gives the one that can be read for it. */
export function readableClock(name: TimerClock): ReadableClock {
  clock(name, 'The clock')
  return READABLE[name]
}

/** Checks the options of the factory `what`; a duration and an instant want different clocks. */
export function parseTimerOptions(what: 'every' | 'after' | 'at', options: TimerStartOptions): TimerSettings {
  checkOptions(`TimerFd.${what}`, options, {
    ...sourceOptionChecks,
    clock,
    catchUp: oneOf('coalesce', 'skip', 'burst'),
    burstLimit: integer(1, 1_000_000),
    ...(what !== 'every' && { interval: duration(1) }),
  })
  const { catchUp = 'coalesce', burstLimit = 100 } = options
  const kernelClock =
    what === 'at' ? (options.clock ?? 'realtime') : FOR_DURATIONS[options.clock ?? 'monotonic']
  return { kernelClock, clock: READABLE[kernelClock], catchUp, burstLimit }
}
