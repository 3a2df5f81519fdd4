/**
 * What both candidates of the dispatch and scale benches do: make some eventfds ready, then time from the last
 * write to the last handler. Making them ready is not timed; it takes as many system calls as handling them does.
 */

/** What the programs take from their command line: `SECONDS READY IDLE`. */
export interface Batches {
  seconds: number
  /** How many eventfds become ready in a batch. */
  ready: number
  /** How many more are watched and never become ready. */
  idle: number
}

export function batchesFromArguments(): Batches {
  const [seconds = NaN, ready = NaN, idle = NaN] = process.argv.slice(2).map(Number)
  return { seconds, ready, idle }
}

/**
 * Runs batches for `seconds` (after a quarter of that to warm up), prints the result as JSON and exits.
 *
 * `makeReady` writes to `ready` eventfds. The function that is returned must be called once by each of their handlers.
 */
export function timeBatches({ seconds, ready }: Batches, makeReady: () => void): () => void {
  const begin = performance.now() + seconds * 250
  const end = begin + seconds * 1000
  let [left, readyAt, spentMs, events] = [0, 0, 0, 0]
  const next = (): void => {
    makeReady()
    left = ready
    readyAt = performance.now()
  }
  setImmediate(next)
  return () => {
    if (--left > 0) return
    const now = performance.now()
    if (readyAt >= begin) {
      spentMs += now - readyAt
      events += ready
    }
    if (now < end) return void setImmediate(next)
    console.log(JSON.stringify({ nsPerEvent: (spentMs * 1e6) / events, events }))
    process.exit(0)
  }
}
