/** docs/performance.md is what its inputs say, and nothing else. */
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { performanceDocument } from '../src/performance-document.js'
import { readResults } from '../src/results.js'
import { results } from './fixtures/results.js'

const docs = (name: string): string => fileURLToPath(new URL(`../../../docs/${name}`, import.meta.url))

test('docs/performance.md is written from docs/performance.jsonl and the findings', () => {
  const findings = readFileSync(docs('performance/findings.md'), 'utf8')
  const written = performanceDocument(readResults(docs('performance.jsonl')), findings)
  expect(
    readFileSync(docs('performance.md'), 'utf8'),
    'run `npm run bench -- docs docs/performance.jsonl`',
  ).toBe(written)
})

test('it names the command, the machine, the time, missed bars and missing peers, as text', () => {
  const written = performanceDocument(results, '## What we tried\n')
  expect(written).toMatchInlineSnapshot(`
    "# Performance

    <!-- Written by \`npm run bench -- docs RESULTS.jsonl\`. Change docs/performance/findings.md, or measure again. -->

    Each table was measured in one go by the command above it. Contenders take turns within each round, and ratios are taken round by
    round; figures are medians, with the least and the greatest of the rounds. The median is what a bar is judged by.

    | scenario        | what                                                                                                 | bars met |
    | :-------------- | :--------------------------------------------------------------------------------------------------- | -------: |
    | [full](#full)   | \\</script\\>\\<script\\>document.title = 'broken'\\</script\\>\\<b\\>"bold"\\</b\\> & 'co' \\| \\*stars\\* \\<!-- |   1 of 2 |
    | [empty](#empty) | Empty                                                                                                |        – |

    ## full

    \\</script\\>\\<script\\>document.title = 'broken'\\</script\\>\\<b\\>"bold"\\</b\\> & 'co' \\| \\*stars\\* \\<!--

    \`\`\`sh
    npm run bench -- full
    \`\`\`

    2026-01-02 03:04 UTC; fd-reactor 0.1.0; Some CPU; 2 cores; governor unknown; Linux 6.1.0; Node v20.19.0; load average before 0.25.

    \\</script\\>\\<script\\>document.title = 'broken'\\</script\\>\\<b\\>"bold"\\</b\\> & 'co' \\| \\*stars\\* \\<!--:

    |                                                                                                      |   µs |
    | :--------------------------------------------------------------------------------------------------- | ---: |
    | \\</script\\>\\<script\\>document.title = 'broken'\\</script\\>\\<b\\>"bold"\\</b\\> & 'co' \\| \\*stars\\* \\<!-- | 1.00 |

    | bar                                                                                                             |         measured |             |
    | :-------------------------------------------------------------------------------------------------------------- | ---------------: | :---------- |
    | fast: at least 1                                                                                                | 2.00 (1.60–2.60) | met         |
    | \\</script\\>\\<script\\>document.title = 'broken'\\</script\\>\\<b\\>"bold"\\</b\\> & 'co' \\| \\*stars\\* \\<!--: at most 1 |    NaN (NaN–NaN) | **not met** |

    - Not measured: \\</script\\>\\<script\\>document.title = 'broken'\\</script\\>\\<b\\>"bold"\\</b\\> & 'co' \\| \\*stars\\* \\<!--

    ## empty

    Empty

    \`\`\`sh
    npm run bench -- full
    \`\`\`

    2026-01-02 03:04 UTC; fd-reactor 0.1.0; Some CPU; 2 cores; governor unknown; Linux 6.1.0; Node v20.19.0; load average before 0.25.

    ## What we tried
    "
  `)
})

test('without results it has the findings', () => {
  expect(performanceDocument([], '## What we tried\n')).toMatch(/## What we tried\n$/)
})
