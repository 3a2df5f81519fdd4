/**
 * How late a periodic timer is told in Node: `timer KIND PERIOD_NS SECONDS OBJECTS_PER_TICK [NANOTIMER]`.
 *
 * KIND is `block` or `poll` (ours, sleeping or busy polling), `setInterval`, `setImmediate` (a loop that looks at the clock) or
 * `nanotimer`, whose file URL comes last. Measures as `c/timer.c` does and prints the same.
 */
import { Reactor } from '@fd-reactor/core'
import { TimerFd } from '@fd-reactor/fd-events'
import { Latencies } from '../latencies.js'
import { monotonicNs } from '../monotonic.js'

const START_NS = 20_000_000
const MORE_TICKS = 100
/** Longer than any period, so that it never sleeps between two ticks. */
const BUSY_POLL_MICROS = 5000

const [kind = '', period, time, objects, nanotimer = ''] = process.argv.slice(2)
const periodNs = Number(period)
const seconds = Number(time)
const objectsPerTick = Number(objects)
const warm = Math.floor((seconds * 0.25e9) / periodNs)
const last = warm + Math.floor((seconds * 1e9) / periodNs)
const latencies = new Latencies(last - warm)
/** When the first tick is due; for timers that cannot be told so, a period after they began. */
let firstNs = Math.round(monotonicNs()) + START_NS
let told = 0
let driftPeriods = 0
/** Keeps what a tick allocated until the next one, so that it cannot be optimised away. */
let garbage: object[] = []

/** Notes that so many expirations were told; true when that was the end. */
function tick(expirations: number, nowNs: number): boolean {
  for (let left = expirations; left > 0; left--) {
    const dueNs = firstNs + told++ * periodNs
    if (told > warm) latencies.record(nowNs - dueNs)
  }
  driftPeriods = Math.trunc((nowNs - firstNs - (told - 1) * periodNs) / periodNs)
  return pause()
}

/** Allocates what each tick has to, then looks whether that was the last. */
function pause(): boolean {
  garbage = []
  for (let index = 0; index < objectsPerTick; index++) garbage.push({ index })
  // More than a period after what was told last: either this tick was late, which the next shows, or some are lost.
  return told >= last && (driftPeriods === 0 || told >= last + MORE_TICKS)
}

async function timerFd(busyPollMicros: number): Promise<void> {
  const reactor = new Reactor({ busyPollMicros })
  const timer = TimerFd.at(reactor, BigInt(firstNs), { clock: 'monotonic', interval: periodNs })
  timer.on('tick', (expirations) => {
    if (tick(expirations, monotonicNs())) timer.close()
  })
  await reactor.run()
}

/** Each tick is due one period after the one before, which is all that it promises; what it loses by that is its drift. */
async function interval(): Promise<void> {
  firstNs = monotonicNs() + periodNs
  let dueNs = firstNs
  return new Promise((resolve) => {
    const timer = setInterval(() => {
      const nowNs = monotonicNs()
      told++
      if (told > warm) latencies.record(nowNs - dueNs)
      dueNs = nowNs + periodNs
      driftPeriods = Math.trunc((nowNs - firstNs - (told - 1) * periodNs) / periodNs)
      if (!pause()) return
      clearInterval(timer)
      resolve()
    }, periodNs / 1e6)
  })
}

async function immediates(): Promise<void> {
  return new Promise((resolve) => {
    const look = (): void => {
      const nowNs = monotonicNs()
      const expirations = Math.floor((nowNs - firstNs) / periodNs) + 1 - told
      if (expirations > 0 && tick(expirations, nowNs)) resolve()
      else setImmediate(look)
    }
    look()
  })
}

interface NanoTimer {
  /** When it began, as `process.hrtime()` has it. */
  readonly intervalT1: [seconds: number, nanoseconds: number]
  setInterval(task: () => void, args: string, interval: string): void
  clearInterval(): void
}

async function nanoTimer(): Promise<void> {
  const { default: NanoTimer } = (await import(nanotimer)) as { default: new () => NanoTimer }
  return new Promise((resolve) => {
    const timer = new NanoTimer()
    timer.setInterval(
      () => {
        if (!tick(1, monotonicNs())) return
        timer.clearInterval()
        resolve()
      },
      '',
      `${periodNs}n`,
    )
    firstNs = timer.intervalT1[0] * 1e9 + timer.intervalT1[1] + periodNs
  })
}

const kinds: Readonly<Record<string, () => Promise<void>>> = {
  block: async () => timerFd(0),
  poll: async () => timerFd(BUSY_POLL_MICROS),
  setInterval: interval,
  setImmediate: immediates,
  nanotimer: nanoTimer,
}
const measure = kinds[kind]
if (measure === undefined) throw new Error(`timer: no kind ${kind}`)
await measure()
console.log(JSON.stringify({ ...latencies.figures(), expirations: told, driftPeriods, kept: garbage.length }))
