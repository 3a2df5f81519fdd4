/**
 * TimerFd against the real kernel. Where the order within a batch matters, the reactor is driven by hand: timers are made, the
 * thread is kept busy until they are due, and one `dispatch()` delivers them all.
 */
import { once } from '@fd-reactor/core'
import type { Reactor } from '@fd-reactor/core'
import { describe, expect, test } from 'vitest'
import { assertNoLeakedFds } from '../../core/test/support/fds.js'
import { openManual, openReactor } from '../../core/test/support/reactors.js'
import { within } from '../../core/test/support/wait.js'
import { ms, seconds } from '@fd-reactor/fd-events'
import { TimerFd } from '@fd-reactor/fd-events'

assertNoLeakedFds()

const now = (): bigint => process.hrtime.bigint()

/** Keeps the thread busy. */
function spin(ns: number): void {
  const end = now() + BigInt(ns)
  while (now() < end);
}

type Told = [expirations: number, latenessNs: number]

function collect(timer: TimerFd): Told[] {
  const told: Told[] = []
  timer.on('tick', (...tick) => told.push(tick))
  return told
}

const total = (told: Told[]): number => told.reduce((sum, [expirations]) => sum + expirations, 0)

/** Dispatches, and says when: the kernel's counters are read between the two instants. */
function dispatch(reactor: Reactor): [from: bigint, to: bigint] {
  const from = now()
  reactor.dispatch()
  return [from, now()]
}

describe('ticks', () => {
  test('do not drift: over 300 periods the due times stay on the grid that began with the timer', async () => {
    const reactor = openReactor()
    const interval = ms(1)
    const earliest = now()
    const timer = TimerFd.every(reactor, interval)
    const uncertain = Number(now() - earliest)
    let expired = 0
    const delays: number[] = []
    timer.on('tick', (expirations, latenessNs) => {
      expect(Number.isInteger(expirations) && expirations >= 1).toBe(true)
      expect(Number.isInteger(latenessNs) && latenessNs >= 0).toBe(true)
      expired += expirations
      // What has passed since the newest expiration, less what the tick calls late: the way from the drain to this handler.
      delays.push(Number(now() - earliest) - expired * interval - latenessNs)
      if (expired >= 300) timer.close()
    })
    await within(reactor.run(), 'the end of run()')
    expect(Math.min(...delays)).toBeGreaterThanOrEqual(0)
    expect(Math.min(...delays.slice(-50)), 'drift').toBeLessThan(interval + uncertain)
  })

  test('count what passed while the handler blocked, and the next one is on schedule (coalesce)', () => {
    const reactor = openManual()
    const earliest = now()
    const timer = TimerFd.every(reactor, ms(5))
    const latest = now()
    const told = collect(timer)
    spin(ms(23))
    const [from, to] = dispatch(reactor)
    expect(told).toHaveLength(1)
    const [expirations, latenessNs] = told[0] ?? [0, 0]
    expect(expirations).toBeGreaterThanOrEqual(4)
    expect(latenessNs).toBeLessThan(ms(5))
    const due = BigInt(expirations * ms(5) + latenessNs)
    expect(earliest + due <= to && latest + due >= from).toBe(true)
    expect(timer.stats).toMatchObject({ expirations, missed: 0, kept: 0 })
  })

  test("'skip' tells the newest, and how many were missed", () => {
    const reactor = openManual()
    const timer = TimerFd.every(reactor, ms(5), { catchUp: 'skip' })
    const events: [string, number][] = []
    timer.on('missed', (expirations) => events.push(['missed', expirations]))
    timer.on('tick', (expirations, latenessNs) => {
      expect(latenessNs).toBeLessThan(ms(5))
      events.push(['tick', expirations])
    })
    spin(ms(23))
    reactor.dispatch()
    const { expirations, missed } = timer.stats
    expect(expirations).toBeGreaterThanOrEqual(4)
    expect(missed).toBe(expirations - 1)
    expect(events).toEqual([
      ['missed', missed],
      ['tick', 1],
    ])
  })

  test("'burst' tells each, oldest first, and how late that one is", () => {
    const reactor = openManual()
    const timer = TimerFd.every(reactor, ms(5), { catchUp: 'burst' })
    const told = collect(timer)
    spin(ms(23))
    reactor.dispatch()
    expect(told.length).toBe(timer.stats.expirations)
    expect(told.length).toBeGreaterThanOrEqual(4)
    told.forEach(([expirations, latenessNs], index) => {
      expect(expirations).toBe(1)
      const newest = told.at(-1)?.[1] ?? NaN
      expect(latenessNs).toBe(newest + (told.length - 1 - index) * ms(5))
    })
  })

  test("'burst' is bounded: of a million periods the newest hundred are told, the others counted as missed", () => {
    const reactor = openManual()
    const timer = TimerFd.every(reactor, 1, { catchUp: 'burst' })
    const told = collect(timer)
    const missed: number[] = []
    timer.on('missed', (expirations) => missed.push(expirations))
    spin(ms(1))
    reactor.dispatch()
    expect(told).toHaveLength(100)
    expect(timer.stats.expirations).toBeGreaterThan(1_000_000)
    expect(missed).toEqual([timer.stats.expirations - 100])
    timer.close()
    const two = TimerFd.every(reactor, ms(2), { catchUp: 'burst', burstLimit: 2 })
    const few = collect(two)
    spin(ms(9))
    reactor.dispatch()
    expect(few).toHaveLength(2)
    expect(two.stats.missed).toBe(two.stats.expirations - 2)
  })

  test('wait while nobody listens or the timer is paused, and are counted', () => {
    const reactor = openManual()
    const timer = TimerFd.every(reactor, ms(2))
    spin(ms(5))
    expect(reactor.dispatch()).toBe(0)
    const told = collect(timer)
    reactor.dispatch()
    expect(total(told)).toBeGreaterThanOrEqual(2)
    timer.pause()
    const paused = total(told)
    spin(ms(5))
    reactor.dispatch()
    expect(total(told)).toBe(paused)
    timer.resume()
    reactor.dispatch()
    expect(total(told)).toBeGreaterThanOrEqual(paused + 2)
    expect(timer.stats.expirations).toBe(total(told))
  })

  test('come to for await, to once(), and to an iterator that lags', async () => {
    const reactor = openReactor()
    const timer = TimerFd.every(reactor, ms(1))
    const [first] = await once(timer, 'tick', { signal: AbortSignal.timeout(5000) })
    expect(first).toBeGreaterThanOrEqual(1)
    let seen = 0
    for await (const { expirations, latenessNs } of timer) {
      expect(latenessNs).toBeGreaterThanOrEqual(0)
      seen += expirations
      spin(ms(3))
      if (seen >= 100) break
    }
    expect(timer.stats.expirations).toBeGreaterThan(seen)
  })

  test('are typed', () => {
    const timer = TimerFd.every(openReactor(), seconds(1))
    timer.on('tick', (expirations: number, latenessNs: number) => [expirations, latenessNs])
    // @ts-expect-error there is no such event
    timer.off('tock', () => undefined)
    // @ts-expect-error counts are numbers
    timer.off('tick', (expirations: bigint) => expirations)
  })
})

