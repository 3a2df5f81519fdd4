import { readSync, writeSync } from 'node:fs'
import fc from 'fast-check'
import { FdHandle, once, type Reactor } from '@fd-reactor/core'
import { eventfd } from '@fd-reactor/core/sys'
import { EventFd, UnixListener, UnixStream, type UnixStreamOptions } from '@fd-reactor/fd-events'
import { describe, expect, onTestFinished, test } from 'vitest'
import { runForJson, withoutLeakCheck } from '../../core/test/support/child.js'
import { assertNoLeakedFds, countFds, flagsOf } from '../../core/test/support/fds.js'
import { openManual, openReactor, settle, streamPair } from '../../core/test/support/reactors.js'
import { turn, within } from '../../core/test/support/wait.js'
import { thrownBy } from './unix-helpers.js'

assertNoLeakedFds()

const seed = Number(process.env['FD_REACTOR_SEED'] ?? 1)

/** Descriptors that can be told apart: eventfds whose counters are `ids`. */
function marks(...ids: number[]): FdHandle[] {
  const handles = ids.map((id) => new FdHandle(eventfd.create(BigInt(id), false)))
  onTestFinished(() => handles.forEach((handle) => handle.close()))
  return handles
}

/** The ids of received descriptors, which are closed. */
function idsOf(handles: readonly FdHandle[]): number[] {
  return handles.map((handle) => {
    const bytes = Buffer.alloc(8)
    readSync(handle.fd, bytes)
    handle.close()
    return Number(bytes.readBigUInt64LE())
  })
}

/** Sends marks, and closes ours at once. */
function pass(stream: UnixStream, bytes: string, ...ids: number[]): boolean {
  const fds = marks(...ids)
  const below = stream.send(bytes, { fds })
  for (const fd of fds) fd.close()
  return below
}

/** What a stream tells, in order: ids in brackets, bytes as text. */
function told(stream: UnixStream): string[] {
  const log: string[] = []
  stream.on('fds', (fds) => log.push(`[${idsOf(fds).join()}]`))
  stream.on('data', (bytes) => log.push(String(bytes)))
  stream.on('end', () => log.push('end'))
  return log
}

/** Two streams of which the first receives descriptors. */
async function pair(
  reactor: Reactor,
  options: UnixStreamOptions = {},
): Promise<[to: UnixStream, from: UnixStream]> {
  return streamPair(reactor, { maxFds: 16, ...options })
}

describe('descriptors come before the bytes that they were sent with', () => {
  test('and are whole, close-on-exec, and the listener’s', async () => {
    const reactor = openManual()
    const [to, from] = await pair(reactor)
    using own = new FdHandle(eventfd.create(0n, false))
    const bell = EventFd.from(reactor, own.duplicate())
    let received: FdHandle | undefined
    to.on('fds', ([handle]) => (received = handle)).on('data', () => undefined)
    from.send('x', { fds: [own] })
    settle(reactor)
    to.close()
    if (received === undefined) throw new Error('nothing came')
    expect(flagsOf(received.fd) & 0o2000000).not.toBe(0)
    const copy = EventFd.from(reactor, received)
    copy.write(7n)
    const heard: bigint[] = []
    bell.on('event', (count) => heard.push(count))
    settle(reactor)
    expect(heard).toEqual([7n])
  })

  test('each set with its own chunk; the kernel puts earlier bytes before it', async () => {
    const reactor = openManual()
    const [to, from] = await pair(reactor)
    from.write('a')
    pass(from, 'b', 1, 2)
    from.write('c')
    pass(from, 'd', 3)
    pass(from, 'e', 4)
    from.end()
    const log = told(to)
    settle(reactor)
    expect(log).toEqual(['[1,2]', 'ab', '[3]', 'cd', '[4]', 'e', 'end'])
  })

  test('what is written in one handler keeps its order', async () => {
    const reactor = openManual()
    const [to, from] = await pair(reactor)
    const log = told(to)
    from.on('data', () => {
      from.write('a')
      pass(from, 'b', 1)
      from.write('c')
      pass(from, 'd', 2)
    })
    to.write('go')
    settle(reactor)
    expect(log).toEqual(['[1]', 'ab', '[2]', 'cd'])
  })

  test.each([true, 'offsets'] as const)('also when bytes are borrowed (%s)', async (borrow) => {
    const reactor = openManual()
    const listened = await streamPair(reactor)
    const to = UnixStream.from(reactor, listened[0].detach(), { borrow, maxFds: 1 })
    const [, from] = listened
    const log: unknown[] = []
    to.on('fds', (fds) => log.push(idsOf(fds)))
    to.on('data', (bytes: Buffer, offset = 0, length = bytes.length) => {
      log.push(String(bytes.subarray(offset, offset + length)))
    })
    pass(from, 'a', 1)
    settle(reactor)
    from.write('b')
    settle(reactor)
    expect(log).toEqual([[1], 'a', 'b'])
    expect(to.bytesRead).toBe(2)
  })

  test('connections of a listener with maxFds receive them, and 253 fit into one send', async () => {
    const reactor = openManual()
    const [to, from] = await pair(reactor, { maxFds: 253 })
    const ids = Array.from({ length: 253 }, (_, index) => index + 1)
    const log = told(to)
    pass(from, 'many', ...ids)
    settle(reactor)
    expect(log).toEqual([`[${ids.join()}]`, 'many'])
  })

  test('without fds it is a write', async () => {
    const reactor = openManual()
    const [to, from] = await pair(reactor)
    const log = told(to)
    from.send('plain')
    from.send('', { fds: [] })
    settle(reactor)
    expect(log).toEqual(['plain'])
  })
})

