import { FdWatcher, Interest } from '@fd-reactor/core'
import { EventFd, UnixListener, UnixStream } from '@fd-reactor/fd-events'
import { describe, expect, test } from 'vitest'
import { assertNoLeakedFds, watchedBy } from './support/fds.js'
import { openManual, openReactor, settle, socketPath, streamPair } from './support/reactors.js'
import { cpuMsDuring, turn, within } from './support/wait.js'

assertNoLeakedFds()

describe('one crossing for each batch', () => {
  test('200 ready sources are delivered in one', () => {
    const reactor = openManual()
    let events = 0
    for (let i = 0; i < 200; i++) new EventFd(reactor, { initial: 1n }).on('event', () => events++)
    expect(reactor.dispatch()).toBe(200)
    expect(events).toBe(200)
    expect(reactor.stats()).toMatchObject({ batches: 1, events: 200 })
  })

  test('no crossing when nothing is ready', () => {
    const reactor = openManual()
    new EventFd(reactor).on('event', () => undefined)
    expect(reactor.dispatch()).toBe(0)
    expect(reactor.stats().batches).toBe(0)
  })

  test('the uv wakeup crosses once for what became ready together', async () => {
    const reactor = openReactor()
    const bells = Array.from({ length: 50 }, () => new EventFd(reactor))
    await within(
      new Promise<void>((resolve) => {
        let left = bells.length
        for (const bell of bells) bell.on('event', () => --left === 0 && resolve())
        for (const bell of bells) bell.write()
      }),
    )
    expect(reactor.stats()).toMatchObject({ batches: 1, events: 50 })
  })
})

describe('a batch is bounded', () => {
  test('maxEventsPerBatch leaves the rest in the kernel, and loses none', () => {
    const reactor = openManual({ maxEventsPerBatch: 10 })
    const heard = new Set<EventFd>()
    for (let i = 0; i < 25; i++) {
      const bell: EventFd = new EventFd(reactor, { initial: 1n }).on('event', () => heard.add(bell))
    }
    expect([reactor.dispatch(), reactor.dispatch(), reactor.dispatch(), reactor.dispatch()]).toEqual([
      10, 10, 5, 0,
    ])
    expect(heard.size).toBe(25)
  })

  test.each([1, 2, 4096])(
    'a maxEventsPerBatch of %i delivers everything, in all priorities',
    (maxEventsPerBatch) => {
      const reactor = openManual({ maxEventsPerBatch })
      let events = 0
      for (const priority of ['high', 'normal', 'low'] as const) {
        for (let i = 0; i < 7; i++)
          new EventFd(reactor, { priority, initial: 1n }).on('event', () => events++)
      }
      for (let i = 0; i < 100 && events < 21; i++) reactor.dispatch()
      expect(events).toBe(21)
    },
  )

  test('more ready streams than the slab has room for need several crossings of one turn', async () => {
    const reactor = openManual()
    const pairs = []
    for (let i = 0; i < 40; i++) pairs.push(await streamPair(reactor))
    let bytes = 0
    for (const [server, client] of pairs) {
      server.on('data', (chunk) => (bytes += chunk.length))
      client.write(Buffer.alloc(50_000))
    }
    const before = reactor.stats().batches
    reactor.dispatch()
    expect(bytes).toBe(40 * 50_000)
    expect(reactor.stats().batches - before).toBeGreaterThan(1)
    reactor.close()
  })

  test('a flooding peer gets its share and no more', async () => {
    const reactor = openManual()
    const [server, client] = await streamPair(reactor, { sendBuffer: 1 << 20 })
    const chunks: number[] = []
    server.on('data', (bytes) => chunks.push(bytes.length))
    let rung = 0
    const bell = new EventFd(reactor).on('event', () => rung++)
    client.write(Buffer.alloc(1 << 20))
    bell.write()
    reactor.dispatch()
    expect(rung).toBe(1)
    expect(chunks).toHaveLength(1)
    expect(chunks[0]).toBeLessThanOrEqual(64 * 1024)
    settle(reactor)
    expect(chunks.reduce((sum, size) => sum + size)).toBe(1 << 20)
    reactor.close()
  })

  test('a flood of connections is accepted in shares', async () => {
    const reactor = openManual()
    const listener = UnixListener.listen(reactor, socketPath())
    const clients = []
    for (let i = 0; i < 150; i++) clients.push(await UnixStream.connect(reactor, listener.path))
    const accepted: UnixStream[] = []
    listener.on('connection', (stream) => accepted.push(stream))
    expect(reactor.dispatch()).toBe(64)
    expect(accepted).toHaveLength(64)
    settle(reactor)
    expect(accepted).toHaveLength(150)
    reactor.close()
  })
})

