/**
 * Where the peers are that `npm run bench:setup` installs: C libraries of the system, and npm packages in a folder of their own
 * (`peers/`). A scenario leaves out the contender whose peer is missing, and says so.
 */
import { execFileSync } from 'node:child_process'
import { createRequire } from 'node:module'
import { fileURLToPath, pathToFileURL } from 'node:url'

/** Headers by the name that a program is linked with. */
const LIBRARIES = { ev: 'ev.h', event_core: 'event2/event.h', uv: 'uv.h' } as const

/** Runtimes are programs, in a package for each kind of machine; the others are modules. */
const ARCHITECTURES: Partial<Record<string, { bun: string; deno: string }>> = {
  x64: { bun: '@oven/bun-linux-x64/bin/bun', deno: '@deno/linux-x64-glibc/deno' },
  arm64: { bun: '@oven/bun-linux-aarch64/bin/bun', deno: '@deno/linux-arm64-glibc/deno' },
}

const peers = createRequire(new URL('../peers/package.json', import.meta.url))

/** The sentence for a report's `missing`. */
export function missingPeer(name: string): string {
  return `${name}: not installed; npm run bench:setup installs it`
}

/** Whether a C program that uses the library can be built. */
export function compilesWith(library: keyof typeof LIBRARIES): boolean {
  const input = `#include <${LIBRARIES[library]}>\nint main(void) { return 0; }\n`
  try {
    execFileSync('cc', ['-x', 'c', '-', `-l${library}`, '-o', '/dev/null'], {
      input,
      stdio: ['pipe', 'ignore', 'ignore'],
    })
    return true
  } catch {
    return false
  }
}

/** The program of a runtime that works here, which an old processor or another C library prevents, or undefined. */
export function runtimePeer(name: 'bun' | 'deno'): string | undefined {
  try {
    const program = peers.resolve(ARCHITECTURES[process.arch]?.[name] ?? name)
    execFileSync(program, ['--version'], { stdio: 'ignore' })
    return program
  } catch {
    return undefined
  }
}

/** The URL of an npm package's module, or undefined. */
export function modulePeer(name: 'nanotimer' | 'node-unix-socket' | 'zeromq'): string | undefined {
  try {
    return pathToFileURL(peers.resolve(name)).href
  } catch {
    return undefined
  }
}

/** The path of a program that a peer's runtime runs, in `peers/`. */
export function peerProgram(name: string): string {
  return fileURLToPath(new URL(`../peers/${name}`, import.meta.url))
}
