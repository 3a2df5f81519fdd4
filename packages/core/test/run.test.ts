import { once, Reactor } from '@fd-reactor/core'
import { EventFd } from '@fd-reactor/fd-events'
import { describe, expect, test } from 'vitest'
import { runForJson, runScript } from './support/child.js'
import { assertNoLeakedFds } from './support/fds.js'
import { openReactor, wakeups } from './support/reactors.js'
import { turn, within } from './support/wait.js'

assertNoLeakedFds()

describe.each(wakeups)('run(), %s wakeup', (wakeup) => {
  test('settles with the code of stop(), closes the reactor and its sources', async () => {
    const reactor = openReactor({ wakeup })
    const bell = new EventFd(reactor, { initial: 1n }).on('event', () => {
      reactor.stop(7)
      expect(bell.closed).toBe(false) // the rest of the chunk is delivered first
    })
    await expect(within(reactor.run())).resolves.toBe(7)
    expect([reactor.closed, bell.closed]).toEqual([true, true])
  })

  test('stop() outside a handler, and without a code', async () => {
    const reactor = openReactor({ wakeup })
    new EventFd(reactor)
    const running = reactor.run()
    reactor.stop()
    await expect(within(running)).resolves.toBe(0)
  })

  test('settles with 0 on close()', async () => {
    const reactor = openReactor({ wakeup })
    new EventFd(reactor)
    const running = reactor.run()
    reactor.close()
    await expect(within(running)).resolves.toBe(0)
  })

  test('settles with 0 when no source is left, or only unreferenced ones', async () => {
    const reactor = openReactor({ wakeup })
    await expect(within(reactor.run({ keepOpen: true }))).resolves.toBe(0)
    const bell = new EventFd(reactor)
    const unreferenced = new EventFd(reactor, { ref: false })
    const running = reactor.run({ keepOpen: true })
    let settled = false
    void running.then(() => (settled = true))
    for (let i = 0; i < 10; i++) await turn()
    expect(settled).toBe(false)
    bell.unref()
    await expect(within(running)).resolves.toBe(0)
    expect([reactor.closed, bell.closed, unreferenced.closed]).toEqual([false, false, false])
    bell.ref()
    const again = reactor.run()
    bell.close()
    await expect(within(again)).resolves.toBe(0)
    expect([reactor.closed, unreferenced.closed]).toEqual([true, true])
  })

  test('unref() of the reactor settles it, ref() takes that back', async () => {
    const reactor = openReactor({ wakeup })
    new EventFd(reactor)
    const running = reactor.unref().run({ keepOpen: true })
    await expect(within(running)).resolves.toBe(0)
    let settled = false
    const again = reactor.ref().run({ keepOpen: true })
    void again.then(() => (settled = true))
    for (let i = 0; i < 10; i++) await turn()
    expect(settled).toBe(false)
    reactor.stop(3)
    await expect(within(again)).resolves.toBe(3)
  })

  test('a handler may replace the last source', async () => {
    const reactor = openReactor({ wakeup })
    let second: EventFd | undefined
    const first = new EventFd(reactor, { initial: 1n }).on('event', () => {
      first.close()
      second = new EventFd(reactor, { initial: 1n }).on('event', () => reactor.stop(9))
    })
    await expect(within(reactor.run())).resolves.toBe(9)
    expect(second?.closed).toBe(true)
  })

  test('deferred work keeps it going', async () => {
    const reactor = openReactor({ wakeup })
    let ran = false
    reactor.defer(() => reactor.defer(() => (ran = true)))
    await expect(within(reactor.run())).resolves.toBe(0)
    expect(ran).toBe(true)
  })
})

