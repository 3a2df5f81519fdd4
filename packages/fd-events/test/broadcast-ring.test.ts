import { FdHandle, once, type Reactor } from '@fd-reactor/core'
import { eventfd } from '@fd-reactor/core/sys'
import {
  BroadcastReader,
  BroadcastWriter,
  SharedMemory,
  type BroadcastReaderOptions,
  type BroadcastWriterOptions,
  type RingPeer,
} from '@fd-reactor/fd-events'
import { describe, expect, onTestFinished, test } from 'vitest'
import { randomNumbers } from '../../core/test/support/random.js'
import { openReactor } from '../../core/test/support/reactors.js'
import { turn, until, within } from '../../core/test/support/wait.js'
import { BroadcastOffset, highOf, lowOf, positionOf } from '../src/broadcast-layout.js'
import { loadPosition } from '../src/broadcast-memory.js'
import {
  assertNothingLeft,
  attached,
  checked,
  countOf,
  inProcess,
  makeOffer,
  mapped,
  memoryOf,
  openOffice,
  takeOffer,
  whole,
} from './shared-ring-helpers.js'

assertNothingLeft()

function openWriter(reactor: Reactor, options: BroadcastWriterOptions = {}): BroadcastWriter {
  const writer = new BroadcastWriter(reactor, options)
  onTestFinished(() => writer.close())
  return writer
}

async function join(
  writer: BroadcastWriter,
  reactor: Reactor,
  options: BroadcastReaderOptions = {},
): Promise<[RingPeer, BroadcastReader]> {
  return attached(
    (to) => writer.offer(to),
    (from) => BroadcastReader.accept(reactor, from, options),
  )
}

