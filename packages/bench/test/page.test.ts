/**
 * The page of plots, opened in a browser: everything is drawn, no script fails, and texts stay texts.
 */
import { execFile, spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { promisify } from 'node:util'
import { inflateSync } from 'node:zlib'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { assertNoLeakedFds } from '../../core/test/support/fds.js'
import { CAPTIONS, NASTY, results } from './fixtures/results.js'

assertNoLeakedFds()

const run = promisify(execFile)
const BENCH = fileURLToPath(new URL('../dist/main.js', import.meta.url))
const BROWSERS = ['chromium', 'chromium-browser', 'google-chrome']
const browser = BROWSERS.find((name) => spawnSync(name, ['--version']).status === 0)
const NO_BROWSER = `none of ${BROWSERS.join(', ')} is installed`
const TIMEOUT = 60_000

let folder = ''
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'fd-reactor-page-'))
})
afterAll(() => rmSync(folder, { recursive: true, force: true, maxRetries: 3 }))

/** Writes the page of some lines. Resolves to its file. */
async function pageOf(name: string, lines: readonly object[]): Promise<string> {
  const file = join(folder, `${name}.jsonl`)
  const page = join(folder, `${name}.html`)
  writeFileSync(file, lines.map((line) => `${JSON.stringify(line)}\n`).join(''))
  await run(process.execPath, [BENCH, 'page', file, '--html', page])
  return page
}

/** Opens a page without a window; `args` say what is wanted of it. Resolves to what was printed. */
async function open(page: string, ...args: string[]): Promise<string> {
  const { stdout } = await run(
    browser ?? '',
    [
      '--headless',
      '--no-sandbox', // it cannot have one as root
      '--disable-gpu',
      `--user-data-dir=${join(folder, 'profile')}`,
      '--virtual-time-budget=5000',
      ...args,
      pathToFileURL(page).href,
    ],
    { timeout: TIMEOUT, maxBuffer: 2 ** 26 },
  )
  return stdout
}

/** The parts that are not scripts, which hold the data as well. */
function withoutScripts(dom: string): string {
  return dom.replaceAll(/<script[^]*?<\/script>/g, '')
}

const errors = (dom: string): string | undefined => /<pre id="errors"[^>]*>([^]*?)<\/pre>/.exec(dom)?.[1]

test('every plot is drawn, and no script fails', { timeout: TIMEOUT }, async (ctx) => {
  if (browser === undefined) return ctx.skip(NO_BROWSER)
  const dom = withoutScripts(await open(await pageOf('all', results), '--dump-dom'))

  expect(errors(dom)).toBe('')
  const drawn = [...dom.matchAll(/<svg[^>]* aria-label="([^"]*)"/g)].map(([, caption]) => caption)
  expect(drawn).toEqual(CAPTIONS)
  expect(dom.match(/nothing was measured/g)).toHaveLength(2)
  for (const tick of ['50', '99.9', 'max', '64 Ki']) expect(dom).toContain(`>${tick}</text>`)
})

test('what stands in results is text, not HTML', { timeout: TIMEOUT }, async (ctx) => {
  if (browser === undefined) return ctx.skip(NO_BROWSER)
  const page = await pageOf('nasty', results)
  expect(readFileSync(page, 'utf8')).not.toContain(NASTY)
  const dom = withoutScripts(await open(page, '--dump-dom'))
  expect(dom).not.toContain('<b>')
  expect(dom).toContain('<title>fd-reactor: what was measured</title>')
  expect(dom).toContain('&lt;/script&gt;')
})

test(
  'a plot that cannot be drawn is told on the page, and the others are drawn',
  async (ctx) => {
    if (browser === undefined) return ctx.skip(NO_BROWSER)
    const broken = {
      ...results[0],
      scenario: 'broken',
      plots: [{ kind: 'none', caption: 'broken', unit: '' }],
    }
    const dom = withoutScripts(await open(await pageOf('broken', [broken, ...results]), '--dump-dom'))
    expect(errors(dom)).toContain('TypeError')
    expect(dom.match(/<svg[^>]* aria-label=/g)).toHaveLength(CAPTIONS.length)
  },
  TIMEOUT,
)

test('a screenshot shows something', { timeout: TIMEOUT }, async (ctx) => {
  if (browser === undefined) return ctx.skip(NO_BROWSER)
  const screenshot = join(folder, 'page.png')
  await open(await pageOf('shot', results), '--window-size=400,1600', `--screenshot=${screenshot}`)
  expect(new Set(pixels(readFileSync(screenshot))).size).toBeGreaterThan(64)
})

test('a file that holds no results is refused by its line', async () => {
  const file = join(folder, 'none.jsonl')
  writeFileSync(file, `${JSON.stringify(results[0])}\n{"scenario":"no"}\n`)
  const failed = run(process.execPath, [BENCH, 'page', file, '--html', join(folder, 'none.html')])
  await expect(failed).rejects.toMatchObject({
    code: 1,
    stderr: expect.stringContaining('none.jsonl:2: no result'),
  })
})

/** The filtered rows of a PNG: one colour would give a handful of values. */
function pixels(png: Buffer): Buffer {
  expect(png.subarray(1, 4).toString()).toBe('PNG')
  const data: Buffer[] = []
  for (let at = 8; at < png.length;) {
    const length = png.readUInt32BE(at)
    if (png.toString('latin1', at + 4, at + 8) === 'IDAT') data.push(png.subarray(at + 8, at + 8 + length))
    at += length + 12
  }
  return inflateSync(Buffer.concat(data))
}
