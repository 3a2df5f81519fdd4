/**
 * Durations: nanoseconds as a number, made from the units that people think in.
 *
 * A number holds every nanosecond up to 104 days exactly, and larger durations to 16 digits.
 */

/** What floating-point multiplication adds to a whole number of nanoseconds is taken off again; a real fraction is rounded up. */
function nanoseconds(value: number, unitNs: number, unit: string): number {
  if (typeof value !== 'number')
    throw new TypeError(`${unit}() takes a number, not ${typeof value} ${String(value)}`)
  const exact = value * unitNs
  if (!Number.isFinite(exact) || exact < 0)
    throw new RangeError(`${unit}() takes a number from 0 on, not ${value}`)
  const nearest = Math.round(exact)
  return Math.abs(nearest - exact) <= exact * Number.EPSILON ? nearest : Math.ceil(exact)
}

/**
 * Microseconds as nanoseconds, rounded up.
 * @throws RangeError for NaN, an infinite or a negative number.
 * @example
 * import { us } from '@fd-reactor/fd-events'
 * console.log(us(2.5)) // 2500
 */
export function us(microseconds: number): number {
  return nanoseconds(microseconds, 1e3, 'us')
}

/**
 * Milliseconds as nanoseconds, rounded up.
 * @throws RangeError for NaN, an infinite or a negative number.
 * @example
 * import { ms } from '@fd-reactor/fd-events'
 * console.log(ms(2.5)) // 2500000
 */
export function ms(milliseconds: number): number {
  return nanoseconds(milliseconds, 1e6, 'ms')
}

/**
 * Seconds as nanoseconds, rounded up.
 * @throws RangeError for NaN, an infinite or a negative number.
 * @example
 * import { seconds } from '@fd-reactor/fd-events'
 * console.log(seconds(0.25)) // 250000000
 */
export function seconds(count: number): number {
  return nanoseconds(count, 1e9, 'seconds')
}

/**
 * Minutes as nanoseconds, rounded up.
 * @throws RangeError for NaN, an infinite or a negative number.
 * @example
 * import { minutes } from '@fd-reactor/fd-events'
 * console.log(minutes(1)) // 60000000000
 */
export function minutes(count: number): number {
  return nanoseconds(count, 60e9, 'minutes')
}
