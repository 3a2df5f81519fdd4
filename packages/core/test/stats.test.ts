import { Reactor, type ReactorOptions } from '@fd-reactor/core'
import { EventFd } from '@fd-reactor/fd-events'
import { describe, expect, test } from 'vitest'
import { assertNoLeakedFds } from './support/fds.js'
import { openManual } from './support/reactors.js'

assertNoLeakedFds()

describe('statistics', () => {
  test('count batches, events and each source', () => {
    const reactor = openManual()
    const bell = new EventFd(reactor, { label: 'Bell', priority: 'low', ref: false })
    expect(reactor.sources()).toEqual([
      { label: `Bell ${bell.fd}`, fd: bell.fd, priority: 'low', interest: 0, ref: false, events: 0 },
    ])
    bell.on('event', () => undefined).ref()
    for (let i = 0; i < 3; i++) {
      bell.write()
      reactor.dispatch()
    }
    expect(bell.stats).toEqual({
      label: `Bell ${bell.fd}`,
      fd: bell.fd,
      priority: 'low',
      interest: 1,
      ref: true,
      events: 3,
    })
    expect(reactor.stats()).toEqual({ batches: 3, events: 3, rebuilds: 0, sources: [bell.stats] })
    bell.close()
    expect(reactor.sources()).toEqual([])
    expect(reactor.stats().events).toBe(3)
  })

  test('measure: true keeps histograms of the handlers and of the way to them', () => {
    const reactor = openManual({ measure: true })
    for (let i = 0; i < 4; i++) {
      new EventFd(reactor, { initial: 1n }).on('event', () => {
        for (const end = performance.now() + 2; performance.now() < end;);
      })
    }
    reactor.dispatch()
    const { handlerTimeNs, deliveryDelayNs } = reactor.stats()
    expect(handlerTimeNs?.count).toBe(4)
    expect(handlerTimeNs?.min).toBeGreaterThanOrEqual(1.9e6)
    expect(deliveryDelayNs?.count).toBe(4)
    // The last one waited for the handlers of three others.
    expect(deliveryDelayNs?.max).toBeGreaterThanOrEqual(5.7e6)
    expect(deliveryDelayNs?.min).toBeLessThan(2e6)
  })

  test('without it nothing is measured', () => {
    const reactor = openManual()
    new EventFd(reactor, { initial: 1n }).on('event', () => undefined)
    reactor.dispatch()
    expect(Object.keys(reactor.stats())).toEqual(['batches', 'events', 'rebuilds', 'sources'])
  })

  test('ids are unique and names are kept', () => {
    const [one, two] = [openManual({ name: 'one' }), openManual()]
    expect([one.name, two.name]).toEqual(['one', 'reactor'])
    expect(one.id).not.toBe(two.id)
  })
})

describe('options are refused, never ignored', () => {
  const refused: [options: object, name: string, message: string][] = [
    [
      { busyPolMicros: 1 },
      'TypeError',
      "Reactor has no option 'busyPolMicros'; did you mean 'busyPollMicros'?",
    ],
    [{ toString: 1 }, 'TypeError', "Reactor has no option 'toString'"],
    [{ wakeup: 'libuv' }, 'TypeError', 'Reactor option \'wakeup\' must be "uv" or "epoll" or "manual"'],
    [
      { maxEventsPerBatch: 0 },
      'RangeError',
      "Reactor option 'maxEventsPerBatch' must be an integer from 1 to 4096, not 0",
    ],
    [{ maxEventsPerBatch: 1.5 }, 'RangeError', 'not 1.5'],
    [{ chunkRecords: Number.NaN }, 'RangeError', 'not NaN'],
    [{ chunkMicros: '500' }, 'TypeError', "Reactor option 'chunkMicros' must be a number"],
    [{ measure: 1 }, 'TypeError', "Reactor option 'measure' must be a boolean"],
    [{ onHandlerError: 'ignore' }, 'TypeError', '"throw" or "close"'],
    [{ name: null }, 'TypeError', 'not null'],
  ]
  test.each(refused)('%j', (options, name, message) => {
    const error: unknown = (() => {
      try {
        return new Reactor(options)
      } catch (thrown) {
        return thrown
      }
    })()
    expect(error).toMatchObject({ name, message: expect.stringContaining(message) as string })
  })

  test('no options object', () => {
    expect(() => new Reactor(null as unknown as ReactorOptions)).toThrow(TypeError)
    expect(() => new Reactor('uv' as unknown as ReactorOptions)).toThrow(TypeError)
  })

  test('of sources too, and nothing leaks', () => {
    const reactor = openManual()
    // @ts-expect-error the option is misspelt
    expect(() => new EventFd(reactor, { prioritty: 'high' })).toThrow("did you mean 'priority'?")
    expect(() => new EventFd(reactor, { priority: 'urgent' as 'high' })).toThrow(TypeError)
    expect(reactor.sources()).toEqual([])
  })

  test('undefined stands for an option that was not given', () => {
    new Reactor({ name: undefined, wakeup: undefined } as object).close()
  })
})
