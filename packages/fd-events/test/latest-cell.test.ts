import { fileURLToPath } from 'node:url'
import { ftruncateSync } from 'node:fs'
import { Worker } from 'node:worker_threads'
import { Mapping } from '@fd-reactor/core'
import { LatestCellReader, LatestCellWriter, record, SharedMemory } from '@fd-reactor/fd-events'
import { describe, expect, onTestFinished, test } from 'vitest'
import { fdEventsUrl, runScript } from '../../core/test/support/child.js'
import { assertNoLeakedFds } from '../../core/test/support/fds.js'
import { randomNumbers } from '../../core/test/support/random.js'
import { childEnded, until, within } from '../../core/test/support/wait.js'
import {
  assertNoMappings,
  cellMemory,
  cellPair,
  CellProcess,
  commit,
  compiled,
  expectWhole,
  publish,
  Sample,
} from './cell-helpers.js'

assertNoLeakedFds()
assertNoMappings()

const READS = Number(process.env['FD_REACTOR_CELL_READS'] ?? 2_000_000)
const KILLS = Number(process.env['FD_REACTOR_CELL_KILLS'] ?? 100)
const FUZZ = Number(process.env['FD_REACTOR_FUZZ'] ?? 2000)
const SEED = Number(process.env['FD_REACTOR_SEED'] ?? Date.now() % 2 ** 31)
const MAGIC_AT = 0
const VERSION_AT = 4
const SLOTS_AT = 12
const STRIDE_AT = 16
const SEQUENCE_AT = 64
const cSource = fileURLToPath(new URL('../../bench/c/cell.c', import.meta.url))

