/**
 * What both candidates of the dispatch bench do: make all eventfds ready, then time from the last write to
 * the last handler. Making them ready is not timed; it takes as many system calls as handling them does.
 */

/** Ready eventfds per batch. */
export const EVENTFDS = 200

/**
 * Runs batches for `seconds` (after a quarter of that to warm up), prints the result as JSON and exits.
 *
 * `makeReady` writes to every eventfd. The function that is returned must be called once by every handler.
 */
export function timeBatches(seconds: number, makeReady: () => void): () => void {
  const begin = performance.now() + seconds * 250
  const end = begin + seconds * 1000
  let [left, readyAt, spentMs, events] = [0, 0, 0, 0]
  const next = (): void => {
    makeReady()
    left = EVENTFDS
    readyAt = performance.now()
  }
  setImmediate(next)
  return () => {
    if (--left > 0) return
    const now = performance.now()
    if (readyAt >= begin) {
      spentMs += now - readyAt
      events += EVENTFDS
    }
    if (now < end) return void setImmediate(next)
    console.log(JSON.stringify({ nsPerEvent: (spentMs * 1e6) / events, events }))
    process.exit(0)
  }
}
