import { FdWatcher } from '@fd-reactor/core'
import { EventFd } from '@fd-reactor/fd-events'
import { describe, expect, test } from 'vitest'
import { assertNoLeakedFds } from './support/fds.js'
import { openManual, openReactor, settle } from './support/reactors.js'
import { Counter } from './support/sources.js'
import { within } from './support/wait.js'

assertNoLeakedFds()

const busyFor = (ms: number): void => {
  for (const end = performance.now() + ms; performance.now() < end;);
}

describe('order', () => {
  test('high comes before normal, and normal before low, however they became ready', () => {
    const reactor = openManual()
    const order: string[] = []
    for (const priority of ['low', 'normal', 'high', 'normal', 'low', 'high'] as const) {
      new EventFd(reactor, { priority, initial: 1n }).on('event', () => order.push(priority))
    }
    settle(reactor)
    expect(order).toEqual(['high', 'high', 'normal', 'normal', 'low', 'low'])
  })
})

describe('high waits for at most one chunk', () => {
  test('of chunkRecords records', () => {
    const reactor = openManual({ chunkRecords: 5, chunkMicros: 1_000_000 })
    const order: string[] = []
    const urgent = new EventFd(reactor, { priority: 'high' }).on('event', () => order.push('high'))
    for (let i = 0; i < 23; i++) {
      new EventFd(reactor, { initial: 1n }).on('event', () => {
        if (order.push('normal') === 2) urgent.write()
      })
    }
    reactor.dispatch()
    expect(order.indexOf('high')).toBe(5)
    expect(order).toHaveLength(24)
  })

  test('of chunkMicros microseconds', () => {
    const reactor = openManual({ chunkRecords: 4096, chunkMicros: 2000 })
    const order: string[] = []
    const urgent = new EventFd(reactor, { priority: 'high' }).on('event', () => order.push('high'))
    for (let i = 0; i < 40; i++) {
      new EventFd(reactor, { initial: 1n }).on('event', () => {
        if (order.push('normal') === 1) urgent.write()
        busyFor(0.5)
      })
    }
    reactor.dispatch()
    expect(order.indexOf('high')).toBeGreaterThan(0)
    expect(order.indexOf('high')).toBeLessThanOrEqual(6)
    expect(order).toHaveLength(41)
  })

  test('also when the flood of normal events never ends', () => {
    const reactor = openManual({ chunkRecords: 8 })
    let others = 0
    let writtenAt = 0
    const waits: number[] = []
    const urgent = new EventFd(reactor, { priority: 'high' }).on('event', () =>
      waits.push(others - writtenAt),
    )
    for (let i = 0; i < 300; i++) {
      // Level-triggered and never read: ready for ever.
      new FdWatcher(reactor, new Counter(reactor).write().fd).on('ready', () => {
        if (++others % 37 !== 0) return
        writtenAt = others
        urgent.write()
      })
    }
    for (let i = 0; i < 20; i++) reactor.dispatch()
    expect(others).toBeGreaterThan(5000)
    expect(waits.length).toBeGreaterThan(100)
    expect(Math.max(...waits)).toBeLessThanOrEqual(8)
  })

  test('a batch of low events is chunked the same way', () => {
    const reactor = openManual({ chunkRecords: 4, chunkMicros: 1_000_000 })
    const order: string[] = []
    const urgent = new EventFd(reactor, { priority: 'high' }).on('event', () => order.push('high'))
    for (let i = 0; i < 20; i++) {
      new EventFd(reactor, { priority: 'low', initial: 1n }).on('event', () => {
        if (order.push('low') === 1) urgent.write()
      })
    }
    settle(reactor)
    expect(order.indexOf('high')).toBeLessThanOrEqual(4)
    expect(order).toHaveLength(21)
  })

  test('without a high source a batch is one chunk', () => {
    const reactor = openManual({ chunkRecords: 1 })
    for (let i = 0; i < 30; i++) new EventFd(reactor, { initial: 1n }).on('event', () => undefined)
    reactor.dispatch()
    expect(reactor.stats().batches).toBe(1)
  })

  test('the first high source may come in the middle of a batch', () => {
    const reactor = openManual({ chunkRecords: 2, chunkMicros: 1 })
    const order: string[] = []
    for (let i = 0; i < 10; i++) {
      new EventFd(reactor, { initial: 1n }).on('event', () => {
        if (order.push('normal') > 1) return
        new EventFd(reactor, { priority: 'high', initial: 1n }).on('event', () => order.push('high'))
        busyFor(0.1)
      })
    }
    settle(reactor)
    expect(order).toHaveLength(11)
    expect(order).toContain('high')
  })
})

describe('nobody starves', () => {
  test.each(['uv', 'manual'] as const)(
    'low gets its turn while high and normal never stop (%s)',
    async (wakeup) => {
      const reactor = openReactor({ wakeup })
      for (const priority of ['high', 'normal'] as const) {
        for (let i = 0; i < 20; i++) {
          new FdWatcher(reactor, new Counter(reactor).write().fd, { priority }).on('ready', () => undefined)
        }
      }
      let heard = 0
      await within(
        new Promise<void>((resolve) => {
          const low = new EventFd(reactor, { priority: 'low' }).on('event', () => {
            if (++heard === 20) resolve()
            else low.write()
          })
          low.write()
        }),
      )
      expect(heard).toBe(20)
      reactor.close()
    },
  )

  test("Node's own timers run while a flood never stops", async () => {
    const reactor = openReactor()
    for (let i = 0; i < 20; i++) {
      new FdWatcher(reactor, new Counter(reactor).write().fd, { priority: 'high' }).on(
        'ready',
        () => undefined,
      )
    }
    await within(new Promise<void>((resolve) => setTimeout(resolve, 20)))
    reactor.close()
  })
})
