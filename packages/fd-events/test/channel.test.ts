/**
 * Channels between threads: what goes through them, and how they end.
 */
import { once } from 'node:events'
import process from 'node:process'
import { Worker } from 'node:worker_threads'
import { Channel, type ChannelEnd, type ChannelOptions } from '@fd-reactor/fd-events'
import type { Reactor } from '@fd-reactor/core'
import { expect, onTestFinished, test } from 'vitest'
import { coreUrl, fdEventsUrl, runScript } from '../../core/test/support/child.js'
import { assertNoLeakedFds, countFds } from '../../core/test/support/fds.js'
import { openReactor } from '../../core/test/support/reactors.js'
import { turn, until, within } from '../../core/test/support/wait.js'

assertNoLeakedFds()

const MESSAGES = Number(process.env['FD_REACTOR_MESSAGES'] ?? 100_000)
const TERMINATIONS = Number(process.env['FD_REACTOR_TERMINATIONS'] ?? 100)
const LONG = 60_000

/** What a worker does with its end: see the fixture. */
interface Job {
  task: string
  end?: ChannelEnd | undefined
  count?: number
  options?: ChannelOptions
}

/** A worker, and how it ends; what it throws is ignored. What a test leaves running is terminated. */
function start(job: Job): { worker: Worker; exited: Promise<unknown> } {
  const worker = new Worker(new URL('fixtures/channel-worker.mjs', import.meta.url), {
    execArgv: [],
    stderr: true,
    workerData: { ...job, coreUrl, fdEventsUrl },
    transferList: job.end === undefined ? [] : [job.end.port],
  })
  worker.on('error', () => undefined)
  const exited = new Promise<void>((resolve) => worker.once('exit', () => resolve()))
  onTestFinished(async () => {
    await worker.terminate()
    await exited
  })
  return { worker, exited }
}

/** A channel to a worker that does `task`. */
function channelTo(
  reactor: Reactor,
  task: string,
  { count = 0, capacity }: { count?: number; capacity?: number } = {},
): { channel: Channel; worker: Worker; exited: Promise<unknown> } {
  const channel = Channel.create(reactor, capacity === undefined ? {} : { capacity })
  return { channel, ...start({ task, end: channel.there, count }) }
}

/** Both ends in this thread. */
function pair<A = unknown, B = unknown>(
  reactor: Reactor,
  options: Parameters<typeof Channel.create<A, B>>[1] = {},
): { near: Channel<A, B>; far: Channel<B, A> } {
  const near = Channel.create<A, B>(reactor, options)
  return { near, far: Channel.open<B, A>(reactor, thereOf(near)) }
}

function thereOf(channel: { there: ChannelEnd | undefined }): ChannelEnd {
  return channel.there ?? expect.unreachable('it was opened, not made')
}

/** Everything that a channel tells, by name. */
function record(channel: Channel): string[] {
  const told: string[] = []
  channel.on('message', (value) => told.push(String(value)))
  for (const name of ['gone', 'end', 'close'] as const) channel.on(name, () => told.push(name))
  return told
}

async function next(channel: Channel): Promise<unknown> {
  const [value] = (await within(once(channel, 'message'))) as [unknown]
  return value
}

const codeOf = (code: string): unknown => expect.objectContaining({ code })

test('structured values go to another thread and back', async () => {
  const { channel } = channelTo(openReactor(), 'echo')
  const cycle: { self?: object } = {}
  cycle.self = cycle
  const values = [
    new Map<unknown, unknown>([['key', new Set([1, 2n ** 70n, 'three'])]]),
    new Date(1e12),
    [undefined, null, NaN, -0, /pattern/gi],
    new Float64Array([1.5, Infinity]),
    new Uint8Array(1000).fill(7),
    cycle,
    new RangeError('told'),
    '',
  ]
  for (const value of values) {
    channel.send(value)
    expect(await next(channel)).toEqual(value)
  }
  expect(channel.stats).toMatchObject({ sent: values.length, received: values.length, queued: 0, dropped: 0 })
})

test(
  `${MESSAGES} messages go there and back in order, through a ring that is full most of the time`,
  async () => {
    const { channel } = channelTo(openReactor(), 'echo', { capacity: 8192 })
    let sent = 0
    let received = 0
    const go = (): void => {
      while (sent < MESSAGES && channel.send(sent++));
    }
    channel.on('drain', go).on('message', (value) => {
      if (value !== received) expect.unreachable(`${String(value)} came instead of ${received}`)
      received++
    })
    go()
    await until(() => received === MESSAGES, 'the last message', LONG)
  },
  LONG,
)

