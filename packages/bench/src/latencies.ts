/** Latencies, kept one by one where they are measured (`c/latency.h` is the same in C) and read where they are compared. */
import { parseDistribution, parseFigures, spread, type Distribution } from './report.js'

/** The percentiles that tables show. */
const LATENCY_FIGURES = ['p50Micros', 'p90Micros', 'p99Micros', 'p999Micros', 'maxMicros'] as const

/** One of them. */
export type LatencyFigure = (typeof LATENCY_FIGURES)[number]

/** What a run says of its latencies, in microseconds. */
export interface LatencyFigures extends Record<LatencyFigure, number> {
  distribution: Distribution['points']
}

const PERCENTILES = [0, 10, 25, 50, 75, 90, 95, 99, 99.5, 99.9, 99.95, 99.99, 99.999, 100]

/** Recording allocates nothing, and what exceeds the capacity is not kept. */
export class Latencies {
  readonly #nanoseconds: Float64Array
  #count = 0

  constructor(capacity: number) {
    // Written once, so that recording causes no page faults.
    this.#nanoseconds = new Float64Array(capacity).fill(1)
  }

  /** At least 1 ns, which a logarithmic axis can show: the clocks of two programs differ by less than that matters. */
  record(nanoseconds: number): void {
    if (this.#count < this.#nanoseconds.length) this.#nanoseconds[this.#count++] = Math.max(nanoseconds, 1)
  }

  /** @throws Error when nothing was recorded. */
  figures(): LatencyFigures {
    if (this.#count === 0) throw new Error('nothing was measured: it needs more seconds')
    const sorted = this.#nanoseconds.slice(0, this.#count).sort()
    const micros = (percentile: number): number => {
      const rank = Math.floor((percentile / 100) * sorted.length)
      return Math.round(sorted[Math.min(rank, sorted.length - 1)] ?? NaN) / 1e3
    }
    return latencyFigures(PERCENTILES.map((percentile) => [percentile, micros(percentile)]))
  }
}

/** The figures that a distribution holds. */
export function latencyFigures(distribution: Distribution['points']): LatencyFigures {
  const values = new Map(distribution)
  const at = (percentile: number): number => values.get(percentile) ?? NaN
  return {
    p50Micros: at(50),
    p90Micros: at(90),
    p99Micros: at(99),
    p999Micros: at(99.9),
    maxMicros: at(100),
    distribution,
  }
}

/** Out of one line of JSON that a program printed. */
export function parseLatencies(line: string): LatencyFigures {
  return { ...parseFigures(line, LATENCY_FIGURES), distribution: parseDistribution(line) }
}

/** The header of a table's columns of latency. */
export const LATENCY_HEADER = ['p50 µs', 'p90 µs', 'p99 µs', 'p99.9 µs', 'max µs']

/** Their cells: medians of the rounds. */
export function latencyCells(rounds: readonly LatencyFigures[]): string[] {
  return LATENCY_FIGURES.map((figure) => spread(rounds.map((round) => round[figure])).median.toFixed(1))
}
