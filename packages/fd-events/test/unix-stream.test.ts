import { execFileSync, spawnSync } from 'node:child_process'
import { once as onceEvent } from 'node:events'
import { readFileSync } from 'node:fs'
import { once, type FdHandle, type Reactor } from '@fd-reactor/core'
import { socket } from '@fd-reactor/core/sys'
import { UnixListener, UnixStream, type Borrow } from '@fd-reactor/fd-events'
import { describe, expect, test, vi } from 'vitest'
import { runScript, withoutLeakCheck } from '../../core/test/support/child.js'
import { assertNoLeakedFds, countFds } from '../../core/test/support/fds.js'
import { openManual, openReactor, settle, socketPath, streamPair } from '../../core/test/support/reactors.js'
import { cpuMsDuring, until, within } from '../../core/test/support/wait.js'
import { netClient, pair, quiet, readNow, thrownBy, writeAll } from './unix-helpers.js'

assertNoLeakedFds()

/** A stream of a manual reactor with its raw peer. */
async function manualPair(
  options: Parameters<typeof pair>[1] = {},
): Promise<[Reactor, UnixStream, FdHandle]> {
  const reactor = openManual()
  const timer = setInterval(() => reactor.dispatch())
  const [stream, peer] = await pair(reactor, options).finally(() => {
    clearInterval(timer)
  })
  return [reactor, stream, peer]
}

/** Everything that a stream tells, as text. */
function record(stream: UnixStream): string[] {
  const told: string[] = []
  stream.on('data', (bytes) => told.push(`data ${String(bytes)}`))
  stream.on('end', () => told.push('end'))
  stream.on('drain', () => told.push('drain'))
  stream.on('timeout', () => told.push('timeout'))
  stream.on('error', (error) => told.push(`error ${'code' in error ? String(error.code) : error.message}`))
  stream.on('close', () => told.push('close'))
  return told
}

/** More than a socket's buffers hold. */
const MUCH = Buffer.alloc(4 << 20, 'much')

/** Reads all that there is while the reactor goes on writing. */
function readAll(reactor: Reactor, peer: FdHandle): { bytes: Buffer; ended: boolean } {
  const chunks: Buffer[] = []
  for (let idle = 0; idle < 3;) {
    const bytes = readNow(peer)
    if (bytes?.length === 0) return { bytes: Buffer.concat(chunks), ended: true }
    if (bytes === undefined) idle++
    else chunks.push(bytes)
    if (reactor.dispatch() > 0) idle = 0
  }
  return { bytes: Buffer.concat(chunks), ended: false }
}

