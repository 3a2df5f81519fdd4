/**
 * Echo servers as child processes: started on their own processor, ready when they print `ready`, killed when
 * done. Each candidate is a small program of its own (`servers/*.ts`, `c/echo-epoll.c`) that takes the socket
 * path first.
 */
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Readable } from 'node:stream'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { cProgram } from './c-program.js'
import { pinned, processors } from './machine.js'

const START_LIMIT_MS = 10_000

/** How to start one candidate on a socket path. */
export type Candidate = (path: string) => string[]

/** The path of a compiled program in `servers/`. */
export function serverFile(name: string): string {
  return fileURLToPath(new URL(`./servers/${name}.js`, import.meta.url))
}

/**
 * A Node program whose loop has the server's processor for itself, as a C program has: V8's threads run on the other one. What is late
 * else, by milliseconds, is late because of them.
 */
export function loopAlone(name: string, args: readonly string[]): string[] {
  const preload = pathToFileURL(serverFile('threads-elsewhere'))
  preload.search = `processor=${processors().load}`
  return [process.execPath, '--import', preload.href, serverFile(name), ...args]
}

export const cEpoll =
  (mode: 'block' | 'spin' | 'threads'): Candidate =>
  (path) => [cProgram('echo-epoll'), path, mode]

export const nodeNet: Candidate = (path) => [process.execPath, serverFile('net'), path]

export const ours =
  (bytes: 'copy' | 'borrow' | 'offsets', busyPollMicros = 0): Candidate =>
  (path) => [process.execPath, serverFile('fd-reactor'), path, bytes, String(busyPollMicros)]

/** The same program for either address. */
export const anyAddress =
  (kind: 'unix' | 'tcp'): Candidate =>
  (path) => [process.execPath, serverFile('any-address'), path, kind]

/** Reports what `count` open connections cost. */
export const holding =
  (kind: string, count: number): Candidate =>
  (path) => [process.execPath, '--expose-gc', serverFile('hold'), path, kind, String(count)]

/** What is left to do when the bench ends early: one listener, however many servers run. */
const cleanUps = new Set<() => void>()
process.on('exit', () => {
  for (const cleanUp of cleanUps) cleanUp()
})

/** A running server. */
export class Server implements AsyncDisposable {
  readonly pid: number
  /** Its socket's path, or what it says when it is ready: `ready tcp://127.0.0.1:PORT`. */
  address: string
  /** What it prints after `ready`. */
  readonly output: Readable
  readonly #child: ChildProcess
  readonly #folder: string
  readonly #cleanUp = (): void => {
    this.#child.kill('SIGKILL')
    rmSync(this.#folder, { recursive: true, force: true })
  }

  /** Starts a candidate and waits until it listens. */
  static async start(candidate: Candidate): Promise<Server> {
    const processor = processors().server
    const folder = mkdtempSync(join(tmpdir(), 'fd-reactor-bench-'))
    const path = join(folder, 'echo.sock')
    const [file = '', ...args] = pinned(processor, candidate(path))
    const child = spawn(file, args, { stdio: ['ignore', 'pipe', 'inherit'] })
    const server = new Server(child, child.stdout, folder, path)
    try {
      const signal = AbortSignal.timeout(START_LIMIT_MS)
      const ended = once(child, 'exit', { signal }).then(() => 'ended')
      const said = await Promise.race([once(child.stdout, 'data', { signal }).then(String), ended])
      const [word, address] = said.trim().split(' ')
      if (word !== 'ready') throw new Error(`${args.join(' ')}: expected ready, got ${said}`)
      server.address = address ?? path
    } catch (error) {
      await server[Symbol.asyncDispose]()
      throw error
    }
    return server
  }

  private constructor(child: ChildProcess, output: Readable, folder: string, path: string) {
    this.output = output
    this.pid = child.pid ?? 0
    this.address = path
    this.#child = child
    this.#folder = folder
    cleanUps.add(this.#cleanUp)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    cleanUps.delete(this.#cleanUp)
    const running = this.#child.exitCode === null && this.#child.signalCode === null
    const ended = running ? once(this.#child, 'exit') : undefined
    this.#cleanUp()
    await ended
  }
}