describe('a single expiration', () => {
  test('comes once; then nothing is armed, and run() ends by itself', async () => {
    const reactor = openReactor()
    const earliest = now()
    const timer = TimerFd.after(reactor, ms(3))
    expect(timer.armed).toBe(true)
    let ticks = 0
    timer.on('tick', (expirations, latenessNs) => {
      ticks++
      expect(expirations).toBe(1)
      expect(Number(now() - earliest)).toBeGreaterThanOrEqual(ms(3) + latenessNs)
      expect(timer.armed).toBe(false)
    })
    expect(await within(reactor.run(), 'the end of run()')).toBe(0)
    expect(ticks).toBe(1)
  })

  test('can be armed again in its own handler', async () => {
    const reactor = openReactor()
    const timer = TimerFd.after(reactor, 0)
    let ticks = 0
    timer.on('tick', () => {
      if (++ticks < 5) timer.rearm(ms(ticks))
      expect(timer.armed).toBe(ticks < 5)
    })
    expect(await within(reactor.run(), 'the end of run()')).toBe(0)
    expect(ticks).toBe(5)
  })

  test('of an instant that has passed comes at once and says how late it is', () => {
    const reactor = openManual()
    for (const clock of ['monotonic', 'boottime', 'realtime'] as const) {
      const timer = TimerFd.at(reactor, TimerFd.now(clock) - BigInt(seconds(1)), { clock })
      const told = collect(timer)
      reactor.dispatch()
      expect(told).toEqual([[1, expect.any(Number)]])
      expect(told[0]?.[1]).toBeGreaterThanOrEqual(seconds(1))
      expect(told[0]?.[1]).toBeLessThan(seconds(2))
    }
  })

  test('with an interval is followed by others; everything since a passed instant is counted', () => {
    const reactor = openManual()
    const start = TimerFd.now('realtime') - BigInt(seconds(10)) - BigInt(ms(500))
    const at = collect(TimerFd.at(reactor, start, { interval: seconds(1) }))
    const after = collect(TimerFd.after(reactor, ms(1), { interval: ms(4), clock: 'boottime' }))
    spin(ms(6))
    reactor.dispatch()
    expect(at).toEqual([[11, expect.any(Number)]])
    expect(at[0]?.[1]).toBeGreaterThanOrEqual(ms(500))
    expect(total(after)).toBeGreaterThanOrEqual(2)
  })

  test('of a paused timer waits, and keeps it armed', () => {
    const reactor = openManual()
    const timer = TimerFd.after(reactor, 0)
    const told = collect(timer)
    timer.pause()
    spin(ms(1))
    reactor.dispatch()
    expect(told).toHaveLength(0)
    expect(timer.armed).toBe(true)
    timer.resume()
    reactor.dispatch()
    expect(told).toHaveLength(1)
  })
})

