/**
 * FileLock between objects of one process, threads, and processes, some of which are killed while they have the lock.
 */
import { spawn, type ChildProcess } from 'node:child_process'
import { chmodSync, existsSync, writeFileSync } from 'node:fs'
import { Worker } from 'node:worker_threads'
import { FileLock, MappedFile, ms, seconds } from '@fd-reactor/fd-events'
import { expect, onTestFinished, test } from 'vitest'
import { fdEventsUrl } from '../../core/test/support/child.js'
import { childEnded, cpuMsDuring, turn, until, within } from '../../core/test/support/wait.js'
import { assertNothingLeft, openFiles, tempFile } from './mapped-helpers.js'

assertNothingLeft()

/** Locks of one file, in this process; they are closed after the test. */
function locks(count: number, options: { offset?: number; length?: number } = {}): FileLock[] {
  const path = tempFile()
  return Array.from({ length: count }, () => closedLater(FileLock.open(path, { ...options, create: true })))
}

function closedLater(lock: FileLock): FileLock {
  onTestFinished(() => {
    lock.close()
  })
  return lock
}

function pairOf(options?: { offset?: number; length?: number }): [FileLock, FileLock] {
  const [first, second] = locks(2, options)
  if (first === undefined || second === undefined) throw new Error('two were asked for')
  return [first, second]
}

