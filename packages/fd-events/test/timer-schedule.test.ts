/**
 * The timer's arithmetic against a model that does it the slow way: it lists every due time.
 */
import { expect, test } from 'vitest'
import { Schedule } from '../src/timer-schedule.js'

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
    const firstNs = BigInt(next(1000))
    const intervalNs = BigInt(1 + next(50))
    const schedule = new Schedule(firstNs, intervalNs)
    const dues: bigint[] = []
    for (let n = 0n; n < 200n; n++) dues.push(firstNs + n * intervalNs)
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
        expect(schedule.latenessNs(nowNs, newer), `seed ${seed}`).toBe(lateness)
      }
    }
  }
})

test('after a jump of the clock it goes on at the first point of the grid that is still to come', () => {
  for (let seed = 1; seed <= 2000; seed++) {
    const next = random(seed)
    const firstNs = BigInt(1 + next(1000))
    const intervalNs = BigInt(1 + next(50))
    const nowNs = BigInt(next(2000))
    const schedule = new Schedule(firstNs, intervalNs)
    schedule.count(next(100))
    schedule.follow(nowNs)
    let point = firstNs
    while (point <= nowNs) point += intervalNs
    expect(schedule.nextNs, `seed ${seed}`).toBe(point)
  }
})

test('a new interval is counted from the newest expiration, and nothing that has passed comes again', () => {
  for (let seed = 1; seed <= 2000; seed++) {
    const next = random(seed)
    const firstNs = BigInt(1 + next(1000))
    const intervalNs = BigInt(next(50))
    const schedule = new Schedule(firstNs, intervalNs)
    const nowNs = firstNs + BigInt(next(500))
    schedule.count(schedule.due(nowNs))
    const newestNs = intervalNs === 0n ? firstNs : schedule.nextNs - intervalNs
    const newIntervalNs = BigInt(1 + next(80))
    schedule.changeInterval(newIntervalNs, nowNs)
    expect(schedule.nextNs > nowNs, `seed ${seed}`).toBe(true)
    expect(schedule.nextNs - nowNs <= newIntervalNs, `seed ${seed}`).toBe(true)
    expect((schedule.nextNs - newestNs) % newIntervalNs, `seed ${seed}`).toBe(0n)
  }
})

test('before the first expiration, the first instant stays when the interval changes; from a start it is counted anew', () => {
  const instant = new Schedule(100n, 10n)
  instant.changeInterval(3n, 50n)
  expect(instant.nextNs).toBe(100n)
  const started = new Schedule(100n, 100n, 0n)
  started.changeInterval(10n, 55n)
  expect(started.nextNs).toBe(60n)
})

test('a single expiration', () => {
  const schedule = new Schedule(100n, 0n)
  expect([schedule.due(99n), schedule.due(100n), schedule.due(5000n)]).toEqual([0, 1, 1])
  schedule.follow(5000n)
  expect(schedule.nextNs).toBe(100n)
  schedule.count(1)
  expect(schedule.latenessNs(130n)).toBe(30)
  expect(schedule.latenessNs(90n), 'the clock was set back').toBe(0)
})