describe('in the middle of a batch', () => {
  /** Two due timers; whichever is delivered first does `act` to the other, whose expiration is drained by then. */
  function pair(
    act: (other: TimerFd) => void,
    interval?: number,
  ): { other: TimerFd; told: Told[]; reactor: Reactor } {
    const reactor = openManual()
    const timers = [0, 1].map(() => TimerFd.after(reactor, ms(1), interval === undefined ? {} : { interval }))
    const tolds: Told[][] = []
    let acted: number | undefined
    timers.forEach((timer, index) => {
      const told: Told[] = []
      tolds.push(told)
      timer.on('tick', (...tick) => {
        told.push(tick)
        if (acted !== undefined) return
        acted = 1 - index
        const other = timers[acted]
        if (other) act(other)
      })
    })
    spin(ms(2))
    expect(reactor.dispatch(), 'both in one batch').toBe(2)
    const other = timers[acted ?? -1]
    const told = tolds[acted ?? -1]
    if (!other || !told) throw new Error('no timer was delivered')
    return { other, told, reactor }
  }

  test('disarm() takes the tick back', () => {
    const { other, told, reactor } = pair((timer) => timer.disarm())
    expect(other.armed).toBe(false)
    expect(other.remainingNs()).toBe(0)
    spin(ms(3))
    reactor.dispatch()
    expect(told).toEqual([])
  })

  test('rearm() takes the old tick back, and the new one comes when it is due', () => {
    let rearmed = 0n
    const { other, told, reactor } = pair((timer) => {
      rearmed = now()
      timer.rearm(ms(5))
    })
    expect(told).toEqual([])
    expect(other.armed).toBe(true)
    spin(ms(6))
    const [from, to] = dispatch(reactor)
    expect(told).toEqual([[1, expect.any(Number)]])
    const due = rearmed + BigInt(ms(5) + (told[0]?.[1] ?? 0))
    expect(due <= to && due + BigInt(ms(1)) >= from).toBe(true)
  })

  test('rearm() without a delay, and after disarm(), does as the first time', () => {
    const { told, reactor } = pair((timer) => timer.disarm().rearm())
    expect(told).toEqual([])
    spin(ms(2))
    reactor.dispatch()
    expect(told).toEqual([[1, expect.any(Number)]])
  })

  test('pause() keeps what was drained, and resume() tells it with its lateness of then', () => {
    const { other, told, reactor } = pair((timer) => timer.pause())
    expect(told).toEqual([])
    expect(other.stats.kept).toBe(1)
    expect(other.armed).toBe(true)
    spin(ms(3))
    other.resume()
    reactor.dispatch()
    expect(told).toEqual([[1, expect.any(Number)]])
    expect(told[0]?.[1]).toBeGreaterThan(ms(3))
  })

  test('setInterval() loses nothing and doubles nothing of what had passed', () => {
    let blocked = 0
    const { other, told, reactor } = pair((timer) => {
      spin(ms(3)) // more of the old periods pass after the drain
      timer.setInterval(seconds(100))
      blocked = timer.stats.kept
    }, ms(1))
    expect(blocked).toBeGreaterThanOrEqual(4)
    reactor.dispatch()
    expect(total(told)).toBe(blocked)
    expect(other.stats.expirations).toBe(blocked)
    expect(other.remainingNs()).toBeGreaterThan(seconds(99))
  })

  test('close() ends it at once', () => {
    const { other, told } = pair((timer) => timer.close())
    expect(told).toEqual([])
    expect(other.armed).toBe(false)
    expect(() => other.rearm()).toThrow(expect.objectContaining({ code: 'ERR_CLOSED' }))
  })

  test('detach() says what was taken, and the descriptor goes on counting', () => {
    let handle: ReturnType<TimerFd['detach']> | undefined
    const { other, told } = pair((timer) => {
      handle = timer.detach()
    }, ms(1))
    expect(told).toEqual([])
    expect(other.stats.kept).toBeGreaterThanOrEqual(1)
    expect(handle?.closed).toBe(false)
    handle?.close()
  })

  test.each(['disarm', 'rearm', 'close', 'pause', 'throw'] as const)('%s within a burst', (act) => {
    const errors: unknown[] = []
    const reactor = openManual({ onHandlerError: (error) => errors.push(error) })
    const timer = TimerFd.every(reactor, ms(2), { catchUp: 'burst' })
    let ticks = 0
    timer.on('tick', () => {
      if (++ticks !== 2) return
      if (act === 'throw') throw new Error('tick')
      if (act === 'rearm') timer.rearm(seconds(100))
      else timer[act]()
    })
    spin(ms(11))
    reactor.dispatch()
    expect(ticks).toBe(2)
    expect(errors).toHaveLength(act === 'throw' ? 1 : 0)
    const { expirations, kept } = timer.stats
    expect(kept).toBe(act === 'disarm' || act === 'rearm' ? 0 : expirations - 2)
    if (act === 'pause') timer.resume()
    if (act === 'throw') spin(ms(2))
    if (act === 'rearm') expect(timer.remainingNs()).toBeGreaterThan(seconds(99))
    reactor.dispatch()
    expect(ticks).toBe(act === 'pause' || act === 'throw' ? timer.stats.expirations : 2)
  })

  test('a handler that blocks and calls setInterval() each time does not keep the loop for ever', () => {
    const reactor = openManual()
    const timer = TimerFd.every(reactor, ms(1))
    let ticks = 0
    timer.on('tick', () => {
      ticks++
      spin(ms(2))
      timer.setInterval(ms(1))
    })
    spin(ms(2))
    reactor.dispatch()
    expect(ticks).toBeLessThanOrEqual(2)
  })
})

