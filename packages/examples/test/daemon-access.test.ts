/**
 * Who may talk to the daemon, with what, and what becomes of its socket's file.
 */
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readFileSync } from 'node:fs'
import process from 'node:process'
import { createInterface } from 'node:readline'
import { expect, test } from 'vitest'
import { assertNoLeakedFds } from '../../core/test/support/fds.js'
import { within } from '../../core/test/support/wait.js'
import { built, Daemon, Output, type Exit } from './support/daemon.js'

assertNoLeakedFds()

interface Run extends Exit {
  stdout: string
  stderr: string
}

/** Runs a program to its end. */
async function run(command: string, args: string[], input = ''): Promise<Run> {
  const child = spawn(command, args)
  const result = { stdout: '', stderr: '' }
  child.stdout.setEncoding('utf8').on('data', (text: string) => (result.stdout += text))
  child.stderr.setEncoding('utf8').on('data', (text: string) => (result.stderr += text))
  child.stdin.on('error', () => undefined) // it need not read what we have for it
  child.stdin.end(input)
  const [code, signal] = (await within(once(child, 'close'), `the end of ${command}`, 15_000)) as [
    number | null,
    NodeJS.Signals | null,
  ]
  return { code, signal, ...result }
}

const runClient = async (daemon: Daemon, ...args: string[]): Promise<Run> =>
  run(process.execPath, [built('client-main'), '--socket', daemon.socketPath, ...args])

const isInstalled = (command: string): boolean => spawnSync(command, ['-h']).error === undefined

