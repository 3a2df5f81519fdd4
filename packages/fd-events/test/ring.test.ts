/**
 * Rings within one process: every size, every edge, every policy, and the events of both ends.
 */
import { eventfd } from '@fd-reactor/core/sys'
import { FdHandle, type Reactor } from '@fd-reactor/core'
import { Ring, RingReader, RingWriter, SharedMemory, EventFd } from '@fd-reactor/fd-events'
import fc from 'fast-check'
import { describe, expect, onTestFinished, test } from 'vitest'
import { openManual, openReactor, settle } from '../../core/test/support/reactors.js'
import { turn, until } from '../../core/test/support/wait.js'
import { assertNothingLeft, beginAt, message, openEnds, openRing, uncaughtIn } from './ring-helpers.js'

assertNothingLeft()

/** Everything that a polling reader finds, acknowledged. */
function readAll(reader: RingReader): Buffer[] {
  const all: Buffer[] = []
  for (let bytes = reader.read(); bytes !== undefined; bytes = reader.read()) all.push(bytes)
  return all
}

/** Listens, and gives what has come. */
function heardBy(reader: RingReader): [text: string, sequence: number][] {
  const heard: [string, number][] = []
  reader.on('message', (bytes, sequence) => heard.push([String(bytes), sequence]))
  return heard
}

function code(name: string): unknown {
  return expect.objectContaining({ code: name })
}

