/**
 * Rings in shared memory between two processes: messages one way and round trips, beside C, Node and a Unix socket.
 *
 * Two processes on a processor each. Each contender has a run in each round, in turn. A worker thread shares its process with the
 * receiver, so those two are not pinned apart.
 */
import { spawn } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { Ring } from '@fd-reactor/fd-events'
import { cProgram } from '../c-program.js'
import { output } from '../child.js'
import { pinned, processors } from '../machine.js'
import {
  absolute,
  atLeast,
  atMost,
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

const MESSAGE = 64
const MIB = 2 ** 20
const SMALL_RING = 2 ** 22
const LARGE_RING = 2 ** 24

/** Each is a run that gives one number: messages or bytes per second, or nanoseconds. */
type Contender = readonly [name: string, run: (seconds: number) => Promise<number>]

const MESSAGES: readonly Contender[] = [
  ['C', async (seconds) => c('ring', 140e6 * seconds, 'messagesPerSecond')],
  ['ours, claim and commit', async (seconds) => oneWay('claim', 60e6 * seconds)],
  ['ours, borrow', async (seconds) => oneWay('borrow', 10e6 * seconds)],
  ['ours, a copy for each', async (seconds) => oneWay('copy', 5e6 * seconds)],
  ['Unix socket (seqpacket, ours)', async (seconds) => nodes('unix', 0.4e6 * seconds)],
  ['MessagePort.postMessage', async (seconds) => nodes('port', 0.4e6 * seconds)],
  ['process.send', async (seconds) => nodes('ipc', 0.05e6 * seconds)],
]
const BLOCKS: readonly Contender[] = [
  ['memcpy in C', async (seconds) => c('memcpy', 12_000 * seconds, 'bytesPerSecond')],
  ['ours, read in a loop', async (seconds) => blocks('claim', 12_000 * seconds)],
  ['ours, borrow', async (seconds) => blocks('borrow', 4000 * seconds)],
  ['ours, a copy for each', async (seconds) => blocks('copy', 2000 * seconds)],
]
const TRIPS: readonly Contender[] = [
  ['C, two words, spinning', async (seconds) => c('pingpong', 1e6 * seconds, 'p50Nanos')],
  ['ours, polling', async (seconds) => trips('poll', 1e6 * seconds)],
  ['C, two eventfds, sleeping', async (seconds) => c('eventfd', 50_000 * seconds, 'p50Nanos')],
  ['ours, sleeping', async (seconds) => trips('sleep', 50_000 * seconds)],
]

export async function benchShm({ rounds, seconds }: Effort): Promise<Report> {
  const samples: { round: number; table: string; contender: string; value: number }[] = []
  const tables = { messages: MESSAGES, blocks: BLOCKS, trips: TRIPS }
  for (const round of eachRound(rounds)) {
    for (const [table, contenders] of Object.entries(tables)) {
      for (const [contender, run] of inTurn(contenders, round))
        samples.push({ round, table, contender, value: await run(seconds) })
    }
  }
  const series = (table: string, contender: string): number[] =>
    samples.filter((each) => each.table === table && each.contender === contender).map(({ value }) => value)
  const rows = (table: keyof typeof tables, unit: number, digits: number, head: string[]): string[][] => {
    const base = tables[table][0]?.[0] ?? ''
    return [
      head,
      ...tables[table].map(([name]) => [
        name,
        formatSpread(spread(series(table, name).map((value) => value / unit)), digits),
        formatSpread(ratios(series(table, name), series(table, base)), 3),
      ]),
    ]
  }
  const plot = (table: keyof typeof tables, caption: string, unit: string, scale: number) =>
    barsPlot(
      caption,
      unit,
      tables[table].map(([name]) => name),
      (name) => series(table, name).map((value) => value / scale),
    )
  const perMessage = (name: string, base: string) =>
    ratios(series('messages', name), series('messages', base))
  const millions = (name: string) => spread(series('messages', name).map((value) => value / 1e6))
  return {
    title: `shm: rings between two processes, ${rounds} rounds`,
    tables: [
      {
        caption: `messages of ${MESSAGE} bytes one way; median (min–max) of the rounds`,
        rows: rows('messages', 1e6, 2, ['', 'million per second', 'of C']),
      },
      {
        caption: 'messages of 1 MiB one way',
        rows: rows('blocks', 1e9, 2, ['', 'GB per second', 'of memcpy']),
      },
      { caption: 'round trips, p50', rows: rows('trips', 1e3, 3, ['', 'µs', 'of C spinning']) },
    ],
    bars: [
      absolute(atLeast(4, 'million messages per second, a copy for each', millions('ours, a copy for each'))),
      absolute(atLeast(10, 'million messages per second, borrow', millions('ours, borrow'))),
      absolute(
        atLeast(20, 'million messages per second, claim and commit', millions('ours, claim and commit')),
      ),
      atLeast(0.45, 'claim and commit, of C', perMessage('ours, claim and commit', 'C')),
      atLeast(100, 'claim and commit, of process.send', perMessage('ours, claim and commit', 'process.send')),
      atLeast(100, 'borrow, of process.send', perMessage('ours, borrow', 'process.send')),
      atLeast(
        20,
        'borrow, of MessagePort.postMessage',
        perMessage('ours, borrow', 'MessagePort.postMessage'),
      ),
      atLeast(15, 'borrow, of a Unix socket', perMessage('ours, borrow', 'Unix socket (seqpacket, ours)')),
      atLeast(
        0.8,
        '1 MiB, read in a loop, of memcpy',
        ratios(series('blocks', 'ours, read in a loop'), series('blocks', 'memcpy in C')),
      ),
      atMost(
        2,
        'round trip polling, of C spinning',
        ratios(series('trips', 'ours, polling'), series('trips', 'C, two words, spinning')),
      ),
      atMost(
        1.2,
        'round trip sleeping, of C on eventfds',
        ratios(series('trips', 'ours, sleeping'), series('trips', 'C, two eventfds, sleeping')),
      ),
    ],
    plots: [
      plot('messages', `messages of ${MESSAGE} bytes one way`, 'per second', 1),
      plot('blocks', 'messages of 1 MiB one way', 'GB/s', 1e9),
      plot('trips', 'round trips, p50', 'µs', 1e3),
    ],
    samples,
  }
}

async function c(mode: string, count: number, figure: string): Promise<number> {
  const { server, load } = processors()
  const line = await output([cProgram('shm'), mode, String(Math.ceil(count)), String(server), String(load)])
  return parseFigures(line, [figure])[figure] ?? NaN
}

async function oneWay(how: string, count: number): Promise<number> {
  using ring = Ring.create({ capacity: SMALL_RING })
  return await pair([ring], 'write', 'read', 'messagesPerSecond', how, count, MESSAGE)
}

async function blocks(how: string, count: number): Promise<number> {
  using ring = Ring.create({ capacity: LARGE_RING })
  return await pair([ring], 'write', 'read', 'bytesPerSecond', how, count, MIB)
}

async function trips(how: string, count: number): Promise<number> {
  using there = Ring.create({ capacity: 4096 })
  using back = Ring.create({ capacity: 4096 })
  return await pair([there, back], 'pong', 'ping', 'p50Nanos', how, count, 8)
}

/** Both processes get the rings' descriptors from 3 on; the second one measures. */
async function pair(
  rings: readonly Ring[],
  first: string,
  second: string,
  figure: string,
  how: string,
  count: number,
  bytes: number,
): Promise<number> {
  const { server, load } = processors()
  const fds = rings.flatMap((ring) => ring.fds.map(({ fd }) => fd))
  const start = (role: string, processor: number) => {
    const program = [
      process.execPath,
      serverFile('ring-ends'),
      role,
      how,
      String(Math.ceil(count)),
      String(bytes),
    ]
    const [file = '', ...args] = pinned(processor, program)
    const child = spawn(file, args, { stdio: ['ignore', 'pipe', 'inherit', ...fds] })
    if (child.stdout === null) throw new Error(`${role} has no output`)
    return { child, printed: text(child.stdout) }
  }
  const measured = start(second, server)
  const other = start(first, load)
  try {
    return parseFigures(await measured.printed, [figure])[figure] ?? NaN
  } finally {
    measured.child.kill('SIGKILL')
    other.child.kill('SIGKILL')
    await other.printed
  }
}

async function nodes(kind: string, count: number): Promise<number> {
  const folder = mkdtempSync(join(tmpdir(), 'fd-reactor-bench-'))
  const { server, load } = processors()
  try {
    const program = [
      process.execPath,
      serverFile('node-messages'),
      kind,
      String(Math.ceil(count)),
      join(folder, 'socket'),
      String(load),
    ]
    const command = kind === 'port' ? program : pinned(server, program)
    return parseFigures(await output(command), ['messagesPerSecond']).messagesPerSecond
  } finally {
    rmSync(folder, { recursive: true })
  }
}
