/**
 * Finds the headers that lie beside the `node` binary, so that nothing need be downloaded to compile against it.
 *
 * The result is what node-gyp calls `nodedir`. Headers of another version (a distribution's, say) do not count.
 */
import { existsSync, readFileSync, realpathSync } from 'node:fs'
import { dirname, join } from 'node:path'

export function headersBesideNode() {
  const prefix = dirname(dirname(realpathSync(process.execPath)))
  const header = join(prefix, 'include/node/node_version.h')
  if (!existsSync(header)) return undefined
  const text = readFileSync(header, 'utf8')
  const version = ['MAJOR', 'MINOR', 'PATCH'].map(
    (part) => text.match(`#define NODE_${part}_VERSION (\\d+)`)?.[1],
  )
  return version.join('.') === process.versions.node ? prefix : undefined
}
