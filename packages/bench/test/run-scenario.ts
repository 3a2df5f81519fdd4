/** Runs a scenario as a user does, for a moment only, and returns its result: what it measured is not judged. */
import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { readResults, type Result } from '../src/results.js'

const MAIN = join(import.meta.dirname, '../dist/main.js')

export function runScenario(name: string): Result {
  const folder = mkdtempSync(join(tmpdir(), 'fd-reactor-bench-test-'))
  try {
    const file = join(folder, 'results.jsonl')
    const args = [MAIN, name, '--rounds', '1', '--seconds', '0.1', '--json', file]
    const { stderr } = spawnSync(process.execPath, args, { encoding: 'utf8' })
    const result = readResults(file).at(0)
    if (result === undefined) throw new Error(stderr)
    return result
  } finally {
    rmSync(folder, { recursive: true })
  }
}
