import { spawn, spawnSync, type ChildProcess } from 'node:child_process'
import { createSocket } from 'node:dgram'
import { once as onceEvent } from 'node:events'
import { closeSync, existsSync, openSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import { fileURLToPath } from 'node:url'
import { inheritedListeners } from '@fd-reactor/fd-events'
import { afterEach, describe, expect, onTestFinished, test, type TestContext } from 'vitest'
import { runForJson, runScript } from '../../core/test/support/child.js'
import { assertNoLeakedFds } from '../../core/test/support/fds.js'
import { socketPath } from '../../core/test/support/reactors.js'
import { within } from '../../core/test/support/wait.js'
import { thrownBy } from './unix-helpers.js'

assertNoLeakedFds()

const VARIABLES = ['LISTEN_PID', 'LISTEN_FDS', 'LISTEN_FDNAMES', 'LISTEN_PIDFDID']
/** Starts a program as service managers do: with the variables set, and the pid being its own. */
const ACTIVATED = ['sh', '-c', 'export LISTEN_PID=$$; exec "$@"', 'sh']
const NOT_INSTALLED = 'systemd-socket-activate (Debian package systemd) is not installed'
/** What a script says about what it found. */
const TELL = `
const { readFileSync } = await import('node:fs')
const found = events.inheritedListeners()
const left = Object.keys(process.env).filter((name) => name.startsWith('LISTEN_'))
const tell = () => found.map(({ name, kind, listening, handle: { fd } }) => {
  const flags = parseInt(/flags:\\s*(\\d+)/.exec(readFileSync('/proc/self/fdinfo/' + fd, 'utf8'))[1], 8)
  return { name, kind, listening, fd, closeOnExec: (flags & 0o2000000) !== 0 }
})
console.log(JSON.stringify({ found: tell(), left, again: events.inheritedListeners().length }))
`

afterEach(() => {
  for (const name of VARIABLES) Reflect.deleteProperty(process.env, name)
})

function set(variables: Record<string, string | number>): void {
  for (const [name, value] of Object.entries(variables)) process.env[`LISTEN_${name}`] = String(value)
}

const left = (): string[] => Object.keys(process.env).filter((name) => VARIABLES.includes(name))

describe('what is not meant for this process gives none', () => {
  test.each([
    ['nothing is set', {}],
    ['LISTEN_PID is not set', { FDS: 1 }],
    ['LISTEN_FDS is not set', { PID: process.pid }],
    ['LISTEN_FDS is 0', { PID: process.pid, FDS: 0 }],
    ['LISTEN_PID is another process', { PID: process.pid + 1, FDS: 1, FDNAMES: 'http' }],
  ])('%s', (_, variables) => {
    set({ ...variables, PIDFDID: 1 })
    expect(inheritedListeners()).toEqual([])
    expect(left()).toEqual([])
  })
})

describe('what makes no sense is an error, and is cleared', () => {
  const PID = process.pid
  test.each([
    [{ PID: 'me', FDS: 1 }, "LISTEN_PID is 'me', and must be a number from 1 to 2147483647"],
    [{ PID: '', FDS: 1 }, "LISTEN_PID is '', and must be a number from 1 to 2147483647"],
    [{ PID: 0, FDS: 1 }, "LISTEN_PID is '0', and must be a number from 1 to 2147483647"],
    [{ PID, FDS: -1 }, "LISTEN_FDS is '-1', and must be a number from 0 to 2147483644"],
    [{ PID, FDS: '1 ' }, "LISTEN_FDS is '1 ', and must be a number from 0 to 2147483644"],
    [{ PID, FDS: '0x1' }, "LISTEN_FDS is '0x1', and must be a number from 0 to 2147483644"],
    [{ PID, FDS: 2 ** 31 }, "LISTEN_FDS is '2147483648', and must be a number from 0 to 2147483644"],
    [
      { PID, FDS: 2, FDNAMES: 'http' },
      "LISTEN_FDNAMES has 1 names ('http'), and LISTEN_FDS is 2: there must be a name for each descriptor, with colons in between",
    ],
    [
      { PID, FDS: 1, FDNAMES: 'a:b' },
      "LISTEN_FDNAMES has 2 names ('a:b'), and LISTEN_FDS is 1: there must be a name for each descriptor, with colons in between",
    ],
  ])('%o', (variables, message) => {
    set(variables)
    expect(thrownBy(inheritedListeners)).toMatchObject({ code: 'ERR_ENVIRONMENT', message })
    expect(left()).toEqual([])
  })

  test('descriptors that are not open', () => {
    set({ PID, FDS: 30_000 })
    const message =
      /^LISTEN_FDS is 30000, but descriptor \d+ is not open: who starts this process must leave 3 to 30002 open$/
    expect(thrownBy(inheritedListeners)).toMatchObject({
      code: 'ERR_ENVIRONMENT',
      message: expect.stringMatching(message),
    })
  })
})

describe('descriptors that the test laid out', () => {
  test('FIFOs, files, connected sockets; with close-on-exec, and without variables for children', async () => {
    const fifo = socketPath()
    expect(spawnSync('mkfifo', [fifo]).status).toBe(0)
    const ends = [openSync(fifo, 'r+'), openSync('/etc/hostname', 'r')]
    const env = { LISTEN_FDS: '3', LISTEN_FDNAMES: 'commands::link' }
    const stdio = ['ignore', 'pipe', 'pipe', ...ends, 'pipe'] as const
    const result = runForJson(TELL, { under: ACTIVATED, env, stdio: [...stdio] })
    for (const fd of ends) closeSync(fd)
    expect(await result).toEqual({
      found: [
        { name: 'commands', kind: 'fifo', listening: false, fd: 3, closeOnExec: true },
        { name: '', kind: 'other', listening: false, fd: 4, closeOnExec: true },
        { name: 'link', kind: 'stream', listening: false, fd: 5, closeOnExec: true },
      ],
      left: [],
      again: 0,
    })
  })

  test('a FIFO is read through its handle', async () => {
    const fifo = socketPath()
    expect(spawnSync('mkfifo', [fifo]).status).toBe(0)
    const end = openSync(fifo, 'r+')
    const result = runScript(
      `const { readSync } = await import('node:fs')
      const [{ handle, name }] = events.inheritedListeners()
      const reactor = new Reactor()
      const watcher = new FdWatcher(reactor, handle.fd)
      watcher.on('ready', () => {
        const bytes = Buffer.alloc(64)
        console.log(name, bytes.subarray(0, readSync(handle.fd, bytes)).toString())
        watcher.close()
      })
      await reactor.run()`,
      { under: ACTIVATED, env: { LISTEN_FDS: '1' }, stdio: ['ignore', 'pipe', 'pipe', end] },
    )
    const writer = openSync(fifo, 'w')
    spawnSync('sh', ['-c', 'printf reload >&3'], { stdio: ['ignore', 'ignore', 'ignore', writer] })
    closeSync(writer)
    expect(await result).toEqual({ code: 0, signal: null, stdout: 'unknown reload\n', stderr: '' })
    closeSync(end)
  })

  test('nothing is taken when one of them is not open', async () => {
    const { code, stdout } = await runScript(
      `const { fstatSync } = await import('node:fs')
      try { events.inheritedListeners() } catch (error) { console.log(error.code, fstatSync(3).isSocket()) }
      process.exit(7)`,
      {
        under: ['sh', '-c', 'export LISTEN_PID=$$; exec "$@" 3<&0', 'sh'],
        env: { LISTEN_FDS: '500' },
        stdio: ['pipe', 'pipe', 'pipe'],
      },
    )
    expect({ code, stdout }).toEqual({ code: 7, stdout: 'ERR_ENVIRONMENT true\n' })
  })
})

/** A script that systemd-socket-activate starts when the first client comes. */
interface Activated {
  child: ChildProcess
  /** What it has printed when it ends, and its exit code. */
  ended: Promise<{ code: unknown; stdout: string; stderr: string }>
}

async function activate(
  { skip }: TestContext,
  args: string[],
  sockets: number,
  script: string,
): Promise<Activated> {
  skip(spawnSync('which', ['systemd-socket-activate']).status !== 0, NOT_INSTALLED)
  const prelude = `import { Reactor } from '@fd-reactor/core'
    import * as events from '@fd-reactor/fd-events'
    const reactor = new Reactor()\n`
  const node = [process.execPath, '--input-type=module', '-e', prelude + script]
  const cwd = fileURLToPath(new URL('..', import.meta.url))
  const child = spawn('systemd-socket-activate', [...args, ...node], { cwd })
  onTestFinished(() => void child.kill('SIGKILL'))
  let stdout = ''
  let stderr = ''
  child.stdout.setEncoding('utf8').on('data', (text: string) => (stdout += text))
  const ready = new Promise<void>((resolve) => {
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      stderr += text
      if (stderr.split('Listening on').length > sockets) resolve()
    })
  })
  const ended = onceEvent(child, 'close').then(([code]: unknown[]) => ({ code, stdout, stderr }))
  await within(Promise.race([ready, ended]), 'systemd-socket-activate')
  return { child, ended }
}

