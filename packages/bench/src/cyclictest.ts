/** cyclictest (rt-tests): how late the kernel itself wakes a thread that sleeps until an instant, on the same machine. */
import { execFile, spawnSync } from 'node:child_process'
import { promisify } from 'node:util'
import { latencyFigures, type LatencyFigures } from './latencies.js'
import { pinned } from './machine.js'

const LONGEST_MICROS = 20_000

export function hasCyclictest(): boolean {
  return spawnSync('cyclictest', ['--help'], { stdio: 'ignore' }).error === undefined
}

/**
 * A run of it. Its thread is an ordinary one, as the other contenders are; those are late by the timer slack of 50 µs, too, which
 * timerfds do not have.
 */
export async function cyclictest(
  processor: number,
  periodNs: number,
  seconds: number,
): Promise<LatencyFigures> {
  const loops = Math.max(1, Math.floor((seconds * 1e9) / periodNs))
  const options = ['--quiet', '--threads=1', '--default-system', `--affinity=${processor}`]
  const counts = [`--interval=${periodNs / 1000}`, `--loops=${loops}`, `--histogram=${LONGEST_MICROS}`]
  const [file = '', ...args] = pinned(processor, ['cyclictest', ...options, ...counts])
  // It warns on stderr that it leaves the machine as it is, which is what was asked for.
  const { stdout } = await promisify(execFile)(file, args)
  return parseCyclictest(stdout)
}

/** Out of the histogram that it prints: lines of microseconds and a count, and a summary. @throws Error for anything else. */
export function parseCyclictest(text: string): LatencyFigures {
  const buckets = [...text.matchAll(/^(\d+) (\d+)$/gm)].map(([, micros, count]) => ({
    micros: Number(micros),
    count: Number(count),
  }))
  const longest = Number(/^# Max Latencies: (\d+)/m.exec(text)?.[1])
  const overflows = Number(/^# Histogram Overflows: (\d+)/m.exec(text)?.[1])
  const total = buckets.reduce((sum, { count }) => sum + count, overflows)
  if (!(total > 0) || Number.isNaN(longest)) throw new Error(`cyclictest printed no histogram:\n${text}`)
  const at = (percentile: number): number => {
    const rank = Math.floor((percentile / 100) * total)
    let seen = 0
    return buckets.find(({ count }) => (seen += count) > rank)?.micros ?? longest
  }
  return latencyFigures([
    ...[0, 10, 25, 50, 75, 90, 95, 99, 99.5, 99.9, 99.95, 99.99, 99.999].map(
      (percentile): [number, number] => [percentile, at(percentile)],
    ),
    [100, longest],
  ])
}
