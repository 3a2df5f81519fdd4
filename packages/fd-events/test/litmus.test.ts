/**
 * ECMAScript does not say what `Atomics` mean on memory of two processes; V8's code does what it does for a SharedArrayBuffer. Should that
 * ever change, this is where it shows (fixtures/litmus.mjs).
 */
import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { assertNoLeakedFds } from '../../core/test/support/fds.js'

assertNoLeakedFds()

/** `FD_REACTOR_LITMUS=1000000` for the long run. */
const ROUNDS = Number(process.env['FD_REACTOR_LITMUS'] ?? 100_000)

test(
  'Atomics order the stores of two processes: no forbidden outcome, no lost update',
  { timeout: 600_000 },
  () => {
    const { status, stdout, stderr } = spawnSync(
      process.execPath,
      ['test/fixtures/litmus.mjs', String(ROUNDS)],
      {
        cwd: join(import.meta.dirname, '..'),
        encoding: 'utf8',
      },
    )
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' })
    expect(JSON.parse(stdout)).toEqual({
      storeBuffering: 0,
      messagePassing: 0,
      plainMessagePassing: 0,
      plainStoreBuffering: expect.any(Number), // allowed; that it is seen on most runs says that the others would be
      lost: 0,
      code: 0,
    })
  },
)
