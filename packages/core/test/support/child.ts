/**
 * Runs a script in a process of its own, on the built packages: for exits, crashes, hangs and whatever is process-wide.
 */
import { spawn, type StdioOptions } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const packages = new URL('../../../', import.meta.url)

/** For `import()` in worker scripts. */
export const coreUrl = new URL('core/lib/index.js', packages).href
/** For `import()` in worker scripts. */
export const fdEventsUrl = new URL('fd-events/lib/index.js', packages).href

/** The names that a script finds: what it imports, and `path`, a place for a socket that goes with the script. */
const PRELUDE = `
import { Drain, FdHandle, FdWatcher, Interest, once, Reactor, Source } from '@fd-reactor/core'
import * as events from '@fd-reactor/fd-events'
const { EventFd, UnixListener, UnixStream } = events
const cpuMs = () => { const { user, system } = process.cpuUsage(); return (user + system) / 1000 }
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms))
const path = process.env.SCRIPT_FOLDER + '/socket'
const turn = () => new Promise((resolve) => setImmediate(resolve))
`

/** How a script is run. */
export interface ChildOptions {
  /** Flags for node. */
  execArgv?: string[]
  /** How many descriptors it may have, once the packages are imported: Node opens their files all at once. */
  maxFiles?: number
  /** A command that runs node, such as `['setpriv', '--reuid=1']`. */
  under?: string[]
  /** The script's arguments, `process.argv[1]` and on. */
  args?: string[]
  /** After how long it counts as hanging and is killed. Default 15 s. */
  timeoutMs?: number
  /** Leaves the imports out. */
  bare?: boolean
  stdio?: StdioOptions
  /** Added to its environment. */
  env?: NodeJS.ProcessEnv
}

/** LeakSanitizer traces the process that it looks into, which fails for one that is traced already or changed its user. */
export const withoutLeakCheck = { ASAN_OPTIONS: `${process.env['ASAN_OPTIONS'] ?? ''}:detect_leaks=0` }

/** How a script ended. */
export interface ChildResult {
  code: number | null
  signal: NodeJS.Signals | null
  stdout: string
  stderr: string
}

/** Runs an ES module script; `signal` is `'SIGKILL'` when it hung. */
export async function runScript(script: string, options: ChildOptions = {}): Promise<ChildResult> {
  const { execArgv = [], under = [], args = [], timeoutMs = 15_000 } = options
  const { maxFiles } = options
  const limit =
    maxFiles === undefined
      ? ''
      : `;(await import('node:child_process')).execFileSync('prlimit', ['--pid', process.pid, '--nofile=${maxFiles}:${maxFiles}'])\n`
  const source = options.bare === true ? script : PRELUDE + limit + script
  const node = [process.execPath, ...execArgv, '--input-type=module', '-e', source, '--', ...args]
  const [command = '', ...rest] = [...under, ...node]
  // From here '@fd-reactor/core' resolves as it does for a user, to the built files.
  const cwd = fileURLToPath(new URL('fd-events/', packages))
  const folder = mkdtempSync(join(tmpdir(), 'fd-reactor-'))
  const env = { ...process.env, ...options.env, SCRIPT_FOLDER: folder }
  const child = spawn(command, rest, { cwd, env, stdio: options.stdio ?? 'pipe' })
  const result: ChildResult = { code: null, signal: null, stdout: '', stderr: '' }
  child.stdout?.setEncoding('utf8').on('data', (text: string) => (result.stdout += text))
  child.stderr?.setEncoding('utf8').on('data', (text: string) => (result.stderr += text))
  const timer = setTimeout(() => child.kill('SIGKILL'), timeoutMs)
  return new Promise((resolve, reject) => {
    child.on('error', reject)
    child.on('close', (code, signal) => {
      clearTimeout(timer)
      rmSync(folder, { recursive: true })
      resolve({ ...result, code, signal })
    })
  })
}

/** Runs a script that must end with code 0, and gives what it printed, as JSON. */
export async function runForJson(script: string, options: ChildOptions = {}): Promise<unknown> {
  const { code, signal, stdout, stderr } = await runScript(script, options)
  if (code !== 0) throw new Error(`the script ended with ${signal ?? code}:\n${stdout}${stderr}`)
  return JSON.parse(stdout)
}
