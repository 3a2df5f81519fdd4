/**
 * Echo servers of packets under load: how near ours come to a bare C epoll loop, and npm node-unix-socket.
 *
 * Rounds as in `echo`: all servers are up together, and each load visits them one after the other.
 */
import { cProgram } from '../c-program.js'
import { runLoad, type LoadFigures, type LoadFigure } from '../load.js'
import { missingPeer, modulePeer } from '../peers.js'
import {
  barsPlot,
  formatSpread,
  medianDistribution,
  ratios,
  spread,
  type Effort,
  type Plot,
  type Report,
  type Table,
} from '../report.js'
import { eachRound, inTurn } from '../rounds.js'
import { Server, serverFile, type Candidate } from '../server.js'

const node =
  (how: 'copy' | 'borrow' | 'node-unix-socket'): Candidate =>
  (path) => [process.execPath, serverFile('messages'), path, 'echo', how]
const C = 'C epoll'
const PEER = 'npm node-unix-socket'
const CANDIDATES: readonly (readonly [name: string, candidate: Candidate])[] = [
  [C, (path) => [cProgram('echo-epoll'), `seqpacket:${path}`, 'block']],
  ['ours', node('copy')],
  ['ours, borrow', node('borrow')],
  [PEER, node('node-unix-socket')],
]
const LOADS = [
  { name: '1 client, 64 B', clients: 1, bytes: 64 },
  { name: '50 clients, 64 B', clients: 50, bytes: 64 },
  { name: '50 clients, 4 KiB', clients: 50, bytes: 4096 },
]

interface Sample extends LoadFigures {
  round: number
  load: string
  server: string
}

export async function benchSeqpacket({ rounds, seconds }: Effort): Promise<Report> {
  const missing = modulePeer('node-unix-socket') === undefined ? [missingPeer(PEER)] : []
  const candidates = CANDIDATES.filter(([name]) => name !== PEER || missing.length === 0)
  const servers = candidates.map(([name]) => name)
  const samples: Sample[] = []
  for (const round of eachRound(rounds)) {
    const running: { name: string; server: Server }[] = []
    try {
      for (const [name, candidate] of inTurn(candidates, round)) {
        const server = await Server.start(candidate)
        server.address = `seqpacket:${server.address}`
        running.push({ name, server })
      }
      for (const { name: load, ...rest } of LOADS) {
        for (const { name, server } of running) {
          const figures = await runLoad(server, { ...rest, pipeline: 1, seconds })
          samples.push({ round, load, server: name, ...figures })
        }
      }
    } finally {
      await Promise.all(running.map(({ server }) => server[Symbol.asyncDispose]()))
    }
  }
  return {
    title: `seqpacket: echo of one packet at a time, ${rounds} rounds of ${seconds} s`,
    tables: LOADS.map(({ name }) => table(name, servers, samples)),
    bars: [],
    plots: LOADS.flatMap(({ name }) => plots(name, servers, samples)),
    missing,
    samples,
  }
}

function chosen(load: string, server: string, samples: readonly Sample[]): Sample[] {
  return samples.filter((sample) => sample.load === load && sample.server === server)
}

function plots(load: string, servers: readonly string[], samples: readonly Sample[]): Plot[] {
  return [
    barsPlot(`${load}: throughput`, 'messages per second', servers, (server) =>
      chosen(load, server, samples).map(({ messagesPerSecond }) => messagesPerSecond),
    ),
    {
      kind: 'distribution',
      caption: `${load}: round trips`,
      unit: 'µs',
      series: servers.map((server) =>
        medianDistribution(
          server,
          chosen(load, server, samples).map(({ distribution }) => distribution),
        ),
      ),
    },
  ]
}

function table(load: string, servers: readonly string[], samples: readonly Sample[]): Table {
  const series = (server: string, figure: LoadFigure): number[] =>
    chosen(load, server, samples).map((sample) => sample[figure])
  const rows = servers.map((server) => {
    const median = (figure: LoadFigure): number => spread(series(server, figure)).median
    const ofC = (figure: LoadFigure): string =>
      formatSpread(ratios(series(server, figure), series(C, figure)))
    return [
      server,
      (median('messagesPerSecond') / 1e3).toFixed(0),
      ofC('messagesPerSecond'),
      (median('serverCpuNsPerMessage') / 1e3).toFixed(2),
      ofC('serverCpuNsPerMessage'),
      ...[median('p50Micros'), median('p99Micros'), median('p999Micros')].map((micros) => micros.toFixed(1)),
    ]
  })
  return {
    caption: `${load}: medians of the rounds; ratios are taken round by round, median (min–max)`,
    rows: [['', 'k msg/s', 'of C', 'CPU µs/msg', 'of C', 'p50 µs', 'p99 µs', 'p99.9 µs'], ...rows],
  }
}
