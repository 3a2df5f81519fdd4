/**
 * What an echoed message leaves for the garbage collector, by each of the three APIs, and what collecting costs.
 *
 * Bytes are counted in a server whose young generation is so large that nothing is collected in the window; it refuses
 * to give a figure otherwise. Collections are counted in another one, with V8's defaults, under the same load of 50
 * clients without a pause: `--seconds 60` is the run that the bar means.
 */
import { once } from 'node:events'
import { runLoad } from './load.js'
import {
  atMost,
  formatSpread,
  parseFigures,
  progress,
  spread,
  type Effort,
  type Report,
  type Spread,
} from './report.js'
import { Server, serverFile } from './server.js'

const APIS = ['copy', 'borrow', 'offsets'] as const
const CLIENTS = 50
/** Holds what a second of messages allocates several times over; the kernel gives only what is touched. */
const YOUNG_MIB = 1024
const NOTHING_COLLECTED = [`--min-semi-space-size=${YOUNG_MIB}`, `--max-semi-space-size=${YOUNG_MIB}`]
const LONGEST_COUNT_SECONDS = 1
const FIGURES = ['seconds', 'messages', 'heapBytes', 'externalBytes', 'minor', 'major', 'longestMs'] as const

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
  for (let round = 1; round <= rounds; round++) {
    progress(`round ${round}/${rounds}`)
    for (const [index] of APIS.entries()) {
      const api = APIS[(index + round) % APIS.length] ?? 'copy'
      const counted = await measure(api, Math.min(seconds, LONGEST_COUNT_SECONDS), NOTHING_COLLECTED)
      if (counted.minor + counted.major > 0)
        throw new Error(`${api}: a collection came in between; measure for less than ${seconds} s`)
      samples.push({ round, api, counted, collected: await measure(api, seconds, []) })
    }
  }

  const of = (api: Api, value: (sample: Sample) => number): Spread =>
    spread(samples.filter((sample) => sample.api === api).map(value))
  const heap = (api: Api): Spread => of(api, ({ counted }) => counted.heapBytes / counted.messages)
  const external = (api: Api): Spread => of(api, ({ counted }) => counted.externalBytes / counted.messages)
  const majors = (api: Api): Spread => of(api, ({ collected }) => collected.major)
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
        caption: `collections with V8's defaults, in ${(1.15 * seconds).toFixed(1)} s: median (min–max) of the rounds`,
        rows: [
          ['', 'k msg/s', 'minor', 'major', 'longest, ms'],
          ...APIS.map((api) => [
            api,
            formatSpread(
              of(api, ({ collected }) => collected.messages / collected.seconds / 1e3),
              0,
            ),
            formatSpread(
              of(api, ({ collected }) => collected.minor),
              0,
            ),
            formatSpread(majors(api), 0),
            formatSpread(
              of(api, ({ collected }) => collected.longestMs),
              1,
            ),
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

async function measure(api: Api, seconds: number, flags: readonly string[]): Promise<Figures> {
  await using server = await Server.start((path) => [
    process.execPath,
    ...flags,
    serverFile('allocating'),
    path,
    api,
    String(seconds),
  ])
  const signal = AbortSignal.timeout(2_000 * seconds + 10_000)
  const printed = once(server.output, 'data', { signal })
  await runLoad(server, { clients: CLIENTS, pipeline: 1, seconds })
  return parseFigures((await printed).join(''), FIGURES)
}
