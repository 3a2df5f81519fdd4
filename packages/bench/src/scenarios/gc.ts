/**
 * What an echoed message leaves for the garbage collector, by each of the three APIs, and what collecting costs.
 *
 * Bytes are counted in a server whose young generation is so large that nothing is collected in the window; there is
 * no figure otherwise. Collections are counted in another one, with V8's defaults, under the same load of 50 clients
 * without a pause: `--seconds 60` is the run that the bar means. V8 looks 8 seconds after a start whether the heap
 * can shrink, by a major collection or two: the window begins after them, and the table shows them.
 */
import { once } from 'node:events'
import { runLoad } from '../load.js'
import {
  atMost,
  formatSpread,
  parseFigures,
  spread,
  type Effort,
  type Report,
  type Spread,
} from '../report.js'
import { eachRound, inTurn } from '../rounds.js'
import { Server, serverFile } from '../server.js'

const APIS = ['copy', 'borrow', 'offsets'] as const
const CLIENTS = 50
/** Holds what a second of messages allocates several times over; the kernel gives only what is touched. */
const YOUNG_MIB = 1024
const NOTHING_COLLECTED = [`--min-semi-space-size=${YOUNG_MIB}`, `--max-semi-space-size=${YOUNG_MIB}`]
/** For the bytes: until V8 has optimised. */
const SHORT_WARM_UP = 0.5
/** For the collections: until V8 has looked whether the heap can shrink. */
const LONG_WARM_UP = 12
/** V8 collects after 32 MiB of external memory, too: half a million copies of 64 bytes, warm-up included. */
const LONGEST_COUNT_SECONDS = 0.5
const FIGURES = [
  'seconds',
  'messages',
  'heapBytes',
  'externalBytes',
  'minor',
  'major',
  'longestMs',
  'majorBefore',
] as const

type Api = (typeof APIS)[number]
type Figures = Record<(typeof FIGURES)[number], number>

/** One API in one round: `counted` without collections, `collected` with V8's defaults. */
interface Sample {
  round: number
  api: Api
  counted: Figures
  collected: Figures
}

export async function benchGc({ rounds, seconds }: Effort): Promise<Report> {
  const samples: Sample[] = []
  for (const round of eachRound(rounds)) {
    for (const api of inTurn(APIS, round)) {
      const counted = await measure(api, {
        warmUp: SHORT_WARM_UP,
        seconds: Math.min(seconds, LONGEST_COUNT_SECONDS),
        flags: NOTHING_COLLECTED,
      })
      if (counted.minor + counted.major > 0)
        throw new Error(`${api}: something was collected meanwhile; --seconds must be less`)
      const collected = await measure(api, { warmUp: LONG_WARM_UP, seconds, flags: [] })
      samples.push({ round, api, counted, collected })
    }
  }

  const of = (api: Api, value: (sample: Sample) => number): Spread =>
    spread(samples.filter((sample) => sample.api === api).map(value))
  const heap = (api: Api): Spread => of(api, ({ counted }) => counted.heapBytes / counted.messages)
  const external = (api: Api): Spread => of(api, ({ counted }) => counted.externalBytes / counted.messages)
  const collected = (api: Api, figure: keyof Figures, digits: number): string =>
    formatSpread(
      of(api, (sample) => sample.collected[figure]),
      digits,
    )
  const majors = (api: Api): Spread => of(api, (sample) => sample.collected.major)
  return {
    title: `gc: 64-byte messages echoed over a Unix socket, ${CLIENTS} clients, ${rounds} rounds of ${seconds} s`,
    tables: [
      {
        caption: 'allocated for a message, bytes: median (min–max) of the rounds',
        rows: [
          ['', 'JavaScript heap', 'external (buffers)'],
          ...APIS.map((api) => [api, formatSpread(heap(api), 1), formatSpread(external(api), 1)]),
        ],
      },
      {
        caption: `collections with V8's defaults in ${seconds} s: median (min–max) of the rounds`,
        rows: [
          ['', 'k msg/s', 'minor', 'major', 'longest, ms', `major in the ${LONG_WARM_UP} s before`],
          ...APIS.map((api) => [
            api,
            formatSpread(
              of(api, (sample) => sample.collected.messages / sample.collected.seconds / 1e3),
              0,
            ),
            collected(api, 'minor', 0),
            collected(api, 'major', 0),
            collected(api, 'longestMs', 1),
            collected(api, 'majorBefore', 0),
          ]),
        ],
      },
    ],
    bars: [
      atMost(128, 'borrow, bytes of JavaScript heap per message', heap('borrow')),
      atMost(16, 'offsets, bytes of JavaScript heap per message', heap('offsets')),
      atMost(0, `copy, major collections in ${seconds} s`, majors('copy')),
      atMost(0, `borrow, major collections in ${seconds} s`, majors('borrow')),
    ],
    plots: [
      {
        kind: 'bars',
        caption: 'JavaScript heap allocated for one echoed message',
        unit: 'bytes',
        values: APIS.map((api) => ({ label: api, spread: heap(api) })),
      },
      {
        kind: 'bars',
        caption: 'external memory allocated for one echoed message',
        unit: 'bytes',
        values: APIS.map((api) => ({ label: api, spread: external(api) })),
      },
    ],
    samples,
  }
}

interface Window {
  /** Seconds of load before it. */
  warmUp: number
  seconds: number
  /** Of V8. */
  flags: readonly string[]
}

async function measure(api: Api, { warmUp, seconds, flags }: Window): Promise<Figures> {
  const program = [process.execPath, ...flags, serverFile('allocating')]
  await using server = await Server.start((path) => [...program, path, api, String(warmUp), String(seconds)])
  // The load lasts a quarter longer than it is told, so past the end of the window.
  const load = { clients: CLIENTS, pipeline: 1, seconds: warmUp + seconds }
  const signal = AbortSignal.timeout(2_000 * load.seconds + 10_000)
  const printed = once(server.output, 'data', { signal })
  await runLoad(server, load)
  return parseFigures((await printed).join(''), FIGURES)
}
