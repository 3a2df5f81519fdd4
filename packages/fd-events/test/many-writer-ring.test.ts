import { Worker } from 'node:worker_threads'
import { FdHandle, type Reactor } from '@fd-reactor/core'
import { eventfd } from '@fd-reactor/core/sys'
import {
  ManyWriter,
  ManyWriterRing,
  SharedMemory,
  type ManyWriterOptions,
  type ManyWriterRingOptions,
  type RingPeer,
} from '@fd-reactor/fd-events'
import { describe, expect, onTestFinished, test } from 'vitest'
import { coreUrl, fdEventsUrl } from '../../core/test/support/child.js'
import { randomNumbers } from '../../core/test/support/random.js'
import { openReactor } from '../../core/test/support/reactors.js'
import { turn, until, within } from '../../core/test/support/wait.js'
import {
  FIRST_TICKET,
  lapOf,
  lapsAhead,
  ManyWriterOffset,
  ownerOf,
  stateOf,
  Status,
  statusOf,
} from '../src/many-writer-layout.js'
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

async function join(
  ring: ManyWriterRing,
  reactor: Reactor,
  options: ManyWriterOptions = {},
): Promise<[RingPeer, ManyWriter]> {
  return attached(
    (to) => ring.offer(to),
    (from) => ManyWriter.accept(reactor, from, options),
  )
}

/** Everything that can be read now, as text. */
function texts(ring: ManyWriterRing): string[] {
  const all: string[] = []
  for (let bytes = ring.read(); bytes !== undefined; bytes = ring.read())
    all.push(`${ring.writer} ${bytes.toString()}`)
  return all
}

