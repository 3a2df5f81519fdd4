/** The machine that the figures come from, and its two processors that servers and load are pinned to. */
import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { cpus, loadavg, release } from 'node:os'

/** What a reader of a figure must know about where it was measured. */
export interface Machine {
  cpu: string
  cores: number
  kernel: string
  /** The frequency governor of the first processor; a virtual machine shows none. */
  governor: string
  node: string
  /** Version of fd-reactor. */
  version: string
  /** Processes running before the bench began; above about 0.5 somebody else was using the machine. */
  loadAverage: number
}

export function machine(): Machine {
  const [cpu] = cpus()
  return {
    cpu: cpu?.model.trim() ?? 'unknown processor',
    cores: cpus().length,
    kernel: release(),
    governor: governor(),
    node: process.version,
    version: packageVersion(),
    loadAverage: loadavg()[0] ?? 0,
  }
}

/** What is to be said beside figures, each as a short text. */
export function machineFacts({ cpu, cores, kernel, governor, node, loadAverage }: Machine): string[] {
  return [
    cpu,
    `${cores} cores`,
    `governor ${governor}`,
    `Linux ${kernel}`,
    `Node ${node}`,
    `load average before ${loadAverage.toFixed(2)}`,
  ]
}

function governor(): string {
  try {
    return readFileSync('/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor', 'utf8').trim()
  } catch {
    return 'unknown'
  }
}

function packageVersion(): string {
  const file = createRequire(import.meta.url).resolve('@fd-reactor/core/package.json')
  const { version } = JSON.parse(readFileSync(file, 'utf8')) as { version: string }
  return version
}

/**
 * One processor for the server and another for the load generator, out of those that this process may use.
 *
 * @throws Error when fewer than two are allowed, or `taskset` (util-linux) is missing.
 */
export function processors(): { server: number; load: number } {
  try {
    execFileSync('taskset', ['--version'], { stdio: 'ignore' })
  } catch {
    throw new Error('The bench pins processes with taskset, which is not installed (package util-linux).')
  }
  const allowed = /^Cpus_allowed_list:\s*(.+)$/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1] ?? ''
  const numbers = allowed.split(',').flatMap((range) => {
    const [first = 0, last = first] = range.split('-').map(Number)
    return Array.from({ length: last - first + 1 }, (_, index) => first + index)
  })
  const [server, load] = numbers
  if (server === undefined || load === undefined) throw new Error('The bench needs two processors.')
  return { server, load }
}

/** What runs `command` on one processor; `taskset` executes it in its own place, so the pid is the same. */
export function pinned(processor: number, command: readonly string[]): string[] {
  return ['taskset', '--cpu-list', String(processor), ...command]
}
