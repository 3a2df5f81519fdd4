import {
  existsSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { FdHandle, Mapping } from '@fd-reactor/core'
import { SharedMemory } from '@fd-reactor/fd-events'
import { describe, expect, onTestFinished, test } from 'vitest'
import { testAddonPath } from './support/addon.js'
import { runForJson, runScript } from './support/child.js'
import { assertNoLeakedFds } from './support/fds.js'
import { assertNoLeakedMemory, memoryName } from './support/memory.js'

assertNoLeakedFds()
assertNoLeakedMemory()

const PAGE = 4096
const LOST =
  'the file was cut short while it was mapped, and what was read there is not to be trusted. ' +
  'Unmap it; seals prevent this for memory that was made by SharedMemory.create()'

function fileOf(pages: number): { path: string; memory: SharedMemory } {
  const folder = mkdtempSync(join(tmpdir(), 'fd-reactor-'))
  const path = join(folder, 'file')
  writeFileSync(path, Buffer.alloc(pages * PAGE, 7))
  const memory = SharedMemory.from(FdHandle.adopt(openSync(path, 'r+')))
  onTestFinished(() => {
    memory.close()
    rmSync(folder, { recursive: true })
  })
  return { path, memory }
}

/** In the scripts: a file with `size` bytes, and somebody else who cuts it short as soon as they can. */
const KIT = `
  import { spawn } from 'node:child_process'
  import { openSync, writeFileSync } from 'node:fs'
  const { SharedMemory } = events
  const size = 1 << 20
  const file = (kind) => {
    if (kind === 'name') {
      const name = process.argv[1]
      return { memory: SharedMemory.create(size, { name }), path: '/dev/shm/' + name, name }
    }
    const path = process.env.SCRIPT_FOLDER + '/file'
    writeFileSync(path, Buffer.alloc(size, 1))
    return { memory: SharedMemory.from(FdHandle.adopt(openSync(path, 'r+'))), path }
  }
  const cutByAnother = (where) => {
    const script = 'require("fs").truncateSync(' + JSON.stringify(where) + ', 8192)'
    return new Promise((resolve) => spawn(process.execPath, ['-e', script], { stdio: 'inherit' }).on('exit', resolve))
  }
  const end = performance.now() + 10_000`

describe('a file that another process cuts short under a hot loop', () => {
  const LOOPS = {
    reads: 'for (let n = 0; n < words.length; n++) sum += words[n]',
    writes: 'for (let n = 0; n < words.length; n++) words[n] = n',
    'atomic operations': 'for (let n = 0; n < words.length; n++) Atomics.add(words, n, 1)',
    'native copies': 'mapping.load(0, bytes); mapping.store(0, bytes)',
  }
  const cases = [
    ['name', 'reads'],
    ['file', 'writes'],
    ['name', 'atomic operations'],
    ['file', 'native copies'],
  ] as const
  test.each(cases)('a %s, and %s: the error, not the signal', async (kind, loop) => {
    const script = `${KIT}
      const { memory, path: where, name } = file('${kind}')
      const mapping = memory.map()
      const words = new Int32Array(mapping.buffer)
      const bytes = new Uint8Array(size)
      let sum = 0
      const loopOnce = () => { ${LOOPS[loop]} }
      for (let n = 0; n < 20; n++) loopOnce() // compiled by now
      const cut = cutByAnother(where)
      mapping.assertIntact()
      while (!mapping.lost && performance.now() < end) loopOnce()
      let code
      try { mapping.assertIntact() } catch (error) { code = error.code }
      const later = new Uint8Array(mapping.buffer)
      later[8191] = 9 // still there
      later[size - 1] = 8 // stays on a page of its own
      mapping.unmap()
      const again = memory.map({ length: 8192 })
      const fresh = { length: again.buffer.byteLength, at: new Uint8Array(again.buffer)[8191], lost: again.lost }
      again.unmap()
      memory.close()
      if (name) SharedMemory.unlink(name)
      console.log(JSON.stringify({ code, fresh, cut: await cut }))`
    expect(await runForJson(script, { args: [memoryName()] })).toEqual({
      code: 'ERR_MEMORY_LOST',
      fresh: { length: 8192, at: 9, lost: false },
      cut: 0,
    })
  })

  test('several mappings in several threads, and jobs of the thread pool', { timeout: 90_000 }, async () => {
    const script = `${KIT}
      import { Worker } from 'node:worker_threads'
      const { memory, path: where } = file('file')
      const worker = \`
        const { parentPort, workerData } = require('node:worker_threads')
        const { openSync } = require('node:fs')
        void (async () => {
          const { SharedMemory } = await import(workerData.url)
          const { FdHandle } = await import(workerData.core)
          const memory = SharedMemory.from(FdHandle.adopt(openSync(workerData.path, 'r+')))
          const [one, two, small] = [memory.map(), memory.map({ access: 'read' }), memory.map({ length: 4096 })]
          parentPort.postMessage('ready')
          const sum = (mapping) => new Int32Array(mapping.buffer).reduce((a, b) => a + b | 0)
          const end = performance.now() + 10_000
          while (!(one.lost && two.lost) && performance.now() < end) { sum(one); sum(two); sum(small) }
          parentPort.postMessage([one.lost, two.lost, small.lost])
        })()\`
      const workerData = { path: where, url: import.meta.resolve('@fd-reactor/fd-events'), core: import.meta.resolve('@fd-reactor/core') }
      const workers = [1, 2, 3].map(() => new Worker(worker, { eval: true, execArgv: [], workerData }))
      await Promise.all(workers.map((each) => new Promise((resolve) => each.once('message', resolve))))
      const heard = Promise.all(workers.map((each) => new Promise((resolve) => each.once('message', resolve))))
      const mapping = memory.map()
      await cutByAnother(where)
      const { subtle } = await import('node:crypto')
      const digest = await subtle.digest('SHA-256', new Uint8Array(mapping.buffer))
      const { deflate } = await import('node:zlib')
      const other = memory.map({ length: 8192 })
      const packed = await new Promise((resolve) => deflate(new Uint8Array(mapping.buffer), (error, bytes) => resolve(error ?? bytes.length > 0)))
      console.log(JSON.stringify({ workers: await heard, digest: digest.byteLength, packed, lost: mapping.lost, other: other.lost }))
      for (const each of workers) await each.terminate()
      process.exit()`
    const lost = [true, true, false]
    expect(await runForJson(script, { timeoutMs: 80_000 })).toEqual({
      workers: [lost, lost, lost],
      digest: 32,
      packed: true,
      lost: true,
      other: false,
    })
  })
})

describe('a lost mapping', () => {
  test('reads as zeros to its end, whatever comes back, and leaves the rest', () => {
    const { path, memory } = fileOf(16)
    const mapping = memory.map()
    const view = new Uint8Array(mapping.buffer)
    truncateSync(path, 4 * PAGE)
    expect([view[3 * PAGE], mapping.lost]).toEqual([7, false])
    expect([view[8 * PAGE], view[4 * PAGE], mapping.lost]).toEqual([0, 0, true])
    truncateSync(path, 16 * PAGE)
    view.fill(9)
    expect(readFileSync(path).subarray(0, 4 * PAGE)).toEqual(Buffer.alloc(4 * PAGE, 9))
    expect(readFileSync(path)[8 * PAGE]).toBe(0)
    expect(() => {
      mapping.assertIntact()
    }).toThrow(
      expect.objectContaining({
        code: 'ERR_MEMORY_LOST',
        message: `SharedMemory ${memory.handle.fd}: ${LOST}`,
      }),
    )
    mapping.unmap()
    const again = memory.map()
    expect([again.lost, new Uint8Array(again.buffer)[0]]).toEqual([false, 9])
    again.unmap()
  })

  test('takes few of the mappings that a process may have, however it is read', () => {
    const { path, memory } = fileOf(20_000)
    const mapping = memory.map()
    truncateSync(path, 0)
    const view = new Uint8Array(mapping.buffer)
    const lines = (): number => readFileSync('/proc/self/maps', 'utf8').split('\n').length
    const before = lines()
    let sum = 0
    // Backwards, and every second page: single pages would never merge.
    for (let at = view.length - PAGE; at > 0; at -= 2 * PAGE) sum += view[at] ?? 0
    view[PAGE] = 1
    expect([sum, mapping.lost]).toEqual([0, true])
    expect(lines() - before).toBeLessThan(10)
    mapping.unmap()
  })

  test('is an error of a system call that is given it', () => {
    const { path, memory } = fileOf(2)
    const mapping = memory.map()
    truncateSync(path, 0)
    const target = openSync(join(path, '..', 'other'), 'w+')
    const other = FdHandle.adopt(target)
    expect(() => writeSync(target, new Uint8Array(mapping.buffer))).toThrow(/^EFAULT/)
    other.close()
    mapping.unmap()
  })

  test('of read access is told as well', () => {
    const { path, memory } = fileOf(2)
    const mapping = memory.map({ access: 'read' })
    const view = new Uint8Array(mapping.buffer)
    view[PAGE] = 1 // a page of its own, and still the file's end takes it away
    truncateSync(path, 0)
    expect([view[PAGE], mapping.lost]).toEqual([0, true])
    mapping.unmap()
  })
})

test('4096 of them at a time, and one more is refused; then there is room again', () => {
  const { memory } = fileOf(1)
  const all: Mapping[] = []
  const before = Mapping.live
  let message = ''
  try {
    for (let n = 0; n <= 4096; n++) all.push(memory.map())
  } catch (error) {
    message = String(error)
  }
  expect(all.length).toBe(4096)
  expect(message).toBe(
    `SystemError: ENOMEM: not enough memory, sigaction 'SharedMemory ${memory.handle.fd}'. At most 4096 ranges that somebody can cut ` +
      'short are mapped at a time: unmap some, or map larger ones, or sealed memory',
  )
  all.pop()?.unmap()
  all.push(memory.map())
  for (const each of all) each.unmap()
  expect(Mapping.live).toBeGreaterThanOrEqual(before)
})

describe.runIf(existsSync(testAddonPath))('a bus error that is not ours', () => {
  const FOREIGN = `
    import { createRequire } from 'node:module'
    const foreign = createRequire('/')(${JSON.stringify(testAddonPath)})
    const { SharedMemory } = events
    const { truncateSync } = await import('node:fs')
    const name = process.argv[1]
    /** Ours is there from now on, and has had something to do. */
    const useOurs = () => {
      const memory = SharedMemory.create(8192, { name })
      const mapping = memory.map()
      truncateSync('/dev/shm/' + name, 0)
      SharedMemory.unlink(name)
      const found = [new Uint8Array(mapping.buffer)[0], mapping.lost]
      mapping.unmap()
      memory.close()
      return found
    }`
  /** AddressSanitizer has a handler of its own, which reports and aborts. */
  const WITHOUT_SANITIZER = { ASAN_OPTIONS: `${process.env['ASAN_OPTIONS'] ?? ''}:handle_sigbus=0` }
  const run = async (script: string): ReturnType<typeof runScript> =>
    runScript(FOREIGN + script, { args: [memoryName()], env: WITHOUT_SANITIZER })

  test('goes to the handler that was there before, and ours keep coming to us', async () => {
    const { stdout, stderr } = await run(`
      foreign.catchBusErrors('always')
      const first = useOurs()
      const found = foreign.touchLostPage()
      process.kill(process.pid, 'SIGBUS')
      console.log(JSON.stringify([first, found, useOurs(), foreign.busErrors()]))`)
    expect({ stdout, stderr }).toEqual({ stdout: '[[0,true],0,[0,true],[1,1]]\n', stderr: '' })
  })

  test('goes to a handler for one time once', async () => {
    const { signal, stdout } = await run(`
      foreign.catchBusErrors('once')
      const { writeSync } = await import('node:fs')
      writeSync(1, JSON.stringify([useOurs(), foreign.touchLostPage(), useOurs(), foreign.busErrors()]))
      foreign.touchLostPage()`)
    expect({ signal, stdout }).toEqual({ signal: 'SIGBUS', stdout: '[[0,true],0,[0,true],[1,0]]' })
  })

  test.each([
    ['a fault', 'foreign.touchLostPage()'],
    ['kill -BUS', 'process.kill(process.pid, "SIGBUS")'],
  ])('kills the process by default: %s', async (_, action) => {
    const { signal, stdout } = await run(`
      const { writeSync } = await import('node:fs')
      writeSync(1, JSON.stringify(useOurs()))
      ${action}
      writeSync(1, 'survived')`)
    expect({ signal, stdout }).toEqual({ signal: 'SIGBUS', stdout: '[0,true]' })
  })

  test('is ignored when it was sent and was ignored before', async () => {
    const { signal, stdout } = await run(`
      foreign.catchBusErrors('ignore')
      const { writeSync } = await import('node:fs')
      useOurs()
      process.kill(process.pid, 'SIGBUS')
      writeSync(1, JSON.stringify(useOurs()))
      foreign.touchLostPage()`)
    expect({ signal, stdout }).toEqual({ signal: 'SIGBUS', stdout: '[0,true]' })
  })

  test('in a child of fork() without exec: its parent’s memory stays', async () => {
    const { stdout, stderr } = await run(`
      const memory = SharedMemory.create(4096, { name })
      const mapping = memory.map()
      const view = new Uint8Array(mapping.buffer)
      view[0] = 1
      const status = foreign.forkAndRun(() => { mapping.unmap() })
      console.log(JSON.stringify([view[0], mapping.lost, [0, 11, 139].includes(status)]))
      SharedMemory.unlink(name)`)
    expect({ stdout, stderr }).toEqual({ stdout: '[1,false,true]\n', stderr: '' })
  })
})

if (!existsSync(testAddonPath)) {
  test('bus errors of others', (context) => {
    context.skip(`the test addon is not built: ${testAddonPath}`)
  })
}
