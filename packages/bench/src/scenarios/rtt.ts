/**
 * Round trips of one client, in two modes: client and server sleep between messages, or both poll. The load generator is the
 * same for all. Servers that spin would disturb the others, so each is up during its own run only.
 *
 * `net` cannot poll; under the polling client it shows what its own sleep costs.
 */
import { BORROW, C, COPY, NET, type EchoServer } from '../echo-servers.js'
import { runLoad, type LoadFigure, type LoadFigures } from '../load.js'
import {
  atMost,
  formatSpread,
  medianDistribution,
  ratios,
  spread,
  type Bar,
  type Effort,
  type Report,
} from '../report.js'
import { eachRound, inTurn } from '../rounds.js'
import { cEpoll, ours, Server } from '../server.js'

/** Several round trips long, so that only a hiccup of the client lets the server fall asleep. */
const BUSY_POLL_MICROS = 50

const SPINNING: EchoServer = { name: 'C epoll, spinning', candidate: cEpoll('spin') }
const POLLING: EchoServer = {
  name: `ours, busyPollMicros ${BUSY_POLL_MICROS}`,
  candidate: ours('copy', BUSY_POLL_MICROS),
}
const MODES = [
  { name: 'blocking at both ends', spin: false, servers: [C, COPY, BORROW, NET] },
  { name: 'polling at both ends', spin: true, servers: [SPINNING, POLLING, NET] },
] as const
const [BLOCKING_MODE, POLLING_MODE] = MODES
type Mode = (typeof MODES)[number]

interface Sample extends LoadFigures {
  round: number
  mode: string
  server: string
}

export async function benchRtt({ rounds, seconds }: Effort): Promise<Report> {
  const samples: Sample[] = []
  for (const round of eachRound(rounds)) {
    for (const mode of MODES) {
      for (const { name, candidate } of inTurn(mode.servers, round)) {
        await using server = await Server.start(candidate)
        const figures = await runLoad(server, { clients: 1, pipeline: 1, seconds, spin: mode.spin })
        samples.push({ round, mode: mode.name, server: name, ...figures })
      }
    }
  }

  const of = (mode: Mode, server: EchoServer): Sample[] =>
    samples.filter((sample) => sample.mode === mode.name && sample.server === server.name)
  const ratio = (mode: Mode, server: EchoServer, base: EchoServer, figure: LoadFigure) =>
    ratios(
      of(mode, server).map((sample) => sample[figure]),
      of(mode, base).map((sample) => sample[figure]),
    )
  return {
    title: `rtt: one client, 64-byte messages, ${rounds} rounds of ${seconds} s`,
    tables: MODES.map((mode) => ({
      caption: `${mode.name}, round trip: median (min–max) of the rounds`,
      rows: [
        ['', 'p50 µs', 'p90 µs', 'p99 µs', 'p99.9 µs', 'max µs'],
        ...mode.servers.map((server) => [
          server.name,
          ...(['p50Micros', 'p90Micros', 'p99Micros', 'p999Micros', 'maxMicros'] as const).map((figure) =>
            formatSpread(spread(of(mode, server).map((sample) => sample[figure])), 1),
          ),
        ]),
      ],
    })),
    bars: bars(ratio),
    plots: MODES.map((mode) => ({
      kind: 'distribution',
      caption: `round trip, ${mode.name}`,
      unit: 'µs',
      series: mode.servers.map((server) =>
        medianDistribution(
          server.name,
          of(mode, server).map(({ distribution }) => distribution),
        ),
      ),
    })),
    samples,
  }
}

function bars(
  ratio: (mode: Mode, server: EchoServer, base: EchoServer, figure: LoadFigure) => ReturnType<typeof ratios>,
): Bar[] {
  const blocking = (server: EchoServer, base: EchoServer, figure: LoadFigure) =>
    ratio(BLOCKING_MODE, server, base, figure)
  const polling = (server: EchoServer, base: EchoServer, figure: LoadFigure) =>
    ratio(POLLING_MODE, server, base, figure)
  return [
    atMost(1.12, 'blocking: ours, p50 of C epoll', blocking(COPY, C, 'p50Micros')),
    atMost(0.25, 'blocking: ours, p99.9 of Node net', blocking(COPY, NET, 'p999Micros')),
    atMost(1.2, 'polling: ours, p50 of C epoll', polling(POLLING, SPINNING, 'p50Micros')),
    atMost(0.55, 'polling: ours, p50 of Node net', polling(POLLING, NET, 'p50Micros')),
    atMost(0.25, 'polling: ours, p99.9 of Node net', polling(POLLING, NET, 'p999Micros')),
  ]
}