describe('a full socket', () => {
  const BIG = 'x'.repeat(300_000)

  test('keeps duplicates until they leave, in order, and tells drain', async () => {
    const reactor = openManual()
    const [to, from] = await pair(reactor)
    const before = countFds()
    from.write(BIG)
    expect(pass(from, BIG, 1)).toBe(false)
    expect(pass(from, 'end', 2, 3)).toBe(false)
    expect(from.writableLength).toBeGreaterThan(BIG.length)
    expect(countFds().eventfd).toBe(before.eventfd + 3)
    const log: (string | number)[] = []
    from.on('drain', () => log.push('drain'))
    let bytes = 0
    to.on('fds', (fds) => log.push(...idsOf(fds)))
    to.on('data', ({ length }) => (bytes += length))
    settle(reactor)
    expect(bytes).toBe(2 * BIG.length + 3)
    expect(log.filter((each) => each !== 'drain')).toEqual([1, 2, 3])
    expect(log).toContain('drain')
    expect(from.bytesWritten).toBe(bytes)
    expect(countFds()).toEqual(before)
  })

  test.each(['close', 'destroy'] as const)('closes what waits with %s()', async (end) => {
    const reactor = openManual()
    const [, from] = await pair(reactor)
    const before = countFds()
    from.write(BIG)
    pass(from, 'x', 1, 2)
    from[end]()
    expect(countFds()).toEqual({ ...before, socket: before.socket - 1 })
  })

  test('closes what waits when the peer goes away', async () => {
    const reactor = openManual()
    const [to, from] = await pair(reactor)
    const before = countFds()
    from.write(BIG)
    pass(from, 'x', 1, 2)
    const failed: unknown[] = []
    from.on('error', (error) => failed.push(error))
    to.close()
    settle(reactor)
    expect(failed).toMatchObject([{ code: expect.stringMatching(/^(EPIPE|ECONNRESET)$/) }])
    expect(from.closed).toBe(true)
    expect(countFds()).toEqual({ ...before, socket: before.socket - 2 })
    // A write to what is closed says so.
    expect(thrownBy(() => pass(from, 'x', 1))).toMatchObject({ code: 'ERR_CLOSED' })
  })

  test('cannot be detached while descriptors wait', async () => {
    const reactor = openManual()
    const [, from] = await pair(reactor)
    from.write(BIG)
    pass(from, 'x', 1)
    expect(thrownBy(() => from.detach())).toMatchObject({
      code: 'EBUSY',
      message: expect.stringContaining('or for descriptors to leave'),
    })
    expect(from.closed).toBe(false)
  })
})

