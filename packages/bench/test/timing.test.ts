/** That the benches of timers, signals and priorities count right; how fast anything is, no test asks. */
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { cProgram } from '../src/c-program.js'
import { output } from '../src/child.js'
import { parseCyclictest } from '../src/cyclictest.js'
import { Latencies, parseLatencies } from '../src/latencies.js'
import { pinned, processors } from '../src/machine.js'
import { monotonicNs } from '../src/monotonic.js'
import { runLoad } from '../src/load.js'
import { waitsOf } from '../src/scenarios/priority.js'
import { parseFigures } from '../src/report.js'
import { Server } from '../src/server.js'
import { driftSeconds } from '../src/timer-drift.js'

const PERIOD_NS = '1000000'
const SECONDS = '0.08'
/** A quarter more, to warm up. */
const TICKS = 100

const server = (name: string): string => fileURLToPath(new URL(`../dist/servers/${name}.js`, import.meta.url))

function expectAscending({ distribution }: { distribution: [number, number][] }): void {
  expect(distribution.length).toBeGreaterThan(10)
  for (const position of [0, 1] as const) {
    const values = distribution.map((point) => point[position])
    expect(values).toEqual(values.toSorted((a, b) => a - b))
  }
  expect(distribution.at(-1)?.[0]).toBe(100)
}

test('percentiles are values that were recorded', () => {
  const latencies = new Latencies(1000)
  for (let micros = 1000; micros > 0; micros--) latencies.record(micros * 1000)
  latencies.record(1e9) // beyond the capacity
  const figures = latencies.figures()
  expect(figures).toMatchObject({
    p50Micros: 501,
    p90Micros: 901,
    p99Micros: 991,
    p999Micros: 1000,
    maxMicros: 1000,
  })
  expectAscending(figures)
  expect(() => new Latencies(1).figures()).toThrow('nothing was measured')
})

test("the clock as a number lies between two readings of Node's", () => {
  const before = Number(process.hrtime.bigint())
  const now = monotonicNs()
  const after = Number(process.hrtime.bigint())
  // The origin is known to some tens of nanoseconds.
  expect(now).toBeGreaterThan(before - 1000)
  expect(now).toBeLessThan(after + 1000)
})

test.each(['block', 'poll', 'clock'])('C timer, %s: every expiration is told, none is lost', async (mode) => {
  const line = await output([cProgram('timer'), mode, PERIOD_NS, SECONDS])
  const { expirations, driftPeriods } = parseFigures(line, ['expirations', 'driftPeriods'])
  expect(expirations).toBeGreaterThanOrEqual(TICKS)
  expect(driftPeriods).toBe(0)
  expectAscending(parseLatencies(line))
})

test.each(['block', 'poll', 'setImmediate'])('timer in Node, %s: none is lost', async (kind) => {
  const line = await output([process.execPath, server('timer'), kind, PERIOD_NS, SECONDS, '20'])
  const { expirations, driftPeriods } = parseFigures(line, ['expirations', 'driftPeriods'])
  expect(expirations).toBeGreaterThanOrEqual(TICKS)
  expect(driftPeriods).toBe(0)
  expectAscending(parseLatencies(line))
})

test("only the loop's thread stays on the server's processor", async () => {
  const list = `for (const thread of fs.readdirSync('/proc/self/task'))
    console.log(thread == process.pid, fs.readFileSync('/proc/self/task/' + thread + '/status', 'latin1').match(/Cpus_allowed_list:\\t(.*)/)[1])`
  const { server: own, load: other } = processors()
  const preload = `${server('threads-elsewhere')}?processor=${other}`
  const printed = await output(
    pinned(own, [process.execPath, '--import', `file://${preload}`, '--eval', list]),
  )
  const threads = printed.trim().split('\n')
  expect(threads.filter((thread) => thread.startsWith('true'))).toEqual([`true ${own}`])
  expect(new Set(threads.filter((thread) => thread.startsWith('false')))).toEqual(new Set([`false ${other}`]))
})

test('drift is looked for in a minute, and in a short run as shortly', () => {
  expect([0.05, 1, 5].map(driftSeconds)).toEqual([0.05, 60, 60])
})

test('setInterval is measured, whatever it loses', async () => {
  const line = await output([process.execPath, server('timer'), 'setInterval', PERIOD_NS, SECONDS, '0'])
  expect(parseFigures(line, ['expirations']).expirations).toBeGreaterThanOrEqual(TICKS)
  expectAscending(parseLatencies(line))
})

test('the histogram of cyclictest', () => {
  const figures = parseCyclictest(`# Histogram
000070 000040
000071 000030
000073 000028
# Total: 000000098
# Min Latencies: 00070
# Avg Latencies: 00072
# Max Latencies: 01234
# Histogram Overflows: 00002
# Histogram Overflow at cycle number:
# Thread 0: 00002 00006
`)
  expect(figures).toMatchObject({ p50Micros: 71, p90Micros: 73, p99Micros: 1234, maxMicros: 1234 })
  expectAscending(figures)
  expect(() => parseCyclictest('nothing')).toThrow('printed no histogram')
})

const SIGNAL_PROGRAMS = {
  C: (tells: string) => [cProgram('signal'), tells, '36'],
  ours: (tells: string) => [process.execPath, server('signal'), 'ours', tells],
  'process.on': (tells: string) => [process.execPath, server('signal'), 'process', tells],
}

test.each(Object.entries(SIGNAL_PROGRAMS))('signals one at a time to %s', async (name, program) => {
  const signal = name === 'process.on' ? 'usr2' : 'rt'
  expectAscending(
    parseLatencies(await output([cProgram('sigqueue'), 'latency', signal, SECONDS, ...program('latency')])),
  )
})

test.each(['C', 'ours'] as const)('every signal of a burst is handled, in order, by %s', async (name) => {
  // The receiver checks their numbers, the sender how many there were.
  const line = await output([cProgram('sigqueue'), 'burst', 'rt', '0.01', ...SIGNAL_PROGRAMS[name]('count')])
  const { perSecond, sentPerSecond, signals } = parseFigures(line, ['perSecond', 'sentPerSecond', 'signals'])
  expect(signals).toBeGreaterThan(0)
  expect(perSecond).toBe(sentPerSecond)
})

test('of a flood process.on sees some', async () => {
  const line = await output([
    cProgram('sigqueue'),
    'flood',
    'usr2',
    '0.01',
    ...SIGNAL_PROGRAMS['process.on']('count'),
  ])
  const { perSecond, sentPerSecond } = parseFigures(line, ['perSecond', 'sentPerSecond'])
  expect(perSecond).toBeGreaterThan(0)
  expect(perSecond).toBeLessThanOrEqual(sentPerSecond)
})

test.each([
  ['priority-fd-reactor', 'high', '100'],
  ['priority-fd-reactor', 'normal', '500'],
  ['priority-net'],
])('the waits beside a flood: %s %s', async (name, ...options) => {
  await using running = await Server.start((path) => [
    process.execPath,
    server(name),
    path,
    SECONDS,
    ...options,
  ])
  const load = runLoad(running, { clients: 10, pipeline: 16, seconds: 0.4 })
  const [waits] = await Promise.all([waitsOf(running, Number(SECONDS)), load])
  expectAscending(waits)
})