describe('in one process', () => {
  test('each reader gets each message, whole and in order', async () => {
    const reactor = openReactor()
    const writer = openWriter(reactor, { capacity: 2 ** 20 })
    const readers = await Promise.all([1, 2, 3].map(async () => (await join(writer, reactor))[1]))
    const heard: number[][] = [[], [], []]
    for (const [index, reader] of readers.entries()) {
      reader.on('message', (bytes, sequence) => {
        expect(whole(bytes)).toEqual([7, sequence])
        heard[index]?.push(sequence)
      })
    }
    for (let i = 0; i < 1000; i++) expect(writer.write(checked(7, i))).toBe(i)
    await until(() => heard.every(({ length }) => length === 1000))
    expect(heard.every((each) => each.every((sequence, index) => sequence === index))).toBe(true)
    expect(readers.map(({ missed }) => missed)).toEqual([0, 0, 0])
    expect(writer.stats).toMatchObject({ written: 1000, readers: 3 })
    expect(writer.readers.map(({ id, credentials }) => [id, credentials?.pid])).toEqual(
      [0, 1, 2].map((id) => [id, process.pid]),
    )
  })

  test('messages of every length up to the longest, at every place', async () => {
    const reactor = openReactor()
    const writer = openWriter(reactor, { capacity: 4096 })
    const [, reader] = await join(writer, reactor)
    expect([writer.maxMessage, reader.capacity]).toEqual([1008, 4096])
    for (let length = 0; length <= writer.maxMessage; length++) {
      const message = Buffer.alloc(length, length)
      writer.write(message)
      expect(reader.read()?.equals(message)).toBe(true)
      expect(reader.sequence).toBe(length)
    }
    expect([reader.read(), reader.missed]).toEqual([undefined, 0])
  })

  test('long messages are not gathered first', async () => {
    const reactor = openReactor()
    const writer = openWriter(reactor)
    const [, reader] = await join(writer, reactor)
    const large = Buffer.from(new ArrayBuffer(writer.maxMessage)).fill('x')
    for (const message of [large, large.subarray(8, 5000), large.subarray(3, 9000)]) {
      writer.write(message)
      expect(reader.read()?.equals(message)).toBe(true)
    }
  })

  test('a reader that is lapped is told exactly, and goes on', async () => {
    const reactor = openReactor()
    const writer = openWriter(reactor, { capacity: 4096 })
    const [, reader] = await join(writer, reactor)
    const numbers = randomNumbers(3)
    let received = 0
    for (let round = 0; round < 2000; round++) {
      for (let i = numbers(60); i > 0; i--) writer.write(checked(1, writer.sequence))
      for (let i = numbers(20); i > 0; i--) {
        const bytes = reader.read()
        if (bytes === undefined) continue
        received++
        expect(whole(bytes)).toEqual([1, reader.sequence])
        expect(received + reader.missed).toBe(reader.sequence + 1)
      }
    }
    while (reader.read() !== undefined) received++
    expect(received + reader.missed).toBe(writer.sequence)
    expect(reader.missed).toBeGreaterThan(1000)
  })

  test("'lapped' comes before the message after the gap, also when its handler pauses", async () => {
    const reactor = openReactor()
    const writer = openWriter(reactor, { capacity: 4096 })
    const [, reader] = await join(writer, reactor)
    for (let i = 0; i < 1000; i++) writer.write(Buffer.from([1]))
    const events: string[] = []
    reader.on('message', (_, sequence) => events.push(`message ${sequence}`))
    reader.on('lapped', (missed) => {
      events.push(`lapped ${missed}`)
      reader.pause()
    })
    await until(() => reader.paused)
    expect(events).toEqual([`lapped ${reader.missed}`])
    reader.resume()
    await until(() => events.at(-1) === 'message 999')
    expect(events.slice(0, 2)).toEqual([`lapped ${reader.missed}`, `message ${reader.missed}`])
    expect(events).toHaveLength(1 + 1000 - reader.missed)
  })

  test('a new reader begins with the next message, or with an old one', async () => {
    const reactor = openReactor()
    const writer = openWriter(reactor, { capacity: 4096 })
    for (let i = 0; i < 500; i++) writer.write(checked(1, i))
    const [, newest] = await join(writer, reactor)
    const [, oldest] = await join(writer, reactor, { from: 'oldest' })
    writer.write(checked(1, 500))
    expect([newest.read() && newest.sequence, newest.missed]).toEqual([500, 0])
    const first = oldest.read() && oldest.sequence
    expect(first).toBeLessThan(500)
    for (let sequence = (first ?? 0) + 1; sequence <= 500; sequence++) {
      expect(whole(oldest.read() ?? Buffer.alloc(8))).toEqual([1, sequence])
    }
    expect([oldest.read(), oldest.missed]).toEqual([undefined, 0])
  })

  test('the end comes after everything that was written; the others stay', async () => {
    const reactor = openReactor()
    const writer = openWriter(reactor)
    const [one, reader] = await join(writer, reactor)
    const [two, leaving] = await join(writer, reactor)
    leaving.close()
    await until(() => !two.connected)
    expect([one.connected, writer.readers]).toEqual([true, [one]])
    for (let i = 0; i < 1000; i++) writer.write(Buffer.alloc(8))
    writer.close()
    writer.close()
    const events: (string | number)[] = []
    reader.on('gone', () => events.push('gone')).on('end', () => events.push('end'))
    let received = 0
    for await (const [, sequence] of reader) expect(sequence).toBe(received++)
    expect([received, events, reader.connected, reader.closed]).toEqual([1000, ['gone', 'end'], false, false])
    expect(() => writer.write(Buffer.alloc(1))).toThrow('The broadcast ring is closed')
    reader.close()
    expect(() => reader.read()).toThrow(/ is closed$/)
  })

  test('a loop that is left loses nothing', async () => {
    const reactor = openReactor()
    const writer = openWriter(reactor)
    const [, reader] = await join(writer, reactor)
    for (let i = 0; i < 50; i++) writer.write(checked(1, i))
    for await (const [, sequence] of reader) if (sequence === 5) break
    for (let i = 6; i < 50; i++) expect(whole(reader.read() ?? Buffer.alloc(8))).toEqual([1, i])
    expect(reader.read()).toBeUndefined()
  })

  test('what is wrong is refused', async () => {
    const reactor = openReactor()
    const writer = openWriter(reactor, { capacity: 5000 })
    expect(() => writer.write(Buffer.alloc(2033))).toThrow(
      'A message of 2033 bytes does not fit: a broadcast ring of 8192 bytes takes up to 2032. Make one with a capacity of at least 8196',
    )
    expect(() => writer.write('text' as unknown as Buffer)).toThrow('write() takes a Uint8Array')
    expect(() => new BroadcastWriter(reactor, { capacity: 2 ** 31 })).toThrow(
      "BroadcastWriter option 'capacity' must be an integer from 1 to 1073741824, not 2147483648",
    )
    expect(() => new BroadcastWriter(reactor, { size: 1 } as BroadcastWriterOptions)).toThrow(
      "BroadcastWriter has no option 'size'; did you mean 'capacity'?",
    )
    await expect(BroadcastReader.accept(reactor, '/none', { from: 'now' as 'newest' })).rejects.toThrow(
      'BroadcastReader.accept option \'from\' must be "newest" or "oldest", not \'now\'',
    )
  })
})

