import { rmSync, mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Worker } from 'node:worker_threads'
import { expect, onTestFinished, test } from 'vitest'
import { coreUrl, fdEventsUrl } from './support/child.js'
import { assertNoLeakedFds, countFds } from './support/fds.js'
import { within } from './support/wait.js'

assertNoLeakedFds()

/** How a worker comes to its end. */
const ENDINGS = [
  'in the middle of a batch',
  'while events come',
  'as it starts',
  'by itself, in a handler',
  'with an error',
] as const
type Ending = (typeof ENDINGS)[number]

interface Life {
  ending: Ending
  busyPollMicros: number
  path: string
  coreUrl: string
  fdEventsUrl: string
}

/** A worker with one of everything, all of it busy. */
const SCRIPT = `
const { parentPort, workerData } = require('node:worker_threads')
const { ending, path, busyPollMicros, coreUrl, fdEventsUrl } = workerData
const live = async () => {
  const { Reactor } = await import(coreUrl)
  const { EventFd, TimerFd, UnixListener, UnixStream } = await import(fdEventsUrl)
  const reactor = new Reactor({ busyPollMicros, chunkRecords: 4 })
  const bells = Array.from({ length: 8 }, (_, i) => new EventFd(reactor, { priority: ['high', 'normal', 'low'][i % 3] }))
  for (const bell of bells) bell.on('event', () => bell.write())
  TimerFd.every(reactor, 200_000).on('tick', () => {})
  const listener = UnixListener.listen(reactor, path)
  let served = 0
  listener.on('connection', (stream) => {
    stream.on('data', (bytes) => stream.write(bytes))
    if (++served < 5) return
    // More connections and bytes have been drained for this batch than were delivered.
    if (ending === 'in the middle of a batch') {
      parentPort.postMessage('ready')
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0)
    }
    if (ending === 'by itself, in a handler') process.exit()
    if (ending === 'with an error') throw new Error('on purpose')
    parentPort.postMessage('ready')
  })
  for (const bell of bells) bell.write()
  for (let i = 0; i < 10; i++) {
    const client = await UnixStream.connect(reactor, path)
    client.on('data', (bytes) => client.write(bytes))
    client.write('x'.repeat(1000))
  }
  await reactor.run()
}
void live()`

async function liveAndDie(life: Life): Promise<void> {
  const worker = new Worker(SCRIPT, { eval: true, execArgv: [], workerData: life, stderr: true })
  const exit = new Promise<void>((resolve) => worker.once('exit', () => resolve()))
  const errors: unknown[] = []
  worker.on('error', (error) => errors.push(error))
  if (life.ending === 'as it starts') worker.once('online', () => void worker.terminate())
  else worker.once('message', () => void worker.terminate())
  await within(exit, `the end of a worker ${life.ending}`, 20_000)
  expect(errors).toEqual(
    life.ending === 'with an error' ? [expect.objectContaining({ message: 'on purpose' })] : [],
  )
}

test(
  '1,000 workers with live sources start and end: nothing crashes, nothing leaks',
  { timeout: 300_000 },
  async () => {
    const folder = mkdtempSync(join(tmpdir(), 'fd-reactor-workers-'))
    onTestFinished(() => rmSync(folder, { recursive: true }))
    const before = countFds()
    let started = 0
    const lane = async (): Promise<void> => {
      for (let serial = started++; serial < 1000; serial = started++) {
        // Most of them in the middle of a batch; one in seven polls busily.
        const ending =
          (serial % 2 === 0 ? ENDINGS[0] : ENDINGS[((serial - 1) / 2) % ENDINGS.length]) ?? ENDINGS[0]
        const busyPollMicros = serial % 7 === 0 ? 100_000 : 0
        await liveAndDie({ ending, busyPollMicros, path: join(folder, String(serial)), coreUrl, fdEventsUrl })
      }
    }
    await Promise.all([lane(), lane(), lane()])
    expect(started).toBeGreaterThanOrEqual(1000)
    expect(countFds()).toEqual(before)
  },
)

test('a reactor belongs to its thread: each worker has its own, and ids are unique in the process', async () => {
  const script = `
    const { parentPort, workerData } = require('node:worker_threads')
    import(workerData).then(({ Reactor }) => {
      const reactor = new Reactor()
      parentPort.postMessage(String(reactor.id))
      parentPort.once('message', () => reactor.close())
    })`
  const workers = Array.from(
    { length: 4 },
    () => new Worker(script, { eval: true, execArgv: [], workerData: coreUrl }),
  )
  const ids = await Promise.all(
    workers.map((worker) => within(new Promise((resolve) => worker.once('message', resolve)))),
  )
  expect(new Set(ids).size).toBe(4)
  const ends = workers.map((worker) => within(new Promise((resolve) => worker.once('exit', resolve))))
  for (const worker of workers) worker.postMessage('end')
  expect(await Promise.all(ends)).toEqual([0, 0, 0, 0])
})
