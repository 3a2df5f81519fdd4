/**
 * What the server's sleep costs: one client that polls, against our server asleep between messages, our
 * server busy polling, and a C server that spins. Spinning servers would disturb the others, so each is up
 * during its own run only.
 */
import { runLoad, type LoadFigures, type LoadFigure } from './load.js'
import { atMost, formatSpread, progress, ratios, spread, type Effort, type Report } from './report.js'
import { cEpoll, ours, Server } from './server.js'

/** Several round trips long, so that only a hiccup of the client lets the server fall asleep. */
const BUSY_POLL_MICROS = 50

interface Sample extends LoadFigures {
  round: number
  server: string
}

export async function benchBusyPoll({ rounds, seconds }: Effort): Promise<Report> {
  const spinning = { name: 'C epoll, spinning', candidate: cEpoll('spin') }
  const blocking = { name: 'ours, blocking', candidate: ours('copy') }
  const polling = {
    name: `ours, busyPollMicros ${BUSY_POLL_MICROS}`,
    candidate: ours('copy', BUSY_POLL_MICROS),
  }
  const all = [spinning, blocking, polling]

  const samples: Sample[] = []
  for (let round = 1; round <= rounds; round++) {
    progress(`round ${round}/${rounds}`)
    for (const { name, candidate } of all) {
      await using server = await Server.start(candidate)
      samples.push({
        round,
        server: name,
        ...(await runLoad(server, { clients: 1, pipeline: 1, seconds, spin: true })),
      })
    }
  }

  const series = ({ name }: { name: string }, figure: LoadFigure): number[] =>
    samples.filter((sample) => sample.server === name).map((sample) => sample[figure])
  const rows = all.map((server) => [
    server.name,
    ...(['p50Micros', 'p99Micros', 'p999Micros', 'maxMicros'] as const).map((figure) =>
      formatSpread(spread(series(server, figure)), 1),
    ),
  ])
  return {
    title: `busypoll: one client that polls, 64-byte messages, ${rounds} rounds of ${seconds} s`,
    tables: [
      {
        caption: 'round trip: median (min–max) of the rounds',
        rows: [['', 'p50 µs', 'p99 µs', 'p99.9 µs', 'max µs'], ...rows],
      },
    ],
    bars: [
      atMost(
        0.65,
        'busy polling, p50 of the blocking server',
        ratios(series(polling, 'p50Micros'), series(blocking, 'p50Micros')),
      ),
      atMost(
        1.3,
        'busy polling, p99.9 of the spinning C server',
        ratios(series(polling, 'p999Micros'), series(spinning, 'p999Micros')),
      ),
    ],
    samples,
  }
}
