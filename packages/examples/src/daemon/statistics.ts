/**
 * What the daemon counts, and the report of it, for the `stats` request and for SIGUSR2.
 */
import { createHistogram, type RecordableHistogram } from 'node:perf_hooks'
import process from 'node:process'
import type { Reactor } from '@fd-reactor/core'
import type { Subscribers } from './subscribers.js'
import type { WorkerPool } from './worker-pool.js'

/** Where the numbers come from that somebody else keeps. */
export interface StatisticsSources {
  reactor: Reactor
  subscribers: Subscribers
  pool: WorkerPool
}

/** The daemon's own counters. */
export class Statistics {
  /** Connections: open now, accepted ever, and turned away because of their user. */
  connections = { open: 0, accepted: 0, refused: 0 }
  /** Requests by operation. */
  requests: Record<string, number> = {}
  /** Configurations that were taken over, and refused. */
  reloads = { done: 0, refused: 0 }
  #ticks = 0
  readonly #lateness = createHistogram()

  /** Records a tick. */
  tick(expirations: number, latenessNs: number): void {
    this.#ticks += expirations
    this.#lateness.record(Math.max(1, Math.round(latenessNs))) // a histogram takes 1 and more
  }

  /** Counts a request. */
  request(op: string): void {
    this.requests[op] = (this.requests[op] ?? 0) + 1
  }

  /** Everything, as JSON can hold it. */
  report({ reactor, subscribers, pool }: StatisticsSources): object {
    const { batches, events, sources, handlerTimeNs, deliveryDelayNs } = reactor.stats()
    return {
      pid: process.pid,
      uptimeSeconds: Math.round(process.uptime()),
      rssBytes: process.memoryUsage.rss(),
      connections: this.connections,
      requests: this.requests,
      subscribers: { now: subscribers.count, dropped: subscribers.dropped },
      jobs: pool.stats,
      reloads: this.reloads,
      ticks: { expirations: this.#ticks, latenessNs: summary(this.#lateness) },
      reactor: {
        batches,
        events,
        sources: sources.length,
        handlerTimeNs: handlerTimeNs && summary(handlerTimeNs),
        deliveryDelayNs: deliveryDelayNs && summary(deliveryDelayNs),
      },
    }
  }
}

function summary(histogram: RecordableHistogram): object | null {
  if (histogram.count === 0) return null
  const { min, mean, max } = histogram
  return { min, mean: Math.round(mean), p50: histogram.percentile(50), p99: histogram.percentile(99), max }
}
