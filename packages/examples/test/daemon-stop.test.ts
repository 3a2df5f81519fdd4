/**
 * How the daemon stops: every complete request that was sent before the signal is answered, nobody is reset, and it ends in time.
 */
import { existsSync } from 'node:fs'
import { spawn, spawnSync } from 'node:child_process'
import process from 'node:process'
import { createInterface } from 'node:readline'
import { expect, test } from 'vitest'
import { assertNoLeakedFds } from '../../core/test/support/fds.js'
import { turn, until } from '../../core/test/support/wait.js'
import { built, Client, Daemon, fixture, Folder, Output } from './support/daemon.js'

assertNoLeakedFds()

const SUCCESS = { code: 0, signal: null }

/** Reads all there is, ends, and waits for the close; nothing may have been reset. */
async function leave(client: Client): Promise<void> {
  await client.end()
  client.socket.end()
  await client.gone()
  expect(client.error).toBeUndefined()
}

test('SIGTERM while it is stopped: what clients, known and in the backlog, have sent by then is answered', async () => {
  await using daemon = await Daemon.start()
  const known = await Promise.all(Array.from({ length: 30 }, () => daemon.client()))
  await Promise.all(known.map((client) => client.ask({ id: 'hello', op: 'echo' })))

  daemon.kill('SIGSTOP') // so that everything below is there before the daemon sees any of it
  const late = await Promise.all(Array.from({ length: 100 }, () => daemon.client()))
  const clients = [...known, ...late]
  const ids = Array.from({ length: 20 }, (_, id) => id)
  const requests = ids.map((id) => ({ id, op: id % 10 === 9 ? 'work' : 'echo', payload: id, limit: 10_000 }))
  await Promise.all(clients.map((client) => client.write(...requests, '{"id":"half')))
  daemon.kill('SIGTERM')
  daemon.kill('SIGCONT')

  await Promise.all(clients.map(leave))
  for (const client of clients) {
    const answers = client.messages.filter(({ id }) => id !== 'hello')
    expect(answers.map(({ id }) => id).sort((a, b) => Number(a) - Number(b))).toEqual(ids)
    for (const answer of answers) expect(answer).toHaveProperty('ok')
  }
  expect(await daemon.exited()).toEqual(SUCCESS)
  expect(existsSync(daemon.socketPath)).toBe(false)
})

test('SIGTERM under load: every complete request that was sent before it is answered', async () => {
  await using daemon = await Daemon.start({ config: { tickMs: 1, stopDeadlineMs: 20_000 } })
  const clients = await Promise.all(Array.from({ length: 50 }, () => daemon.client()))
  const sent = clients.map(() => 0) // the newest request that the kernel has taken, by client

  let going = true
  /** Keeps up to 40 requests under way, a few of them for the worker, and a subscription. */
  const load = async (client: Client, number: number): Promise<void> => {
    const goesOn = (): boolean => going && !client.ended
    await client.ask({ id: 'ticks', op: 'subscribe' })
    for (let first = 1; goesOn(); first += 10) {
      const ids = Array.from({ length: 10 }, (_, index) => first + index)
      await client.write(...ids.map((id) => ({ id, op: id % 100 === 0 ? 'work' : 'echo', limit: 100 })))
      sent[number] = first + 9
      while (goesOn() && client.answers < first - 30) await turn()
    }
  }
  const loads = Promise.all(clients.map(load))
  // Some way into it, so that requests are everywhere: in sockets, in the reactor, in the worker.
  const answered = (): number => clients.reduce((sum, { answers }) => sum + answers, 0)
  await until(() => answered() > 20_000, '20,000 answers', 20_000)
  daemon.kill('SIGTERM')
  const before = [...sent] // what has been sent by the signal; nothing has run between these two lines
  await daemon.log.find(/stopping/)

  await Promise.all(clients.map(leave))
  going = false
  await loads
  clients.forEach((client, number) => {
    const done = new Set(client.messages.filter((message) => 'ok' in message).map(({ id }) => id))
    const unanswered = Array.from({ length: before[number] ?? 0 }, (_, index) => index + 1).filter(
      (id) => !done.has(id),
    )
    expect(unanswered, `client ${number}`).toEqual([])
    expect(client.messages.filter(({ error }) => error !== undefined)).toEqual([])
  })
  expect(await daemon.exited()).toEqual(SUCCESS)
  expect(existsSync(daemon.socketPath)).toBe(false)
  expect(daemon.log.lines.filter((line) => /deadline|error/.test(line))).toEqual([])
})

test('from the moment in which it stops nobody can connect', async () => {
  await using daemon = await Daemon.start()
  using client = await daemon.client()
  daemon.kill('SIGTERM')
  await client.end()
  expect(existsSync(daemon.socketPath)).toBe(false)
  await expect(daemon.client()).rejects.toMatchObject({ code: 'ENOENT' })
  client.socket.end()
  expect(await daemon.exited()).toEqual(SUCCESS)
})

