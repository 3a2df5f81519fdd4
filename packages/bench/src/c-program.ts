/**
 * The C programs beside the benches (`c/*.c`), compiled on first use into `build/`. A binary's name holds the
 * hash of what it was made from, so an unchanged program is never compiled twice and a changed one never
 * mistaken.
 */
import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readFileSync, renameSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

const INCLUDE = fileURLToPath(new URL('../../fd-events/include/', import.meta.url))
const FLAGS = ['-std=gnu11', '-O2', '-Wall', '-Wextra', '-Werror', `-I${INCLUDE}`]

/** What a program is linked with, beyond the C library. */
const LIBRARIES = {
  cell: [],
  connect: [],
  dgram: [],
  download: [],
  'echo-epoll': ['-pthread'],
  'echo-libev': ['-lev'],
  'echo-libevent': ['-levent_core'],
  'echo-libuv': ['-luv'],
  load: [],
  mq: ['-lrt'],
  ping: [],
  scale: [],
  sendfile: [],
  shm: [],
  signal: [],
  sigqueue: [],
  spin: [],
  timer: [],
} as const satisfies Record<string, readonly string[]>

/** The path of the compiled program `name`. */
export function cProgram(name: keyof typeof LIBRARIES): string {
  const source = fileURLToPath(new URL(`../c/${name}.c`, import.meta.url))
  const folder = fileURLToPath(new URL('../build/', import.meta.url))
  const libraries = LIBRARIES[name]
  const hash = createHash('sha256')
    .update([...FLAGS, ...libraries].join(' '))
    .update(readFileSync(source))
    .update(readFileSync(`${INCLUDE}fd-reactor-ring.h`))
    .update(readFileSync(new URL('../c/latency.h', import.meta.url)))
    .digest('hex')
    .slice(0, 12)
  const binary = `${folder}${name}-${hash}`
  if (existsSync(binary)) return binary
  mkdirSync(folder, { recursive: true })
  const unfinished = `${binary}.${process.pid}`
  execFileSync('cc', [...FLAGS, '-o', unfinished, source, ...libraries], { stdio: 'inherit' })
  renameSync(unfinished, binary)
  return binary
}
