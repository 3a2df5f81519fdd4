/**
 * What 10,000 open connections cost: memory of each, and how fast they are accepted; ours beside Node's `net`.
 *
 * The client is a C program in a process of its own, so each side stays below the limit of open files. Memory is that of
 * the server's process after a collection, less what it had before the first connection; the kernel's is not in it.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { cProgram } from '../c-program.js'
import { pinned, processors } from '../machine.js'
import {
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
import { holding, Server } from '../server.js'

const CONNECTIONS = 10_000
const FIGURES = ['rssBytes', 'heapBytes', 'acceptMicros', 'acceptCpuMicros'] as const
const KINDS = ['ours', 'Node net'] as const

type Kind = (typeof KINDS)[number]
type Figures = Record<(typeof FIGURES)[number], number>

export async function benchConnections({ rounds }: Effort): Promise<Report> {
  const samples: (Figures & { round: number; server: Kind })[] = []
  for (const round of eachRound(rounds)) {
    for (const server of inTurn(KINDS, round)) {
      samples.push({ round, server, ...(await hold(server)) })
    }
  }
  const series = (server: Kind, figure: keyof Figures): number[] =>
    samples.filter((sample) => sample.server === server).map((sample) => sample[figure])
  const of = (figure: keyof Figures) => ratios(series('ours', figure), series('Node net', figure))
  const row = (caption: string, figure: keyof Figures, digits: number): string[] => [
    caption,
    ...KINDS.map((server) => formatSpread(spread(series(server, figure)), digits)),
    formatSpread(of(figure)),
  ]
  const plot = (caption: string, unit: string, figure: keyof Figures) =>
    barsPlot(caption, unit, KINDS, (server) => series(server, figure))
  return {
    title: `connections: ${CONNECTIONS} held open on a Unix socket, ${rounds} rounds`,
    tables: [
      {
        caption: 'for each connection: median (min–max) of the rounds',
        rows: [
          ['', ...KINDS, 'ours, of net'],
          row('memory of the process, bytes', 'rssBytes', 0),
          row('JavaScript heap, bytes', 'heapBytes', 0),
          row('time to accept, µs', 'acceptMicros', 1),
          row('CPU to accept, µs', 'acceptCpuMicros', 1),
        ],
      },
    ],
    bars: [
      atMost(0.333, 'memory of an idle connection, of net', of('rssBytes')),
      atLeast(
        1,
        'connections accepted in a second, of net',
        ratios(series('Node net', 'acceptMicros'), series('ours', 'acceptMicros')),
      ),
    ],
    plots: [
      plot('memory of the process for each connection', 'bytes', 'rssBytes'),
      plot('time to accept a connection', 'µs', 'acceptMicros'),
    ],
    samples,
  }
}

async function hold(kind: Kind): Promise<Figures> {
  await using server = await Server.start(holding(kind === 'ours' ? 'ours' : 'net', CONNECTIONS))
  const command = [cProgram('connect'), server.address, String(CONNECTIONS)]
  const [file = '', ...args] = pinned(processors().load, command)
  const client = spawn(file, args, { stdio: ['pipe', 'ignore', 'inherit'] })
  const ended = once(client, 'exit')
  try {
    const signal = AbortSignal.timeout(60_000)
    const printed = await once(server.output, 'data', { signal })
    return parseFigures(printed.join(''), FIGURES)
  } finally {
    client.stdin.end()
    await ended
  }
}
