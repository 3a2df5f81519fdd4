/**
 * Echo servers under load: how near ours come to a bare C epoll loop, and how far they are from Node's `net`.
 *
 * In every round all servers are started afresh and stay up together (an idle one costs nothing); each load
 * then visits them one after the other, so that what is compared was measured within seconds. Each round
 * begins with another server.
 */
import { runLoad, type LoadFigures, type LoadFigure } from './load.js'
import {
  atLeast,
  atMost,
  formatSpread,
  progress,
  ratios,
  spread,
  type Bar,
  type Effort,
  type Report,
  type Table,
} from './report.js'
import { cEpoll, nodeNet, ours, Server } from './server.js'

const C = { name: 'C epoll', candidate: cEpoll('block') }
const NET = { name: 'Node net', candidate: nodeNet }
const COPY = { name: 'ours', candidate: ours('copy') }
const BORROW = { name: 'ours, borrow', candidate: ours('borrow') }
const OFFSETS = { name: 'ours, offsets', candidate: ours('offsets') }
const ALL = [C, NET, COPY, BORROW, OFFSETS]

const FIFTY = { name: '50 clients', clients: 50, pipeline: 1 }
const LOADS = [
  { name: '1 client', clients: 1, pipeline: 1 },
  FIFTY,
  { name: '50 clients × 16 pipelined', clients: 50, pipeline: 16 },
]

interface Sample extends LoadFigures {
  round: number
  load: string
  server: string
}

/** The values of one figure under one load, round by round. */
type Series = (server: { name: string }, figure: LoadFigure) => number[]

export async function benchEcho({ rounds, seconds }: Effort): Promise<Report> {
  const samples: Sample[] = []
  for (let round = 1; round <= rounds; round++) {
    progress(`round ${round}/${rounds}`)
    samples.push(...(await runRound(round, seconds)))
  }
  const under = (load: { name: string }): Series => {
    const chosen = samples.filter((sample) => sample.load === load.name)
    return (server, figure) =>
      chosen.filter((sample) => sample.server === server.name).map((sample) => sample[figure])
  }
  return {
    title: `echo: 64-byte messages over a Unix socket, ${rounds} rounds of ${seconds} s`,
    tables: LOADS.map((load) => table(load.name, under(load))),
    bars: bars(under(FIFTY)),
    samples,
  }
}

async function runRound(round: number, seconds: number): Promise<Sample[]> {
  const samples: Sample[] = []
  const running: { name: string; server: Server }[] = []
  try {
    for (const { name, candidate } of [
      ...ALL.slice(round % ALL.length),
      ...ALL.slice(0, round % ALL.length),
    ]) {
      running.push({ name, server: await Server.start(candidate) })
    }
    for (const load of LOADS) {
      for (const { name, server } of running) {
        const figures = await runLoad(server, { ...load, seconds })
        samples.push({ round, load: load.name, server: name, ...figures })
      }
    }
  } finally {
    await Promise.all(running.map(({ server }) => server[Symbol.asyncDispose]()))
  }
  return samples
}

function table(caption: string, series: Series): Table {
  const header = ['', 'k msg/s', 'of C', 'CPU µs/msg', 'of C', 'server busy', 'p50 µs', 'p99 µs', 'p99.9 µs']
  const rows = ALL.map((server) => {
    const median = (figure: LoadFigure): number => spread(series(server, figure)).median
    const ofC = (figure: LoadFigure): string =>
      formatSpread(ratios(series(server, figure), series(C, figure)))
    return [
      server.name,
      (median('messagesPerSecond') / 1e3).toFixed(0),
      ofC('messagesPerSecond'),
      (median('serverCpuNsPerMessage') / 1e3).toFixed(2),
      ofC('serverCpuNsPerMessage'),
      `${(median('serverBusyShare') * 100).toFixed(0)} %`,
      ...[median('p50Micros'), median('p99Micros'), median('p999Micros')].map((micros) => micros.toFixed(1)),
    ]
  })
  return {
    caption: `${caption}: medians of the rounds; ratios are taken round by round, median (min–max)`,
    rows: [header, ...rows],
  }
}

function bars(series: Series): Bar[] {
  const of = (server: { name: string }, base: { name: string }, figure: LoadFigure) =>
    ratios(series(server, figure), series(base, figure))
  return [
    atLeast(0.85, 'ours, throughput of C, 50 clients', of(COPY, C, 'messagesPerSecond')),
    atLeast(0.95, 'ours with borrow, throughput of C, 50 clients', of(BORROW, C, 'messagesPerSecond')),
    atMost(1.25, 'ours, CPU per message of C, 50 clients', of(COPY, C, 'serverCpuNsPerMessage')),
    atMost(
      1.18,
      'ours with borrow, CPU per message of C, 50 clients',
      of(BORROW, C, 'serverCpuNsPerMessage'),
    ),
    atLeast(1.4, 'ours, throughput of Node net, 50 clients', of(COPY, NET, 'messagesPerSecond')),
    atLeast(
      1.4,
      'ours with borrow, throughput of Node net, 50 clients',
      of(BORROW, NET, 'messagesPerSecond'),
    ),
  ]
}
