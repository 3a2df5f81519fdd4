import { performance } from 'node:perf_hooks'
import { EventFd } from '@fd-reactor/fd-events'
import { describe, expect, test } from 'vitest'
import { runForJson } from './support/child.js'
import { assertNoLeakedFds } from './support/fds.js'
import { openReactor } from './support/reactors.js'
import { cpuMsDuring, within } from './support/wait.js'

assertNoLeakedFds()

/** How long the loop waited for the kernel while `ms` passed. */
async function idleMsDuring(ms: number): Promise<number> {
  const before = performance.eventLoopUtilization()
  await new Promise((resolve) => setTimeout(resolve, ms))
  return performance.eventLoopUtilization(before).idle
}

describe('busyPollMicros', () => {
  test('delivers as without it, and lets Node have its turns', async () => {
    const reactor = openReactor({ busyPollMicros: 1_000_000 })
    let rings = 0
    let timers = 0
    const interval = setInterval(() => timers++, 1)
    await within(
      new Promise<void>((resolve) => {
        const bell = new EventFd(reactor).on('event', () => {
          if (++rings === 1000 && timers > 0) resolve()
          else if (rings < 1_000_000) bell.write()
        })
        bell.write()
      }),
    ).finally(() => clearInterval(interval))
    expect(rings).toBeGreaterThanOrEqual(1000)
    expect(timers).toBeGreaterThan(0)
    reactor.close()
  })

  test('polls for that long after activity, then sleeps', async () => {
    const reactor = openReactor({ busyPollMicros: 100_000 })
    const bell = new EventFd(reactor)
    await within(
      new Promise<void>((resolve) => {
        bell.on('event', () => resolve())
        bell.write()
      }),
    )
    // While it polls, the loop never waits for the kernel.
    expect(await idleMsDuring(60)).toBeLessThan(30)
    await idleMsDuring(100)
    expect(await idleMsDuring(200)).toBeGreaterThan(100)
    expect(await cpuMsDuring(300)).toBeLessThan(60)
  })

  test('is off by default', async () => {
    const reactor = openReactor()
    const bell = new EventFd(reactor)
    await within(
      new Promise<void>((resolve) => {
        bell.on('event', () => resolve())
        bell.write()
      }),
    )
    expect(await idleMsDuring(100)).toBeGreaterThan(50)
  })

  test('does not keep the process alive', async () => {
    const result = await runForJson(`
      const reactor = new Reactor({ busyPollMicros: 1_000_000 })
      const bell = new EventFd(reactor, { initial: 1n })
      const start = performance.now()
      bell.on('event', () => bell.close())
      await reactor.run()
      process.on('exit', () => console.log(performance.now() - start))`)
    expect(result).toBeLessThan(500)
  })

  test('an unreferenced reactor that polls does not either', async () => {
    const result = await runForJson(`
      const reactor = new Reactor({ busyPollMicros: 1_000_000 })
      const bell = new EventFd(reactor, { initial: 1n })
      const start = performance.now()
      bell.on('event', () => bell.unref())
      process.on('exit', () => console.log(performance.now() - start))`)
    expect(result).toBeLessThan(500)
  })

  test('closing while it polls is safe', async () => {
    const result = await runForJson(`
      for (let i = 0; i < 50; i++) {
        const reactor = new Reactor({ busyPollMicros: 1_000_000 })
        let rings = 0
        const bell = new EventFd(reactor, { initial: 1n })
        bell.on('event', () => (++rings === 10 ? reactor.close() : bell.write()))
        await reactor.run()
      }
      console.log(1)`)
    expect(result).toBe(1)
  })
})
