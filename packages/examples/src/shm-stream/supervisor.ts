/**
 * The parent: runs both sides as processes of their own, and replaces one that was killed.
 */
import { spawn, type ChildProcess } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import process from 'node:process'

/** The two sides. */
export type Role = 'producer' | 'consumer'

/** What both sides are started with. */
export interface SupervisorOptions {
  /** The program's main file. */
  main: string
  /** Its arguments, but for role, socket and seconds. */
  args: readonly string[]
  /** Undefined for a place of its own, which is removed. */
  socket: string | undefined
  seconds: number | undefined
  log: (line: string) => void
}

/** Resolves with the exit code: 0 when both sides have ended well. */
export async function supervise({ main, args, socket, seconds, log }: SupervisorOptions): Promise<number> {
  const folder = socket === undefined ? mkdtempSync(join(tmpdir(), 'shm-stream-')) : undefined
  const path = socket ?? join(folder ?? '', 'socket')
  const ended = new Map<Role, number>()
  const running = new Map<Role, ChildProcess>()
  const startedAt = performance.now()
  let stopping = false
  const stop = (): void => {
    stopping = true
    for (const child of running.values()) child.kill('SIGTERM')
  }
  const { promise, resolve } = deferred()

  const start = (role: Role): void => {
    const left =
      seconds === undefined
        ? []
        : ['--seconds', String(Math.max(0.1, seconds - (performance.now() - startedAt) / 1000))]
    // The channel tells them when this process is gone: then they end, too.
    const child = spawn(process.execPath, [main, ...args, '--role', role, '--socket', path, ...left], {
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    })
    running.set(role, child)
    log(`${role} is pid ${child.pid}`)
    child.on('exit', (code, signal) => {
      running.delete(role)
      if (signal !== null && !stopping && !ended.has(other(role))) {
        log(`the ${role} was ended by ${signal}: starting another one`)
        return start(role)
      }
      ended.set(role, code ?? 1)
      if (code !== 0 && !stopping) stop()
      // A consumer that took the place of another in the last moment has nobody to wait for.
      const consumer = running.get('consumer')
      if (role === 'producer' && consumer?.connected === true) consumer.disconnect()
      if (running.size === 0) resolve(Math.max(...ended.values()))
    })
  }
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, stop)
  start('producer')
  start('consumer')
  try {
    return await promise
  } finally {
    if (folder !== undefined) rmSync(folder, { recursive: true, force: true })
  }
}

function other(role: Role): Role {
  return role === 'producer' ? 'consumer' : 'producer'
}

function deferred(): { promise: Promise<number>; resolve: (code: number) => void } {
  let resolve: (code: number) => void = () => undefined
  const promise = new Promise<number>((settle) => (resolve = settle))
  return { promise, resolve }
}