describe('one process', () => {
  test('a reader sees the newest sample, once', () => {
    const { writer, reader } = cellPair()
    expect([reader.read(), reader.sequence]).toEqual([false, 0])
    for (let i = 0; i < 3; i++) publish(writer)
    expect([reader.read(), reader.sequence, writer.sequence, reader.retries]).toEqual([true, 3, 3, 0])
    expectWhole(reader)
    expect(reader.read()).toBe(false)
    expectWhole(reader)
    publish(writer)
    expect([reader.read(), reader.sequence]).toEqual([true, 4])
    expectWhole(reader)
  })

  test('fields that are not stored again keep their value', () => {
    const Two = record({ a: 'i32', b: 'f64' })
    const { memory, mapping } = cellMemory(LatestCellWriter.size(Two))
    const writer = new LatestCellWriter(mapping, Two)
    using theirs = memory.map({ access: 'read' })
    const reader = new LatestCellReader(theirs, Two)
    writer.value.a = 7
    for (let i = 1; i <= 40; i++) {
      writer.value.b = i
      writer.publish()
      expect([reader.read(), reader.value.a, reader.value.b]).toEqual([true, 7, i])
    }
  })

  test('samples written in place follow those that were published, and the other way round', () => {
    const { writer, reader } = cellPair({ slots: 4 })
    const random = randomNumbers(SEED)
    for (let i = 1; i <= 200; i++) {
      if (random(2) === 0) commit(writer)
      else publish(writer)
      expect([reader.read(), reader.sequence, writer.sequence], `seed ${SEED}`).toEqual([true, i, i])
      expectWhole(reader)
    }
    writer.claim().word.fill(7) // not committed
    expect(reader.read()).toBe(false)
    commit(writer)
    reader.read()
    expectWhole(reader)
  })

  test('the sequence passes 2^32', () => {
    const { mapping } = cellPair()
    new BigUint64Array(mapping.buffer)[SEQUENCE_AT / 8] = 2n ** 32n - 3n
    const writer = new LatestCellWriter(mapping, Sample)
    const reader = new LatestCellReader(mapping, Sample)
    for (let i = 2 ** 32 - 2; i < 2 ** 32 + 3; i++) {
      commit(writer)
      expect([reader.read(), reader.sequence, writer.sequence]).toEqual([true, i, i])
      expectWhole(reader)
    }
    expect(new LatestCellWriter(mapping, Sample).sequence).toBe(2 ** 32 + 2)
  })

  test('several cells share a mapping', () => {
    const size = LatestCellWriter.size(Sample, { slots: 4 })
    const { mapping } = cellMemory(2 * size)
    const writers = [0, size].map((offset) => new LatestCellWriter(mapping, Sample, { offset, slots: 4 }))
    const readers = [0, size].map((offset) => new LatestCellReader(mapping, Sample, { offset }))
    for (const [index, writer] of writers.entries()) for (let i = 0; i <= index + 9; i++) publish(writer)
    expect(readers.map((reader) => [reader.read(), reader.sequence, reader.slots])).toEqual([
      [true, 10, 4],
      [true, 11, 4],
    ])
    for (const reader of readers) expectWhole(reader)
  })

  test('records of every size are whole', () => {
    for (const bytes of [1, 7, 8, 9, 63, 64, 65, 128, 4097]) {
      const Bytes = record({ bytes: ['u8', bytes] })
      const { mapping } = cellMemory(LatestCellWriter.size(Bytes))
      const writer = new LatestCellWriter(mapping, Bytes)
      const reader = new LatestCellReader(mapping, Bytes)
      for (let i = 1; i < 40; i++) {
        writer.value.bytes.fill(i)
        writer.publish()
        reader.read()
        expect(reader.value.bytes.every((byte) => byte === i)).toBe(true)
      }
    }
  })

  test('a new writer goes on after the last one, also with a slot half-written', () => {
    const { mapping, writer, reader } = cellPair()
    for (let i = 0; i < 20; i++) publish(writer)
    new Uint8Array(mapping.buffer, 128 + (21 % 16) * 64, 32).fill(0xee)
    expect(reader.read()).toBe(true)
    expectWhole(reader)
    const next = new LatestCellWriter(mapping, Sample)
    expect([next.sequence, next.slots]).toEqual([20, 16])
    publish(next)
    expect([reader.read(), reader.sequence]).toEqual([true, 21])
    expectWhole(reader)
  })

  test('publishing and reading do not allocate', async () => {
    const script = `
      const Pose = events.record({ position: 'f64', axes: ['f64', 6], stamp: 'u64' })
      const memory = events.SharedMemory.create(events.LatestCellWriter.size(Pose))
      const mapping = memory.map()
      const writer = new events.LatestCellWriter(mapping, Pose)
      const reader = new events.LatestCellReader(mapping, Pose)
      const sum = new Float64Array(1)
      function step(i) {
        writer.value.position = i + 0.5; writer.value.axes[3] = i / 3; writer.value.stamp = i * 2 ** 20
        writer.publish()
        const place = writer.claim()
        place.position = i - 0.5; place.axes[3] = i / 7; place.stamp = i * 2 ** 21
        writer.commit()
        if (reader.read())
          sum[0] += reader.value.position + reader.value.axes[3] + reader.value.stamp + reader.sequence
      }
      function use(count) {
        for (let i = 0; i < count; i++) step(i)
      }
      for (let i = 0; i < 20; i++) use(50_000)
      gc()
      const before = process.memoryUsage().heapUsed
      use(1_000_000)
      console.log(process.memoryUsage().heapUsed - before)`
    // Were something allocated, it would not be collected in between: the young generation has room for all of it.
    const { stdout, stderr } = await runScript(script, {
      execArgv: ['--expose-gc', '--max-semi-space-size=512', '--min-semi-space-size=512'],
    })
    expect(stderr).toBe('')
    expect(Number(stdout)).toBeLessThan(200_000)
  })
})