describe('what has come waits, and is never lost', () => {
  test('without a listener of fds the bytes wait behind them, and nothing more is read', async () => {
    const reactor = openManual()
    const [to, from] = await pair(reactor)
    const log: string[] = []
    to.on('data', (bytes) => log.push(String(bytes)))
    from.write('before')
    settle(reactor)
    pass(from, 'x', 1)
    settle(reactor)
    for (let id = 2; id < 50; id++) pass(from, 'y', id)
    const before = countFds()
    from.end()
    settle(reactor)
    expect(countFds()).toEqual(before)
    expect(log).toEqual(['before'])
    const ids: number[] = []
    to.on('fds', (fds) => ids.push(...idsOf(fds)))
    to.on('end', () => log.push('end'))
    settle(reactor) // what was kept
    settle(reactor)
    expect(ids).toEqual(Array.from({ length: 49 }, (_, index) => index + 1))
    expect(log.join('')).toBe(`beforex${'y'.repeat(48)}end`)
  })

  test('once() gets one set, and the rest waits for the next', async () => {
    const reactor = openReactor()
    const [to, from] = await onReactor(reactor)
    to.on('data', () => undefined)
    pass(from, 'a', 1)
    pass(from, 'b', 2)
    const [first] = await within(once(to, 'fds'))
    expect(idsOf(first)).toEqual([1])
    const [second] = await within(once(to, 'fds'))
    expect(idsOf(second)).toEqual([2])
  })

  test('pause() in the handler of fds holds their bytes back', async () => {
    const reactor = openManual()
    const [to, from] = await pair(reactor)
    const log = told(to)
    to.on('fds', () => to.pause())
    pass(from, 'a', 1)
    pass(from, 'b', 2)
    settle(reactor)
    expect(log).toEqual(['[1]'])
    to.resume()
    settle(reactor)
    expect(log).toEqual(['[1]', 'a', '[2]'])
    to.resume()
    settle(reactor)
    expect(log).toEqual(['[1]', 'a', '[2]', 'b'])
  })

  test('close() in the handler of fds ends everything', async () => {
    const reactor = openManual()
    const [to, from] = await pair(reactor)
    const log = told(to)
    to.on('fds', () => to.close())
    pass(from, 'a', 1)
    pass(from, 'b', 2)
    settle(reactor)
    expect(log).toEqual(['[1]'])
  })

  test('a handler of fds that throws costs no bytes', async () => {
    const failures: unknown[] = []
    const reactor = openManual({ onHandlerError: (error) => void failures.push(error) })
    const [to, from] = await pair(reactor)
    const error = new Error('thrown by a handler')
    const log = told(to)
    to.on('fds', () => {
      throw error
    })
    pass(from, 'a', 1)
    settle(reactor)
    expect(failures).toEqual([error])
    expect(log).toEqual(['[1]', 'a'])
  })

  test('a stream that is closed with them closes them', async () => {
    const reactor = openManual()
    const [to, from] = await pair(reactor)
    const before = countFds()
    to.on('data', () => undefined)
    pass(from, 'a', 1, 2, 3)
    settle(reactor)
    expect(countFds().eventfd).toBe(before.eventfd + 3)
    to.close()
    expect(countFds()).toEqual({ ...before, socket: before.socket - 1 })
  })

  test('a stream that is closed in the middle of a batch closes what was drained for it', async () => {
    const reactor = openManual()
    const [to, from] = await pair(reactor)
    const [other, peer] = await pair(reactor)
    to.on('data', () => undefined).on('fds', () => expect.unreachable())
    other.on('data', () => to.destroy())
    // Both are in one batch, in the order in which they became ready.
    peer.write('x')
    pass(from, 'a', 1, 2)
    const before = countFds()
    settle(reactor)
    expect(to.closed).toBe(true)
    expect(countFds()).toEqual({ ...before, socket: before.socket - 1 })
  })

  test('detach() gives them with the bytes, and from() takes both', async () => {
    const reactor = openManual()
    const [to, from] = await pair(reactor)
    to.on('data', () => undefined)
    pass(from, 'a', 1)
    settle(reactor)
    const detached = to.detach()
    expect(detached).toMatchObject({ unread: Buffer.from('a'), fds: [expect.any(FdHandle)] })
    const again = UnixStream.from(reactor, detached, { maxFds: 16 })
    const log = told(again)
    pass(from, 'b', 2)
    settle(reactor)
    expect(log).toEqual(['[1]', 'a', '[2]', 'b'])
    again.pause()
    pass(from, 'c', 3)
    // Without maxFds nobody could get them.
    const before = countFds()
    UnixStream.from(reactor, { ...again.detach(), unread: Buffer.from('z'), fds: marks(4) }).destroy()
    expect(countFds()).toEqual({ ...before, socket: before.socket - 1 })
  })

  test('detach() in the middle of a batch takes what was drained', async () => {
    const reactor = openManual()
    const [first, one] = await pair(reactor)
    const [second, two] = await pair(reactor)
    const detached: ReturnType<UnixStream['detach']>[] = []
    const other = (stream: UnixStream) => (): void => {
      if (!stream.closed) detached.push(stream.detach())
    }
    // Whichever comes first takes the other out of the batch.
    first.on('data', other(second)).on('fds', (fds) => idsOf(fds))
    second.on('data', other(first)).on('fds', (fds) => idsOf(fds))
    pass(one, 'a', 1)
    pass(two, 'b', 2)
    settle(reactor)
    expect(detached).toHaveLength(1)
    const { fds = [], unread, handle } = detached[0] ?? expect.unreachable()
    const ids = idsOf(fds)
    expect(`${ids.join()} ${String(unread)}`).toMatch(/^(1 a|2 b)$/)
    handle.close()
  })

  test('an iterator that is left gives back what it had buffered', async () => {
    const reactor = openReactor()
    const [to, from] = await onReactor(reactor)
    let bytes = ''
    to.on('data', (chunk) => (bytes += String(chunk)))
    pass(from, 'a', 1)
    pass(from, 'b', 2)
    pass(from, 'c', 3)
    for await (const [fds] of to.events('fds')) {
      while (bytes !== 'abc') await turn()
      expect(idsOf(fds)).toEqual([1])
      break
    }
    expect(to.readableLength).toBe(0)
    const log: number[][] = []
    to.on('fds', (fds) => log.push(idsOf(fds)))
    while (log.length < 2) await turn()
    expect(log).toEqual([[2], [3]])
    expect(bytes).toBe('abc')
  })

  test('an iterator that is left after the end closes what it had buffered', async () => {
    const reactor = openReactor()
    const [to, from] = await onReactor(reactor)
    to.on('data', () => undefined)
    const before = countFds().eventfd
    pass(from, 'a', 1)
    pass(from, 'b', 2)
    for await (const [fds] of to.events('fds')) {
      from.end()
      while (!to.closed) await turn()
      expect(idsOf(fds)).toEqual([1])
      break
    }
    expect(countFds().eventfd).toBe(before)
  })

  test('what a handler drops is closed by the collector', async () => {
    const result = await runForJson(
      `const codes = []
      process.on('warning', (warning) => codes.push(warning.code))
      const reactor = new Reactor()
      const listener = UnixListener.listen(reactor, path, { maxFds: 1 })
      let done = 0
      listener.on('connection', (to) => to.on('fds', () => done++).on('data', () => undefined))
      const from = await UnixStream.connect(reactor, path)
      const bell = new EventFd(reactor)
      const own = FdHandle.adopt(bell.fd)
      const { readdirSync, readlinkSync } = await import('node:fs')
      const bells = () => readdirSync('/proc/self/fd').filter((fd) => {
        try { return readlinkSync('/proc/self/fd/' + fd).includes('eventfd') } catch { return false }
      }).length
      const before = bells()
      for (let i = 0; i < 20; i++) from.send('x', { fds: [own] })
      while (done < 20) await turn()
      for (let i = 0; i < 100 && bells() > before; i++) { gc(); await turn() }
      await turn()
      console.log(JSON.stringify([bells() - before, codes.length, [...new Set(codes)]]))
      process.exit()`,
      { execArgv: ['--expose-gc'] },
    )
    expect(result).toEqual([0, 20, ['FD_REACTOR_DROPPED_FD']])
  })
})