test('jobs that are pending at the stop are finished and answered', async () => {
  await using daemon = await Daemon.start()
  using client = await daemon.client()
  await client.write(...[1, 2, 3].map((id) => ({ id, op: 'work', limit: 1_000_000 })))
  await client.ask({ id: 'read', op: 'echo' })
  daemon.kill('SIGTERM')
  for (const id of [1, 2, 3]) expect(await client.read()).toMatchObject({ id, ok: { primes: 78_498 } })
  await leave(client)
  expect(await daemon.exited()).toEqual(SUCCESS)
})

test('what a client goes on to send is not done, and does not reset it', async () => {
  await using daemon = await Daemon.start()
  using client = await daemon.client()
  await client.write({ id: 1, op: 'work', limit: 3_000_000 })
  using witness = await daemon.client()
  daemon.kill('SIGTERM')
  await witness.end() // which comes after it was noted how much our client had sent
  witness.socket.end()
  await client.write({ id: 2, op: 'echo' }, 'x'.repeat(100_000))
  expect(await client.read()).toMatchObject({ id: 1, ok: {} })
  await client.end()
  await client.write({ id: 3, op: 'echo' }, 'x'.repeat(100_000))
  await leave(client)
  expect(client.messages).toHaveLength(1)
  expect(await daemon.exited()).toEqual(SUCCESS)
})

test('a client that does not read delays the stop until it does', async () => {
  await using daemon = await Daemon.start()
  using client = await daemon.client()
  client.socket.pause()
  const ids = Array.from({ length: 100 }, (_, id) => id)
  const payload = 'x'.repeat(5_000)
  const writing = client.write(...ids.map((id) => ({ id, op: 'echo', payload })))
  daemon.kill('SIGTERM')
  await daemon.log.find(/stopping/)
  client.socket.resume()
  await writing
  await leave(client)
  expect(await daemon.exited()).toEqual(SUCCESS)
})

test('subscribers are told the end', async () => {
  await using daemon = await Daemon.start({ config: { tickMs: 1 } })
  using client = await daemon.client()
  await client.ask({ id: 1, op: 'subscribe' })
  daemon.kill('SIGTERM')
  await leave(client)
  expect(await daemon.exited()).toEqual(SUCCESS)
})

test('clients that do not end, and jobs that take too long, are cut off at the deadline', async () => {
  await using daemon = await Daemon.start({ config: { stopDeadlineMs: 100 } })
  using idle = await daemon.client()
  using busy = await daemon.client()
  await busy.write({ id: 1, op: 'work', limit: 50_000_000 })
  daemon.kill('SIGTERM')
  await idle.end()
  await daemon.log.find(/deadline: 2 connections are cut off/)
  await busy.end()
  expect(busy.messages).toEqual([])
  expect(await daemon.exited()).toEqual(SUCCESS)
})

test.for(['SIGTERM', 'SIGINT'] as const)(
  '%s stops it gracefully, and SIGINT after that at once',
  async (first) => {
    await using daemon = await Daemon.start({ config: { stopDeadlineMs: 60_000 } })
    using client = await daemon.client()
    daemon.kill(first)
    await client.end() // it has shut its side, and waits for ours
    daemon.kill('SIGINT')
    expect(await daemon.exited()).toEqual({ code: 130, signal: null })
  },
)

test('signals that come while it stops are taken', async () => {
  await using daemon = await Daemon.start()
  using client = await daemon.client()
  daemon.kill('SIGTERM')
  await client.end()
  daemon.kill('SIGTERM')
  daemon.kill('SIGHUP')
  daemon.kill('SIGUSR2')
  await daemon.log.find(/statistics/)
  client.socket.end()
  expect(await daemon.exited()).toEqual(SUCCESS)
})

test('one Ctrl-C that npm passes on, too, is a graceful stop; a second one ends it at once', async (ctx) => {
  if (spawnSync('script', ['--version']).error)
    return ctx.skip('script(1), which makes the terminal, is not installed')
  for (const presses of [1, 2]) {
    using folder = new Folder()
    const socket = folder.file('daemon.sock')
    const command = [
      process.execPath,
      fixture('run-as-npm-does.mjs'),
      built('main'),
      '--socket',
      socket,
    ].join(' ')
    const terminal = spawn('script', ['-qec', command, '/dev/null'], { stdio: 'pipe' })
    const output = new Output(createInterface(terminal.stdout))
    await output.find(/listening/)
    using client = await Client.connect(socket)
    terminal.stdin.write('\x03')
    // The report says that the copy has come, too; which of the two lines is first is not promised.
    const patterns = [/SIGINT from the terminal: stopping/, /statistics: /]
    const said = (pattern: RegExp): boolean => output.lines.some((line) => pattern.test(line))
    await until(() => patterns.every(said), 'both lines', 10_000)
    await client.end()
    if (presses === 2) terminal.stdin.write('\x03')
    else client.socket.end()
    await output.find(presses === 1 ? /exit 0/ : /exit 130/)
    terminal.stdin.end()
  }
})