describe('several processes', () => {
  test.each([
    { count: 1, how: 'publish' },
    { count: 4, how: 'publish' },
    { count: 1, how: 'commit' },
    { count: 4, how: 'commit' },
  ])(
    'a writer at full speed ($how) and readers ($count): no torn sample',
    async ({ count, how }) => {
      const { memory, mapping } = cellMemory()
      new LatestCellWriter(mapping, Sample)
      const readers = await Promise.all(
        Array.from({ length: count }, async () =>
          CellProcess.node(memory, 'read', String(READS / 2 / count)),
        ),
      )
      const writer = await CellProcess.node(memory, 'write', how)
      const limit = 20_000 + READS / 100
      const seen = await Promise.all(readers.map(async (reader) => reader.figures(limit)))
      writer.child.kill('SIGTERM')
      const written = await writer.figures()
      if (process.env['FD_REACTOR_CELL_READS'] !== undefined) console.log(READS / 2, how, seen, written)
      for (const figures of seen) expect(figures).toMatchObject({ torn: 0, older: 0 })
      // Nothing else counts up, so nothing was repeated because of a reader.
      const { published, sequence } = written as { published: number; sequence: number }
      expect([sequence, published > 0]).toEqual([published, true])
      await Promise.all([...readers, writer].map(async ({ child }) => childEnded(child)))
    },
    30_000 + READS / 50,
  )

  test(
    'a program in C reads what is written in place at full speed: no torn sample',
    async () => {
      const { memory, mapping } = cellMemory()
      new LatestCellWriter(mapping, Sample)
      const reader = new CellProcess(memory, [compiled(cSource), 'read'])
      expect(await reader.line()).toBe('ready')
      const writer = await CellProcess.node(memory, 'write', 'commit')
      const look = new LatestCellReader(mapping, Sample)
      await until(() => look.read() && look.sequence > READS, 'as many samples', 60_000 + READS / 500)
      writer.child.kill('SIGTERM')
      reader.child.kill('SIGTERM')
      const seen = (await reader.figures()) as { fresh: number; torn: number }
      if (process.env['FD_REACTOR_CELL_READS'] !== undefined) console.log(seen, await writer.figures())
      expect(seen).toMatchObject({ torn: 0 })
      expect(seen.fresh).toBeGreaterThan(READS / 1000)
      await Promise.all([reader, writer].map(async ({ child }) => childEnded(child)))
    },
    70_000 + READS / 500,
  )

  test(`a writer killed ${KILLS} times leaves its last sample, and the next goes on`, async () => {
    const random = randomNumbers(SEED)
    const { memory, reader } = cellPair()
    const program = compiled(cSource)
    let last = 0
    for (let kill = 0; kill < KILLS; kill++) {
      const inNode = kill % 20 === 19
      const writer = inNode
        ? await CellProcess.node(memory, 'write', kill % 40 === 19 ? 'publish' : 'commit')
        : new CellProcess(memory, [program, 'write', '60'])
      await until(() => reader.read() && reader.sequence > last, 'a sample of the next writer')
      for (let more = random(3000); more > 0; more--) if (reader.read()) expectNumbers(reader)
      writer.child.kill('SIGKILL')
      await childEnded(writer.child)
      reader.read()
      expect(reader.sequence, `seed ${SEED}`).toBeGreaterThan(last)
      expectWhole(reader)
      last = reader.sequence
    }
  }, 60_000)

  test('a program in C reads what we write, and we read what it writes', async () => {
    const { memory, writer, reader } = cellPair()
    const program = compiled(cSource)
    publish(writer)
    const theirs = new CellProcess(memory, [program, 'read'])
    expect(await theirs.line()).toBe('ready')
    const end = performance.now() + 200
    while (performance.now() < end) publish(writer)
    theirs.child.kill('SIGTERM')
    const seen = (await theirs.figures()) as { fresh: number }
    expect(seen).toMatchObject({ torn: 0 })
    expect(seen.fresh).toBeGreaterThan(0)
    const last = writer.sequence
    const writes = new CellProcess(memory, [program, 'write', '0.1'])
    await until(() => reader.read() && reader.sequence > last, 'a sample from C')
    expectWhole(reader)
    await writes.figures()
    await Promise.all([childEnded(theirs.child), childEnded(writes.child)])
  })

  test('a worker reads through a mapping of its own, and may be terminated while it does', async () => {
    const { memory, writer, reader } = cellPair()
    const source = `
      const { parentPort, workerData } = require('node:worker_threads')
      import(workerData.url).then(({ LatestCellReader, record, SharedMemory }) => {
        const memory = SharedMemory.open(workerData.name, { access: 'read' })
        const reader = new LatestCellReader(memory.map({ access: 'read' }), record({ word: ['f64', 8] }))
        let torn = 0
        for (;;) {
          while (!reader.read());
          for (let at = 0; at < 8; at++) if (reader.value.word[at] !== reader.sequence * (at + 1)) torn++
          parentPort.postMessage([reader.sequence, torn])
        }
      })`
    expect(memory.name).toBeUndefined()
    const name = `fd-reactor-cell-${process.pid}`
    using named = SharedMemory.create(LatestCellWriter.size(Sample), { name })
    onTestFinished(() => {
      SharedMemory.unlink(name)
    })
    using mapping = named.map()
    const shared = new LatestCellWriter(mapping, Sample)
    const worker = new Worker(source, { eval: true, workerData: { url: fdEventsUrl, name } })
    const seen: [number, number][] = []
    worker.on('message', (message: [number, number]) => seen.push(message))
    await until(() => {
      publish(shared)
      return seen.length > 5
    }, 'samples in the worker')
    await within(worker.terminate(), 'the end of the worker')
    expect(seen.every(([, torn]) => torn === 0)).toBe(true)
    publish(writer)
    expect(reader.read()).toBe(true)
  })
})

