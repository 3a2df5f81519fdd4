/**
 * Where the peers are that `npm run bench:setup` installs: C libraries of the system, and npm packages in a folder of their own
 * (`peers/`). A scenario leaves out the contender whose peer is missing, and says so.
 */
import { execFileSync } from 'node:child_process'
import { createRequire } from 'node:module'
import { fileURLToPath, pathToFileURL } from 'node:url'

/** By the name that a program is linked with: a header, and the macros that hold the version. */
const LIBRARIES = {
  ev: { header: 'ev.h', version: 'EV_VERSION_MAJOR.EV_VERSION_MINOR' },
  event_core: { header: 'event2/event.h', version: 'EVENT__VERSION' },
  uv: { header: 'uv.h', version: 'UV_VERSION_MAJOR.UV_VERSION_MINOR.UV_VERSION_PATCH' },
} as const

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

/** The version of a library that a C program can be built with, or undefined. */
export function libraryPeer(name: keyof typeof LIBRARIES): string | undefined {
  const { header, version } = LIBRARIES[name]
  try {
    const source = `#include <${header}>\nint main(void) { return 0; }\n`
    compile(['-o', '/dev/null'], source, [`-l${name}`])
    const preprocessed = compile(['-E', '-P'], `#include <${header}>\n${version}\n`)
    return preprocessed.trim().split('\n').at(-1)?.replaceAll(/["\s]/g, '')
  } catch {
    return undefined
  }
}

/** @throws Error when the compiler is missing or refuses. */
function compile(flags: readonly string[], source: string, libraries: readonly string[] = []): string {
  const args = [...flags, '-x', 'c', '-', ...libraries]
  return execFileSync('cc', args, { input: source, encoding: 'utf8', stdio: ['pipe', 'pipe', 'ignore'] })
}

/** The program of a runtime, when it works here, which an old processor or another C library prevents. */
export function runtimePeer(name: 'bun' | 'deno'): { program: string; version: string } | undefined {
  try {
    const program = peers.resolve(ARCHITECTURES[process.arch]?.[name] ?? name)
    const said = execFileSync(program, ['--version'], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    })
    return { program, version: /[\d.]+/.exec(said)?.[0] ?? 'unknown' }
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
