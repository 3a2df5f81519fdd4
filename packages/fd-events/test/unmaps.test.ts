/**
 * Unmapping in every way that has something in it to go wrong (fixtures/unmaps.mjs), in each Node version that is supported.
 */
import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { assertNoLeakedFds } from '../../core/test/support/fds.js'

assertNoLeakedFds()

/** `FD_REACTOR_UNMAPS=10000` for the long run. */
const CYCLES = Number(process.env['FD_REACTOR_UNMAPS'] ?? 1000)
/** Each cycle touches 256 KiB: what stays of one in ten would be more, even in the short run. */
const BOUND_KIB = 16 * 1024
const WAYS = 16
/** AddressSanitizer keeps what was freed for a while. */
const env = { ...process.env, ASAN_OPTIONS: `${process.env['ASAN_OPTIONS'] ?? ''}:quarantine_size_mb=1` }

const node: [string, string, string[]][] = [
  ['this Node', process.execPath, []],
  ['Node 22', 'npx', ['--yes', 'node@22']],
  ['Node 24', 'npx', ['--yes', 'node@24']],
]
test.each(node)('%s: unmaps leave nothing mapped and no memory', { timeout: 600_000 }, (_, command, args) => {
  const { status, signal, stdout, stderr } = spawnSync(
    command,
    [...args, '--expose-gc', 'test/fixtures/unmaps.mjs', String(CYCLES)],
    { cwd: join(import.meta.dirname, '..'), encoding: 'utf8', env, timeout: 500_000 },
  )
  expect({ status, signal, stderr: stderr.replace(/^npm .*\n/gm, '') }).toEqual({
    status: 0,
    signal: null,
    stderr: '',
  })
  const result: unknown = JSON.parse(stdout)
  expect(result).toMatchObject({ cycles: CYCLES, live: 0 })
  const { grownKiB, refused, outlived } = result as Record<string, number>
  expect(grownKiB).toBeLessThan(BOUND_KIB)
  // Node 20 copies what it is asked to transfer and cannot; and has no ArrayBuffer.prototype.transfer().
  if (refused !== 0) {
    expect(refused).toBeGreaterThanOrEqual(2 * Math.floor(CYCLES / WAYS))
    expect(outlived).toBe(3)
  }
})