describe('in one process', () => {
  test('messages come in the order of their claims, with the number of their writer', async () => {
    const reactor = openReactor()
    const ring = new ManyWriterRing(reactor, { maxMessage: 100, slots: 50 })
    expect([ring.maxMessage, ring.slots]).toEqual([120, 64])
    const [, one] = await join(ring, reactor)
    const [, two] = await join(ring, reactor)
    expect([one.id, two.id, ring.writers.map(({ id }) => id)]).toEqual([1, 2, [1, 2]])
    one.write(Buffer.from('a'))
    two.write(Buffer.from('b'))
    const at = one.claim(1)
    two.write(Buffer.from('d'))
    expect(texts(ring)).toEqual(['1 a', '2 b']) // those behind a claim wait for it
    one.bytes.write('c', at)
    one.commit()
    expect(texts(ring)).toEqual(['1 c', '2 d'])
    expect(ring.stats).toMatchObject({ received: 4, abandoned: 0, writers: 2 })
    expect(one.stats).toMatchObject({ written: 2, dropped: 0, queued: 0 })
  })

  test.each([16, 4096, 65_536])('goes round with %d slots, past the end of tickets', async (slots) => {
    const reactor = openReactor()
    const ring = new ManyWriterRing(reactor, { maxMessage: 56, slots })
    const [, writer] = await join(ring, reactor, { onFull: 'error' })
    const count = Math.max(5000, 2.5 * slots)
    let read = 0
    const readOne = (): void => {
      const bytes = ring.read()
      expect(bytes?.readInt32LE(0)).toBe(read++)
    }
    const message = Buffer.alloc(4)
    for (let i = 0; i < count; i++) {
      message.writeInt32LE(i, 0)
      if (i >= slots) readOne()
      writer.write(message)
    }
    expect(() => writer.write(message)).toThrow(
      `ManyWriter ${writer.fd}: the ring of ${slots} slots has none for 4 bytes more. Go on at 'drain'`,
    )
    while (read < count) readOne()
    expect(ring.read()).toBeUndefined()
    expect(count).toBeGreaterThan(-FIRST_TICKET)
  })

  test('several claims are committed at once, or given up', async () => {
    const reactor = openReactor()
    const ring = new ManyWriterRing(reactor)
    const [, writer] = await join(ring, reactor)
    const given: number[] = []
    ring.on('abandoned', (id) => given.push(id))
    for (const text of ['one', 'two']) writer.bytes.write(text, writer.claim(3))
    expect(ring.read()).toBeUndefined()
    writer.commit()
    writer.claim(10)
    writer.claim(10)
    writer.abandon()
    writer.write(Buffer.from('three'))
    expect(texts(ring)).toEqual(['1 one', '1 two', '1 three'])
    expect([given, ring.stats.abandoned]).toEqual([[1, 1], 2])
    writer.claim(1)
    writer.close()
    await until(() => ring.writers.length === 0)
    expect([texts(ring), ring.stats.abandoned]).toEqual([[], 3])
    expect(() => writer.commit()).toThrow(/ is closed$/)
  })

  test('a full ring: waits, drops, or throws', async () => {
    const reactor = openReactor()
    const ring = new ManyWriterRing(reactor, { slots: 16 })
    const [, waiting] = await join(ring, reactor, { queueBytes: 50 })
    const [, dropping] = await join(ring, reactor, { onFull: 'drop' })
    const [, failing] = await join(ring, reactor, { onFull: 'error' })
    for (let i = 0; i < 16; i++) expect(waiting.write(Buffer.from([i]))).toBe(true)
    expect([waiting.claim(1), dropping.write(Buffer.alloc(1))]).toEqual([-1, false])
    expect(() => failing.write(Buffer.alloc(1))).toThrow(expect.objectContaining({ code: 'ERR_RING_FULL' }))
    const reused = Buffer.from([16])
    expect(waiting.write(reused)).toBe(false)
    reused[0] = 99
    expect(waiting.write(Buffer.from([17]))).toBe(false)
    expect(() => waiting.write(Buffer.alloc(19))).toThrow(
      `ManyWriter ${waiting.fd}: the ring of 16 slots has none for 19 bytes more, and 32 bytes wait already. Go on at 'drain'`,
    )
    let drained = 0
    for (const writer of [waiting, dropping, failing]) writer.on('drain', () => drained++)
    const all: number[] = []
    ring.on('message', ([byte = -1]) => all.push(byte))
    await until(() => drained === 3 && all.length === 18)
    expect(all).toEqual(Array.from({ length: 18 }, (_, index) => index))
    expect([waiting.stats.written, dropping.stats.dropped, failing.stats.written]).toEqual([18, 1, 0])
  })

  test("the handler of 'abandoned' may pause the ring, or close it", async () => {
    const reactor = openReactor()
    const ring = new ManyWriterRing(reactor)
    const [, writer] = await join(ring, reactor)
    writer.claim(1)
    writer.abandon()
    writer.write(Buffer.from('x'))
    let heard = 0
    ring.on('abandoned', () => ring.pause()).on('message', () => heard++)
    await until(() => ring.paused)
    for (let i = 0; i < 5; i++) await turn()
    expect(heard).toBe(0)
    ring.resume()
    await until(() => heard === 1)
    writer.claim(1)
    writer.abandon()
    writer.write(Buffer.from('x'))
    ring.on('abandoned', () => ring.close())
    await until(() => ring.closed)
    expect(heard).toBe(1)
  })

  test('a loop that is left loses nothing', async () => {
    const reactor = openReactor()
    const ring = new ManyWriterRing(reactor, { maxMessage: 300 })
    const [, writer] = await join(ring, reactor)
    for (let i = 0; i < 50; i++) writer.write(checked(1, i))
    for await (const [bytes] of ring) if (whole(bytes)[1] === 5) break
    for (let i = 6; i < 50; i++) expect(whole(ring.read() ?? Buffer.alloc(8))).toEqual([1, i])
    expect(ring.read()).toBeUndefined()
  })

  test('writers hear of the end of the ring', async () => {
    const reactor = openReactor()
    const ring = new ManyWriterRing(reactor)
    const [peer, writer] = await join(ring, reactor)
    const events: string[] = []
    writer.on('gone', () => events.push('gone')).on('close', () => events.push('close'))
    peer.on('gone', () => events.push('peer'))
    ring.close()
    ring.close()
    await until(() => writer.closed)
    expect([events, writer.connected]).toEqual([['peer', 'gone', 'close'], false])
    expect(() => writer.write(Buffer.alloc(1))).toThrow(/ is closed$/)
    expect(() => ring.read()).toThrow(/ is closed$/)
    await expect(ring.offer('/none')).rejects.toMatchObject({ code: 'ERR_CLOSED' })
  })

  test('numbers are given again; there are 63', async () => {
    const reactor = openReactor()
    const ring = new ManyWriterRing(reactor)
    const all: [RingPeer, ManyWriter][] = []
    for (let i = 1; i <= 63; i++) all.push(await join(ring, reactor))
    await expect(ring.offer('/none')).rejects.toMatchObject({
      code: 'ERR_RING_FULL',
      message: `${ring.label}: it has 63 writers already; close one of them`,
    })
    all[30]?.[1].close()
    await until(() => ring.writers.length === 62)
    expect((await join(ring, reactor))[1].id).toBe(31)
    ring.close()
    await until(() => all.every(([, writer]) => writer.closed))
  })

  test('what is wrong is refused', async () => {
    const reactor = openReactor()
    const ring = new ManyWriterRing(reactor, { maxMessage: 56 })
    const [, writer] = await join(ring, reactor)
    expect(() => writer.write(Buffer.alloc(57))).toThrow(
      `ManyWriter ${writer.fd}: a message of 57 bytes does not fit: a slot takes up to 56. Make the ring with a larger maxMessage`,
    )
    expect(() => writer.claim(-1)).toThrow(`ManyWriter ${writer.fd}: a message has 0 to 56 bytes, not -1`)
    expect(() => writer.write('text' as unknown as Buffer)).toThrow('write() takes a Uint8Array')
    expect(() => new ManyWriterRing(reactor, { slots: 2 ** 16, maxMessage: 2 ** 20 })).toThrow(
      'ManyWriterRing: 65536 slots of 1048640 bytes are more than 1 GiB',
    )
    expect(() => new ManyWriterRing(reactor, { slot: 1 } as ManyWriterRingOptions)).toThrow(
      "ManyWriterRing has no option 'slot'; did you mean 'slots'?",
    )
    expect(() => new ManyWriterRing(reactor, { slots: 2 ** 17 })).toThrow(
      "ManyWriterRing option 'slots' must be an integer from 1 to 65536, not 131072",
    )
  })
})

