/**
 * The newest sample in shared memory: how often one writer can publish 64 bytes while 0, 1 and 4 processes read as fast as they can.
 *
 * The writer has one processor, all readers the other. The bar compares writers with the same readers, C's; ours with our
 * readers is shown beside it. Rates are per second of the writer's processor time, which somebody else's load does not change.
 */
import { once } from 'node:events'
import { spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import { LatestCellWriter, SharedMemory } from '@fd-reactor/fd-events'
import { cProgram } from '../c-program.js'
import { Sample as Record } from '../cell-sample.js'
import { pinned, processors } from '../machine.js'
import {
  atLeast,
  barsPlot,
  formatSpread,
  parseFigures,
  ratios,
  spread,
  type Effort,
  type Report,
} from '../report.js'
import { eachRound, inTurn } from '../rounds.js'
import { serverFile } from '../server.js'

const READERS = [0, 1, 4]
const C = 'C'
const PAIRS = [
  { name: 'C', writer: C, reader: C },
  { name: 'claim and commit, C reads', writer: 'commit', reader: C },
  { name: 'claim and commit, ours reads', writer: 'commit', reader: 'ours' },
  { name: 'publish, C reads', writer: 'publish', reader: C },
]
const WRITTEN = ['perSecond', 'perCpuSecond'] as const
const READ = ['reads', 'fresh', 'retries', 'torn', 'seconds'] as const

interface Sample {
  round: number
  name: string
  readers: number
  /** Publications, of a second of the clock and of the writer's processor time. */
  perSecond: number
  perCpuSecond: number
  /** Of all readers together, in a second: calls, and those that found a new sample. */
  readsPerSecond: number
  freshPerSecond: number
  retriesPerSecond: number
  torn: number
}

export async function benchCell({ rounds, seconds }: Effort): Promise<Report> {
  const samples: Sample[] = []
  for (const round of eachRound(rounds)) {
    for (const readers of READERS) {
      for (const pair of inTurn(PAIRS, round))
        samples.push({ round, readers, ...(await measure(pair, readers, seconds)) })
    }
  }
  const torn = samples.reduce((sum, sample) => sum + sample.torn, 0)
  const series = (name: string, readers: number, figure: keyof Sample): number[] =>
    samples
      .filter((sample) => sample.name === name && sample.readers === readers)
      .map((sample) => Number(sample[figure]))
  const ofC = (name: string, readers: number) =>
    ratios(series(name, readers, 'perCpuSecond'), series(C, readers, 'perCpuSecond'))
  const rows = READERS.flatMap((readers) =>
    PAIRS.map(({ name }) => {
      const millions = (figure: keyof Sample, digits = 1): string =>
        (spread(series(name, readers, figure)).median / 1e6).toFixed(digits)
      return [
        `${readers} readers, ${name}`,
        millions('perCpuSecond'),
        formatSpread(ofC(name, readers)),
        millions('perSecond'),
        ...[millions('readsPerSecond'), millions('freshPerSecond'), millions('retriesPerSecond', 3)],
      ]
    }),
  )
  const header = ['', 'M publish/CPU s', 'of C', 'M publish/s', 'M reads/s', 'M new/s', 'M retries/s']
  return {
    title: `cell: 64-byte samples, ${rounds} rounds of ${seconds} s; ${torn} torn reads`,
    tables: [{ caption: 'medians of the rounds; ratios median (min–max)', rows: [header, ...rows] }],
    bars: [1, 4].map((readers) =>
      atLeast(
        0.6,
        `our writer's rate, of C's, with ${readers} of C's readers`,
        ofC('claim and commit, C reads', readers),
      ),
    ),
    plots: READERS.map((readers) =>
      barsPlot(
        `publications beside ${readers} readers`,
        'per second of CPU',
        PAIRS.map(({ name }) => name),
        (name) => series(name, readers, 'perCpuSecond'),
      ),
    ),
    samples,
  }
}

async function measure(
  { name, writer, reader }: (typeof PAIRS)[number],
  count: number,
  seconds: number,
): Promise<Omit<Sample, 'round' | 'readers'>> {
  using memory = SharedMemory.create(LatestCellWriter.size(Record))
  using mapping = memory.map()
  new LatestCellWriter(mapping, Record) // makes the cell
  const { server: own, load } = processors()
  const program = (language: string): string[] =>
    language === C ? [cProgram('cell')] : [process.execPath, serverFile('cell')]
  const run = (processor: number, command: string[]) => {
    const [file = '', ...args] = pinned(processor, command)
    const child = spawn(file, args, { stdio: ['ignore', 'pipe', 'inherit', memory.handle.fd] })
    const { stdout } = child
    if (stdout === null) throw new Error('a child was started without a pipe')
    return { child, lines: createInterface(stdout)[Symbol.asyncIterator]() }
  }
  const nextLine = async (lines: AsyncIterator<string, undefined>): Promise<string> => {
    const next = await lines.next()
    if (next.done !== true) return next.value
    throw new Error('an end of the cell stopped too early')
  }
  const readers = Array.from({ length: count }, () => run(load, [...program(reader), 'read']))
  try {
    for (const { lines } of readers) await nextLine(lines)
    const written = parseFigures(
      await nextLine(
        run(own, [...program(writer), 'write', String(seconds), ...(writer === C ? [] : [writer])]).lines,
      ),
      WRITTEN,
    )
    const figures = await Promise.all(
      readers.map(async ({ child, lines }) => {
        child.kill('SIGTERM')
        return parseFigures(await nextLine(lines), READ)
      }),
    )
    const sum = (figure: (typeof READ)[number]): number =>
      figures.reduce((total, each) => total + each[figure] / (figure === 'torn' ? 1 : each.seconds), 0)
    return {
      name,
      ...written,
      readsPerSecond: sum('reads'),
      freshPerSecond: sum('fresh'),
      retriesPerSecond: sum('retries'),
      torn: sum('torn'),
    }
  } finally {
    for (const { child } of readers) {
      if (child.exitCode === null && child.kill('SIGKILL')) await once(child, 'exit')
    }
  }
}
