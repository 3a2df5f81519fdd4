/**
 * Datagrams one way, as fast as they are taken: ours, npm unix-dgram, and C with recvmmsg and sendmmsg.
 *
 * The other end is always the C program, on the other processor. A receiver's queue holds max_dgram_qlen datagrams (often 10), so both
 * ends sleep and wake often: the CPU time per message says more about the candidate than the rate does.
 */
import { createRequire } from 'node:module'
import { cProgram } from '../c-program.js'
import { output } from '../child.js'
import { pinned, processors } from '../machine.js'
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
const NPM = 'npm unix-dgram'
const SIZES = [64, 1024]
const RECEIVERS = [C, 'ours', 'ours, borrow', NPM]
const SENDERS = [C, 'ours', NPM]
const WAYS: Readonly<Record<string, string>> = { ours: 'ours', 'ours, borrow': 'borrow', [NPM]: 'unix-dgram' }

interface Sample extends Figures {
  round: number
  what: string
  bytes: number
  name: string
}

export async function benchDgram({ rounds, seconds }: Effort): Promise<Report> {
  const missing = whyMissing()
  const present = (names: readonly string[]): string[] =>
    names.filter((name) => name !== NPM || missing === undefined)
  const samples: Sample[] = []
  for (const round of eachRound(rounds)) {
    for (const bytes of SIZES) {
      for (const name of inTurn(present(RECEIVERS), round)) {
        samples.push({ round, what: 'receiving', bytes, name, ...(await receive(name, bytes, seconds)) })
      }
      for (const name of inTurn(present(SENDERS), round)) {
        samples.push({ round, what: 'sending', bytes, name, ...(await send(name, bytes, seconds)) })
      }
    }
  }
  return {
    title: `dgram: one way, ${rounds} rounds of ${seconds} s`,
    tables: SIZES.flatMap((bytes) => [
      table('receiving', bytes, RECEIVERS, samples),
      table('sending', bytes, SENDERS, samples),
    ]),
    bars: [],
    plots: SIZES.flatMap((bytes) => [
      ...plots('receiving', bytes, RECEIVERS, samples),
      ...plots('sending', bytes, SENDERS, samples),
    ]),
    missing: missing === undefined ? [] : [`${NPM}: ${missing}`],
    samples,
  }
}

/** It compiles when it is installed, which may have failed. */
function whyMissing(): string | undefined {
  try {
    createRequire(import.meta.url)('unix-dgram')
    return undefined
  } catch (error) {
    return error instanceof Error ? error.message.split('\n')[0] : String(error)
  }
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
  const there = names.filter((name) => series(name, 'cpuNsPerMessage').length > 0)
  const rows = there.map((name) => {
    const cells = (figure: keyof Figures, scale: number, digits: number): string[] => [
      (spread(series(name, figure)).median / scale).toFixed(digits),
      formatSpread(ratios(series(name, figure), series(C, figure))),
      there.includes(NPM) ? formatSpread(ratios(series(name, figure), series(NPM, figure))) : '–',
    ]
    return [name, ...cells('messagesPerSecond', 1e3, 0), ...cells('cpuNsPerMessage', 1e3, 2)]
  })
  const header = ['', 'k msg/s', 'of C', 'of npm', 'CPU µs/msg', 'of C', 'of npm']
  return {
    caption: `${what}, ${bytes} B: medians of the rounds; ratios median (min–max)`,
    rows: [header, ...rows],
  }
}