describe('reading', () => {
  test('waits for a listener, so that nothing is lost, and comes in order', async () => {
    const [reactor, stream, peer] = await manualPair()
    writeAll(peer, 'one')
    settle(reactor)
    writeAll(peer, ' two')
    expect(stream.bytesRead).toBe(0)
    const told = record(stream)
    settle(reactor)
    expect(told.join('').replaceAll('data ', '')).toBe('one two')
    expect(stream.bytesRead).toBe(7)
  })

  test('stops with pause() and with the last listener, and goes on with resume() and the next', async () => {
    const [reactor, stream, peer] = await manualPair()
    const texts: string[] = []
    const listener = (bytes: Buffer): void => void texts.push(String(bytes))
    stream.on('data', listener)
    stream.pause()
    writeAll(peer, 'a')
    settle(reactor)
    expect(texts).toEqual([])
    stream.resume()
    settle(reactor)
    expect(texts).toEqual(['a'])
    stream.off('data', listener)
    writeAll(peer, 'b')
    settle(reactor)
    expect(texts).toEqual(['a'])
    stream.on('data', listener)
    settle(reactor)
    expect(texts).toEqual(['a', 'b'])
  })

  test('the end waits behind what a pause held back', async () => {
    const reactor = openManual()
    const [one, two] = await streamPair(reactor)
    const [three, four] = await streamPair(reactor)
    const told = [record(one), record(three)]
    // Both are drained in one batch; the first one to be told pauses the other.
    one.once('data', () => three.pause())
    three.once('data', () => one.pause())
    two.end('x')
    four.end('x')
    settle(reactor)
    expect(told.flat().filter((line) => line === 'data x')).toHaveLength(1)
    one.resume()
    three.resume()
    settle(reactor)
    expect(told).toEqual([
      ['data x', 'end', 'close'],
      ['data x', 'end', 'close'],
    ])
  })

  test('a pause inside the handler that reads holds back the rest', async () => {
    const [reactor, stream, peer] = await manualPair()
    let read = 0
    stream.on('data', (bytes) => {
      read += bytes.length
      stream.pause()
    })
    const sent = writeAll(peer, MUCH)
    settle(reactor)
    expect(read).toBeLessThan(sent)
    const before = read
    settle(reactor)
    expect(read).toBe(before)
    for (let rounds = 0; rounds < 1000 && read < sent; rounds++) {
      stream.resume()
      settle(reactor)
    }
    expect(read).toBe(sent)
  })

  test('all bytes come before the end, however many they are', async () => {
    const [reactor, stream, peer] = await manualPair({ receiveBuffer: 1 << 20 })
    const sent = writeAll(peer, MUCH)
    peer.close()
    let read = 0
    let readAtEnd = -1
    stream.on('data', (bytes) => (read += bytes.length))
    stream.on('end', () => (readAtEnd = read))
    settle(reactor)
    expect(readAtEnd).toBe(sent)
    expect(stream.closed).toBe(true)
  })

  test('the default Buffer may be kept', async () => {
    const [reactor, stream, peer] = await manualPair()
    const kept: Buffer[] = []
    stream.on('data', (bytes) => kept.push(bytes))
    for (const text of ['first', 'second', 'third']) {
      writeAll(peer, text)
      settle(reactor)
    }
    expect(kept.map(String)).toEqual(['first', 'second', 'third'])
  })

  test('borrow: true gives a view of memory that the next batch writes over', async () => {
    const reactor = openReactor()
    const [stream, peer] = await pair(reactor, { borrow: true })
    const seen: string[] = []
    const kept: Buffer[] = []
    stream.on('data', (view) => {
      seen.push(String(view))
      kept.push(view)
    })
    for (const text of ['first', 'other']) {
      writeAll(peer, text)
      await until(() => seen.at(-1) === text)
    }
    expect(seen).toEqual(['first', 'other'])
    expect(String(kept[0])).toBe('other')
  })

  test("borrow: 'offsets' gives slab, offset and length", async () => {
    const reactor = openReactor()
    const [stream, peer] = await pair(reactor, { borrow: 'offsets' })
    const seen: string[] = []
    stream.on('data', (slab, offset, length) => seen.push(slab.toString('latin1', offset, offset + length)))
    for (const text of ['first', 'other']) {
      writeAll(peer, text)
      await until(() => seen.at(-1) === text)
    }
    expect(seen).toEqual(['first', 'other'])
  })

  test.each([false, true, 'offsets'] as const)(
    'what was kept by a pause comes in the same form (borrow: %j)',
    async (borrow) => {
      const reactor = openManual()
      const listener = UnixListener.listen<Borrow>(reactor, socketPath(), { borrow })
      const streams: UnixStream<Borrow>[] = []
      const texts: string[] = []
      listener.on('connection', (stream) => {
        streams.push(stream)
        stream.on('data', (bytes: Buffer, offset = 0, length = bytes.length) => {
          texts.push(bytes.toString('latin1', offset, offset + length))
          for (const each of streams) each.pause()
        })
      })
      const clients = await Promise.all([1, 2, 3].map(() => UnixStream.connect(reactor, listener.path)))
      settle(reactor)
      clients.forEach((client, index) => client.write(`text ${index}`))
      settle(reactor)
      expect(texts).toHaveLength(1)
      for (let n = 0; n < 3; n++) {
        for (const each of streams) each.resume()
        settle(reactor)
      }
      expect(texts.sort()).toEqual(['text 0', 'text 1', 'text 2'])
    },
  )

  test('for await gives all bytes until the peer ends', async () => {
    const reactor = openReactor()
    const [stream, peer] = await pair(reactor)
    const sent = Buffer.from(Array.from({ length: 5000 }, (_, n) => `${n},`).join(''))
    let at = 0
    const chunks: Buffer[] = []
    const feed = setInterval(() => {
      at += writeAll(peer, sent.subarray(at, at + 997))
      if (at === sent.length) peer.close()
    })
    for await (const bytes of stream) chunks.push(bytes)
    clearInterval(feed)
    expect(Buffer.concat(chunks).equals(sent)).toBe(true)
  })

  test('a slow for await holds the peer back instead of buffering without bound', async () => {
    const reactor = openReactor()
    const [stream, peer] = await pair(reactor)
    const iterator = stream[Symbol.asyncIterator]()
    writeAll(peer, 'go')
    await within(iterator.next())
    let sent = 2
    for (let rounds = 0; rounds < 200; rounds++) {
      sent += writeAll(peer, MUCH)
      await quiet()
    }
    expect(stream.bytesRead).toBeLessThan(16 * 65_536 + 3)
    expect(sent).toBeLessThan(4 << 20)
    await iterator.return(undefined)
  })

  test('leaving a for await leaves the bytes that it has not given to the next reader', async () => {
    const reactor = openReactor()
    const [stream, peer] = await pair(reactor)
    let text = ''
    for (const word of ['header ', 'body ', 'trailer']) {
      writeAll(peer, word)
      if (word === 'header ') continue
    }
    for await (const bytes of stream) {
      text += String(bytes)
      for (let n = 0; n < 5; n++) {
        writeAll(peer, `${n}`)
        await quiet() // each is read, and buffered, by now
      }
      break
    }
    peer.close()
    for await (const bytes of stream) text += String(bytes)
    expect(text).toBe('header body trailer01234')
  })

  test('a loop that is left after the end leaves its bytes to the next one, also when the stream has closed', async () => {
    for (const allowHalfOpen of [false, true]) {
      const reactor = openReactor()
      const [stream, peer] = await pair(reactor, { allowHalfOpen })
      writeAll(peer, 'one ')
      let text = ''
      for await (const bytes of stream) {
        text += String(bytes)
        for (const word of ['two ', 'three']) {
          writeAll(peer, word)
          await quiet()
        }
        peer.close()
        await until(() => stream.readableEnded)
        break
      }
      for await (const bytes of stream) text += String(bytes)
      expect(text).toBe('one two three')
      stream.close()
    }
  })

  test('detach() inside of a loop hands over what the loop has buffered', async () => {
    const reactor = openReactor()
    const [stream, peer] = await pair(reactor)
    writeAll(peer, 'head')
    for await (const head of stream) {
      expect(String(head)).toBe('head')
      for (const word of ['one ', 'two']) {
        writeAll(peer, word)
        await quiet()
      }
      const { handle, unread } = stream.detach()
      expect(String(unread)).toBe('one two')
      handle.close()
    }
  })

  test('a listener beside a loop hears nothing twice when the loop is left', async () => {
    const reactor = openReactor()
    const [stream, peer] = await pair(reactor)
    let heard = ''
    stream.on('data', (bytes) => (heard += String(bytes)))
    writeAll(peer, '1')
    for await (const _ of stream) {
      writeAll(peer, '2')
      await quiet()
      break
    }
    writeAll(peer, '3')
    await until(() => heard.endsWith('3'))
    expect(heard).toBe('123')
  })

  test('for await throws what the stream reports', async () => {
    const reactor = openReactor()
    const [stream, peer] = await pair(reactor)
    stream.write('never read')
    const reading = (async () => {
      for await (const _ of stream);
    })()
    await quiet()
    peer.close()
    await expect(within(reading)).rejects.toMatchObject({ code: 'ECONNRESET' })
  })

  test('once() gives one chunk and leaves the next ones', async () => {
    const reactor = openReactor()
    const [stream, peer] = await pair(reactor)
    writeAll(peer, 'a')
    expect(String((await within(once(stream, 'data')))[0])).toBe('a')
    writeAll(peer, 'b')
    await quiet()
    expect(stream.bytesRead).toBe(1)
    expect(String((await within(once(stream, 'data')))[0])).toBe('b')
    const { signal } = new AbortController()
    await expect(
      once(stream, 'data', { signal: AbortSignal.any([signal, AbortSignal.abort(new Error('no'))]) }),
    ).rejects.toThrow('no')
  })
})

