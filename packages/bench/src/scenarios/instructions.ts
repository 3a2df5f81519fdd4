/**
 * How many instructions one event costs from epoll_wait to an empty handler, counted by valgrind's callgrind.
 *
 * A count hardly depends on the machine or on its load, so a test can guard it, which no time can be. The same program
 * runs with two numbers of events: starting Node takes a billion instructions that vary by millions, and the
 * difference is free of them. Valgrind counts what runs in user space; the kernel's share of the system calls is not in it.
 */
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { output } from '../child.js'
import { atMost, formatSpread, parseFigures, spread, type Effort, type Report } from '../report.js'
import { eachRound } from '../rounds.js'
import { serverFile } from '../server.js'

/** Both are past what V8 needs to optimise the way of an event. */
const FEW = 500_000
const MANY = 2_500_000
/** Repeats differ by less than a percent. */
const MOST_ROUNDS = 3
const NO_VALGRIND = 'valgrind: not installed; npm run bench:setup installs it'

/** What is kept in the repository: `instructions.json`. */
export interface Recorded {
  instructionsPerEvent: number
  /** How far a count may be from it, as a share. */
  tolerance: number
  /** Of this version of Node: another V8 makes other code. */
  node: string
  arch: string
}

export function recordedInstructions(): Recorded {
  const text = readFileSync(new URL('../../instructions.json', import.meta.url), 'utf8')
  const { node, arch } = JSON.parse(text) as Record<string, unknown>
  if (typeof node !== 'string' || typeof arch !== 'string') throw new Error('instructions.json: no version')
  return { ...parseFigures(text, ['instructionsPerEvent', 'tolerance']), node, arch }
}

/** Why the count cannot be compared here, if so. */
export function whyNotComparable({ node, arch }: Recorded): string | undefined {
  if (spawnSync('valgrind', ['--version']).status !== 0) return NO_VALGRIND
  const addon = process.env['FD_REACTOR_ADDON']
  if (addon !== undefined) return `recorded with the addon of this build, and this one is ${addon}`
  if (node === process.version && arch === process.arch) return undefined
  return `recorded with Node ${node} on ${arch}, and this is Node ${process.version} on ${process.arch}`
}

export async function benchInstructions({ rounds }: Effort): Promise<Report> {
  const recorded = recordedInstructions()
  const { instructionsPerEvent, tolerance } = recorded
  const title = 'instructions: one event of 200 ready ones to an empty handler, in user space'
  const reason = whyNotComparable(recorded)
  if (reason === NO_VALGRIND) return { title, tables: [], bars: [], missing: [reason], samples: [] }

  const samples: { round: number; instructionsPerEvent: number }[] = []
  for (const round of eachRound(Math.min(rounds, MOST_ROUNDS))) {
    const few = await instructions(FEW)
    samples.push({ round, instructionsPerEvent: ((await instructions(MANY)) - few) / (MANY - FEW) })
  }
  const measured = spread(samples.map((sample) => sample.instructionsPerEvent))
  const off = spread(
    samples.map((sample) => Math.abs(sample.instructionsPerEvent / instructionsPerEvent - 1)),
  )
  return {
    title,
    tables: [
      {
        caption: `instructions per event, the difference of ${MANY} and ${FEW} events: median (min–max) of the rounds`,
        rows: [
          ['', 'instructions'],
          ['ours', formatSpread(measured, 1)],
          [`recorded with Node ${recorded.node} on ${recorded.arch}`, instructionsPerEvent.toFixed(1)],
        ],
      },
    ],
    bars: reason === undefined ? [atMost(tolerance, 'away from what is recorded, as a share', off)] : [],
    plots: [
      {
        kind: 'bars',
        caption: 'one event to an empty handler, user space',
        unit: 'instructions',
        values: [{ label: 'ours', spread: measured }],
      },
    ],
    missing: reason === undefined ? [] : [`the recorded count: ${reason}`],
    samples,
  }
}

/** How many a run takes in all. One thread, so that V8's own ones do not decide when code is optimised. */
async function instructions(events: number): Promise<number> {
  const folder = mkdtempSync(join(tmpdir(), 'fd-reactor-callgrind-'))
  try {
    const file = join(folder, 'callgrind.out')
    const callgrind = ['valgrind', '-q', '--tool=callgrind', `--callgrind-out-file=${file}`]
    const program = [serverFile('empty-handlers'), String(events)]
    await output([...callgrind, process.execPath, '--single-threaded', ...program])
    const total = /^(?:totals|summary): (\d+)$/m.exec(readFileSync(file, 'utf8'))?.[1]
    if (total === undefined) throw new Error('callgrind wrote no total')
    return Number(total)
  } finally {
    rmSync(folder, { recursive: true })
  }
}
