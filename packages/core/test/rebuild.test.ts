import { closeSync } from 'node:fs'
import type { FdHandle, Reactor } from '@fd-reactor/core'
import { describe, expect, onTestFinished, test } from 'vitest'
import { assertNoLeakedFds, watchedBy } from './support/fds.js'
import { openManual, openReactor, settle, wakeups } from './support/reactors.js'
import { Counter } from './support/sources.js'
import { cpuMsDuring, within } from './support/wait.js'

assertNoLeakedFds()

const priorities = ['high', 'normal', 'low'] as const

/** Collects the reactor's warnings while a test runs. */
function warnings(): string[] {
  const codes: string[] = []
  const onWarning = (warning: Error & { code?: string }): void => void codes.push(warning.code ?? '')
  process.on('warning', onWarning)
  onTestFinished(() => {
    process.off('warning', onWarning)
  })
  return codes
}

/**
 * Leaves a registration in the set that nothing can delete: its number is closed behind our back, its description lives on in a
 * duplicate, which is always ready.
 */
function makeGhost(reactor: Reactor, priority: 'high' | 'normal' | 'low'): FdHandle {
  const counter = new Counter(reactor, undefined, { priority })
  counter.on('count', () => expect.unreachable('it is closed'))
  const duplicate = counter.handle.duplicate()
  closeSync(counter.fd)
  new Counter(reactor, duplicate.duplicate()).write(1n).close()
  counter.close()
  return duplicate
}

describe.each(wakeups)('a ghost in the set, %s wakeup', (wakeup) => {
  test.each(priorities)(
    '%s priority: the set is made anew once, with a warning, and nothing spins',
    async (priority) => {
      const codes = warnings()
      let rebuilds = 0
      const reactor = openReactor({ wakeup, ...(wakeup === 'manual' && { onRebuild: () => rebuilds++ }) })
      const others = priorities.map((each) => new Counter(reactor, undefined, { priority: each }))
      const paused = new Counter(reactor).on('count', () => undefined).pause()
      const number = reactor.fd
      let resolve: (() => void) | undefined
      let left = 0
      for (const other of others) other.on('count', () => --left === 0 && resolve?.())
      const round = async (): Promise<void> =>
        within(
          new Promise<void>((done) => {
            resolve = done
            left = others.length
            for (const other of others) other.write()
          }),
        )
      await round()
      using ghost = makeGhost(reactor, priority)
      // Busy turns may be taken before the ghost is met; all sources must go on working after it.
      for (let i = 0; i < 5; i++) await round()
      expect(reactor.stats().rebuilds).toBe(1)
      expect(codes.filter((code) => code === 'FD_REACTOR_REBUILT')).toHaveLength(1)
      expect(reactor.fd).toBe(number)
      // Only the set that the embedder watches is news to it.
      expect(rebuilds).toBe(wakeup === 'manual' && priority === 'normal' ? 1 : 0)
      const before = reactor.stats()
      if (wakeup !== 'manual') expect(await cpuMsDuring(150)).toBeLessThan(75)
      expect(reactor.stats()).toMatchObject({ batches: before.batches, rebuilds: 1 })
      expect(watchedBy(reactor.fd)).not.toContain(paused.fd)
      paused.resume()
      expect(ghost.closed).toBe(false)
    },
  )
})

describe('ghosts', () => {
  test('the rebuilt set takes part in later changes: sources can be paused, resumed, added and closed', () => {
    const reactor = openManual()
    const counts: string[] = []
    const old = new Counter(reactor).on('count', () => counts.push('old'))
    using ghost = makeGhost(reactor, 'normal')
    settle(reactor)
    expect(reactor.stats().rebuilds).toBe(1)
    old.pause().write()
    settle(reactor)
    expect(counts).toEqual([])
    old.resume()
    const fresh = new Counter(reactor).on('count', () => counts.push('fresh')).write()
    settle(reactor)
    expect(counts.sort()).toEqual(['fresh', 'old'])
    old.close()
    fresh.close()
    expect(watchedBy(reactor.fd)).toEqual([])
    expect(ghost.closed).toBe(false)
  })

  test('a source that is closed in the batch in which it was ready is no ghost', () => {
    const reactor = openManual()
    for (let round = 0; round < 20; round++) {
      const victim = new Counter(reactor).on('count', () => undefined)
      const killer = new Counter(reactor).on('count', () => {
        victim.close()
        killer.close()
      })
      killer.write()
      victim.write()
      settle(reactor)
    }
    expect(reactor.stats().rebuilds).toBe(0)
  })

  test('nor is one that is closed, paused or replaced between the chunks of the batch that reported it', () => {
    const reactor = openManual({ chunkRecords: 1, chunkMicros: 1_000_000 })
    new Counter(reactor, undefined, { priority: 'high' }).on('count', () => undefined) // so that chunks are made
    const heard: string[] = []
    const first = new Counter(reactor).on('count', () => heard.push('first'))
    const second = new Counter(reactor).on('count', () => heard.push('second'))
    const closed = new Counter(reactor).on('count', () => heard.push('closed'))
    const paused = new Counter(reactor).on('count', () => heard.push('paused'))
    const replaced = new Counter(reactor).on('count', () => heard.push('replaced'))
    first.on('count', () => {
      closed.close()
      paused.pause()
      replaced.close()
    })
    // A chunk later the slots of those that are gone are free again, and their events are still to come.
    second.on('count', () => {
      for (let i = 0; i < 2; i++) new Counter(reactor).on('count', () => heard.push('fresh'))
    })
    for (const counter of [first, second, closed, paused, replaced]) counter.write()
    settle(reactor)
    expect([heard, reactor.stats().rebuilds]).toEqual([['first', 'second'], 0])
  })
})
