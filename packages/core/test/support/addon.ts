/**
 * The test-only addon: what Node cannot do to a process.
 */
import { createRequire } from 'node:module'
import { fileURLToPath } from 'node:url'

/** What the core tests use of it. */
export interface TestAddon {
  /** Forks without exec, calls `action` in the child, and returns the child's wait status. */
  forkAndRun(action: () => void): number
  /** Whether there were more than `maxFds`, pidfd, pid, whether there is a time, how many fds, those, and those in excess. */
  parseControl(bytes: Buffer, maxFds: number): Int32Array
}

/** Where it is, for scripts. */
export const testAddonPath = fileURLToPath(new URL('../addon/build/Release/test_addon.node', import.meta.url))

/** The addon; undefined when it was not built. */
export function testAddon(): TestAddon | undefined {
  try {
    return createRequire(import.meta.url)(testAddonPath) as TestAddon
  } catch {
    return undefined
  }
}