describe('writing', () => {
  test('outside of handlers goes at once', async () => {
    const [, stream, peer] = await manualPair()
    stream.write('now')
    expect(String(readNow(peer))).toBe('now')
    expect([stream.bytesWritten, stream.writableLength]).toEqual([3, 0])
  })

  test('inside a handler leaves when it returns, in one piece', async () => {
    const [reactor, stream, peer] = await manualPair()
    let during: Buffer | undefined
    stream.on('data', () => {
      for (let n = 0; n < 100; n++) stream.write(`${n} `)
      during = readNow(peer)
    })
    writeAll(peer, '?')
    reactor.dispatch()
    expect(during).toBeUndefined()
    expect(String(readNow(peer))).toBe(Array.from({ length: 100 }, (_, n) => `${n} `).join(''))
  })

  test("inside another source's handler and in defer() leaves in one piece too", async () => {
    const [reactor, stream, peer] = await manualPair()
    const [other, far] = await streamPair(reactor)
    const seen: (Buffer | undefined)[] = []
    other.on('data', () => {
      stream.write('a')
      stream.write('b')
      seen.push(readNow(peer))
    })
    far.write('?')
    settle(reactor)
    expect([seen, String(readNow(peer))]).toEqual([[undefined], 'ab'])
    reactor.defer(() => {
      stream.write('c')
      stream.write('d')
      seen.push(readNow(peer))
    })
    reactor.dispatch()
    expect([seen, String(readNow(peer))]).toEqual([[undefined, undefined], 'cd'])
  })

  test('100 writes of each of 20 handlers are 20 system calls', async ({ skip }) => {
    skip(spawnSync('strace', ['-V']).status !== 0, 'strace is not installed')
    const { stdout, stderr, code } = await runScript(
      `const reactor = new Reactor()
       const listener = UnixListener.listen(reactor, process.argv[1])
       listener.on('connection', (stream) => stream.on('data', () => { for (let n = 0; n < 100; n++) stream.write('word ') }))
       const client = await UnixStream.connect(reactor, process.argv[1])
       let rounds = 0, read = 0
       client.on('data', (bytes) => {
         read += bytes.length
         if (read < 500 * (rounds + 1)) return
         if (++rounds === 20) return reactor.stop()
         client.write('?')
       })
       client.write('?')
       process.exitCode = await reactor.run()
       console.log(read)`,
      {
        args: [socketPath()],
        under: ['strace', '-f', '-qq', '-e', 'trace=sendto,sendmsg'],
        timeoutMs: 30_000,
        env: withoutLeakCheck,
      },
    )
    expect({ code, stdout }).toEqual({ code: 0, stdout: '10000\n' })
    const sends = stderr.split('\n').filter((line) => line.includes('"word '))
    expect(sends).toHaveLength(20)
    expect(stderr.split('\n').filter((line) => line.includes('"?"'))).toHaveLength(20)
  })

  test('a writer may use its memory again as soon as write() or its handler returns', async () => {
    const [reactor, stream, peer] = await manualPair({ highWaterMark: 1 << 30 })
    const memory = Buffer.alloc(100_000)
    let written = 0
    const fill = (): void => {
      stream.write(memory.fill(written++ % 251))
      for (let n = 0; n < 4; n++) stream.write(Buffer.alloc(n % 2 === 0 ? 10 : 30_000, written++ % 251))
    }
    stream.on('data', fill)
    for (let rounds = 0; rounds < 10; rounds++) {
      writeAll(peer, '?')
      reactor.dispatch()
      memory.fill(255)
      stream.write(memory.subarray(0, 7).fill(written++ % 251))
      memory.fill(255)
    }
    const { bytes } = readAll(reactor, peer)
    const runs: number[] = []
    for (const byte of bytes) if (runs.at(-1) !== byte) runs.push(byte)
    expect(runs).toEqual(Array.from({ length: written }, (_, n) => n))
    expect(bytes).toHaveLength(stream.bytesWritten)
  })

  test.each([true, 'offsets'] as const)(
    'borrowed bytes may be written (borrow: %j), also when they have to wait',
    async (borrow) => {
      const reactor = openManual()
      const listener = UnixListener.listen<true | 'offsets'>(reactor, socketPath(), {
        borrow,
        sendBuffer: 4096,
      })
      listener.on('connection', (stream) => {
        stream.on('data', (bytes: Buffer, offset = 0, length = bytes.length) =>
          stream.write(bytes, offset, length),
        )
      })
      const client = await UnixStream.connect(reactor, listener.path)
      const sent = Buffer.from(Uint32Array.from({ length: 1 << 18 }, (_, n) => n).buffer)
      client.write(sent)
      const chunks: Buffer[] = []
      for (let rounds = 0; rounds < 20; rounds++) reactor.dispatch() // the echo backs up
      client.on('data', (bytes) => chunks.push(bytes))
      settle(reactor, 100_000)
      expect(Buffer.concat(chunks).equals(sent)).toBe(true)
    },
  )

  test('says false above the high-water mark, and drain when all is gone', async () => {
    const [reactor, stream, peer] = await manualPair({ highWaterMark: 1000 })
    const told = record(stream)
    expect(stream.write(MUCH)).toBe(false)
    expect(stream.writableLength).toBe(MUCH.length - stream.bytesWritten)
    settle(reactor)
    expect(told).toEqual([])
    const { bytes } = readAll(reactor, peer)
    expect(bytes.equals(MUCH)).toBe(true)
    expect(told).toEqual(['drain'])
    expect(stream.write('small')).toBe(true)
    expect(String(readAll(reactor, peer).bytes)).toBe('small')
    expect(told).toEqual(['drain'])
  })

  test('inside a handler says false too, and drain comes although nothing had to wait', async () => {
    const [reactor, stream, peer] = await manualPair({ highWaterMark: 10 })
    const told = record(stream)
    const answers: boolean[] = []
    stream.on('data', () => answers.push(stream.write('12345'), stream.write('12345'), stream.write('1')))
    writeAll(peer, '?')
    settle(reactor)
    expect(answers).toEqual([true, true, false])
    expect(told).toEqual(['data ?', 'drain'])
  })

  test('a writer that goes on at every drain does not keep the loop from others', async () => {
    const [reactor, stream] = await manualPair({ highWaterMark: 0 })
    let drains = 0
    stream.on('drain', () => {
      drains++
      expect(stream.write('x')).toBe(false)
    })
    reactor.defer(() => stream.write('x'))
    for (let batches = 0; batches < 20; batches++) {
      reactor.dispatch()
      expect(drains).toBeLessThanOrEqual(batches + 1)
    }
    expect(drains).toBeGreaterThan(15)
  })

  test('parts, empty chunks and strings', async () => {
    const [, stream, peer] = await manualPair()
    expect(stream.write('')).toBe(true)
    expect(stream.write(new Uint8Array())).toBe(true)
    stream.write(Buffer.from('abcdef'), 2)
    stream.write(Buffer.from('abcdef'), 1, 2)
    stream.write('äöü')
    stream.write(Buffer.from('abcdef'), 6)
    stream.write(Buffer.from('abcdef'), 3, 0)
    expect(String(readNow(peer))).toBe('cdefbcäöü')
  })

  test('what lies outside of a chunk is refused, never sent', async () => {
    const [reactor, stream, peer] = await manualPair()
    const chunk = Buffer.from('abcdef')
    const wrong = [[7], [-1], [0, 7], [4, 3], [0, -1], [NaN], [0, NaN]] as const
    for (const [offset, length] of wrong)
      expect(() => stream.write(chunk, offset, length)).toThrow(RangeError)
    for (const what of [undefined, null, 5, {}, new DataView(new ArrayBuffer(4)), [1, 2]]) {
      // @ts-expect-error these are not bytes
      expect(() => stream.write(what)).toThrow(TypeError)
    }
    settle(reactor)
    expect(readNow(peer)).toBeUndefined()
    stream.write('fine')
    expect(String(readNow(peer))).toBe('fine')
  })
})

