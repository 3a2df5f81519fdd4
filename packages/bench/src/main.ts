/**
 * The command line of the benches: `npm run bench -- SCENARIO… [options]` measures; `page` and `docs` show what was measured.
 *
 * Every scenario runs its contenders side by side in interleaved rounds, and judges ratios within a round: a
 * shared or virtual machine drifts by far more than the differences looked for. Exit code 1 means that a bar
 * was missed.
 */
import { readFileSync, writeFileSync } from 'node:fs'
import { constants } from 'node:os'
import { Argument, InvalidArgumentError, program } from 'commander'
import { check } from './check.js'
import { machine, machineFacts } from './machine.js'
import { page } from './page.js'
import { performanceDocument } from './performance-document.js'
import { DEFAULT_EFFORT, render, type Effort } from './report.js'
import { appendResult, readResults } from './results.js'
import { SCENARIOS } from './scenarios.js'

interface Options extends Effort {
  json?: string
}

const ALL = 'all'

function positive(text: string): number {
  const value = Number(text)
  if (value > 0 && Number.isFinite(value)) return value
  throw new InvalidArgumentError('Expected a number above 0.')
}

function positiveInteger(text: string): number {
  const value = positive(text)
  if (Number.isInteger(value)) return value
  throw new InvalidArgumentError('Expected a whole number above 0.')
}

/** Runs scenarios one after the other; the names of those that missed a bar. */
async function run(names: readonly string[], { json, ...effort }: Options): Promise<string[]> {
  const missed: string[] = []
  const chosen = names.includes(ALL) ? SCENARIOS : SCENARIOS.filter(({ name }) => names.includes(name))
  for (const scenario of chosen) {
    const measuredOn = machine()
    const at = new Date().toISOString()
    console.error(scenario.name)
    const report = await scenario.run(effort)
    console.log(`${machineFacts(measuredOn).join(', ')}\n${render(report)}\n`)
    const command = `npm run bench -- ${scenario.name}${options(effort)}`
    if (json !== undefined)
      appendResult(json, { scenario: scenario.name, command, at, machine: measuredOn, effort, ...report })
    if (!report.bars.every(({ met }) => met)) missed.push(scenario.name)
  }
  return missed
}

/** What was not left as it is by itself. */
function options({ rounds, seconds }: Effort): string {
  const saidRounds = rounds === DEFAULT_EFFORT.rounds ? '' : ` --rounds ${rounds}`
  return `${saidRounds}${seconds === DEFAULT_EFFORT.seconds ? '' : ` --seconds ${seconds}`}`
}

const DOCS = new URL('../../../docs/', import.meta.url)

const names = SCENARIOS.map(({ name, description }) => `  ${name.padEnd(14)}${description}`)
const listed = `\nScenarios:\n${names.join('\n')}`
program
  .name('bench')
  .description('Measures fd-reactor beside what it competes with.')
  .addHelpText('after', listed)
program
  .command('run', { isDefault: true })
  .description(
    'measure scenarios, with the options that `bench help run` lists; the word `run` can be left out',
  )
  .addArgument(
    new Argument('<scenario...>', 'what to measure').choices([ALL, ...SCENARIOS.map(({ name }) => name)]),
  )
  .option('--rounds <count>', 'interleaved rounds', positiveInteger, DEFAULT_EFFORT.rounds)
  .option(
    '--seconds <time>',
    'measured time per run, after a quarter of it to warm up',
    positive,
    DEFAULT_EFFORT.seconds,
  )
  .option('--json <file>', 'add the results to a file, as JSON lines')
  .addHelpText('after', listed)
  .action(async (scenarios: string[], chosen: Options) => {
    const missed = await run(scenarios, chosen)
    if (missed.length === 0) return
    console.error(`bars not met: ${missed.join(', ')}`)
    process.exitCode = 1
  })
program
  .command('check')
  .description('a short form for CI: fails when a ratio is about half of its bar; `--check` is the same')
  .action(async () => {
    const failed = await check(SCENARIOS.filter(({ steady }) => steady === true))
    if (failed > 0) process.exitCode = 1
  })
program
  .command('page')
  .description('write one HTML page with plots, which needs no network')
  .argument('<results>', 'what `run --json` wrote')
  .requiredOption('--html <file>', 'the page')
  .action((results: string, { html }: { html: string }) => {
    writeFileSync(html, page(readResults(results)))
  })
program
  .command('docs')
  .description('write docs/performance.md, with docs/performance/findings.md at its end')
  .argument('<results>', 'what `run --json` wrote')
  .action((results: string) => {
    const findings = readFileSync(new URL('performance/findings.md', DOCS), 'utf8')
    writeFileSync(new URL('performance.md', DOCS), performanceDocument(readResults(results), findings))
  })

// Servers are killed by an `exit` listener, which a signal's default action would skip.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.once(signal, () => process.exit(128 + constants.signals[signal]))
}

try {
  await program.parseAsync(process.argv.map((word) => (word === '--check' ? 'check' : word)))
} catch (error) {
  console.error(`bench: ${error instanceof Error ? error.message : String(error)}`)
  process.exitCode = 1
}
