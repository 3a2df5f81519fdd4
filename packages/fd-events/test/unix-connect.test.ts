import { spawnSync } from 'node:child_process'
import { chmodSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { UnixListener, UnixStream } from '@fd-reactor/fd-events'
import { expect, test } from 'vitest'
import { assertNoLeakedFds, countFds } from '../../core/test/support/fds.js'
import { runForJson, withoutLeakCheck } from '../../core/test/support/child.js'
import { openManual, openReactor, socketPath } from '../../core/test/support/reactors.js'
import { until, within } from '../../core/test/support/wait.js'
import { leaveDeadSocket, rawClient } from './unix-helpers.js'

assertNoLeakedFds()

test('connects at once, before the listener has accepted', async () => {
  const reactor = openManual()
  const listener = UnixListener.listen(reactor, socketPath())
  const stream = await UnixStream.connect(reactor, listener.path)
  expect(listener.connections).toBe(0)
  expect(stream.write('early')).toBe(true)
  expect(stream.bytesWritten).toBe(5)
})

test.each([
  ['ENOENT', 'there is nothing', () => undefined],
  ['ECONNREFUSED', 'nobody listens any more', leaveDeadSocket],
  ['ECONNREFUSED', 'there is a regular file', (path: string): void => void writeFileSync(path, '')],
])('%s when %s', async (code, _, prepare) => {
  const reactor = openManual()
  const path = socketPath()
  prepare(path)
  const before = countFds()
  const error = await UnixStream.connect(reactor, path).catch((reason: unknown) => reason)
  expect(error).toMatchObject({ name: 'SystemError', code, syscall: 'connect', path })
  expect(String(error)).toContain(path)
  expect(countFds()).toEqual(before)
})

test('ENAMETOOLONG is explained', async () => {
  const path = `/tmp/${'x'.repeat(200)}`
  const error = await UnixStream.connect(openManual(), path).catch((reason: unknown) => reason)
  expect(error).toMatchObject({ code: 'ENAMETOOLONG', syscall: 'connect', path })
  expect(String(error)).toContain('205 bytes')
})

test('EACCES for who may not', async ({ skip }) => {
  skip(process.getuid?.() !== 0, 'only root may run a child as somebody else')
  const path = socketPath()
  chmodSync(dirname(path), 0o755)
  UnixListener.listen(openManual(), path, { mode: 0o600 })
  const code = await runForJson(
    `process.setuid(65534)
     const code = await UnixStream.connect(new Reactor(), process.argv[1]).then(() => 'connected', (error) => error.code)
     console.log(JSON.stringify(code))
     process.exit(0)`,
    { args: [path], env: withoutLeakCheck },
  )
  expect(code).toBe('EACCES')
})

test('a full backlog is waited for, until somebody accepts', async () => {
  const reactor = openReactor()
  const listener = UnixListener.listen(reactor, socketPath(), { backlog: 0 })
  rawClient(listener.path)
  const connecting = UnixStream.connect(reactor, listener.path)
  let connected = false
  void connecting.then(() => (connected = true))
  let accepted = 0
  reactor.defer(() => {
    expect(connected).toBe(false)
    listener.on('connection', () => accepted++)
  })
  await within(connecting)
  await until(() => accepted === 2)
})

test('a full backlog is ERR_TIMEOUT after the timeout, not much later', async () => {
  const reactor = openManual()
  const listener = UnixListener.listen(reactor, socketPath(), { backlog: 0 })
  rawClient(listener.path)
  const before = countFds()
  const start = performance.now()
  const error = await UnixStream.connect(reactor, listener.path, { timeout: 40e6 }).catch(
    (reason: unknown) => reason,
  )
  const took = performance.now() - start
  expect(error).toMatchObject({ name: 'ReactorError', code: 'ERR_TIMEOUT' })
  expect(String(error)).toContain(listener.path)
  expect(took).toBeGreaterThanOrEqual(39)
  expect(took).toBeLessThan(1000)
  expect(countFds()).toEqual(before)
})

test('an AbortSignal ends the waiting with its reason, and is let go of afterwards', async () => {
  const reactor = openManual()
  const listener = UnixListener.listen(reactor, socketPath(), { backlog: 0 })
  rawClient(listener.path)
  const before = countFds()
  const controller = new AbortController()
  const connecting = UnixStream.connect(reactor, listener.path, { signal: controller.signal })
  const reason = new Error('changed my mind')
  setImmediate(() => {
    controller.abort(reason)
  })
  await expect(within(connecting)).rejects.toBe(reason)
  await expect(UnixStream.connect(reactor, listener.path, { signal: controller.signal })).rejects.toBe(reason)
  expect(countFds()).toEqual(before)
})

test('an AbortSignal closes the stream that it connected', async () => {
  const reactor = openManual()
  const listener = UnixListener.listen(reactor, socketPath())
  const controller = new AbortController()
  const stream = await UnixStream.connect(reactor, listener.path, { signal: controller.signal })
  controller.abort()
  expect(stream.closed).toBe(true)
})

test('a reactor that is closed meanwhile leaves nothing open', async () => {
  const before = countFds()
  const reactor = openManual()
  const other = openManual()
  const listener = UnixListener.listen(other, socketPath(), { backlog: 0 })
  const blocker = rawClient(listener.path)
  const connecting = UnixStream.connect(reactor, listener.path)
  const failed = expect(within(connecting)).rejects.toMatchObject({ code: 'ERR_CLOSED' })
  reactor.close()
  listener.on('connection', () => undefined)
  await until(() => {
    other.dispatch()
    return listener.connections === 2
  })
  await failed
  other.close()
  blocker.close()
  expect(countFds()).toEqual(before)
})

test('options that do not exist or are out of range are refused', async () => {
  const reactor = openManual()
  await expect(UnixStream.connect(reactor, '/tmp/s', { timeout: 0 })).rejects.toThrow(RangeError)
  // @ts-expect-error a misspelt option
  await expect(UnixStream.connect(reactor, '/tmp/s', { timeOut: 1 })).rejects.toThrow(
    "did you mean 'timeout'",
  )
  // @ts-expect-error a listener's option
  await expect(UnixStream.connect(reactor, '/tmp/s', { backlog: 1 })).rejects.toThrow('backlog')
  await expect(UnixStream.connect(reactor, '/tmp/s', { highWaterMark: -1 })).rejects.toThrow(RangeError)
})

test('the peer of a client is the process that listens', async () => {
  const reactor = openManual()
  const listener = UnixListener.listen(reactor, socketPath())
  const stream = await UnixStream.connect(reactor, listener.path)
  expect(stream.peer).toEqual({ pid: process.pid, uid: process.getuid?.(), gid: process.getgid?.() })
})

test('a listener of Node’s own is a listener like any other', () => {
  const script = `
    import { createServer } from 'node:net'
    import { Reactor } from '@fd-reactor/core'
    import { UnixStream } from '@fd-reactor/fd-events'
    const server = createServer((connection) => connection.pipe(connection))
    await new Promise((resolve) => server.listen(process.argv[1], resolve))
    const reactor = new Reactor()
    const stream = await UnixStream.connect(reactor, process.argv[1])
    stream.end('there and back')
    for await (const bytes of stream) console.log(String(bytes))
    server.close()`
  const cwd = new URL('..', import.meta.url)
  const args = ['--input-type=module', '-e', script, '--', socketPath()]
  const { stdout, stderr, status } = spawnSync(process.execPath, args, {
    cwd,
    encoding: 'utf8',
    timeout: 10_000,
  })
  expect({ stdout, stderr, status }).toEqual({ stdout: 'there and back\n', stderr: '', status: 0 })
})