describe('ending', () => {
  test('end() sends what waits, then shuts the writing side only', async () => {
    const [reactor, stream, peer] = await manualPair()
    const told = record(stream)
    stream.write(MUCH)
    stream.end('last')
    stream.end()
    expect(thrownBy(() => stream.write('more'))).toMatchObject({ code: 'ERR_STREAM_ENDED' })
    const { bytes, ended } = readAll(reactor, peer)
    expect(ended).toBe(true)
    expect(bytes).toHaveLength(MUCH.length + 4)
    expect(String(bytes.subarray(-4))).toBe('last')
    writeAll(peer, 'I can still write')
    settle(reactor)
    expect(told).toEqual(['drain', 'data I can still write'])
    peer.close()
    settle(reactor)
    expect(told).toEqual(['drain', 'data I can still write', 'end', 'close'])
  })

  test('end() inside a handler sends what the handler wrote', async () => {
    const [reactor, stream, peer] = await manualPair()
    stream.on('data', () => {
      stream.write('bye')
      stream.end(' now')
    })
    writeAll(peer, '?')
    settle(reactor)
    expect(String(readNow(peer))).toBe('bye now')
    expect(readNow(peer)).toHaveLength(0)
  })

  test('the peer’s end is answered: what waits is flushed, then the stream closes', async () => {
    const reactor = openReactor()
    const listener = UnixListener.listen(reactor, socketPath())
    const client = await netClient(listener.path, { allowHalfOpen: true })
    const [stream] = await within(once(listener, 'connection'))
    stream.write(MUCH)
    const told = record(stream)
    client.end('done')
    await until(() => told.includes('end'))
    expect(told).toEqual(['data done', 'end'])
    let read = 0
    client.on('data', (bytes) => (read += bytes.length))
    await within(onceEvent(client, 'end'))
    await until(() => stream.closed)
    expect(read).toBe(MUCH.length)
    expect(told).toEqual(['data done', 'end', 'close'])
  })

  test('allowHalfOpen leaves the answer to us', async () => {
    const reactor = openReactor()
    const listener = UnixListener.listen(reactor, socketPath(), { allowHalfOpen: true })
    const client = await netClient(listener.path, { allowHalfOpen: true })
    const [stream] = await within(once(listener, 'connection'))
    const told = record(stream)
    client.end('question')
    await until(() => told.includes('end'))
    await quiet()
    expect(stream.closed).toBe(false)
    stream.write('the ')
    stream.end('answer')
    let text = ''
    client.setEncoding('utf8').on('data', (chunk: string) => (text += chunk))
    await within(onceEvent(client, 'end'))
    expect(text).toBe('the answer')
    await until(() => stream.closed)
    expect(told).toEqual(['data question', 'end', 'close'])
  })

  test('a half-open peer costs no processor time, and is not reported twice', async () => {
    const [reactor, stream, peer] = await manualPair({ allowHalfOpen: true })
    const told = record(stream)
    // Node has no shutdown(2) on a raw descriptor: a stream of another reactor does it.
    const other = openManual()
    const far = UnixStream.from(other, peer, { allowHalfOpen: true })
    far.end('half')
    settle(reactor)
    const { batches } = reactor.stats()
    settle(reactor)
    for (let n = 0; n < 10; n++) expect(reactor.dispatch()).toBe(0)
    expect(reactor.stats().batches).toBe(batches)
    expect(told).toEqual(['data half', 'end'])
    expect(stream.write('still')).toBe(true)
    far.on('data', (bytes) => told.push(`far ${String(bytes)}`))
    settle(other)
    expect(told).toEqual(['data half', 'end', 'far still'])
  })

  test("an 'end' listener that throws keeps the stream from nothing: it closes, and does not spin", async () => {
    const errors: unknown[] = []
    const reactor = openManual({ onHandlerError: (error) => void errors.push(error) })
    const [stream, far] = await streamPair(reactor)
    stream.on('data', () => undefined)
    stream.on('end', () => {
      stream.end('bye')
      throw new Error('bad listener')
    })
    far.on('data', () => undefined)
    far.end()
    settle(reactor)
    expect(errors).toEqual([new Error('bad listener')])
    expect([stream.closed, far.closed]).toEqual([true, true])
  })

  test('one that has ended, and that nobody reads, closes when the peer has gone', async () => {
    const reactor = openReactor()
    const [stream, peer] = await pair(reactor)
    const told: string[] = []
    stream.on('end', () => told.push('end')).on('close', () => told.push('close'))
    stream.end('last words')
    expect(String(readNow(peer))).toBe('last words')
    expect(told).toEqual([])
    peer.close()
    await until(() => stream.closed)
    expect(told).toEqual(['end', 'close'])
  })

  test('one that has ended keeps what came for whoever reads it later, and does not spin meanwhile', async () => {
    const reactor = openReactor()
    const [stream, peer] = await pair(reactor)
    stream.end()
    writeAll(peer, 'an answer')
    peer.close()
    await until(() => stream.stats.interest === 0)
    const { batches } = reactor.stats()
    expect(await cpuMsDuring(50)).toBeLessThan(40)
    expect(reactor.stats().batches).toBe(batches)
    const told = record(stream)
    await until(() => stream.closed)
    expect(told).toEqual(['data an answer', 'end', 'close'])
  })

  test('close() gives the kernel what it takes, discards the rest, and waits for nothing', async () => {
    const [reactor, stream, peer] = await manualPair()
    const told = record(stream)
    stream.on('data', () => {
      stream.write('in the handler')
      stream.close()
    })
    writeAll(peer, '?')
    reactor.dispatch()
    expect(told).toEqual(['data ?', 'close'])
    expect(readAll(reactor, peer)).toEqual({ bytes: Buffer.from('in the handler'), ended: true })

    const [, full, far] = await manualPair()
    full.write(MUCH)
    const taken = full.bytesWritten
    full.close()
    full.close()
    expect(full.closed).toBe(true)
    expect(readAll(reactor, far).bytes).toHaveLength(taken)
  })

  test('destroy() discards what waits', async () => {
    const [reactor, stream, peer] = await manualPair()
    const told = record(stream)
    stream.on('data', () => {
      stream.write('never')
      stream.destroy()
      stream.destroy()
    })
    writeAll(peer, '?')
    settle(reactor)
    expect(told).toEqual(['data ?', 'close'])
    expect(readAll(reactor, peer)).toEqual({ bytes: Buffer.alloc(0), ended: true })
    expect(thrownBy(() => stream.write('x'))).toMatchObject({ code: 'ERR_CLOSED' })
    expect(thrownBy(() => stream.detach())).toMatchObject({ code: 'ERR_CLOSED' })
    stream.end()
  })

  test('closing another stream in a handler ends it at once, for the same batch too', async () => {
    const reactor = openManual()
    const [one, two] = await streamPair(reactor)
    const [three, four] = await streamPair(reactor)
    let told = 0
    const closeBoth = (): void => {
      told++
      one.close()
      three.close()
    }
    one.on('data', closeBoth)
    three.on('data', closeBoth)
    two.write('x')
    four.write('x')
    settle(reactor)
    expect(told).toBe(1)
  })

  test('`using` closes', async () => {
    const [reactor, stream, peer] = await manualPair()
    {
      using scoped = stream
      scoped.write('scoped')
    }
    expect(stream.closed).toBe(true)
    expect(readAll(reactor, peer)).toEqual({ bytes: Buffer.from('scoped'), ended: true })
  })
})

