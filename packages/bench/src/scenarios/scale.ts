/**
 * What idle descriptors cost the active ones: 10 ready eventfds in a batch beside up to 19,000 that are only
 * watched; ours, a bare epoll loop in C, and npm `epoll`. And what a watcher takes of the JavaScript heap.
 *
 * All contenders are pinned to the same processor, each alone. The limit of open files decides how far it goes.
 */
import { readFileSync } from 'node:fs'
import { cProgram } from '../c-program.js'
import { output } from '../child.js'
import { pinned, processors } from '../machine.js'
import {
  atMost,
  formatSpread,
  parseFigures,
  ratios,
  spread,
  type Effort,
  type Report,
  type Spread,
} from '../report.js'
import { eachRound, inTurn } from '../rounds.js'
import { serverFile } from '../server.js'

const ACTIVE = 10
const SIZES = [1, 100, 1_000, 10_000, 19_000]
/** What a process has open besides, and more. */
const OTHER_FILES = 100
const WATCHERS = 9_000

const OURS = { name: 'ours', program: (): string[] => [process.execPath, serverFile('dispatch-fd-reactor')] }
const C = { name: 'C epoll', program: (): string[] => [cProgram('scale')] }
const NPM_EPOLL = {
  name: 'npm epoll',
  program: (): string[] => [process.execPath, serverFile('dispatch-npm-epoll')],
}
const ALL = [OURS, C, NPM_EPOLL]

interface Contender {
  name: string
  program: () => string[]
}

interface Sample {
  round: number
  contender: string
  idle: number
  nsPerEvent: number
}

export async function benchScale({ rounds, seconds }: Effort): Promise<Report> {
  const limit = openFilesLimit()
  const sizes = SIZES.filter((idle) => idle + ACTIVE + OTHER_FILES <= limit)
  const watchers = Math.min(WATCHERS, Math.floor((limit - OTHER_FILES) / 2))
  const samples: Sample[] = []
  const heap: { round: number; heapBytes: number }[] = []
  for (const round of eachRound(rounds)) {
    for (const idle of inTurn(sizes, round)) {
      for (const contender of inTurn(ALL, round)) {
        const nsPerEvent = await measure(contender, idle, seconds)
        samples.push({ round, contender: contender.name, idle, nsPerEvent })
      }
    }
    heap.push({ round, heapBytes: await heapOfWatcher(watchers) })
  }

  const series = ({ name }: Contender, idle: number): number[] =>
    samples
      .filter((sample) => sample.contender === name && sample.idle === idle)
      .map(({ nsPerEvent }) => nsPerEvent)
  const [least = 1] = sizes
  const most = sizes.at(-1) ?? least
  const growth = (contender: Contender): Spread => ratios(series(contender, most), series(contender, least))
  const heapOfOne = spread(heap.map(({ heapBytes }) => heapBytes))
  const format = (count: number): string => count.toLocaleString('en')
  return {
    title: `scale: ${ACTIVE} ready eventfds per batch beside idle ones, on one processor, ${rounds} rounds of ${seconds} s`,
    tables: [
      {
        caption: 'ns per ready eventfd, by how many are idle: median (min–max) of the rounds',
        rows: [
          ['idle', ...ALL.map(({ name }) => name)],
          ...sizes.map((idle) => [
            format(idle),
            ...ALL.map((contender) => formatSpread(spread(series(contender, idle)), 0)),
          ]),
          [
            `${format(most)}, of ${format(least)}`,
            ...ALL.map((contender) => formatSpread(growth(contender))),
          ],
        ],
      },
      {
        caption: `JavaScript heap of one FdWatcher more, ${format(watchers)} to ${format(2 * watchers)}`,
        rows: [
          ['', 'bytes'],
          ['ours', formatSpread(heapOfOne, 0)],
        ],
      },
    ],
    bars: [
      atMost(1.1, `ours, cost per event beside ${format(most)} idle ones, of ${format(least)}`, growth(OURS)),
      atMost(400, 'JavaScript heap of a watcher, bytes', heapOfOne),
    ],
    plots: [
      {
        kind: 'curve',
        caption: `one ready eventfd of ${ACTIVE}, from readiness to its handler`,
        unit: 'ns',
        against: 'idle descriptors',
        series: ALL.map((contender) => ({
          label: contender.name,
          points: sizes.map((x) => ({ x, spread: spread(series(contender, x)) })),
        })),
      },
      {
        kind: 'bars',
        caption: 'JavaScript heap of one watcher more',
        unit: 'bytes',
        values: [{ label: 'ours, FdWatcher', spread: heapOfOne }],
      },
    ],
    missing: SIZES.filter((idle) => !sizes.includes(idle)).map(
      (idle) => `${format(idle)} idle descriptors: the hard limit of open files is ${format(limit)}`,
    ),
    samples: [...samples, ...heap],
  }
}

async function measure({ program }: Contender, idle: number, seconds: number): Promise<number> {
  const command = [...program(), ...[seconds, ACTIVE, idle].map(String)]
  const printed = await output(pinned(processors().server, command))
  return parseFigures(printed, ['nsPerEvent']).nsPerEvent
}

async function heapOfWatcher(count: number): Promise<number> {
  const command = [process.execPath, '--expose-gc', serverFile('watcher-memory'), String(count)]
  return parseFigures(await output(command), ['heapBytes']).heapBytes
}

/** The hard limit: Node raises its own soft one to it when it starts, and so does the C program. */
function openFilesLimit(): number {
  const limits = readFileSync('/proc/self/limits', 'utf8')
  const hard = /^Max open files\s+\S+\s+(\S+)/m.exec(limits)?.[1]
  return hard === 'unlimited' ? Infinity : Number(hard)
}
