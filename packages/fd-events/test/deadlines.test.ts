import { expect, test } from 'vitest'
import { runScript } from '../../core/test/support/child.js'
import { assertNoLeakedFds, countFds } from '../../core/test/support/fds.js'
import { openManual, openReactor } from '../../core/test/support/reactors.js'
import { until } from '../../core/test/support/wait.js'
import { deadline } from '../src/deadlines.js'

assertNoLeakedFds()

const MS = 1e6

test('are called once, in the order of their times, none too early', async () => {
  const reactor = openReactor()
  const start = performance.now()
  const called: number[] = []
  const early: number[] = []
  for (const ms of [30, 5, 20, 5, 10, 1]) {
    deadline(reactor, ms * MS, () => {
      called.push(ms)
      if (performance.now() - start < ms) early.push(ms)
    })
  }
  await until(() => called.length === 6)
  expect(called).toEqual([1, 5, 5, 10, 20, 30])
  expect(early).toEqual([])
})

test('one that is earlier than what is armed is not late', async () => {
  const reactor = openReactor()
  const called: string[] = []
  deadline(reactor, 60_000 * MS, () => called.push('late'))
  deadline(reactor, 1 * MS, () => called.push('early'))
  await until(() => called.length > 0, 'the early one', 1000)
  expect(called).toEqual(['early'])
})

test('one that is cancelled is never called, also by another of the same moment', async () => {
  const reactor = openReactor()
  const called: number[] = []
  const cancels: (() => void)[] = []
  for (let n = 0; n < 10; n++) {
    cancels.push(
      deadline(reactor, 3 * MS, () => {
        called.push(n)
        cancels.forEach((cancel) => {
          cancel()
        })
      }),
    )
  }
  let done = false
  deadline(reactor, 6 * MS, () => (done = true))
  await until(() => done)
  expect(called).toHaveLength(1)
})

test('one may add the next, and close its reactor', async () => {
  const reactor = openReactor()
  let called = 0
  const again = (): void => {
    if (++called === 5) reactor.close()
    else deadline(reactor, 1, again)
  }
  deadline(reactor, 1, again)
  await until(() => reactor.closed)
  expect(called).toBe(5)
})

test('any number of them share one descriptor, for each reactor one', () => {
  const before = countFds()
  const reactors = [openManual(), openManual()]
  for (const reactor of reactors)
    for (let n = 0; n < 1000; n++) deadline(reactor, (1000 + n) * MS, () => undefined)
  expect(countFds().timerfd).toBe(before.timerfd + 2)
  for (const reactor of reactors) reactor.close()
  expect(countFds()).toEqual(before)
})

test('they keep no process going', async () => {
  const url = new URL('../dist/deadlines.js', import.meta.url).href
  const { code, stdout } = await runScript(
    `const { deadline } = await import(${JSON.stringify(url)})
     const reactor = new Reactor()
     deadline(reactor, 3600e9, () => undefined)
     console.log(await reactor.run())`,
    { timeoutMs: 5000 },
  )
  expect({ code, stdout }).toEqual({ code: 0, stdout: '0\n' })
})
