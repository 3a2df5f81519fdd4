/** CLOCK_MONOTONIC as a number, for handlers that must not allocate: what C programs on the same machine read. */

/** What to add to `performance.now()`, whose zero lies somewhere in this process's start. */
const ORIGIN_NS = origin()

/** Nanoseconds of CLOCK_MONOTONIC, some tens of them exact. */
export function monotonicNs(): number {
  return ORIGIN_NS + performance.now() * 1e6
}

/** Looked at between two readings of the other clock, often: the latest beginning and the earliest end enclose it. */
function origin(): number {
  let least = -Infinity
  let most = Infinity
  for (let times = 0; times < 10_000; times++) {
    const before = process.hrtime.bigint()
    const nowNs = performance.now() * 1e6
    const after = process.hrtime.bigint()
    least = Math.max(least, Number(before) - nowNs)
    most = Math.min(most, Number(after) - nowNs)
  }
  return (least + most) / 2
}
