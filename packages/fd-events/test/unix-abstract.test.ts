import { spawn, spawnSync } from 'node:child_process'
import { once } from '@fd-reactor/core'
import { UnixListener, UnixStream, type DetachedListener } from '@fd-reactor/fd-events'
import { expect, test } from 'vitest'
import { assertNoLeakedFds } from '../../core/test/support/fds.js'
import { openManual, openReactor, settle, socketPath } from '../../core/test/support/reactors.js'
import { childEnded, until, within } from '../../core/test/support/wait.js'
import { rawClient, thrownBy } from './unix-helpers.js'

assertNoLeakedFds()

let names = 0
const abstractName = (): string => `fd-reactor-test-${process.pid}-${names++}`

/** How /proc/net/unix shows the names that begin with `prefix`. */
function shown(prefix: string): string[] {
  const { stdout } = spawnSync('grep', ['-ao', `@${prefix}.*`, '/proc/net/unix'], { encoding: 'utf8' })
  return stdout.split('\n').filter((line) => line !== '')
}

test('listener and stream meet at an abstract name, which is exactly as long as it was given', async () => {
  const reactor = openReactor()
  const name = abstractName()
  const listener = UnixListener.listen(reactor, { abstract: name })
  expect(listener.address).toEqual({ abstract: name })
  expect(listener.path).toBe(`@${name}`)
  expect(shown(name)).toEqual([`@${name}`])
  listener.on('connection', (stream) => stream.on('data', (bytes) => stream.write(bytes)))
  const stream = await UnixStream.connect(reactor, listener.address)
  stream.write('hello')
  expect(String((await within(once(stream, 'data')))[0])).toBe('hello')
  await expect(UnixStream.connect(reactor, { abstract: `${name}\u{1}` })).rejects.toMatchObject({
    code: 'ECONNREFUSED',
    path: `@${name}\u{1}`,
  })
  listener.close()
  await expect(UnixStream.connect(reactor, { abstract: name })).rejects.toThrow(
    `ECONNREFUSED: connection refused, connect '@${name}'. Nobody listens there`,
  )
})

test('names may be any bytes, NULs included', async () => {
  const reactor = openReactor()
  const bytes = Buffer.concat([Buffer.from(abstractName()), Buffer.from([0, 255, 0])])
  const listener = UnixListener.listen(reactor, { abstract: bytes })
  const stream = await UnixStream.connect(reactor, { abstract: new Uint8Array(bytes) })
  const [accepted] = await within(once(listener, 'connection'))
  accepted.end('x')
  expect(String((await within(once(stream, 'data')))[0])).toBe('x')
  const { abstract: shorter } = { abstract: bytes.subarray(0, -1) }
  await expect(UnixStream.connect(reactor, { abstract: shorter })).rejects.toMatchObject({
    code: 'ECONNREFUSED',
  })
})

test('a name that is taken is EADDRINUSE', () => {
  const reactor = openManual()
  const address = { abstract: abstractName() }
  UnixListener.listen(reactor, address)
  const error = thrownBy(() => UnixListener.listen(reactor, address))
  expect(error).toMatchObject({ code: 'EADDRINUSE', syscall: 'bind', path: `@${address.abstract}` })
  expect(String(error)).toContain('Another socket in this network namespace has the name')
})

test('it has no file, and so neither mode nor owner', () => {
  const address = { abstract: abstractName() }
  expect(() => UnixListener.listen(openManual(), address, { mode: 0o600 })).toThrow(
    'An abstract name has no file, and so neither mode nor owner: see `allow`',
  )
  expect(() => UnixListener.listen(openManual(), address, { owner: { uid: 0 } })).toThrow(TypeError)
})

test('a listener passed on with detach() goes on listening, and its file stays', async () => {
  const reactor = openReactor()
  for (const address of [{ abstract: abstractName() }, socketPath()]) {
    const { handle, connections } = UnixListener.listen(reactor, address).detach()
    expect(connections).toEqual([])
    const connecting = UnixStream.connect(reactor, address)
    const listener = UnixListener.from(reactor, handle)
    expect(listener.address).toEqual(address)
    const [accepted] = await within(once(listener, 'connection'))
    accepted.close()
    ;(await connecting).destroy()
    listener.close()
    // The file stays: it belongs to who made it.
    await expect(UnixStream.connect(reactor, address)).rejects.toMatchObject({ code: 'ECONNREFUSED' })
  }
})

