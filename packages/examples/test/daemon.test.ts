/**
 * What the daemon does while it runs: requests, ticks, work, reload, reports, and clients that misbehave.
 */
import { expect, test } from 'vitest'
import { assertNoLeakedFds } from '../../core/test/support/fds.js'
import { Daemon, fixture, type Client, type Message } from './support/daemon.js'

assertNoLeakedFds()

const error = (code: string): object => ({ error: expect.objectContaining({ code }) as unknown })

test('it prints where it listens and two commands to try', async () => {
  await using daemon = await Daemon.start()
  expect(daemon.stdout.lines[0]).toBe(`listening on unix:${daemon.socketPath}`)
  await daemon.stdout.find(/npm run client -- --socket \S+ echo/)
  await daemon.stdout.find(/socat/)
})

test('each operation is answered with the id of its request', async () => {
  await using daemon = await Daemon.start()
  using client = await daemon.client()
  const payload = { text: 'grüße', list: [1, null, { deep: true }] }
  expect(await client.ask({ id: 'a', op: 'echo', payload })).toEqual({ id: 'a', ok: payload })
  expect(await client.ask({ id: 1.5, op: 'time' })).toMatchObject({
    id: 1.5,
    ok: { iso: expect.any(String) as unknown },
  })
  expect(await client.ask({ id: 2, op: 'work', limit: 100 })).toMatchObject({ id: 2, ok: { primes: 25 } })
  expect(await client.ask({ id: 3, op: 'stats' })).toMatchObject({
    id: 3,
    ok: { connections: { open: 1 }, requests: { echo: 1, time: 1, work: 1, stats: 1 }, jobs: { done: 1 } },
  })
})

test('50 clients are served at the same time, each in the order of its requests', async () => {
  await using daemon = await Daemon.start()
  const clients = await Promise.all(Array.from({ length: 50 }, () => daemon.client()))
  await Promise.all(
    clients.map(async (client, number) => {
      for (let round = 0; round < 20; round++) {
        const ids = Array.from({ length: 10 }, (_, index) => `${number}/${round}/${index}`)
        await client.write(...ids.map((id) => ({ id, op: 'echo', payload: id })))
        for (const id of ids) expect(await client.read()).toEqual({ id, ok: id })
      }
    }),
  )
  const { ok } = await (clients[0] as Client).ask({ id: 0, op: 'stats' })
  expect(ok).toMatchObject({ connections: { open: 50 }, requests: { echo: 10_000 } })
  for (const client of clients) client[Symbol.dispose]()
})

test('subscribers get ticks with their lateness until they leave', async () => {
  await using daemon = await Daemon.start({ config: { tickMs: 5 } })
  using first = await daemon.client()
  using second = await daemon.client()
  expect(await first.ask({ id: 'one', op: 'subscribe' })).toEqual({ id: 'one', ok: { tickMs: 5 } })
  expect(await second.ask({ id: 'two', op: 'subscribe' })).toEqual({ id: 'two', ok: { tickMs: 5 } })
  const tick = (id: string): Message => ({
    id,
    event: 'tick',
    expirations: expect.any(Number) as number,
    latenessNs: expect.any(Number) as number,
  })
  for (let count = 0; count < 10; count++) {
    expect(await first.read()).toEqual(tick('one'))
    expect(await second.read()).toEqual(tick('two'))
  }
  await first.write({ id: 'again', op: 'subscribe' })
  await readUntil(first, ({ id }) => id === 'again').then((answer) =>
    expect(answer).toMatchObject(error('bad_request')),
  )
  first.socket.destroy()
  for (let count = 0; count < 10; count++) expect(await second.read()).toEqual(tick('two'))
})

test('a subscriber that has shut its writing side goes on getting ticks', async () => {
  await using daemon = await Daemon.start({ config: { tickMs: 5 } })
  using client = await daemon.client()
  await client.write({ id: 1, op: 'subscribe' })
  client.socket.end()
  for (let count = 0; count < 10; count++) await client.read()
})

test('a subscriber that has gone is forgotten before the next tick', async () => {
  await using daemon = await Daemon.start({ config: { tickMs: 3_600_000 } })
  using watcher = await daemon.client()
  using client = await daemon.client()
  await client.ask({ id: 1, op: 'subscribe' })
  client.socket.destroy()
  const subscribers = async (): Promise<number> => {
    const { ok } = await watcher.ask({ id: 1, op: 'stats' })
    return (ok as { subscribers: { now: number } }).subscribers.now
  }
  while ((await subscribers()) > 0);
})

