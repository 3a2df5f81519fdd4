import { closeSync, openSync } from 'node:fs'
import { FdHandle, FdWatcher, Reactor } from '@fd-reactor/core'
import { eventfd } from '@fd-reactor/core/sys'
import { EventFd, UnixListener, UnixStream } from '@fd-reactor/fd-events'
import { describe, expect, onTestFinished, test } from 'vitest'
import { assertNoLeakedFds, countFds, linkOf, watchedBy } from './support/fds.js'
import { openManual, settle, socketPath, streamPair } from './support/reactors.js'
import { Counter } from './support/sources.js'

assertNoLeakedFds()

/** Closes a number at the end of the test, if it is still open then. */
function closeLater(fd: number): void {
  onTestFinished(() => {
    if (linkOf(fd) !== undefined) closeSync(fd)
  })
}

describe('closing in the middle of a batch', () => {
  test.each([2, 50])(
    'closing all others in the first of %i handlers: no event for them, their counts are settled',
    (size) => {
      const reactor = openManual()
      const counters = Array.from({ length: size }, () => new Counter(reactor))
      let handlers = 0
      for (const counter of counters) {
        counter.on('count', () => {
          handlers++
          for (const other of counters) if (other !== counter) other.close()
        })
        counter.write(3n)
      }
      reactor.dispatch()
      expect(handlers).toBe(1)
      expect(counters.map(({ settled }) => settled)).toEqual([
        [],
        ...Array.from({ length: size - 1 }, () => [3n]),
      ])
      expect(settle(reactor)).toBe(0)
    },
  )

  test('a source that closes itself hears nothing more', () => {
    const reactor = openManual()
    let heard = 0
    const counter = new Counter(reactor).write().on('count', () => {
      heard++
      counter.write()
      counter.close()
    })
    settle(reactor)
    expect(heard).toBe(1)
    expect(linkOf(counter.handle.closed ? -1 : counter.handle.fd)).toBeUndefined()
  })

  test('accepted connections of a closed listener are closed: the peers see the end, and no descriptor leaks', async () => {
    const reactor = openManual()
    const before = countFds()
    const listener = UnixListener.listen(reactor, socketPath())
    const clients: UnixStream[] = []
    for (let i = 0; i < 5; i++) clients.push(await UnixStream.connect(reactor, listener.path))
    let connections = 0
    listener.on('connection', (stream) => {
      connections++
      stream.close()
      listener.close()
    })
    reactor.dispatch()
    expect(connections).toBe(1)
    let ended = 0
    for (const client of clients) client.on('data', () => undefined).on('close', () => ended++)
    settle(reactor)
    expect(ended).toBe(5)
    expect(countFds().socket).toBe(before.socket)
  })

  test('closing the reactor in a handler ends the batch, and settles it', () => {
    const reactor = openManual()
    const counters = Array.from({ length: 4 }, () => new Counter(reactor).write())
    const heard: Counter[] = []
    for (const counter of counters) {
      counter.on('count', () => {
        heard.push(counter)
        reactor.close()
      })
    }
    reactor.dispatch()
    expect(heard).toHaveLength(1)
    expect(counters.map(({ closed }) => closed)).toEqual([true, true, true, true])
    expect(counters.flatMap(({ settled }) => settled)).toHaveLength(3)
  })

  test('pausing another source keeps what was drained for it, and nothing is delivered before it resumes', () => {
    const reactor = openManual()
    const counts: bigint[] = []
    const first = new EventFd(reactor)
    const second = new EventFd(reactor).on('event', (count) => counts.push(count))
    first.on('event', () => second.pause())
    first.write()
    second.write(5n)
    reactor.dispatch()
    second.write(6n)
    settle(reactor)
    expect(counts).toEqual([])
    second.resume()
    settle(reactor)
    expect(counts.reduce((sum, count) => sum + count)).toBe(11n) // the counts that wait may be told as one
  })

  test('removing the last listener of another source keeps what was drained for it', async () => {
    const reactor = openManual()
    const [server, client] = await streamPair(reactor)
    const data: string[] = []
    const onData = (bytes: Buffer): void => void data.push(String(bytes))
    server.on('data', onData)
    const bell = new EventFd(reactor).on('event', () => server.off('data', onData))
    bell.write()
    client.write('kept')
    reactor.dispatch()
    expect(data).toEqual([])
    server.on('data', onData)
    settle(reactor)
    expect(data).toEqual(['kept'])
    reactor.close()
  })

  test('detaching another stream hands over the bytes that were drained for it', async () => {
    const reactor = openManual()
    const [server, client] = await streamPair(reactor)
    server.on('data', () => expect.unreachable('it was detached'))
    let detached: { handle: FdHandle; unread: Buffer } | undefined
    const bell = new EventFd(reactor).on('event', () => (detached = server.detach()))
    bell.write()
    client.write('handed over')
    reactor.dispatch()
    expect(String(detached?.unread)).toBe('handed over')
    client.write(' and more')
    const data: string[] = []
    if (detached !== undefined)
      UnixStream.from(reactor, detached.handle).on('data', (bytes) => data.push(String(bytes)))
    settle(reactor)
    expect(data).toEqual([' and more'])
    reactor.close()
  })

  test('detaching another counter puts back what was drained for it', () => {
    const reactor = openManual()
    const first = new EventFd(reactor)
    const second = new EventFd(reactor).on('event', () => expect.unreachable('it was detached'))
    let handle: FdHandle | undefined
    first.on('event', () => (handle = second.detach()))
    first.write()
    second.write(9n)
    reactor.dispatch()
    expect(handle).toBeDefined()
    const counts: bigint[] = []
    new Counter(reactor, handle).on('count', (value) => counts.push(value))
    settle(reactor)
    expect(counts).toEqual([9n])
  })

  test('a number that is reused in the same batch belongs to its new source only', () => {
    const reactor = openManual()
    const heard: string[] = []
    const opener = new Counter(reactor)
    const old = new Counter(reactor).on('count', () => heard.push('old'))
    const number = old.fd
    let fresh: Counter | undefined
    opener.on('count', () => {
      old.close()
      fresh = new Counter(reactor).on('count', (value) => heard.push(`fresh ${value}`))
    })
    opener.write()
    old.write(100n)
    reactor.dispatch()
    expect(fresh?.fd).toBe(number)
    expect(heard).toEqual([])
    expect(old.settled).toEqual([100n])
    fresh?.write(2n)
    settle(reactor)
    expect(heard).toEqual(['fresh 2'])
  })

  test('slots are reused after the batch, never in it, for any number of generations', () => {
    const reactor = openManual()
    const heard: number[] = []
    let last = new Counter(reactor)
    const opener = new Counter(reactor)
    opener.on('count', () => {
      for (let i = 0; i < 20; i++) {
        const generation = i
        last.close()
        last = new Counter(reactor).on('count', () => heard.push(generation))
      }
    })
    for (let round = 0; round < 50; round++) {
      opener.write()
      last.on('count', () => expect.unreachable('it is closed before its turn')).write()
      reactor.dispatch()
      expect(heard).toEqual([])
      last.removeAllListeners()
    }
    expect(reactor.sources()).toHaveLength(2)
  })
})

