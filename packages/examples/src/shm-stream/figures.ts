/**
 * What is counted and said about a run.
 */
import { createHistogram, type RecordableHistogram } from 'node:perf_hooks'
import process from 'node:process'

/** Time and processor time since the first frame. */
export class Meter {
  #startNs = 0n
  #lastNs = 0n
  #cpu = process.cpuUsage()
  /** Frames that were counted, the first one included. */
  frames = 0

  /** One more frame, now. */
  count(): void {
    this.#lastNs = process.hrtime.bigint()
    if (this.frames++ > 0) return
    this.#startNs = this.#lastNs
    this.#cpu = process.cpuUsage()
  }

  /** Seconds since the first frame; 0 before it. */
  get elapsed(): number {
    return this.frames === 0 ? 0 : Number(process.hrtime.bigint() - this.#startNs) / 1e9
  }

  /** Seconds from the first frame to the last one. */
  get seconds(): number {
    return Number(this.#lastNs - this.#startNs) / 1e9
  }

  /** Of one processor, in percent. */
  get cpu(): string {
    const { user, system } = process.cpuUsage(this.#cpu)
    return this.seconds === 0 ? '–' : `${((user + system) / 1e4 / this.seconds).toFixed(0)} %`
  }

  /** Frames and bytes a second; the first frame only starts the clock. */
  rate(bytesPerFrame: number): string {
    if (this.seconds === 0) return 'too few frames for a rate'
    const perSecond = (this.frames - 1) / this.seconds
    return `${perSecond.toFixed(1)} frames/s, ${((perSecond * bytesPerFrame) / 1e9).toFixed(2)} GB/s`
  }
}

/** How long frames took from `ready` until they were checked. */
export class Latency {
  readonly #histogram: RecordableHistogram = createHistogram()

  record(ns: bigint): void {
    this.#histogram.record(ns > 0n ? ns : 1n)
  }

  toString(): string {
    const ms = (ns: number): string => (ns / 1e6).toFixed(2)
    const parts = [50, 90, 99].map((rank) => `p${rank} ${ms(this.#histogram.percentile(rank))}`)
    return `${parts.join(', ')}, max ${ms(this.#histogram.max)} ms`
  }
}