describe('truncation', () => {
  test('more than maxFds is an error that closes what came', async () => {
    const reactor = openManual()
    const [to, from] = await pair(reactor, { maxFds: 2 })
    const before = countFds()
    const log = told(to)
    const errors: unknown[] = []
    to.on('error', (error) => errors.push(error))
    pass(from, 'a', 1, 2)
    pass(from, 'b', 3, 4, 5)
    pass(from, 'c', 6)
    settle(reactor)
    expect(log).toEqual(['[1,2]', 'a'])
    expect(errors).toMatchObject([
      {
        name: 'ReactorError',
        code: 'ERR_FDS_TRUNCATED',
        message: expect.stringMatching(
          /^UnixStream \d+: more descriptors came at once than maxFds allows, or than this process can open\. Those that did come were closed$/,
        ),
      },
    ])
    expect(to.closed).toBe(true)
    from.close()
    expect(countFds()).toEqual({ ...before, socket: before.socket - 2 })
  })

  test('one more than maxFds is noticed for every maxFds', async () => {
    const reactor = openManual()
    for (const maxFds of [1, 2, 3, 4, 7, 8, 100, 252]) {
      const [to, from] = await pair(reactor, { maxFds })
      const before = countFds()
      const errors: unknown[] = []
      to.on('error', (error) => errors.push(error)).on('data', () => expect.unreachable())
      pass(from, 'x', ...Array.from({ length: maxFds + 1 }, (_, id) => id + 1))
      settle(reactor)
      expect(errors).toMatchObject([{ code: 'ERR_FDS_TRUNCATED' }])
      from.close()
      expect(countFds()).toEqual({ ...before, socket: before.socket - 2 })
    }
  })

  test('a detached stream whose descriptors were cut off is closed, and detach() throws it', async () => {
    const reactor = openManual()
    const [to, from] = await pair(reactor, { maxFds: 1 })
    const [other, peer] = await pair(reactor)
    let thrown: unknown
    // The streams are in one batch, in the order in which they became ready.
    other.on('data', () => (thrown = thrownBy(() => to.detach())))
    to.on('data', () => expect.unreachable()).on('error', () => expect.unreachable())
    const before = countFds()
    peer.write('x')
    pass(from, 'a', 1, 2)
    settle(reactor)
    expect(thrown).toMatchObject({ code: 'ERR_FDS_TRUNCATED' })
    expect(to.closed).toBe(true)
    expect(countFds()).toEqual({ ...before, socket: before.socket - 1 })
  })

  test('a process that can open no more gets the same error, and nothing leaks', async () => {
    const result = await runForJson(
      `const { openSync, closeSync, readdirSync } = await import('node:fs')
      const reactor = new Reactor()
      const listener = UnixListener.listen(reactor, path, { maxFds: 16 })
      let to
      listener.on('connection', (stream) => (to = stream))
      const from = await UnixStream.connect(reactor, path)
      while (to === undefined) await turn()
      const bell = new EventFd(reactor)
      const own = FdHandle.adopt(bell.fd)
      const errors = []
      to.on('fds', () => errors.push('fds')).on('data', () => errors.push('data'))
      to.on('error', (error) => errors.push(error.code))
      await turn()
      to.pause()
      from.send('x', { fds: Array(8).fill(own) })
      const open = () => readdirSync('/proc/self/fd').length
      const before = open()
      const filler = []
      try { for (;;) filler.push(openSync('/dev/null')) } catch {}
      closeSync(filler.pop())
      closeSync(filler.pop())
      to.resume()
      while (!to.closed) await turn()
      filler.forEach((fd) => closeSync(fd))
      console.log(JSON.stringify([errors, before - open()]))
      process.exit()`,
      { maxFiles: 64 },
    )
    expect(result).toEqual([['ERR_FDS_TRUNCATED'], 1])
  })

  test('with maxFds 0 the kernel closes what comes, and the bytes go on', async () => {
    const reactor = openManual()
    const [to, from] = await streamPair(reactor)
    const log = told(to)
    const before = countFds()
    pass(from, 'a', 1, 2)
    settle(reactor)
    expect(log).toEqual(['a'])
    expect(countFds()).toEqual(before)
  })
})

