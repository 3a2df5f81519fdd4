/**
 * The timer's arithmetic against a model that does it the slow way: it lists every due time.
 */
import { Instant } from '@fd-reactor/core'
import { expect, test } from 'vitest'
import { Schedule } from '../src/timer-schedule.js'

/** Beside 0, beside where the upper half of an instant changes, and today's time of day, which no number holds exactly. */
const ORIGINS = [0n, -500n, 2n ** 32n - 500n, 1_795_000_000_000_000_000n]

/** A small seeded generator (mulberry32), so that a failure can be repeated. */
function random(seed: number): (below: number) => number {
  let state = seed
  return (below) => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) % below
  }
}

test('count and lateness are those of a list of due times, for 2,000 random schedules', () => {
  for (let seed = 1; seed <= 2000; seed++) {
    const next = random(seed)
    const firstNs = BigInt(next(1000)) + (ORIGINS[next(ORIGINS.length)] ?? 0n)
    const interval = 1 + next(50)
    const schedule = new Schedule(firstNs, interval)
    const dues: bigint[] = []
    for (let n = 0n; n < 200n; n++) dues.push(firstNs + n * BigInt(interval))
    let counted = 0
    let nowNs = firstNs - 10n
    for (let step = 0; step < 20; step++) {
      nowNs += BigInt(next(100))
      let passed = counted
      while ((dues[passed] ?? nowNs + 1n) <= nowNs) passed++
      if (passed === dues.length) break
      expect(schedule.due(nowNs), `seed ${seed}`).toBe(passed - counted)
      schedule.count(passed - counted)
      counted = passed
      expect(schedule.nextNs, `seed ${seed}`).toBe(dues[counted])
      for (let newer = 0; newer < Math.min(counted, 3); newer++) {
        const lateness = Number(nowNs - (dues[counted - 1 - newer] ?? 0n))
        expect(schedule.latenessNs(new Instant(nowNs), newer), `seed ${seed}`).toBe(lateness)
      }
    }
  }
})

test('after a jump of the clock it goes on at the first point of the grid that is still to come', () => {
  for (let seed = 1; seed <= 2000; seed++) {
    const next = random(seed)
    const firstNs = BigInt(1 + next(1000))
    const interval = 1 + next(50)
    const nowNs = BigInt(next(2000))
    const schedule = new Schedule(firstNs, interval)
    schedule.count(next(100))
    schedule.follow(nowNs)
    let point = firstNs
    while (point <= nowNs) point += BigInt(interval)
    expect(schedule.nextNs, `seed ${seed}`).toBe(point)
  }
})

test('a new interval is counted from the newest expiration, and nothing that has passed comes again', () => {
  for (let seed = 1; seed <= 2000; seed++) {
    const next = random(seed)
    const firstNs = BigInt(1 + next(1000))
    const interval = next(50)
    const schedule = new Schedule(firstNs, interval)
    const nowNs = firstNs + BigInt(next(500))
    schedule.count(schedule.due(nowNs))
    const newestNs = interval === 0 ? firstNs : schedule.nextNs - BigInt(interval)
    const newInterval = 1 + next(80)
    schedule.changeInterval(newInterval, nowNs)
    const newIntervalNs = BigInt(newInterval)
    expect(schedule.nextNs > nowNs, `seed ${seed}`).toBe(true)
    expect(schedule.nextNs - nowNs <= newIntervalNs, `seed ${seed}`).toBe(true)
    expect((schedule.nextNs - newestNs) % newIntervalNs, `seed ${seed}`).toBe(0n)
  }
})

test('before the first expiration, the first instant stays when the interval changes; from a start it is counted anew', () => {
  const instant = new Schedule(100n, 10)
  instant.changeInterval(3, 50n)
  expect(instant.nextNs).toBe(100n)
  const started = new Schedule(100n, 100, 0n)
  started.changeInterval(10, 55n)
  expect(started.nextNs).toBe(60n)
})

test('a single expiration', () => {
  const schedule = new Schedule(100n, 0)
  expect([schedule.due(99n), schedule.due(100n), schedule.due(5000n)]).toEqual([0, 1, 1])
  schedule.follow(5000n)
  expect(schedule.nextNs).toBe(100n)
  schedule.count(1)
  expect(schedule.latenessNs(new Instant(130n))).toBe(30)
  expect(schedule.latenessNs(new Instant(90n)), 'the clock was set back').toBe(0)
})

test('lateness after a jump or a new interval is counted from the expiration that was due, not from the new grid', () => {
  const schedule = new Schedule(100n, 10)
  schedule.count(3) // the newest was due at 120
  schedule.changeInterval(7, 125n)
  expect(schedule.latenessNs(new Instant(126n))).toBe(6)
  schedule.follow(500n)
  expect(schedule.latenessNs(new Instant(126n))).toBe(6)
  schedule.count(1)
  expect(schedule.latenessNs(new Instant(schedule.nextNs))).toBe(7)
})

test('a year of microseconds is counted exactly', () => {
  const schedule = new Schedule(1n, 1000)
  const ticks = 365 * 86_400 * 1_000_000
  schedule.count(ticks)
  expect(schedule.nextNs).toBe(1n + BigInt(ticks) * 1000n)
})

test('instants are subtracted exactly, whichever half differs', () => {
  for (const ns of [0n, 1n, -1n, 2n ** 32n, -(2n ** 32n), 2n ** 62n, 1_795_000_000_000_000_000n]) {
    for (const difference of [0n, 1n, 2n ** 32n - 1n, 2n ** 32n, 2n ** 53n]) {
      const later = new Instant(ns + difference)
      expect(later.since(new Instant(ns)), `${ns} ${difference}`).toBe(Number(difference))
      expect(new Instant(ns).since(later) + Number(difference), `${ns} ${difference}`).toBe(0)
    }
  }
})
