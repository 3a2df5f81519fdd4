import { spawnSync } from 'node:child_process'
import { readSync, writeSync } from 'node:fs'
import { Worker } from 'node:worker_threads'
import { once } from '@fd-reactor/core'
import { EventFd } from '@fd-reactor/fd-events'
import { expect, test } from 'vitest'
import { assertNoLeakedFds } from '../../core/test/support/fds.js'
import { openManual, openReactor, settle } from '../../core/test/support/reactors.js'
import { until, within } from '../../core/test/support/wait.js'
import { quiet, thrownBy } from './unix-helpers.js'

assertNoLeakedFds()

const MAX = 2n ** 64n - 2n

/** The counter of an eventfd, read as any other holder would; 0n when it is empty. */
function take(fd: number): bigint {
  const bytes = Buffer.alloc(8)
  try {
    readSync(fd, bytes)
  } catch {
    return 0n
  }
  return bytes.readBigUInt64LE()
}

test('what is written before a batch comes as one sum', async () => {
  const bell = new EventFd(openReactor(), { initial: 5n })
  bell.write()
  bell.write(36n)
  const [count] = await within(once(bell, 'event'))
  expect(count).toBe(42n)
})

test('a semaphore tells 1 each time, as often as the counter says', () => {
  const reactor = openManual()
  const bell = new EventFd(reactor, { initial: 3n, semaphore: true })
  const counts: bigint[] = []
  bell.on('event', (count) => counts.push(count))
  bell.write(2n)
  settle(reactor)
  expect(counts).toEqual([1n, 1n, 1n, 1n, 1n])
})

test('counts go up to 2^64 − 2 without losing a bit', () => {
  const reactor = openManual()
  const counts: bigint[] = []
  for (const count of [MAX, MAX - 1n, 2n ** 63n, 2n ** 53n + 1n]) {
    using bell = new EventFd(reactor)
    bell.on('event', (told) => counts.push(told))
    expect(bell.write(count)).toBe(true)
    settle(reactor)
  }
  expect(counts).toEqual([MAX, MAX - 1n, 2n ** 63n, 2n ** 53n + 1n])
  using full = new EventFd(reactor, { initial: MAX })
  full.on('event', (told) => counts.push(told))
  settle(reactor)
  expect(counts.at(-1)).toBe(MAX)
})

test('a write that would overflow says false and adds nothing', () => {
  const reactor = openManual()
  const bell = new EventFd(reactor, { initial: MAX - 1n })
  expect(bell.write(2n)).toBe(false)
  expect(bell.write(1n)).toBe(true)
  expect(bell.write(1n)).toBe(false)
  expect(EventFd.write(bell.fd, 1n)).toBe(false)
  expect(bell.write(0n)).toBe(true)
  expect(take(bell.fd)).toBe(MAX)
})

test('another thread writes by the number alone', async () => {
  const bell = new EventFd(openReactor())
  let sum = 0n
  bell.on('event', (count) => (sum += count))
  const script = `
    const { writeSync } = require('node:fs')
    const { workerData: fd } = require('node:worker_threads')
    const one = Buffer.alloc(8)
    one.writeBigUInt64LE(1n)
    for (let n = 0; n < 10_000; n++) writeSync(fd, one)`
  const worker = new Worker(script, { eval: true, workerData: bell.fd })
  await until(() => sum === 10_000n, 'the sum of 10,000 writes')
  await worker.terminate()
})

test('another process writes through the descriptor that it inherited', async () => {
  const bell = new EventFd(openReactor())
  const script = `
    const value = Buffer.alloc(8)
    value.writeBigUInt64LE(77n)
    require('node:fs').writeSync(3, value)`
  const { status } = spawnSync(process.execPath, ['-e', script], {
    stdio: ['ignore', 'inherit', 'inherit', bell.fd],
  })
  expect(status).toBe(0)
  expect(await within(once(bell, 'event'))).toEqual([77n])
})

test('nothing is read while nobody listens, nor while it is paused', () => {
  const reactor = openManual()
  const bell = new EventFd(reactor)
  bell.write(1n)
  settle(reactor)
  expect(take(bell.fd)).toBe(1n)
  const counts: bigint[] = []
  bell.on('event', (count) => counts.push(count))
  bell.pause().write(2n)
  settle(reactor)
  expect(bell.paused).toBe(true)
  expect(counts).toEqual([])
  bell.write(3n)
  bell.resume()
  settle(reactor)
  expect(counts).toEqual([5n])
})

test('a listener that goes away leaves the counter to the next one', () => {
  const reactor = openManual()
  const bell = new EventFd(reactor)
  const counts: bigint[] = []
  const listener = (count: bigint): void => void counts.push(count)
  bell.on('event', listener).off('event', listener)
  bell.write(4n)
  settle(reactor)
  bell.once('event', listener)
  settle(reactor)
  bell.write(5n)
  settle(reactor)
  expect(counts).toEqual([4n])
  expect(take(bell.fd)).toBe(5n)
})