test('too many in flight wait until a receiver takes some', async ({ skip }) => {
  skip(process.getuid?.() !== 0, 'only root can become a user whose descriptors in flight are counted')
  const result = await runForJson(
    `process.setgid(65534)
    process.setuid(65534)
    const reactor = new Reactor()
    const name = { abstract: 'fd-reactor-test-in-flight-' + process.pid }
    const listener = UnixListener.listen(reactor, name, { maxFds: 16 })
    let to
    listener.on('connection', (stream) => (to = stream))
    const from = await UnixStream.connect(reactor, name)
    while (to === undefined) await turn()
    const own = FdHandle.adopt(new EventFd(reactor).fd)
    for (let i = 0; i < 30; i++) from.send(String(i % 10), { fds: [own, own] })
    const waited = from.writableLength
    let fds = 0
    let text = ''
    to.on('fds', (handles) => handles.forEach((handle) => { fds++; handle.close() }))
    to.on('data', (bytes) => (text += bytes))
    while (text.length < 30) await turn()
    console.log(JSON.stringify([waited > 0, fds, text, from.writableLength]))
    process.exit()`,
    { timeoutMs: 10_000, env: withoutLeakCheck, maxFiles: 48 },
  )
  expect(result).toEqual([true, 60, '0123456789'.repeat(3), 0])
})

