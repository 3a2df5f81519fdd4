/**
 * Builds a native addon with node-gyp: this package's own as its npm `install` script, any other folder's by argument.
 *
 *   node native/build.mjs [--asan] [folder with a binding.gyp]
 *
 * A stamp beside the result (sources, binding.gyp, Node, folder) makes the second run a no-op.
 * `--asan` builds gyp's Debug configuration, which binding.gyp makes the sanitizer build, into build/Debug.
 */
import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { headersBesideNode } from './node-headers.mjs'

const { values, positionals } = parseArgs({ options: { asan: { type: 'boolean' } }, allowPositionals: true })
const folder = resolve(positionals[0] ?? join(dirname(fileURLToPath(import.meta.url)), '..'))

if (process.platform === 'linux') build()
else
  console.log(`fd-reactor needs Linux: no addon is built on ${process.platform}, and constructors will throw`)

function build() {
  const stamp = join(folder, 'build', values.asan ? 'Debug' : 'Release', 'stamp')
  const inputs = digest()
  if (existsSync(stamp) && readFileSync(stamp, 'utf8') === inputs) return
  // A build that fails half-way must not pass for the finished one before it.
  rmSync(stamp, { force: true })

  const headers = headersBesideNode()
  const args = ['configure', 'build', '--loglevel=error', '--jobs=max', values.asan ? '--debug' : '--release']
  if (headers) args.push(`--nodedir=${headers}`)
  const [command, ...leading] = nodeGyp()
  const { status, error } = spawnSync(command, [...leading, ...args], { cwd: folder, stdio: 'inherit' })
  if (error)
    console.error(`${command}: ${error.message}. Run this through npm or pnpm, which bring node-gyp along.`)
  if (status !== 0) process.exit(status ?? 1)
  writeFileSync(stamp, inputs)
}

function digest() {
  const hash = createHash('sha256').update(`${process.version} ${process.arch} ${folder}\n`)
  for (const directory of [folder, join(folder, 'native')].filter(existsSync)) {
    for (const name of readdirSync(directory).sort()) {
      if (/\.(cc|h|gyp)$/.test(name)) hash.update(`${name}\n`).update(readFileSync(join(directory, name)))
    }
  }
  return hash.digest('hex')
}

/** The pinned node-gyp in this repository; elsewhere the one that npm and pnpm put on PATH for install scripts. */
function nodeGyp() {
  try {
    return [process.execPath, createRequire(import.meta.url).resolve('node-gyp/bin/node-gyp.js')]
  } catch {
    return ['node-gyp']
  }
}
