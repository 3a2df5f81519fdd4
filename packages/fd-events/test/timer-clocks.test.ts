/**
 * TimerFd when the time of day is set, and on the alarm clocks. The clock is set for milliseconds at a time, and set back even when a
 * test fails.
 */
import type { Reactor } from '@fd-reactor/core'
import { describe, expect, onTestFinished, test, type TestContext } from 'vitest'
import { testAddon } from '../../core/test/support/addon.js'
import { runScript } from '../../core/test/support/child.js'
import { assertNoLeakedFds } from '../../core/test/support/fds.js'
import { openManual } from '../../core/test/support/reactors.js'
import { ms, seconds } from '@fd-reactor/fd-events'
import { TimerFd } from '@fd-reactor/fd-events'

assertNoLeakedFds()

interface ClockStepper {
  /** Sets the realtime clock forward, or back, by nanoseconds; 0 or -errno. */
  clockStep(ns: number): number
}

function isClockStepper(addon: unknown): addon is ClockStepper {
  return typeof addon === 'object' && addon !== null && 'clockStep' in addon
}

/** A function that sets the clock, and what it did is undone after the test. Skips where that is impossible. */
function clockStepper(context: TestContext): (ns: number) => void {
  const addon: unknown = testAddon()
  if (!isClockStepper(addon)) return context.skip('the test addon, which sets the clock, was not built')
  const result = addon.clockStep(0)
  if (result < 0)
    return context.skip(`the realtime clock cannot be set here: errno ${-result} (it needs CAP_SYS_TIME)`)
  let offset = 0
  onTestFinished(() => void addon.clockStep(-offset))
  return (ns) => {
    offset += ns
    expect(addon.clockStep(ns)).toBe(0)
  }
}

/** Why alarm clocks cannot be had here, if they cannot. */
function refusedAlarms(): string | undefined {
  try {
    TimerFd.after(openManual(), 1, { clock: 'boottime-alarm' }).close()
    return undefined
  } catch (error) {
    return String(error)
  }
}

function spin(ns: number): void {
  const end = process.hrtime.bigint() + BigInt(ns)
  while (process.hrtime.bigint() < end);
}

/** Busy until `timer` is due, then one dispatch. */
function spinAndDispatch(reactor: Reactor, timer: TimerFd): void {
  spin(timer.remainingNs() + ms(0.1))
  reactor.dispatch()
}

type Told = string | [expirations: number, latenessNs: number]

function collect(timer: TimerFd): Told[] {
  const told: Told[] = []
  timer.on('clockStep', () => told.push('clockStep'))
  timer.on('tick', (...tick) => told.push(tick))
  return told
}

const anyTick = [expect.any(Number), expect.any(Number)]
const STEP = seconds(20)
const soon = (ns: number): bigint => TimerFd.now('realtime') + BigInt(ns)