describe('bad input', () => {
  test('says what was wrong, and nothing is sent', async () => {
    const reactor = openManual()
    const [to, from] = await pair(reactor)
    const log = told(to)
    const [fd = expect.unreachable()] = marks(1)
    expect(() => from.send('', { fds: [fd] })).toThrow('Descriptors leave with a byte: send() at least one')
    expect(() => from.send('x', { fds: Array<FdHandle>(254).fill(fd) })).toThrow(
      'One send() passes at most 253 descriptors, not 254: use several',
    )
    // @ts-expect-error a number could have any owner
    expect(() => from.send('x', { fds: [1] })).toThrow(
      'send() passes FdHandles: FdHandle.adopt(fd) makes one of a number',
    )
    // @ts-expect-error it has a value already
    expect(() => from.send('x', { fds: fd })).toThrow(
      "UnixStream.send option 'fds' must be an array of FdHandles",
    )
    // @ts-expect-error a misspelt option
    expect(() => from.send('x', { fd: [fd] })).toThrow("did you mean 'fds'?")
    // @ts-expect-error neither bytes nor text
    expect(() => from.send(7, { fds: [fd] })).toThrow('send() takes a Uint8Array or a string')
    const before = countFds()
    fd.close()
    const [open = expect.unreachable()] = marks(2)
    expect(thrownBy(() => from.send('x', { fds: [open, fd] }))).toMatchObject({ code: 'ERR_CLOSED' })
    open.close()
    expect(countFds()).toEqual({ ...before, eventfd: before.eventfd - 1 })
    from.end()
    expect(thrownBy(() => from.send('x', { fds: marks(3) }))).toMatchObject({
      code: 'ERR_STREAM_ENDED',
      message: expect.stringMatching(/^UnixStream \d+: send\(\) after end\(\)$/),
    })
    settle(reactor)
    expect(log).toEqual(['end'])
  })

  test('a handle whose number went to another is refused', async () => {
    const reactor = openManual()
    const [, from] = await pair(reactor)
    const [robbed = expect.unreachable()] = marks(1)
    using thief = FdHandle.adopt(robbed.fd)
    expect(thrownBy(() => from.send('x', { fds: [robbed] }))).toMatchObject({ code: 'EBADF' })
    expect(thief.closed).toBe(false)
  })

  test.each([-1, 254, 1.5])('maxFds %d is out of range', (maxFds) => {
    expect(() => UnixListener.listen(openManual(), '/tmp/unused', { maxFds })).toThrow(
      `UnixListener option 'maxFds' must be an integer from 0 to 253, not ${maxFds}`,
    )
  })
})

