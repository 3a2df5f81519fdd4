/**
 * Datagrams one way, as fast as they are taken: ours, npm unix-dgram and node-unix-socket, and C with recvmmsg and sendmmsg.
 *
 * The other end is always the C program, on the other processor. A receiver's queue holds max_dgram_qlen datagrams (often 10), so both
 * ends sleep and wake often: the CPU time per message says more about the candidate than the rate does.
 */
import { createRequire } from 'node:module'
import { cProgram } from '../c-program.js'
import { output } from '../child.js'
import { pinned, processors } from '../machine.js'
import { missingPeer, modulePeer } from '../peers.js'
import {
  barsPlot,
  formatSpread,
  parseFigures,
  ratios,
  spread,
  type Effort,
  type Plot,
  type Report,
  type Table,
} from '../report.js'
import { eachRound, inTurn } from '../rounds.js'
import { Server, serverFile } from '../server.js'

const FIGURES = ['messagesPerSecond', 'cpuNsPerMessage'] as const
type Figures = Record<(typeof FIGURES)[number], number>

const C = 'C'
const UNIX_DGRAM = 'npm unix-dgram'
const NODE_UNIX_SOCKET = 'npm node-unix-socket'
const SIZES = [64, 1024]
const RECEIVERS = [C, 'ours', 'ours, borrow', UNIX_DGRAM, NODE_UNIX_SOCKET]
const SENDERS = [C, 'ours', UNIX_DGRAM, NODE_UNIX_SOCKET]
const WAYS: Readonly<Record<string, string>> = {
  ours: 'ours',
  'ours, borrow': 'borrow',
  [UNIX_DGRAM]: 'unix-dgram',
  [NODE_UNIX_SOCKET]: 'node-unix-socket',
}

interface Sample extends Figures {
  round: number
  what: string
  bytes: number
  name: string
}

export async function benchDgram({ rounds, seconds }: Effort): Promise<Report> {
  const missing = missingPeers()
  const present = (names: readonly string[]): string[] => names.filter((name) => !missing.has(name))
  const [receivers, senders] = [present(RECEIVERS), present(SENDERS)]
  const samples: Sample[] = []
  for (const round of eachRound(rounds)) {
    for (const bytes of SIZES) {
      for (const name of inTurn(receivers, round)) {
        samples.push({ round, what: 'receiving', bytes, name, ...(await receive(name, bytes, seconds)) })
      }
      for (const name of inTurn(senders, round)) {
        samples.push({ round, what: 'sending', bytes, name, ...(await send(name, bytes, seconds)) })
      }
    }
  }
  return {
    title: `dgram: one way, ${rounds} rounds of ${seconds} s`,
    tables: SIZES.flatMap((bytes) => [
      table('receiving', bytes, receivers, samples),
      table('sending', bytes, senders, samples),
    ]),
    bars: [],
    plots: SIZES.flatMap((bytes) => [
      ...plots('receiving', bytes, receivers, samples),
      ...plots('sending', bytes, senders, samples),
    ]),
    missing: [...missing.values()],
    samples,
  }
}

/** The names of those that are not there, each with a sentence. */
function missingPeers(): Map<string, string> {
  const missing = new Map<string, string>()
  try {
    // It compiles when it is installed, which may have failed.
    createRequire(import.meta.url)('unix-dgram')
  } catch (error) {
    const reason = error instanceof Error ? error.message.split('\n')[0] : error
    missing.set(UNIX_DGRAM, `${UNIX_DGRAM}: ${String(reason)}`)
  }
  if (modulePeer('node-unix-socket') === undefined)
    missing.set(NODE_UNIX_SOCKET, missingPeer(NODE_UNIX_SOCKET))
  return missing
}

async function receive(name: string, bytes: number, seconds: number): Promise<Figures> {
  const way = WAYS[name]
  await using server = await Server.start((path) =>
    way === undefined
      ? [cProgram('dgram'), 'receive', path]
      : [process.execPath, serverFile('messages'), path, 'receive', way],
  )
  const numbers = [bytes, seconds, server.pid].map(String)
  const command = [cProgram('dgram'), 'send', server.address, ...numbers]
  return parseFigures(await output(pinned(processors().load, command)), FIGURES)
}

async function send(name: string, bytes: number, seconds: number): Promise<Figures> {
  const way = WAYS[name]
  await using server = await Server.start((path) => [cProgram('dgram'), 'receive', path])
  const numbers = [bytes, seconds].map(String)
  const command =
    way === undefined
      ? [cProgram('dgram'), 'send', server.address, ...numbers]
      : [process.execPath, serverFile('messages'), server.address, 'send', way, ...numbers]
  return parseFigures(await output(pinned(processors().load, command)), FIGURES)
}

type Series = (name: string, figure: keyof Figures) => number[]

function seriesOf(what: string, bytes: number, samples: readonly Sample[]): Series {
  return (name, figure) =>
    samples
      .filter((sample) => sample.what === what && sample.bytes === bytes && sample.name === name)
      .map((sample) => sample[figure])
}

function plots(what: string, bytes: number, names: readonly string[], samples: readonly Sample[]): Plot[] {
  const series = seriesOf(what, bytes, samples)
  const plot = (caption: string, unit: string, figure: keyof Figures): Plot =>
    barsPlot(`${what} ${bytes} B: ${caption}`, unit, names, (name) => series(name, figure))
  return [
    plot('throughput', 'messages per second', 'messagesPerSecond'),
    plot('CPU', 'ns per message', 'cpuNsPerMessage'),
  ]
}

function table(what: string, bytes: number, names: readonly string[], samples: readonly Sample[]): Table {
  const series = seriesOf(what, bytes, samples)
  const bases = [C, UNIX_DGRAM, NODE_UNIX_SOCKET].filter((name) => names.includes(name))
  const rows = names.map((name) => {
    const cells = (figure: keyof Figures, scale: number, digits: number): string[] => [
      (spread(series(name, figure)).median / scale).toFixed(digits),
      ...bases.map((base) => formatSpread(ratios(series(name, figure), series(base, figure)))),
    ]
    return [name, ...cells('messagesPerSecond', 1e3, 0), ...cells('cpuNsPerMessage', 1e3, 2)]
  })
  const of = bases.map((base) => `of ${base.replace('npm ', '')}`)
  const header = ['', 'k msg/s', ...of, 'CPU µs/msg', ...of]
  return {
    caption: `${what}, ${bytes} B: medians of the rounds; ratios median (min–max)`,
    rows: [header, ...rows],
  }
}