describe('errors', () => {
  test('a peer that reads no more, and says nothing, is an error too', async () => {
    const reactor = openReactor()
    const [stream, peer] = await pair(reactor)
    const told = record(stream)
    socket.shutdownRead(peer.fd)
    stream.write('unheard')
    expect([stream.write('more'), stream.flushed()]).toEqual([false, false])
    await until(() => stream.closed)
    expect(told).toEqual(['end', 'error EPIPE', 'close'])
  })

  test('a close listener that throws keeps nobody from the descriptor of detach()', async () => {
    const thrown: unknown[] = []
    const reactor = openReactor({ onHandlerError: (error) => thrown.push(error) })
    const [stream] = await pair(reactor)
    stream.on('close', () => {
      throw new Error('from close')
    })
    stream.detach().handle.close()
    await until(() => thrown.length === 1)
  })

  test('ECONNRESET when the peer closes without reading what we wrote', async () => {
    const [reactor, stream, peer] = await manualPair()
    const told = record(stream)
    stream.write('never read')
    peer.close()
    settle(reactor)
    expect(told).toEqual(['error ECONNRESET', 'close'])
  })

  test('writing to a peer that has gone is told also when nobody reads any more', async () => {
    const reactor = openReactor()
    const [stream, peer] = await pair(reactor)
    const told: string[] = []
    stream.on('error', ({ message }) => told.push(message))
    const reading = (): void => undefined
    stream.on('data', reading)
    peer.close()
    stream.write('who is there?') // the error comes at the end of what the peer said
    stream.off('data', reading)
    await until(() => stream.closed, 'the close')
    expect(told).toEqual([`EPIPE: broken pipe, send '${stream.label}'`])
  })

  test('EPIPE when we write to a peer that has gone', async () => {
    const [reactor, stream, peer] = await manualPair()
    const told = record(stream).splice(0)
    stream.removeAllListeners('data')
    stream.on('error', (error) =>
      told.push(`${error.name} ${String('code' in error && error.code)} ${error.message}`),
    )
    peer.close()
    stream.write('to nobody')
    settle(reactor)
    expect(told).toEqual([expect.stringMatching(/^SystemError EPIPE EPIPE: broken pipe, send 'UnixStream/)])
    expect(stream.closed).toBe(true)
  })

  test('what the peer said before it went comes before the error of writing to it', async () => {
    const [reactor, stream, peer] = await manualPair({ receiveBuffer: 1 << 20 })
    let read = 0
    const told: string[] = []
    stream.on('data', (bytes) => {
      read += bytes.length
    })
    stream.on('error', (error) => told.push(`error ${String('code' in error && error.code)} after ${read}`))
    stream.on('close', () => told.push('close'))
    stream.write(MUCH) // most of it has to wait
    const sent = writeAll(peer, Buffer.alloc(150_000))
    peer.close()
    settle(reactor)
    expect(told).toEqual([expect.stringMatching(`error (EPIPE|ECONNRESET) after ${sent}`), 'close'])
  })

  test('an error that nobody listens to is thrown, as an uncaught exception', async () => {
    const { code, stderr } = await runScript(
      `const reactor = new Reactor()
       const listener = UnixListener.listen(reactor, process.argv[1])
       listener.on('connection', (stream) => { stream.on('data', () => {}); stream.write('never read') })
       const client = await UnixStream.connect(reactor, process.argv[1])
       await turn(); await turn()
       client.close()
       await reactor.run()`,
      { args: [socketPath()] },
    )
    expect(code).not.toBe(0)
    expect(stderr).toContain('ECONNRESET')
  })

  test('bad options are refused where they are given', async () => {
    const [reactor, stream] = await manualPair()
    const { handle } = stream.detach()
    expect(() => UnixStream.from(reactor, handle, { idleTimeout: 0 })).toThrow(RangeError)
    // @ts-expect-error a misspelt option
    expect(() => UnixStream.from(reactor, handle, { borow: true })).toThrow("did you mean 'borrow'")
    expect(handle.closed).toBe(false)
    handle.close()
  })
})

describe('detach() and from()', () => {
  test('hand over the socket and what was received and not delivered', async () => {
    const reactor = openManual()
    const streams = await Promise.all([streamPair(reactor), streamPair(reactor), streamPair(reactor)])
    let detached = 0
    const texts: string[] = []
    const moved: UnixStream[] = []
    for (const [near] of streams) {
      near.on('data', (bytes) => {
        texts.push(String(bytes))
        for (const [other] of streams) {
          if (other === near || other.closed) continue
          const { handle, unread } = other.detach()
          if (unread.length > 0) detached++
          texts.push(String(unread))
          moved.push(UnixStream.from(reactor, handle))
        }
      })
    }
    for (const [index, [, far]] of streams.entries()) far.write(`text ${index}`)
    settle(reactor)
    expect(detached).toBe(2)
    expect(texts.sort()).toEqual(['text 0', 'text 1', 'text 2'])
    const later: string[] = []
    for (const stream of moved) stream.on('data', (bytes) => later.push(String(bytes)))
    for (const [, far] of streams) far.write('later')
    settle(reactor)
    expect(later).toEqual(['later', 'later'])
  })

  test('the end is found again by who goes on', async () => {
    const [reactor, stream, peer] = await manualPair()
    writeAll(peer, 'rest')
    peer.close()
    const { handle, unread } = stream.detach()
    expect(unread).toHaveLength(0)
    const told = record(UnixStream.from(reactor, handle))
    settle(reactor)
    expect(told).toEqual(['data rest', 'end', 'close'])
  })

  test('what the kernel did not take is handed over, too', async () => {
    const [, stream, peer] = await manualPair()
    const bytes = Buffer.alloc(4 << 20, 'x')
    stream.write(bytes)
    const { handle, unsent } = stream.detach()
    expect(unsent.length).toBe(bytes.length - stream.bytesWritten)
    expect(unsent.length).toBeGreaterThan(0)
    handle.close()
    peer.close()
  })

  test('from() takes a socket of another maker, and closes it when it cannot be registered', async () => {
    const [reactor, stream] = await manualPair()
    const { handle } = stream.detach()
    const other = openManual()
    other.close()
    expect(thrownBy(() => UnixStream.from(other, handle))).toMatchObject({ code: 'ERR_CLOSED' })
    expect(handle.closed).toBe(true)
    expect(reactor.sources().filter(({ label }) => label.startsWith('UnixStream'))).toEqual([])
  })
})

describe('the idle timeout', () => {
  test('is told after that time without a byte, and again after each further one', async () => {
    const reactor = openReactor()
    const [stream] = await pair(reactor, { idleTimeout: 40e6 })
    const start = performance.now()
    const times: number[] = []
    stream.on('timeout', () => times.push(performance.now() - start))
    await until(() => times.length === 2)
    expect(times[0]).toBeGreaterThan(30)
    expect((times[1] ?? 0) - (times[0] ?? 0)).toBeGreaterThan(30)
    expect(stream.closed).toBe(false)
  })

  test('destroys a stream that nobody listens to it on', async () => {
    const reactor = openReactor()
    const [stream, peer] = await pair(reactor, { idleTimeout: 20e6 })
    const told: string[] = []
    stream
      .on('data', () => undefined)
      .on('close', () => told.push('close'))
      .on('error', () => told.push('error'))
    await until(() => stream.closed)
    expect(told).toEqual(['close'])
    expect(readNow(peer)).toHaveLength(0)
  })

  test('does not come while bytes go in either direction', async () => {
    const reactor = openReactor()
    const [stream, peer] = await pair(reactor, { idleTimeout: 100e6 })
    const told = record(stream)
    const start = performance.now()
    for (let n = 0; performance.now() - start < 400; n++) {
      if (n % 2 === 0) stream.write('x')
      else writeAll(peer, 'y')
      await new Promise((resolve) => setTimeout(resolve, 10))
    }
    expect(told).not.toContain('timeout')
  })

  test('of a stream that closed first never comes, and keeps no process alive', async () => {
    const { code, stdout } = await runScript(
      `const reactor = new Reactor()
       const listener = UnixListener.listen(reactor, process.argv[1], { idleTimeout: 600e9 })
       const client = await UnixStream.connect(reactor, process.argv[1], { idleTimeout: 600e9 })
       const [stream] = await once(listener, 'connection')
       stream.close(); client.close(); listener.close()
       console.log(await reactor.run())`,
      { args: [socketPath()], timeoutMs: 5000 },
    )
    expect({ code, stdout }).toEqual({ code: 0, stdout: '0\n' })
  })

  test.each(['throw', 'close'] as const)(
    'a listener that throws costs no other stream its own (policy: %s)',
    async (policy) => {
      const errors: unknown[] = []
      const warnings: string[] = []
      const onError = (error: unknown): void => void errors.push(error)
      const warn = vi
        .spyOn(process, 'emitWarning')
        .mockImplementation((warning) => void warnings.push(String(warning)))
      const others = process.listeners('uncaughtException')
      process.removeAllListeners('uncaughtException').on('uncaughtException', onError)
      try {
        const reactor = openReactor({ onHandlerError: policy })
        const [bad] = await pair(reactor, { idleTimeout: 20e6 })
        const [good] = await pair(reactor, { idleTimeout: 20e6 })
        let told = 0
        bad.on('timeout', () => {
          throw new Error('bad listener')
        })
        good.on('timeout', () => told++)
        await until(() => told === 3)
        if (policy === 'throw')
          expect(errors[0]).toMatchObject({ message: 'bad listener', source: bad.label })
        else expect(warnings).toEqual([expect.stringContaining(bad.label)])
        expect(bad.closed).toBe(policy === 'close')
      } finally {
        process.removeListener('uncaughtException', onError)
        for (const other of others) process.on('uncaughtException', other)
        warn.mockRestore()
      }
    },
  )
})

describe('options', () => {
  test('sizes of the socket’s buffers are given to the kernel', async ({ skip }) => {
    skip(spawnSync('ss', ['-V']).status !== 0, 'ss (iproute2) is not installed')
    const reactor = openReactor()
    const [stream] = await pair(reactor, { sendBuffer: 50_000, receiveBuffer: 60_000 })
    const inode = /\d+/.exec(
      execFileSync('readlink', [`/proc/${process.pid}/fd/${stream.fd}`], { encoding: 'utf8' }),
    )?.[0]
    const line = execFileSync('ss', ['-xm'], { encoding: 'utf8' }).replaceAll('\n\t', ' ')
    const ours = line.split('\n').find((each) => each.split(/\s+/)[5] === inode) ?? '' // its peer's line names it as well, later
    expect(ours).toContain('tb100000')
    expect(ours).toContain('rb120000')
  })

  test('a small send buffer makes write() wait sooner', async () => {
    const taken = async (options: object): Promise<number> => {
      const [, stream] = await manualPair(options)
      stream.write(MUCH)
      return stream.bytesWritten
    }
    expect(await taken({ sendBuffer: 8192 })).toBeLessThan((await taken({ sendBuffer: 200_000 })) / 4)
  })

  test('a signal closes it; priority and label show in the statistics', async () => {
    const controller = new AbortController()
    const [reactor, first] = await manualPair()
    const { handle } = first.detach()
    const stream = UnixStream.from(reactor, handle, {
      signal: controller.signal,
      priority: 'high',
      label: 'Upstream',
    })
    expect(stream.stats).toMatchObject({
      label: `Upstream ${stream.fd}`,
      priority: 'high',
      events: 0,
      interest: 0,
    })
    controller.abort()
    expect(stream.closed).toBe(true)
  })

  test('no descriptor flag is changed, and all are close-on-exec', async () => {
    const [, stream] = await manualPair()
    const flags = parseInt(
      /flags:\s*(\d+)/.exec(readFileSync(`/proc/self/fdinfo/${stream.fd}`, 'utf8'))?.[1] ?? '0',
      8,
    )
    expect(flags & 0o2000000).toBe(0o2000000)
    expect(flags & 0o4000).toBe(0o4000)
    const before = countFds()
    stream.close()
    expect(countFds().socket).toBe(before.socket - 1)
  })
})