test('a subscriber that stops reading is dropped at the stated backlog, and the others go on', async () => {
  await using daemon = await Daemon.start({ config: { tickMs: 1, maxSubscriberBacklogBytes: 4096 } })
  using good = await daemon.client()
  using stalled = await daemon.client()
  await stalled.ask({ id: 's', op: 'subscribe' })
  await good.ask({ id: 'g', op: 'subscribe' })
  stalled.socket.pause()
  const dropped = daemon.log.find(/subscribers dropped/)
  const reading = readUntil(good, ({ id }) => id === 'stats')
  await dropped
  await good.write({ id: 'stats', op: 'stats' })
  expect(await reading).toMatchObject({
    ok: { subscribers: { now: 1, dropped: 1 }, connections: { open: 1 } },
  })
  for (let count = 0; count < 10; count++) expect(await good.read()).toMatchObject({ id: 'g', event: 'tick' })
})

test('a client that does not read its answers is not read from, and does not disturb the others', async () => {
  await using daemon = await Daemon.start()
  using greedy = await daemon.client()
  using other = await daemon.client()
  greedy.socket.pause()
  const payload = 'x'.repeat(60_000)
  for (let id = 0; id < 300; id++) greedy.socket.write(`${JSON.stringify({ id, op: 'echo', payload })}\n`)
  const before = process.hrtime.bigint()
  for (let id = 0; id < 100; id++) expect(await other.ask({ id, op: 'time' })).toMatchObject({ id })
  expect(Number(process.hrtime.bigint() - before) / 1e6).toBeLessThan(5000)
  const { ok } = await other.ask({ id: 'stats', op: 'stats' })
  expect((ok as { requests: { echo: number } }).requests.echo).toBeLessThan(300)
  greedy.socket.resume()
  for (let id = 0; id < 300; id++) expect((await greedy.read()).id).toBe(id)
})

test('work is done in a worker while the daemon answers others', async () => {
  await using daemon = await Daemon.start()
  using busy = await daemon.client()
  using other = await daemon.client()
  await busy.write(...[1, 2, 3].map((id) => ({ id, op: 'work', limit: 3_000_000 })))
  for (let id = 0; id < 50; id++)
    expect(await other.ask({ id, op: 'echo', payload: id })).toEqual({ id, ok: id })
  expect(busy.messages).toEqual([]) // thousands of times longer than an echo takes
  for (const id of [1, 2, 3]) expect(await busy.read()).toMatchObject({ id, ok: { primes: 216_816 } })
})

test('several workers share the jobs', async () => {
  await using daemon = await Daemon.start({ args: ['--workers', '3'] })
  using client = await daemon.client()
  const ids = Array.from({ length: 30 }, (_, index) => index)
  await client.write(...ids.map((id) => ({ id, op: 'work', limit: 10_000 })))
  const answers = []
  for (const _ of ids) answers.push(await client.read())
  expect(answers.map(({ id }) => id).sort((a, b) => Number(a) - Number(b))).toEqual(ids)
  for (const answer of answers) expect(answer).toMatchObject({ ok: { primes: 1229 } })
})

test('no more jobs wait than the configuration says', async () => {
  await using daemon = await Daemon.start({ config: { maxJobs: 2 } })
  using client = await daemon.client()
  await client.write(...[1, 2, 3, 4].map((id) => ({ id, op: 'work', limit: 1_000_000 })))
  expect(await client.read()).toMatchObject({ id: 4, ...error('busy') })
  for (const id of [1, 2, 3]) expect(await client.read()).toMatchObject({ id, ok: {} })
})

test('the jobs of a client that has gone are not begun', async () => {
  await using daemon = await Daemon.start()
  using gone = await daemon.client()
  using other = await daemon.client()
  using watcher = await daemon.client()
  const jobs = async (): Promise<{ running: number }> => {
    const { ok } = await watcher.ask({ id: 0, op: 'stats' })
    return (ok as { jobs: { running: number } }).jobs
  }
  await other.write({ id: 1, op: 'work', limit: 3_000_000 })
  while ((await jobs()).running < 1);
  await gone.write(...Array.from({ length: 50 }, (_, id) => ({ id, op: 'work', limit: 50_000_000 })))
  gone.socket.destroy()
  await other.write({ id: 2, op: 'work', limit: 100 })
  expect(await other.read()).toMatchObject({ id: 1, ok: {} })
  expect(await other.read()).toMatchObject({ id: 2, ok: {} })
  expect(await jobs()).toMatchObject({ done: 2, waiting: 0, running: 0 })
})