describe('messages', () => {
  test('of each size from 0 to the largest arrive whole, at each place in the ring', () => {
    const { ring, reader, writer } = openEnds(openManual())
    expect(ring.maxMessage).toBe(2040)
    for (let length = 0; length <= ring.maxMessage; length++) {
      writer.write(message(length, length))
      expect(reader.read()?.equals(message(length, length))).toBe(true)
      expect([reader.sequence, reader.length]).toEqual([length, length])
    }
    expect(ring.used).toBe(0)
  })

  test('wrap at every alignment, with what is left before the end skipped', () => {
    const reactor = openManual()
    for (let place = 0; place < 4096; place += 8) {
      const ring = Ring.create({ capacity: 4096 })
      beginAt(ring, place)
      const { reader, writer } = openEnds(reactor, ring)
      for (const length of [2040, 0, 1, 7, 8, 9, 1000]) {
        writer.write(message(length, length))
        expect(reader.read()?.equals(message(length, length))).toBe(true)
      }
      ring.close()
    }
  })

  test('too large are refused, with what to do', () => {
    const { reader, writer } = openEnds(openManual())
    const fd = writer.fd
    expect(() => writer.write(Buffer.alloc(2041))).toThrow(
      `RingWriter ${fd}: a message of 2041 bytes does not fit: the ring of 4096 bytes takes up to 2040. Make one with a capacity of at least 4098`,
    )
    expect(() => writer.claim(2041)).toThrow(code('ERR_MESSAGE_TOO_LARGE'))
    for (const length of [-1, 1.5, NaN]) {
      expect(() => writer.claim(length)).toThrow(
        new RangeError(`RingWriter ${fd}: a message has 0 to 2040 bytes, not ${length}`),
      )
    }
    expect(() => writer.write('text' as unknown as Buffer)).toThrow(
      new TypeError('write() takes a Uint8Array'),
    )
    expect(writer.write(message(1, 2040))).toBe(true)
    expect(reader.read()).toEqual(message(1, 2040))
    expect(reader.read()).toBeUndefined()
  })

  test('that are claimed arrive when they are committed, all at once', () => {
    const { reader, writer } = openEnds(openManual())
    for (let i = 0; i < 5; i++) {
      const at = writer.claim(12)
      expect(at % 8).toBe(0)
      writer.words[at / 4] = i
      writer.bytes.writeInt32LE(i * i, at + 4)
    }
    expect([reader.next(), writer.sequence]).toEqual([-1, 5])
    writer.commit()
    for (let i = 0; i < 5; i++) {
      const at = reader.next()
      expect([
        reader.words[at / 4],
        reader.bytes.readInt32LE(at + 4),
        reader.length,
        reader.sequence,
      ]).toEqual([i, i * i, 12, i])
    }
    expect(reader.next()).toBe(-1)
    reader.release()
    writer.commit() // nothing
  })

  test('that were found and not released stay where they are', () => {
    const { ring, reader, writer } = openEnds(openManual(), openRing(), { onFull: 'drop' })
    writer.write(message(1, 1000))
    const at = reader.next()
    let written = 1
    while (writer.write(message(2, 1000))) written++
    expect(written).toBe(4)
    expect(ring.bytes.subarray(at, at + 1000)).toEqual(message(1, 1000))
    reader.release()
    expect(writer.write(message(3, 1000))).toBe(true)
  })

  test('that were claimed and not committed never were, for the writer that comes next', () => {
    const reactor = openManual()
    const { ring, reader, writer } = openEnds(reactor)
    writer.write(Buffer.from('one'))
    const at = writer.claim(1000)
    writer.bytes.fill(255, at, at + 1000)
    writer.close()
    const next = new RingWriter(reactor, ring)
    expect(next.sequence).toBe(1)
    next.write(Buffer.from('two'))
    expect(readAll(reader).map(String)).toEqual(['one', 'two'])
    expect(() => writer.commit()).toThrow(code('ERR_CLOSED'))
    expect(() => writer.claim(1)).toThrow(code('ERR_CLOSED'))
    expect(() => writer.write(Buffer.from('x'))).toThrow(code('ERR_CLOSED'))
    expect(readAll(reader)).toEqual([])
  })

  test('that were not acknowledged come again to the next reader, with the same numbers', () => {
    const reactor = openManual()
    const { ring, reader, writer } = openEnds(reactor)
    for (const text of ['one', 'two', 'three']) writer.write(Buffer.from(text))
    reader.next()
    reader.release()
    reader.next()
    reader.close()
    reader.release() // of a closed one: nothing
    expect(() => reader.next()).toThrow(code('ERR_CLOSED'))
    const next = new RingReader(reactor, ring)
    expect([String(next.read()), next.sequence]).toEqual(['two', 1])
    expect([String(next.read()), next.sequence]).toEqual(['three', 2])
  })

  test('are numbered modulo 2^32, at positions modulo 2^32', () => {
    const ring = openRing()
    beginAt(ring, -4096, -2)
    const { reader, writer } = openEnds(openManual(), ring)
    const numbers: number[] = []
    for (let i = 0; i < 10; i++) {
      writer.write(message(i, 1000 + i))
      expect(reader.read()).toEqual(message(i, 1000 + i))
      numbers.push(reader.sequence)
    }
    expect(numbers.slice(0, 4)).toEqual([2 ** 32 - 2, 2 ** 32 - 1, 0, 1])
    expect(ring.used).toBe(0)
  })

  test('of random lengths, batches, releases, deaths and successors are what a list would give', () => {
    const reactor = openManual()
    const step = fc.oneof(
      fc.record({ kind: fc.constant('write' as const), length: fc.integer({ min: 0, max: 2040 }) }),
      fc.record({ kind: fc.constant('claim' as const), length: fc.integer({ min: 0, max: 600 }) }),
      fc.record({ kind: fc.constantFrom('commit', 'release', 'next', 'next', 'read', 'writer', 'reader') }),
    )
    const property = fc.property(
      fc.array(step, { maxLength: 120 }),
      fc.integer({ min: -1024, max: 1024 }),
      fc.integer({ min: -10, max: 10 }),
      (steps, place, sequence) => {
        const ring = Ring.create({ capacity: 4096 })
        beginAt(ring, place * 8, sequence)
        let { reader, writer } = openEnds(reactor, ring, { onFull: 'drop' })
        let claimed: Buffer[] = []
        const committed: [Buffer, number][] = []
        let number = sequence >>> 0
        let found = 0
        let made = 0
        const commit = (): void => {
          for (const bytes of claimed) {
            committed.push([bytes, number])
            number = (number + 1) >>> 0
          }
          claimed = []
        }
        const check = (at: number): void => {
          const [bytes, sequence] = committed[found++] ?? []
          expect(bytes?.equals(reader.bytes.subarray(at, at + reader.length))).toBe(true)
          expect(reader.sequence).toBe(sequence)
        }
        for (const each of steps) {
          if ('length' in each) {
            const bytes = message(made++, each.length)
            if (each.kind === 'write') {
              if (!writer.write(bytes)) continue
              claimed.push(bytes)
              commit()
            } else {
              const at = writer.claim(each.length)
              if (at < 0) continue
              claimed.push(bytes)
              bytes.copy(writer.bytes, at)
            }
          } else if (each.kind === 'commit') {
            writer.commit()
            commit()
          } else if (each.kind === 'release') {
            reader.release()
            committed.splice(0, found)
            found = 0
          } else if (each.kind === 'next') {
            const at = reader.next()
            expect(at >= 0).toBe(found < committed.length)
            if (at >= 0) check(at)
          } else if (each.kind === 'read') {
            const expected = committed[found]?.[0]
            expect(reader.read()).toEqual(expected)
            if (expected === undefined) continue
            committed.splice(0, found + 1)
            found = 0
          } else if (each.kind === 'writer') {
            writer.close()
            claimed = []
            writer = new RingWriter(reactor, ring, { onFull: 'drop' })
            expect(writer.sequence).toBe(number)
          } else {
            reader.close()
            found = 0
            reader = new RingReader(reactor, ring)
          }
        }
        writer.commit()
        commit()
        for (let at = reader.next(); at >= 0; at = reader.next()) check(at)
        expect(found).toBe(committed.length)
        reader.release()
        expect(ring.used).toBe(0)
        ring.close()
      },
    )
    const seed = Number(process.env['FD_REACTOR_SEED'] ?? Date.now() & 0xfffffff)
    fc.assert(property, { numRuns: Number(process.env['FD_REACTOR_FUZZ'] ?? 150), seed })
  })
})