describe('a descriptor that is closed behind our back', () => {
  test('a late removal does not take the registration of the new owner of the number', () => {
    const reactor = openManual()
    const old = new Counter(reactor).on('count', () => expect.unreachable('its descriptor is gone'))
    const number = old.fd
    closeSync(number)
    const fresh = new Counter(reactor)
    const counts: bigint[] = []
    fresh.on('count', (value) => counts.push(value))
    expect(fresh.fd).toBe(number)
    old.close()
    expect(linkOf(number)).toBe('anon_inode:[eventfd]')
    expect(watchedBy(reactor.fd)).toContain(number)
    fresh.pause().resume()
    fresh.write(4n)
    settle(reactor)
    expect(counts).toEqual([4n])
  })

  test('pausing it or taking its listeners away is not an error, and does not touch the new owner', () => {
    const reactor = openManual()
    const old = new Counter(reactor).on('count', () => undefined)
    const number = old.fd
    closeSync(number)
    const fresh = new Counter(reactor).on('count', () => undefined)
    expect(fresh.fd).toBe(number)
    expect(() => old.fd).toThrow(expect.objectContaining({ code: 'EBADF' }))
    old.pause().removeAllListeners()
    expect(watchedBy(reactor.fd)).toContain(fresh.fd)
    expect(() => old.resume().on('count', () => undefined)).toThrow(
      expect.objectContaining({ code: 'EBADF', syscall: 'epoll_ctl' }),
    )
    old.close()
  })

  test('removing it is not an error (EBADF, ENOENT)', () => {
    const reactor = openManual()
    const gone = new Counter(reactor).on('count', () => undefined)
    const reused = new Counter(reactor).on('count', () => undefined)
    closeSync(gone.fd)
    const number = reused.fd
    closeSync(number)
    // Only the second number is taken again, by a file that is nobody's source: ENOENT. The first stays closed: EBADF.
    const filler = openSync('/dev/null', 'r')
    closeLater(filler)
    gone.close()
    reused.close()
    expect(settle(reactor)).toBe(0)
  })

  test('a handle whose number has a new owner does not close it', () => {
    const old = new FdHandle(eventfd.create(0n, false))
    closeSync(old.fd)
    const fresh = new FdHandle(eventfd.create(0n, false))
    expect(fresh.fd).toBe(old.fd)
    old.close()
    expect(linkOf(fresh.fd)).toBe('anon_inode:[eventfd]')
    fresh.close()
  })

  test('in two reactors: the late removal in one leaves the other alone', () => {
    const [one, two] = [openManual(), openManual()]
    const old = new Counter(one).on('count', () => undefined)
    const number = old.fd
    closeSync(number)
    const counts: bigint[] = []
    const fresh = new Counter(two).on('count', (value) => counts.push(value))
    expect(fresh.fd).toBe(number)
    old.close()
    fresh.write(8n)
    settle(two)
    expect(counts).toEqual([8n])
  })

  test('the watcher of a user whose number was reused: the second watcher gets the events', () => {
    const reactor = openManual()
    const handle = new FdHandle(eventfd.create(1n, false))
    const stale = new FdWatcher(reactor, handle.fd).on('ready', () =>
      expect.unreachable('its file is closed'),
    )
    handle.close()
    const again = new FdHandle(eventfd.create(1n, false))
    let ready = 0
    const watcher = new FdWatcher(reactor, again.fd, { mode: 'edge' }).on('ready', () => ready++)
    settle(reactor)
    stale.close()
    eventfd.write(again.fd, 1n)
    settle(reactor)
    expect(ready).toBe(2)
    watcher.close()
    again.close()
  })
})