test('a worker that crashes costs its job only', async () => {
  await using daemon = await Daemon.start({ main: fixture('daemon-with-crashing-worker.mjs') })
  using client = await daemon.client()
  await client.write(...[100, 13, 100].map((limit, id) => ({ id, op: 'work', limit })))
  expect(await client.read()).toMatchObject({ id: 0, ok: { primes: 25 } })
  expect(await client.read()).toEqual({ id: 1, error: { code: 'worker_failed', message: 'thirteen' } })
  expect(await client.read()).toMatchObject({ id: 2, ok: { primes: 25 } })
  expect(await client.ask({ id: 3, op: 'stats' })).toMatchObject({
    ok: { jobs: { done: 2, failed: 1, running: 0 } },
  })
})

test('SIGHUP takes over a good configuration and refuses a bad one with the reason', async () => {
  await using daemon = await Daemon.start({ config: { tickMs: 5000 } })
  using client = await daemon.client()
  const reload = async (config: string | object): Promise<string> => {
    daemon.configure(config)
    daemon.kill('SIGHUP')
    return daemon.log.find(/configuration/)
  }
  expect(await reload({ tickMs: 7 })).toMatch(/reloaded.*"tickMs":7/)
  expect(await client.ask({ id: 1, op: 'subscribe' })).toEqual({ id: 1, ok: { tickMs: 7 } })
  expect(await client.read()).toMatchObject({ event: 'tick' }) // long before 5 s

  expect(await reload('{ "tickMs": ')).toMatch(/refused, the old one stays: .*config.json: .*JSON/)
  expect(await reload('[]')).toMatch(/refused.*not a JSON object/)
  expect(await reload({ tickMs: 0 })).toMatch(/refused.*'tickMs' must be an integer from 1/)
  expect(await reload({ tickMs: 1, maxLinesBytes: 9 })).toMatch(/refused.*did you mean 'maxLineBytes'/)
  expect(await reload({ allowedUids: 'me' })).toMatch(/refused.*'allowedUids' must be a list/)

  using other = await daemon.client()
  expect(await other.ask({ id: 2, op: 'subscribe' })).toEqual({ id: 2, ok: { tickMs: 7 } })
  await client.write({ id: 3, op: 'stats' })
  const stats = await readUntil(client, ({ id }) => id === 3)
  expect(stats).toMatchObject({ ok: { reloads: { done: 1, refused: 5 } } })
})

test('SIGUSR2 writes a statistics report', async () => {
  await using daemon = await Daemon.start()
  using client = await daemon.client()
  await client.ask({ id: 1, op: 'echo' })
  daemon.kill('SIGUSR2')
  const line = await daemon.log.find(/statistics: /)
  const report: unknown = JSON.parse(line.slice(line.indexOf('{')))
  expect(report).toMatchObject({ connections: { open: 1, accepted: 1 }, requests: { echo: 1 }, reactor: {} })
})

test('requests that are malformed get an error, and the connection goes on', async () => {
  await using daemon = await Daemon.start()
  using client = await daemon.client()
  const refused = async (line: string, code: string, id: Message['id'] = null): Promise<void> => {
    await client.write(`${line}\n`)
    expect(await client.read(), line).toMatchObject({ id, ...error(code) })
  }
  await refused('no json', 'bad_request')
  await refused('[]', 'bad_request')
  await refused('null', 'bad_request')
  await refused('{"op":"echo"}', 'bad_request')
  await refused('{"id":{},"op":"echo"}', 'bad_request')
  await refused('{"id":1}', 'bad_request', 1)
  await refused('{"id":1,"op":"toString"}', 'unknown_op', 1)
  await refused('{"id":1,"op":"work"}', 'bad_request', 1)
  await refused('{"id":1,"op":"work","limit":1e9}', 'bad_request', 1)
  await refused('{"id":1,"op":"work","limit":"10"}', 'bad_request', 1)
  client.socket.write(Buffer.from([0x22, 0xff, 0xfe, 0x22, 0x0a]))
  expect(await client.read()).toMatchObject({ id: null, ...error('bad_request') })
  await client.write('\n\r\n\n') // an empty line is nothing; one with a CR alone is not JSON
  expect(await client.read()).toMatchObject({ id: null, ...error('bad_request') })
  // Nested deeper than the stack is: whatever it is answered with, it is answered.
  const deep = `{"id":2,"op":"echo","payload":${'['.repeat(20_000)}${']'.repeat(20_000)}}\n`
  await client.write(deep)
  await client.read()
  expect(await client.ask({ id: 3, op: 'echo', payload: 3, __proto__: null })).toEqual({ id: 3, ok: 3 })
})

