import { AsyncLocalStorage } from 'node:async_hooks'
import type { HandlerErrorPolicy, Reactor, WakeupName } from '@fd-reactor/core'
import { EventFd } from '@fd-reactor/fd-events'
import { describe, expect, onTestFinished, test } from 'vitest'
import { runForJson, runScript } from './support/child.js'
import { assertNoLeakedFds } from './support/fds.js'
import { openManual, openReactor, settle, streamPair, wakeups } from './support/reactors.js'
import { Counter } from './support/sources.js'
import { turn, until, within } from './support/wait.js'

assertNoLeakedFds()

/** Five counters, of which the second and the fourth throw; who was heard. */
function someThrow(onHandlerError?: HandlerErrorPolicy): {
  reactor: Reactor
  counters: Counter[]
  heard: number[]
} {
  const reactor = openManual(onHandlerError === undefined ? {} : { onHandlerError })
  const heard: number[] = []
  const counters = Array.from({ length: 5 }, (_, index) =>
    new Counter(reactor, undefined, { label: `Counter${index}` })
      .on('count', () => {
        heard.push(index)
        if (index % 2 === 1) throw new Error(`from ${index}`)
      })
      .write(),
  )
  return { reactor, counters, heard }
}

test('listeners come and go between events, with the source as `this`, whether there is one or several', () => {
  const reactor = openManual()
  const counter = new Counter(reactor)
  const heard: string[] = []
  const next = (): string => {
    heard.length = 0
    counter.write()
    reactor.dispatch()
    return heard.join(' ')
  }
  const first = function (this: unknown): void {
    heard.push(this === counter ? 'first' : 'a stranger')
  }
  const second = (): void => {
    heard.push('second')
    counter.off('count', second)
  }
  counter.on('count', first)
  expect(next()).toBe('first')
  counter.on('count', second)
  expect([next(), next()]).toEqual(['first second', 'first'])
  counter.off('count', first).on('count', second)
  expect(next()).toBe('second')
  counter.once('count', () => heard.push('once')).on('count', first)
  expect([next(), next()]).toEqual(['once first', 'first'])
  reactor.close()
})

describe('a handler that throws costs nobody else an event', () => {
  test("'throw': the rest of the batch comes first, then each error is an uncaught exception that names its source", async () => {
    const result = await runForJson(`
      const heard = []
      const errors = []
      process.on('uncaughtException', (error) => errors.push([error.message, error.source, heard.length]))
      const reactor = new Reactor()
      for (let i = 0; i < 5; i++) {
        const bell = new EventFd(reactor, { initial: 1n, label: 'Bell' + i })
        bell.on('event', () => {
          heard.push(i)
          bell.close()
          if (i % 2 === 1) throw new Error('from ' + i)
        })
      }
      const code = await reactor.run()
      console.log(JSON.stringify({ heard, errors: errors.map(([m, s, n]) => [m, s.split(' ')[0], n]), code }))`)
    expect(result).toEqual({
      heard: [0, 1, 2, 3, 4],
      errors: [
        ['from 1', 'Bell1', 5],
        ['from 3', 'Bell3', 5],
      ],
      code: 0,
    })
  })

  test("'throw' without a handler of uncaught exceptions ends the process, as in Node", async () => {
    const { code, stderr } = await runScript(`
      const reactor = new Reactor()
      new EventFd(reactor, { initial: 1n }).on('event', () => { throw new Error('nobody catches this') })
      await reactor.run()`)
    expect(code).toBe(1)
    expect(stderr).toContain('nobody catches this')
    expect(stderr).toMatch(/source: 'EventFd \d+'/)
  })

  test("'close' closes the source that failed, with a warning", async () => {
    const warned = new Promise<Error>((resolve) => process.once('warning', resolve))
    const { reactor, counters, heard } = someThrow('close')
    reactor.dispatch()
    expect(heard).toEqual([0, 1, 2, 3, 4])
    expect(counters.map(({ closed }) => closed)).toEqual([false, true, false, true, false])
    await expect(within(warned)).resolves.toMatchObject({ code: 'FD_REACTOR_HANDLER_ERROR' })
    expect((await warned).message).toContain('Counter1')
  })

  test('a function is called with the error and the source, in place', () => {
    const calls: unknown[] = []
    const { reactor, counters, heard } = someThrow((error, source) => calls.push(error, source, heard.length))
    reactor.dispatch()
    expect(calls).toEqual([new Error('from 1'), counters[1], 2, new Error('from 3'), counters[3], 4])
    expect(heard).toHaveLength(5)
  })

  test('a policy that throws is an uncaught exception; the batch goes on', async () => {
    const result = await runForJson(`
      const heard = []
      let caught
      process.on('uncaughtException', (error) => { caught = error.message })
      const reactor = new Reactor({ onHandlerError: () => { throw new Error('from the policy') } })
      for (let i = 0; i < 3; i++) {
        const bell = new EventFd(reactor, { initial: 1n })
        bell.on('event', () => { heard.push(i); bell.close(); throw new Error('from a handler') })
      }
      await reactor.run()
      console.log(JSON.stringify([heard, caught]))`)
    expect(result).toEqual([[0, 1, 2], 'from the policy'])
  })

  test("a 'close' handler that throws while its source is closed costs nobody anything", () => {
    const errors: unknown[] = []
    const reactor = openManual({ onHandlerError: (error) => errors.push(error) })
    const first = new Counter(reactor).on('close', () => {
      throw new Error('from close')
    })
    const second = new Counter(reactor)
    let heard = 0
    first.on('count', () => first.close()).write()
    second.on('count', () => heard++).write()
    settle(reactor)
    expect([errors, heard, first.closed]).toEqual([[new Error('from close')], 1, true])
  })

  test("an 'error' event that nobody listens to is thrown", () => {
    const reactor = openManual()
    const counter = new Counter(reactor)
    expect(() => counter.emit('error', new Error('unheard'))).toThrow('unheard')
    let told: Error | undefined
    counter.on('error', (error) => (told = error))
    expect(counter.emit('error', new Error('heard'))).toBe(true)
    expect(told?.message).toBe('heard')
  })

  test("a broken connection without an 'error' listener goes the way of errors in handlers, and the stream is closed", async () => {
    const errors: unknown[] = []
    const reactor = openManual({ onHandlerError: (error) => errors.push(error) })
    const [server, client] = await streamPair(reactor)
    server.on('data', () => undefined)
    server.write('never read')
    client.close() // with bytes unread: the peer is reset
    settle(reactor)
    expect(errors).toMatchObject([{ code: 'ECONNRESET', syscall: 'recv' }])
    expect(server.closed).toBe(true)
  })
})