test('one can send before the other end is open, and what the ring has no room for waits', async () => {
  const reactor = openReactor()
  const near = Channel.create<number, number>(reactor, { capacity: 4096 })
  let drained = 0
  near.on('drain', () => drained++)
  let accepted = 0
  while (near.send(accepted)) accepted++
  for (let i = 1; i < 1000; i++) expect(near.send(accepted + i)).toBe(false)
  expect(near.stats.queued).toBe(1000)
  const far = Channel.open<number, number>(reactor, thereOf(near))
  const received: number[] = []
  far.on('message', (value) => received.push(value))
  await until(() => received.length === accepted + 1000 && drained > 0)
  expect(received).toEqual(received.map((_, index) => index))
  expect(drained).toBe(1)
})

test('a full ring drops or throws when it is asked to', () => {
  const reactor = openReactor()
  const fill = (channel: Channel): void => {
    while (channel.send(0));
  }
  const dropping = Channel.create(reactor, { capacity: 4096, onFull: 'drop' })
  fill(dropping)
  expect(dropping.stats).toMatchObject({ dropped: 1, queued: 0 })
  const throwing = Channel.create(reactor, { capacity: 4096, onFull: 'error', label: 'Jobs' })
  expect(() => fill(throwing)).toThrow(
    /^Jobs \d+: the ring of 4096 bytes has no room for 4 more\. Go on at 'drain'$/,
  )
})

test('bytes go untouched', async () => {
  const reactor = openReactor()
  const near = Channel.create(reactor, { codec: 'bytes', capacity: 4096 })
  const far = Channel.open(reactor, thereOf(near), { codec: 'bytes' })
  for (const length of [0, 1, 64, 513, near.maxMessage]) {
    const bytes = Uint8Array.from({ length }, (_, index) => index)
    near.send(bytes)
    const [received] = (await within(once(far, 'message'))) as [Buffer]
    expect(received).toEqual(Buffer.from(bytes))
  }
  const words: unknown = 'words'
  expect(() => near.send(words as Uint8Array)).toThrow(
    /the value cannot be sent: a channel of bytes takes a Uint8Array$/,
  )
})

test('a codec of the own encodes and decodes, with types that follow from it', async () => {
  const reactor = openReactor()
  const codec = {
    encode: (value: { text: string }): Uint8Array => Buffer.from(value.text),
    decode: (bytes: Buffer): { text: string } => ({ text: bytes.toString() }),
  }
  const near = Channel.create(reactor, { codec })
  const far = Channel.open(reactor, thereOf(near), { codec })
  near.send({ text: 'grüße' })
  for await (const { text } of far) {
    expect(text).toBe('grüße')
    break
  }
  const bad = { encode: () => 'text', decode: () => undefined } as unknown as typeof codec
  expect(() => Channel.create(reactor, { codec: bad }).send({ text: '' })).toThrow(
    /^Channel \d+: the codec's encode\(\) must return a Uint8Array$/,
  )
})

test('what cannot be sent is refused with the reason, and the channel goes on', async () => {
  const { near, far } = pair(openReactor(), { capacity: 4096 })
  expect(() => near.send(() => 1)).toThrow(
    /^Channel \d+: the value cannot be sent: \(\) => 1 could not be cloned\.$/,
  )
  expect(() => near.send(Symbol('s'))).toThrow(codeOf('ERR_MESSAGE_INVALID'))
  expect(() => near.send(new SharedArrayBuffer(1))).toThrow(codeOf('ERR_MESSAGE_INVALID'))
  expect(() => near.send('x'.repeat(2041))).toThrow(
    /^Channel \d+: a message of 2046 bytes does not fit: the ring of 4096 bytes takes up to 2040\. Make one with a capacity of at least 4108$/,
  )
  near.send('fits')
  expect(await next(far)).toBe('fits')
})

test('a message that cannot be decoded is an error, and the end', async () => {
  const reactor = openReactor()
  const near = Channel.create(reactor, { codec: 'bytes' })
  const far = Channel.open(reactor, thereOf(near))
  near.send(Buffer.from('no structured value'))
  const told: unknown[] = []
  far.on('error', (error) => told.push(error.message)).on('message', (value) => told.push(value))
  await until(() => far.closed)
  expect(told).toEqual([
    expect.stringMatching(
      /^Channel \d+: a message cannot be decoded; both ends need the same codec: Unable to deserialize cloned data( due to invalid or unsupported version)?\.$/,
    ),
  ])
  await within(once(near, 'gone'))
})

