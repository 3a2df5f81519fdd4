/**
 * The short form for CI: the scenarios whose ratios are steady enough, judged by bars so wide that only a ratio that has about halved fails.
 *
 * What has a unit depends on the machine and is not judged. The last line is the count.
 */
import { formatSpread, type Bar, type Effort } from './report.js'
import type { Scenario } from './scenarios.js'

const EFFORT: Effort = { rounds: 3, seconds: 0.3 }
/** What looks bad is measured once more, for longer, before it is believed: the machine may have been busy. */
const MORE: Effort = { rounds: 5, seconds: 0.6 }
/** How far on the wrong side of its bar a ratio may be. */
const MARGIN = 0.55

/** Runs scenarios shortly, prints what became of their ratios, and returns how many failed. */
export async function check(scenarios: readonly Scenario[]): Promise<number> {
  let [passed, failed] = [0, 0]
  for (const { name, run } of scenarios) {
    let { bars, missing = [] } = await run(EFFORT)
    if (!ratiosOf(bars).every(isNear)) {
      console.log(`- ${name}: measured again, for longer`)
      ;({ bars, missing = [] } = await run(MORE))
    }
    for (const peer of missing) console.log(`- ${name}: not measured: ${peer}`)
    for (const bar of ratiosOf(bars)) {
      const good = isNear(bar)
      if (good) passed++
      else failed++
      console.log(
        `${good ? '✓' : '✗'} ${name}: ${bar.claim}, here with a margin: ${formatSpread(bar.measured)}`,
      )
    }
  }
  console.log(`${passed} passed, ${failed} failed`)
  return failed
}

/** Whether a ratio is met, or at least not far off. */
function isNear({ limit, more, measured: { median } }: Pick<Bar, 'limit' | 'more' | 'measured'>): boolean {
  return more ? median >= limit * MARGIN : median <= limit / MARGIN
}

function ratiosOf(bars: readonly Bar[]): Bar[] {
  return bars.filter(({ absolute }) => absolute !== true)
}