test('detach() in the middle of a batch gives what was accepted and not told', async () => {
  const reactor = openManual()
  const listener = UnixListener.listen(reactor, socketPath())
  const clients = await Promise.all([1, 2, 3, 4, 5].map(() => UnixStream.connect(reactor, listener.path)))
  const told: UnixStream[] = []
  let rest: UnixStream[] = []
  listener.on('connection', (stream) => {
    told.push(stream)
    if (told.length < 2) return
    const { handle, connections } = listener.detach()
    rest = connections
    handle.close()
  })
  reactor.dispatch()
  expect([told.length, rest.length, clients.length]).toEqual([2, 3, 5])
  for (const stream of [...told, ...rest]) stream.write('served')
  const answers = await Promise.all(
    clients.map(async (client) => {
      const answer = once(client, 'data')
      reactor.dispatch()
      return String((await within(answer))[0])
    }),
  )
  expect(answers).toEqual(Array.from({ length: 5 }, () => 'served'))
})

test('detach() gives the socket also when what was accepted is refused by an error', () => {
  const errors: unknown[] = []
  const reactor = openManual({ onHandlerError: (error) => errors.push(error) })
  let asked = 0
  const allow = (): boolean => {
    if (asked++ === 1) throw new Error('who is that?')
    return true
  }
  const listener = UnixListener.listen(reactor, socketPath(), { allow })
  let detached: DetachedListener<UnixStream> | undefined
  listener.on('connection', () => (detached = listener.detach()))
  for (let n = 0; n < 3; n++) rawClient(listener.path)
  settle(reactor)
  expect(detached?.connections).toHaveLength(1)
  expect(errors).toEqual([new Error('who is that?')])
  detached?.handle.close()
  detached?.connections[0]?.close()
})

test('end() of a listener that others have too gives out who waits, and leaves it to them', async () => {
  const reactor = openReactor()
  const path = socketPath()
  const { handle } = UnixListener.listen(reactor, path).detach()
  const ours = UnixListener.from(reactor, handle.duplicate())
  let seen = 0
  ours.pause().on('connection', () => seen++)
  for (let n = 0; n < 3; n++) rawClient(path)
  ours.end()
  expect([seen, ours.closed]).toEqual([3, true])
  rawClient(path) // is not refused
  const theirs = UnixListener.from(reactor, handle, { unlinkOnClose: true })
  const [stream] = await within(once(theirs, 'connection'))
  stream.close()
  theirs.end()
  expect(thrownBy(() => rawClient(path))).toMatchObject({ code: 'ENOENT' })
})

test('from() removes the file when it was asked to, and refuses what is no listener', async () => {
  const reactor = openReactor()
  const path = socketPath()
  const { handle } = UnixListener.listen(reactor, path).detach()
  const listener = UnixListener.from(reactor, handle, { unlinkOnClose: true })
  const stream = await UnixStream.connect(reactor, path)
  const [accepted] = await within(once(listener, 'connection'))
  using connected = accepted.detach().handle
  expect(() => UnixListener.from(reactor, connected)).toThrow(
    /^EINVAL: invalid argument, getsockopt 'fd \d+'\. It is a Unix stream socket, and must be a listening Unix stream socket$/,
  )
  stream.destroy()
  listener.close()
  await expect(UnixStream.connect(reactor, path)).rejects.toMatchObject({ code: 'ENOENT' })
})

test.for([
  { command: 'socat', args: (name: string) => ['-t1', '-', `ABSTRACT-CONNECT:${name}`] },
  { command: 'nc', args: (name: string) => ['-N', '-U', `@${name}`] },
])('$command talks to an echo server with an abstract name', async ({ command, args }, { skip }) => {
  skip(spawnSync('which', [command]).status !== 0, `${command} is not installed`)
  const reactor = openReactor()
  const name = abstractName()
  const listener = UnixListener.listen(reactor, { abstract: name })
  listener.on('connection', (stream) => stream.on('data', (bytes) => stream.write(bytes)))
  const child = spawn(command, args(name))
  let text = ''
  child.stdout.setEncoding('utf8').on('data', (chunk: string) => (text += chunk))
  child.stdin.end('hello from outside\n')
  await childEnded(child)
  expect(text).toBe('hello from outside\n')
  await until(() => listener.connections === 0)
})

test('socat listens at an abstract name', async ({ skip }) => {
  skip(spawnSync('which', ['socat']).status !== 0, 'socat is not installed')
  const reactor = openReactor()
  const name = abstractName()
  const child = spawn('socat', [`ABSTRACT-LISTEN:${name}`, 'SYSTEM:cat'])
  await until(() => shown(name).length > 0)
  const stream = await UnixStream.connect(reactor, { abstract: name }, { allowHalfOpen: true })
  stream.end('round')
  let text = ''
  for await (const bytes of stream) text += String(bytes)
  expect(text).toBe('round')
  await childEnded(child)
})