test('an over-long line is refused as it exceeds the limit, and the next one is answered', async () => {
  await using daemon = await Daemon.start({ config: { maxLineBytes: 100 } })
  using client = await daemon.client()
  const echo = (id: number, bytes: number): string => {
    const rest = JSON.stringify({ id, op: 'echo', payload: '' }).length
    return JSON.stringify({ id, op: 'echo', payload: 'x'.repeat(bytes - rest) })
  }
  await client.write(`${echo(1, 100)}\n`)
  expect(await client.read()).toMatchObject({ id: 1, ok: expect.any(String) as unknown })
  await client.write(`${echo(2, 101)}\n`)
  expect(await client.read()).toMatchObject({ id: null, ...error('too_long') })
  await client.write('y'.repeat(1_000_000)) // the error comes before the line's end, and once
  expect(await client.read()).toMatchObject({ id: null, ...error('too_long') })
  await client.write('y'.repeat(1_000_000), '\n', `${echo(3, 60)}\n`)
  expect(await client.read()).toMatchObject({ id: 3, ok: expect.any(String) as unknown })
})

test('requests that come in pieces are put together', async () => {
  await using daemon = await Daemon.start()
  using client = await daemon.client()
  const text = Buffer.from(`${JSON.stringify({ id: 'ü', op: 'echo', payload: '€' })}\n`.repeat(3))
  for (const byte of text) await new Promise((resolve) => client.socket.write(Buffer.of(byte), resolve))
  for (let count = 0; count < 3; count++) expect(await client.read()).toEqual({ id: 'ü', ok: '€' })
})

test('a half-sent request gets an error when its client ends, and a close when it takes too long', async () => {
  await using daemon = await Daemon.start({ config: { requestTimeoutMs: 100 } })
  using ending = await daemon.client()
  await ending.write({ id: 1, op: 'echo' }, '{"id":2,')
  ending.socket.end()
  expect(await ending.read()).toEqual({ id: 1, ok: null })
  expect(await ending.read()).toMatchObject({ id: null, ...error('incomplete') })
  await ending.end()

  using slow = await daemon.client()
  await slow.write('{"id":2,')
  expect(await slow.read()).toMatchObject({ id: null, ...error('incomplete') })
  await slow.end()

  using idle = await daemon.client() // waiting without a request is not limited
  using other = await daemon.client()
  await other.write('{')
  await other.end()
  expect(await idle.ask({ id: 3, op: 'echo' })).toEqual({ id: 3, ok: null })
})

test('a client that ends after its requests gets all answers, work included', async () => {
  await using daemon = await Daemon.start()
  using client = await daemon.client()
  await client.write({ id: 1, op: 'work', limit: 500_000 }, { id: 2, op: 'echo' })
  client.socket.end()
  expect(await client.read()).toMatchObject({ id: 2, ok: null })
  expect(await client.read()).toMatchObject({ id: 1, ok: { primes: 41_538 } })
  await client.end()
})

test('clients that vanish in the middle disturb nobody', async () => {
  await using daemon = await Daemon.start({ config: { tickMs: 1 } })
  using steady = await daemon.client()
  for (let round = 0; round < 100; round++) {
    using client = await daemon.client()
    const requests = [{ id: 1, op: 'subscribe' }, { id: 2, op: 'work', limit: 1000 }, '{"id":3,"op":"ec']
    await client.write(...requests.slice(round % 3))
    client.socket.destroy()
    expect(await steady.ask({ id: round, op: 'echo' })).toEqual({ id: round, ok: null })
  }
  expect(daemon.log.lines).toEqual([])
  daemon.kill('SIGTERM')
  await steady.end()
  steady.socket.end()
  expect(await daemon.exited()).toEqual({ code: 0, signal: null })
})

/** Reads on to the first message that `wanted` is about. */
async function readUntil(client: Client, wanted: (message: Message) => boolean): Promise<Message> {
  for (;;) {
    const message = await client.read()
    if (wanted(message)) return message
  }
}
