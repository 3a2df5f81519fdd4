import { createHash } from 'node:crypto'
import type { FdHandle } from '@fd-reactor/core'
import { UnixListener, UnixStream, type Borrow } from '@fd-reactor/fd-events'
import { expect, test } from 'vitest'
import { assertNoLeakedFds } from '../../core/test/support/fds.js'
import { openReactor, socketPath } from '../../core/test/support/reactors.js'
import { until, within } from '../../core/test/support/wait.js'
import { rawClient, readNow, writeAll } from './unix-helpers.js'

assertNoLeakedFds()

const TOTAL = 100 * 2 ** 20
// Its length has no common factor with the sizes of chunks and buffers, so a piece that moves or repeats changes the sum.
const PATTERN = Buffer.from(Uint32Array.from({ length: 99_991 }, (_, n) => n * 2_654_435_761).buffer)

const expected = (() => {
  const hash = createHash('sha1')
  for (let sent = 0; sent < TOTAL; sent += PATTERN.length) hash.update(PATTERN.subarray(0, TOTAL - sent))
  return hash.digest('hex')
})()

/** Writes TOTAL bytes in pieces of changing sizes, as fast as backpressure lets it, and ends. */
function send(stream: UnixStream<Borrow>): void {
  let sent = 0
  let size = 1
  const more = (): void => {
    while (sent < TOTAL) {
      size = (size * 7 + 1) % 200_003
      const at = sent % PATTERN.length
      const length = Math.min(size, PATTERN.length - at, TOTAL - sent)
      sent += length
      if (!stream.write(PATTERN, at, length)) return
    }
    stream.removeListener('drain', more)
    stream.end()
  }
  stream.on('drain', more)
  more()
}

/** The sum of all that comes until the end. */
async function sumOf(stream: UnixStream<Borrow>): Promise<{ bytes: number; sum: string }> {
  const hash = createHash('sha1')
  return new Promise((resolve, reject) => {
    stream.on('data', (bytes: Buffer, offset = 0, length = bytes.length) => {
      hash.update(bytes.subarray(offset, offset + length))
    })
    stream.on('error', reject)
    stream.on('end', () => {
      resolve({ bytes: stream.bytesRead, sum: hash.digest('hex') })
    })
  })
}

test.each([false, true, 'offsets'] as const)(
  '100 MB in both directions at once arrive as they were sent (borrow: %j)',
  async (borrow) => {
    const reactor = openReactor()
    const listener = UnixListener.listen<Borrow>(reactor, socketPath(), { borrow, allowHalfOpen: true })
    const server = new Promise<UnixStream<Borrow>>((resolve) => listener.on('connection', resolve))
    const client = await UnixStream.connect<Borrow>(reactor, listener.path, { borrow, allowHalfOpen: true })
    const streams = [client, await within(server)]
    const sums = streams.map(sumOf)
    streams.forEach(send)
    const whole = { bytes: TOTAL, sum: expected }
    expect(await within(Promise.all(sums), 'both sums', 25_000)).toEqual([whole, whole])
    await until(() => streams.every((stream) => stream.closed))
    expect(streams.map(({ bytesWritten }) => bytesWritten)).toEqual([TOTAL, TOTAL])
  },
)

test('2,000 connections are served side by side', async () => {
  const reactor = openReactor()
  const listener = UnixListener.listen(reactor, socketPath(), { backlog: 4096 })
  listener.on('connection', (stream) => stream.on('data', (bytes) => stream.write(bytes)))
  const clients: FdHandle[] = []
  for (let n = 0; n < 2000; n++) {
    clients.push(rawClient(listener.path))
    // The backlog is capped by /proc/sys/net/core/somaxconn.
    if (n % 100 === 99) await until(() => listener.connections === n + 1)
  }
  clients.forEach((client, n) => writeAll(client, `client ${n}`))
  const answers = new Map<number, string>()
  await until(() => {
    clients.forEach((client, n) => {
      const bytes = answers.has(n) ? undefined : readNow(client, 64)
      if (bytes !== undefined) answers.set(n, String(bytes))
    })
    return answers.size === clients.length
  })
  clients.forEach((client, n) => {
    expect(answers.get(n)).toBe(`client ${n}`)
    client.close()
  })
  await until(() => listener.connections === 0)
  expect(reactor.sources().filter(({ label }) => label.startsWith('UnixStream'))).toEqual([])
})
