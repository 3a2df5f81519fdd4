/**
 * Makes of each public package's modules (tsc's output in dist/) the few files that are published, in lib/.
 *
 * Seventy small modules take 80 ms longer to import than one, and V8 treats a constant of the same module as one, while it loads and
 * checks what is imported at each use. Names and comments stay, so lib/ can be read.
 */
import { rmSync } from 'node:fs'
import { join } from 'node:path'
import { rolldown } from 'rolldown'
import { root } from './setup.mjs'

const entries = {
  core: { index: 'index.js', sys: 'sys/index.js' },
  'fd-events': { index: 'index.js' },
}

export async function bundle() {
  for (const [name, files] of Object.entries(entries)) {
    const folder = join(root, 'packages', name)
    const input = Object.fromEntries(
      Object.entries(files).map(([entry, file]) => [entry, join(folder, 'dist', file)]),
    )
    rmSync(join(folder, 'lib'), { recursive: true, force: true })
    const build = await rolldown({ input, platform: 'node', external: isPackage, logLevel: 'warn' })
    await build.write({ dir: join(folder, 'lib'), chunkFileNames: '[name].js', keepNames: true })
    await build.close()
  }
}

/** Of Node or of npm. */
function isPackage(id) {
  return !id.startsWith('.') && !id.startsWith('/')
}
