/** The scenarios about memory and start run to their end, and measure what they say they do. */
import { expect, test } from 'vitest'
import { runScenario } from './run-scenario.js'

const TIMEOUT = { timeout: 120_000 }

/** Every value of a plot. */
function plotted({ plots = [] }: ReturnType<typeof runScenario>): number[] {
  const spreads = plots.flatMap((plot) => {
    if (plot.kind === 'bars') return plot.values.map(({ spread }) => spread)
    if (plot.kind === 'curve') return plot.series.flatMap(({ points }) => points.map(({ spread }) => spread))
    return []
  })
  return spreads.map(({ median }) => median)
}

test('scale measures every contender at every size that fits', TIMEOUT, () => {
  const result = runScenario('scale')
  const curve = result.plots?.find((plot) => plot.kind === 'curve')
  expect(curve?.series.map(({ label }) => label)).toEqual(['ours', 'C epoll', 'npm epoll'])
  const sizes = curve?.series.map(({ points }) => points.length + (result.missing?.length ?? 0))
  expect(sizes).toEqual([5, 5, 5])
  expect(Math.min(...plotted(result))).toBeGreaterThan(0)
})

test('gc counts what the copies of messages take, and nothing external where there are none', TIMEOUT, () => {
  const result = runScenario('gc')
  const [copied = NaN, ...lent] = plotted({ ...result, plots: result.plots?.slice(1) ?? [] })
  // Buffers of 64 bytes are cut from pools of 8 KiB: the window sees whole pools.
  expect(copied).toBeGreaterThan(32)
  for (const bytes of lent) expect(bytes).toBeLessThan(1)
})

test('startup tells each step, and each part that is installed', TIMEOUT, () => {
  const result = runScenario('startup')
  expect(Math.min(...plotted(result))).toBeGreaterThan(0)
  const parts = JSON.stringify(result.tables[1]?.rows)
  for (const part of ['core', 'fd-events', 'addon', 'eventemitter3', 'node-addon-api', 'tinyqueue'])
    expect(parts).toContain(part)
})