test('an iterator throws what cannot be decoded', async () => {
  const reactor = openReactor()
  const near = Channel.create(reactor, { codec: 'bytes' })
  const far = Channel.open(reactor, thereOf(near))
  near.send(Buffer.from('no structured value'))
  await expect(within(far[Symbol.asyncIterator]().next())).rejects.toMatchObject({
    code: 'ERR_MESSAGE_INVALID',
  })
})

test.each(['countAndExit', 'countAndClose', 'countAndThrow'])(
  'what a thread sent before its end (%s) comes, then the end is told',
  async (task) => {
    const { channel } = channelTo(openReactor(), task, { count: 1000 })
    const told = record(channel)
    await within(once(channel, 'close'), 'the close', LONG)
    expect(told.filter((each) => each !== 'gone')).toEqual([
      ...Array.from({ length: 1000 }, (_, index) => String(index)),
      'end',
      'close',
    ])
    expect(told.filter((each) => each === 'gone')).toHaveLength(1)
    expect(() => channel.send(0)).toThrow(/^Channel \d+ is closed$/)
  },
)

test('who only sends is told that the other thread has ended', async () => {
  const { channel, worker } = channelTo(openReactor(), 'listenOnlyToTheEnd')
  await within(once(worker, 'online'))
  void worker.terminate()
  await within(once(channel, 'gone'))
  expect([channel.connected, channel.closed]).toEqual([false, false])
  expect(() => channel.send(0)).toThrow(/^Channel \d+: the other side is gone$/)
  channel.close()
})

test('the other thread is told when this side closes', async () => {
  const { channel, worker, exited } = channelTo(openReactor(), 'listenOnlyToTheEnd')
  expect(await within(once(worker, 'message'), 'its opening', LONG)).toEqual(['open'])
  channel.close()
  expect(await within(once(worker, 'message'))).toEqual(['gone'])
  await within(exited, 'its exit: nothing keeps it') // nothing is listened to there
})

test(
  `${TERMINATIONS} threads are terminated in the middle: each is told, nothing leaks`,
  async () => {
    const reactor = openReactor()
    const cycle = async (turns: number): Promise<void> => {
      const { channel, worker, exited } = channelTo(reactor, 'flood', { capacity: 8192 })
      let received = 0
      channel.on('message', () => {
        if (++received === turns) void worker.terminate()
        if (channel.connected && channel.stats.queued === 0) channel.send(received)
      })
      if (turns === 0) worker.once('online', () => void worker.terminate()) // while it opens, or before
      await within(once(channel, 'close'), `the end after ${turns}`, LONG)
      await exited
    }
    await cycle(1)
    const before = countFds()
    for (let i = 0; i < TERMINATIONS; i++) await cycle((i % 4) * 40)
    expect(countFds()).toEqual(before)
  },
  3 * LONG,
)

test('an end that is never opened leaks nothing: closed here, or given to a thread that ends', async () => {
  const reactor = openReactor()
  Channel.create(reactor).close()
  const before = countFds()
  for (let i = 0; i < 10; i++) Channel.create(reactor).close()
  expect(countFds()).toEqual(before)
  const channel = Channel.create(reactor)
  const { worker, exited } = start({ task: 'idle', end: channel.there })
  await within(once(worker, 'online'))
  void worker.terminate()
  await within(once(channel, 'gone'), 'the end', LONG)
  channel.close()
  await exited
})

test('an end whose maker has closed or ended cannot be opened, whatever its numbers are by now', async () => {
  const reactor = openReactor()
  const near = Channel.create(reactor)
  const there = thereOf(near)
  near.close()
  const open = (end: ChannelEnd): unknown => Channel.open(reactor, end)
  expect(() => open(there)).toThrow(/^The channel was closed on the other side before it was opened here$/)
  const other = Channel.create(reactor) // takes the same numbers
  expect(thereOf(other).bells).toEqual(there.bells)
  const before = countFds()
  expect(() => open(there)).toThrow(codeOf('ERR_CLOSED'))
  expect(countFds()).toEqual(before)
  other.close()

  const { worker, exited } = start({ task: 'make' })
  const [made] = (await within(once(worker, 'message'), 'its end', LONG)) as [ChannelEnd]
  await worker.terminate()
  await exited
  expect(() => open(made)).toThrow(codeOf('ERR_CLOSED'))
})

test('a worker makes one, and this thread opens it', async () => {
  const { worker } = start({ task: 'make' })
  const [made] = (await within(once(worker, 'message'), 'its end', LONG)) as [ChannelEnd]
  const channel = Channel.open(openReactor(), made)
  channel.send('unheard')
  expect(channel.there).toBeUndefined()
  void worker.terminate()
  await within(once(channel, 'gone'))
})

