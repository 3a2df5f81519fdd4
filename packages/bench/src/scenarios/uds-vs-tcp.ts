/**
 * The same server on a Unix socket and on TCP over the loopback interface: what the choice of address costs.
 *
 * Texts on the subject say that a Unix socket has a latency 50 to 80 % lower and moves 2 to 3 times as many small messages.
 * The tables show what this machine says, whatever it is; there is no bar.
 */
import { runLoad, type LoadFigures, type LoadFigure } from '../load.js'
import {
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
import { anyAddress, Server } from '../server.js'

const SIZES = [64, 1024, 64 * 1024]
const LOADS = [
  { name: 'latency, 1 client', clients: 1 },
  { name: 'throughput, 50 clients', clients: 50 },
]
const KINDS = ['unix', 'tcp'] as const
type Kind = (typeof KINDS)[number]

interface Sample extends LoadFigures {
  round: number
  kind: Kind
  bytes: number
  load: string
}

export async function benchUdsVsTcp({ rounds, seconds }: Effort): Promise<Report> {
  const samples: Sample[] = []
  for (const round of eachRound(rounds)) {
    await using unix = await Server.start(anyAddress('unix'))
    await using tcp = await Server.start(anyAddress('tcp'))
    const servers = { unix, tcp }
    for (const bytes of SIZES) {
      for (const { name, clients } of LOADS) {
        for (const kind of inTurn(KINDS, round)) {
          const figures = await runLoad(servers[kind], { clients, bytes, pipeline: 1, seconds })
          samples.push({ round, kind, bytes, load: name, ...figures })
        }
      }
    }
  }
  return {
    title: `uds-vs-tcp: echo of one message at a time, ${rounds} rounds of ${seconds} s`,
    tables: LOADS.map(({ name }) => table(name, samples)),
    bars: [],
    plots: LOADS.flatMap(({ name }) => plots(name, samples)),
    samples,
  }
}

function chosen(load: string, bytes: number, kind: Kind, samples: readonly Sample[]): Sample[] {
  return samples.filter((sample) => sample.load === load && sample.bytes === bytes && sample.kind === kind)
}

function plots(load: string, samples: readonly Sample[]): Plot[] {
  const [smallest = 0] = SIZES
  const curve = (caption: string, unit: string, figure: LoadFigure): Plot => ({
    kind: 'curve',
    caption: `${load}: ${caption}`,
    unit,
    against: 'bytes',
    series: KINDS.map((label) => ({
      label,
      points: SIZES.map((x) => ({
        x,
        spread: spread(chosen(load, x, label, samples).map((sample) => sample[figure])),
      })),
    })),
  })
  return [
    curve('throughput', 'messages per second', 'messagesPerSecond'),
    curve('round trip, p50', 'µs', 'p50Micros'),
    {
      kind: 'distribution',
      caption: `${load}: round trips of ${smallest} B`,
      unit: 'µs',
      series: KINDS.map((label) =>
        medianDistribution(
          label,
          chosen(load, smallest, label, samples).map(({ distribution }) => distribution),
        ),
      ),
    },
  ]
}

function table(load: string, samples: readonly Sample[]): Table {
  const rows = SIZES.map((bytes) => {
    const series = (kind: Kind, figure: LoadFigure): number[] =>
      chosen(load, bytes, kind, samples).map((sample) => sample[figure])
    const both = (figure: LoadFigure, scale: number, digits: number): string[] => [
      ...KINDS.map((kind) => (spread(series(kind, figure)).median / scale).toFixed(digits)),
      formatSpread(ratios(series('unix', figure), series('tcp', figure))),
    ]
    return [
      `${bytes} B`,
      ...both('p50Micros', 1, 1),
      ...both('messagesPerSecond', 1e3, 1),
      ...both('serverCpuNsPerMessage', 1e3, 2),
    ]
  })
  const header = ['', 'p50 µs: unix', 'tcp', 'unix, of tcp', 'k msg/s: unix', 'tcp', 'unix, of tcp']
  return {
    caption: `${load}: medians of the rounds; ratios median (min–max)`,
    rows: [[...header, 'CPU µs/msg: unix', 'tcp', 'unix, of tcp'], ...rows],
  }
}