describe('EventFd.from', () => {
  test('takes over a counter and its mode', () => {
    const reactor = openManual()
    const heard: bigint[] = []
    for (const semaphore of [false, true]) {
      const bell = EventFd.from(reactor, new EventFd(reactor, { initial: 2n, semaphore }).detach())
      bell.pause().on('event', (count) => heard.push(count))
      settle(reactor)
      bell.resume()
      settle(reactor)
    }
    expect(heard).toEqual([2n, 1n, 1n])
  })

  test('refuses what is no eventfd, and leaves it open', async () => {
    const reactor = openManual()
    const [stream] = await streamPair(reactor)
    using handle = stream.detach().handle
    expect(thrownBy(() => EventFd.from(reactor, handle))).toMatchObject({
      code: 'EINVAL',
      message: `EINVAL: invalid argument, read 'fd ${handle.fd}'. It is no eventfd`,
    })
    expect(handle.closed).toBe(false)
    // @ts-expect-error its value is what it is
    expect(() => EventFd.from(reactor, handle, { initial: 1n })).toThrow(
      "EventFd.from has no option 'initial'",
    )
    handle.close()
    expect(thrownBy(() => EventFd.from(reactor, handle))).toMatchObject({ code: 'ERR_CLOSED' })
  })
})

test('whatever is sent, and however it is read, each set comes with the chunk of its first byte', async () => {
  const step = fc.oneof(
    {
      weight: 3,
      arbitrary: fc.record({ kind: fc.constant('send' as const), size: sizes(), fds: fc.nat(5) }),
    },
    { weight: 2, arbitrary: fc.record({ kind: fc.constantFrom('turn', 'pause', 'resume') }) },
  )
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 60 }), async (steps) => {
      const reactor = openManual()
      const [to, from] = await pair(reactor)
      const before = countFds()
      let sent = 0
      let next = 1
      /** By id: where the first byte of its send is. */
      const firstBytes = new Map<number, number>()
      const waiting: number[] = []
      let received = 0
      const ids: number[] = []
      to.on('fds', (fds) => {
        expect(waiting).toEqual([])
        waiting.push(...idsOf(fds))
        ids.push(...waiting)
      })
      to.on('data', ({ length }) => {
        for (const id of waiting.splice(0)) {
          expect(firstBytes.get(id)).toBeGreaterThanOrEqual(received)
          expect(firstBytes.get(id)).toBeLessThan(received + length)
        }
        received += length
      })
      for (const each of steps) {
        if (each.kind === 'send' && 'size' in each) {
          const mine = Array.from({ length: each.fds }, () => next++)
          for (const id of mine) firstBytes.set(id, sent)
          const fds = mine.map((id) => new FdHandle(eventfd.create(BigInt(id), false)))
          from.send(Buffer.alloc(each.size), { fds })
          for (const fd of fds) fd.close()
          sent += each.size
        } else if (each.kind === 'turn') reactor.dispatch()
        else if (each.kind === 'pause') to.pause()
        else to.resume()
      }
      to.resume()
      settle(reactor)
      expect(received).toBe(sent)
      expect(ids).toEqual(Array.from({ length: next - 1 }, (_, index) => index + 1))
      expect(countFds()).toEqual(before)
      to.close()
      from.close()
    }),
    { seed, numRuns: 100 },
  )
})

function sizes(): fc.Arbitrary<number> {
  return fc.oneof(fc.integer({ min: 1, max: 10 }), fc.integer({ min: 1, max: 200_000 }))
}

/** Two streams of a reactor that turns by itself. */
async function onReactor(reactor: Reactor): Promise<[to: UnixStream, from: UnixStream]> {
  const manual = openManual()
  const [to, from] = await pair(manual)
  return [
    UnixStream.from(reactor, to.detach(), { maxFds: 16 }),
    UnixStream.from(reactor, from.detach().handle),
  ]
}

test('a raw write beside it changes nothing', async () => {
  const reactor = openManual()
  const [to, from] = await pair(reactor)
  const log = told(to)
  writeSync(from.fd, 'raw')
  pass(from, 'x', 1)
  settle(reactor)
  expect(log).toEqual(['[1]', 'rawx'])
})
