/** Results as JSON lines: a scenario in a line, with all that a reader must know about how it was measured. */
import { appendFileSync, readFileSync } from 'node:fs'
import type { Machine } from './machine.js'
import type { Effort, Report } from './report.js'

/** One scenario, measured once. */
export interface Result extends Report {
  scenario: string
  /** What repeats it. */
  command: string
  /** When it began, ISO 8601. */
  at: string
  machine: Machine
  effort: Effort
}

export function appendResult(file: string, result: Result): void {
  appendFileSync(file, `${JSON.stringify(result)}\n`)
}

/** The results in a file, of each scenario the last one, in the order of the scenarios' first lines. @throws Error for what is no result. */
export function readResults(file: string): Result[] {
  const results = new Map<string, Result>()
  for (const [index, line] of readFileSync(file, 'utf8').trim().split('\n').entries()) {
    const parsed: unknown = JSON.parse(line)
    if (!isResult(parsed)) throw new Error(`${file}:${index + 1}: no result of a scenario`)
    results.set(parsed.scenario, parsed)
  }
  return [...results.values()]
}

function isResult(value: unknown): value is Result {
  if (typeof value !== 'object' || value === null) return false
  return ['scenario', 'command', 'machine', 'effort', 'tables', 'bars'].every((name) => name in value)
}
