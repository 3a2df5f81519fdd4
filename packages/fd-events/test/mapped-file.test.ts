/**
 * MappedFile against real files: what is stored and seen, growth, flushes, and files that are cut short under the mapping.
 */
import { execFileSync, spawn } from 'node:child_process'
import {
  chmodSync,
  closeSync,
  constants,
  mkdirSync,
  openSync,
  readFileSync,
  readSync,
  statSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { dirname } from 'node:path'
import { Worker } from 'node:worker_threads'
import { Mapping } from '@fd-reactor/core'
import { MappedFile } from '@fd-reactor/fd-events'
import { describe, expect, test } from 'vitest'
import {
  coreUrl,
  fdEventsUrl,
  runForJson,
  runScript,
  withoutLeakCheck,
} from '../../core/test/support/child.js'
import { childEnded, until, within } from '../../core/test/support/wait.js'
import { assertNothingLeft, onSmallDisk, openFiles, tempFile } from './mapped-helpers.js'

assertNothingLeft()

const PAGE = 4096

function fileOf(size: number, fill = 1): string {
  const path = tempFile()
  writeFileSync(path, Buffer.alloc(size, fill))
  return path
}

function thrown(action: () => unknown): unknown {
  try {
    action()
  } catch (error) {
    return error
  }
  return expect.unreachable('it did not throw')
}

describe('memory and file', () => {
  test('what is stored is in the file at once, and what is written to the file is in the memory', () => {
    const path = tempFile()
    using file = MappedFile.open(path, { create: true, size: 10_000 })
    expect([file.bytes.length, file.size, statSync(path).size]).toEqual([10_000, 10_000, 10_000])
    file.bytes.write('from memory', 9_000)
    expect(readFileSync(path).toString('utf8', 9_000, 9_011)).toBe('from memory')
    const fd = openSync(path, 'r+')
    writeSync(fd, 'from the file', 5)
    closeSync(fd)
    expect(file.bytes.toString('utf8', 5, 18)).toBe('from the file')
    using other = MappedFile.open(path)
    other.bytes[7_000] = 42
    expect(file.bytes[7_000]).toBe(42)
  })

  test('a file is made with its mode, and not made unless that is asked for', () => {
    const path = tempFile()
    expect(thrown(() => MappedFile.open(path))).toMatchObject({
      name: 'SystemError',
      code: 'ENOENT',
      errno: -2,
      syscall: 'open',
      path,
      message: `ENOENT: no such file or directory, open '${path}'`,
    })
    MappedFile.open(path, { create: true }).close()
    expect(statSync(path).mode & 0o777).toBe(0o600)
    const second = `${path}-2`
    MappedFile.open(second, { create: true, mode: 0o640 }).close()
    expect(statSync(second).mode & 0o777).toBe(0o640)
  })

  test('an empty file has no bytes until it grows', () => {
    using file = MappedFile.open(tempFile(), { create: true })
    expect([file.bytes.length, file.refresh(), file.window().length]).toEqual([0, false, 0])
    file.flushSync()
    file.advise('random')
    file.grow(1)
    expect(file.bytes.length).toBe(1)
  })

  test('with `size` there are no holes, and a longer file keeps its length', () => {
    const path = tempFile()
    closeSync(openSync(path, 'w'))
    truncateSync(path, 2 ** 20)
    expect(statSync(path).blocks).toBe(0)
    using file = MappedFile.open(path, { size: 2 ** 19 })
    expect(file.bytes.length).toBe(2 ** 20)
    expect(statSync(path).blocks * 512).toBeGreaterThanOrEqual(2 ** 19)
  })

  test('for reading: stores stay here, and what would change the file is refused', async () => {
    const path = fileOf(PAGE)
    chmodSync(path, 0o400)
    using file = MappedFile.open(path, { access: 'read' })
    file.bytes[0] = 99
    expect(readFileSync(path)[0]).toBe(1)
    const refusal = (syscall: string) =>
      `EBADF: bad file descriptor, ${syscall} '${path}'. It was opened with access 'read'`
    expect(() => file.grow(2 * PAGE)).toThrow(refusal('fallocate'))
    expect(() => file.flushSync()).toThrow(refusal('msync'))
    await expect(file.flush()).rejects.toThrow(refusal('msync'))
    expect(() => MappedFile.open(path, { access: 'read', size: 1 })).toThrow(
      "MappedFile.open option 'access' is 'read': nothing can be made or grown by it",
    )
  })

  test('populated and locked on request', () => {
    const path = fileOf(64 * PAGE)
    using file = MappedFile.open(path, { populate: true, lock: true })
    for (const options of [{ populate: true }, { lock: true }]) {
      using reader = MappedFile.open(path, { access: 'read', ...options })
      file.bytes[5] = 77
      expect(reader.bytes[5], 'what a reader sees of a later store').toBe(77)
      file.bytes[5] = 1
    }
    expect(file.bytes.every((byte) => byte === 1)).toBe(true)
    for (const advice of ['normal', 'random', 'sequential', 'willneed'] as const) file.advise(advice)
    file.advise('random', { offset: 5000, length: 10 })
    expect(() => file.advise('random', { offset: 5000, length: 64 * PAGE })).toThrow(
      `MappedFile '${file.path}': 262144 bytes at 5000 are not within 262144 bytes`,
    )
  })

  test('what is no regular file is refused, and a FIFO without a writer holds nobody up', () => {
    const path = tempFile()
    mkdirSync(path)
    expect(() => MappedFile.open(path)).toThrow(`EISDIR: illegal operation on a directory, open '${path}'`)
    expect(() => MappedFile.open(path, { access: 'read' })).toThrow(
      `EISDIR: illegal operation on a directory, mmap '${path}'. Only regular files can be mapped`,
    )
    execFileSync('mkfifo', [`${path}/fifo`])
    expect(() => MappedFile.open(`${path}/fifo`, { access: 'read' })).toThrow(
      `EINVAL: invalid argument, mmap '${path}/fifo'. Only regular files can be mapped`,
    )
    expect(openFiles()).toEqual([])
  })

  test('options are checked', () => {
    const path = fileOf(10)
    const open = (options: object) => () => MappedFile.open(path, options)
    expect(open({ acess: 'read' })).toThrow("MappedFile.open has no option 'acess'; did you mean 'access'?")
    expect(open({ access: 'rw' })).toThrow(
      `MappedFile.open option 'access' must be "read" or "write", not 'rw'`,
    )
    expect(open({ size: -1 })).toThrow(
      `MappedFile.open option 'size' must be an integer from 0 to ${2 ** 47}, not -1`,
    )
    expect(() => MappedFile.open(`${path}\0`)).toThrow(`A path has no NUL in it, unlike "${path}\\u0000"`)
    using file = MappedFile.open(path)
    expect(() => file.grow(0.5)).toThrow(`The size must be an integer from 0 to ${2 ** 47}, not 0.5`)
  })
})

describe('growing', () => {
  test('views from before stay valid, and show the same file', () => {
    using file = MappedFile.open(fileOf(PAGE))
    const before = file.bytes
    file.grow(100 * PAGE)
    expect([before.length, file.bytes.length]).toEqual([PAGE, 100 * PAGE])
    before[10] = 77
    expect(file.bytes[10]).toBe(77)
    file.bytes[11] = 78
    expect(before[11]).toBe(78)
    expect(file.bytes.subarray(PAGE).every((byte) => byte === 0)).toBe(true)
    file.grow(PAGE) // never shorter
    expect([file.size, file.bytes.length]).toEqual([100 * PAGE, 100 * PAGE])
    file.close()
    expect([before.length, before[10]]).toEqual([0, undefined])
  })

  test('others see it after refresh()', () => {
    const path = fileOf(PAGE)
    using writer = MappedFile.open(path)
    using reader = MappedFile.open(path, { access: 'read' })
    expect(reader.refresh()).toBe(false)
    writer.grow(3 * PAGE)
    writer.bytes[2 * PAGE] = 5
    expect([reader.bytes.length, reader.size]).toEqual([PAGE, 3 * PAGE])
    expect(reader.refresh()).toBe(true)
    expect(reader.bytes[2 * PAGE]).toBe(5)
  })

  test('mappings whose views nobody holds are given back', async () => {
    const live = Mapping.live
    using file = MappedFile.open(fileOf(PAGE))
    for (let pages = 2; pages <= 300; pages++) {
      file.grow(pages * PAGE)
      file.bytes[pages * PAGE - 1] = 1
    }
    const collected = (): boolean => {
      globalThis.gc?.()
      return Mapping.live <= live + 1
    }
    await until(collected, 'the end of 299 mappings')
    expect(file.bytes.length).toBe(300 * PAGE)
  })

  test('a full disk is an error at once; and a hole that has no room is an error, not SIGBUS', async (ctx) => {
    const folder = dirname(tempFile())
    const under = onSmallDisk(folder, '64k')
    if (under === undefined) return ctx.skip('mounting in a namespace of its own is not permitted here')
    const script = `
      import { ftruncateSync, openSync, closeSync } from 'node:fs'
      const name = process.argv[1] + '/file'
      const said = []
      const attempt = (action) => { try { action(); said.push('done') } catch (error) { said.push(error.message) } }
      const file = events.MappedFile.open(name, { create: true, size: 4096 })
      file.bytes.write('kept')
      attempt(() => file.grow(1_000_000))
      said.push(file.bytes.length, file.bytes.toString('utf8', 0, 4))
      attempt(() => file.grow(16_384))
      attempt(() => file.flushSync())
      file.close()
      const sparse = openSync(name, 'r+')
      ftruncateSync(sparse, 1_000_000)
      closeSync(sparse)
      const holes = events.MappedFile.open(name)
      holes.bytes.fill(1)
      attempt(() => holes.bytes)
      attempt(() => holes.grow(2_000_000))
      holes.close()
      console.log(JSON.stringify(said))
    `
    const path = `${folder}/file`
    const lost =
      `MappedFile '${path}': a page of it was lost while it was mapped: the file was cut short, the disk could not read it, or a hole in it ` +
      'had no room. What was read there is not to be trusted. Close it, look at the file, and open it anew'
    expect(await runForJson(script, { under, args: [folder] })).toEqual([
      `ENOSPC: no space left on device, fallocate '${path}'. The disk is full; what is mapped is as usable as before`,
      PAGE,
      'kept',
      'done',
      'done',
      lost,
      lost,
    ])
  })
})

describe('windows', () => {
  test('begin anywhere, and end with the file object', () => {
    using file = MappedFile.open(fileOf(10 * PAGE))
    file.bytes.write('over here', 2 * PAGE - 4)
    const window = file.window({ offset: 2 * PAGE - 4, length: 9 })
    expect([window.length, window.toString()]).toEqual([9, 'over here'])
    window[0] = 0x4f
    expect(file.bytes.toString('utf8', 2 * PAGE - 4, 2 * PAGE)).toBe('Over')
    expect(file.window({ offset: 9 * PAGE }).length).toBe(PAGE)
    expect(() => file.window({ offset: 9 * PAGE, length: PAGE + 1 })).toThrow(
      `MappedFile '${file.path}': 4097 bytes at 36864 are not within 40960 bytes`,
    )
    file.close()
    expect(window.length).toBe(0)
  })

  test('a file of 5 GiB: `bytes` is its first 4, windows and flushes reach the rest', async () => {
    const path = tempFile()
    closeSync(openSync(path, 'w'))
    truncateSync(path, 5 * 2 ** 30)
    using file = MappedFile.open(path)
    expect([file.bytes.length, file.size]).toEqual([2 ** 32, 5 * 2 ** 30])
    expect(() => file.window()).toThrow(
      `MappedFile '${path}': a window has at most 4 GiB, not ${5 * 2 ** 30} bytes`,
    )
    const offset = 4.5 * 2 ** 30 + 1
    const window = file.window({ offset, length: 5 })
    window.write('far')
    await file.flush({ offset: 2 ** 32 - 10, length: 2 ** 29 + 100 })
    file.flushSync({ offset })
    await file.flush({ offset, wait: false })
    const fd = openSync(path, constants.O_RDONLY)
    const read = Buffer.alloc(3)
    readSync(fd, read, 0, 3, offset)
    closeSync(fd)
    expect(read.toString()).toBe('far')
  })
})

describe('flushing', () => {
  test('ranges need not be those of pages', async () => {
    using file = MappedFile.open(fileOf(10 * PAGE))
    for (const range of [
      {},
      { offset: 1 },
      { offset: 5000, length: 1 },
      { length: 0 },
      { offset: 10 * PAGE },
    ]) {
      file.bytes.fill(3)
      await file.flush(range)
      await file.flush({ ...range, wait: false })
      file.flushSync(range)
    }
    const outside = `MappedFile '${file.path}': 2 bytes at 40959 are not within 40960 bytes`
    await expect(file.flush({ offset: 40_959, length: 2 })).rejects.toThrow(outside)
    expect(() => file.flushSync({ offset: 40_959, length: 2 })).toThrow(outside)
    await expect(file.flush({ lenght: 1 } as object)).rejects.toThrow(
      "MappedFile.flush has no option 'lenght'; did you mean 'length'?",
    )
  })

  test('goes on when the file is closed meanwhile: the pages that are written are the file’s', async (ctx) => {
    const strace = await straced(
      tempFile(),
      `
      const file = events.MappedFile.open(process.argv[1], { create: true, size: 2 ** 24 })
      file.bytes.fill(7)
      // The thread pool is busy, so that no flush has begun when the file is closed.
      const { pbkdf2 } = await import('node:crypto')
      for (let job = 0; job < 4; job++) pbkdf2('', '', 100_000, 64, 'sha512', () => {})
      const flushed = file.flush()
      file.close()
      await flushed
    `,
    )
    if (strace === undefined) return ctx.skip('strace is not installed or may not trace')
    const order = strace.filter((line) =>
      /16777216.*(MS_SYNC|MAP_FIXED\|MAP_ANONYMOUS\|MAP_NORESERVE)/.test(line),
    )
    expect(order.map((line) => /msync|mmap/.exec(line)?.[0])).toEqual(['msync', 'mmap'])
  })

  test('many at once, and the loop runs meanwhile', async () => {
    using file = MappedFile.open(tempFile(), { create: true, size: 64 * PAGE })
    let turns = 0
    let going = true
    const count = (): void => {
      turns++
      if (going) setImmediate(count)
    }
    setImmediate(count)
    for (let round = 0; round < 10; round++) {
      file.bytes.fill(round)
      await Promise.all(
        Array.from({ length: 20 }, (_, at) => file.flush({ offset: at * PAGE, length: PAGE })),
      )
    }
    going = false
    expect(turns).toBeGreaterThan(0)
  })

  test('a worker that ends with flushes under way takes nothing with it', async () => {
    const path = fileOf(2 ** 20)
    const script = `
      const { parentPort, workerData } = require('node:worker_threads')
      import(workerData.url).then(({ MappedFile }) => {
        const file = MappedFile.open(workerData.path)
        file.bytes.fill(9)
        for (let count = 0; count < 20; count++) void file.flush()
        parentPort.postMessage('flushing')
      })
    `
    for (let round = 0; round < 10; round++) {
      const worker = new Worker(script, { eval: true, workerData: { url: fdEventsUrl, path } })
      await within(new Promise((resolve) => worker.once('message', resolve)), 'the worker')
      await worker.terminate()
    }
    expect(readFileSync(path).every((byte) => byte === 9)).toBe(true)
    expect(openFiles()).toEqual([])
    const { Mapping: built } = (await import(coreUrl)) as { Mapping: typeof Mapping }
    expect(built.live).toBe(Mapping.live)
  })
})

/** Runs a script under strace, and gives its calls of mmap and msync; undefined where that is not possible. */
async function straced(path: string, script: string): Promise<string[] | undefined> {
  const log = `${path}.strace`
  const under = ['strace', '-f', '-o', log, '-e', 'trace=msync,mmap']
  try {
    const env = { ...process.env, ...withoutLeakCheck }
    execFileSync('strace', ['-o', '/dev/null', 'true'], { stdio: 'ignore', env })
  } catch {
    return undefined
  }
  const { code, stderr } = await runScript(script, { under, args: [path], env: withoutLeakCheck })
  expect([code, stderr]).toEqual([0, ''])
  return readFileSync(log, 'utf8').split('\n')
}

describe('a file that is cut short', () => {
  const cut = (path: string, size: number, mapped: number): string =>
    `MappedFile '${path}': the file was cut short while it was mapped: it has ${size} bytes, and ${mapped} were mapped. ` +
    'What was read there is not to be trusted. Close it, look at the file, and open it anew'
  const lost = { name: 'ReactorError', code: 'ERR_MEMORY_LOST' }

  test('is an error of every call from then on, also when it is grown again', async () => {
    const path = fileOf(10 * PAGE)
    using file = MappedFile.open(path)
    const { bytes } = file
    truncateSync(path, 100)
    expect(() => file.grow(20 * PAGE)).toThrow(cut(path, 100, 10 * PAGE))
    expect(statSync(path).size).toBe(100)
    truncateSync(path, 20 * PAGE)
    for (const call of [
      () => file.bytes,
      () => file.assertIntact(),
      () => file.grow(30 * PAGE),
      () => file.refresh(),
      () => file.window(),
      () => file.flushSync(),
      () => file.advise('random'),
    ])
      expect(thrown(call)).toMatchObject(lost)
    await expect(file.flush()).rejects.toMatchObject(lost)
    expect(bytes.length).toBe(10 * PAGE) // a view that was kept is not taken away
    file.close()
    expect(() => file.bytes).toThrow(`MappedFile '${path}' is closed`)
    using again = MappedFile.open(path)
    expect(again.bytes.length).toBe(20 * PAGE)
  })

  test('within a page, which raises no signal, is seen by all calls but `bytes`', () => {
    const path = fileOf(PAGE)
    using file = MappedFile.open(path)
    truncateSync(path, PAGE - 1)
    expect(file.bytes[PAGE - 1]).toBe(0)
    expect(() => file.assertIntact()).toThrow(cut(path, PAGE - 1, PAGE))
    expect(thrown(() => file.bytes)).toMatchObject(lost)
  })

  test('a view from before it grew, or a window, tells of its loss, too', () => {
    const path = fileOf(2 * PAGE)
    using file = MappedFile.open(path)
    const before = file.bytes
    file.grow(10 * PAGE)
    const window = file.window({ offset: PAGE, length: 10 })
    truncateSync(path, 0)
    expect([before[0], window[0]]).toEqual([0, 0])
    truncateSync(path, 10 * PAGE)
    expect(thrown(() => file.bytes)).toMatchObject(lost)
  })

  test('while a flush is under way rejects that flush', async () => {
    const path = fileOf(2 ** 20)
    for (let round = 0; round < 20; round++) {
      writeFileSync(path, Buffer.alloc(2 ** 20, round))
      using file = MappedFile.open(path)
      file.bytes.fill(1)
      const flushed = file.flush().then(
        () => 'flushed',
        (error: unknown) => error,
      )
      truncateSync(path, 0)
      expect(await within(flushed, 'the flush')).toMatchObject(lost)
    }
  })

  test('under a hot loop of optimised code: the error, not the signal', async () => {
    const path = fileOf(256 * PAGE)
    const script = `
      const file = events.MappedFile.open(process.argv[1])
      const sum = (bytes) => { let total = 0; for (let at = 0; at < bytes.length; at++) total += bytes[at]; return total }
      const bytes = file.bytes
      for (let round = 0; round < 50; round++) sum(bytes) // optimised from here on
      const whole = sum(bytes)
      process.stdout.write('hot\\n')
      while (sum(bytes) === whole);
      let said
      try { file.bytes } catch (error) { said = error.code }
      const view = bytes.length
      file.close()
      console.log(JSON.stringify([said, view]))
    `
    for (let round = 0; round < 3; round++) {
      writeFileSync(path, Buffer.alloc(256 * PAGE, 1))
      const child = spawn(process.execPath, [
        '--input-type=module',
        '-e',
        `const events = await import('${fdEventsUrl}')\n${script}`,
        '--',
        path,
      ])
      let output = ''
      let trouble = ''
      child.stdout.on('data', (text: Buffer) => (output += String(text)))
      child.stderr.on('data', (text: Buffer) => (trouble += String(text)))
      await until(() => output.startsWith('hot\n'), 'the hot loop', 10_000)
      truncateSync(path, round * PAGE)
      await childEnded(child, 10_000)
      await until(() => child.stdout.closed, 'its output')
      expect([child.signalCode, child.exitCode, trouble]).toEqual([null, 0, ''])
      expect(output).toBe(`hot\n["ERR_MEMORY_LOST",${256 * PAGE}]\n`)
    }
  })
})

test('closed twice, and used after it', async () => {
  const file = MappedFile.open(fileOf(PAGE))
  file.close()
  file.close()
  expect(file.closed).toBe(true)
  const closed = { code: 'ERR_CLOSED' }
  for (const call of [
    () => file.bytes,
    () => file.size,
    () => file.grow(1),
    () => file.refresh(),
    () => file.window(),
  ])
    expect(thrown(call)).toMatchObject(closed)
  await expect(file.flush()).rejects.toMatchObject(closed)
})