describe('a hostile peer', () => {
  test('whatever lies in the memory, calls end and throw what is documented', () => {
    const random = randomNumbers(SEED)
    const { mapping, writer, reader } = cellPair({ slots: 4 })
    const bytes = new Uint8Array(mapping.buffer)
    const words = new BigUint64Array(mapping.buffer)
    const codes = new Set<unknown>()
    const attempt = (action: () => unknown): void => {
      try {
        action()
      } catch (error) {
        codes.add((error as { code?: unknown }).code)
      }
    }
    for (let round = 0; round < FUZZ; round++) {
      if (random(4) === 0)
        words[8] = [0n, 1n, 2n ** 53n, 2n ** 63n, 2n ** 64n - 1n, BigInt(random(9))][random(6)] ?? 0n
      else
        for (let i = random(40); i > 0; i--) bytes[random(random(2) === 0 ? 32 : bytes.length)] = random(256)
      attempt(() => reader.read())
      attempt(() => new LatestCellReader(mapping, Sample).read())
      attempt(() => writer.publish())
      attempt(() => commit(writer))
      attempt(() => new LatestCellWriter(mapping, Sample).publish())
    }
    const allowed = ['ERR_SHARED_LAYOUT', 'ERR_CELL_CORRUPT', 'ERR_CELL_LAPPED']
    expect(
      [...codes].filter((code) => !allowed.includes(String(code))),
      `seed ${SEED}`,
    ).toEqual([])
  })

  test('somebody who changes the sequence without end gets the reader an error, not a hang', async () => {
    const name = `fd-reactor-cell-${process.pid}`
    using memory = SharedMemory.create(LatestCellWriter.size(Sample), { name })
    onTestFinished(() => {
      SharedMemory.unlink(name)
    })
    using mapping = memory.map()
    new LatestCellWriter(mapping, Sample)
    const source = `
      const { parentPort, workerData } = require('node:worker_threads')
      import(workerData.url).then(({ SharedMemory }) => {
        const mapping = SharedMemory.open(workerData.name).map()
        const sequence = new Uint32Array(mapping.buffer, ${SEQUENCE_AT}, 2)
        parentPort.postMessage('ready')
        for (let i = 1; ; i += 4000) Atomics.store(sequence, i & 1, i & 0xfffff)
      })`
    const worker = new Worker(source, { eval: true, workerData: { url: fdEventsUrl, name } })
    let ready = false
    worker.on('message', () => (ready = true))
    await until(() => ready, 'the worker')
    const codes = new Set<unknown>()
    for (let i = 0; i < 20_000; i++) {
      try {
        new LatestCellReader(mapping, Sample).read()
      } catch (error) {
        codes.add((error as { code?: unknown }).code)
      }
    }
    await worker.terminate()
    expect([...codes].filter((code) => code !== 'ERR_CELL_CORRUPT' && code !== 'ERR_CELL_LAPPED')).toEqual([])
  })

  test('a sequence that goes back', () => {
    const { mapping, writer, reader } = cellPair()
    for (let i = 0; i < 5; i++) publish(writer)
    reader.read()
    new BigUint64Array(mapping.buffer)[SEQUENCE_AT / 8] = 3n
    expect(() => reader.read()).toThrow(
      expect.objectContaining({
        code: 'ERR_CELL_CORRUPT',
        message: expect.stringMatching(
          /^LatestCell at 0 in SharedMemory \d+: its sequence went back behind 5, or is no count: somebody else wrote to it. Make a new cell$/,
        ),
      }),
    )
    publish(writer)
    expect([reader.read(), reader.sequence]).toEqual([true, 6])
  })

  test('a file that is cut short gives an error, not a SIGBUS', () => {
    const name = `fd-reactor-cut-${process.pid}`
    using memory = SharedMemory.create(LatestCellWriter.size(Sample), { name })
    SharedMemory.unlink(name)
    using mapping = memory.map()
    const writer = new LatestCellWriter(mapping, Sample)
    const reader = new LatestCellReader(mapping, Sample)
    publish(writer)
    ftruncateSync(memory.handle.fd, 0)
    const lost = expect.objectContaining({ code: 'ERR_MEMORY_LOST' })
    expect(() => reader.read()).toThrow(lost)
    for (const action of [() => writer.publish(), () => commit(writer)]) expect(action).toThrow(lost)
  })
})

