import { randomFillSync } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { Worker } from 'node:worker_threads'
import { Mapping, type MappingRequest } from '@fd-reactor/core'
import { SharedMemory } from '@fd-reactor/fd-events'
import { describe, expect, onTestFinished, test } from 'vitest'
import { fdEventsUrl, runForJson } from './support/child.js'
import { assertNoLeakedFds } from './support/fds.js'
import { assertNoLeakedMemory, liveMappings } from './support/memory.js'
import { within } from './support/wait.js'

assertNoLeakedFds()
assertNoLeakedMemory()

const PAGE = 4096
/** `FD_REACTOR_UNMAPS=10000` for the long run. */
const CYCLES = Number(process.env['FD_REACTOR_UNMAPS'] ?? 1000)
const WORKERS = Math.ceil(CYCLES / 80)

function memoryOf(size: number): SharedMemory {
  const memory = SharedMemory.create(size)
  onTestFinished(() => {
    memory.close()
  })
  return memory
}

function mappingOf(size: number): Mapping {
  const mapping = memoryOf(size).map()
  onTestFinished(() => {
    mapping.unmap()
  })
  return mapping
}

describe('unmap()', () => {
  test('empties every view, and the memory stays for others', () => {
    const memory = memoryOf(2 * PAGE)
    const [mine, theirs] = [memory.map(), memory.map()]
    const views = [new Uint8Array(mine.buffer), new Int32Array(mine.buffer, PAGE), Buffer.from(mine.buffer)]
    const data = new DataView(mine.buffer)
    views[0]?.fill(7)
    expect(mine.unmapped).toBe(false)
    mine.unmap()
    mine.unmap()
    expect(mine.unmapped).toBe(true)
    expect(views.map((view) => [view.length, view[0]])).toEqual(views.map(() => [0, undefined]))
    expect(() => data.getInt8(0)).toThrow(TypeError)
    expect(new Uint8Array(theirs.buffer).every((byte) => byte === 7)).toBe(true)
    theirs.unmap()
  })

  test('using ends it, and every later use says so', () => {
    const memory = memoryOf(PAGE)
    let mapping: Mapping | undefined
    {
      using inner = memory.map()
      mapping = inner
    }
    const closed = { code: 'ERR_CLOSED', message: `SharedMemory ${memory.handle.fd} is closed` }
    for (const use of [
      () => mapping.buffer,
      () => mapping.lost,
      () => {
        mapping.assertIntact()
      },
      () => {
        mapping.load(0, new Uint8Array(1))
      },
      () => {
        mapping.store(0, new Uint8Array(1))
      },
      () => {
        mapping.sync(0, PAGE, true)
      },
      () => {
        mapping.advise(0, PAGE, 'random')
      },
    ])
      expect(use).toThrow(expect.objectContaining(closed))
  })

  test('a dropped mapping lives as long as a view of its buffer, and no longer', async () => {
    const before = await liveMappings()
    const memory = memoryOf(PAGE)
    const views = [new Uint8Array(memory.map().buffer)]
    views[0]?.fill(1)
    await liveMappings(before)
    expect(Mapping.live).toBe(before + 1)
    expect(views[0]?.[0]).toBe(1)
    views.pop()
    expect(await liveMappings(before)).toBe(before)
  })

  test('its addresses are nobody else’s while a view may be in use', () => {
    const memory = memoryOf(PAGE)
    const mapping = memory.map()
    const view = new Uint8Array(mapping.buffer)
    const ranges = (): number => readFileSync('/proc/self/maps', 'utf8').split('memfd:fd-reactor').length - 1
    const before = ranges()
    mapping.unmap()
    expect(ranges()).toBe(before - 1)
    expect(view.length).toBe(0)
  })

  test(
    '100,000 windows of 1 GiB, one after the other, exhaust neither addresses nor mappings',
    async () => {
      const count = CYCLES * 10 // fewer by default
      const memory = memoryOf(2 ** 30)
      let most = 0
      for (let n = 0; n < count; n++) {
        const window = memory.map()
        new Uint8Array(window.buffer)[n] = 1
        window.unmap()
        most = Math.max(most, Mapping.live)
        if (n % 100 === 99) await new Promise((resolve) => setImmediate(resolve))
      }
      expect(most).toBeLessThan(20_000) // the space for addresses is 131,072 GiB
    },
    30_000 + CYCLES * 60,
  )
})

describe('moving the buffer elsewhere', () => {
  test('a clone is a copy, and a transfer list is refused or ignored', () => {
    const mapping = mappingOf(PAGE)
    const view = new Uint8Array(mapping.buffer)
    view[0] = 5
    const clone = structuredClone(mapping.buffer)
    view[0] = 6
    expect(new Uint8Array(clone)[0]).toBe(5)
    try {
      structuredClone(mapping.buffer, { transfer: [mapping.buffer] })
    } catch (error) {
      expect(error).toMatchObject({ name: 'DataCloneError' })
    }
    expect([view.length, view[0]]).toEqual([PAGE, 6])
  })
})