describe('a full ring', () => {
  test("'wait': keeps copies up to a limit, sends them in order, and tells drain", () => {
    const reactor = openManual()
    const { reader, writer } = openEnds(reactor, openRing(), { queueBytes: 3 * 1008 })
    let drains = 0
    writer.on('drain', () => drains++)
    const sent: Buffer[] = []
    const bytes = Buffer.alloc(1000)
    for (let i = 0; i < 7; i++) {
      message(i, 1000).copy(bytes) // the same memory for all
      sent.push(message(i, 1000))
      expect(writer.write(bytes)).toBe(i < 4)
    }
    expect(() => writer.write(bytes)).toThrow(
      `${writer.label}: the ring of 4096 bytes has no room for 1000 more, and 3024 bytes wait already. Go on at 'drain'`,
    )
    expect(() => writer.write(Buffer.alloc(2041))).toThrow(code('ERR_MESSAGE_TOO_LARGE'))
    expect(writer.stats).toMatchObject({ written: 4, queued: 3, dropped: 0 })
    settle(reactor)
    expect(drains).toBe(0)
    const got: Buffer[] = []
    heardOf(reader, got)
    settle(reactor)
    expect(got).toEqual(sent)
    expect([drains, writer.stats.queued, writer.stats.written]).toEqual([1, 0, 7])
    expect(writer.write(bytes)).toBe(true)
    settle(reactor)
    expect(drains).toBe(1)
  })

  function heardOf(reader: RingReader, got: Buffer[]): void {
    reader.on('message', (bytes) => got.push(bytes))
  }

  test("'wait': what waits is sent although nobody listens to drain, and many empty ones count", () => {
    const reactor = openManual()
    const { reader, writer } = openEnds(reactor, openRing(), { queueBytes: 100 * 8 })
    const empty = Buffer.alloc(0)
    for (let i = 0; i < 512 + 100; i++) writer.write(empty)
    expect(() => writer.write(empty)).toThrow(code('ERR_RING_FULL'))
    const heard = heardBy(reader)
    settle(reactor)
    expect(heard).toHaveLength(612)
  })

  test("'wait': no claim overtakes what waits", () => {
    const reactor = openManual()
    const { reader, writer } = openEnds(reactor)
    writer.write(message(0, 2040))
    writer.write(message(1, 1000))
    expect(writer.write(message(2, 2000))).toBe(false)
    expect(writer.claim(10)).toBe(-1)
    expect(reader.read()).toEqual(message(0, 2040))
    expect(writer.claim(10)).toBe(-1)
    settle(reactor)
    writer.bytes[writer.claim(10)] = 7
    writer.commit()
    expect(readAll(reader).map(({ length }) => length)).toEqual([1000, 2000, 10])
  })

  test("'wait': no claim overtakes what still waits after others have gone into the ring", () => {
    const reactor = openManual()
    const { reader, writer } = openEnds(reactor)
    const lengths = [2040, 2032, 1000, 2000]
    for (const [i, length] of lengths.entries()) writer.write(message(i, length))
    expect(writer.stats.queued).toBe(2)
    expect(reader.read()).toEqual(message(0, 2040))
    settle(reactor)
    expect(writer.stats.queued).toBe(1)
    expect(writer.claim(10)).toBe(-1)
    for (const [i, length] of lengths.slice(1, 3).entries())
      expect(reader.read()).toEqual(message(i + 1, length))
    settle(reactor)
    writer.claim(10)
    writer.commit()
    expect(readAll(reader).map(({ length }) => length)).toEqual([2000, 10])
  })

  test("'drop': drops and counts", () => {
    const { reader, writer } = openEnds(openManual(), openRing(), { onFull: 'drop' })
    for (let i = 0; i < 7; i++) expect(writer.write(message(i, 1000))).toBe(i < 4)
    expect(writer.stats).toMatchObject({ written: 4, dropped: 3, queued: 0 })
    expect(readAll(reader)).toEqual([0, 1, 2, 3].map((i) => message(i, 1000)))
    expect(writer.sequence).toBe(4)
  })

  test("'error': throws", () => {
    const reactor = openManual()
    const { reader, writer } = openEnds(reactor, openRing(), { onFull: 'error' })
    for (let i = 0; i < 4; i++) writer.write(message(i, 1000))
    expect(() => writer.write(message(4, 1000))).toThrow(
      `${writer.label}: the ring of 4096 bytes has no room for 1000 more. Go on at 'drain'`,
    )
    let drains = 0
    writer.on('drain', () => drains++)
    readAll(reader)
    settle(reactor)
    expect(drains).toBe(1)
  })

  test('drain comes when half is free, or as much as was asked for', () => {
    for (const [length, needed] of [
      [100, 2],
      [2040, 3],
    ] as const) {
      const reactor = openManual()
      const { reader, writer } = openEnds(reactor, openRing(), { onFull: 'error' })
      for (let i = 0; i < 4; i++) writer.write(message(i, 1000))
      let drains = 0
      writer.on('drain', () => drains++)
      expect(writer.claim(length)).toBe(-1)
      for (let i = 0; i < 4; i++) {
        settle(reactor)
        expect([i, drains]).toEqual([i, i >= needed ? 1 : 0])
        reader.read()
      }
      expect(writer.claim(length)).toBeGreaterThanOrEqual(0)
    }
  })

  test('a drain handler that fills it again is told again', () => {
    const reactor = openManual()
    const { reader, writer } = openEnds(reactor)
    let sent = 0
    const fill = (): void => {
      while (sent < 100 && writer.write(message(sent++, 700)));
    }
    writer.on('drain', fill)
    fill()
    const lengths = new Set<string>()
    reader.on('message', (bytes, sequence) => {
      expect(bytes).toEqual(message(sequence, 700))
      lengths.add(String(sequence))
    })
    settle(reactor)
    expect(lengths.size).toBe(100)
  })

  test('what is claimed and not committed takes room; once it is committed, drain follows', () => {
    const reactor = openManual()
    const { reader, writer } = openEnds(reactor)
    for (let i = 0; i < 4; i++) writer.claim(1000)
    expect(writer.claim(1000)).toBe(-1)
    let drains = 0
    writer.on('drain', () => drains++)
    reader.on('message', () => undefined)
    settle(reactor)
    expect(drains).toBe(0)
    writer.commit()
    settle(reactor)
    expect(drains).toBe(1)
  })
})