test('states tell their lap, owner and status, also where counting starts again', () => {
  for (const shift of [4, 10, 12, 16]) {
    const slots = 2 ** shift
    for (const ticket of [0, 1, slots, -1, -slots, 2 ** 26 - 1, 2 ** 26, 2 ** 31 - 1, -(2 ** 31)]) {
      const state = stateOf(lapOf(ticket, shift), 63, Status.Committed)
      expect([ownerOf(state), statusOf(state), lapsAhead(state, ticket, shift)]).toEqual([
        63,
        Status.Committed,
        0,
      ])
      expect(lapsAhead(state, (ticket + slots) | 0, shift)).toBe(-1)
      expect(lapsAhead(state, (ticket - slots) | 0, shift)).toBe(1)
      expect(lapsAhead(state, (ticket + 3 * slots) | 0, shift)).toBe(-3)
    }
  }
})

describe('between processes', () => {
  const WRITER = `const writer = await events.ManyWriter.accept(reactor, office)
    const [stream, count, how] = rest.map((each) => (isNaN(each) ? each : Number(each)))\n`
  /** Writes `count` messages and dies as it is told. */
  const DYING = `${WRITER}
    for (let i = 0; i < count; i++) {
      if (!writer.write(checked(stream, i))) await new Promise((resolve) => writer.once('drain', resolve))
      if (i % 20 === 0) await turn()
    }
    if (how === 'claimed') { while (writer.claim(8) < 0) await new Promise((resolve) => writer.once('drain', resolve)) }
    if (how !== 'closed') dieHere()
    writer.close()
    console.log('{}')`

  /** Reads, checks, and counts messages by stream. */
  function counting(ring: ManyWriterRing): Map<number, number> {
    const counts = new Map<number, number>()
    ring.on('message', (bytes) => {
      const [stream, number] = whole(bytes)
      if (number !== (counts.get(stream) ?? 0)) throw new Error(`${number} of ${stream} came out of order`)
      counts.set(stream, number + 1)
    })
    return counts
  }

  test('a writer that is killed between claim and commit does not stop the ring', async () => {
    const reactor = openReactor()
    const ring = new ManyWriterRing(reactor, { slots: 64, maxMessage: 300 })
    const address = openOffice(reactor, (connection) => void ring.offer(connection))
    const [, other] = await join(ring, reactor)
    const counts = counting(ring)
    const abandoned: number[] = []
    ring.on('abandoned', (id) => abandoned.push(id))
    let sent = 0
    for (const stream of [1, 2, 3]) {
      const killed = inProcess(DYING, address, stream, 100, 'claimed').catch(String)
      await until(() => abandoned.length === stream, 'the end of a writer', 15_000)
      for (let i = 0; i < 200; i++) other.write(checked(0, sent++)) // more than there are slots
      await until(() => counts.get(0) === sent)
      expect(await killed).toContain('SIGKILL')
    }
    expect([...counts]).toEqual(expect.arrayContaining([1, 2, 3].map((stream) => [stream, 100])))
    expect(abandoned).toEqual([2, 2, 2]) // the number is used again
    expect(ring.stats).toMatchObject({ abandoned: 3, writers: 1 })
  }, 60_000)

  test('four writers, killed at random: nothing committed is lost, torn, or out of order', async () => {
    const kills = countOf('FD_REACTOR_KILLS', 8)
    const reactor = openReactor()
    const ring = new ManyWriterRing(reactor, { slots: 128, maxMessage: 300 })
    const address = openOffice(reactor, (connection) => void ring.offer(connection))
    const counts = counting(ring)
    const numbers = randomNumbers(countOf('FD_REACTOR_SEED', 21))
    let streams = 0
    let abandoned = 0
    const run = async (): Promise<void> => {
      const stream = ++streams
      const how = ['claimed', 'committed', 'closed', 'killed'][numbers(4)] ?? ''
      const count = how === 'killed' ? 1e9 : 1 + numbers(2000)
      const result = inProcess(DYING, address, stream, count, how).catch(String)
      if (how === 'killed') {
        const enough = numbers(2000)
        await until(() => (counts.get(stream) ?? 0) > enough, 'messages', 30_000)
        process.kill(owners.get(stream) ?? expect.unreachable('no writer'), 'SIGKILL')
        expect(await result).toContain('SIGKILL')
        return
      }
      const said = await result
      if (how !== 'closed') expect(said).toContain('SIGKILL')
      if (how === 'claimed') abandoned++
      await until(
        () => counts.get(stream) === count,
        `all of ${count} messages of a writer that was ${how}`,
        10_000,
      )
    }
    const owners = new Map<number, number>() // the process of each stream
    ring.on('message', (bytes, id) => {
      const stream = bytes.readUInt32LE(0)
      if (owners.has(stream)) return
      const pid = ring.writers.find((peer) => peer.id === id)?.credentials?.pid
      if (pid !== undefined) owners.set(stream, pid)
    })
    const lane = async (): Promise<void> => {
      while (streams < kills) await run()
    }
    await Promise.all([lane(), lane(), lane(), lane()])
    await until(() => ring.writers.length === 0)
    expect(ring.stats.abandoned).toBeGreaterThanOrEqual(abandoned)
    const [, last] = await join(ring, reactor)
    for (let i = 0; i < 1000; i++) last.write(checked(0, i))
    await until(() => counts.get(0) === 1000)
  }, 600_000)

  test('no wakeup is lost: four writers, a ring that is always full, and random pauses', async () => {
    const count = countOf('FD_REACTOR_MESSAGES', 5000)
    const reactor = openReactor()
    const ring = new ManyWriterRing(reactor, { slots: 16, maxMessage: 300 })
    const address = openOffice(reactor, (connection) => void ring.offer(connection))
    const counts = counting(ring)
    const numbers = randomNumbers(5)
    ring.on('message', () => {
      const end = performance.now() + numbers(10) / 1000
      while (performance.now() < end);
    })
    const writers = [1, 2, 3, 4].map(async (stream) =>
      inProcess(
        `${WRITER}
        for (let i = 0; i < count; i++) {
          if (!writer.write(checked(stream, i))) await new Promise((resolve) => writer.once('drain', resolve))
          if (i % 7 === 0) spin(Math.random() * 30)
          if (i % 50 === 0) await turn()
        }
        console.log(JSON.stringify(writer.stats.written))
        writer.close()`,
        address,
        stream,
        count,
      ),
    )
    const sum = (): number => [...counts.values()].reduce((all, each) => all + each, 0)
    let before = -1
    while (sum() < 4 * count) {
      before = sum()
      await until(() => sum() > before || sum() >= 4 * count, `a message after ${before}`, 15_000)
    }
    expect(await Promise.all(writers)).toEqual([count, count, count, count])
  }, 600_000)

  test('a reader that is killed: its writers are told', async () => {
    const reactor = openReactor()
    const writers: Promise<ManyWriter>[] = []
    const address = openOffice(reactor, (connection) => writers.push(ManyWriter.accept(reactor, connection)))
    const child = inProcess(
      `const ring = new events.ManyWriterRing(reactor)
      await ring.offer(office)
      ring.on('message', dieHere)`,
      address,
    ).catch(String)
    await until(() => writers.length === 1, 'a reader', 10_000)
    const [writer] = await Promise.all(writers)
    const gone = new Promise((resolve) => writer?.on('gone', () => resolve('gone')))
    writer?.write(Buffer.alloc(1))
    expect(await within(gone)).toBe('gone')
    expect(writer?.closed).toBe(true)
    expect(await child).toContain('SIGKILL')
  })

  test('a thread that is terminated between claim and commit', async () => {
    const reactor = openReactor()
    const ring = new ManyWriterRing(reactor)
    const address = openOffice(reactor, (connection) => void ring.offer(connection))
    const worker = new Worker(
      `(async () => {
        const { Reactor } = await import(${JSON.stringify(coreUrl)})
        const { ManyWriter } = await import(${JSON.stringify(fdEventsUrl)})
        const writer = await ManyWriter.accept(new Reactor(), { abstract: ${JSON.stringify(address)} })
        writer.write(Buffer.from('from a thread'))
        writer.claim(8)
      })()`,
      { eval: true },
    )
    let heard = ''
    let abandoned = 0
    ring.on('message', (bytes) => (heard = String(bytes))).on('abandoned', () => abandoned++)
    await until(() => heard === 'from a thread', 'a message', 10_000)
    await worker.terminate()
    await until(() => abandoned === 1)
    expect(ring.writers).toEqual([])
  })
})

