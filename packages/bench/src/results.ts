/** Results as JSON lines: a scenario in a line, with all that a reader must know about how it was measured. */
import { appendFileSync, readFileSync } from 'node:fs'
import { machineFacts, type Machine } from './machine.js'
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

/** The title without the scenario's name, which stands above it. */
export function subject({ scenario, title }: Result): string {
  const rest = title.startsWith(`${scenario}: `) ? title.slice(scenario.length + 2) : title
  return rest.charAt(0).toUpperCase() + rest.slice(1)
}

/** When and on what it was measured, each as a short text. */
export function facts({ at, machine }: Result): string[] {
  return [
    `${at.slice(0, 16).replace('T', ' ')} UTC`,
    `fd-reactor ${machine.version}`,
    ...machineFacts(machine),
  ]
}

/** The results in a file, of each scenario the last one, in the order of the scenarios' first lines. @throws Error for what is no result. */
export function readResults(file: string): Result[] {
  const results = new Map<string, Result>()
  for (const [index, line] of readFileSync(file, 'utf8').split('\n').entries()) {
    if (line.trim() === '') continue
    const parsed = parse(line)
    if (!isResult(parsed)) throw new Error(`${file}:${index + 1}: no result of a scenario`)
    results.set(parsed.scenario, parsed)
  }
  return [...results.values()]
}

/** JSON has no NaN, which is what the spread of nothing consists of: it was written as null. */
function parse(line: string): unknown {
  try {
    return JSON.parse(line, (key, value: unknown) =>
      value === null && ['median', 'min', 'max'].includes(key) ? NaN : value,
    )
  } catch {
    return undefined
  }
}

function isResult(value: unknown): value is Result {
  if (typeof value !== 'object' || value === null) return false
  return ['scenario', 'title', 'command', 'at', 'machine', 'effort', 'tables', 'bars'].every(
    (name) => name in value,
  )
}
