/**
 * How long an event of high priority waits while sources of low priority are always ready.
 *
 * The load generator keeps 200 clients busy, each of whose bursts costs the server 10 µs beside the echo; another C program on the same
 * processor sends the time 1000 times a second. What is measured is the handler's clock less the time in the message.
 */
import { once } from 'node:events'
import { output } from '../child.js'
import { cProgram } from '../c-program.js'
import { PINGS_PER_SECOND } from '../flood.js'
import { LATENCY_HEADER, latencyCells, parseLatencies, type LatencyFigures } from '../latencies.js'
import { runLoad } from '../load.js'
import { pinned, processors } from '../machine.js'
import {
  absolute,
  atMost,
  formatSpread,
  medianDistribution,
  ratios,
  spread,
  type Effort,
  type Report,
} from '../report.js'
import { eachRound, inTurn } from '../rounds.js'
import { loopAlone, Server, serverFile, type Candidate } from '../server.js'

const FLOOD = { clients: 200, pipeline: 16 }

interface Contender {
  name: string
  candidate: (seconds: number) => Candidate
}

interface Sample extends LatencyFigures {
  round: number
  contender: string
  messagesPerSecond: number
  serverBusyShare: number
  loadBusyShare: number
}

const ours =
  (priority: 'high' | 'normal', ...chunkMicros: string[]) =>
  (seconds: number): Candidate =>
  (path) =>
    loopAlone('priority-fd-reactor', [path, String(seconds), priority, ...chunkMicros])

const HIGH: Contender = { name: 'ours, high priority', candidate: ours('high') }
const LONG: Contender = { name: 'ours, high priority, chunkMicros 500', candidate: ours('high', '500') }
const SAME: Contender = { name: 'ours, all of one priority', candidate: ours('normal') }
const SHARING: Contender = {
  name: "ours, high priority, V8's threads on the same processor",
  candidate: (seconds) => (path) => [
    process.execPath,
    serverFile('priority-fd-reactor'),
    ...[path, String(seconds), 'high'],
  ],
}
const NET: Contender = {
  name: 'Node net',
  candidate: (seconds) => (path) => loopAlone('priority-net', [path, String(seconds)]),
}
const ALL = [HIGH, LONG, SHARING, SAME, NET]

export async function benchPriority({ rounds, seconds }: Effort): Promise<Report> {
  const samples: Sample[] = []
  for (const round of eachRound(rounds)) {
    for (const contender of inTurn(ALL, round))
      samples.push({ round, contender: contender.name, ...(await measure(contender, seconds)) })
  }
  const of = ({ name }: Contender): Sample[] => samples.filter(({ contender }) => contender === name)
  const p999 = (contender: Contender): number[] => of(contender).map(({ p999Micros }) => p999Micros)
  const rows = ALL.map((contender) => [
    contender.name,
    ...latencyCells(of(contender)),
    formatSpread(ratios(p999(contender), p999(NET)), 3),
    (spread(of(contender).map(({ messagesPerSecond }) => messagesPerSecond)).median / 1e3).toFixed(0),
    `${(spread(of(contender).map(({ serverBusyShare }) => serverBusyShare)).median * 100).toFixed(0)} %`,
  ])
  return {
    title: `priority: an event's wait beside a flood of ${FLOOD.clients} busy clients, ${rounds} rounds of ${seconds} s`,
    tables: [
      {
        caption: 'wait of 1000 messages a second: medians of the rounds, ratios median (min–max)',
        rows: [['', ...LATENCY_HEADER, 'p99.9 of net', 'flood k msg/s', 'server busy'], ...rows],
      },
    ],
    bars: [absolute(atMost(300, 'ours, high priority, p99.9 in µs', spread(p999(HIGH))))],
    plots: [
      {
        kind: 'distribution',
        caption: 'Wait of an event beside a flood of others',
        unit: 'µs',
        series: ALL.map((contender) =>
          medianDistribution(
            contender.name,
            of(contender).map(({ distribution }) => distribution),
          ),
        ),
      },
    ],
    samples,
  }
}

async function measure(
  { candidate }: Contender,
  seconds: number,
): Promise<Omit<Sample, 'round' | 'contender'>> {
  await using server = await Server.start(candidate(seconds))
  const [{ messagesPerSecond, serverBusyShare, loadBusyShare }, waits] = await Promise.all([
    // Longer than the messages whose wait is measured.
    runLoad(server, { ...FLOOD, seconds: seconds + 0.5 }),
    waitsOf(server, seconds),
  ])
  return { ...waits, messagesPerSecond, serverBusyShare, loadBusyShare }
}

/** Sends the time as soon as the flood has begun, and reads what the server says of it. */
export async function waitsOf(server: Server, seconds: number): Promise<LatencyFigures> {
  await once(server.output, 'data') // flooded
  const told = once(server.output, 'data')
  const numbers = [PINGS_PER_SECOND, seconds * 1.25].map(String)
  await output(pinned(processors().load, [cProgram('ping'), `${server.address}.ping`, ...numbers]))
  return parseLatencies((await told).join(''))
}