/** Serves the first connection or message of the first socket, and ends. */
const SERVE_STREAM = `
const listener = events[SOURCE].from(reactor, found[0].handle)
listener.on('connection', (stream) => {
  stream.on('data', (bytes) => stream.end(String(bytes).toUpperCase()))
  stream.on('close', () => listener.close())
})
process.exitCode = await reactor.run()`

/** What a client that sends `hello` is answered. */
async function ask(to: { path: string } | { port: number }): Promise<string> {
  const client = connect({ ...to, allowHalfOpen: true })
  client.write('hello')
  const answer = await within(client.setEncoding('utf8').toArray())
  client.end()
  return answer.join('')
}

describe('systemd-socket-activate', () => {
  test('a Unix stream socket, whose file is left where it is', async (context) => {
    const path = socketPath()
    const script = TELL + SERVE_STREAM.replace('SOURCE', "'UnixListener'")
    const { ended, child } = await activate(context, [`--listen=${path}`, '--fdname=api'], 1, script)
    expect(await ask({ path })).toBe('HELLO')
    const { code, stdout, stderr } = await within(ended)
    expect({ code, stderr }).toMatchObject({ code: 0, stderr: expect.not.stringContaining('Error') })
    expect(JSON.parse(stdout)).toEqual({
      found: [{ name: 'api', kind: 'stream', listening: true, fd: 3, closeOnExec: true }],
      left: [],
      again: 0,
    })
    expect(child.pid).toBeGreaterThan(0)
    expect(existsSync(path)).toBe(true)
  })

  test('TCP, and several sockets with names', async (context) => {
    const path = socketPath()
    const port = await freePort()
    const script = TELL + SERVE_STREAM.replace('SOURCE', "'TcpListener'")
    const args = [`--listen=127.0.0.1:${port}`, `--listen=${path}`, '--fdname=web:local']
    const { ended } = await activate(context, args, 2, script)
    expect(await ask({ port })).toBe('HELLO')
    const { code, stdout } = await within(ended)
    expect(code).toBe(0)
    expect(JSON.parse(stdout)).toMatchObject({
      found: [
        { name: 'web', kind: 'tcp', listening: true, fd: 3 },
        { name: 'local', kind: 'stream', listening: true, fd: 4 },
      ],
      left: [],
    })
  })

  test('a UDP socket, which is for others', async (context) => {
    const port = await freePort()
    const args = [`--listen=127.0.0.1:${port}`, '--datagram']
    const { ended } = await activate(context, args, 1, `${TELL}; process.exit()`)
    const client = createSocket('udp4')
    client.send('hello', port, '127.0.0.1', () => client.close())
    expect(JSON.parse((await within(ended)).stdout)).toMatchObject({
      found: [{ name: 'unknown', kind: 'udp', listening: false }],
    })
  })

  test('a Unix datagram socket', async (context) => {
    const path = socketPath()
    const script = `${TELL}
      const source = events.UnixDatagram.from(reactor, found[0].handle)
      source.on('message', (bytes) => { console.log(String(bytes)); source.close() })
      process.exitCode = await reactor.run()`
    context.skip(spawnSync('which', ['socat']).status !== 0, 'socat is not installed')
    const { ended } = await activate(context, [`--listen=${path}`, '--datagram'], 1, script)
    spawnSync('socat', ['-u', '-', `UNIX-SENDTO:${path}`], { input: 'hello' })
    const { code, stdout } = await within(ended)
    const [said = '', text] = stdout.split('\n')
    expect({ code, text }).toEqual({ code: 0, text: 'hello' })
    expect(JSON.parse(said)).toMatchObject({
      found: [{ name: 'unknown', kind: 'datagram', listening: false, fd: 3, closeOnExec: true }],
    })
    expect(existsSync(path)).toBe(true)
  })

  test('a Unix seqpacket socket', async (context) => {
    const path = socketPath()
    const script = `${TELL}
      const listener = events.UnixSeqpacketListener.from(reactor, found[0].handle)
      listener.on('connection', (peer) => {
        peer.on('message', (bytes) => { peer.send(String(bytes).toUpperCase()); peer.end() })
        peer.on('close', () => listener.close())
      })
      process.exitCode = await reactor.run()`
    context.skip(spawnSync('which', ['python3']).status !== 0, 'python3 is not installed')
    const { ended } = await activate(context, [`--listen=${path}`, '--seqpacket'], 1, script)
    const client = `import socket, sys
peer = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
peer.connect(sys.argv[1])
peer.send(b'hello')
print(peer.recv(100).decode(), len(peer.recv(100)))`
    const python = spawn('python3', ['-c', client, path])
    const [answer] = await within(Promise.all([python.stdout.setEncoding('utf8').toArray(), ended]))
    expect(answer.join('')).toBe('HELLO 0\n')
    const { code, stdout } = await ended
    expect(code).toBe(0)
    expect(JSON.parse(stdout)).toMatchObject({
      found: [{ name: 'unknown', kind: 'seqpacket', listening: true, fd: 3, closeOnExec: true }],
    })
    expect(existsSync(path)).toBe(true)
  })

  test('one process for each connection (Accept=yes) gets the connection', async (context) => {
    const path = socketPath()
    const script = `const [{ kind, listening, handle, name }] = events.inheritedListeners()
      const stream = events.UnixStream.from(reactor, handle)
      stream.on('data', (bytes) => stream.end([String(bytes), kind, listening, name].join()))
      process.exitCode = await reactor.run()`
    await activate(context, [`--listen=${path}`, '--accept'], 1, script)
    expect(await ask({ path })).toBe('hello,stream,false,unknown')
  })

  test('a process that npm or a shell has started for it gets none', async (context) => {
    const path = socketPath()
    const script = `const { spawnSync } = await import('node:child_process')
      const inner = "import('@fd-reactor/fd-events').then((events) => console.log(events.inheritedListeners()))"
      console.log(spawnSync(process.execPath, ['-e', inner], { encoding: 'utf8' }).stdout)`
    const { ended } = await activate(context, [`--listen=${path}`], 1, script)
    connect(path).on('error', () => undefined)
    expect((await within(ended)).stdout).toBe('[]\n\n')
  })
})

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await onceEvent(server, 'listening')
  const address = server.address()
  server.close()
  return typeof address === 'object' && address !== null ? address.port : 0
}
