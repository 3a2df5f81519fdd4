/**
 * Runs steps one after the other with one line for each, and ends with `N passed, N failed[, N skipped]`.
 *
 * What a step prints is shown only when it fails. vitest is no step itself: each of its tests counts.
 */
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { build, buildAddon, installDependencies, run } from './setup.mjs'

const count = { passed: 0, failed: 0, skipped: 0 }

/** Resolves to whether to go on: false when the step failed. */
export async function step(name, action, reasonToSkip) {
  if (reasonToSkip) {
    count.skipped++
    console.log(`- ${name}: skipped, ${reasonToSkip}`)
    return true
  }
  const start = performance.now()
  const end = (mark) => `${mark} ${name} (${((performance.now() - start) / 1000).toFixed(1)} s)`
  try {
    await action()
  } catch (error) {
    count.failed++
    // Lines of minified code, which a crashed tool quotes, are cut.
    const output = error.output?.replace(/^(.{1000}).+$/gm, '$1 …')
    console.log(`${end('✗')}: ${output ? `${error.message}\n${output}` : error.stack}`)
    return false
  }
  count.passed++
  console.log(end('✓'))
  return true
}

/** Set-up as steps. Nothing after it makes sense when one fails, so that ends the run. */
export async function setUpSteps(...addonFlags) {
  const done =
    (await step('dependencies', installDependencies)) &&
    (await step('addon', () => buildAddon(...addonFlags))) &&
    (await step('addon of the tests', () => buildAddon('packages/core/test/addon'))) &&
    (await step('build', build))
  if (!done) finish()
}

/** Runs vitest once, showing its output, and counts its tests from the report that scripts/report.mjs writes. */
export async function vitest(args = [], env = {}) {
  const folder = mkdtempSync(join(tmpdir(), 'fd-reactor-report-'))
  const file = join(folder, 'report.json')
  const reporters = ['--reporter=default', '--reporter=./scripts/report.mjs']
  const failure = await run('vitest', ['run', ...reporters, ...args], {
    env: { ...env, FD_REACTOR_REPORT: file },
    live: true,
  }).then(() => undefined, String)
  const nothing = { passed: 0, failed: 0, skipped: [] }
  const { passed, failed, skipped } = existsSync(file) ? JSON.parse(readFileSync(file, 'utf8')) : nothing
  rmSync(folder, { recursive: true })
  for (const line of skipped) console.log(`- skipped: ${line}`)
  count.passed += passed
  count.failed += failed
  count.skipped += skipped.length
  if (passed + failed === 0) await step('vitest', () => Promise.reject(new Error('no test ran')))
  else if (failure && failed === 0) await step('vitest', () => Promise.reject(new Error(failure)))
}

export function finish() {
  const skipped = count.skipped > 0 ? `, ${count.skipped} skipped` : ''
  console.log(`${count.passed} passed, ${count.failed} failed${skipped}`)
  process.exit(count.failed > 0 ? 1 : 0)
}
