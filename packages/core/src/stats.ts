/**
 * What a reactor counts always, and what it measures when asked to.
 */
import { createHistogram, type RecordableHistogram } from 'node:perf_hooks'

/** One registered source, as {@link Reactor.sources} and {@link Reactor.stats} show it. */
export interface SourceInfo {
  /** Its kind and descriptor, such as `TimerFd 19`. */
  label: string
  /** Its descriptor. */
  fd: number
  /** Its priority. */
  priority: 'high' | 'normal' | 'low'
  /** What it is watched for now, as `Interest` bits; 0 while it is paused or has no listener. */
  interest: number
  /** Whether it keeps the process going. */
  ref: boolean
  /** How many records it was given. */
  events: number
}

/** Counts since the reactor was made, and histograms in nanoseconds if it was made with `measure: true`. */
export interface ReactorStats {
  /** Crossings into JavaScript. */
  batches: number
  /** Records delivered to sources. */
  events: number
  /** How often the epoll set had to be made anew, see {@link ReactorOptions.onRebuild}. */
  rebuilds: number
  /** The registered sources. */
  sources: SourceInfo[]
  /** How long handlers took, each source's turn by itself. */
  handlerTimeNs?: RecordableHistogram
  /** From `epoll_wait`'s return to the handler. */
  deliveryDelayNs?: RecordableHistogram
}

/** The two histograms, and the clock that they share. */
export class Measurements {
  readonly handlerTimeNs = createHistogram()
  readonly deliveryDelayNs = createHistogram()
  #startedNs = 0n

  begin(returnedNs: bigint): void {
    this.#startedNs = process.hrtime.bigint()
    record(this.deliveryDelayNs, this.#startedNs - returnedNs)
  }

  end(): void {
    record(this.handlerTimeNs, process.hrtime.bigint() - this.#startedNs)
  }
}

/** A histogram takes 1 and more; two readings of a coarse clock may be equal. */
function record(histogram: RecordableHistogram, ns: bigint): void {
  histogram.record(ns > 0n ? ns : 1n)
}