describe('hostile sides', () => {
  test('a writer that scribbles is found out: nothing hangs, crashes, or reads elsewhere', async () => {
    const rounds = countOf('FD_REACTOR_FUZZ', 200)
    const reactor = openReactor()
    const numbers = randomNumbers(countOf('FD_REACTOR_SEED', 31))
    const found = new Set<unknown>()
    for (let round = 0; round < rounds; round++) {
      const ring = new ManyWriterRing(reactor, { slots: 16, maxMessage: 56 })
      const [, honest] = await join(ring, reactor)
      const [, { fds }] = await attached(
        (to) => ring.offer(to),
        (from) => takeOffer(reactor, from),
      )
      const [handle, filled] = fds
      if (handle === undefined || filled === undefined) throw new Error('no memory')
      const words = new Int32Array(mapped(SharedMemory.from(handle)))
      if (round % 10 === 0) eventfd.write(filled.fd, 2n ** 64n - 3n) // no room for one more
      for (let i = 0; i < 60 && !ring.closed && !honest.closed; i++) {
        const control = numbers(2) === 0
        const slot = (ManyWriterOffset.Slots + numbers(16) * 64) / 4
        const at = control ? 32 + numbers(80) : slot + numbers(2)
        const lap = lapOf(FIRST_TICKET, 4) + numbers(3) - 1
        const extreme = [
          0,
          -1,
          1,
          numbers(2 ** 31),
          stateOf(lap, numbers(4), numbers(4)),
          FIRST_TICKET + numbers(20),
        ]
        words[at] = extreme[numbers(extreme.length)] ?? 0
        for (const action of [() => honest.write(Buffer.alloc(8)), () => ring.read()]) {
          try {
            action()
          } catch (error) {
            found.add((error as { code?: string }).code)
          }
        }
        if (i % 20 === 0) await turn()
      }
      ring.close()
      honest.close()
    }
    found.delete('ERR_CLOSED') // by the other one's end
    expect([...found]).toEqual(['ERR_RING_CORRUPT'])
  }, 60_000)

  test('a ring that flows tells what it found by an event, and closes', async () => {
    const reactor = openReactor()
    const ring = new ManyWriterRing(reactor)
    const [, writer] = await join(ring, reactor)
    writer.write(Buffer.alloc(8))
    writer.bytes.writeInt32LE(-1, (FIRST_TICKET & (ring.slots - 1)) * 256 + 4)
    ring.on('message', () => expect.unreachable('it is damaged'))
    const { label } = ring
    const failed = new Promise<Error>((resolve) => ring.on('error', resolve))
    expect(await within(failed)).toMatchObject({
      code: 'ERR_RING_CORRUPT',
      message: `${label}: a message of -1 bytes at ${FIRST_TICKET >>> 0}, which cannot be; a writer has damaged the ring, and nothing more is read from it`,
    })
    expect(ring.closed).toBe(true)
    await until(() => writer.closed)
  })

  test('a claim in the name of nobody is passed over; one that was taken away is found out', async () => {
    const reactor = openReactor()
    const ring = new ManyWriterRing(reactor)
    const [, writer] = await join(ring, reactor)
    const at = writer.claim(8) - 8
    writer.bytes.writeInt32LE(stateOf(lapOf(FIRST_TICKET, 12), 60, Status.Claimed), at)
    expect([ring.read(), ring.stats.abandoned]).toEqual([undefined, 1])
    expect(() => writer.commit()).toThrow(expect.objectContaining({ code: 'ERR_RING_CORRUPT' }))
    expect(writer.closed).toBe(true)
  })

  test('memory that is no ring of many writers is refused on both sides', async () => {
    const reactor = openReactor()
    const bells = [0, 1].map(() => new FdHandle(eventfd.create(0n, false)))
    onTestFinished(() => {
      for (const bell of bells) bell.close()
    })
    const memory = memoryOf(12_288)
    const words = new Int32Array(mapped(memory))
    const cases: [string, number[]][] = [
      ['it begins with 0x0', []],
      ['its kind is 2', [0x52_52_44_46, 1, 2]],
      ['it has slots of 0 bytes in 4096, in memory of 12288 bytes', [0x52_52_44_46, 1, 3, 4096, 0]],
      ['it has slots of 60 bytes in 4096, in memory of 12288 bytes', [0x52_52_44_46, 1, 3, 4096, 60]],
      ['it has slots of 64 bytes in 8192, in memory of 12288 bytes', [0x52_52_44_46, 1, 3, 8192, 64]],
      ['it has slots of 64 bytes in 3072, in memory of 12288 bytes', [0x52_52_44_46, 1, 3, 3072, 64]],
      ['it has slots of 512 bytes in 4096, in memory of 12288 bytes', [0x52_52_44_46, 1, 3, 4096, 512]],
    ]
    const offered = async (writer: number): Promise<unknown[]> =>
      attached(
        (to) =>
          makeOffer(reactor, to, { offer: 'many-writer', version: 1, writer }, [memory.handle, ...bells]),
        async (from) => ManyWriter.accept(reactor, from).catch((error: unknown) => error),
      )
    for (const [why, header] of cases) {
      words.set(header)
      const message = `The memory is no ring of many writers: ${why}`
      expect(await offered(1)).toEqual([
        JSON.stringify({ refused: message }),
        expect.objectContaining({ code: 'ERR_SHARED_LAYOUT', message }),
      ])
    }
    words.set([0x52_52_44_46, 1, 3, 4096, 64])
    expect((await offered(64))[1]).toMatchObject({
      code: 'ERR_SHARED_LAYOUT',
      message: 'The offer of shared memory says that writer is 64',
    })
  })
})