test('other users are refused before a byte of theirs is read, and may be allowed', async (ctx) => {
  if (process.getuid?.() !== 0) return ctx.skip('only root can become another user')
  await using daemon = await Daemon.start()
  // Sends a request, says so, prints what comes, and ends once something came.
  const stranger = `
    const socket = require('net').connect(process.argv[1])
    socket.on('error', ({ code }) => console.log(code)).on('data', (text) => process.stdout.write(text, () => socket.end()))
    socket.write('{"id":1,"op":"echo"}\\n', () => console.log('sent'))`
  const ask = (): Output => {
    const child = spawn(process.execPath, ['-e', stranger, daemon.socketPath], {
      uid: 65534,
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    return new Output(createInterface(child.stdout))
  }

  daemon.kill('SIGSTOP') // so that the request is there before anybody looks at who sent it
  const refused = ask()
  await refused.find(/^sent/)
  daemon.kill('SIGCONT')
  expect(JSON.parse(await refused.find(/^\{/))).toMatchObject({ id: null, error: { code: 'forbidden' } })

  using client = await daemon.client()
  expect(await client.ask({ id: 1, op: 'stats' })).toMatchObject({
    ok: { connections: { accepted: 1, refused: 1, open: 1 }, requests: { stats: 1 } },
  })

  daemon.configure({ allowedUids: [65534] })
  daemon.kill('SIGHUP')
  await daemon.log.find(/reloaded/)
  using root = await daemon.client()
  expect(await root.read()).toMatchObject({ error: { code: 'forbidden' } })
  expect(await ask().find(/^\{/)).toBe('{"id":1,"ok":null}')
})

test('the file of a daemon that was killed is taken over', async () => {
  await using dead = await Daemon.start()
  dead.kill('SIGKILL')
  await dead.exited()
  expect(existsSync(dead.socketPath)).toBe(true)
  await using daemon = await Daemon.start({ args: ['--socket', dead.socketPath] })
  expect(daemon.stdout.lines[0]).toBe(`listening on unix:${dead.socketPath}`)
  expect(JSON.parse((await runClient(dead, 'echo', '1')).stdout)).toEqual({ id: 1, ok: 1 })
})

test('a second daemon on the same path is refused, and the first one goes on', async () => {
  await using daemon = await Daemon.start()
  const second = await run(process.execPath, [built('main'), '--socket', daemon.socketPath])
  expect(second).toMatchObject({ code: 1, stdout: '' })
  expect(second.stderr).toContain('EADDRINUSE')
  expect(second.stderr).toContain(daemon.socketPath)
  using client = await daemon.client()
  expect(await client.ask({ id: 1, op: 'echo' })).toEqual({ id: 1, ok: null })
})

test('a bad configuration at the start is refused with the reason', async () => {
  await using daemon = await Daemon.start()
  daemon.configure({ tickMs: -1 })
  const second = await run(process.execPath, [built('main'), '--config', daemon.configPath])
  expect(second).toMatchObject({ code: 1, stdout: '' })
  expect(second.stderr).toMatch(/config.json: .*'tickMs' must be an integer/)
})

test('no more clients than --max-connections are served; the next ones wait', async () => {
  await using daemon = await Daemon.start({ args: ['--max-connections', '2'] })
  using first = await daemon.client()
  using second = await daemon.client()
  using third = await daemon.client()
  await third.write({ id: 3, op: 'echo' })
  expect(await first.ask({ id: 1, op: 'stats' })).toMatchObject({ ok: { connections: { accepted: 2 } } })
  expect(await second.ask({ id: 2, op: 'echo' })).toMatchObject({ id: 2 })
  expect(third.messages).toEqual([])
  second.socket.end()
  expect(await third.read()).toEqual({ id: 3, ok: null })
})

test('the included client asks everything', async () => {
  await using daemon = await Daemon.start({ config: { tickMs: 5 } })
  expect(JSON.parse((await runClient(daemon, 'echo', '{"a":1}')).stdout)).toEqual({ id: 1, ok: { a: 1 } })
  expect(JSON.parse((await runClient(daemon, 'time')).stdout)).toHaveProperty('ok.iso')
  expect(JSON.parse((await runClient(daemon, 'stats')).stdout)).toHaveProperty('ok.connections')
  expect(JSON.parse((await runClient(daemon, 'work', '30')).stdout)).toMatchObject({ ok: { primes: 10 } })
  const { code, stdout } = await runClient(daemon, 'subscribe', '--count', '5')
  expect(code).toBe(0)
  expect(stdout.match(/"event":"tick"/g)).toHaveLength(5)
  expect(await runClient(daemon, 'work', '-1')).toMatchObject({ code: 1 })
  expect(await runClient(daemon, 'echo', 'no json')).toMatchObject({ code: 1 })
  daemon.kill('SIGKILL')
  await daemon.exited()
  const { code: failed, stderr } = await runClient(daemon, 'time')
  expect(failed).toBe(1)
  expect(stderr).toContain('ECONNREFUSED')
})

test('the commands that it prints work', async (ctx) => {
  await using daemon = await Daemon.start()
  const command = (await daemon.stdout.find(/socat/)).replace('try: ', '')
  if (!isInstalled('socat')) return ctx.skip('socat is not installed')
  const { code, stdout } = await run('sh', ['-c', command])
  expect({ code, answer: JSON.parse(stdout) as unknown }).toMatchObject({
    code: 0,
    answer: { id: 1, ok: {} },
  })
})

test('nc -U is a client, also one that is still connected at the stop', async (ctx) => {
  if (!isInstalled('nc')) return ctx.skip('nc is not installed')
  await using daemon = await Daemon.start()
  const { stdout } = await run('nc', ['-N', '-U', daemon.socketPath], '{"id":1,"op":"echo","payload":"nc"}\n')
  expect(stdout).toBe('{"id":1,"ok":"nc"}\n')

  const nc = spawn('nc', ['-N', '-U', daemon.socketPath], { stdio: 'pipe' })
  const output = new Output(createInterface(nc.stdout))
  nc.stdin.write('{"id":2,"op":"echo"}\n')
  expect(await output.find(/./)).toBe('{"id":2,"ok":null}')
  daemon.kill('SIGTERM')
  await daemon.log.find(/stopping/)
  nc.stdin.end()
  expect(await daemon.exited()).toEqual({ code: 0, signal: null })
  nc.kill()
})

test('it leaves no thread and no descriptor behind while it runs', async () => {
  await using daemon = await Daemon.start({ config: { tickMs: 1 } })
  const count = async (): Promise<number> => {
    const { pid } = daemon.process
    const list = await run('ls', [`/proc/${pid}/fd`])
    return list.stdout.trim().split('\n').length
  }
  const threads = (): string | undefined =>
    /Threads:\s*(\d+)/.exec(readFileSync(`/proc/${daemon.process.pid}/status`, 'utf8'))?.[1]
  const use = async (): Promise<void> => {
    using client = await daemon.client()
    await client.ask({ id: 1, op: 'subscribe' })
    await client.write({ id: 2, op: 'work', limit: 100 })
    while ((await client.read()).id !== 2);
    client.socket.end()
    client.socket.destroy()
    await client.gone()
  }
  await use()
  using watcher = await daemon.client()
  const settle = async (): Promise<void> => {
    for (;;) {
      const { ok } = await watcher.ask({ id: 1, op: 'stats' })
      if ((ok as { connections: { open: number } }).connections.open === 1) return
    }
  }
  await settle()
  const before = { fds: await count(), threads: threads() }
  for (let round = 0; round < 50; round++) await use()
  await settle()
  expect({ fds: await count(), threads: threads() }).toEqual(before)
})
