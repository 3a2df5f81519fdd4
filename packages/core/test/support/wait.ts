/**
 * Waiting with a bound: a test that waits for what never comes fails by name instead of running into the runner's timeout.
 */

import { once } from 'node:events'
import type { ChildProcess } from 'node:child_process'

/** Waits until a child process has ended, which may have been before. */
export async function childEnded(child: ChildProcess, ms = 5000): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  await within(once(child, 'exit'), `the end of ${child.spawnfile}`, ms)
}

/** What `promise` settles with, or a failure after `ms` that says what did not come. */
export async function within<T>(promise: Promise<T>, what = 'the event', ms = 5000): Promise<T> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => {
      reject(new Error(`${what} did not come within ${ms} ms`))
    }, ms)
  })
  try {
    return await Promise.race([promise, late])
  } finally {
    clearTimeout(timer)
  }
}

/** Lets the loop turn until `condition` holds. */
export async function until(condition: () => boolean, what = 'the condition', ms = 5000): Promise<void> {
  const end = performance.now() + ms
  while (!condition()) {
    if (performance.now() > end) throw new Error(`${what} did not come true within ${ms} ms`)
    await turn()
  }
}

/** One turn of Node's loop. */
export async function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve))
}

/** How many milliseconds of processor time this process uses while `ms` pass. For finding loops that spin. */
export async function cpuMsDuring(ms: number): Promise<number> {
  const before = process.cpuUsage()
  await new Promise((resolve) => setTimeout(resolve, ms))
  const { user, system } = process.cpuUsage(before)
  return (user + system) / 1000
}
