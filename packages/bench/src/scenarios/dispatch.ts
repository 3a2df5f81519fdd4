/**
 * What one ready eventfd costs in batches of 200, from readiness to its handler: ours, and npm `epoll` used
 * directly.
 *
 * npm `epoll` hands every event from its thread to the main one and waits. What that costs depends on where
 * the two run: on a machine with idle processors they sleep and wake on two of them, for which the bar is;
 * the cheapest case, both on one processor, is shown beside it.
 */
import { output } from '../child.js'
import { pinned, processors } from '../machine.js'
import {
  absolute,
  atLeast,
  atMost,
  barsPlot,
  formatSpread,
  parseFigures,
  ratios,
  spread,
  type Effort,
  type Report,
  type Spread,
} from '../report.js'
import { eachRound, inTurn } from '../rounds.js'
import { serverFile } from '../server.js'

/** Ready eventfds per batch. */
const EVENTFDS = 200
const OURS = 'ours'
const NPM_EPOLL = 'npm epoll'
const ON_ONE_PROCESSOR = 'npm epoll, on one processor'

interface Sample {
  round: number
  contender: string
  nsPerEvent: number
}

export async function benchDispatch({ rounds, seconds }: Effort): Promise<Report> {
  const command = (program: string): string[] => [
    process.execPath,
    serverFile(program),
    ...[seconds, EVENTFDS, 0].map(String),
  ]
  const npmEpoll = command('dispatch-npm-epoll')
  const contenders: [name: string, command: string[]][] = [
    [OURS, command('dispatch-fd-reactor')],
    [NPM_EPOLL, npmEpoll],
    [ON_ONE_PROCESSOR, pinned(processors().server, npmEpoll)],
  ]

  const samples: Sample[] = []
  for (const round of eachRound(rounds)) {
    for (const [contender, program] of inTurn(contenders, round))
      samples.push({ round, contender, nsPerEvent: await nsPerEvent(program) })
  }

  const series = (name: string): number[] =>
    samples.filter(({ contender }) => contender === name).map((sample) => sample.nsPerEvent)
  const names = contenders.map(([name]) => name)
  const ofOurs = (name: string): Spread => ratios(series(name), series(OURS))
  return {
    title: `dispatch: ${EVENTFDS} ready eventfds per batch, ${rounds} rounds of ${seconds} s`,
    tables: [
      {
        caption: 'ns per ready eventfd: median (min–max) of the rounds',
        rows: [
          ['', 'ns', 'times ours'],
          ...names.map((name) => [
            name,
            formatSpread(spread(series(name)), 0),
            formatSpread(ofOurs(name), 1),
          ]),
        ],
      },
    ],
    bars: [
      absolute(atMost(700, 'ours, ns per ready eventfd', spread(series(OURS)))),
      atLeast(20, 'npm epoll, times ours', ofOurs(NPM_EPOLL)),
    ],
    plots: [barsPlot(`one ready eventfd of ${EVENTFDS}, from readiness to its handler`, 'ns', names, series)],
    samples,
  }
}

async function nsPerEvent(command: readonly string[]): Promise<number> {
  return parseFigures(await output(command), ['nsPerEvent']).nsPerEvent
}
