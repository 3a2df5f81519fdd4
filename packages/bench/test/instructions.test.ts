/** Guards what an event costs: the one figure of the benches that is a count, and no time. */
import { expect, test } from 'vitest'
import { recordedInstructions, whyNotComparable } from '../src/scenarios/instructions.js'
import { runScenario } from './run-scenario.js'

const reason = whyNotComparable(recordedInstructions())
if (reason !== undefined) console.log(`skipped: the instructions of an event are not counted: ${reason}`)

test.skipIf(reason !== undefined)(
  'an event takes as many instructions as recorded in instructions.json, within the tolerance',
  { timeout: 300_000 },
  () => {
    const { bars, tables } = runScenario('instructions')
    expect(
      bars.map(({ met }) => met),
      JSON.stringify(tables),
    ).toEqual([true])
  },
)
