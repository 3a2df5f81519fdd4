import { spawnSync } from 'node:child_process'
import { closeSync, constants, openSync } from 'node:fs'
import { FdWatcher, Interest } from '@fd-reactor/core'
import { EventFd, UnixListener, UnixStream } from '@fd-reactor/fd-events'
import { describe, expect, test } from 'vitest'
import { assertNoLeakedFds, flagsOf } from './support/fds.js'
import { runForJson } from './support/child.js'
import { openManual, settle, socketPath, streamPair } from './support/reactors.js'
import { Counter } from './support/sources.js'

assertNoLeakedFds()

/** What happens whenever a descriptor is inherited as a child's stdin: libuv clears the flag in the shared description. */
function becomeBlocking(fd: number): void {
  spawnSync('true', { stdio: [fd, 'ignore', 'ignore'] })
  expect(flagsOf(fd) & constants.O_NONBLOCK).toBe(0)
}

/** Runs in a child what would hang there if it went wrong: becomeBlocking and the imports are there. */
const CHILD = `
import { spawnSync } from 'node:child_process'
const becomeBlocking = (fd) => spawnSync('true', { stdio: [fd, 'ignore', 'ignore'] })
const reactor = new Reactor({ wakeup: 'manual' })
`

describe('another holder of a description clears O_NONBLOCK', () => {
  test('two readers of one eventfd, both reported ready: the slower one does not block', async () => {
    const result = await runForJson(`${CHILD}
      const counts = []
      class Reader extends Source {
        constructor(handle) { super(reactor, handle, { drain: Drain.Counter, interest: Interest.In }) }
        get consumerEvents() { return ['count'] }
        onRecord(record) { counts.push(Number(record.value)) }
      }
      const handle = new EventFd(reactor).detach()
      becomeBlocking(handle.fd)
      for (const each of [handle, handle.duplicate()]) new Reader(each).on('count', () => {})
      EventFd.write(handle.fd, 5n)
      reactor.dispatch()
      reactor.dispatch()
      console.log(JSON.stringify(counts))
      process.exit()`)
    expect(result).toEqual([5])
  })

  test('two readers of one stream, both reported ready: the slower one does not block', async () => {
    const result = await runForJson(`${CHILD}
      const listener = UnixListener.listen(reactor, path)
      let server
      listener.on('connection', (stream) => { server = stream })
      const client = await UnixStream.connect(reactor, path)
      reactor.dispatch()
      becomeBlocking(server.fd)
      const { handle } = server.detach()
      const twins = [UnixStream.from(reactor, handle.duplicate()), UnixStream.from(reactor, handle)]
      const data = []
      for (const twin of twins) twin.on('data', (bytes) => data.push(String(bytes)))
      client.write('once')
      reactor.dispatch()
      reactor.dispatch()
      reactor.close()
      console.log(JSON.stringify(data))`)
    expect(result).toEqual(['once'])
  })

  test('a full socket does not block the writer', async () => {
    const result = await runForJson(`${CHILD}
      const listener = UnixListener.listen(reactor, path)
      listener.on('connection', () => {})
      const client = await UnixStream.connect(reactor, path)
      becomeBlocking(client.fd)
      const more = client.write(Buffer.alloc(4 << 20))
      console.log(JSON.stringify([more, client.writableLength > 0]))
      reactor.close()`)
    expect(result).toEqual([false, true])
  })

  test('a full counter does not block the writer', async () => {
    const result = await runForJson(`${CHILD}
      const bell = new EventFd(reactor, { initial: 2n ** 64n - 2n })
      becomeBlocking(bell.fd)
      console.log(JSON.stringify([bell.write(1n), EventFd.write(bell.fd, 1n)]))
      reactor.close()`)
    expect(result).toEqual([false, false])
  })

  test('a listener does not block when the backlog is empty', async () => {
    const result = await runForJson(`${CHILD}
      const listener = UnixListener.listen(reactor, path)
      becomeBlocking(listener.fd)
      let connections = 0
      listener.on('connection', () => connections++)
      await UnixStream.connect(reactor, path)
      await UnixStream.connect(reactor, path)
      reactor.dispatch()
      reactor.close()
      console.log(JSON.stringify(connections))`)
    expect(result).toBe(2)
  })
})

describe('what is lent stays as it is', () => {
  test('watching leaves the flags alone, and closing leaves the descriptor open', () => {
    const reactor = openManual()
    const fd = openSync('/dev/ptmx', constants.O_RDWR | constants.O_NOCTTY)
    const flags = flagsOf(fd)
    const watcher = new FdWatcher(reactor, fd, { interest: Interest.Out }).on('ready', () => undefined)
    reactor.dispatch()
    watcher.close()
    expect(flagsOf(fd)).toBe(flags)
    closeSync(fd)
  })

  test('a stream made of a blocking socket works, and the socket stays blocking', async () => {
    const reactor = openManual()
    const [server, client] = await streamPair(reactor)
    const { handle } = server.detach()
    becomeBlocking(handle.fd)
    const stream = UnixStream.from(reactor, handle)
    const data: string[] = []
    stream.on('data', (bytes) => data.push(String(bytes)))
    client.write('one')
    settle(reactor)
    stream.write('two')
    client.on('data', (bytes) => data.push(String(bytes)))
    settle(reactor)
    expect(data).toEqual(['one', 'two'])
    expect(flagsOf(handle.fd) & constants.O_NONBLOCK).toBe(0)
    reactor.close()
  })

  test('what we make is close-on-exec and non-blocking', async () => {
    const reactor = openManual()
    const listener = UnixListener.listen(reactor, socketPath())
    const bell = new EventFd(reactor)
    const [server, client] = await streamPair(reactor)
    const wanted = constants.O_NONBLOCK | 0o2000000
    for (const { fd } of [listener, bell, server, client]) expect(flagsOf(fd) & wanted).toBe(wanted)
    using handle = bell.detach()
    using copy = handle.duplicate()
    expect(flagsOf(copy.fd) & wanted).toBe(wanted)
    reactor.close()
  })

  test('two sources may share one description: each count reaches one of them', () => {
    const reactor = openManual()
    const counts: bigint[] = []
    const first = new Counter(reactor)
    const second = new Counter(reactor, first.handle.duplicate())
    for (const counter of [first, second]) counter.on('count', (value) => counts.push(value))
    first.write(7n)
    settle(reactor)
    expect(counts).toEqual([7n])
  })
})
