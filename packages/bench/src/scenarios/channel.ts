/**
 * Messages from one thread to another: a Channel, and a MessagePort's postMessage().
 *
 * Each run is a process of two threads; both kinds take turns in every round.
 */
import { output } from '../child.js'
import {
  atLeast,
  barsPlot,
  formatSpread,
  parseFigures,
  ratios,
  spread,
  type Effort,
  type Report,
} from '../report.js'
import { eachRound, inTurn } from '../rounds.js'
import { serverFile } from '../server.js'

const KINDS = ['object', 'json', 'bytes'] as const
const NAMES = {
  object: 'a small object, structured',
  json: 'a small object, codec of JSON',
  bytes: '64 bytes',
}
const HOW = ['channel', 'port'] as const

type Kind = (typeof KINDS)[number]
type How = (typeof HOW)[number]

interface Sample {
  round: number
  kind: Kind
  how: How
  messagesPerSecond: number
}

export async function benchChannel({ rounds, seconds }: Effort): Promise<Report> {
  const samples: Sample[] = []
  const run = async (how: How, kind: Kind): Promise<number> => {
    const command = [process.execPath, serverFile('threads'), how, kind, String(seconds)]
    return parseFigures(await output(command), ['messagesPerSecond']).messagesPerSecond
  }
  for (const round of eachRound(rounds)) {
    for (const kind of KINDS) {
      for (const how of inTurn(HOW, round))
        samples.push({ round, kind, how, messagesPerSecond: await run(how, kind) })
    }
  }
  const series = (kind: Kind, how: How): number[] =>
    samples
      .filter((sample) => sample.kind === kind && sample.how === how)
      .map(({ messagesPerSecond }) => messagesPerSecond)
  const thousands = (values: readonly number[]): string => (spread(values).median / 1e3).toFixed(0)
  const rows = KINDS.map((kind) => [
    NAMES[kind],
    thousands(series(kind, 'channel')),
    thousands(series(kind, 'port')),
    formatSpread(ratios(series(kind, 'channel'), series(kind, 'port'))),
  ])
  return {
    title: `channel: messages from one thread to another, ${rounds} rounds of ${seconds} s`,
    tables: [
      {
        caption: 'thousands a second, medians; ratios are taken round by round, median (min–max)',
        rows: [['', 'Channel', 'postMessage()', 'times postMessage()'], ...rows],
      },
    ],
    // What objects cost is their codec's: no bar.
    bars: [
      atLeast(
        2,
        'Channel, times postMessage(), 64 bytes',
        ratios(series('bytes', 'channel'), series('bytes', 'port')),
      ),
    ],
    plots: KINDS.map((kind) =>
      barsPlot(NAMES[kind], 'messages per second', ['Channel', 'postMessage()'], (name) =>
        series(kind, name === 'Channel' ? 'channel' : 'port'),
      ),
    ),
    samples,
  }
}
