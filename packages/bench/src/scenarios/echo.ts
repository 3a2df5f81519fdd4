/**
 * Echo servers under load: ours beside a bare C epoll loop, C libraries, Node's `net`, Bun and Deno.
 *
 * In every round all servers are started afresh and stay up together (an idle one costs nothing); each load
 * then visits them one after the other, so that what is compared was measured within seconds. Each round
 * begins with another server.
 */
import { BORROW, BUN, C, COPY, echoServers, LIBEVENT, LIBUV, NET, type EchoServer } from '../echo-servers.js'
import { runLoad, type LoadFigure, type LoadFigures } from '../load.js'
import {
  atLeast,
  atMost,
  formatSpread,
  medianDistribution,
  ratios,
  spread,
  type Bar,
  type Effort,
  type Plot,
  type Report,
  type Table,
} from '../report.js'
import { eachRound, inTurn } from '../rounds.js'
import { Server } from '../server.js'

const ONE = { name: '1 client', clients: 1, pipeline: 1, bytes: 64 }
const FIFTY = { name: '50 clients', clients: 50, pipeline: 1, bytes: 64 }
const LOADS = [
  ONE,
  FIFTY,
  { name: '1,000 clients', clients: 1000, pipeline: 1, bytes: 64 },
  { name: '50 clients × 16 pipelined', clients: 50, pipeline: 16, bytes: 64 },
  { name: '50 clients, messages of 64 KiB', clients: 50, pipeline: 1, bytes: 64 * 1024 },
]
type EchoLoad = (typeof LOADS)[number]

/** The load generator is what is measured when it has no time left and the server has. */
const WITHOUT_TIME_LEFT = 0.95
const WITH_TIME_LEFT = 0.9

interface Sample extends LoadFigures {
  round: number
  load: string
  server: string
}

/** The values of one figure under one load, round by round. */
type Series = (server: EchoServer, figure: LoadFigure) => number[]

export async function benchEcho({ rounds, seconds }: Effort): Promise<Report> {
  const { servers, missing, versions } = echoServers()
  const samples: Sample[] = []
  for (const round of eachRound(rounds)) {
    samples.push(...(await runRound(inTurn(servers, round), round, seconds)))
  }
  const of = (load: EchoLoad, server: EchoServer): Sample[] =>
    samples.filter((sample) => sample.load === load.name && sample.server === server.name)
  const under =
    (load: EchoLoad): Series =>
    (server, figure) =>
      of(load, server).map((sample) => sample[figure])
  const latency = (load: EchoLoad): Plot => ({
    kind: 'distribution',
    caption: `round trip, ${load.name}`,
    unit: 'µs',
    series: servers.map((server) =>
      medianDistribution(
        server.name,
        of(load, server).map(({ distribution }) => distribution),
      ),
    ),
  })
  return {
    title: `echo: messages of 64 bytes and of 64 KiB over a Unix socket, ${rounds} rounds of ${seconds} s`,
    tables: [
      ...LOADS.map((load) => table(load, servers, under(load))),
      { caption: 'versions', rows: [['peer', 'version'], ...versions] },
    ],
    bars: bars(servers, under(FIFTY)),
    plots: [...LOADS.map((load) => throughput(load, servers, under(load))), latency(ONE), latency(FIFTY)],
    missing,
    samples,
  }
}

async function runRound(servers: readonly EchoServer[], round: number, seconds: number): Promise<Sample[]> {
  const samples: Sample[] = []
  const running: { name: string; server: Server }[] = []
  try {
    for (const { name, candidate } of servers) running.push({ name, server: await Server.start(candidate) })
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

function table({ name }: EchoLoad, servers: readonly EchoServer[], series: Series): Table {
  const header = ['', 'k msg/s', 'of C', 'CPU µs/msg', 'of C', 'server busy', 'load busy']
  const median = (server: EchoServer, figure: LoadFigure): number => spread(series(server, figure)).median
  const percent = (share: number): string => `${(share * 100).toFixed(0)} %`
  const rows = servers.map((server) => {
    const ofC = (figure: LoadFigure): string =>
      formatSpread(ratios(series(server, figure), series(C, figure)))
    return [
      server.name,
      (median(server, 'messagesPerSecond') / 1e3).toFixed(0),
      ofC('messagesPerSecond'),
      (median(server, 'serverCpuNsPerMessage') / 1e3).toFixed(2),
      ofC('serverCpuNsPerMessage'),
      percent(median(server, 'serverBusyShare')),
      percent(median(server, 'loadBusyShare')),
      ...(['p50Micros', 'p90Micros', 'p99Micros', 'p999Micros', 'maxMicros'] as const).map((figure) =>
        median(server, figure).toFixed(1),
      ),
    ]
  })
  const held = servers.filter(
    (server) =>
      median(server, 'loadBusyShare') >= WITHOUT_TIME_LEFT &&
      median(server, 'serverBusyShare') < WITH_TIME_LEFT,
  )
  const bottleneck = `; the load generator was the bottleneck of ${held.map((server) => server.name).join('; ')}`
  return {
    caption: `${name}: medians of the rounds; ratios are taken round by round, median (min–max)${held.length > 0 ? bottleneck : ''}`,
    rows: [[...header, 'p50 µs', 'p90 µs', 'p99 µs', 'p99.9 µs', 'max µs'], ...rows],
  }
}

function throughput({ name }: EchoLoad, servers: readonly EchoServer[], series: Series): Plot {
  const values = servers.map((server) => ({
    label: server.name,
    spread: spread(series(server, 'messagesPerSecond')),
  }))
  return { kind: 'bars', caption: `throughput, ${name}`, unit: 'messages/s', values }
}

/** Of the peers that are there. */
function bars(servers: readonly EchoServer[], series: Series): Bar[] {
  const of = (server: EchoServer, base: EchoServer, figure: LoadFigure) =>
    ratios(series(server, figure), series(base, figure))
  const throughputOf = (limit: number, base: EchoServer): Bar[] =>
    servers.includes(base)
      ? [atLeast(limit, `ours, throughput of ${base.name}, 50 clients`, of(COPY, base, 'messagesPerSecond'))]
      : []
  const cpu = 'serverCpuNsPerMessage'
  return [
    ...throughputOf(0.9, C),
    atMost(1.15, 'ours, CPU per message of C epoll, 50 clients', of(COPY, C, cpu)),
    atLeast(0.97, 'ours with borrow, throughput of C epoll, 50 clients', of(BORROW, C, 'messagesPerSecond')),
    atMost(1.1, 'ours with borrow, CPU per message of C epoll, 50 clients', of(BORROW, C, cpu)),
    ...throughputOf(1.5, NET),
    ...throughputOf(1, BUN),
    ...throughputOf(1, LIBEVENT),
    ...throughputOf(1, LIBUV),
  ]
}