describe('ticks', () => {
  const order = async (wakeup: WakeupName): Promise<string[]> => {
    const reactor = openReactor({ wakeup, chunkRecords: 2, chunkMicros: 1_000_000 })
    new EventFd(reactor, { priority: 'high' }).on('event', () => undefined) // so that chunks are made
    const seen: string[] = []
    const bells = [0, 1, 2].map((index) =>
      new EventFd(reactor).on('event', () => {
        seen.push(`handler${index}`)
        process.nextTick(() => seen.push(`tick${index}`))
        void Promise.resolve().then(() => seen.push(`micro${index}`))
      }),
    )
    for (const bell of bells) bell.write()
    await until(() => seen.length === 9)
    return seen
  }

  test('nextTick callbacks and microtasks run after each chunk', async () => {
    const chunks = [
      'handler0',
      'handler1',
      'tick0',
      'tick1',
      'micro0',
      'micro1',
      'handler2',
      'tick2',
      'micro2',
    ]
    await expect(order('uv')).resolves.toEqual(chunks)
  })

  test.each(wakeups.filter((wakeup) => wakeup !== 'uv'))(
    'where Node calls the outer loop, after the turn (%s)',
    async (wakeup) => {
      const turns = [
        'handler0',
        'handler1',
        'handler2',
        'tick0',
        'tick1',
        'tick2',
        'micro0',
        'micro1',
        'micro2',
      ]
      await expect(order(wakeup)).resolves.toEqual(turns)
    },
  )

  test.each(wakeups)('a tick or a microtask that throws does not stop the delivery (%s)', async (wakeup) => {
    const result = await runForJson(`
      const errors = []
      process.on('uncaughtException', (error) => errors.push(error.message))
      // All are drained at once, and delivered one by one.
      const reactor = new Reactor({ wakeup: '${wakeup}', chunkMicros: 1 })
      new EventFd(reactor, { priority: 'high', ref: false }).on('event', () => {})
      const heard = []
      for (let i = 0; i < 6; i++) {
        const bell = new EventFd(reactor, { initial: 1n })
        bell.on('event', () => {
          heard.push(i)
          bell.close()
          for (const end = performance.now() + 0.1; performance.now() < end; );
          if (i === 1) process.nextTick(() => { throw new Error('tick') })
          if (i === 3) queueMicrotask(() => { throw new Error('microtask') })
        })
      }
      if (${wakeup === 'manual'}) setImmediate(function loop() { if (!reactor.closed) { reactor.dispatch(); setImmediate(loop) } })
      await reactor.run()
      console.log(JSON.stringify([heard, errors]))`)
    expect(result).toEqual([
      [0, 1, 2, 3, 4, 5],
      ['tick', 'microtask'],
    ])
  })

  test.each(wakeups.filter((wakeup) => wakeup !== 'manual'))(
    'handlers see the AsyncLocalStorage store of the creation of the reactor (%s)',
    async (wakeup) => {
      const storage = new AsyncLocalStorage<string>()
      const reactor = storage.run('creation', () => openReactor({ wakeup }))
      const seen: (string | undefined)[] = []
      await storage.run('listening', () =>
        within(
          new Promise<void>((resolve) => {
            const bell = new EventFd(reactor).on('event', () => {
              seen.push(storage.getStore())
              process.nextTick(() => {
                seen.push(storage.getStore())
                resolve()
              })
            })
            storage.run('writing', () => bell.write())
          }),
        ),
      )
      expect(seen).toEqual(['creation', 'creation'])
    },
  )

  test('a manual reactor too', () => {
    const storage = new AsyncLocalStorage<string>()
    const reactor = storage.run('creation', () => openManual())
    let seen: string | undefined
    new EventFd(reactor, { initial: 1n }).on('event', () => (seen = storage.getStore()))
    storage.run('dispatching', () => reactor.dispatch())
    expect(seen).toBe('creation')
  })
})