describe('changing it', () => {
  test('setInterval() keeps the phase of the newest expiration', () => {
    const reactor = openManual()
    const earliest = now()
    const timer = TimerFd.every(reactor, ms(10))
    const latest = now()
    const told = collect(timer)
    spin(ms(12))
    reactor.dispatch()
    const passed = total(told) // 1, or more on a busy machine
    timer.setInterval(ms(7))
    expect(timer.intervalNs).toBe(ms(7))
    expect(timer.remainingNs()).toBeLessThanOrEqual(ms(7))
    spin(timer.remainingNs() + ms(1))
    const [from, to] = dispatch(reactor)
    const [expirations = 0, latenessNs = 0] = told[1] ?? []
    expect(told).toHaveLength(2)
    // The newest is due at start + passed × 10 ms + k × 7 ms, for some k ≥ the number of expirations told.
    const offset = Number(to - earliest) - latenessNs - passed * ms(10)
    const periods = Math.floor(offset / ms(7))
    expect(periods).toBeGreaterThanOrEqual(expirations)
    const due = BigInt(passed * ms(10) + periods * ms(7) + latenessNs)
    expect(earliest + due <= to && latest + due >= from).toBe(true)
  })

  test('setInterval() before the first expiration counts from the start of every(), and makes after() periodic', () => {
    const reactor = openReactor()
    const every = TimerFd.every(reactor, seconds(3600))
    every.setInterval(ms(50))
    expect(every.remainingNs()).toBeLessThanOrEqual(ms(50))
    const after = TimerFd.after(reactor, seconds(50))
    after.setInterval(ms(1))
    expect(after.remainingNs()).toBeGreaterThan(seconds(49))
    expect(after.intervalNs).toBe(ms(1))
  })

  test('a disarmed timer takes up a new interval with rearm()', async () => {
    const reactor = openReactor()
    const timer = TimerFd.every(reactor, seconds(100)).disarm()
    timer.setInterval(ms(2))
    expect([timer.armed, timer.remainingNs()]).toEqual([false, 0])
    timer.rearm()
    await once(timer, 'tick', { signal: AbortSignal.timeout(5000) })
    expect(timer.armed).toBe(true)
  })

  test('what cannot tick keeps run() no longer than unref() does', async () => {
    const reactor = openReactor()
    TimerFd.every(reactor, ms(1)).disarm()
    TimerFd.every(reactor, ms(1), { ref: false }).rearm()
    TimerFd.every(reactor, ms(1)).unref().rearm()
    TimerFd.every(reactor, ms(1)).unref().disarm().ref()
    expect(await within(reactor.run(), 'the end of run()')).toBe(0)
  })

  test('close() in its own handler, an aborted signal, and `using`', async () => {
    const reactor = openReactor()
    const abort = new AbortController()
    const aborted = TimerFd.every(reactor, ms(1), { signal: abort.signal })
    const timer = TimerFd.every(reactor, ms(1))
    let ticks = 0
    timer.on('tick', () => {
      ticks++
      timer.close()
      timer.close()
      abort.abort()
    })
    expect(await within(reactor.run(), 'the end of run()')).toBe(0)
    expect(ticks).toBe(1)
    expect(aborted.closed).toBe(true)
    expect(() => TimerFd.every(reactor, ms(1))).toThrow(expect.objectContaining({ code: 'ERR_CLOSED' }))
    expect(() => TimerFd.every(openReactor(), ms(1), { signal: abort.signal })).toThrow(
      expect.objectContaining({ name: 'AbortError' }),
    )
  })
})

