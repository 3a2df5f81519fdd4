/** What the two packages take in a user's node_modules: their files as packed, the compiled addon, and what they depend on. */
import { execFileSync } from 'node:child_process'
import { lstatSync, readdirSync, readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const PACKAGES = ['core', 'fd-events']
const ADDON = 'build/Release/fd_reactor.node'

/** One thing that is installed. */
export interface Part {
  name: string
  bytes: number
  /** `own` parts are what the two packages are; a `dependency` is somebody else's. */
  kind: 'own' | 'dependency'
  /** Of a package of ours: what its files are for, and how large those are together. */
  files?: Record<Content, number>
}

type Content = 'JavaScript' | 'types' | 'maps' | 'sources' | 'rest'

/**
 * All parts. Node-gyp's intermediate files, which it leaves in `build/`, are not in them, nor is node-gyp itself: npm and
 * pnpm have their own.
 */
export function installedParts(): Part[] {
  const dependencies = new Map<string, number>()
  const own = PACKAGES.map((name): Part => {
    const folder = fileURLToPath(new URL(`../../${name}/`, import.meta.url))
    for (const dependency of dependenciesOf(folder)) {
      if (!dependency.startsWith('@fd-reactor/'))
        dependencies.set(dependency, sizeOf(installedIn(folder, dependency)))
    }
    const files = packedFiles(folder)
    const bytes = Object.values(files).reduce((sum, size) => sum + size, 0)
    return { name: `@fd-reactor/${name}, as packed`, bytes, kind: 'own', files }
  })
  const addon = lstatSync(fileURLToPath(new URL(`../../core/${ADDON}`, import.meta.url))).size
  return [
    ...own,
    { name: 'the compiled addon', bytes: addon, kind: 'own' },
    ...[...dependencies].map(([name, bytes]): Part => ({ name, bytes, kind: 'dependency' })),
  ]
}

/** What the tarball holds, unpacked. */
function packedFiles(folder: string): Record<Content, number> {
  const args = ['pack', '--json', '--dry-run', '--ignore-scripts']
  const printed = execFileSync('npm', args, {
    cwd: folder,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'ignore'],
  })
  const [packed] = JSON.parse(printed) as [{ files: { path: string; size: number }[] }]
  const files = { JavaScript: 0, types: 0, maps: 0, sources: 0, rest: 0 }
  for (const { path, size } of packed.files) files[contentOf(path)] += size
  return files
}

function contentOf(path: string): Content {
  if (/^(?:src|native)\//.test(path)) return 'sources'
  if (path.endsWith('.map')) return 'maps'
  if (path.endsWith('.d.ts')) return 'types'
  return path.endsWith('.js') ? 'JavaScript' : 'rest'
}

function dependenciesOf(folder: string): string[] {
  const manifest: unknown = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'))
  const found = new Map<string, unknown>(Object.entries(manifest ?? {}))
  return Object.keys(found.get('dependencies') ?? {})
}

/** Where a dependency of the package in `folder` lies. */
function installedIn(folder: string, dependency: string): string {
  const paths = createRequire(join(folder, 'package.json')).resolve.paths(dependency) ?? []
  for (const path of paths) {
    const candidate = join(path, dependency)
    if (lstatSync(candidate, { throwIfNoEntry: false }) !== undefined) return candidate
  }
  throw new Error(`${dependency} of ${folder} is not installed`)
}

function sizeOf(folder: string): number {
  const entries = readdirSync(folder, { recursive: true, withFileTypes: true })
  const files = entries.filter((entry) => entry.isFile())
  return files.reduce((sum, { parentPath, name }) => sum + lstatSync(join(parentPath, name)).size, 0)
}