describe('dispatch() and defer()', () => {
  test('dispatch() inside a handler throws ERR_REENTRANT', () => {
    const errors: unknown[] = []
    const reactor = openManual({ onHandlerError: (error) => errors.push(error) })
    new EventFd(reactor, { initial: 1n }).on('event', () => reactor.dispatch())
    reactor.dispatch()
    expect(errors).toMatchObject([{ code: 'ERR_REENTRANT', name: 'ReactorError' }])
  })

  test('what is deferred in a handler runs after the chunk, in order, once', () => {
    const reactor = openManual()
    const order: string[] = []
    for (let i = 0; i < 3; i++) {
      new EventFd(reactor, { initial: 1n }).on('event', () => {
        order.push(`handler${i}`)
        reactor.defer(() => order.push(`deferred${i}`))
      })
    }
    reactor.dispatch()
    expect(order).toEqual(['handler0', 'handler1', 'handler2', 'deferred0', 'deferred1', 'deferred2'])
    reactor.dispatch()
    expect(order).toHaveLength(6)
  })

  test.each(wakeups)('what is deferred outside runs in the next turn, never at once (%s)', async (wakeup) => {
    const reactor = openReactor({ wakeup })
    let ran = false
    const deferred = new Promise<void>((resolve) => {
      reactor.defer(() => {
        ran = true
        resolve()
      })
    })
    expect(ran).toBe(false)
    await within(deferred)
  })

  test('a chain of deferred callbacks lets others have their turn', async () => {
    const reactor = openReactor()
    let chain = 0
    const next = (): void => {
      chain++
      reactor.defer(next)
    }
    reactor.defer(next)
    let turns = 0
    for (; chain < 10; turns++) await turn()
    expect(turns).toBeGreaterThanOrEqual(8)
  })

  test('a deferred callback that throws costs the others nothing', () => {
    const errors: unknown[] = []
    const reactor = openManual({ onHandlerError: (error, source) => errors.push(error, source) })
    let ran = 0
    reactor.defer(() => ran++)
    reactor.defer(() => {
      throw new Error('deferred')
    })
    reactor.defer(() => ran++)
    settle(reactor)
    expect(ran).toBe(2)
    expect(errors).toEqual([new Error('deferred'), undefined])
  })

  test('what is written in a deferred callback leaves when it returns', async () => {
    const reactor = openManual()
    const [server, client] = await streamPair(reactor)
    reactor.defer(() => client.write('deferred'))
    let data = ''
    server.on('data', (bytes) => (data += String(bytes)))
    settle(reactor)
    settle(reactor)
    expect(data).toBe('deferred')
  })

  test('close() drops what is deferred, and defer() then throws', () => {
    const reactor = openManual()
    reactor.defer(() => expect.unreachable('the reactor is closed'))
    reactor.close()
    expect(() => reactor.defer(() => undefined)).toThrow(expect.objectContaining({ code: 'ERR_CLOSED' }))
    onTestFinished(async () => turn())
  })
})
