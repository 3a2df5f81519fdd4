/** What a bench has to say: tables for people, bars that are met or not, and every sample for machines. */

/** How much a bench measures. */
export interface Effort {
  rounds: number
  /** How long each run is measured. */
  seconds: number
}

/** What is measured unless somebody asks for another effort. */
export const DEFAULT_EFFORT: Effort = { rounds: 5, seconds: 1 }

/** The result of one scenario. */
export interface Report {
  title: string
  tables: Table[]
  bars: Bar[]
  /** For the page of plots. */
  plots?: Plot[]
  /** Peers that were not measured, each with the reason. */
  missing?: string[]
  /** Everything measured, run by run. */
  samples: object[]
}

/** What the page draws: values with their spread, distributions of latency, or how a value goes with a size. */
export type Plot =
  | { kind: 'bars'; caption: string; unit: string; values: { label: string; spread: Spread }[] }
  | { kind: 'distribution'; caption: string; unit: string; series: Distribution[] }
  | {
      kind: 'curve'
      caption: string
      unit: string
      /** What is on the axis below, which is logarithmic. */
      against: string
      series: { label: string; points: { x: number; spread: Spread }[] }[]
    }

/** A distribution of latency: percentiles (0 to 100) and the value that so many do not exceed. */
export interface Distribution {
  label: string
  points: [percentile: number, value: number][]
}

/** A caption, and rows of cells of which the first is the header. */
export interface Table {
  caption: string
  rows: string[][]
}

/** A promise and what came of it. */
export interface Bar {
  claim: string
  limit: number
  /** One value per round; the median is judged. */
  measured: Spread
  met: boolean
  /** Whether more is better. */
  more: boolean
  /** It has a unit, and so depends on the machine. */
  absolute?: true
}

/** The middle of some values, and how far they spread. */
export interface Spread {
  median: number
  min: number
  max: number
}

export function spread(values: readonly number[]): Spread {
  const sorted = values.toSorted((a, b) => a - b)
  const at = (index: number): number => sorted[index] ?? NaN
  const last = sorted.length - 1
  return { median: (at(Math.floor(last / 2)) + at(Math.ceil(last / 2))) / 2, min: at(0), max: at(last) }
}

/** Round by round, what `values` is to `base`: drift of the machine between rounds cancels out. */
export function ratios(values: readonly number[], base: readonly number[]): Spread {
  return spread(values.map((value, round) => value / (base[round] ?? NaN)))
}

export function atLeast(limit: number, claim: string, measured: Spread): Bar {
  return { claim: `${claim}: at least ${limit}`, limit, measured, met: measured.median >= limit, more: true }
}

export function atMost(limit: number, claim: string, measured: Spread): Bar {
  return { claim: `${claim}: at most ${limit}`, limit, measured, met: measured.median <= limit, more: false }
}

/** Says that a bar is no ratio. */
export function absolute(bar: Bar): Bar {
  return { ...bar, absolute: true }
}

/** `median (min–max)`, each with two digits. */
export function formatSpread({ median, min, max }: Spread, digits = 2): string {
  return `${median.toFixed(digits)} (${min.toFixed(digits)}–${max.toFixed(digits)})`
}

/** A plot of one value for each label, with the spread of its rounds. */
export function barsPlot<Label extends string>(
  caption: string,
  unit: string,
  labels: readonly Label[],
  values: (label: Label) => readonly number[],
): Plot {
  return {
    kind: 'bars',
    caption,
    unit,
    values: labels.map((label) => ({ label, spread: spread(values(label)) })),
  }
}

/** The report as text for a terminal. */
export function render({ title, tables, bars, missing = [] }: Report): string {
  const barTable = {
    caption: 'bars (medians of the rounds judged)',
    rows: bars.map(({ claim, measured, met }) => [claim, formatSpread(measured), met ? 'met' : 'NOT MET']),
  }
  const shown = bars.length > 0 ? [...tables, barTable] : tables
  const notMeasured = missing.map((peer) => `not measured: ${peer}`)
  return [title, ...shown.map(renderTable), ...(missing.length > 0 ? [notMeasured.join('\n')] : [])].join(
    '\n\n',
  )
}

function renderTable({ caption, rows }: Table): string {
  const widths: number[] = []
  for (const row of rows)
    for (const [column, cell] of row.entries()) widths[column] = Math.max(widths[column] ?? 0, cell.length)
  const line = (row: string[]): string =>
    row
      .map((cell, column) =>
        column === 0 ? cell.padEnd(widths[0] ?? 0) : cell.padStart(widths[column] ?? 0),
      )
      .join('  ')
  return [caption, ...rows.map((row) => `  ${line(row)}`)].join('\n')
}

/** The named numbers out of one line of JSON that a child process printed. */
export function parseFigures<Name extends string>(
  line: string,
  names: readonly Name[],
): Record<Name, number> {
  const parsed: unknown = JSON.parse(line)
  if (!holdsNumbers(parsed, names)) throw new Error(`expected the numbers ${names.join(', ')}, got ${line}`)
  return parsed
}

function holdsNumbers<Name extends string>(
  value: unknown,
  names: readonly Name[],
): value is Record<Name, number> {
  const found = new Map<string, unknown>(Object.entries(value ?? {}))
  return names.every((name) => typeof found.get(name) === 'number')
}

/** The member `distribution` of one line of JSON: percentiles and values. */
export function parseDistribution(line: string): Distribution['points'] {
  const { distribution } = JSON.parse(line) as { distribution?: unknown }
  const isPoint = (point: unknown): point is [number, number] =>
    Array.isArray(point) && point.length === 2 && point.every((value) => typeof value === 'number')
  if (Array.isArray(distribution) && distribution.every(isPoint)) return distribution
  throw new Error(`expected a distribution, got ${line}`)
}

/** The distribution in the middle of some: percentile by percentile, the median. */
export function medianDistribution(label: string, all: readonly Distribution['points'][]): Distribution {
  const points = (all[0] ?? []).map(([percentile], index): [number, number] => [
    percentile,
    spread(all.map((each) => each[index]?.[1] ?? NaN)).median,
  ])
  return { label, points }
}

/** Progress goes to stderr, so that stdout holds results only. */
export function progress(text: string): void {
  console.error(`  ${text}`)
}
