/** Everything that is checked without running a test, as `[name, action, reason to skip it]`. */
import { mkdirSync, rmSync } from 'node:fs'
import { join, relative } from 'node:path'
import { filesBelow, root, run } from './setup.mjs'

/** Where the packed packages lie afterwards; tests that install them look here. */
const tarballs = join(root, 'build/packs')

// The npm package brings one Linux binary.
const noClangFormat =
  process.arch === 'x64' ? undefined : `npm clang-format has no binary for ${process.arch}`

export const lint = [
  ['eslint', () => run('eslint', ['.', '--max-warnings', '0'])],
  ['prettier', () => run('prettier', ['--check', '.'])],
  ['clang-format', () => run('clang-format', ['--dry-run', '--Werror', ...nativeFiles()]), noClangFormat],
  ['types, tests included', () => run('tsc', ['--project', 'tsconfig.check.json'])],
  ['knip', () => run('knip', ['--treat-config-hints-as-errors'])],
]
export const format = [
  ['prettier', () => run('prettier', ['--write', '.'])],
  ['clang-format', () => run('clang-format', ['-i', ...nativeFiles()]), noClangFormat],
]
export const docs = [['typedoc', () => run('typedoc', [])]]
export const pack = [['packages', packPackages]]

function nativeFiles() {
  return [
    'packages/core/native',
    'packages/core/test/addon',
    'packages/fd-events/include',
    'packages/fd-events/test/fixtures',
    'packages/bench/c',
  ]
    .flatMap((folder) => filesBelow(join(root, folder)))
    .map((file) => relative(root, file))
    .filter((file) => /\.(cc|c|h)$/.test(file) && !file.includes('/build/'))
}

/** Packs both public packages as they would be published, and lets two tools look into the tarballs. */
async function packPackages() {
  rmSync(tarballs, { recursive: true, force: true })
  mkdirSync(tarballs, { recursive: true })
  const folders = ['./packages/core', './packages/fd-events']
  await run('npm', ['pack', ...folders, '--pack-destination', tarballs, '--ignore-scripts'])
  for (const tarball of filesBelow(tarballs)) {
    await run('publint', ['run', tarball, '--strict'])
    await run('attw', [tarball, '--profile', 'esm-only'])
  }
}
