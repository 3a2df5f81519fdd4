/**
 * What every command needs first: dependencies, addons and built files, each made only when its inputs changed.
 *
 * A stamp (a hash of the inputs) lies inside each result, so that deleting the result deletes the stamp too, and no file
 * time is trusted. The pinned pnpm comes through `npx`; Node, python3, make and g++ are all that must be there before.
 */
import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { delimiter, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { headersBesideNode } from '../packages/core/native/node-headers.mjs'

export const root = fileURLToPath(new URL('..', import.meta.url))
const packages = readdirSync(join(root, 'packages')).map((name) => join(root, 'packages', name))

/**
 * Runs a program of node_modules/.bin or PATH in the root. Resolves to its output; `live` shows the output instead.
 * An error carries the output of the program that failed.
 */
export function run(command, args, { env = {}, live = false } = {}) {
  const path = [join(root, 'node_modules/.bin'), process.env.PATH].join(delimiter)
  // Several of these tools take CI=true for a colour terminal.
  const colour = process.stdout.isTTY ? {} : { NO_COLOR: '1' }
  return new Promise((resolve, reject) => {
    // Standard input belongs to the program that all this is for.
    const output = live ? 'inherit' : 'pipe'
    const child = spawn(command, args, {
      cwd: root,
      env: { ...process.env, ...colour, PATH: path, ...env },
      stdio: ['ignore', output, output],
    })
    const chunks = []
    child.stdout?.on('data', (chunk) => chunks.push(chunk))
    child.stderr?.on('data', (chunk) => chunks.push(chunk))
    child.on('error', reject)
    child.on('close', (code, signal) => {
      const text = Buffer.concat(chunks).toString()
      if (code === 0) resolve(text)
      else reject(Object.assign(new Error(`${command} ended with ${signal ?? code}`), { output: text }))
    })
  })
}

/** Dependencies, addon and built files: what `npm start` needs. */
export async function setUp() {
  await installDependencies()
  await buildAddon()
  await build()
}

export async function installDependencies() {
  const manifests = ['pnpm-lock.yaml', 'pnpm-workspace.yaml', 'package.json'].map((name) => join(root, name))
  const inputs = digest([...manifests, ...packages.map((folder) => join(folder, 'package.json'))])
  const stamp = join(root, 'node_modules/.fd-reactor-stamp')
  if (isCurrent(stamp, inputs)) return
  console.log('installing dependencies')
  const { packageManager } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))
  const headers = headersBesideNode()
  await run('npx', ['--yes', packageManager, 'install', '--frozen-lockfile'], {
    // CI: pnpm must not ask before it replaces an old node_modules. nodedir: npm `epoll` compiles while it is installed.
    env: { CI: 'true', ...(headers && { npm_config_nodedir: headers }) },
  })
  writeFileSync(stamp, inputs)
}

/** The addon's build script keeps a stamp of its own. */
export function buildAddon(...args) {
  return run(process.execPath, ['packages/core/native/build.mjs', ...args])
}

export async function build() {
  const sources = packages.flatMap((folder) => filesBelow(join(folder, 'src')))
  const configs = packages.map((folder) => join(folder, 'tsconfig.json'))
  const inputs = digest([
    ...sources,
    ...configs,
    join(root, 'tsconfig.base.json'),
    join(root, 'tsconfig.json'),
    join(root, 'pnpm-lock.yaml'),
    join(root, 'scripts/bundle.mjs'),
  ])
  const bundled = ['core', 'fd-events'].map((name) => join(root, 'packages', name, 'lib/.stamp'))
  const stamps = [...packages.map((folder) => join(folder, 'dist/.stamp')), ...bundled]
  if (stamps.every((stamp) => isCurrent(stamp, inputs))) return
  console.log('building')
  for (const folder of packages) removeOrphans(folder)
  await run('tsc', ['--build'])
  const { bundle } = await import('./bundle.mjs') // not there before dependencies are installed
  await bundle()
  for (const stamp of stamps) writeFileSync(stamp, inputs)
}

/** tsc leaves the output of a source that was renamed or deleted, which would be packed and published. */
function removeOrphans(folder) {
  const dist = join(folder, 'dist')
  for (const file of filesBelow(dist)) {
    const [, stem] = file.slice(dist.length).match(/^(.*?)\.(d\.ts|js)(\.map)?$/) ?? []
    if (stem && !existsSync(join(folder, 'src', `${stem}.ts`))) rmSync(file)
  }
}

export function filesBelow(folder) {
  if (!existsSync(folder)) return []
  const entries = readdirSync(folder, { recursive: true, withFileTypes: true })
  return entries
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
    .sort()
}

function digest(files) {
  const hash = createHash('sha256').update(`${process.version} ${root}\n`)
  for (const file of files) hash.update(`${file}\n`).update(readFileSync(file))
  return hash.digest('hex')
}

function isCurrent(stamp, inputs) {
  return existsSync(stamp) && readFileSync(stamp, 'utf8') === inputs
}
