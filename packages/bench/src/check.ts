/**
 * The short form for CI: scenarios whose ratios are steady enough, with bars so wide that only a ratio that has about halved fails.
 *
 * What has a unit depends on the machine and is not judged.
 */
import { formatSpread, type Bar, type Report } from './report.js'
import type { Scenario } from './scenarios.js'

const EFFORT = { rounds: 3, seconds: 0.2 }
/** How far below, or above, its bar a ratio may be. */
const MARGIN = 0.55

/** What became of one bar. */
export interface Verdict {
  scenario: string
  claim: string
  measured: string
  limit: number
  passed: boolean
}

/** Runs scenarios shortly and judges their ratios. */
export async function check(scenarios: readonly Scenario[]): Promise<Verdict[]> {
  const verdicts: Verdict[] = []
  for (const { name, run } of scenarios) {
    console.error(name)
    verdicts.push(...judge(name, await run(EFFORT)))
  }
  return verdicts
}

/** The ratios of a report, with margins. */
export function judge(scenario: string, { bars }: Pick<Report, 'bars'>): Verdict[] {
  return bars.filter(({ absolute }) => absolute !== true).map((bar) => verdict(scenario, bar))
}

function verdict(scenario: string, { claim, limit, more, measured }: Bar): Verdict {
  const wide = more ? limit * MARGIN : limit / MARGIN
  const passed = more ? measured.median >= wide : measured.median <= wide
  return { scenario, claim, measured: formatSpread(measured), limit: wide, passed }
}
