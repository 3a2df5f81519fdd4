/** docs/performance.md: measured results and the findings that people wrote, and nothing else. */
import { markdownTable } from 'markdown-table'
import { formatSpread, type Bar, type Table } from './report.js'
import { facts, subject, type Result } from './results.js'

export function performanceDocument(results: readonly Result[], findings: string): string {
  const parts = [
    '# Performance',
    '<!-- Written by `npm run bench -- docs RESULTS.jsonl`. Change docs/performance/findings.md, or measure again. -->',
    'Each table was measured in one go by the command above it. Contenders take turns within each round, and ratios are taken round by\n' +
      'round; figures are medians, with the least and the greatest of the rounds. The median is what a bar is judged by.',
    contents(results),
    ...results.flatMap(scenario),
    findings.trim(),
  ]
  return `${parts.join('\n\n')}\n`
}

function contents(results: readonly Result[]): string {
  const rows = results.map((result) => [
    `[${plain(result.scenario)}](#${result.scenario})`,
    plain(subject(result)),
    score(result.bars),
  ])
  return markdownTable([['scenario', 'what', 'bars met'], ...rows], { align: ['l', 'l', 'r'] })
}

function score(bars: readonly Bar[]): string {
  return bars.length === 0 ? '–' : `${bars.filter(({ met }) => met).length} of ${bars.length}`
}

function scenario(result: Result): string[] {
  const { scenario, command, tables, bars, missing = [] } = result
  return [
    `## ${plain(scenario)}`,
    plain(subject(result)),
    `\`\`\`sh\n${command}\n\`\`\``,
    `${facts(result).map(plain).join('; ')}.`,
    ...tables.map(table),
    ...(bars.length > 0 ? [barTable(bars)] : []),
    ...(missing.length > 0 ? [missing.map((peer) => `- Not measured: ${plain(peer)}`).join('\n')] : []),
  ]
}

function table({ caption, rows }: Table): string {
  const cells = rows.map((row) => row.map(plain))
  const columns = Math.max(0, ...rows.map(({ length }) => length))
  const align = Array.from({ length: columns }, (_, index) => (index === 0 ? 'l' : 'r'))
  return `${plain(caption)}:\n\n${markdownTable(cells, { align })}`
}

function barTable(bars: readonly Bar[]): string {
  const rows = bars.map(({ claim, measured, met }) => [
    plain(claim),
    formatSpread(measured),
    met ? 'met' : '**not met**',
  ])
  return markdownTable([['bar', 'measured', ''], ...rows], { align: ['l', 'r', 'l'] })
}

/** Text in which Markdown sees nothing of its own. */
function plain(text: string): string {
  return text.replace(/\s*\n\s*/g, ' ').replace(/[\\`*_<>|[\]]/g, '\\$&')
}
