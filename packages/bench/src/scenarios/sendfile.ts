/**
 * Files over a Unix socket: sendFile(), Node's `createReadStream().pipe(socket)`, and a bare loop of sendfile(2) in C.
 *
 * One client downloads again and again; the file is in memory. In every round all servers are started afresh, and each round begins
 * with another one.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { cProgram } from '../c-program.js'
import { output } from '../child.js'
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
  type Table,
} from '../report.js'
import { eachRound, inTurn } from '../rounds.js'
import { Server, serverFile, type Candidate } from '../server.js'

const FIGURES = ['mebibytesPerSecond', 'serverCpuMicrosPerMebibyte', 'microsPerDownload'] as const
type Figure = (typeof FIGURES)[number]

const C = 'C sendfile'
const PIPE = 'createReadStream().pipe()'
const OURS = 'ours, sendFile()'
const SIZES = [
  { name: '64 KiB', bytes: 64 * 1024 },
  { name: '64 MiB', bytes: 64 * 1024 * 1024 },
]

interface Sample extends Record<Figure, number> {
  round: number
  size: string
  server: string
}

type Series = (server: string, figure: Figure) => number[]

export async function benchSendFile({ rounds, seconds }: Effort): Promise<Report> {
  const folder = mkdtempSync(join(tmpdir(), 'fd-reactor-bench-'))
  const remove = (): void => {
    rmSync(folder, { recursive: true, force: true })
  }
  process.once('exit', remove)
  const samples: Sample[] = []
  try {
    for (const round of eachRound(rounds)) {
      for (const { name, bytes } of SIZES) {
        const file = join(folder, name)
        if (round === 1) writeFileSync(file, Buffer.alloc(bytes, 'file'))
        for (const [server, candidate] of inTurn(candidates(file), round)) {
          samples.push({ round, size: name, server, ...(await measure(candidate, bytes, seconds)) })
        }
      }
    }
  } finally {
    process.removeListener('exit', remove)
    remove()
  }
  const of = (size: { name: string }): Series => {
    const chosen = samples.filter((sample) => sample.size === size.name)
    return (server, figure) =>
      chosen.filter((sample) => sample.server === server).map((sample) => sample[figure])
  }
  return {
    title: `sendfile: downloads over a Unix socket from a warm file, ${rounds} rounds of ${seconds} s`,
    tables: SIZES.map((size) => table(size.name, of(size))),
    bars: SIZES.flatMap((size) => {
      const series = of(size)
      const ofPipe = (figure: Figure) => ratios(series(OURS, figure), series(PIPE, figure))
      return [
        atLeast(1.5, `sendFile(), throughput of pipe(), ${size.name}`, ofPipe('mebibytesPerSecond')),
        atMost(0.5, `sendFile(), CPU per byte of pipe(), ${size.name}`, ofPipe('serverCpuMicrosPerMebibyte')),
      ]
    }),
    plots: SIZES.flatMap((size) => {
      const plot = (caption: string, unit: string, figure: Figure) =>
        barsPlot(`${caption}, ${size.name}`, unit, [C, PIPE, OURS], (server) => of(size)(server, figure))
      return [
        plot('throughput', 'MiB/s', 'mebibytesPerSecond'),
        plot('CPU of the server', 'µs/MiB', 'serverCpuMicrosPerMebibyte'),
      ]
    }),
    samples,
  }
}

function candidates(file: string): [name: string, candidate: Candidate][] {
  const node = (kind: string): Candidate => {
    return (path) => [process.execPath, serverFile('file'), path, kind, file]
  }
  return [
    [C, (path) => [cProgram('sendfile'), path, file]],
    [PIPE, node('net')],
    [OURS, node('ours')],
  ]
}

async function measure(
  candidate: Candidate,
  bytes: number,
  seconds: number,
): Promise<Record<Figure, number>> {
  await using server = await Server.start(candidate)
  const command = [cProgram('download'), server.address, String(bytes), String(seconds), String(server.pid)]
  return parseFigures(await output(pinned(processors().load, command)), FIGURES)
}

function table(caption: string, series: Series): Table {
  const header = ['', 'MiB/s', 'of C', 'of pipe()', 'CPU µs/MiB', 'of C', 'of pipe()', 'µs/download']
  const rows = [C, PIPE, OURS].map((server) => {
    const median = (figure: Figure): number => spread(series(server, figure)).median
    const to = (base: string, figure: Figure): string =>
      formatSpread(ratios(series(server, figure), series(base, figure)))
    const [rate, cpu, time] = FIGURES
    return [
      server,
      median(rate).toFixed(0),
      to(C, rate),
      to(PIPE, rate),
      median(cpu).toFixed(0),
      to(C, cpu),
      to(PIPE, cpu),
      median(time).toFixed(0),
    ]
  })
  return {
    caption: `${caption}: medians of the rounds; ratios are taken round by round, median (min–max)`,
    rows: [header, ...rows],
  }
}
