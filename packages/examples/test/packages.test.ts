/**
 * What users install: the tarballs of `npm pack`, in an empty project outside the repository, by npm and by pnpm.
 */
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createConnection } from 'node:net'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import ts from 'typescript'
import { afterAll, beforeAll, expect, test } from 'vitest'

const root = join(import.meta.dirname, '../../..')
const names = ['core', 'fd-events']
const { packageManager } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as {
  packageManager: string
}
// What a run under a sanitizer sets is for the addon of this repository, and these tests are about the installed one.
const { FD_REACTOR_ADDON: _addon, LD_PRELOAD: _preload, ...env } = process.env
let folder = ''
const tarballs: Record<string, string> = {}

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'fd-reactor-pack-'))
  for (const name of names) {
    const packed = execFileSync('npm', ['pack', '--json', '--ignore-scripts', '--pack-destination', folder], {
      cwd: join(root, 'packages', name),
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    })
    const [{ filename }] = JSON.parse(packed) as [{ filename: string }]
    tarballs[`@fd-reactor/${name}`] = `file:${join(folder, filename)}`
  }
})

afterAll(() => {
  rmSync(folder, { recursive: true })
})

/** An empty project; the overrides stand for a registry that would have both packages. */
function project(name: string, settings: object): string {
  const path = join(folder, name)
  mkdirSync(path)
  writeFileSync(
    join(path, 'package.json'),
    JSON.stringify({ name, private: true, type: 'module', ...settings }),
  )
  return path
}

async function runsTheDaemon(path: string): Promise<void> {
  const source = /```ts\n([^]*?)```/.exec(readFileSync(join(root, 'README.md'), 'utf8'))?.[1] ?? ''
  const compilerOptions = { target: ts.ScriptTarget.ES2022, module: ts.ModuleKind.ESNext }
  const ready = source.replace('let ticks', "console.log('ready')\nlet ticks")
  writeFileSync(join(path, 'daemon.js'), ts.transpileModule(ready, { compilerOptions }).outputText)
  const child = spawn(process.execPath, ['daemon.js', 'echo.sock'], {
    cwd: path,
    env,
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const limit = { signal: AbortSignal.timeout(20_000) }
  await once(child.stdout, 'data', limit)
  const socket = createConnection(join(path, 'echo.sock'))
  socket.write('hello')
  const [bytes] = await once(socket, 'data', limit)
  expect(String(bytes)).toBe('hello')
  socket.destroy()
  const ended = once(child, 'exit', limit)
  child.kill('SIGTERM')
  expect(await ended).toEqual([0, null])
}

test(
  'npm install of the tarballs compiles the addon, and the daemon runs',
  { timeout: 240_000 },
  async () => {
    const path = project('with-npm', {})
    execFileSync('npm', ['install', '--no-audit', '--no-fund', ...Object.values(tarballs)], {
      cwd: path,
      env,
      stdio: 'pipe',
    })
    expect(existsSync(join(path, 'node_modules/@fd-reactor/core/build/Release/fd_reactor.node'))).toBe(true)
    await runsTheDaemon(path)
  },
)

test('pnpm add of the tarballs does the same once it is allowed to build', { timeout: 240_000 }, async () => {
  // pnpm knows a package from a registry by its name, and one from a file by the file.
  const core = `@fd-reactor/core@file:../${basename(tarballs['@fd-reactor/core'] ?? '')}`
  const path = project('with-pnpm', { pnpm: { overrides: tarballs, onlyBuiltDependencies: [core] } })
  execFileSync('npx', ['--yes', packageManager, 'add', ...Object.values(tarballs)], {
    cwd: path,
    env,
    stdio: 'pipe',
  })
  await runsTheDaemon(path)
})

test('without the build pnpm installs, and the error says what to do', { timeout: 120_000 }, async () => {
  const path = project('not-built', { pnpm: { overrides: tarballs } })
  execFileSync('npx', ['--yes', packageManager, 'add', ...Object.values(tarballs)], {
    cwd: path,
    env,
    stdio: 'pipe',
  })
  writeFileSync(
    join(path, 'try.js'),
    "import { Reactor } from '@fd-reactor/core'\ntry { new Reactor() } catch (e) { console.log(e.code, e.message) }",
  )
  const child = spawn(process.execPath, ['try.js'], { cwd: path, env, stdio: ['ignore', 'pipe', 'inherit'] })
  const printed = (await child.stdout.toArray()).join('')
  expect(printed).toMatch(
    /^ERR_ADDON_MISSING .*npm rebuild @fd-reactor\/core.*--allow-build=@fd-reactor\/core/,
  )
})