describe('the words of a position', () => {
  test('are right between two stores of the writer, and however large it is', () => {
    const control = new Int32Array(2)
    const around = [0, 1, 2 ** 31, 2 ** 32, 2 ** 33 + 2 ** 31, 2 ** 50, 2 ** 53 - 2 ** 20]
    for (const middle of around) {
      for (const before of [middle - 1000, middle - 1, middle, middle + 7]) {
        if (before < 0) continue
        const after = before + 1000
        control.set([highOf(before), lowOf(before)])
        expect(loadPosition(control, 0)).toBe(before)
        control[0] = highOf(after) // and the writer is killed
        expect(loadPosition(control, 0)).toBe(before)
        control[1] = lowOf(after)
        expect(loadPosition(control, 0)).toBe(after)
        expect(positionOf(highOf(after), lowOf(after))).toBe(after)
      }
    }
  })
})

describe('between processes', () => {
  /** Reads all there is at its own pace, and says what came. */
  const READ = `
    const reader = await events.BroadcastReader.accept(reactor, office)
    const [pauseEvery, pauseMs] = rest.map(Number)
    let received = 0, told = 0, last = -1
    reader.on('lapped', (missed) => (told += missed))
    reader.on('message', (bytes, sequence) => {
      const [, number] = whole(bytes)
      if (number !== sequence || sequence <= last) throw new Error(sequence + ' after ' + last)
      if (sequence !== received + told) throw new Error(sequence + ' after ' + received + ' and missed ' + told)
      last = sequence
      if (++received % pauseEvery === 0 && pauseMs > 0) { reader.pause(); setTimeout(() => reader.resume(), pauseMs) }
    })
    await ended(reader)
    if (told !== reader.missed) throw new Error(told + ' told of ' + reader.missed)
    console.log(JSON.stringify({ received, missed: reader.missed }))
    reader.close()`

  test('four readers at different paces: what each received and missed is what was written', async () => {
    const count = countOf('FD_REACTOR_MESSAGES', 200_000)
    const reactor = openReactor()
    const writer = openWriter(reactor, { capacity: 65_536 })
    const address = openOffice(reactor, (connection) => void writer.offer(connection))
    const paces = [
      [1, 0],
      [1000, 1],
      [100, 5],
      [5, 20],
    ]
    const ends = paces.map(async (pace) => inProcess(READ, address, ...pace))
    await until(() => writer.readers.length === 4, 'four readers', 20_000)
    for (let i = 0; i < count; i++) {
      writer.write(checked(1, i))
      if (i % 100 === 0) await turn()
    }
    writer.close()
    const results = (await Promise.all(ends)) as { received: number; missed: number }[]
    for (const { received, missed } of results) expect(received + missed).toBe(count)
    expect(results[3]?.missed).toBeGreaterThan(0)
  }, 60_000)

  test('a reader that is killed is taken away, and nobody else notices', async () => {
    const reactor = openReactor()
    const writer = openWriter(reactor)
    const address = openOffice(reactor, (connection) => void writer.offer(connection))
    const [, other] = await join(writer, reactor)
    const killed = inProcess(READ, address, 1, 0).catch(String)
    await until(() => writer.readers.length === 2, 'a reader', 10_000)
    const [, peer] = writer.readers
    if (peer?.credentials === undefined) throw new Error('no reader')
    const gone = new Promise((resolve) => peer.on('gone', () => resolve('gone')))
    for (let i = 0; i < 100; i++) writer.write(checked(1, i))
    process.kill(peer.credentials.pid, 'SIGKILL')
    expect(await within(gone)).toBe('gone')
    for (let i = 100; i < 200; i++) writer.write(checked(1, i))
    for (let i = 0; i < 200; i++) expect(whole(other.read() ?? Buffer.alloc(8))).toEqual([1, i])
    expect([writer.readers.length, writer.stats.written]).toEqual([1, 200])
    expect(await killed).toContain('SIGKILL')
  })

  test('a writer that is killed at any moment: what can be read is whole, and readers are told', async () => {
    const rounds = countOf('FD_REACTOR_KILLS', 3)
    const reactor = openReactor()
    for (let round = 0; round < rounds; round++) {
      const arrived: Promise<BroadcastReader>[] = []
      const address = openOffice(reactor, (connection) => {
        arrived.push(BroadcastReader.accept(reactor, connection))
      })
      const child = inProcess(
        `const writer = new events.BroadcastWriter(reactor, { capacity: 65_536 })
        const one = await writer.offer(office), two = await writer.offer(office)
        for (let i = 0; ; i++) {
          writer.write(checked(1, i))
          if (i % 50 === 0) await turn()
        }`,
        address,
      ).catch(String)
      await until(() => arrived.length === 2, 'a writer', 10_000)
      const readers = await Promise.all(arrived)
      const received = [0, 0]
      const told: string[] = []
      for (const [index, reader] of readers.entries()) {
        reader.on('message', (bytes, sequence) => {
          expect(whole(bytes)).toEqual([1, sequence])
          received[index] = (received[index] ?? 0) + 1
          expect(sequence + 1).toBe((received[index] ?? 0) + reader.missed)
        })
        reader.on('gone', () => told.push('gone')).on('end', () => told.push('end'))
      }
      await until(() => received.every((count) => count > 300 * (round + 1)), 'messages', 20_000)
      const pids = readers.map(({ writer }) => writer?.pid ?? 0)
      expect(pids[0]).toBe(pids[1])
      process.kill(pids[0] ?? expect.unreachable('no writer'), 'SIGKILL')
      await until(() => told.length === 4, 'the end', 5000)
      expect(told.sort()).toEqual(['end', 'end', 'gone', 'gone'])
      // Both have come to the same end, by different ways.
      expect(new Set(readers.map((reader, index) => (received[index] ?? 0) + reader.missed)).size).toBe(1)
      for (const reader of readers) reader.close()
      expect(await child).toContain('SIGKILL')
    }
  }, 60_000)

  test('no wakeup is lost: two rings, one each way, and random pauses', async () => {
    const count = countOf('FD_REACTOR_MESSAGES', 10_000)
    const reactor = openReactor()
    const writer = openWriter(reactor, { capacity: 4096 })
    let reader: BroadcastReader | undefined
    let first = true
    const address = openOffice(reactor, (connection) => {
      if (first) void writer.offer(connection)
      else void BroadcastReader.accept(reactor, connection).then((made) => (reader = made))
      first = false
    })
    const child = inProcess(
      `const reader = await events.BroadcastReader.accept(reactor, office)
      const writer = new events.BroadcastWriter(reactor, { capacity: 4096 })
      reader.on('message', (bytes) => { spin(Math.random() * 20); writer.write(bytes) })
      await writer.offer(office)
      await ended(reader)
      console.log(JSON.stringify(reader.missed))
      reader.close()
      writer.close()`,
      address,
    )
    await until(() => reader !== undefined, 'the way back', 10_000)
    const numbers = randomNumbers(5)
    let answered = 0
    reader?.on('message', (bytes) => {
      expect(whole(bytes)).toEqual([1, answered++])
      const end = performance.now() + numbers(20) / 1000
      while (performance.now() < end);
      if (answered < count) writer.write(checked(1, answered))
    })
    writer.write(checked(1, 0))
    let before = -1
    while (answered < count) {
      before = answered
      await until(() => answered > before || answered >= count, `an answer after ${before}`, 10_000)
    }
    writer.close()
    expect(await within(child)).toBe(0)
    reader?.close()
  }, 120_000)
})