describe('refused', () => {
  test.each([0, -1, 0.5, NaN, Infinity, 2 ** 63, 1e300])('an interval of %d', (interval) => {
    const reactor = openReactor()
    const error = /must be an integer from 1 … \d+ nanoseconds \(292 years.*\), not /
    expect(() => TimerFd.every(reactor, interval)).toThrow(RangeError)
    expect(() => TimerFd.every(reactor, interval)).toThrow(error)
    expect(() => TimerFd.after(reactor, ms(1), { interval })).toThrow(error)
    expect(() => TimerFd.at(reactor, 1n, { interval })).toThrow(error)
    expect(() => TimerFd.every(reactor, 1).setInterval(interval)).toThrow(error)
  })

  test('durations and instants of the wrong kind or size', () => {
    const reactor = openReactor()
    expect(() => TimerFd.every(reactor, '1' as never)).toThrow(TypeError)
    expect(() => TimerFd.after(reactor, 1n as never)).toThrow(TypeError)
    expect(() => TimerFd.at(reactor, 1 as never)).toThrow(TypeError)
    expect(() => TimerFd.after(reactor, -1)).toThrow(RangeError)
    for (const instant of [-1n, 0n, 2n ** 63n])
      expect(() => TimerFd.at(reactor, instant)).toThrow(/292 years/)
    const every = TimerFd.every(reactor, seconds(1))
    const at = TimerFd.at(reactor, 2n ** 63n - 1n)
    expect(() => every.rearm(1n)).toThrow(TypeError)
    expect(() => at.rearm(1)).toThrow(TypeError)
    expect([every.armed, at.armed]).toEqual([true, true])
  })

  test('options that do not exist or do not fit', () => {
    const reactor = openReactor()
    const every = (options: object) => (): TimerFd => TimerFd.every(reactor, 1, options)
    expect(every({ catchup: 'skip' })).toThrow(
      "TimerFd.every has no option 'catchup'; did you mean 'catchUp'?",
    )
    expect(every({ interval: 5 })).toThrow(TypeError)
    expect(every({ catchUp: 'all' })).toThrow(TypeError)
    expect(every({ clock: 'tai' })).toThrow(TypeError)
    expect(every({ burstLimit: 0 })).toThrow(RangeError)
    expect(() => TimerFd.now('tai' as never)).toThrow(TypeError)
  })

  test('nothing that the kernel can hold: 292 years are armed, and saturate', () => {
    const reactor = openManual()
    const longest = 2 ** 63 - 1024
    const timer = TimerFd.every(reactor, longest)
    const told = collect(timer)
    expect(timer.remainingNs()).toBeGreaterThan(longest - seconds(10 ** 8))
    TimerFd.after(reactor, longest, { interval: longest, clock: 'realtime' })
    reactor.dispatch()
    expect(told).toEqual([])
  })
})
