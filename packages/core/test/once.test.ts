import { once } from '@fd-reactor/core'
import { EventFd } from '@fd-reactor/fd-events'
import { describe, expect, test } from 'vitest'
import { assertNoLeakedFds } from './support/fds.js'
import { openManual, openReactor, settle, streamPair, wakeups } from './support/reactors.js'
import { turn, within } from './support/wait.js'

assertNoLeakedFds()

describe('once()', () => {
  test.each(wakeups)('gives the next event and listens no longer (%s)', async (wakeup) => {
    const bell = new EventFd(openReactor({ wakeup }), { initial: 3n })
    await expect(within(once(bell, 'event'))).resolves.toEqual([3n])
    expect(bell.stats.interest).toBe(0)
    expect(bell.listenerCount('event') + bell.listenerCount('error') + bell.listenerCount('close')).toBe(0)
  })

  test('rejects with an error, and when the source closes first', async () => {
    const bell = new EventFd(openManual())
    const failing = once(bell, 'event')
    bell.emit('error', new Error('broken'))
    await expect(failing).rejects.toThrow('broken')
    const closing = once(bell, 'event')
    bell.close()
    await expect(closing).rejects.toMatchObject({ code: 'ERR_CLOSED' })
    await expect(once(bell, 'event')).rejects.toMatchObject({ code: 'ERR_CLOSED' })
  })

  test("'close' and 'error' can be waited for themselves", async () => {
    const bell = new EventFd(openManual())
    const error = once(bell, 'error')
    bell.emit('error', new Error('broken'))
    await expect(error).resolves.toEqual([new Error('broken')])
    const close = once(bell, 'close')
    bell.close()
    await expect(close).resolves.toEqual([])
  })

  test('rejects with the reason of its signal, and leaves nothing behind', async () => {
    const bell = new EventFd(openManual())
    const abort = new AbortController()
    const waiting = once(bell, 'event', { signal: abort.signal })
    abort.abort(new Error('enough'))
    await expect(waiting).rejects.toThrow('enough')
    expect([bell.listenerCount('event'), bell.stats.interest]).toEqual([0, 0])
    await expect(once(bell, 'event', { signal: abort.signal })).rejects.toThrow('enough')
    await expect(once(bell, 'event', { signal: AbortSignal.timeout(5) })).rejects.toMatchObject({
      name: 'TimeoutError',
    })
  })
})

describe('events()', () => {
  test('buffers up to its limit, then pauses its source, and loses nothing', async () => {
    const reactor = openManual()
    const bell = new EventFd(reactor, { semaphore: true, initial: 10n })
    const iterator = bell.events('event', { limit: 3 })
    const first = iterator.next()
    for (let i = 0; i < 20; i++) reactor.dispatch()
    await expect(first).resolves.toEqual({ value: [1n], done: false })
    expect(bell.stats).toMatchObject({ interest: 0, events: 3 })
    const values = [1n]
    while (values.length < 10) {
      const next = iterator.next()
      for (let i = 0; i < 5; i++) reactor.dispatch()
      values.push(...((await within(next)).value ?? []))
    }
    expect(values).toEqual(Array.from({ length: 10 }, () => 1n))
    await iterator.return(undefined)
    expect([bell.listenerCount('event'), bell.stats.interest]).toEqual([0, 0])
  })

  test('for await ends when the source closes, after what was buffered', async () => {
    const reactor = openReactor()
    const bell = new EventFd(reactor, { semaphore: true, initial: 4n })
    const counts: bigint[] = []
    for await (const count of bell) {
      counts.push(count)
      if (counts.length === 2) {
        while (bell.stats.events < 4) await turn()
        bell.close()
      }
    }
    expect(counts).toEqual([1n, 1n, 1n, 1n])
  })

  test('leaving the loop stops listening, and what comes later waits in the kernel', async () => {
    const bell = new EventFd(openReactor(), { initial: 1n })
    for await (const count of bell) {
      expect(count).toBe(1n)
      break
    }
    expect(bell.stats.interest).toBe(0)
    bell.write(5n)
    await turn()
    for await (const count of bell) {
      expect(count).toBe(5n)
      break
    }
  })

  test('throws what the source reports as an error', async () => {
    const bell = new EventFd(openReactor())
    const next = bell.events('event').next()
    bell.emit('error', new Error('broken'))
    await expect(next).rejects.toThrow('broken')
    expect(bell.listenerCount('error')).toBe(0)
  })

  test('of a stream it ends with the peer', async () => {
    const reactor = openManual()
    const [server, client] = await streamPair(reactor)
    client.end('all of it')
    const read = (async () => {
      let text = ''
      for await (const bytes of server) text += String(bytes)
      return text
    })()
    await turn()
    settle(reactor)
    await expect(within(read)).resolves.toBe('all of it')
    reactor.close()
  })

  test('a slow reader holds the peer back instead of filling memory', async () => {
    const reactor = openManual()
    const [server, client] = await streamPair(reactor)
    const total = 8 << 20
    client.end(Buffer.alloc(total))
    const iterator = server.events('data', { limit: 2 })
    let next = iterator.next()
    for (let i = 0; i < 100; i++) reactor.dispatch()
    await turn()
    expect(server.bytesRead).toBeLessThanOrEqual(3 * 64 * 1024)
    expect(client.writableLength).toBeGreaterThan(4 << 20)
    let read = 0
    for (;;) {
      for (let i = 0; i < 4; i++) reactor.dispatch()
      const { value, done } = await within(next)
      if (done === true) break
      read += value[0].length
      next = iterator.next()
    }
    expect(read).toBe(total)
    reactor.close()
  })

  test.each([0, -1, 1.5, Number.NaN])('a limit of %s is refused', async (limit) => {
    const bell = new EventFd(openManual())
    await expect(bell.events('event', { limit }).next()).rejects.toThrow(RangeError)
  })
})