describe('run()', () => {
  test('a stop() before it settles it as it begins, once', async () => {
    const reactor = openReactor()
    new EventFd(reactor)
    reactor.stop(5)
    await expect(within(reactor.run({ keepOpen: true }))).resolves.toBe(5)
    const again = reactor.run({ keepOpen: true })
    reactor.stop(6)
    await expect(within(again)).resolves.toBe(6)
  })

  test('the first stop() counts', async () => {
    const reactor = openReactor()
    new EventFd(reactor, { initial: 1n }).on('event', () => {
      reactor.stop(1)
      reactor.stop(2)
    })
    await expect(within(reactor.run())).resolves.toBe(1)
  })

  test('twice at a time is ERR_RUNNING, after close() ERR_CLOSED, and an unknown option a TypeError', async () => {
    const reactor = openReactor()
    new EventFd(reactor)
    const running = reactor.run()
    await expect(reactor.run()).rejects.toMatchObject({ code: 'ERR_RUNNING' })
    reactor.close()
    await running
    await expect(reactor.run()).rejects.toMatchObject({ code: 'ERR_CLOSED' })
    // @ts-expect-error the option is misspelt
    await expect(openReactor().run({ keepopen: true })).rejects.toThrow("did you mean 'keepOpen'?")
  })

  test('keepOpen leaves everything open', async () => {
    const reactor = openReactor()
    const bell = new EventFd(reactor, { initial: 1n })
    let events = 0
    bell.on('event', () => {
      events++
      reactor.stop(0)
    })
    await within(reactor.run({ keepOpen: true }))
    bell.write()
    await within(reactor.run({ keepOpen: true }))
    expect([events, bell.closed, reactor.closed]).toEqual([2, false, false])
  })
})

describe.each(['uv', 'epoll'] as const)('the process, %s wakeup', (wakeup) => {
  const REACTOR = `const reactor = new Reactor({ wakeup: '${wakeup}' })\n`

  test('a pending top-level await of run() never ends with 13', async () => {
    const scripts = [
      'const bell = new EventFd(reactor, { initial: 1n }); bell.on("event", () => bell.close())',
      'const bell = new EventFd(reactor, { initial: 1n }); bell.on("event", () => bell.unref())',
      'new EventFd(reactor, { ref: false })',
      'const bell = new EventFd(reactor); setTimeout(() => bell.close(), 20)',
      'const bell = new EventFd(reactor); setTimeout(() => reactor.unref(), 20)',
      '',
    ]
    for (const script of scripts) {
      const { code, stdout } = await runScript(
        `${REACTOR}${script}\nconsole.log('code', await reactor.run())`,
      )
      expect({ script, code, stdout }).toEqual({ script, code: 0, stdout: 'code 0\n' })
    }
  })

  test('a referenced source keeps it alive, without run() too; an unreferenced one does not', async () => {
    await expect(
      runForJson(`${REACTOR}
        const bell = new EventFd(reactor)
        bell.on('event', (count) => { console.log(String(count)); bell.close() })
        setTimeout(() => EventFd.write(bell.fd, 42n), 50).unref()`),
    ).resolves.toBe(42)
    const unreferenced = await runScript(`${REACTOR}new EventFd(reactor).on('event', () => {}).unref()`)
    expect(unreferenced).toMatchObject({ code: 0, signal: null })
    const unused = await runScript(REACTOR)
    expect(unused).toMatchObject({ code: 0, signal: null })
  })

  test('unref and ref any number of times', async () => {
    const result = await runForJson(`${REACTOR}
      const bell = new EventFd(reactor)
      bell.on('event', (count) => { console.log(String(count)); bell.close() })
      for (let i = 0; i < 100; i++) bell.unref().unref().ref().ref()
      setTimeout(() => bell.write(1n), 20).unref()`)
    expect(result).toBe(1)
  })

  test('process.exit() in a handler is quiet', async () => {
    const { code, stderr } = await runScript(`${REACTOR}
      for (let i = 0; i < 10; i++) new EventFd(reactor, { initial: 1n }).on('event', () => process.exit(4))
      await reactor.run()`)
    expect({ code, stderr }).toEqual({ code: 4, stderr: '' })
  })

  test('closing the reactor in a handler, in its own callback chain, is quiet', async () => {
    const { code, stderr } = await runScript(
      `${REACTOR}
      for (let i = 0; i < 10; i++) new EventFd(reactor, { initial: 1n }).on('event', () => reactor.close())
      await reactor.run()
      for (let i = 0; i < 5; i++) { gc(); await turn() }`,
      { execArgv: ['--expose-gc'] },
    )
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
  })
})

test('an abort signal closes a source, and one that is aborted already is thrown', async () => {
  const reactor = openReactor()
  const abort = new AbortController()
  const bell = new EventFd(reactor, { signal: abort.signal })
  const closed = once(bell, 'close')
  abort.abort()
  await within(closed)
  expect(() => new EventFd(reactor, { signal: abort.signal })).toThrow(
    expect.objectContaining({ name: 'AbortError' }),
  )
})

test('using closes a reactor and what lives in it', () => {
  let bell: EventFd
  {
    using reactor = new Reactor()
    bell = new EventFd(reactor)
    expect(bell.closed).toBe(false)
  }
  expect(bell.closed).toBe(true)
})