describe('unmapping', () => {
  test('both ends throw, and what was read stays', () => {
    const { mapping, writer, theirs, reader } = cellPair()
    publish(writer)
    reader.read()
    mapping.unmap()
    theirs.unmap()
    const closed = expect.objectContaining({
      code: 'ERR_CLOSED',
      message: expect.stringMatching(
        /^LatestCell at 0 in SharedMemory \d+: its memory was unmapped. Make it anew on a new mapping$/,
      ),
    })
    for (const action of [() => writer.publish(), () => writer.commit(), () => reader.read()])
      expect(action).toThrow(closed)
    expect(() => writer.claim()).toThrow(expect.objectContaining({ code: 'ERR_CLOSED' }))
    expectWhole(reader)
    expect(() => new LatestCellReader(theirs, Sample)).toThrow(
      expect.objectContaining({ code: 'ERR_CLOSED' }),
    )
  })

  test('ends that are dropped let go of memory, staging views that are kept stay', async () => {
    const before = Mapping.live
    const kept = Array.from({ length: 200 }, () => {
      using memory = SharedMemory.create(LatestCellWriter.size(Sample))
      using mapping = memory.map()
      const writer = new LatestCellWriter(mapping, Sample)
      publish(writer)
      return writer.value.word
    })
    globalThis.gc?.()
    expect(kept.every((word) => word[7] === 8)).toBe(true)
    kept.length = 0
    await until(() => {
      globalThis.gc?.()
      return Mapping.live <= before
    }, 'the end of the mappings')
  })

  test('a staging buffer that is moved away harms nobody', () => {
    const { writer, reader } = cellPair()
    const { buffer } = writer.value.word
    if (!(buffer instanceof ArrayBuffer)) throw new Error('it is shared')
    // Node 20 makes a copy, later ones refuse.
    try {
      structuredClone(buffer, { transfer: [buffer] })
    } catch (error) {
      expect(error).toMatchObject({ name: 'DataCloneError' })
    }
    writer.publish()
    expect(reader.read()).toBe(true)
    const transfer: unknown = Reflect.get(buffer, 'transfer') // since Node 22
    if (typeof transfer !== 'function') return
    const moved: unknown = Reflect.apply(transfer, buffer, [])
    for (const action of [() => writer.publish(), () => writer.commit()])
      expect(action).toThrow(
        expect.objectContaining({
          code: 'ERR_CLOSED',
          message: expect.stringMatching(/: the buffer behind its value was transferred. Make it anew$/),
        }),
      )
    expect(moved).toBeInstanceOf(ArrayBuffer)
  })
})

