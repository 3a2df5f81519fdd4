/**
 * From `sigqueue` to the handler: how long it takes, one signal at a time, and how many signals are handled in a second.
 *
 * The sender is a C program on another processor (`c/sigqueue.c`). `process.on` knows no real-time signals: it gets SIGUSR2, without
 * a number, and its rate is that of the deliveries it sees while a sender never pauses; most of what was sent is merged.
 */
import { output } from '../child.js'
import { cProgram } from '../c-program.js'
import { LATENCY_HEADER, latencyCells, parseLatencies, type LatencyFigures } from '../latencies.js'
import { pinned, processors } from '../machine.js'
import {
  formatSpread,
  medianDistribution,
  parseFigures,
  ratios,
  spread,
  type Effort,
  type Report,
} from '../report.js'
import { eachRound, inTurn } from '../rounds.js'
import { serverFile } from '../server.js'

interface Contender {
  name: string
  signal: 'rt' | 'usr2'
  /** The program that handles: what it is to tell comes last. */
  command: (tells: 'latency' | 'count') => string[]
}

interface Sample extends LatencyFigures {
  round: number
  contender: string
  handledPerSecond: number
  sentPerSecond: number
}

/** The number of SIGRTMIN+2, as glibc counts. */
const REAL_TIME = '36'
const C: Contender = {
  name: 'C signalfd',
  signal: 'rt',
  command: (tells) => [cProgram('signal'), tells, REAL_TIME],
}
const OURS: Contender = {
  name: 'ours, SignalFd',
  signal: 'rt',
  command: (tells) => [process.execPath, serverFile('signal'), 'ours', tells],
}
const NODE: Contender = {
  name: 'process.on (SIGUSR2, merged)',
  signal: 'usr2',
  command: (tells) => [process.execPath, serverFile('signal'), 'process', tells],
}
const ALL = [C, OURS, NODE]

export async function benchSignal({ rounds, seconds }: Effort): Promise<Report> {
  const samples: Sample[] = []
  for (const round of eachRound(rounds)) {
    for (const contender of inTurn(ALL, round))
      samples.push({ round, contender: contender.name, ...(await measure(contender, seconds)) })
  }
  const of = ({ name }: Contender): Sample[] => samples.filter(({ contender }) => contender === name)
  const figure = (
    contender: Contender,
    name: 'p50Micros' | 'p99Micros' | 'handledPerSecond' | 'sentPerSecond',
  ) => of(contender).map((sample) => sample[name])
  const ofC = (contender: Contender, name: 'p50Micros' | 'p99Micros' | 'handledPerSecond'): string =>
    formatSpread(ratios(figure(contender, name), figure(C, name)))
  const thousands = (values: readonly number[]) => spread(values.map((value) => value / 1e3))
  return {
    title: `signal: from sigqueue to the handler, ${rounds} rounds of ${seconds} s`,
    tables: [
      {
        caption: 'latency, one signal at a time: medians of the rounds, ratios median (min–max)',
        rows: [
          ['', ...LATENCY_HEADER, 'p50 of C', 'p99 of C'],
          ...ALL.map((each) => [
            each.name,
            ...latencyCells(of(each)),
            ofC(each, 'p50Micros'),
            ofC(each, 'p99Micros'),
          ]),
        ],
      },
      {
        caption:
          'rate: bursts of real-time signals, queued while the program stood still; of process.on the deliveries while SIGUSR2 is sent without a pause',
        rows: [
          ['', 'k handled/s', 'of C', 'k sent/s'],
          ...ALL.map((each) => [
            each.name,
            formatSpread(thousands(figure(each, 'handledPerSecond')), 0),
            ofC(each, 'handledPerSecond'),
            each.signal === 'rt' ? 'all queued' : thousands(figure(each, 'sentPerSecond')).median.toFixed(0),
          ]),
        ],
      },
    ],
    bars: [],
    plots: [
      {
        kind: 'distribution',
        caption: 'From sigqueue to the handler',
        unit: 'µs',
        series: ALL.map((each) =>
          medianDistribution(
            each.name,
            of(each).map(({ distribution }) => distribution),
          ),
        ),
      },
      {
        kind: 'bars',
        caption: 'Signals handled',
        unit: 'thousand per second',
        values: ALL.map((each) => ({
          label: each.name,
          spread: thousands(figure(each, 'handledPerSecond')),
        })),
      },
    ],
    samples,
  }
}

async function measure(contender: Contender, seconds: number): Promise<Omit<Sample, 'round' | 'contender'>> {
  const latencies = parseLatencies(await send('latency', contender, seconds))
  const line = await send(contender.signal === 'rt' ? 'burst' : 'flood', contender, seconds)
  const { perSecond, sentPerSecond } = parseFigures(line, ['perSecond', 'sentPerSecond'])
  return { ...latencies, handledPerSecond: perSecond, sentPerSecond }
}

/** The sender starts the program, so each is pinned for itself. */
async function send(
  how: 'latency' | 'burst' | 'flood',
  { signal, command }: Contender,
  seconds: number,
): Promise<string> {
  const { server, load } = processors()
  const program = pinned(server, command(how === 'latency' ? 'latency' : 'count'))
  return output(pinned(load, [cProgram('sigqueue'), how, signal, String(seconds), ...program]))
}
