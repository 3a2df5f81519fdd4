/**
 * Executes what the documentation shows: the README's daemon, and every `@example` of a public item.
 *
 * An example prints with `console.log(…) // text`; what it prints must be those texts, in order.
 */
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { createConnection } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import type { Readable } from 'node:stream'
import ts from 'typescript'
import { afterAll, beforeAll, expect, test } from 'vitest'

const root = join(import.meta.dirname, '../../..')
let folder = ''

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'fd-reactor-docs-'))
  mkdirSync(join(folder, 'node_modules/@fd-reactor'), { recursive: true })
  for (const name of ['core', 'fd-events']) {
    symlinkSync(join(root, 'packages', name), join(folder, 'node_modules/@fd-reactor', name))
  }
})

afterAll(() => {
  rmSync(folder, { recursive: true })
})

/** Strips the types, and runs the result as a module of a project that has both packages installed. */
function start(name: string, source: string, ...args: string[]): ChildProcess & { stdout: Readable } {
  const options = { target: ts.ScriptTarget.ES2022, module: ts.ModuleKind.ESNext }
  const file = join(folder, `${name}.mjs`)
  writeFileSync(file, ts.transpileModule(source, { compilerOptions: options }).outputText)
  return spawn(process.execPath, [file, ...args], { stdio: ['ignore', 'pipe', 'inherit'] })
}

function examples(): { name: string; source: string }[] {
  return ['core', 'fd-events'].flatMap((name) => {
    const sources = join(root, 'packages', name, 'src')
    return readdirSync(sources, { recursive: true, encoding: 'utf8' })
      .filter((file) => file.endsWith('.ts'))
      .flatMap((file) => {
        const comments = readFileSync(join(sources, file), 'utf8').matchAll(
          /@example\n((?:\s*\*(?! @|\/).*\n)+)/g,
        )
        return [...comments].map(([, lines = ''], index) => ({
          name: `${name}-${file.replace(/\W/g, '-')}-${index}`,
          source: lines.replace(/^\s*\* ?/gm, ''),
        }))
      })
  })
}

test('there are examples', () => {
  expect(examples().length).toBeGreaterThanOrEqual(10)
})

test.each(examples())('the example $name prints what it says', async ({ name, source }) => {
  const child = start(name, source)
  const exit = once(child, 'exit', { signal: AbortSignal.timeout(20_000) })
  const printed = (await child.stdout.toArray()).join('')
  expect(await exit).toEqual([0, null])
  const expected = [...source.matchAll(/console\.log\(.*\) \/\/ (.*)/g)].map(([, text]) => text)
  expect(printed.split('\n').filter(Boolean)).toEqual(expected)
})

test("the README's daemon echoes, answers SIGHUP and stops on SIGTERM with 0", async () => {
  const source = /```ts\n([^]*?)```/.exec(readFileSync(join(root, 'README.md'), 'utf8'))?.[1] ?? ''
  const path = join(folder, 'echo.sock')
  // The only addition: a line that says when it is ready.
  const child = start('readme', source.replace('let ticks', "console.log('ready')\nlet ticks"), path)
  const lines = createInterface(child.stdout)
  const limit = { signal: AbortSignal.timeout(20_000) }
  await once(lines, 'line', limit)
  const socket = createConnection(path)
  socket.write('hello')
  const [bytes] = await once(socket, 'data', limit)
  expect(String(bytes)).toBe('hello')
  const said = once(lines, 'line', limit)
  child.kill('SIGHUP')
  expect(String(await said)).toMatch(new RegExp(`^\\d+ ticks, says pid ${process.pid}$`))
  const ended = once(child, 'exit', limit)
  child.kill('SIGTERM')
  expect(await ended).toEqual([0, null])
  socket.destroy()
  expect(readdirSync(folder)).not.toContain('echo.sock')
})
