/**
 * From exec to the first event, beside what Node alone takes to start, and what a user installs.
 *
 * A program tells when it was where, by the clock that its parent read before it started it. Starts are interleaved:
 * Node with nothing to do (`node -e`), Node with an empty module, and ours: a reactor with its defaults and an eventfd
 * that is rung. The bar is on what ours adds to the first of them.
 */
import { output } from '../child.js'
import { installedParts, type Part } from '../install-size.js'
import { pinned, processors } from '../machine.js'
import {
  atMost,
  formatSpread,
  parseFigures,
  spread,
  type Effort,
  type Report,
  type Spread,
  type Table,
} from '../report.js'
import { eachRound } from '../rounds.js'
import { serverFile } from '../server.js'

const STARTS_PER_SECOND = 10
const LEAST_STARTS = 3
const LIMIT_BYTES = 2_000_000

const STEPS = ['started', 'coreImported', 'fdEventsImported', 'reactorMade', 'firstEvent'] as const
const BARE = ['-e', 'console.log(JSON.stringify({ started: Number(process.hrtime.bigint()) }))']

/** Milliseconds from exec; medians of the starts of a round. */
interface Sample extends Record<(typeof STEPS)[number], number> {
  round: number
  bare: number
  emptyModule: number
}

export async function benchStartup({ rounds, seconds }: Effort): Promise<Report> {
  const starts = Math.max(LEAST_STARTS, Math.round(STARTS_PER_SECOND * seconds))
  const samples: Sample[] = []
  for (const round of eachRound(rounds)) {
    samples.push({ round, ...(await startedInTurns(starts)) })
  }
  const parts = installedParts()

  const ms = (value: (sample: Sample) => number): Spread => spread(samples.map(value))
  const steps: [string, Spread][] = [
    ['Node with nothing to do, from exec', ms(({ bare }) => bare)],
    ['an empty module, from exec', ms(({ emptyModule }) => emptyModule)],
    ['ours: first line, from exec', ms(({ started }) => started)],
    ['+ import core', ms(({ coreImported, started }) => coreImported - started)],
    ['+ import fd-events', ms(({ fdEventsImported, coreImported }) => fdEventsImported - coreImported)],
    ['+ first Reactor', ms(({ reactorMade, fdEventsImported }) => reactorMade - fdEventsImported)],
    ['+ first event', ms(({ firstEvent, reactorMade }) => firstEvent - reactorMade)],
    ['= first event, from exec', ms(({ firstEvent }) => firstEvent)],
  ]
  const added = ms(({ firstEvent, bare }) => firstEvent - bare)
  return {
    title: `startup: from exec to the first event, ${rounds} rounds of ${starts} starts each`,
    tables: [
      {
        caption: 'ms: median (min–max) of the rounds',
        rows: [['', 'ms'], ...steps.map(([name, each]) => [name, formatSpread(each, 1)])],
      },
      sizes(parts),
      contents(parts),
    ],
    bars: [
      atMost(60, 'first event, ms more than Node with nothing to do', added),
      atMost(LIMIT_BYTES, 'the two packages with the addon, bytes', spread([ownBytes(parts)])),
    ],
    plots: [
      {
        kind: 'bars',
        caption: 'from exec to the first event',
        unit: 'ms',
        values: steps.map(([label, each]) => ({ label, spread: each })),
      },
      {
        kind: 'bars',
        caption: 'what is installed',
        unit: 'bytes',
        values: parts.map(({ name, bytes }) => ({ label: name, spread: spread([bytes]) })),
      },
    ],
    samples: [...samples, ...parts],
  }
}

async function startedInTurns(starts: number): Promise<Omit<Sample, 'round'>> {
  const bare: number[] = []
  const emptyModule: number[] = []
  const ours: Record<(typeof STEPS)[number], number>[] = []
  for (let start = 0; start < starts; start++) {
    bare.push((await startOf(BARE, ['started'])).started)
    emptyModule.push((await startOf([serverFile('bare')], ['started'])).started)
    ours.push(await startOf([serverFile('first-event')], STEPS))
  }
  const median = (values: number[]): number => spread(values).median
  const step = (name: (typeof STEPS)[number]): number => median(ours.map((each) => each[name]))
  return {
    bare: median(bare),
    emptyModule: median(emptyModule),
    started: step('started'),
    coreImported: step('coreImported'),
    fdEventsImported: step('fdEventsImported'),
    reactorMade: step('reactorMade'),
    firstEvent: step('firstEvent'),
  }
}

/** Milliseconds from exec to each of the moments that a program tells. */
async function startOf<Name extends string>(
  args: readonly string[],
  moments: readonly Name[],
): Promise<Record<Name, number>> {
  const command = pinned(processors().server, [process.execPath, ...args])
  const begin = Number(process.hrtime.bigint())
  const told = parseFigures(await output(command), moments)
  for (const moment of moments) told[moment] = (told[moment] - begin) / 1e6
  return told
}

function ownBytes(parts: readonly Part[]): number {
  return parts.filter(({ kind }) => kind === 'own').reduce((sum, { bytes }) => sum + bytes, 0)
}

function sizes(parts: readonly Part[]): Table {
  const own = ownBytes(parts)
  const all = parts.reduce((sum, { bytes }) => sum + bytes, 0)
  const row = (name: string, bytes: number): string[] => [name, (bytes / 1e3).toFixed(0)]
  return {
    caption: 'installed, in kB; what the compiler leaves beside the addon is not in it',
    rows: [
      ['', 'kB'],
      ...parts.map(({ name, bytes, kind }) => row(kind === 'own' ? name : `${name}, a dependency`, bytes)),
      row('the two packages and the addon', own),
      row('with dependencies', all),
    ],
  }
}

function contents(parts: readonly Part[]): Table {
  const packages = parts.flatMap(({ name, files }) => (files === undefined ? [] : [{ name, files }]))
  const header = Object.keys(packages[0]?.files ?? {})
  return {
    caption: 'what the packages hold, in kB',
    rows: [
      ['', ...header],
      ...packages.map(({ name, files }) => [
        name,
        ...Object.values(files).map((bytes) => (bytes / 1e3).toFixed(0)),
      ]),
    ],
  }
}