/** Which way the clock goes, and back again. */
describe.each([
  ['forward', STEP],
  ['back', -STEP],
])('the clock is set %s', (_way, by) => {
  test('a periodic timer goes on at the next point of its schedule', (context) => {
    const step = clockStepper(context)
    const reactor = openManual()
    const first = soon(-3 * STEP) // so that it has begun before either step
    const interval = ms(100)
    const timer = TimerFd.at(reactor, first, { interval })
    const told = collect(timer)
    reactor.dispatch()
    told.length = 0
    for (const way of [by, -by]) {
      step(way)
      reactor.dispatch()
      expect(told.splice(0)).toEqual(['clockStep'])
      expect(timer.armed).toBe(true)
      expect(timer.remainingNs()).toBeLessThanOrEqual(interval)
      const from = TimerFd.now('realtime')
      spinAndDispatch(reactor, timer)
      const to = TimerFd.now('realtime')
      const [tick, ...others] = told.splice(0)
      expect(others).toEqual([])
      // What the clock jumped over is not counted.
      expect(tick).toEqual(anyTick)
      expect(tick?.[0]).toBeLessThanOrEqual(Number(to - from) / interval + 1)
      expect(tick?.[1]).toBeLessThan(interval)
      // The phase is that of the first instant: the next one lies on the grid, but for the time that asking takes.
      const asked = TimerFd.now('realtime')
      const next = asked + BigInt(timer.remainingNs())
      const uncertain = Number(TimerFd.now('realtime') - asked)
      expect(Number(next + BigInt(uncertain) - first) % interval).toBeLessThanOrEqual(uncertain)
    }
  })

  test('an instant is an instant: it comes when the clock shows it', (context) => {
    const step = clockStepper(context)
    const reactor = openManual()
    const timer = TimerFd.at(reactor, soon(seconds(5)))
    const told = collect(timer)
    step(by)
    reactor.dispatch()
    expect(told.splice(0)).toEqual(['clockStep'])
    if (by < 0) {
      expect(timer.remainingNs()).toBeGreaterThan(STEP)
      step(-by + seconds(5))
      reactor.dispatch()
      expect(told.splice(0)).toEqual(['clockStep'])
    }
    reactor.dispatch()
    expect(told).toEqual([[1, expect.any(Number)]])
    expect(timer.armed).toBe(false)
    if (by > 0) expect(told[0]?.[1]).toBeGreaterThan(STEP - seconds(6))
  })

  test('a duration is a duration, on the realtime clocks too', (context) => {
    const step = clockStepper(context)
    const reactor = openManual()
    for (const clock of refusedAlarms()
      ? (['realtime'] as const)
      : (['realtime', 'realtime-alarm'] as const)) {
      const timer = TimerFd.after(reactor, ms(50), { clock, interval: seconds(500) })
      const told = collect(timer)
      step(by)
      reactor.dispatch()
      expect(told).toEqual([])
      expect(timer.remainingNs()).toBeLessThanOrEqual(ms(50))
      spinAndDispatch(reactor, timer)
      expect(told).toEqual([[1, expect.any(Number)]])
      expect(told[0]?.[1]).toBeLessThan(seconds(1))
    }
  })

  test('a timer that is not armed says nothing', (context) => {
    const step = clockStepper(context)
    const reactor = openManual()
    const over = TimerFd.at(reactor, soon(0))
    const disarmed = TimerFd.at(reactor, soon(seconds(5)))
    const told = [collect(over), collect(disarmed)]
    reactor.dispatch()
    disarmed.disarm()
    step(by)
    reactor.dispatch()
    expect(told).toEqual([[anyTick], []])
    expect(reactor.dispatch(), 'nor does it spin').toBe(0)
  })

  test('a timer that is armed anew before it was told says so once, and keeps the new instant', (context) => {
    const step = clockStepper(context)
    const reactor = openManual()
    const timer = TimerFd.at(reactor, soon(seconds(500)))
    const told = collect(timer)
    step(by)
    timer.rearm(soon(ms(50)))
    expect(timer.remainingNs()).toBeLessThanOrEqual(ms(50))
    reactor.dispatch()
    expect(told.splice(0)).toEqual(['clockStep'])
    spinAndDispatch(reactor, timer)
    expect(told).toEqual([anyTick])
  })

  test('a timer whose handler arms it anew has that instant', (context) => {
    const step = clockStepper(context)
    const reactor = openManual()
    const timer = TimerFd.at(reactor, soon(seconds(500)), { interval: ms(1) })
    timer.on('clockStep', () => timer.rearm(soon(ms(50))))
    const ticks: number[] = []
    timer.on('tick', (expirations) => ticks.push(expirations))
    step(by)
    reactor.dispatch()
    expect(ticks).toEqual([])
    spinAndDispatch(reactor, timer)
    expect(ticks).toHaveLength(1)
  })

  test('a listener for it alone is enough, and a paused timer tells it later', (context) => {
    const step = clockStepper(context)
    const reactor = openManual()
    const timer = TimerFd.at(reactor, 2n ** 63n - 1n)
    let steps = 0
    timer.on('clockStep', () => steps++)
    step(by)
    reactor.dispatch()
    expect(steps).toBe(1)
    timer.pause()
    step(-by)
    reactor.dispatch()
    expect(steps).toBe(1)
    timer.resume()
    reactor.dispatch()
    expect(steps).toBe(2)
  })
})

describe('alarm clocks', () => {
  for (const clock of ['realtime-alarm', 'boottime-alarm'] as const) {
    test(`${clock}: for a duration, for an instant, and periodically`, (context) => {
      const refused = refusedAlarms()
      if (refused !== undefined) return context.skip(refused)
      const reactor = openManual()
      const timers = [
        TimerFd.every(reactor, ms(1), { clock }),
        TimerFd.after(reactor, ms(1), { clock }),
        TimerFd.at(reactor, TimerFd.now(clock) + BigInt(ms(1)), { clock }),
      ]
      const told = timers.map(collect)
      spin(ms(3))
      reactor.dispatch()
      for (const [tick] of told) {
        expect(tick).toEqual(anyTick)
        expect(tick?.[1]).toBeLessThan(seconds(1))
      }
      expect(timers.map((timer) => timer.armed)).toEqual([true, false, false])
    })
  }

  test('without CAP_WAKE_ALARM they are refused with the reason, and nothing is left open', async (context) => {
    const script = `
      const { TimerFd } = await import('./lib/index.js')
      const { readdirSync } = await import('node:fs')
      const reactor = new Reactor()
      const open = () => readdirSync('/proc/self/fd').length
      const before = open()
      for (const clock of ['realtime-alarm', 'boottime-alarm']) {
        for (const make of [() => TimerFd.every(reactor, 1, { clock }), () => TimerFd.at(reactor, 1n, { clock })]) {
          try {
            make()
            console.log('made')
          } catch ({ name, code, errno, syscall, message }) {
            console.log([name, code, errno, syscall, message.includes('CAP_WAKE_ALARM')].join())
          }
        }
      }
      console.log(open() - before)
      reactor.close()`
    const under = ['setpriv', '--bounding-set', '-wake_alarm', '--inh-caps', '-wake_alarm']
    const probe = await runScript('', { under, bare: true }).catch(String)
    if (typeof probe === 'string' || probe.code !== 0) {
      return context.skip(
        `no process without CAP_WAKE_ALARM can be made here: ${typeof probe === 'string' ? probe : probe.stderr}`,
      )
    }
    const { stdout, stderr } = await runScript(script, { under })
    expect(stderr).toBe('')
    expect(stdout.split('\n')).toEqual([
      ...Array<string>(4).fill('SystemError,EPERM,-1,timerfd_create,true'),
      '0',
      '',
    ])
  })
})
