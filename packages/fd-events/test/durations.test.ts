import { minutes, ms, seconds, us } from '@fd-reactor/fd-events'
import { expect, test } from 'vitest'

test('each unit gives whole nanoseconds', () => {
  expect([us(1), ms(1), seconds(1), minutes(1)]).toEqual([1e3, 1e6, 1e9, 60e9])
  expect([us(0), ms(0.25), seconds(1.5), minutes(0.5)]).toEqual([0, 250_000, 1_500_000_000, 30e9])
})

test('a fraction of a nanosecond is rounded up, an error of floating point is not', () => {
  expect(us(0.0001)).toBe(1)
  expect(us(1.0001)).toBe(1001)
  expect(0.07 * 60e9).toBeGreaterThan(4_200_000_000)
  expect(minutes(0.07)).toBe(4_200_000_000)
  expect(1.001 * 1e6).toBeLessThan(1_001_000)
  expect(ms(1.001)).toBe(1_001_000)
  for (let tenths = 1; tenths < 20_000; tenths++) expect(ms(tenths / 10)).toBe(tenths * 100_000)
})

test('what is no duration is refused', () => {
  for (const unit of [us, ms, seconds, minutes]) {
    for (const value of [NaN, Infinity, -Infinity, -1, 1e308]) expect(() => unit(value)).toThrow(RangeError)
    for (const value of ['1', 1n, undefined, null]) expect(() => unit(value as never)).toThrow(TypeError)
  }
})
