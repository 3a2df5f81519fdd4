import { expect, test, vi } from 'vitest'
import { check } from '../src/check.js'
import { absolute, atLeast, atMost, type Bar } from '../src/report.js'

const value = (median: number) => ({ median, min: median, max: median })

/** How many bars of a scenario fail, and what is printed. */
async function judged(
  bars: Bar[],
  missing: string[] = [],
  longer = bars,
): Promise<{ failed: number; printed: string[] }> {
  const printed: string[] = []
  const log = vi.spyOn(console, 'log').mockImplementation((line: string) => void printed.push(line))
  const silent = vi.spyOn(console, 'error').mockImplementation(() => undefined)
  const runs = [bars, longer].map((each) => ({ title: '', tables: [], bars: each, missing, samples: [] }))
  try {
    const failed = await check([
      {
        name: 'scenario',
        description: '',
        run: async () => Promise.resolve(runs.shift() ?? expect.fail('a third run')),
      },
    ])
    return { failed, printed }
  } finally {
    log.mockRestore()
    silent.mockRestore()
  }
}

test('a ratio that has halved fails, one that missed its bar by less does not', async () => {
  const { failed, printed } = await judged([
    atLeast(1.4, 'near', value(0.8)),
    atLeast(1.4, 'halved', value(0.7)),
    atMost(0.333, 'near', value(0.6)),
    atMost(0.333, 'doubled', value(0.67)),
    atLeast(1, 'not measured', value(NaN)),
  ])
  expect(failed).toBe(3)
  expect(printed.map((line) => line[0])).toEqual(['-', '✓', '✗', '✓', '✗', '✗', '2'])
  expect(printed.at(-1)).toBe('2 passed, 3 failed')
})

test('what looks bad is measured once more, and that counts', async () => {
  const bar = (median: number): Bar[] => [atLeast(1, 'ratio', value(median))]
  expect(await judged(bar(0.3), [], bar(0.9))).toMatchObject({ failed: 0 })
  expect(await judged(bar(0.3), [], bar(0.4))).toMatchObject({ failed: 1 })
})

test('what has a unit is not judged, and who was not measured is named', async () => {
  const { failed, printed } = await judged([absolute(atMost(700, 'ns', value(9000)))], ['Bun: not installed'])
  expect(failed).toBe(0)
  expect(printed).toEqual(['- scenario: not measured: Bun: not installed', '0 passed, 0 failed'])
})
