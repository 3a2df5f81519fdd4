import { createHash } from 'node:crypto'
import { once as onceEvent } from 'node:events'
import { createReadStream, writeFileSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { Duplex, Readable, type Writable } from 'node:stream'
import { finished, pipeline } from 'node:stream/promises'
import type { ReadableStreamDefaultReader } from 'node:stream/web'
import { setTimeout as delay } from 'node:timers/promises'
import fc from 'fast-check'
import { once } from '@fd-reactor/core'
import { socket } from '@fd-reactor/core/sys'
import { ms, toDuplex, UnixListener, UnixStream } from '@fd-reactor/fd-events'
import { describe, expect, test, vi } from 'vitest'
import { assertNoLeakedFds } from '../../core/test/support/fds.js'
import { openReactor, socketPath, wakeups } from '../../core/test/support/reactors.js'
import { until, within } from '../../core/test/support/wait.js'
import { duplexAndPeer, duplexPair, pattern } from './duplex-helpers.js'
import { errorCode, pair, quiet, readNow, thrownBy, writeAll } from './unix-helpers.js'

assertNoLeakedFds()

/** More than a socket's buffers hold. */
const MUCH = pattern(4 << 20)

/** Everything that a duplex tells, as text. */
function record(duplex: Duplex): string[] {
  const told: string[] = []
  for (const name of ['end', 'finish', 'close', 'timeout']) duplex.on(name, () => told.push(name))
  duplex.on('error', (error) => told.push(`error ${String(errorCode(error))}`))
  return told
}

/** Writes, and gives what the callback is called with: null when the bytes were taken. */
async function written(duplex: Writable, bytes: Uint8Array | string): Promise<Error | null> {
  return new Promise((resolve) => duplex.write(bytes, (error) => resolve(error ?? null)))
}

async function textOf(duplex: Readable): Promise<string> {
  return Buffer.concat(await duplex.toArray()).toString()
}

describe('reading', () => {
  test('nothing is read before somebody reads', async () => {
    const [duplex, peer, stream] = await duplexAndPeer(openReactor())
    writeAll(peer, 'hello')
    await quiet()
    expect(stream.bytesRead).toBe(0)
    duplex.setEncoding('utf8')
    expect(await within(onceEvent(duplex, 'data'))).toEqual(['hello'])
    duplex.destroy()
  })

  test('what was drained and not delivered comes first, then what comes', async () => {
    const reactor = openReactor()
    const [stream, peer] = await pair(reactor)
    const chunks = stream.events('data')
    const first = chunks.next()
    writeAll(peer, 'one ')
    expect(String((await within(first)).value)).toBe('one ')
    writeAll(peer, 'two ')
    await until(() => stream.bytesRead === 8)
    await chunks.return(undefined)
    expect(stream.bytesRead).toBe(4)
    const duplex = toDuplex(stream)
    writeAll(peer, 'three')
    peer.close()
    expect(await within(textOf(duplex))).toBe('two three')
  })

  test('a first chunk that was looked at can be put back', async () => {
    const reactor = openReactor()
    const [stream, peer] = await pair(reactor)
    writeAll(peer, 'GET / and more')
    const [bytes] = await within(once(stream, 'data'))
    const duplex = toDuplex(stream)
    duplex.unshift(bytes)
    peer.close()
    expect(await within(textOf(duplex))).toBe('GET / and more')
  })

  test('a reader that takes nothing stops the peer, and loses nothing', async () => {
    const [duplex, peer, stream] = await duplexAndPeer(openReactor())
    duplex.read(0)
    let sent = 0
    for (let turns = 0; turns < 50; turns++) {
      sent += writeAll(peer, MUCH.subarray(sent))
      await quiet()
    }
    expect(sent).toBeLessThan(MUCH.length / 2)
    expect(stream.paused).toBe(true)
    expect(duplex.readableLength).toBeLessThanOrEqual(2 * duplex.readableHighWaterMark)
    const read: Buffer[] = []
    duplex.on('data', (bytes: Buffer) => read.push(bytes))
    while (sent < MUCH.length) {
      sent += writeAll(peer, MUCH.subarray(sent))
      await quiet()
    }
    peer.close()
    await within(onceEvent(duplex, 'end'))
    expect(Buffer.concat(read).equals(MUCH)).toBe(true)
  })
})

describe('writing', () => {
  test('a write is called back when the kernel has taken its bytes, not before', async () => {
    const [duplex, peer, stream] = await duplexAndPeer(openReactor())
    let called = false
    const done = written(duplex, MUCH).finally(() => (called = true))
    await quiet()
    expect(called).toBe(false)
    expect(stream.bytesWritten).toBeLessThan(MUCH.length)
    const read: Buffer[] = []
    await until(() => {
      const bytes = readNow(peer)
      if (bytes !== undefined) read.push(bytes)
      return called
    })
    expect(await done).toBe(null)
    expect(stream.bytesWritten).toBe(MUCH.length)
    read.push(readNow(peer) ?? Buffer.alloc(0))
    expect(Buffer.concat(read).equals(MUCH)).toBe(true)
    duplex.destroy()
  })

  test('little that waits is called back as well, below the mark of the stream', async () => {
    const [duplex, peer, stream] = await duplexAndPeer(openReactor())
    let filled = 0
    while (stream.writableLength === 0) {
      stream.write(MUCH, 0, 1000)
      filled += 1000
    }
    let called = false
    const done = written(duplex, 'little').finally(() => (called = true))
    await quiet()
    expect(called).toBe(false)
    let read = 0
    await until(() => (read += readNow(peer)?.length ?? 0) > filled)
    expect(await within(done)).toBe(null)
    duplex.destroy()
  })

  test('what is written at once leaves in one piece', async () => {
    const [duplex, peer, stream] = await duplexAndPeer(openReactor())
    const write = vi.spyOn(stream, 'write')
    duplex.cork()
    for (let n = 0; n < 100; n++) duplex.write(`${n} `)
    duplex.uncork()
    expect(write).toHaveBeenCalledOnce()
    expect(String(readNow(peer))).toBe(Array.from({ length: 100 }, (_, n) => `${n} `).join(''))
    duplex.destroy()
  })

  test('a peer that is gone is EPIPE: the callback hears of it, then error and close, once each', async () => {
    const [duplex, peer] = await duplexAndPeer(openReactor())
    const told = record(duplex)
    peer.close()
    const error = await within(written(duplex, 'anybody?'))
    expect(error?.message).toMatch(/^EPIPE: broken pipe, send 'UnixStream \d+'$/)
    await until(() => duplex.closed)
    duplex.destroy(new Error('too late'))
    await quiet()
    expect(told).toEqual(['error EPIPE', 'close'])
  })

  test("a peer's last words are heard before the error of what it did not read", async () => {
    const [duplex, peer, stream] = await duplexAndPeer(openReactor())
    const told = record(duplex)
    duplex.on('data', (bytes) => told.push(String(bytes)))
    const callback = written(duplex, MUCH)
    await quiet()
    writeAll(peer, 'that is too much')
    peer.close()
    expect(errorCode(await within(callback))).toBe('EPIPE')
    await until(() => told.includes('close'))
    expect(told).toEqual(['that is too much', 'error EPIPE', 'close'])
    expect(stream.closed).toBe(true)
  })

  test('a peer that shuts both sides is heard to the end; what it did not read is called back as lost', async () => {
    const [duplex, peer, stream] = await duplexAndPeer(openReactor())
    const told = record(duplex)
    const callback = written(duplex, MUCH)
    writeAll(peer, 'that is too much')
    socket.shutdownRead(peer.fd)
    socket.shutdownWrite(peer.fd)
    await quiet()
    const words = duplex.iterator({ destroyOnReturn: false }).next()
    expect(String((await within(words)).value)).toBe('that is too much')
    duplex.resume()
    expect((await within(callback))?.message).toMatch(/^UnixStream \d+ was closed before all was sent$/)
    await until(() => told.includes('close'))
    expect(told).toEqual(['end', 'close'])
    expect(stream.closed).toBe(true)
  })

  test('after the end of a peer that has closed, a write is EPIPE', async () => {
    const [duplex, peer, stream] = await duplexAndPeer(openReactor(), { allowHalfOpen: true })
    const told = record(duplex)
    duplex.resume()
    peer.close()
    await until(() => stream.closed)
    await quiet()
    expect(told).toEqual(['end'])
    expect(errorCode(await written(duplex, 'anybody?'))).toBe('EPIPE')
    await quiet()
    expect(told).toEqual(['end', 'error EPIPE', 'close'])
  })

  test('destroy() calls the write that is under way back with the reason', async () => {
    const [duplex, , stream] = await duplexAndPeer(openReactor())
    const told = record(duplex)
    const first = written(duplex, MUCH)
    const second = written(duplex, 'never sent')
    duplex.destroy()
    expect((await first)?.message).toMatch(/^UnixStream \d+ was closed before all was sent$/)
    expect(errorCode(await second)).toBe('ERR_CLOSED')
    expect(stream.closed).toBe(true)
    await quiet()
    expect(told).toEqual(['close'])
  })
})

describe('the ends', () => {
  test('end() shuts the writing side; the peer may go on', async () => {
    const [duplex, peer, stream] = await duplexAndPeer(openReactor())
    const told = record(duplex)
    duplex.end('bye')
    await until(() => told.includes('finish'))
    expect(String(readNow(peer))).toBe('bye')
    expect(readNow(peer)).toHaveLength(0)
    expect(stream.closed).toBe(false)
    writeAll(peer, 'one more thing')
    peer.close()
    expect(await within(textOf(duplex))).toBe('one more thing')
    await until(() => duplex.closed)
    expect(told).toEqual(['finish', 'end', 'close'])
    expect(stream.closed).toBe(true)
  })

  test.each([
    { allowHalfOpen: false, reply: '' },
    { allowHalfOpen: true, reply: 'much later' },
  ])("the peer's end, with allowHalfOpen: $allowHalfOpen", async ({ allowHalfOpen, reply }) => {
    const reactor = openReactor()
    const [duplex, other] = await duplexPair(reactor, { allowHalfOpen })
    other.end('question')
    expect(await within(onceEvent(duplex.setEncoding('utf8'), 'data'))).toEqual(['question'])
    await within(onceEvent(duplex, 'end'))
    await quiet()
    expect(duplex.writable).toBe(allowHalfOpen)
    if (allowHalfOpen) duplex.end(reply)
    expect(await within(textOf(other))).toBe(reply)
    await until(() => duplex.closed && other.closed)
  })

  test('what was written before the end of the peer is still sent', async () => {
    const reactor = openReactor()
    const [duplex, other] = await duplexPair(reactor)
    duplex.resume()
    duplex.write(MUCH)
    other.end()
    await within(onceEvent(duplex, 'end'))
    const read = Buffer.concat(await within(other.toArray()))
    expect(read.equals(MUCH)).toBe(true)
    await within(finished(duplex))
  })

  test('a stream whose writing side was ended is a duplex that only reads', async () => {
    const [stream, peer] = await pair(openReactor(), { allowHalfOpen: true })
    stream.end('bye')
    const duplex = toDuplex(stream)
    expect(duplex.writable).toBe(false)
    await quiet()
    expect(String(readNow(peer))).toBe('bye')
    writeAll(peer, 'still here')
    peer.close()
    expect(await within(textOf(duplex))).toBe('still here')
    await until(() => duplex.closed)
  })

  test('a stream whose reading side has ended is a duplex that only writes', async () => {
    const [stream, peer] = await pair(openReactor(), { allowHalfOpen: true })
    const told = once(stream, 'end')
    const listener = (): void => undefined
    stream.on('data', listener)
    socket.shutdownWrite(peer.fd)
    await within(told)
    stream.off('data', listener)
    const duplex = toDuplex(stream)
    await within(onceEvent(duplex.resume(), 'end'))
    expect(await written(duplex, 'still here')).toBe(null)
    expect(String(readNow(peer))).toBe('still here')
    duplex.end()
    await until(() => duplex.closed)
  })

  test('destroySoon() waits for what was written', async () => {
    const [duplex, other] = await duplexPair(openReactor())
    duplex.write(MUCH)
    duplex.destroySoon()
    expect(Buffer.concat(await within(other.toArray())).equals(MUCH)).toBe(true)
    await until(() => duplex.closed)
    duplex.destroySoon()
  })

  test('closing the stream or its reactor closes the duplex', async () => {
    const reactor = openReactor()
    const [one, , stream] = await duplexAndPeer(reactor)
    const [two] = await duplexAndPeer(reactor)
    const told = record(one)
    stream.close()
    await until(() => told.length > 0)
    reactor.close()
    await until(() => two.closed)
    expect(told).toEqual(['close'])
  })
})

describe('what http and others use of a net.Socket', () => {
  test("'timeout' comes after silence only, closes nothing, and 0 ends it", async () => {
    const [duplex, peer, stream] = await duplexAndPeer(openReactor())
    const told = record(duplex)
    duplex.resume()
    duplex.setTimeout(200)
    const begun = performance.now()
    for (let n = 0; n < 6; n++) {
      writeAll(peer, 'x')
      await until(() => stream.bytesRead === n + 1)
      await delay(50)
    }
    expect(told).toEqual([])
    await within(onceEvent(duplex, 'timeout'))
    expect(performance.now() - begun).toBeGreaterThanOrEqual(449)
    expect(duplex.destroyed).toBe(false)
    const listener = vi.fn()
    duplex.setTimeout(20, listener)
    await until(() => listener.mock.calls.length === 1)
    duplex.setTimeout(20, listener).setTimeout(0, listener)
    await delay(60)
    expect(listener).toHaveBeenCalledOnce()
    expect(told).toEqual(['timeout', 'timeout'])
    duplex.destroy()
  })

  test('a write that goes on slowly is not silence', async () => {
    const [duplex, peer] = await duplexAndPeer(openReactor())
    const told = record(duplex)
    duplex.setTimeout(100)
    const done = written(duplex, MUCH)
    while (duplex.writableLength > 0) {
      readNow(peer, 400_000)
      await delay(30)
    }
    expect(await done).toBe(null)
    expect(told).toEqual([])
    duplex.destroy()
  })

  test("the stream's own idleTimeout is the duplex's: an event, or without a listener the end", async () => {
    const reactor = openReactor()
    const [heard] = await duplexAndPeer(reactor, { idleTimeout: ms(20) })
    const [unheard] = await duplexAndPeer(reactor, { idleTimeout: ms(20) })
    await within(Promise.all([onceEvent(heard, 'timeout'), onceEvent(unheard, 'close')]))
    expect(heard.destroyed).toBe(false)
    heard.destroy()
  })

  test('ref() and unref() are those of the stream, and after the end nothing', async () => {
    const [duplex, , stream] = await duplexAndPeer(openReactor())
    expect(duplex.unref().setNoDelay().setKeepAlive()).toBe(duplex)
    expect(stream.stats.ref).toBe(false)
    duplex.ref()
    expect(stream.stats.ref).toBe(true)
    duplex.destroy()
    expect(duplex.ref().unref().setTimeout(1000)).toBe(duplex)
  })

  test('counts what moved', async () => {
    const [duplex, peer] = await duplexAndPeer(openReactor())
    writeAll(peer, 'four')
    await within(onceEvent(duplex, 'data'))
    await written(duplex, 'sixsix')
    expect([duplex.bytesRead, duplex.bytesWritten]).toEqual([4, 6])
    duplex.destroy()
  })
})

describe('misuse', () => {
  test('a stream that somebody reads, that has a duplex, that borrows or is closed is refused', async () => {
    const reactor = openReactor()
    const [stream] = await pair(reactor)
    const listener = (): void => undefined
    stream.on('data', listener)
    const twoWays =
      /^toDuplex\(\): UnixStream \d+ has a 'data' listener, so its bytes would go two ways\. Remove it first; a stream has one duplex$/
    expect(() => toDuplex(stream)).toThrow(
      expect.objectContaining({ name: 'TypeError', message: expect.stringMatching(twoWays) }),
    )
    stream.off('data', listener)
    toDuplex(stream)
    expect(() => toDuplex(stream)).toThrow(twoWays)
    const [borrowing] = await pair(reactor, { borrow: true })
    // @ts-expect-error: the compiler says so, too
    expect(() => toDuplex(borrowing)).toThrow(
      /^toDuplex\(\): UnixStream \d+ lends its bytes, and Node keeps them\. Make it without the option 'borrow'$/,
    )
    stream.destroy()
    expect(thrownBy(() => toDuplex(stream))).toMatchObject({
      code: 'ERR_CLOSED',
      message: expect.stringMatching(/^UnixStream \d+ is closed$/),
    })
  })

  test('who ends the stream itself fails the next write, and knows why', async () => {
    const [duplex, , stream] = await duplexAndPeer(openReactor())
    const told = record(duplex)
    stream.end()
    expect((await written(duplex, 'x'))?.message).toMatch(/^UnixStream \d+: write\(\) after end\(\)$/)
    await until(() => duplex.closed)
    expect(told).toEqual(['error ERR_STREAM_ENDED', 'close'])
  })
})

describe("Node's own", () => {
  test.each(wakeups)("stream.pipeline: file → duplex → echo → sha256, wakeup '%s'", async (wakeup) => {
    const reactor = openReactor({ wakeup })
    const path = socketPath()
    const bytes = Buffer.concat([MUCH, MUCH, MUCH])
    writeFileSync(`${path}.file`, bytes)
    const listener = UnixListener.listen(reactor, path, { allowHalfOpen: true })
    const echoes = once(listener, 'connection').then(async ([stream]) => {
      const duplex = toDuplex(stream)
      await pipeline(duplex, duplex)
    })
    const duplex = toDuplex(await UnixStream.connect(reactor, path, { allowHalfOpen: true }))
    const hash = createHash('sha256')
    await within(
      Promise.all([pipeline(createReadStream(`${path}.file`), duplex), pipeline(duplex, hash), echoes]),
      'the file',
      15_000,
    )
    expect(hash.digest('hex')).toBe(createHash('sha256').update(bytes).digest('hex'))
    listener.close()
  })

  test('readline: questions and answers, line by line', async () => {
    const [server, client] = await duplexPair(openReactor())
    const questions = createInterface(server)
    questions.on('line', (line) => server.write(`${line.toUpperCase()}\n`))
    const answers: string[] = []
    client.write('one\ntwo\nthr')
    client.write('ee\n')
    for await (const line of createInterface(client)) {
      answers.push(line)
      if (answers.length === 3) break
    }
    expect(answers).toEqual(['ONE', 'TWO', 'THREE'])
    client.destroy()
    await until(() => server.closed)
  })

  test('Duplex.toWeb, in both directions at once', async () => {
    const [one, other] = await duplexPair(openReactor(), { allowHalfOpen: true })
    other.pipe(other)
    const { readable, writable } = Duplex.toWeb(one)
    const chunks: AsyncIterable<Uint8Array> = readable
    const writer = writable.getWriter()
    const sent = (async () => {
      for (let at = 0; at < MUCH.length; at += 100_000) await writer.write(MUCH.subarray(at, at + 100_000))
      await writer.close()
    })()
    const read: Uint8Array[] = []
    for await (const bytes of chunks) read.push(bytes)
    await within(sent)
    expect(Buffer.concat(read).equals(MUCH)).toBe(true)
    await until(() => one.closed && other.closed)
  })

  test('Readable.toWeb stops the peer while nobody reads', async () => {
    const [duplex, peer, stream] = await duplexAndPeer(openReactor())
    duplex.end()
    const reader: ReadableStreamDefaultReader<Uint8Array> = Readable.toWeb(duplex).getReader()
    writeAll(peer, MUCH)
    await quiet()
    expect(stream.bytesRead).toBeLessThan(MUCH.length / 4)
    const rest = readNow(peer)
    expect(rest).toHaveLength(0)
    peer.close()
    let length = 0
    for (let chunk = await reader.read(); !chunk.done; chunk = await reader.read())
      length += chunk.value.length
    expect(length).toBe(stream.bytesRead)
    await until(() => duplex.closed)
  })
})

test('whatever is written, however it is cut and read, arrives once and in order', async () => {
  const size = fc.oneof(
    fc.integer({ min: 1, max: 50 }),
    fc.integer({ min: 60_000, max: 70_000 }),
    fc.constant(300_000),
  )
  const pause = fc.constantFrom('none', 'tick', 'turn', 'cork')
  const writes = fc.array(fc.record({ size, pause }), { maxLength: 20 })
  const reads = fc.array(fc.constantFrom('none', 'tick', 'turn', 'pause'), { minLength: 1, maxLength: 10 })
  const seed = Number(process.env['FD_REACTOR_SEED'] ?? 20_261_121)
  console.log(`duplex: seed ${seed} (set FD_REACTOR_SEED to repeat)`)
  const rest = async (how: string): Promise<void> => {
    if (how === 'tick') await Promise.resolve()
    if (how === 'turn' || how === 'pause') await new Promise((resolve) => setImmediate(resolve))
  }
  const reactor = openReactor()
  const source = pattern(21 * 300_000)

  const send = async (duplex: Duplex, steps: { size: number; pause: string }[]): Promise<number> => {
    let at = 0
    for (const { size, pause } of steps) {
      if (pause === 'cork') {
        duplex.cork()
        process.nextTick(() => duplex.uncork())
      }
      const room = duplex.write(source.subarray(at, (at += size)))
      await rest(pause)
      if (!room && at % 2 === 0 && duplex.writableNeedDrain) await onceEvent(duplex, 'drain')
    }
    duplex.end()
    return at
  }
  const receive = async (duplex: Duplex, steps: string[]): Promise<Buffer> => {
    const read: Buffer[] = []
    duplex.on('data', (bytes: Buffer) => {
      const how = steps[read.push(bytes) % steps.length] ?? 'none'
      if (how === 'none') return
      duplex.pause()
      void rest(how).then(() => duplex.resume())
    })
    await onceEvent(duplex, 'end')
    return Buffer.concat(read)
  }

  await fc.assert(
    fc.asyncProperty(writes, writes, reads, reads, async (there, back, readsThere, readsBack) => {
      const [one, other] = await duplexPair(reactor, { allowHalfOpen: true })
      const [sentThere, sentBack, cameThere, cameBack] = await within(
        Promise.all([
          send(one, there),
          send(other, back),
          receive(other, readsThere),
          receive(one, readsBack),
        ]),
      )
      expect(cameThere.equals(source.subarray(0, sentThere))).toBe(true)
      expect(cameBack.equals(source.subarray(0, sentBack))).toBe(true)
      await until(() => one.closed && other.closed)
    }),
    { seed, numRuns: 100 },
  )
})