describe('refusals', () => {
  const layout = (message: string | RegExp): unknown =>
    expect.objectContaining({ code: 'ERR_SHARED_LAYOUT', message: expect.stringMatching(message) })

  test('no cell, another magic, version, schema or number of slots', () => {
    const { mapping } = cellMemory()
    const header = new Uint32Array(mapping.buffer, 0, 8)
    const open = () => new LatestCellReader(mapping, Sample)
    expect(open).toThrow(
      layout(/^LatestCell at 0 in SharedMemory \d+: there is no cell yet: its writer has to make it first$/),
    )
    new LatestCellWriter(mapping, Sample)
    const changed = (at: number, value: number, message: RegExp): void => {
      const before = header[at / 4] ?? 0
      header[at / 4] = value
      expect(open).toThrow(layout(message))
      expect(() => new LatestCellWriter(mapping, Sample)).toThrow(layout(message))
      header[at / 4] = before
    }
    changed(
      MAGIC_AT,
      1,
      /: something else than a cell lies there. Look for it at its offset, or use memory of zeros$/,
    )
    changed(VERSION_AT, 2, /: the cell has version 2, not 1. Use the same release on both sides$/)
    changed(SLOTS_AT, 12, /: the cell cannot have 12 slots, one each 64 bytes. Make a new one$/)
    changed(STRIDE_AT, 8, /: the cell cannot have 16 slots, one each 8 bytes. Make a new one$/)
    expect(open().read()).toBe(false)
    expect(() => new LatestCellReader(mapping, record({ word: ['f64', 7] }))).toThrow(
      layout(
        /: the cell has records of 64 bytes and hash [0-9a-f]+, not 56 bytes and hash [0-9a-f]+ \(word:f64\[7\]@0 size:56\). Use the same schema on both sides$/,
      ),
    )
    expect(() => new LatestCellWriter(mapping, Sample, { slots: 8 })).toThrow(
      layout(/: the cell has 16 slots, not 8. Leave the option out to take it over, or use memory of zeros$/),
    )
  })

  test('a header that promises more slots than there is memory for', () => {
    const { mapping } = cellMemory()
    new LatestCellWriter(mapping, Sample)
    new Uint32Array(mapping.buffer, 0, 8)[SLOTS_AT / 4] = 1024
    expect(() => new LatestCellReader(mapping, Sample)).toThrow(
      /^SharedMemory \d+: 65536 bytes at 128 are not within 1152 bytes$/,
    )
  })

  test('memory that is too small, read-only, or at a wrong offset; options that do not exist', () => {
    const { memory, mapping } = cellMemory(4096)
    expect(() => new LatestCellWriter(mapping, Sample, { offset: 3072 })).toThrow(
      /^LatestCell at 3072 in SharedMemory \d+: a cell of 16 slots ends at byte 4224 and the mapping at 4096. LatestCellWriter.size\(\) tells how much it needs$/,
    )
    expect(() => new LatestCellWriter(mapping, Sample, { offset: 32 })).toThrow(
      new RangeError('The offset of a cell must be a multiple of 64, not 32'),
    )
    expect(() => new LatestCellReader(mapping, Sample, { offset: 8192 })).toThrow(RangeError)
    expect(() => LatestCellWriter.size(Sample, { slots: 12 })).toThrow(
      new RangeError("LatestCellWriter.size option 'slots' must be a power of two, not 12"),
    )
    expect(() => LatestCellWriter.size(Sample, { slots: 2 })).toThrow(
      "LatestCellWriter.size option 'slots' must be an integer from 4 to 1024, not 2",
    )
    expect(() => new LatestCellReader(mapping, Sample, { ofset: 0 } as object)).toThrow(
      "LatestCellReader has no option 'ofset'; did you mean 'offset'?",
    )
    using theirs = memory.map({ access: 'read' })
    expect(() => new LatestCellWriter(theirs, Sample)).toThrow(
      /^LatestCell at 0 in SharedMemory \d+: its writer needs a mapping with access 'write', and this one is read-only$/,
    )
  })
})

/** Without the matchers, which are too slow for a loop. */
function expectNumbers(reader: LatestCellReader<(typeof Sample)['declared']>): void {
  const { word } = reader.value
  for (let at = 0; at < 8; at++) {
    if (word[at] !== reader.sequence * (at + 1)) throw new Error(`sample ${reader.sequence} is torn`)
  }
}