test('what is no end, or is open, or an option that does not exist, is refused', () => {
  const reactor = openReactor()
  const { near } = pair(reactor)
  expect(() => Channel.open(reactor, thereOf(near))).toThrow(/^This end of the channel was opened already$/)
  const text =
    "Channel.open() takes another channel's `there`, as it came through postMessage() or workerData with its port in the transfer list"
  for (const wrong of [undefined, 1, {}, { ...near.there, bells: [1, 2] }])
    expect(() => Channel.open(reactor, wrong as ChannelEnd)).toThrow(new TypeError(text))
  expect(() => Channel.create(reactor, { capasity: 1 } as object)).toThrow(
    "Channel.create has no option 'capasity'; did you mean 'capacity'?",
  )
  expect(() => Channel.create(reactor, { capacity: 0 })).toThrow(
    "Channel.create option 'capacity' must be an integer from 1 to 1073741824, not 0",
  )
  expect(() => Channel.create(reactor, { codec: 'json' as 'bytes' })).toThrow(
    `Channel.create option 'codec' must be "structured" or "bytes", not 'json'`,
  )
  expect(() => Channel.create(reactor, { codec: {} as 'bytes' })).toThrow(
    "Channel.create option 'codec' must have the functions encode and decode",
  )
})

test('two workers talk to one thread, each over a channel of its own', async () => {
  const reactor = openReactor()
  const lanes = [1000, 2000].map((base) => ({ base, ...channelTo(reactor, 'echo') }))
  for (let i = 0; i < 100; i++) for (const { channel, base } of lanes) channel.send(base + i)
  for (const { channel, base } of lanes) {
    let expected = base
    for await (const value of channel) {
      expect(value).toBe(expected++)
      if (expected === base + 100) break
    }
  }
})

test('closing twice, by using, by signal and with the reactor; nothing can be used afterwards', () => {
  const reactor = openReactor()
  const abort = new AbortController()
  const closed = [
    Channel.create(reactor, { signal: abort.signal }),
    Channel.create(reactor),
    Channel.create(reactor),
  ]
  let closes = 0
  for (const channel of closed) channel.on('close', () => closes++)
  abort.abort()
  closed[1]?.close()
  closed[1]?.[Symbol.dispose]()
  reactor.close()
  expect(closes).toBe(3)
  for (const channel of closed) {
    expect(() => channel.send(1)).toThrow(codeOf('ERR_CLOSED'))
    expect([channel.closed, channel.connected]).toEqual([true, false])
    channel.pause().resume().ref().unref()
  }
  expect(() => Channel.create(reactor)).toThrow(codeOf('ERR_CLOSED'))
  expect(() => Channel.create(openReactor(), { signal: abort.signal })).toThrow(/aborted/)
})

test('pause() stops the next message, and a loop that is left loses none', async () => {
  const { near, far } = pair<number, number>(openReactor())
  for (let i = 0; i < 10; i++) near.send(i)
  const received: number[] = []
  far.on('message', (value) => {
    received.push(value)
    far.pause()
  })
  await until(() => received.length === 1)
  for (let i = 0; i < 10; i++) await turn()
  expect(received).toEqual([0])
  far.removeAllListeners('message').resume()
  for await (const value of far) if (received.push(value) === 4) break
  far.once('message', (value) => received.push(value))
  await until(() => received.length === 5)
  near.close()
  for await (const value of far) received.push(value)
  expect(received).toEqual(Array.from({ length: 10 }, (_, index) => index))
  expect(far.closed).toBe(true)
})

test('a channel keeps its process going unless it is not to', async () => {
  const script = (then: string): string => `
    const channel = events.Channel.create(new Reactor())
    channel.on('message', () => undefined)
    ${then}`
  const unreferenced = await runScript(script('channel.unref()'))
  expect(unreferenced).toEqual({ code: 0, signal: null, stdout: '', stderr: '' })
  const referenced = await runScript(
    script(`setTimeout(() => { console.log('still there'); channel.close() }, 100).unref()`),
  )
  expect(referenced).toEqual({ code: 0, signal: null, stdout: 'still there\n', stderr: '' })
  const alone = await runScript(`
    const channel = events.Channel.create(new Reactor())
    events.Channel.open(new Reactor(), channel.there).close()
    channel.on('gone', () => console.log('gone'))
    await sleep(50)`)
  expect(alone).toEqual({ code: 0, signal: null, stdout: 'gone\n', stderr: '' })
})
