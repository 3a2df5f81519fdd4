import { spawn, spawnSync } from 'node:child_process'
import { closeSync, existsSync, openSync, readlinkSync } from 'node:fs'
import { once, type FdHandle } from '@fd-reactor/core'
import { socket, SocketOption } from '@fd-reactor/core/sys'
import { connect, listen, TcpListener, UnixListener, UnixStream } from '@fd-reactor/fd-events'
import { describe, expect, test } from 'vitest'
import { runScript } from '../../core/test/support/child.js'
import { assertNoLeakedFds, countFds } from '../../core/test/support/fds.js'
import { openManual, openReactor, socketPath } from '../../core/test/support/reactors.js'
import { childEnded, within } from '../../core/test/support/wait.js'

assertNoLeakedFds()

let names = 0
const places: [string, () => string][] = [
  ['a path', () => `unix:${socketPath()}`],
  ['an abstract name', () => `abstract:fd-reactor-listen-${process.pid}-${names++}`],
  ['IPv4', () => 'tcp://127.0.0.1:0'],
  ['IPv6', () => 'tcp://[::1]:0'],
]

describe.each(places)('%s', (_, place) => {
  test('is listened on and connected to by its text, and the same options do for all', async () => {
    const reactor = openReactor()
    const options = { mode: 0o600, unlinkStale: true, reusePort: true, noDelay: true, maxConnections: 5 }
    const listener = listen(reactor, place(), { ...options, highWaterMark: 1 << 20 })
    listener.on('connection', (stream) => stream.on('data', (bytes) => stream.write(bytes)))
    expect(listener.uri).toMatch(/^(unix:\/|abstract:|tcp:\/\/127.0.0.1:\d+$|tcp:\/\/\[::1\]:\d+$)/)
    const stream = await connect(reactor, listener.uri, { timeout: 1e9, noDelay: false, allowHalfOpen: true })
    stream.end('hello')
    let text = ''
    for await (const bytes of stream) text += String(bytes)
    expect(text).toBe('hello')
  })

  test('hands its bytes out as borrow says', async () => {
    const reactor = openReactor()
    const listener = listen(reactor, place(), { borrow: 'offsets' })
    let text = ''
    listener.on('connection', (stream) => {
      stream.on('data', (slab, offset, length) => (text += slab.toString('latin1', offset, offset + length)))
      stream.on('end', () => listener.close())
    })
    const stream = await connect(reactor, listener.uri)
    stream.end('borrowed')
    await within(once(listener, 'close'))
    expect(text).toBe('borrowed')
  })
})

test('misspelt options are refused', async () => {
  const reactor = openManual()
  // @ts-expect-error a misspelt option
  expect(() => listen(reactor, 'tcp://127.0.0.1:0', { reuseport: true })).toThrow("did you mean 'reusePort'?")
  // @ts-expect-error the address names them
  expect(() => listen(reactor, 'tcp://127.0.0.1:0', { port: 1 })).toThrow("listen has no option 'port'")
  // @ts-expect-error a misspelt option
  await expect(connect(reactor, 'unix:/s', { timeOut: 1 })).rejects.toThrow("did you mean 'timeout'?")
})

