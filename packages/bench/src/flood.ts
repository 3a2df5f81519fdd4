/** What the servers under a flood (`servers/priority-*.ts`) have in common, so that only the way of an event to its handler differs. */
import { Latencies, type LatencyFigures } from './latencies.js'
import { monotonicNs } from './monotonic.js'

/** How often the time is sent to them. */
export const PINGS_PER_SECOND = 1000

const WORK_NS = 10_000
const TIME_BYTES = 8
/** The flood has begun when so many of its messages were handled: the load generator tries each connection once before. */
const FLOODED = 1000

/** Does the work, and keeps how long the messages of importance waited. */
export class Flood {
  readonly #waits: Latencies
  #skip: number
  #handled = 0
  readonly #turns = turnsFor(WORK_NS)

  /** After a quarter of the seconds to warm up, `seconds` are measured. */
  constructor(seconds: number) {
    this.#waits = new Latencies(Math.ceil(seconds * PINGS_PER_SECOND))
    this.#skip = Math.floor(seconds * PINGS_PER_SECOND * 0.25)
  }

  /** What a message of the flood costs its handler; says `flooded` when it has begun. */
  work(): void {
    if (++this.#handled === FLOODED) console.log('flooded')
    spin(this.#turns)
  }

  /** Messages that each hold the time at which they were sent. */
  ping(bytes: Buffer): void {
    const nowNs = monotonicNs()
    for (let offset = 0; offset < bytes.length; offset += TIME_BYTES) {
      if (this.#skip-- > 0) continue
      this.#waits.record(nowNs - bytes.readDoubleLE(offset))
    }
  }

  /** How long they waited. */
  figures(): LatencyFigures {
    return this.#waits.figures()
  }
}

/** Keeps the processor busy. Looking at the clock meanwhile would make a number on the heap each time, and garbage to be collected. */
function spin(turns: number): number {
  let state = turns | 1
  for (let turn = 0; turn < turns; turn++) state = (Math.imul(state, 1664525) + 1013904223) | 0
  return state
}

/** How many turns take so long: of some tries the quickest, after V8 has optimised it. */
function turnsFor(ns: number): number {
  const turns = 100_000
  let quickest = Infinity
  for (let attempt = 0; attempt < 50; attempt++) {
    const begin = monotonicNs()
    spin(turns)
    quickest = Math.min(quickest, monotonicNs() - begin)
  }
  return Math.round((ns / quickest) * turns)
}