/** A process on the built packages, killed after the test, that has written its first line. */
async function child(path: string, script: string): Promise<ChildProcess & { output: () => string }> {
  const source = `const { FileLock, MappedFile, ms } = await import('${fdEventsUrl}')\nconst path = process.argv[1]\n${script}`
  const started = spawn(process.execPath, ['--input-type=module', '-e', source, '--', path], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  onTestFinished(async () => {
    started.kill('SIGKILL')
    await childEnded(started)
  })
  let text = ''
  started.stdout.on('data', (bytes: Buffer) => (text += String(bytes)))
  await until(() => text.includes('\n'), 'its first line', 10_000)
  return Object.assign(started, { output: () => text })
}

const HOLDER = `
  const lock = FileLock.open(path)
  console.log(lock.tryLock())
  setInterval(() => {}, 1000)
`

test('an exclusive lock excludes all others, a shared one exclusive ones', () => {
  const [one, two, three] = locks(3) as [FileLock, FileLock, FileLock]
  expect(one.tryLock()).toBe(true)
  expect([one.held, two.tryLock(), two.tryLock('shared'), two.held]).toEqual([
    'exclusive',
    false,
    false,
    undefined,
  ])
  one.unlock()
  one.unlock()
  expect([one.held, two.tryLock('shared'), three.tryLock('shared'), one.tryLock()]).toEqual([
    undefined,
    true,
    true,
    false,
  ])
  two.unlock()
  expect(one.tryLock()).toBe(false)
  three.unlock()
  expect(one.tryLock()).toBe(true)
})

test('ranges that do not meet are independent', () => {
  const path = tempFile()
  writeFileSync(path, '')
  const open = (options: object): FileLock => closedLater(FileLock.open(path, options))
  const first = open({ offset: 0, length: 10 })
  const second = open({ offset: 10, length: 1 })
  const rest = open({ offset: 11 })
  expect([first.tryLock(), second.tryLock(), rest.tryLock()]).toEqual([true, true, true])
  expect(open({}).tryLock()).toBe(false)
  expect(open({ offset: 2 ** 50, length: 1 }).tryLock()).toBe(false)
  rest.unlock()
  expect(open({ offset: 2 ** 50, length: 1 }).tryLock()).toBe(true)
  expect(open({ offset: 9, length: 1 }).tryLock()).toBe(false)
})

test('waiting ends when the lock is free, and does not hold up the loop', async () => {
  const [one, two] = pairOf()
  await one.lock()
  const waiting = two.lock()
  for (let turns = 0; turns < 1000; turns++) await turn()
  expect(two.held).toBeUndefined()
  expect(await cpuMsDuring(300), 'milliseconds of processor time in 300').toBeLessThan(150)
  one.unlock()
  await within(waiting, 'the lock')
  expect(two.held).toBe('exclusive')
})

test('close() releases it, and so does `using`', async () => {
  const [one, two] = pairOf()
  {
    using scoped = one
    await scoped.lock()
    expect(two.tryLock()).toBe(false)
  }
  expect([one.closed, one.held, two.tryLock()]).toEqual([true, undefined, true])
  one.close()
  const closed = expect.objectContaining({ code: 'ERR_CLOSED' })
  expect(() => one.tryLock()).toThrow(closed)
  await expect(one.lock()).rejects.toEqual(closed)
  one.unlock()
})

test('close() ends a wait, in its first turns and in its pauses', async () => {
  const path = tempFile()
  const holder = closedLater(FileLock.open(path, { create: true }))
  holder.tryLock()
  for (const turns of [0, 2000]) {
    const waiter = FileLock.open(path)
    const failed = waiter.lock().catch((error: unknown) => error)
    for (let count = 0; count < turns; count++) await turn()
    waiter.close()
    expect(await within(failed)).toMatchObject({
      code: 'ERR_CLOSED',
      message: `FileLock '${path}' is closed`,
    })
  }
})

test('a timeout tells who has it, where the kernel does', async () => {
  const path = tempFile()
  const mine = closedLater(FileLock.open(path, { create: true }))
  const theirs = closedLater(FileLock.open(path))
  mine.tryLock()
  for (const timeout of [0, ms(5)]) {
    await expect(theirs.lock({ timeout })).rejects.toMatchObject({
      name: 'ReactorError',
      code: 'ERR_TIMEOUT',
      message:
        `FileLock '${path}': it was not free within ${timeout / 1e6} ms. Who has it the kernel does not tell for locks of open files; ` +
        '`lsof` lists who has the file open',
    })
  }
  mine.unlock()
  const script = `import fcntl, sys, time
f = open(sys.argv[1], 'r+')
fcntl.lockf(f, fcntl.LOCK_EX)
print('locked', flush=True)
time.sleep(60)`
  const holder = spawn('python3', ['-c', script, path], { stdio: ['ignore', 'pipe', 'inherit'] })
  onTestFinished(async () => {
    holder.kill('SIGKILL')
    await childEnded(holder)
  })
  await within(new Promise((resolve) => holder.stdout.once('data', resolve)), 'the lock of python', 10_000)
  await expect(theirs.lock({ timeout: ms(5) })).rejects.toThrow(
    `FileLock '${path}': it was not free within 5 ms. Process ${holder.pid} has it`,
  )
})

test('a signal stops it, at once or while it waits', async () => {
  const [one, two] = pairOf()
  one.tryLock()
  const reason = new Error('enough')
  await expect(two.lock({ signal: AbortSignal.abort(reason) })).rejects.toBe(reason)
  for (const turns of [0, 2000]) {
    const controller = new AbortController()
    const failed = two.lock({ signal: controller.signal }).catch((error: unknown) => error)
    for (let count = 0; count < turns; count++) await turn()
    controller.abort(reason)
    expect(await within(failed)).toBe(reason)
  }
  one.unlock()
  await two.lock({ signal: new AbortController().signal, timeout: seconds(1) })
  expect(two.held).toBe('exclusive')
})

test('one object has one lock at a time', async () => {
  const [one, two] = pairOf()
  one.tryLock()
  const message = (state: string) =>
    `${state} already: unlock() it first, and open one for each that is to be kept out`
  expect(() => one.tryLock()).toThrow(message('has the lock'))
  await expect(one.lock({ kind: 'shared' })).rejects.toMatchObject({ code: 'ERR_REENTRANT' })
  const waiting = two.lock()
  expect(() => two.tryLock()).toThrow(message('waits for the lock'))
  one.unlock()
  await within(waiting)
})

test('what is open for reading takes shared locks only', async () => {
  const path = tempFile()
  writeFileSync(path, '')
  chmodSync(path, 0o444)
  const lock = closedLater(FileLock.open(path, { access: 'read' }))
  const refusal = `EBADF: bad file descriptor, fcntl '${path}'. An exclusive lock needs access 'write'`
  expect(() => lock.tryLock()).toThrow(refusal)
  await expect(lock.lock()).rejects.toThrow(refusal)
  expect(lock.tryLock('shared')).toBe(true)
})

test('options are checked, and a file is not made unless that is asked for', async () => {
  const path = tempFile()
  const open = (options: object) => () => FileLock.open(path, options)
  expect(open({})).toThrow(`ENOENT: no such file or directory, open '${path}'`)
  expect(open({ lenght: 1 })).toThrow("FileLock.open has no option 'lenght'; did you mean 'length'?")
  expect(open({ length: 0 })).toThrow(
    `FileLock.open option 'length' must be an integer from 1 to ${2 ** 53 - 1}, not 0`,
  )
  expect(open({ offset: 2 ** 53 - 1, length: 1 })).toThrow(
    `FileLock.open: the range ends beyond ${2 ** 53 - 1}, and no file does`,
  )
  expect(open({ access: 'read', create: true })).toThrow(
    "FileLock.open option 'access' is 'read': nothing can be made by it",
  )
  expect(existsSync(path)).toBe(false)
  const lock = closedLater(FileLock.open(path, { create: true }))
  expect(() => lock.tryLock('write' as 'shared')).toThrow(
    'The kind of lock must be "exclusive" or "shared", not \'write\'',
  )
  await expect(lock.lock({ timeout: -1 })).rejects.toThrow("FileLock.lock option 'timeout' must be")
})

test('the lock of a MappedFile is one of the same file', () => {
  const path = tempFile()
  using file = MappedFile.open(path, { create: true, size: 1 })
  using lock = FileLock.open(file.handle)
  using other = FileLock.open(path)
  expect([lock.tryLock(), other.tryLock()]).toEqual([true, false])
  file.close() // closing another descriptor of the file releases nothing, unlike with locks of fcntl(F_SETLK)
  expect(other.tryLock()).toBe(false)
})

test('another thread is another holder, and its end releases what it had', async () => {
  const path = tempFile()
  using lock = FileLock.open(path, { create: true })
  const script = `
    const { parentPort, workerData } = require('node:worker_threads')
    import(workerData.url).then(({ FileLock }) => {
      globalThis.lock = FileLock.open(workerData.path)
      parentPort.postMessage(lock.tryLock())
      setInterval(() => {}, 1000)
    })
  `
  const worker = new Worker(script, { eval: true, workerData: { url: fdEventsUrl, path } })
  expect(await within(new Promise((resolve) => worker.once('message', resolve)))).toBe(true)
  expect(lock.tryLock()).toBe(false)
  const waiting = lock.lock()
  await worker.terminate()
  await within(waiting, 'the lock')
  lock.close()
  expect(openFiles()).toEqual([])
})

test('a process that is killed has no lock any more', async () => {
  const path = tempFile()
  using lock = FileLock.open(path, { create: true })
  for (let round = 0; round < 3; round++) {
    const holder = await child(path, HOLDER)
    expect(holder.output()).toBe('true\n')
    expect(lock.tryLock()).toBe(false)
    const waiting = lock.lock({ timeout: seconds(10) })
    holder.kill('SIGKILL')
    await waiting
    lock.unlock()
  }
})

test('several processes count together, and none of their counts is lost', async () => {
  const path = tempFile()
  using file = MappedFile.open(path, { create: true, size: 8 })
  const script = `
    const file = MappedFile.open(path)
    const lock = FileLock.open(path)
    console.log('ready')
    for (let round = 0; round < 300; round++) {
      await lock.lock()
      const count = file.bytes.readUInt32LE()
      if (round % 10 === 0) await new Promise(setImmediate) // others come in between
      file.bytes.writeUInt32LE(count + 1)
      lock.unlock()
    }
  `
  const children = await Promise.all([1, 2, 3].map(async () => child(path, script)))
  for (const counter of children) {
    await childEnded(counter, 20_000)
    expect(counter.exitCode).toBe(0)
  }
  expect(file.bytes.readUInt32LE()).toBe(900)
})
