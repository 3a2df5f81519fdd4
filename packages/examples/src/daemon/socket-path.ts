/**
 * Where the daemon listens when it is not told: in the user's runtime folder, or in the folder for temporary files.
 */
import { existsSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import process from 'node:process'

/** The default path of the socket. */
export function defaultSocketPath(): string {
  const runtime = process.env['XDG_RUNTIME_DIR']
  if (runtime !== undefined && existsSync(runtime)) return join(runtime, 'fd-reactor-daemon.sock')
  return join(tmpdir(), `fd-reactor-daemon-${process.geteuid?.() ?? 0}.sock`)
}
