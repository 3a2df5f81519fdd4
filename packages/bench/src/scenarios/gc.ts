/**
 * What an echoed message leaves for the garbage collector, by each of the three APIs, and what collecting costs.
 *
 * Bytes are counted in a server whose young generation is so large that nothing is collected in the window; there is
 * no figure otherwise. Collections are counted in others, with V8's defaults: at the 100,000 messages a second that the
 * bar means, over a minute with `--seconds 60`, and without a pause. Their window begins four seconds after the load; the
 * table shows what was collected before.
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
const RATE = 100_000
/** Holds what a second of messages allocates several times over; the kernel gives only what is touched. */
const YOUNG_MIB = 1024
const NOTHING_COLLECTED = [`--min-semi-space-size=${YOUNG_MIB}`, `--max-semi-space-size=${YOUNG_MIB}`]
/** For the bytes: until V8 has optimised. */
const SHORT_WARM_UP = 0.5
/** For the collections: until what starting left behind was collected, if it is. */
const LONG_WARM_UP = 4
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

/** One API in one round: `counted` without collections, `paced` and `unpaced` with V8's defaults. */
interface Sample {
  round: number
  api: Api
  counted: Figures
  paced: Figures
  unpaced: Figures
}

type Pace = 'paced' | 'unpaced'

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
      const window = { warmUp: LONG_WARM_UP, seconds, flags: [] }
      const paced = await measure(api, { ...window, rate: RATE })
      const unpaced = await measure(api, window)
      samples.push({ round, api, counted, paced, unpaced })
    }
  }

  const of = (api: Api, value: (sample: Sample) => number): Spread =>
    spread(samples.filter((sample) => sample.api === api).map(value))
  const heap = (api: Api): Spread => of(api, ({ counted }) => counted.heapBytes / counted.messages)
  const external = (api: Api): Spread => of(api, ({ counted }) => counted.externalBytes / counted.messages)
  const majors = (api: Api): Spread => of(api, ({ paced }) => paced.major)
  const collections = (pace: Pace): string[][] => [
    ['', 'k msg/s', 'minor', 'major', 'longest, ms', `major in the ${LONG_WARM_UP} s before`],
    ...APIS.map((api) => {
      const cell = (figure: (figures: Figures) => number, digits = 0): string =>
        formatSpread(
          of(api, (sample) => figure(sample[pace])),
          digits,
        )
      return [
        api,
        cell(({ messages, seconds: took }) => messages / took / 1e3),
        cell(({ minor }) => minor),
        cell(({ major }) => major),
        cell(({ longestMs }) => longestMs, 1),
        cell(({ majorBefore }) => majorBefore),
      ]
    }),
  ]
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
        caption: `collections with V8's defaults in ${seconds} s at ${RATE / 1e3} k msg/s: median (min–max) of the rounds`,
        rows: collections('paced'),
      },
      { caption: 'the same without a pause', rows: collections('unpaced') },
    ],
    bars: [
      atMost(128, 'borrow, bytes of JavaScript heap per message', heap('borrow')),
      atMost(16, 'offsets, bytes of JavaScript heap per message', heap('offsets')),
      atMost(0, `copy, major collections in ${seconds} s of ${RATE / 1e3} k msg/s`, majors('copy')),
      atMost(0, `borrow, major collections in ${seconds} s of ${RATE / 1e3} k msg/s`, majors('borrow')),
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
  /** Messages per second. Default: as many as go. */
  rate?: number
}

async function measure(api: Api, { warmUp, seconds, flags, rate = 0 }: Window): Promise<Figures> {
  const program = [process.execPath, ...flags, serverFile('allocating')]
  await using server = await Server.start((path) => [...program, path, api, String(warmUp), String(seconds)])
  // The load lasts a quarter longer than it is told, so past the end of the window.
  const load = { clients: CLIENTS, pipeline: 1, seconds: warmUp + seconds, rate }
  const signal = AbortSignal.timeout(2_000 * load.seconds + 10_000)
  const printed = once(server.output, 'data', { signal })
  await runLoad(server, load)
  return parseFigures((await printed).join(''), FIGURES)
}
