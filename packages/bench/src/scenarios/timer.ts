/**
 * How late periodic timers of 1 and 10 kHz are told, and whether they drift: on a quiet machine, beside a busy processor, and while
 * the measuring process allocates.
 *
 * Lateness is the handler's clock less the instant at which the expiration was due, for each expiration: one wake-up that is ten periods
 * late counts ten times. A run of a minute at the end looks for drift alone.
 */
import { spawnSync } from 'node:child_process'
import { output } from '../child.js'
import { cProgram } from '../c-program.js'
import { cyclictest, hasCyclictest } from '../cyclictest.js'
import {
  LATENCY_HEADER,
  latencyCells,
  parseLatencies,
  type LatencyFigure,
  type LatencyFigures,
} from '../latencies.js'
import { pinned, processors } from '../machine.js'
import { busyNeighbour } from '../neighbour.js'
import { missingPeer, modulePeer } from '../peers.js'
import {
  absolute,
  atMost,
  formatSpread,
  medianDistribution,
  parseFigures,
  progress,
  ratios,
  spread,
  type Bar,
  type Effort,
  type Plot,
  type Report,
  type Table,
} from '../report.js'
import { eachRound, inTurn } from '../rounds.js'
import { loopAlone, serverFile } from '../server.js'
import { timerDrift } from '../timer-drift.js'

const RATES = [
  { name: '1 kHz', periodNs: 1_000_000 },
  { name: '10 kHz', periodNs: 100_000 },
] as const
const CONDITIONS = ['quiet', 'busy neighbour', 'allocating'] as const
/** While it allocates: small objects per second, in equal parts at each tick. */
const OBJECTS_PER_SECOND = 200_000

type Condition = (typeof CONDITIONS)[number]

interface Setting {
  periodNs: number
  seconds: number
  condition: Condition
}

interface Contender {
  name: string
  /** Whether it takes part; by default in everything. */
  when?: (setting: Setting) => boolean
  run: (setting: Setting) => Promise<Lateness>
}

interface Lateness extends LatencyFigures {
  /** What was lost, or for negative values told too much; undefined when it does not say. */
  driftPeriods?: number
}

interface Sample extends Lateness {
  round: number
  rate: string
  condition: Condition
  contender: string
}

const C: Contender = { name: 'C, blocking', run: async (setting) => c('block', setting) }
const BLOCKING: Contender = { name: 'ours, blocking', run: async (setting) => node('block', setting) }
const SHARING: Contender = {
  name: "ours, blocking, V8's threads on the same processor",
  run: async (setting) =>
    measured([process.execPath, serverFile('timer'), ...nodeArguments('block', setting)]),
}
const POLLING: Contender = { name: 'ours, busy polling', run: async (setting) => node('poll', setting) }
/** How it stands with `SCHED_FIFO`; V8's threads do not inherit it. */
const REAL_TIME = ['chrt', '--reset-on-fork', '--fifo', '10']
const quiet = ({ condition }: Setting): boolean => condition === 'quiet'
const REAL_TIME_CONTENDERS: Contender[] = [
  { name: 'C, blocking, SCHED_FIFO', when: quiet, run: async (setting) => c('block', setting, REAL_TIME) },
  {
    name: 'ours, blocking, SCHED_FIFO',
    when: quiet,
    run: async (setting) => node('block', setting, '', REAL_TIME),
  },
  {
    name: 'ours, busy polling, SCHED_FIFO',
    when: quiet,
    run: async (setting) => node('poll', setting, '', REAL_TIME),
  },
]
/** With Node's own code on pages of 2 MiB. */
const LARGE_PAGES: Contender = {
  name: 'ours, blocking, --use-largepages',
  when: quiet,
  run: async (setting) => node('block', setting, '', ['env', 'NODE_OPTIONS=--use-largepages=silent']),
}
const C_POLLING: Contender = { name: 'C, polling epoll', run: async (setting) => c('poll', setting) }
const CLOCK: Contender = { name: 'C, spinning on the clock', run: async (setting) => c('clock', setting) }
const INTERVAL: Contender = {
  name: 'setInterval',
  when: ({ periodNs }) => periodNs >= 1e6, // it knows milliseconds only
  run: async (setting) => node('setInterval', setting),
}
const IMMEDIATE: Contender = {
  name: 'setImmediate, looking at the clock',
  run: async (setting) => node('setImmediate', setting),
}

export async function benchTimer({ rounds, seconds }: Effort): Promise<Report> {
  const { contenders, missing } = present()
  const samples: Sample[] = []
  for (const round of eachRound(rounds)) {
    for (const condition of CONDITIONS) {
      progress(`  ${condition}`)
      using _neighbour = condition === 'busy neighbour' ? busyNeighbour(processors().load) : undefined
      for (const { name: rate, periodNs } of RATES) {
        const setting = { periodNs, seconds, condition }
        for (const { name, when, run } of inTurn(contenders, round)) {
          if (when?.(setting) === false) continue
          samples.push({ round, rate, condition, contender: name, ...(await run(setting)) })
        }
      }
    }
  }
  const drift = await timerDrift(RATES, seconds)
  const views = CONDITIONS.flatMap((condition) =>
    RATES.map((rate) => view(samples, rate.name, condition, contenders)),
  )
  return {
    title: `timer: lateness of periodic timers, ${rounds} rounds of ${seconds} s`,
    tables: [...views.map(({ table }) => table), drift.table],
    bars: [...bars(samples), drift.bar],
    plots: views.map(({ plot }) => plot),
    missing,
    samples: [...samples, ...drift.samples],
  }
}