describe('the reader as a source', () => {
  test('lends a view, or offsets', () => {
    const reactor = openManual()
    const ring = openRing()
    const writer = new RingWriter(reactor, ring)
    const viewing = new RingReader(reactor, ring, { borrow: true })
    const seen: unknown[] = []
    viewing.on('message', (bytes, sequence) => {
      expect(bytes.buffer).toBe(ring.bytes.buffer)
      seen.push([String(bytes), sequence])
    })
    writer.write(Buffer.from('one'))
    settle(reactor)
    viewing.close()
    const offsets = new RingReader(reactor, ring, { borrow: 'offsets' })
    offsets.on('message', (data, offset, length, sequence) => {
      seen.push([data.toString('latin1', offset, offset + length), sequence])
    })
    writer.write(Buffer.from('two'))
    settle(reactor)
    expect(seen).toEqual([
      ['one', 0],
      ['two', 1],
    ])
  })

  test('gives copies that the ring does not change, of each length', () => {
    const reactor = openManual()
    const { reader, writer } = openEnds(reactor)
    const got: Buffer[] = []
    reader.on('message', (bytes) => got.push(bytes))
    const lengths = [0, 1, 3, 4, 5, 31, 32, 33, 63, 64, 65, 511, 512, 513, 2040]
    for (let round = 0; round < 20; round++) {
      for (const length of lengths) {
        writer.write(message(got.length, length))
        settle(reactor)
      }
    }
    expect(got).toEqual(got.map((_, index) => message(index, lengths[index % lengths.length] ?? 0)))
    expect(got).toHaveLength(20 * lengths.length)
  })

  test('gives copies whatever size the pool of buffers has', () => {
    const { reader, writer } = openEnds(openManual())
    const { poolSize } = Buffer
    Buffer.poolSize = 1001
    try {
      for (let length = 0; length <= 600; length++) {
        writer.write(message(length, length))
        expect(reader.read()?.equals(message(length, length))).toBe(true)
      }
    } finally {
      Buffer.poolSize = poolSize
    }
  })

  test('for await: what was buffered when the loop was left is not lost, to whatever reads next', async () => {
    const { reader, writer } = openEnds(openReactor())
    for (let i = 0; i < 10; i++) writer.write(Buffer.from(String(i)))
    for await (const [bytes] of reader) {
      expect(String(bytes)).toBe('0')
      break
    }
    expect([String(reader.read()), reader.sequence]).toEqual(['1', 1])
    for await (const [bytes, sequence] of reader) {
      expect([String(bytes), sequence]).toEqual(['2', 2])
      break
    }
    const heard = heardBy(reader)
    await until(() => heard.length === 7)
    expect(heard.map(([text]) => text).join('')).toBe('3456789')
  })

  test('for await ends when the writer is closed, also when it is left and begun again', async () => {
    const reactor = openReactor()
    const { ring, reader, writer } = openEnds(reactor)
    let ends = 0
    reader.on('end', () => ends++)
    for (const text of ['one', 'two', 'three']) writer.write(Buffer.from(text))
    writer.close()
    const got: string[] = []
    for await (const [bytes] of reader) {
      got.push(String(bytes))
      await until(() => ends === 1)
      break
    }
    for await (const [bytes] of reader) got.push(String(bytes))
    for await (const [bytes] of reader) got.push(String(bytes))
    expect(got).toEqual(['one', 'two', 'three'])
    const second = new RingWriter(reactor, ring)
    second.write(Buffer.from('four'))
    second.close()
    for await (const [bytes] of reader) got.push(String(bytes))
    expect([got[3], ends]).toEqual(['four', 2])
  })

  test("tells 'end' exactly once for each writer that was closed", () => {
    const reactor = openManual()
    const { ring, reader, writer } = openEnds(reactor)
    const told: string[] = []
    reader.on('message', (bytes) => told.push(String(bytes)))
    reader.on('end', () => told.push('end'))
    writer.write(Buffer.from('one'))
    settle(reactor)
    expect(reader.ended).toBe(false)
    writer.close()
    writer.close()
    settle(reactor)
    ring.wake()
    settle(reactor)
    expect(told).toEqual(['one', 'end'])
    expect(reader.ended).toBe(true)
    const second = new RingWriter(reactor, ring)
    expect(reader.ended).toBe(false)
    second.write(Buffer.from('two'))
    second.close()
    settle(reactor)
    expect(told).toEqual(['one', 'end', 'two', 'end'])
    const third = new RingWriter(reactor, ring)
    third.close()
    settle(reactor)
    expect(told).toEqual(['one', 'end', 'two', 'end', 'end'])
    reader.close()
    expect(reader.ended).toBe(false)
  })

  test('pauses and goes on inside its handler, and stops where it is closed', () => {
    const reactor = openManual()
    const { ring, reader, writer } = openEnds(reactor)
    const got: string[] = []
    reader.on('message', (bytes) => {
      got.push(String(bytes))
      if (String(bytes) === '2') reader.pause()
      if (String(bytes) === '4') reader.pause().resume()
      if (String(bytes) === '6') reader.close()
    })
    for (let i = 0; i < 10; i++) writer.write(Buffer.from(String(i)))
    settle(reactor)
    expect(got.join('')).toBe('012')
    reader.resume()
    settle(reactor)
    expect(got.join('')).toBe('0123456')
    expect(readAll(new RingReader(reactor, ring)).join('')).toBe('789')
  })

  test('a reader that takes its place inside its handler begins behind that message', () => {
    const reactor = openManual()
    const { ring, reader, writer } = openEnds(reactor)
    let next: RingReader | undefined
    reader.on('message', () => {
      reader.close()
      next = new RingReader(reactor, ring)
    })
    for (let i = 0; i < 3; i++) writer.write(Buffer.from(String(i)))
    settle(reactor)
    expect(next === undefined ? [] : readAll(next).map(String)).toEqual(['1', '2'])
    expect(ring.used).toBe(0)
  })

  test('a handler that throws loses nothing and is not called again for its message', async () => {
    const reactor = openManual()
    const { ring, reader, writer } = openEnds(reactor)
    const got: string[] = []
    reader.on('message', (bytes) => {
      got.push(String(bytes))
      if (String(bytes) === '1') throw new Error('from the handler')
    })
    for (let i = 0; i < 4; i++) writer.write(Buffer.from(String(i)))
    expect(await uncaughtIn(() => settle(reactor))).toEqual(['from the handler'])
    expect(got.join('')).toBe('0123')
    expect(ring.used).toBe(0)
    writer.on('drain', () => {
      throw new Error('from drain')
    })
    while (writer.write(message(0, 1000)));
    expect(await uncaughtIn(() => settle(reactor))).toEqual(['from drain'])
    expect(writer.stats.queued).toBe(0)
  })

  test('a flood does not keep others from their turn, and is acknowledged in batches', () => {
    const reactor = openManual()
    const { ring, reader, writer } = openEnds(reactor, openRing({ capacity: 2 ** 20 }))
    const bell = new EventFd(reactor)
    let count = 0
    let atBell = 0
    reader.on('message', () => count++)
    while (writer.claim(16) >= 0);
    writer.commit()
    settleOnce(reactor)
    bell.on('event', () => (atBell = count))
    bell.write()
    settleOnce(reactor)
    settleOnce(reactor)
    expect(atBell).toBeGreaterThan(0)
    expect(atBell).toBeLessThanOrEqual(4 * 256)
    settle(reactor)
    expect([count, ring.used]).toEqual([Math.floor(2 ** 20 / 24), 0])
  })

  function settleOnce(reactor: Reactor): void {
    reactor.dispatch()
  }

  test('rings only for a reader that sleeps', () => {
    const reactor = openManual()
    const { reader, writer } = openEnds(reactor)
    for (let i = 0; i < 10; i++) writer.write(Buffer.from('x'))
    expect(writer.stats.rung).toBe(0)
    reader.on('message', () => undefined)
    settle(reactor)
    for (let i = 0; i < 10; i++) writer.write(Buffer.from('x'))
    expect(writer.stats.rung).toBe(1)
    settle(reactor)
    writer.write(Buffer.from('x'))
    expect(writer.stats.rung).toBe(2)
  })

  test('wake() makes up for a ring that a killed writer owed', () => {
    const reactor = openManual()
    const { ring, reader, writer } = openEnds(reactor)
    const heard = heardBy(reader)
    settle(reactor)
    const taken = (): void => {
      expect(Atomics.exchange(ring.control, 96, 0)).toBe(1) // ReaderWaiting, as the dead one had left it
    }
    taken()
    writer.write(Buffer.from('one'))
    settle(reactor)
    expect(heard).toEqual([])
    ring.wake()
    settle(reactor)
    expect(heard).toEqual([['one', 0]])
    taken()
    const next = new RingWriter(reactor, ring)
    next.write(Buffer.from('two'))
    settle(reactor)
    expect(heard).toEqual([
      ['one', 0],
      ['two', 1],
    ])
  })
})

