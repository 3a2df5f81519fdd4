/**
 * Restarts by hand-over while clients of Node's own never stop asking. FD_REACTOR_RESTARTS sets how many.
 */
import { spawn, type ChildProcess } from 'node:child_process'
import { once as onceEvent } from 'node:events'
import { existsSync, statSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { expect, onTestFinished, test } from 'vitest'
import { assertNoLeakedFds } from '../../core/test/support/fds.js'
import { socketPath } from '../../core/test/support/reactors.js'
import { within } from '../../core/test/support/wait.js'

assertNoLeakedFds()

const RESTARTS = Number(process.env['FD_REACTOR_RESTARTS'] ?? 15)
const fixture = (name: string): string => fileURLToPath(new URL(`fixtures/${name}.mjs`, import.meta.url))
const packageFolder = fileURLToPath(new URL('..', import.meta.url))

interface Running {
  child: ChildProcess
  /** The first line that it prints, as JSON. */
  line: Promise<unknown>
  exit: Promise<unknown[]>
}

function start(name: string, ...args: string[]): Running {
  const child = spawn(process.execPath, [fixture(name), ...args], {
    cwd: packageFolder,
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  onTestFinished(() => void child.kill('SIGKILL'))
  const line = onceEvent(createInterface(child.stdout), 'line').then(([text]): unknown =>
    JSON.parse(String(text)),
  )
  return { child, line, exit: onceEvent(child, 'exit') }
}

interface Generation {
  /** How many connections it took over, what came with them, and how many had half a line. */
  taken: number
  unread: number
  unsent: number
  begun: number
  /** How many descriptors it had then. */
  fds: number
}

test(
  `${RESTARTS} restarts under load: nobody is refused, reset, cut or answered wrongly`,
  async () => {
    const path = socketPath()
    const server = async (generation: number): Promise<Running & Generation> => {
      const running = start('hand-over-server', String(generation), path, `${path}.control`)
      const line = (await within(running.line, `generation ${generation}`)) as Generation
      return { ...running, ...line }
    }
    let older = await server(0)
    const { ino } = statSync(path)
    const client = start('hand-over-client', path)
    const fds: number[] = []
    const total = { taken: 0, unread: 0, unsent: 0, begun: 0 }
    for (let generation = 1; generation <= RESTARTS; generation++) {
      const newer = await server(generation)
      expect(await within(older.exit, `the end of generation ${generation - 1}`)).toEqual([0, null])
      expect(existsSync(`/proc/${older.child.pid}`)).toBe(false)
      expect(statSync(path).ino).toBe(ino)
      fds.push(newer.fds - newer.taken)
      total.taken += newer.taken
      total.unread += newer.unread
      total.unsent += newer.unsent
      total.begun += newer.begun
      if (client.child.exitCode !== null) break // it gives up at its first failure
      older = newer
    }
    client.child.stdin?.end()
    const seen = (await within(client.line, 'what the clients saw')) as { generations: number }
    expect(seen).toMatchObject({ failures: [] })
    console.log(
      `${JSON.stringify(seen)}, handed over ${JSON.stringify(total)}, descriptors besides: ${Math.min(...fds)}–${Math.max(...fds)}`,
    )
    expect(fds.length).toBe(RESTARTS)
    expect(total.taken).toBeGreaterThan(RESTARTS * 4)
    expect(total.unsent).toBeGreaterThan(0)
    expect(seen.generations).toBeGreaterThan(RESTARTS * 0.8)
    // Some short connections come and go while they are counted; there are not more of them with each generation.
    const ends = [fds.slice(0, 5), fds.slice(-5)].map((some) => Math.min(...some))
    expect(ends[1]).toBeLessThanOrEqual((ends[0] ?? 0) + 4)
    expect(await client.exit).toEqual([0, null])
    older.child.kill('SIGKILL')
    await older.exit
  },
  30_000 + RESTARTS * 2000,
)