describe('hostile sides', () => {
  test('a reader cannot map the data for writing', async () => {
    const reactor = openReactor()
    const writer = openWriter(reactor)
    const [, { fds }] = await attached(
      (to) => writer.offer(to),
      (from) => takeOffer(reactor, from),
    )
    const [data] = fds
    if (data === undefined) throw new Error('no memory')
    const memory = SharedMemory.from(data)
    expect(memory.seals).toEqual(['seal', 'shrink', 'grow', 'future-write'])
    expect(() => memory.map()).toThrow(expect.objectContaining({ code: 'EPERM' }))
    expect(() => memory.seal('write')).toThrow(expect.objectContaining({ code: 'EPERM' }))
    const seen = new Int32Array(mapped(memory, { access: 'read' }))
    seen[BroadcastOffset.HeadLow / 4] = 12_345 // stays on a page of its own
    writer.write(checked(1, 0))
    const [, honest] = await join(writer, reactor, { from: 'oldest' })
    expect(whole(honest.read() ?? Buffer.alloc(8))).toEqual([1, 0])
  })

  test('a reader that scribbles over its seat and its doorbell harms nobody', async () => {
    const reactor = openReactor()
    const writer = openWriter(reactor)
    const [, other] = await join(writer, reactor)
    const [peer, { fds, connection }] = await attached(
      (to) => writer.offer(to),
      (from) => takeOffer(reactor, from),
    )
    const [, page, bell] = fds
    if (page === undefined || bell === undefined) throw new Error('no seat')
    const seat = new Int32Array(mapped(SharedMemory.from(page)))
    eventfd.write(bell.fd, 2n ** 64n - 3n) // no room for one more
    const numbers = randomNumbers(9)
    for (let i = 0; i < 2000; i++) {
      seat.fill(numbers(2 ** 31), 0, 64)
      writer.write(checked(1, i))
      expect(whole(other.read() ?? Buffer.alloc(8))).toEqual([1, i])
    }
    connection.send('more', { fds: [bell] }) // is taken and closed
    await turn()
    connection.close()
    await until(() => !peer.connected)
    expect(writer.readers).toHaveLength(1)
  })

  /** What an honest writer's memory looks like, in memory that the test can scribble over. */
  async function copyOf(
    reactor: Reactor,
    messages: number,
  ): Promise<[SharedMemory, ArrayBuffer, Record<string, unknown>]> {
    const writer = openWriter(reactor, { capacity: 4096 })
    const [, { fds, head }] = await attached(
      (to) => writer.offer(to),
      (from) => takeOffer(reactor, from),
    )
    for (let i = 0; i < messages; i++) writer.write(checked(1, i))
    const [data] = fds
    if (data === undefined) throw new Error('no memory')
    const original = SharedMemory.from(data)
    const memory = memoryOf(original.size)
    const buffer = mapped(memory)
    new Uint8Array(buffer).set(new Uint8Array(mapped(original, { access: 'read' })))
    return [memory, buffer, head]
  }

  function seatOf(): SharedMemory {
    const memory = memoryOf(4096)
    new Int32Array(mapped(memory)).set([0x52_52_44_46, 1, 2, 0])
    return memory
  }

  function bellOf(): FdHandle {
    const handle = new FdHandle(eventfd.create(0n, false))
    onTestFinished(() => handle.close())
    return handle
  }

  test('a writer that scribbles is found out: nothing hangs, crashes, or reads elsewhere', async () => {
    const rounds = countOf('FD_REACTOR_FUZZ', 300)
    const reactor = openReactor()
    const [memory, buffer, head] = await copyOf(reactor, 25)
    const good = new Uint8Array(buffer).slice()
    const numbers = randomNumbers(countOf('FD_REACTOR_SEED', 11))
    const words = new Int32Array(buffer)
    const found = new Set<unknown>()
    const seat = seatOf()
    const bell = bellOf()
    for (let round = 0; round < rounds; round++) {
      new Uint8Array(buffer).set(good)
      const [answer, reader] = await attached(
        (to) => makeOffer(reactor, to, head, [memory.handle, seat.handle, bell]),
        (from) => BroadcastReader.accept(reactor, from),
      )
      expect(answer).toContain('accepted')
      for (let look = 0; look < 40 && !reader.closed; look++) {
        const control = numbers(2) === 0
        const at = control ? 32 + numbers(40) : 1024 + numbers(1024)
        const extreme = [0, -1, 1, 2 ** 31 - 1, -(2 ** 31), 512, 4096, numbers(600), numbers(2 ** 31)]
        words[at] = extreme[numbers(extreme.length)] ?? 0
        try {
          reader.read()
        } catch (error) {
          found.add((error as { code?: string }).code)
        }
      }
      reader.close()
    }
    expect([...found]).toEqual(['ERR_RING_CORRUPT'])
  })

  test('a reader that flows tells what it found by an event, and closes', async () => {
    const reactor = openReactor()
    const [memory, buffer, head] = await copyOf(reactor, 5)
    const words = new Int32Array(buffer)
    const [, reader] = await attached(
      (to) => makeOffer(reactor, to, head, [memory.handle, seatOf().handle, bellOf()]),
      (from) => BroadcastReader.accept(reactor, from),
    )
    words[BroadcastOffset.Data / 4] = 5000
    reader.on('message', () => expect.unreachable('no message is whole'))
    const failed = new Promise<Error>((resolve) => reader.on('error', resolve))
    expect(await within(failed)).toMatchObject({
      code: 'ERR_RING_CORRUPT',
      message: `BroadcastReader ${reader.label.split(' ')[1]}: a record of 5000 bytes at 0, which cannot be; the writer has damaged the ring, and nothing more is read from it`,
    })
    expect(reader.closed).toBe(true)
  })

  test('memory that is no broadcast ring is refused on both sides', async () => {
    const reactor = openReactor()
    const [memory, buffer, head] = await copyOf(reactor, 1)
    const good = new Int32Array(buffer, 0, 16).slice()
    const named = `fd-reactor-test-${process.pid}`
    const unsealed = SharedMemory.create(8192, { name: named })
    SharedMemory.unlink(named)
    onTestFinished(() => unsealed.close())
    const cases: [string, () => { head?: Record<string, unknown>; fds?: FdHandle[] }][] = [
      ['it begins with 0x0', () => ({ fds: [memoryOf(8192).handle] })],
      ['it has 4096 bytes, and its seat 4096', () => ({ fds: [memoryOf(4096).handle] })],
      ['it is not sealed against shrinking', () => ({ fds: [unsealed.handle] })],
      ['its version is 9, and this side knows 1: run the same release on both', () => (write(1, 9), {})],
      ['its kind is 3', () => (write(2, 3), {})],
      ['its capacity is 8192, in memory of 8192 bytes', () => (write(3, 8192), {})],
      ['its capacity is 4097, in memory of 8192 bytes', () => (write(3, 4097), {})],
      ['its capacity is -4096, in memory of 8192 bytes', () => (write(3, -4096), {})],
    ]
    const write = (word: number, value: number): void => void (new Int32Array(buffer)[word] = value)
    for (const [why, change] of cases) {
      new Int32Array(buffer).set(good)
      const { fds: [data = memory.handle] = [] } = change()
      const refused = attached(
        (to) => makeOffer(reactor, to, head, [data, seatOf().handle, bellOf()]),
        async (from) => BroadcastReader.accept(reactor, from).catch((error: unknown) => error),
      )
      const message = `The memory is no broadcast ring: ${why}`
      expect(await refused).toEqual([
        JSON.stringify({ refused: message }),
        expect.objectContaining({ code: 'ERR_SHARED_LAYOUT', message }),
      ])
    }
    new Int32Array(buffer).set(good)
    const [, error] = await attached(
      (to) => makeOffer(reactor, to, { ...head, position: -1 }, [memory.handle, seatOf().handle, bellOf()]),
      async (from) => BroadcastReader.accept(reactor, from).catch((thrown: unknown) => thrown),
    )
    expect(error).toMatchObject({
      code: 'ERR_SHARED_LAYOUT',
      message: 'The offer of shared memory says that position is -1',
    })
  })
})

test('once() hears of a message', async () => {
  const reactor = openReactor()
  const writer = openWriter(reactor)
  const [, reader] = await join(writer, reactor)
  const next = once(reader, 'message')
  writer.write(Buffer.from('x'))
  expect(String((await within(next))[0])).toBe('x')
})