describe('ends', () => {
  test('close in any order, and with the ring', () => {
    const reactor = openManual()
    for (const order of [
      ['reader', 'writer', 'ring'],
      ['writer', 'reader', 'ring'],
      ['ring', 'writer', 'reader'],
      ['ring', 'reader', 'writer'],
    ] as const) {
      const all = openEnds(reactor)
      let closes = 0
      all.reader.on('close', () => closes++)
      all.writer.on('close', () => closes++)
      all.writer.write(message(1, 500))
      all.writer.write(message(2, 500))
      expect(all.reader.next()).toBe(8)
      for (const name of order) all[name].close()
      all.ring.close()
      expect([closes, all.ring.closed, all.reader.closed, all.writer.closed]).toEqual([2, true, true, true])
      for (const use of [
        () => all.reader.next(),
        () => all.reader.read(),
        () => all.writer.write(message(3, 1)),
        () => all.writer.claim(1),
        () => all.writer.commit(),
        () => all.ring.used,
        () => new RingReader(reactor, all.ring),
        () => new RingWriter(reactor, all.ring),
      ])
        expect(use).toThrow(code('ERR_CLOSED'))
      all.reader.release()
    }
  })

  test('the ring closes inside a handler of its reader', () => {
    const reactor = openManual()
    const { ring, reader, writer } = openEnds(reactor)
    let count = 0
    reader.on('message', () => {
      count++
      ring.close()
    })
    writer.write(Buffer.from('one'))
    writer.write(Buffer.from('two'))
    settle(reactor)
    expect([count, reader.closed, writer.closed]).toEqual([1, true, true])
  })

  test('closing the reactor closes them; the ring stays', () => {
    const reactor = openManual()
    const { ring, reader, writer } = openEnds(reactor)
    writer.write(Buffer.from('one'))
    reactor.close()
    expect([reader.closed, writer.closed, ring.closed]).toEqual([true, true, false])
    expect(readAll(new RingReader(openManual(), ring)).map(String)).toEqual(['one'])
  })

  test('an aborted signal ends them, or refuses them', () => {
    const reactor = openManual()
    const abort = new AbortController()
    const { signal } = abort
    const { ring, reader, writer } = openEnds(reactor, openRing(), { signal }, { signal })
    abort.abort()
    expect([reader.closed, writer.closed]).toEqual([true, true])
    const aborted = expect.objectContaining({ name: 'AbortError' }) as unknown
    expect(() => new RingReader(reactor, ring, { signal })).toThrow(aborted)
    expect(() => new RingWriter(reactor, ring, { signal })).toThrow(aborted)
  })

  test('options that do not exist or are out of range are refused', () => {
    const reactor = openManual()
    const ring = openRing()
    const messageOf = (make: () => unknown): string => {
      try {
        make()
      } catch (error) {
        return String(error)
      }
      return 'nothing was thrown'
    }
    const any = (value: object): object => value
    expect([
      messageOf(() => Ring.create(any({ capactiy: 1 }))),
      messageOf(() => Ring.create({ capacity: 0 })),
      messageOf(() => Ring.create({ capacity: 2 ** 30 + 1 })),
      messageOf(() => new RingWriter(reactor, ring, any({ onFul: 'drop' }))),
      messageOf(() => new RingWriter(reactor, ring, any({ onFull: 'never' }))),
      messageOf(() => new RingWriter(reactor, ring, { queueBytes: -1 })),
      messageOf(() => new RingReader(reactor, ring, any({ borrow: 'views' }))),
    ]).toMatchInlineSnapshot(`
      [
        "TypeError: Ring.create has no option 'capactiy'; did you mean 'capacity'?",
        "RangeError: Ring.create option 'capacity' must be an integer from 1 to 1073741824, not 0",
        "RangeError: Ring.create option 'capacity' must be an integer from 1 to 1073741824, not 1073741825",
        "TypeError: RingWriter has no option 'onFul'; did you mean 'onFull'?",
        "TypeError: RingWriter option 'onFull' must be "wait" or "drop" or "error", not 'never'",
        "RangeError: RingWriter option 'queueBytes' must be an integer from 0 to 9007199254740991, not -1",
        "TypeError: RingReader option 'borrow' must be false or true or "offsets", not 'views'",
      ]
    `)
    Ring.create({ capacity: 1 }).close()
    using odd = Ring.create({ capacity: 5000 })
    expect([odd.capacity, odd.closed, odd.losable]).toEqual([8192, false, false])
  })
})

