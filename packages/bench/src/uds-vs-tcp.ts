/**
 * The same server on a Unix socket and on TCP over the loopback interface: what the choice of address costs.
 *
 * Texts on the subject say that a Unix socket has a latency 50 to 80 % lower and moves 2 to 3 times as many small messages.
 * The tables show what this machine says, whatever it is; there is no bar.
 */
import { runLoad, type LoadFigures, type LoadFigure } from './load.js'
import { formatSpread, progress, ratios, spread, type Effort, type Report, type Table } from './report.js'
import { anyAddress, Server } from './server.js'

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
  for (let round = 1; round <= rounds; round++) {
    progress(`round ${round}/${rounds}`)
    await using unix = await Server.start(anyAddress('unix'))
    await using tcp = await Server.start(anyAddress('tcp'))
    const servers = { unix, tcp }
    for (const bytes of SIZES) {
      for (const { name, clients } of LOADS) {
        for (const kind of round % 2 === 0 ? KINDS : KINDS.toReversed()) {
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
    samples,
  }
}

function table(load: string, samples: readonly Sample[]): Table {
  const rows = SIZES.map((bytes) => {
    const series = (kind: Kind, figure: LoadFigure): number[] =>
      samples
        .filter((sample) => sample.load === load && sample.bytes === bytes && sample.kind === kind)
        .map((sample) => sample[figure])
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