describe('the end', () => {
  test('close() is idempotent, emits close once, and use after it throws ERR_CLOSED', () => {
    const reactor = openManual()
    const counter = new Counter(reactor)
    let closes = 0
    counter.on('close', () => closes++)
    counter.close()
    counter.close()
    counter[Symbol.dispose]()
    expect(closes).toBe(1)
    expect(() => counter.fd).toThrow(expect.objectContaining({ code: 'ERR_CLOSED' }))
  })

  test('the reactor closes its sources newest first', () => {
    const reactor = openManual()
    const order: string[] = []
    for (const label of ['first', 'second', 'third']) {
      new Counter(reactor, undefined, { label }).on('close', () => order.push(label))
    }
    reactor.close()
    expect(order).toEqual(['third', 'second', 'first'])
    expect(() => reactor.fd).toThrow(expect.objectContaining({ code: 'ERR_CLOSED' }))
    expect(() => new Counter(reactor)).toThrow(expect.objectContaining({ code: 'ERR_CLOSED' }))
  })

  test('a constructor that is refused leaves no descriptor behind', () => {
    const before = countFds()
    const reactor = new Reactor()
    reactor.close()
    expect(() => new EventFd(reactor)).toThrow(expect.objectContaining({ code: 'ERR_CLOSED' }))
    expect(() => UnixListener.listen(reactor, socketPath())).toThrow(
      expect.objectContaining({ code: 'ERR_CLOSED' }),
    )
    expect(countFds()).toEqual(before)
  })
})
