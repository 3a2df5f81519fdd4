/**
 * What one ready eventfd costs in batches of 200, from readiness to its handler: ours, and npm `epoll` used
 * directly.
 *
 * npm `epoll` hands every event from its thread to the main one and waits. What that costs depends on where
 * the two run: on a machine with idle processors they sleep and wake on two of them, for which the bar is;
 * the cheapest case, both on one processor, is shown beside it.
 */
import { output } from './child.js'
import { pinned, processors } from './machine.js'
import {
  absolute,
  atLeast,
  atMost,
  formatSpread,
  parseFigures,
  progress,
  ratios,
  spread,
  type Effort,
  type Report,
} from './report.js'
import { serverFile } from './server.js'

/** Ready eventfds per batch. */
const EVENTFDS = 200

interface Sample {
  round: number
  ours: number
  npmEpoll: number
  npmEpollOnOneProcessor: number
}

export async function benchDispatch({ rounds, seconds }: Effort): Promise<Report> {
  const command = (program: string): string[] => [
    process.execPath,
    serverFile(program),
    ...[seconds, EVENTFDS, 0].map(String),
  ]
  const ours = command('dispatch-fd-reactor')
  const npmEpoll = command('dispatch-npm-epoll')

  const samples: Sample[] = []
  for (let round = 1; round <= rounds; round++) {
    progress(`round ${round}/${rounds}`)
    samples.push({
      round,
      ours: await nsPerEvent(ours),
      npmEpoll: await nsPerEvent(npmEpoll),
      npmEpollOnOneProcessor: await nsPerEvent(pinned(processors().server, npmEpoll)),
    })
  }

  const series = (candidate: Exclude<keyof Sample, 'round'>): number[] =>
    samples.map((sample) => sample[candidate])
  const row = (name: string, candidate: Exclude<keyof Sample, 'round'>): string[] => [
    name,
    formatSpread(spread(series(candidate)), 0),
    formatSpread(ratios(series(candidate), series('ours')), 1),
  ]
  return {
    title: `dispatch: ${EVENTFDS} ready eventfds per batch, ${rounds} rounds of ${seconds} s`,
    tables: [
      {
        caption: 'ns per ready eventfd: median (min–max) of the rounds',
        rows: [
          ['', 'ns', 'times ours'],
          row('ours', 'ours'),
          row('npm epoll', 'npmEpoll'),
          row('npm epoll, on one processor', 'npmEpollOnOneProcessor'),
        ],
      },
    ],
    bars: [
      absolute(atMost(700, 'ours, ns per ready eventfd', spread(series('ours')))),
      atLeast(20, 'npm epoll, times ours', ratios(series('npmEpoll'), series('ours'))),
    ],
    plots: [
      {
        kind: 'bars',
        caption: `one ready eventfd of ${EVENTFDS}, from readiness to its handler`,
        unit: 'ns',
        values: [
          { label: 'ours', spread: spread(series('ours')) },
          { label: 'npm epoll', spread: spread(series('npmEpoll')) },
          { label: 'npm epoll, on one processor', spread: spread(series('npmEpollOnOneProcessor')) },
        ],
      },
    ],
    samples,
  }
}

async function nsPerEvent(command: readonly string[]): Promise<number> {
  return parseFigures(await output(command), ['nsPerEvent']).nsPerEvent
}