describe('a ring from elsewhere', () => {
  const made: FdHandle[] = []
  const keep = (handle: FdHandle): FdHandle => {
    made.push(handle)
    return handle
  }
  const bell = (): FdHandle => keep(new FdHandle(eventfd.create(0n, false)))
  /** Memory with a ring's header in it, one word of which is changed. */
  function memory(word = 0, value = 0x52524446, size = 8192): FdHandle {
    const object = SharedMemory.create(size)
    using mapping = object.map()
    const words = new Int32Array(mapping.buffer)
    words.set([0x52524446, 1, 1, 4096])
    words[word] = value
    return keep(object.handle)
  }
  function refusal(...fds: FdHandle[]): string {
    let text = 'nothing was thrown'
    try {
      Ring.from(fds).close()
    } catch (error) {
      text = String(error).replace(/fd \d+/, 'fd N')
    }
    expect(made.every(({ closed }) => closed)).toBe(true)
    return text
  }

  test('is taken when everything is right', () => {
    expect(refusal(memory(), bell(), bell())).toBe('nothing was thrown')
    expect(refusal(memory(3, 65_536, 65_536 + 4096), bell(), bell())).toBe('nothing was thrown')
  })

  test('is refused with the reason otherwise, and its descriptors are closed', () => {
    expect([
      refusal(),
      refusal(memory(), bell()),
      refusal(memory(), bell(), bell(), bell()),
      refusal(bell(), bell(), bell()),
      refusal(memory(), memory(), bell()),
      refusal(memory(), bell(), memory()),
      refusal(memory(0, 1), bell(), bell()),
      refusal(memory(1, 2), bell(), bell()),
      refusal(memory(2, 2), bell(), bell()),
      refusal(memory(3, 0), bell(), bell()),
      refusal(memory(3, 2048), bell(), bell()),
      refusal(memory(3, 4100), bell(), bell()),
      refusal(memory(3, 8192), bell(), bell()),
      refusal(memory(3, -4096), bell(), bell()),
      refusal(memory(3, 2 ** 31), bell(), bell()),
      refusal(memory(0, 0x52524446, 4096), bell(), bell()),
    ]).toMatchInlineSnapshot(`
      [
        "TypeError: A ring comes with 3 descriptors (memory and two doorbells), not 0",
        "TypeError: A ring comes with 3 descriptors (memory and two doorbells), not 2",
        "TypeError: A ring comes with 3 descriptors (memory and two doorbells), not 4",
        "SystemError: EINVAL: invalid argument, mmap 'fd N'. It is neither a memory object nor a file",
        "SystemError: EINVAL: invalid argument, read 'fd N'. It is no eventfd",
        "SystemError: EINVAL: invalid argument, read 'fd N'. It is no eventfd",
        "ReactorError: The memory is no ring of one writer and one reader: it begins with 0x1",
        "ReactorError: The memory is no ring of one writer and one reader: its version is 2, and this side knows 1: run the same release on both",
        "ReactorError: The memory is no ring of one writer and one reader: its kind is 2",
        "ReactorError: The memory is no ring of one writer and one reader: its capacity is 0, in memory of 8192 bytes",
        "ReactorError: The memory is no ring of one writer and one reader: its capacity is 2048, in memory of 8192 bytes",
        "ReactorError: The memory is no ring of one writer and one reader: its capacity is 4100, in memory of 8192 bytes",
        "ReactorError: The memory is no ring of one writer and one reader: its capacity is 8192, in memory of 8192 bytes",
        "ReactorError: The memory is no ring of one writer and one reader: its capacity is -4096, in memory of 8192 bytes",
        "ReactorError: The memory is no ring of one writer and one reader: its capacity is -2147483648, in memory of 8192 bytes",
        "ReactorError: The memory is no ring of one writer and one reader: it has 4096 bytes, and a ring at least 8192",
      ]
    `)
  })

  test('goes by its descriptors: what is written on one is read on the other', async () => {
    const ring = openRing()
    const other = Ring.from(ring.fds.map((handle) => handle.duplicate()))
    onTestFinished(() => {
      other.close()
    })
    const reactor = openReactor()
    const writer = new RingWriter(reactor, other)
    const reader = new RingReader(reactor, ring)
    const heard = heardBy(reader)
    await turn()
    writer.write(Buffer.from('hello'))
    await until(() => heard.length === 1)
    other.close()
    let ends = 0
    reader.on('end', () => ends++)
    await until(() => ends === 1)
  })

  test('over memory of this process', () => {
    const buffer = new SharedArrayBuffer(4096 + 4096)
    new Int32Array(buffer).set([0x52524446, 1, 1, 4096])
    const ring = Ring.over(buffer, bell(), bell())
    const { reader, writer } = openEnds(openManual(), ring)
    writer.write(Buffer.from('hello'))
    expect(String(reader.read())).toBe('hello')
    expect([ring.fds.length, ring.losable]).toEqual([2, false])
    ring.close()
  })
})
