import { readFileSync } from 'node:fs'
import { once, type FdHandle, type Reactor } from '@fd-reactor/core'
import {
  ms,
  seconds,
  UnixListener,
  UnixStream,
  type Limit,
  type UnixListenerOptions,
} from '@fd-reactor/fd-events'
import { describe, expect, test } from 'vitest'
import { assertNoLeakedFds, countFds } from '../../core/test/support/fds.js'
import { openManual, openReactor, socketPath } from '../../core/test/support/reactors.js'
import { until, within } from '../../core/test/support/wait.js'
import { pair, readNow, writeAll } from './unix-helpers.js'

assertNoLeakedFds()

/** A stream with limits, the raw socket at its other end, and when which limit was told, in ms. */
async function limited(
  reactor: Reactor,
  options: UnixListenerOptions,
): Promise<{ stream: UnixStream; peer: FdHandle; told: { limit: Limit; after: number }[]; start: number }> {
  const [stream, peer] = await pair(reactor, options)
  const told: { limit: Limit; after: number }[] = []
  const start = performance.now()
  stream.on('timeout', (limit) => told.push({ limit, after: performance.now() - start }))
  return { stream, peer, told, start }
}

const MUCH = Buffer.alloc(4 << 20)

describe('headerTimeout', () => {
  test('is told once, not before its time, however many bytes come meanwhile', async () => {
    const { stream, peer, told } = await limited(openReactor(), { headerTimeout: ms(80) })
    stream.on('data', () => undefined)
    await until(() => {
      writeAll(peer, 'x') // a slow loris
      return told.length > 0
    })
    expect(told[0]?.limit).toBe('header')
    expect(told[0]?.after).toBeGreaterThanOrEqual(79)
    expect(told[0]?.after).toBeLessThan(1000)
    const marker = await limited(openReactor(), { idleTimeout: ms(200) })
    await until(() => marker.told.length > 0)
    expect(told).toHaveLength(1)
  })

  test('without a listener destroys the stream', async () => {
    const reactor = openReactor()
    const [stream, peer] = await pair(reactor, { headerTimeout: ms(20) })
    await within(once(stream, 'close'))
    expect(readNow(peer)).toHaveLength(0)
  })

  test('ends with headerDone(), and begins anew with expectHeader()', async () => {
    const reactor = openReactor()
    const done = await limited(reactor, { headerTimeout: ms(40) })
    const again = await limited(reactor, { headerTimeout: ms(40) })
    const marker = await limited(reactor, { headerTimeout: ms(160) })
    done.stream.headerDone()
    again.stream.headerDone()
    await until(() => marker.told.length > 0)
    expect([done.told, again.told]).toEqual([[], []])
    const start = performance.now()
    again.stream.expectHeader()
    await until(() => again.told.length > 0)
    expect(performance.now() - start).toBeGreaterThanOrEqual(39)
    expect(done.told).toEqual([])
  })
})

describe('writeTimeout', () => {
  test('is told when the peer takes nothing for that long, and again while it goes on', async () => {
    const { stream, told, start } = await limited(openReactor(), { writeTimeout: ms(60) })
    expect(stream.blocked).toBe(false)
    stream.write(MUCH)
    expect(stream.blocked).toBe(true)
    await until(() => told.length >= 2)
    expect(told.map(({ limit }) => limit)).toEqual(['write', 'write'])
    expect((told[0]?.after ?? 0) - start + start).toBeGreaterThanOrEqual(59)
  })

  test('is not told while the peer takes something, or when nothing waits', async () => {
    const reactor = openReactor()
    const slow = await limited(reactor, { writeTimeout: ms(60) })
    const quiet = await limited(reactor, { writeTimeout: ms(60) })
    quiet.stream.write('taken at once')
    slow.stream.write(MUCH)
    // So slowly that for most of the time the kernel has no room for more of us: it has some when three quarters are free.
    const start = performance.now()
    let read = 0
    await until(() => {
      if (performance.now() - start > read * 10) read += readNow(slow.peer, 32_768) === undefined ? 0 : 1
      return read === 40
    })
    expect([slow.told, quiet.told]).toEqual([[], []])
    await until(() => slow.told.length > 0)
  })

  test('without a listener destroys the stream, and what waits is discarded', async () => {
    const [stream] = await pair(openReactor(), { writeTimeout: ms(20) })
    stream.write(MUCH)
    await within(once(stream, 'close'))
    expect(stream.writableLength).toBe(0)
  })
})

test('limits of different lengths hold side by side', async () => {
  const { stream, told } = await limited(openReactor(), {
    idleTimeout: ms(120),
    headerTimeout: ms(40),
    writeTimeout: ms(70),
  })
  stream.write(MUCH)
  await until(() => new Set(told.map(({ limit }) => limit)).size === 3)
  const first = (limit: Limit): number => told.find((each) => each.limit === limit)?.after ?? 0
  expect(first('header')).toBeGreaterThanOrEqual(39)
  expect(first('write')).toBeGreaterThanOrEqual(69)
  expect(first('idle')).toBeGreaterThanOrEqual(119)
})

test('what a listener of the limit throws is the stream’s error', async () => {
  const labels: (string | undefined)[] = []
  const reactor = openReactor({ onHandlerError: (_, source) => void labels.push(source?.label) })
  const [stream] = await pair(reactor, { idleTimeout: ms(10) })
  stream.once('timeout', () => {
    throw new Error('from the listener')
  })
  await until(() => labels.length > 0)
  expect(labels).toEqual([stream.label])
})

test.each([
  [{ headerTimeout: 0 }, "UnixListener option 'headerTimeout' must be an integer from 1 to"],
  [{ writeTimeout: 1.5 }, "UnixListener option 'writeTimeout' must be an integer"],
  [{ idleTimeout: '1s' }, "UnixListener option 'idleTimeout' must be a number, not '1s'"],
  [{ headTimeout: 1 }, "did you mean 'headerTimeout'?"],
])('%j is refused with a message', (options, message) => {
  expect(() => UnixListener.listen(openManual(), socketPath(), options as UnixListenerOptions)).toThrow(
    message,
  )
})

test('thousands of connections with limits cost one timerfd, one deadline, and few wakeups', async () => {
  const reactor = openReactor()
  const count = 2000
  const before = countFds()
  const options = { idleTimeout: seconds(60), headerTimeout: seconds(10), writeTimeout: seconds(20) }
  const listener = UnixListener.listen(reactor, socketPath(), { ...options, backlog: 4096 })
  let accepted = 0
  listener.on('connection', () => accepted++)
  const clients = await Promise.all(
    Array.from({ length: count }, async () =>
      UnixStream.connect(reactor, listener.path, { idleTimeout: seconds(60) }),
    ),
  )
  await until(() => accepted === count)
  expect(countFds().timerfd).toBe(before.timerfd + 1)
  const timers = reactor.sources().filter(({ label }) => label.startsWith('Deadlines'))
  expect(timers).toHaveLength(1)
  expect(timers[0]?.events).toBe(0) // armed, and not gone off: whatever is looked at is looked at together
  const armed = readFileSync(`/proc/self/fdinfo/${timers[0]?.fd ?? -1}`, 'utf8')
  expect(armed).toMatch(/it_value: \(2, /) // a quarter of the shortest limit
  for (const client of clients) client.destroy()
}, 30_000)
