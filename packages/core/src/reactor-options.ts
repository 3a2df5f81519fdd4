/**
 * What a reactor can be told when it is made, and when it is run.
 */
import type { HandlerErrorPolicy } from './handler-errors.js'
import { anyOf, boolean, func, integer, oneOf, string } from './options.js'
import type { WakeupName } from './wakeup.js'

/** Options of a {@link Reactor}. */
export interface ReactorOptions {
  /** Where it lives. Default `'uv'`: in Node's own loop. */
  wakeup?: WakeupName
  /** Names it, for instance to another reactor that wants a signal of its. Default `'reactor'`. */
  name?: string
  /**
   * For how many microseconds after activity it goes on polling before it sleeps. Default 0. More than 0 burns a core; with SCHED_FIFO it also
   * starves what else runs there, and the kernel stops it for up to 50 ms in each second.
   */
  busyPollMicros?: number
  /** How many events one `epoll_wait` may report, 1 … 4096. Default 256. */
  maxEventsPerBatch?: number
  /** While there are sources of high priority: after how many other records they are polled again. Default 32. */
  chunkRecords?: number
  /** While there are sources of high priority: after how many microseconds of other handlers they are polled again. Default 50. */
  chunkMicros?: number
  /** Keeps histograms of handler time and delivery delay. Default false: then no clock is read. */
  measure?: boolean
  /** Default `'throw'`: as an uncaught exception, after the rest of the batch. */
  onHandlerError?: HandlerErrorPolicy
  /** `manual` wakeup: `fd` is a new file under its old number, so an embedder's epoll set has lost it and must add it again. */
  onRebuild?: () => void
}

/** Their checks. */
export const reactorOptionChecks = {
  wakeup: oneOf('uv', 'epoll', 'manual'),
  name: string,
  busyPollMicros: integer(0, 1_000_000),
  maxEventsPerBatch: integer(1, 4096),
  chunkRecords: integer(1, 4096),
  chunkMicros: integer(1, 1_000_000),
  measure: boolean,
  onHandlerError: anyOf(func, oneOf('throw', 'close')),
  onRebuild: func,
}

/** Options of {@link Reactor.run}. */
export interface RunOptions {
  /** Leaves the reactor and its sources open when it settles. Default false. */
  keepOpen?: boolean
}