describe('workers', () => {
  const SCRIPT = `
    const { parentPort, workerData } = require('node:worker_threads')
    const { fdEventsUrl, ending } = workerData
    const main = async () => {
      const { SharedMemory } = await import(fdEventsUrl)
      const { randomFill } = require('node:crypto')
      const memory = SharedMemory.create(1 << 20)
      const all = []
      for (let n = 0; n < 8; n++) {
        const mapping = memory.map(n % 2 ? { access: 'read' } : {})
        const view = new Uint8Array(mapping.buffer)
        all.push(mapping, view)
        randomFill(view, () => {})
        if (n % 4 === 3) mapping.unmap()
      }
      globalThis.all = all
      parentPort.postMessage('ready')
      if (ending === 'exit') process.exit()
      if (ending === 'error') throw new Error('on purpose')
      if (ending === 'loop') for (;;) all[1].fill(1)
    }
    void main()`

  test('end with live mappings and jobs, in every way, and nothing stays', { timeout: 60_000 }, async () => {
    const before = await liveMappings()
    const endings = ['exit', 'error', 'loop', 'terminate']
    for (let n = 0; n < WORKERS; n++) {
      const ending = endings[n % endings.length]
      const workerData = { fdEventsUrl, ending }
      const worker = new Worker(SCRIPT, { eval: true, execArgv: [], workerData })
      const exit = new Promise((resolve) => worker.once('exit', resolve))
      worker.on('error', (error) => {
        expect(error).toMatchObject({ message: 'on purpose' })
      })
      if (ending === 'loop' || ending === 'terminate')
        worker.once('message', () => {
          void worker.terminate()
        })
      await within(exit, `the end of a worker by ${ending}`, 20_000)
    }
    expect(await liveMappings(before)).toBe(before)
  })

  test('a process ends with live mappings and jobs', async () => {
    const script = `
      const { randomFill } = await import('node:crypto')
      const memory = events.SharedMemory.create(1 << 20)
      globalThis.all = Array.from({ length: 20 }, () => memory.map())
      for (const mapping of all) randomFill(new Uint8Array(mapping.buffer), () => {})
      for (const mapping of all.slice(10)) mapping.unmap()
      console.log('1')
      process.exit()`
    expect(await runForJson(script)).toBe(1)
  })
})

describe('load() and store()', () => {
  test('copy what they say, aligned or not', () => {
    const mapping = mappingOf(PAGE)
    const all = new Uint8Array(mapping.buffer)
    for (const [offset, length] of [
      [0, 64],
      [8, 13],
      [3, 1],
      [5, 100],
      [PAGE - 7, 7],
      [0, 0],
      [PAGE, 0],
      [0, PAGE],
    ] as const) {
      all.fill(0)
      const bytes = randomFillSync(new Uint8Array(length + 3)).subarray(3)
      mapping.store(offset, bytes)
      expect(all.subarray(offset, offset + length)).toEqual(bytes)
      expect(all.subarray(0, offset).every((byte) => byte === 0)).toBe(true)
      const back = new Uint8Array(length)
      mapping.load(offset, back)
      expect(back).toEqual(bytes)
    }
  })

  test('refuse what is outside, or no bytes', () => {
    const mapping = mappingOf(PAGE)
    const says = (message: string): RegExp => new RegExp(`^SharedMemory \\d+: ${message}$`)
    for (const [offset, length] of [
      [PAGE, 1],
      [-1, 1],
      [0, PAGE + 1],
      [2 ** 53, 8],
    ] as const)
      expect(() => {
        mapping.load(offset, new Uint8Array(length))
      }).toThrow(says(`${length} bytes at ${offset} are not within ${PAGE} bytes`))
    for (const wrong of [new Float64Array(1), 'text', undefined])
      expect(() => {
        mapping.store(0, wrong as never)
      }).toThrow(says('bytes must be a Uint8Array'))
  })
})

test('sync() and advise() reach the kernel', () => {
  const mapping = mappingOf(4 * PAGE)
  mapping.sync(0, 4 * PAGE, true)
  mapping.sync(PAGE, PAGE, false)
  for (const advice of ['normal', 'random', 'sequential', 'willneed'] as const)
    mapping.advise(0, PAGE, advice)
  const einval = { code: 'EINVAL', syscall: 'msync' }
  mapping.sync(1, PAGE, true) // whole pages are written, whatever part of them is meant
  expect(() => {
    mapping.sync(0, 5 * PAGE, true)
  }).toThrow(expect.objectContaining(einval))
})

test('a request that cannot be is refused, and leaves nothing', async () => {
  const before = await liveMappings()
  const memory = memoryOf(PAGE)
  const good: MappingRequest = {
    offset: 0,
    length: PAGE,
    write: true,
    populate: false,
    lock: false,
    losable: false,
    page: PAGE,
  }
  const message = "EINVAL: invalid argument, mmap 'it'"
  for (const wrong of [{ length: 0 }, { length: 2 ** 33 }, { offset: 1 }, { length: -1 }, { page: 0 }])
    expect(() => new Mapping(memory.handle.fd, { ...good, ...wrong }, 'it')).toThrow(message)
  expect(await liveMappings(before)).toBe(before)
})