test.each([false, true])(
  'a count that was drained before its source was paused comes at resume (semaphore: %s)',
  (semaphore) => {
    const reactor = openManual()
    const bells = [new EventFd(reactor, { semaphore }), new EventFd(reactor, { semaphore })]
    const told: bigint[] = []
    // Both are in one batch; whichever comes first pauses the other.
    for (const [index, bell] of bells.entries()) {
      bell.on('event', (count) => {
        told.push(count)
        bells[1 - index]?.pause()
      })
      bell.write(1n)
    }
    settle(reactor)
    expect(told).toEqual([1n])
    for (const bell of bells) bell.resume()
    settle(reactor)
    expect(told).toEqual([1n, 1n])
  },
)

test.each([false, true])(
  'detach() in the middle of a batch puts back what was drained (semaphore: %s)',
  (semaphore) => {
    const reactor = openManual()
    const bells = [new EventFd(reactor, { semaphore }), new EventFd(reactor, { semaphore })]
    let told = 0n
    const left: bigint[] = []
    for (const [index, bell] of bells.entries()) {
      bell.on('event', (count) => {
        told += count
        const other = bells[1 - index]
        if (other === undefined || other.closed) return
        using handle = other.detach()
        for (let one = take(handle.fd); one > 0n; one = take(handle.fd)) left.push(one)
      })
      bell.write(3n)
    }
    settle(reactor)
    expect(told).toBe(3n)
    expect(left).toEqual(semaphore ? [1n, 1n, 1n] : [3n])
    expect(bells.filter((bell) => bell.closed)).toHaveLength(1)
  },
)

test('detach() hands over the descriptor open, and the source is closed', () => {
  const reactor = openManual()
  const bell = new EventFd(reactor)
  let closes = 0
  bell.on('event', () => undefined).on('close', () => closes++)
  const { fd } = bell
  using handle = bell.detach()
  expect(handle.fd).toBe(fd)
  expect(closes).toBe(1)
  expect(thrownBy(() => bell.write())).toMatchObject({ code: 'ERR_CLOSED' })
  expect(thrownBy(() => bell.detach())).toMatchObject({ code: 'ERR_CLOSED' })
  expect(EventFd.write(handle.fd, 9n)).toBe(true)
  expect(take(handle.fd)).toBe(9n)
})

test('closing it in its own handler ends it, a semaphore of more than 1 too', () => {
  const reactor = openManual()
  const bell = new EventFd(reactor, { initial: 10n, semaphore: true })
  let told = 0
  bell.on('event', () => {
    told++
    bell.close()
  })
  settle(reactor)
  expect(told).toBe(1)
})

test('for await gives each count, and leaving the loop stops the reading', async () => {
  const bell = new EventFd(openReactor())
  bell.write(1n)
  const counts: bigint[] = []
  for await (const count of bell) {
    counts.push(count)
    if (counts.length === 3) break
    bell.write(count + 1n)
  }
  expect(counts).toEqual([1n, 2n, 3n])
  bell.write(50n)
  await quiet()
  expect(take(bell.fd)).toBe(50n)
})

test('an AbortSignal closes it, and one that is aborted already opens nothing', () => {
  const reactor = openManual()
  const controller = new AbortController()
  const bell = new EventFd(reactor, { signal: controller.signal })
  controller.abort()
  expect(bell.closed).toBe(true)
  expect(thrownBy(() => new EventFd(reactor, { signal: controller.signal }))).toBe(controller.signal.reason)
  expect(reactor.sources()).toEqual([])
})

test('errors say what was wrong', () => {
  const reactor = openManual()
  using bell = new EventFd(reactor)
  // @ts-expect-error numbers lose bits
  expect(() => bell.write(1)).toThrow(TypeError)
  expect(() => bell.write(-1n)).toThrow(RangeError)
  expect(() => bell.write(MAX + 1n)).toThrow('2^64')
  expect(() => new EventFd(reactor, { initial: MAX + 1n })).toThrow(RangeError)
  // @ts-expect-error a misspelt option
  expect(() => new EventFd(reactor, { semafore: true })).toThrow("did you mean 'semaphore'")
  expect(thrownBy(() => EventFd.write(99_999))).toMatchObject({
    name: 'SystemError',
    code: 'EBADF',
    errno: -9,
    syscall: 'write',
  })
  bell.close()
  bell.close()
  expect(thrownBy(() => bell.write())).toMatchObject({ code: 'ERR_CLOSED' })
  expect(thrownBy(() => bell.fd)).toMatchObject({ code: 'ERR_CLOSED' })
})

test('a value that is no 8 bytes is refused by the kernel, and the counter is as it was', () => {
  const reactor = openManual()
  const bell = new EventFd(reactor, { initial: 2n })
  expect(thrownBy(() => writeSync(bell.fd, Buffer.alloc(4)))).toMatchObject({ code: 'EINVAL' })
  expect(take(bell.fd)).toBe(2n)
})