describe('fd:', () => {
  test.each([
    ['unix', (path: string) => UnixListener.listen(openManual(), path).detach().handle],
    ['tcp', () => TcpListener.listen(openManual()).detach().handle],
  ])('an inherited %s listener and an inherited connection', async (_, make) => {
    const reactor = openReactor()
    const path = socketPath()
    const handle: FdHandle = make(path)
    const listener = listen(reactor, `fd:${handle.release()}`, { mode: 0o600, backlog: 5, reusePort: true })
    const client = (await connect(reactor, listener.uri)).detach().handle
    const stream = await connect(reactor, `fd:${client.release()}`)
    const [accepted] = await within(once(listener, 'connection'))
    accepted.end('served')
    let text = ''
    for await (const bytes of stream) text += String(bytes)
    expect(text).toBe('served')
    listener.close()
    expect(existsSync(path)).toBe(listener.uri.startsWith('unix:')) // it belongs to who made it
  })

  test('a descriptor of the wrong kind is refused with a message, and stays open', async () => {
    const reactor = openReactor()
    const { handle } = UnixListener.listen(reactor, socketPath()).detach()
    const before = countFds()
    await expect(connect(reactor, `fd:${handle.fd}`)).rejects.toThrow(
      `EINVAL: invalid argument, getsockopt 'fd ${handle.fd}'. It is a listening Unix stream socket, and must be a connected stream socket`,
    )
    const file = openSync('/dev/null', 'r')
    expect(() => listen(reactor, `fd:${file}`)).toThrow(
      /^ENOTSOCK.*It is no socket, and must be a listening stream socket$/,
    )
    closeSync(file)
    expect(() => listen(reactor, 'fd:19999')).toThrow(/^EBADF/)
    expect(countFds()).toEqual(before)
    expect(socket.get(handle.fd, SocketOption.Listening)).toBe(1)
    handle.close()
  })

  test('a descriptor that cannot be duplicated stays open, and nobody’s', async () => {
    const result = await runScript(
      `import { closeSync, fstatSync, openSync } from 'node:fs'
       const reactor = new Reactor()
       const fd = UnixListener.listen(reactor, path).detach().handle.release()
       const hoard = []
       try { for (;;) hoard.push(openSync('/dev/null')) } catch {}
       try { events.listen(reactor, 'fd:' + fd) } catch (error) { console.log(error.message) }
       for (const each of hoard) closeSync(each)
       for (let n = 0; n < 20; n++) { gc(); await turn() }
       console.log(fstatSync(fd).isSocket())
       reactor.close()`,
      { maxFiles: 64, execArgv: ['--expose-gc'] },
    )
    expect(result).toEqual({
      code: 0,
      signal: null,
      stderr: '',
      stdout: 'EMFILE: too many open files, fcntl\ntrue\n',
    })
  })

  test('what a process was started with does not go to its children', async () => {
    const reactor = openReactor()
    const path = socketPath()
    const { handle } = UnixListener.listen(reactor, path).detach()
    const stdio: (number | 'pipe')[] = ['pipe', 'pipe', 'pipe', handle.fd]
    const running = runScript(
      `import { spawnSync } from 'node:child_process'
       const reactor = new Reactor()
       const listener = events.listen(reactor, 'fd:3')
       listener.on('connection', (stream) => {
         stream.on('data', () => {}) // its end is seen by who reads
         stream.end(spawnSync('sh', ['-c', 'ls -l /proc/self/fd'], { encoding: 'utf8' }).stdout)
         listener.close()
       })
       await reactor.run()`,
      { stdio },
    )
    const stream = await UnixStream.connect(reactor, path)
    let text = ''
    for await (const bytes of stream) text += String(bytes)
    expect(text).toContain('/proc/')
    expect(text).not.toContain(readlinkSync(`/proc/self/fd/${handle.fd}`))
    expect(await running).toMatchObject({ code: 0, stderr: '' })
    handle.close()
  })
})

test('one line of configuration serves socat over every kind of address', async ({ skip }) => {
  skip(spawnSync('which', ['socat']).status !== 0, 'socat is not installed')
  const reactor = openReactor()
  for (const [, place] of places) {
    const listener = listen(reactor, place())
    listener.on('connection', (stream) => stream.on('data', (bytes) => stream.write(bytes)))
    const target = listener.uri
      .replace('unix:', 'UNIX-CONNECT:')
      .replace('abstract:', 'ABSTRACT-CONNECT:')
      .replace('tcp://', 'TCP:')
    const child = spawn('socat', ['-t1', '-', target])
    let text = ''
    child.stdout.setEncoding('utf8').on('data', (chunk: string) => (text += chunk))
    child.stdin.end('hello\n')
    await childEnded(child)
    expect(text).toBe('hello\n')
    listener.close()
  }
})