describe('nothing is drained that has no consumer', () => {
  test('a stream keeps its bytes in the kernel until somebody listens', async () => {
    const reactor = openManual()
    const [server, client] = await streamPair(reactor)
    client.write('early')
    expect(settle(reactor)).toBe(0)
    expect(server.stats).toMatchObject({ interest: 0, events: 0 })
    expect(watchedBy(reactor.fd)).not.toContain(server.fd)
    const data: string[] = []
    server.once('data', (bytes) => data.push(String(bytes)))
    settle(reactor)
    client.write('late')
    settle(reactor)
    expect(data).toEqual(['early'])
    server.on('data', (bytes) => data.push(String(bytes)))
    settle(reactor)
    expect(data).toEqual(['early', 'late'])
    reactor.close()
  })

  test('a listener accepts nobody until somebody listens, so an asynchronous start loses nobody', async () => {
    const reactor = openReactor()
    const listener = UnixListener.listen(reactor, socketPath())
    const clients = await Promise.all([1, 2, 3].map(() => UnixStream.connect(reactor, listener.path)))
    await turn()
    expect(listener.stats.events).toBe(0)
    const served = new Promise<number>((resolve) => {
      let count = 0
      listener.on('connection', (stream) => {
        stream.close()
        if (++count === clients.length) resolve(count)
      })
    })
    await expect(within(served)).resolves.toBe(3)
  })

  test('an async connection handler that listens for data later loses no byte', async () => {
    const reactor = openReactor()
    const listener = UnixListener.listen(reactor, socketPath())
    const got = new Promise<string>((resolve) => {
      listener.on('connection', (stream) => {
        void turn()
          .then(turn)
          .then(() => stream.on('data', (bytes) => resolve(String(bytes))))
      })
    })
    const client = await UnixStream.connect(reactor, listener.path)
    client.write('hello')
    await expect(within(got)).resolves.toBe('hello')
  })

  test.each(['on', 'once', 'addListener'] as const)(
    '%s() makes a consumer, and removing it ends that',
    (add) => {
      const reactor = openManual()
      const bell = new EventFd(reactor)
      const listener = (): void => undefined
      expect(bell.stats.interest).toBe(0)
      bell[add]('event', listener)
      expect(bell.stats.interest).toBe(Interest.In)
      bell.off('event', listener)
      expect(bell.stats.interest).toBe(0)
      bell[add]('event', listener)
      bell.removeAllListeners()
      expect(bell.stats.interest).toBe(0)
      bell.on('error', listener).on('close', listener)
      expect(bell.stats.interest).toBe(0)
    },
  )
})

describe('what wants nothing is not in the set', () => {
  test('a paused stream whose peer hung up does not spin', async () => {
    const reactor = openManual()
    const [server, client] = await streamPair(reactor)
    let data = ''
    let ended = false
    server.on('data', (bytes) => (data += String(bytes))).on('end', () => (ended = true))
    server.pause()
    client.write('last words')
    client.destroy()
    expect(watchedBy(reactor.fd)).not.toContain(server.fd)
    for (let i = 0; i < 10; i++) expect(reactor.dispatch()).toBe(0)
    server.resume()
    settle(reactor)
    expect([data, ended]).toEqual(['last words', true])
  })

  test('a paused watcher of a hung-up descriptor costs no time', async () => {
    const manual = openManual()
    const [server, client] = await streamPair(manual)
    const reactor = openReactor()
    const watcher = new FdWatcher(reactor, server.fd)
    let events = 0
    const hungUp = new Promise<void>((resolve) => {
      watcher.on('ready', (bits) => {
        events++
        if ((bits & Interest.Hup) === 0) return
        watcher.pause()
        resolve()
      })
    })
    client.destroy()
    await within(hungUp)
    const before = [reactor.stats().batches, events]
    expect(await cpuMsDuring(200)).toBeLessThan(100)
    expect([reactor.stats().batches, events]).toEqual(before)
    manual.close()
  })

  test('a half-closed stream is not told of its end again and again', async () => {
    const reactor = openManual()
    const [server, client] = await streamPair(reactor, { allowHalfOpen: true })
    server.on('data', () => undefined).on('end', () => undefined)
    client.end()
    settle(reactor)
    expect(server.stats.interest & (Interest.In | Interest.RdHup)).toBe(0)
    for (let i = 0; i < 10; i++) expect(reactor.dispatch()).toBe(0)
    server.write('still open in this direction')
    client.on('data', () => undefined)
    expect(settle(reactor)).toBeLessThan(5)
    client.destroy()
    expect(settle(reactor)).toBeLessThan(5)
    reactor.close()
  })
})
