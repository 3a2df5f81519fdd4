/**
 * A hostile other side: it scribbles over control words, headers and data, and cuts memory short. FD_REACTOR_FUZZ says how often,
 * FD_REACTOR_SEED repeats a run.
 */
import { truncateSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { FdHandle, ReactorError, type Reactor } from '@fd-reactor/core'
import { eventfd } from '@fd-reactor/core/sys'
import { Ring, RingReader, RingWriter, SharedMemory } from '@fd-reactor/fd-events'
import { describe, expect, onTestFinished, test } from 'vitest'
import { runScript } from '../../core/test/support/child.js'
import { randomNumbers } from '../../core/test/support/random.js'
import { openManual, settle } from '../../core/test/support/reactors.js'
import { until } from '../../core/test/support/wait.js'
import { Peer } from './message-helpers.js'
import { assertNothingLeft, beginAt, message, openEnds, shmName } from './ring-helpers.js'

assertNothingLeft()

// Each takes up to 10 ms.
const rounds = Number(process.env['FD_REACTOR_FUZZ'] ?? 300)
const seed = Number(process.env['FD_REACTOR_SEED'] ?? Date.now() & 0xfffffff)
const SCRIBBLER = fileURLToPath(new URL('fixtures/ring-scribbler.mjs', import.meta.url))
const LIMIT_MS = 90_000 + rounds * 30
const CAPACITY = 4096
const HEAD = 32
const TAIL = 64
const READER_WAITING = 96
const WRITER_WAITING = 128

let named = 0
/** A ring in memory that has a name and no seals, and whoever knows the name can cut short. */
function unsealedRing(): { ring: Ring; name: string; path: string } {
  const name = shmName(String(named++))
  const memory = SharedMemory.create(4096 + CAPACITY, { name })
  using mapping = memory.map()
  new Int32Array(mapping.buffer).set([0x52524446, 1, 1, CAPACITY])
  const bell = (): FdHandle => new FdHandle(eventfd.create(0n, false))
  const ring = Ring.from([memory.handle, bell(), bell()])
  onTestFinished(() => {
    ring.close()
    SharedMemory.unlink(name)
  })
  return { ring, name, path: `/dev/shm/${name}` }
}

function codeOf(error: unknown): string {
  return error instanceof ReactorError ? error.code : String(error)
}

/** Values that get far: multiples of 8, sizes at the limits, padding. */
function value(random: (limit: number) => number, near: number): number {
  const choices = [
    random(2 ** 32),
    random(64),
    near + 8 * random(512),
    near - 8 * random(512),
    near + random(64),
    -1,
    CAPACITY / 2 - 8 + random(3) - 1,
    2 ** 31 - 8 + random(16),
    8 * random(512),
  ]
  return (choices[random(choices.length)] ?? 0) | 0
}

/** Scribbles over some words of a ring. */
function scribble(random: (limit: number) => number, control: Int32Array, words: Int32Array): void {
  const near = control[random(2) === 0 ? HEAD : TAIL] ?? 0
  for (let count = random(6); count >= 0; count--) {
    const places = [HEAD, TAIL, READER_WAITING, WRITER_WAITING, 33 + random(5), random(1024)]
    const place = places[random(places.length)] ?? 0
    if (random(2) === 0) control[place] = value(random, near)
    else
      words[random(4) === 0 ? ((near & 4095) >> 2) + random(2) : random(words.length)] = value(random, near)
  }
}

test(
  `an end whose other side scribbles ${rounds} times reports it and closes, or goes on within the ring`,
  () => {
    console.log(`seed ${seed}`)
    const random = randomNumbers(seed)
    const told = new Map<string, number>()
    const expected = new Set(['ERR_RING_CORRUPT', 'ERR_RING_FULL', 'ERR_CLOSED'])
    const failed = (error: unknown, end: { closed: boolean }): void => {
      const code = codeOf(error)
      if (!expected.has(code)) throw error
      if (code === 'ERR_RING_CORRUPT') expect(end.closed).toBe(true)
      told.set(code, (told.get(code) ?? 0) + 1)
    }
    // One for all: the memory of each would go with the test only.
    const reactor = openManual()
    for (let round = 0; round < rounds; round++) {
      const ring = Ring.create({ capacity: CAPACITY })
      beginAt(ring, 8 * random(2 ** 29), random(2 ** 32))
      const mode = ([false, true, 'offsets'] as const)[random(3)] ?? false
      const onFull = (['wait', 'drop', 'error'] as const)[random(3)] ?? 'wait'
      const writer = new RingWriter(reactor, ring, { onFull, queueBytes: 10_000 })
      const polled = random(2) === 0
      const reader = new RingReader(reactor, ring, { borrow: mode })
      let came = 0
      // One that closes before its error is told would show here as an error that is thrown.
      reader.on('error', (error) => {
        told.set(codeOf(error), (told.get(codeOf(error)) ?? 0) + 1)
      })
      writer.on('error', (error) => {
        told.set(codeOf(error), (told.get(codeOf(error)) ?? 0) + 1)
      })
      writer.on('drain', () => undefined)
      if (!polled) {
        reader.on('message', (...args) => {
          came++
          const [data, at] = args
          if (args.length === 2) expect(data.length).toBeLessThanOrEqual(ring.maxMessage)
          else expect(at >= 8 && at + args[2] <= CAPACITY).toBe(true)
          if (random(8) === 0) scribble(random, ring.control, ring.words)
        })
      }
      const step = (): void => {
        try {
          for (let count = random(5); count > 0; count--) {
            if (random(2) === 0) {
              writer.write(message(count, random(random(8) === 0 ? 2041 : 200)))
            } else {
              const length = random(300)
              const at = writer.claim(length)
              expect(at >= -1 && at + length <= CAPACITY).toBe(true)
              if (random(2) === 0) writer.commit()
            }
          }
        } catch (error) {
          failed(error, writer)
        }
        if (polled && mode === false) {
          try {
            for (let at = reader.next(); at >= 0; at = reader.next()) {
              came++
              expect(at + reader.length <= CAPACITY && reader.length <= ring.maxMessage).toBe(true)
              if (random(4) === 0) reader.release()
              if (came > 10_000) throw new Error('it does not end')
            }
            reader.release()
          } catch (error) {
            failed(error, reader)
          }
        }
        settle(reactor)
      }
      for (let count = 1 + random(4); count > 0; count--) {
        step()
        scribble(random, ring.control, ring.words)
        if (random(2) === 0) ring.wake()
      }
      step()
      // The next one begins, or refuses.
      reader.close()
      try {
        const next = new RingReader(reactor, ring)
        try {
          while (next.read() !== undefined);
        } catch (error) {
          failed(error, next)
        }
      } catch (error) {
        failed(error, { closed: true })
      }
      ring.close()
    }
    console.log(Object.fromEntries(told))
    expect(told.get('ERR_RING_CORRUPT')).toBeGreaterThan(0)
  },
  LIMIT_MS,
)

test(
  'both ends live with another process that scribbles all the time',
  async () => {
    const random = randomNumbers(seed)
    const { ring, name } = unsealedRing()
    const scribbler = new Peer(process.execPath, [SCRIBBLER, name, String(seed || 1)])
    await until(() => scribbler.output.startsWith('begun'), 'the other process', 20_000)
    const counts = { corrupt: 0, read: 0, written: 0 }
    const attempt = (action: () => void): void => {
      try {
        action()
      } catch (error) {
        if (codeOf(error) !== 'ERR_RING_CORRUPT') throw error
        counts.corrupt++
      }
    }
    const end = performance.now() + Math.min(rounds * 3, 60_000)
    const reactor = openManual()
    while (performance.now() < end) {
      for (let count = 0; count < 20; count++) {
        // Something that can be begun with.
        const head = 8 * random(2 ** 29)
        ring.control.set([head, head, random(2 ** 32), head - 8], HEAD)
        ring.control[TAIL] = head - 8 * random(100)
        attempt(() => {
          const reader = new RingReader(reactor, ring, { borrow: true })
          reader.on('error', (error) => {
            expect(codeOf(error)).toBe('ERR_RING_CORRUPT')
            counts.corrupt++
          })
          reader.on('message', (bytes) => {
            counts.read++
            expect(bytes.length).toBeLessThanOrEqual(ring.maxMessage)
          })
          for (let turns = 0; turns < 4 && !reader.closed; turns++) {
            ring.wake()
            reactor.dispatch()
          }
          reader.close()
        })
        attempt(() => {
          const writer = new RingWriter(reactor, ring, { onFull: 'drop' })
          for (let index = 0; index < 20; index++)
            if (writer.write(message(index, random(400)))) counts.written++
          writer.close()
        })
      }
      await new Promise((resolve) => setImmediate(resolve))
    }
    process.kill(scribbler.pid, 'SIGKILL')
    await scribbler.exited
    console.log(counts)
    expect(Math.min(counts.corrupt, counts.written)).toBeGreaterThan(0)
  },
  LIMIT_MS,
)

describe('memory that is cut short', () => {
  for (const size of [0, 4096]) {
    test(`to ${size} bytes under a reader: an error, and it closes`, () => {
      const reactor = openManual()
      const { ring, path } = unsealedRing()
      const { reader, writer } = openEnds(reactor, ring, { onFull: 'drop' })
      expect(ring.losable).toBe(true)
      for (let index = 0; index < 3; index++) writer.write(message(index, 500))
      expect(reader.read()).toEqual(message(0, 500))
      truncateSync(path, size)
      expect(() => reader.read()).toThrow(expect.objectContaining({ code: 'ERR_MEMORY_LOST' }))
      expect(reader.closed).toBe(true)
      expect(() => new RingReader(reactor, ring)).toThrow(
        expect.objectContaining({ code: 'ERR_MEMORY_LOST' }),
      )
    })

    test(`to ${size} bytes under a reader that is told: an error event, and it closes`, () => {
      const reactor = openManual()
      const { ring, path } = unsealedRing()
      const { reader, writer } = openEnds(reactor, ring, { onFull: 'drop' })
      const errors: string[] = []
      const lengths: number[] = []
      reader.on('error', (error) => errors.push(codeOf(error)))
      reader.on('message', (bytes) => {
        lengths.push(bytes.length)
        if (lengths.length === 2) truncateSync(path, size)
      })
      for (let index = 0; index < 4; index++) writer.write(message(index, 500))
      settle(reactor)
      expect([lengths, errors, reader.closed]).toEqual([[500, 500], ['ERR_MEMORY_LOST'], true])
    })

    test(`to ${size} bytes under a writer: an error, and it closes`, () => {
      const reactor = openManual()
      const { ring, path } = unsealedRing()
      const writer = new RingWriter(reactor, ring, { onFull: 'drop' })
      writer.write(message(0, 500))
      truncateSync(path, size)
      expect(() => {
        for (let index = 0; index < 100; index++) writer.write(message(index, 500))
      }).toThrow(expect.objectContaining({ code: 'ERR_MEMORY_LOST' }))
      expect(writer.closed).toBe(true)
      expect(() => new RingWriter(reactor, ring)).toThrow(
        expect.objectContaining({ code: 'ERR_MEMORY_LOST' }),
      )
    })
  }

  test('under a writer that waits for room: an error event, and it closes', () => {
    const reactor = openManual()
    const { ring, path } = unsealedRing()
    const writer = new RingWriter(reactor, ring)
    const errors: string[] = []
    writer.on('error', (error) => errors.push(codeOf(error)))
    for (let index = 0; index < 6; index++) writer.write(message(index, 1000))
    truncateSync(path, 0)
    Atomics.load(ring.control, HEAD)
    ring.wake()
    settle(reactor)
    expect([errors, writer.closed]).toEqual([['ERR_MEMORY_LOST'], true])
  })

  test(
    'by another process, under loops that run: the error, and not the signal',
    async () => {
      for (let round = 0; round < Math.min(20, Math.max(2, rounds / 1000)); round++) {
        const reactor: Reactor = openManual()
        const { ring, path } = unsealedRing()
        const { reader, writer } = openEnds(reactor, ring, { onFull: 'drop' })
        const cut = runScript(
          `import { truncateSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
        truncateSync(process.argv[1], ${round % 2 === 0 ? 0 : 4096})`,
          { args: [path], bare: true },
        )
        const ends = new Set<string>()
        let reading = true
        let writing = true
        const end = performance.now() + 15_000
        while ((reading || writing) && performance.now() < end) {
          for (let index = 0; index < 2000; index++) {
            try {
              if (writing) writer.write(message(index, 300))
            } catch (error) {
              ends.add(codeOf(error))
              writing = false
            }
            try {
              if (reading) while (reader.read() !== undefined);
            } catch (error) {
              ends.add(codeOf(error))
              reading = false
            }
            if (!reading) ring.control[TAIL] = 0 // or the writer finds it full, and asks no more
          }
          await new Promise((resolve) => setImmediate(resolve))
        }
        expect([...ends, reading, writing]).toEqual(['ERR_MEMORY_LOST', false, false])
        expect((await cut).code).toBe(0)
      }
    },
    LIMIT_MS,
  )
})

test('a doorbell whose counter the other side has filled does not matter', () => {
  const reactor = openManual()
  const { ring, reader, writer } = openEnds(reactor)
  const heard: number[] = []
  reader.on('message', (bytes) => heard.push(bytes.length))
  settle(reactor)
  const fill = (handle: FdHandle): void => {
    eventfd.write(handle.fd, 2n ** 64n - 2n)
  }
  fill(ring.filled)
  fill(ring.drained)
  for (let index = 0; index < 10; index++) {
    writer.write(message(index, 1000))
    fill(ring.filled)
    fill(ring.drained)
    ring.wake()
  }
  settle(reactor)
  expect(heard).toHaveLength(10)
})