/** Everybody who is installed, and who is not. */
function present(): { contenders: Contender[]; missing: string[] } {
  const contenders = [C, BLOCKING, SHARING, LARGE_PAGES, C_POLLING, POLLING, CLOCK, INTERVAL, IMMEDIATE]
  const missing: string[] = []
  const nanotimer = modulePeer('nanotimer')
  if (nanotimer === undefined) missing.push(missingPeer('nanotimer'))
  else contenders.push({ name: 'nanotimer', run: async (setting) => node('nanotimer', setting, nanotimer) })
  if (mayBeRealTime()) contenders.push(...REAL_TIME_CONTENDERS)
  else
    missing.push(
      'SCHED_FIFO: not permitted here (CAP_SYS_NICE, or `ulimit -r`), or chrt (util-linux) is missing',
    )
  if (hasCyclictest()) contenders.push(CYCLICTEST)
  else missing.push(missingPeer('cyclictest'))
  return { contenders, missing }
}

function mayBeRealTime(): boolean {
  const [file = '', ...options] = REAL_TIME
  return spawnSync(file, [...options, 'true']).status === 0
}

const CYCLICTEST: Contender = {
  name: 'cyclictest, not real-time',
  when: ({ condition }) => condition !== 'allocating',
  run: async ({ periodNs, seconds }) => cyclictest(processors().server, periodNs, seconds),
}

async function c(
  mode: 'block' | 'poll' | 'clock',
  { periodNs, seconds }: Setting,
  prefix: readonly string[] = [],
): Promise<Lateness> {
  return measured([...prefix, cProgram('timer'), mode, String(periodNs), String(seconds)])
}

async function node(
  kind: string,
  setting: Setting,
  peer = '',
  prefix: readonly string[] = [],
): Promise<Lateness> {
  return measured([...prefix, ...loopAlone('timer', [...nodeArguments(kind, setting), peer])])
}

function nodeArguments(kind: string, { periodNs, seconds, condition }: Setting): string[] {
  const objects = condition === 'allocating' ? (OBJECTS_PER_SECOND * periodNs) / 1e9 : 0
  return [kind, ...[periodNs, seconds, objects].map(String)]
}

async function measured(command: readonly string[]): Promise<Lateness> {
  const line = await output(pinned(processors().server, command))
  return { ...parseLatencies(line), ...parseFigures(line, ['driftPeriods']) }
}

function view(
  samples: readonly Sample[],
  rate: string,
  condition: Condition,
  contenders: readonly Contender[],
): { table: Table; plot: Plot } {
  const of = series(samples, rate, condition)
  const seen = contenders.filter((contender) => of(contender).length > 0)
  const caption = `${rate}, ${condition}`
  const rows = seen.map((contender) => {
    const drift = of(contender).map(({ driftPeriods = NaN }) => driftPeriods)
    const ofC = (figure: LatencyFigure): string => formatSpread(ratioTo(C, of, contender, figure))
    return [
      contender.name,
      ...latencyCells(of(contender)),
      ...[ofC('p50Micros'), ofC('p99Micros'), ofC('p999Micros')],
      drift.some(Number.isNaN) ? '–' : formatSpread(spread(drift), 0),
    ]
  })
  return {
    table: {
      caption: `${caption}: lateness; medians of the rounds, ratios and drift median (min–max). Each tick of setInterval is due one period after the last one`,
      rows: [['', ...LATENCY_HEADER, 'p50 of C', 'p99 of C', 'p99.9 of C', 'periods lost'], ...rows],
    },
    plot: {
      kind: 'distribution',
      caption: `Lateness of a timer: ${caption}`,
      unit: 'µs',
      series: seen.map((contender) =>
        medianDistribution(
          contender.name,
          of(contender).map(({ distribution }) => distribution),
        ),
      ),
    },
  }
}

type Series = (contender: Contender) => Sample[]

function series(samples: readonly Sample[], rate: string, condition: Condition): Series {
  return (contender) =>
    samples.filter(
      (sample) =>
        sample.rate === rate && sample.condition === condition && sample.contender === contender.name,
    )
}

function ratioTo(base: Contender, of: Series, contender: Contender, figure: LatencyFigure) {
  return ratios(
    of(contender).map((sample) => sample[figure]),
    of(base).map((sample) => sample[figure]),
  )
}

function bars(samples: readonly Sample[]): Bar[] {
  const perRate = RATES.flatMap(({ name }) => {
    const of = series(samples, name, 'quiet')
    return [
      atMost(1.2, `${name}, blocking, p50 of C blocking`, ratioTo(C, of, BLOCKING, 'p50Micros')),
      atMost(1.2, `${name}, blocking, p99 of C blocking`, ratioTo(C, of, BLOCKING, 'p99Micros')),
      atMost(0.5, `${name}, busy polling, p99.9 of C blocking`, ratioTo(C, of, POLLING, 'p999Micros')),
    ]
  })
  const ours = samples.filter(({ contender }) => contender === BLOCKING.name || contender === POLLING.name)
  const drift = ours.reduce((sum, { driftPeriods = NaN }) => sum + Math.abs(driftPeriods), 0)
  return [
    ...perRate,
    absolute(atMost(0, 'ours, periods lost or told twice, in all runs together', spread([drift]))),
  ]
}
