import { spawn, spawnSync } from 'node:child_process'
import { once as onceEvent } from 'node:events'
import { openSync, readdirSync, readSync, writeSync } from 'node:fs'
import { FdHandle, once, type Reactor } from '@fd-reactor/core'
import { eventfd } from '@fd-reactor/core/sys'
import { UnixListener, UnixStream } from '@fd-reactor/fd-events'
import { expect, onTestFinished, test, type TestContext } from 'vitest'
import { runForJson } from '../../core/test/support/child.js'
import { assertNoLeakedFds } from '../../core/test/support/fds.js'
import { openReactor, socketPath } from '../../core/test/support/reactors.js'
import { until, within } from '../../core/test/support/wait.js'

assertNoLeakedFds()

/** How many descriptors go from one process to another: `FD_REACTOR_FDS=1000000` for the long run. */
const TOTAL = Number(process.env['FD_REACTOR_FDS'] ?? 5000)
const LIMIT_MS = 20_000 + TOTAL / 10
const MAX_FDS = 16
const BROKEN = 20 // connections that are cut off, and as many that are closed half-way

const openFds = (): number => readdirSync('/proc/self/fd').length

/** Receives what comes, and says at the end what that was. A connection says by its first byte what is to be done with it. */
const RECEIVER = `
const { readdirSync } = await import('node:fs')
const openFds = () => readdirSync('/proc/self/fd').length
const reactor = new Reactor()
const listener = UnixListener.listen(reactor, process.argv[1], { maxFds: ${MAX_FDS} })
const seen = { received: 0, truncated: 0, left: 0 }
let before
listener.on('connection', (stream) => {
  let sets = 0
  let leaves = false
  const leaveAfterThree = () => {
    if (!leaves || sets !== 3) return
    seen.left++
    stream.destroy()
  }
  stream.on('fds', (fds) => {
    seen.received += fds.length
    for (const fd of fds) fd.close()
    sets++
    leaveAfterThree()
  })
  stream.on('data', (bytes) => {
    if (bytes[0] === 67 /* C */) leaves = true // the third set may have come with it
    leaveAfterThree()
    if (bytes[0] === 66 /* B */) { before = openFds(); stream.write('begin') }
    if (bytes[0] !== 81 /* Q */) return
    console.log(JSON.stringify({ ...seen, grown: openFds() - before - 1 }))
    reactor.stop(0)
  })
  stream.on('error', (error) => { if (error.code === 'ERR_FDS_TRUNCATED') seen.truncated++ })
})
process.stdin.resume().on('end', () => process.exit(1)) // the test has failed
await reactor.run()
process.exit()`

async function connected(reactor: Reactor, path: string, first: string): Promise<UnixStream> {
  for (;;) {
    try {
      const stream = await UnixStream.connect(reactor, path)
      stream.on('error', () => undefined).on('data', () => undefined)
      stream.write(first)
      return stream
    } catch {
      await new Promise((resolve) => setImmediate(resolve)) // the other process has not begun to listen
    }
  }
}

test(
  `${TOTAL} descriptors, cut off and half-way closed connections among them, and both processes end as they began`,
  async () => {
    const reactor = openReactor()
    const path = socketPath()
    const child = runForJson(RECEIVER, { args: [path], timeoutMs: LIMIT_MS })
    // Of the kinds that people pass: files, eventfds, sockets.
    const handles = Array.from({ length: MAX_FDS + 4 }, (_, index) =>
      index % 2 === 0
        ? new FdHandle(eventfd.create(0n, false))
        : FdHandle.adopt(openSync('/etc/hostname', 'r')),
    )
    onTestFinished(() => handles.forEach((handle) => handle.close()))
    const stream = await within(connected(reactor, path, 'B'))
    await within(once(stream, 'data'))
    stream.send('x', { fds: handles.slice(0, 1) }) // what the reactor opens at the first use is open now
    handles.push(stream.detach().handle)
    const before = openFds()
    let sent = 0
    const main = await connected(reactor, path, 'A')
    let fds = 0
    while (sent < TOTAL) {
      fds = Math.min((fds % MAX_FDS) + 1, TOTAL - sent)
      const more = main.send('x'.repeat(1 + (sent % 300)), { fds: handles.slice(0, fds) })
      sent += fds
      if (!more) await once(main, 'drain')
    }
    let reset = 0
    for (let count = 0; count < BROKEN; count++) {
      const cut = await connected(reactor, path, 'A')
      cut.send('x', { fds: handles.slice(0, MAX_FDS + 1 + (count % 4)) })
      cut.send('y', { fds: handles.slice(0, 2) })
      cut.on('close', () => reset++)
      const closed = await connected(reactor, path, 'C')
      for (let sends = 0; sends < 10; sends++) closed.send('x', { fds: handles.slice(0, 5) })
      closed.on('close', () => reset++)
    }
    await until(() => reset === 2 * BROKEN && main.writableLength === 0, 'the ends', LIMIT_MS)
    main.end()
    await within(once(main, 'close'), 'the last close', LIMIT_MS)
    expect(openFds()).toBe(before)
    const last = await connected(reactor, path, 'Q')
    expect(await child).toEqual({
      received: TOTAL + 1 + BROKEN * 3 * 5,
      truncated: BROKEN,
      left: BROKEN,
      grown: 0,
    })
    last.destroy()
  },
  LIMIT_MS,
)

function needsPython({ skip }: TestContext): void {
  skip(spawnSync('which', ['python3']).status !== 0, 'python3 is not installed')
}

test('python3 sends descriptors with socket.send_fds', async (context) => {
  needsPython(context)
  const reactor = openReactor()
  const listener = UnixListener.listen(reactor, socketPath(), { maxFds: 4 })
  const script = `import os, socket, sys
peer = socket.socket(socket.AF_UNIX)
peer.connect(sys.argv[1])
read, write = os.pipe()
os.write(write, b'through the pipe')
peer.send(b'first ')
socket.send_fds(peer, [b'take these'], [read, write])
print(peer.recv(100).decode())`
  const python = spawn('python3', ['-c', script, listener.path])
  const [stream] = await within(once(listener, 'connection'))
  let text = ''
  stream.on('data', (bytes) => (text += String(bytes)))
  const [fds] = await within(once(stream, 'fds'))
  const [read = expect.unreachable(), write = expect.unreachable()] = fds
  const bytes = Buffer.alloc(100)
  expect(bytes.toString('utf8', 0, readSync(read.fd, bytes))).toBe('through the pipe')
  writeSync(write.fd, 'back')
  expect(bytes.toString('utf8', 0, readSync(read.fd, bytes))).toBe('back')
  for (const fd of fds) fd.close()
  await until(() => text === 'first take these')
  stream.end('thanks')
  expect((await python.stdout.setEncoding('utf8').toArray()).join('')).toBe('thanks\n')
})

test('python3 receives descriptors with socket.recv_fds', async (context) => {
  needsPython(context)
  const reactor = openReactor()
  const listener = UnixListener.listen(reactor, socketPath())
  const script = `import os, socket, sys
peer = socket.socket(socket.AF_UNIX)
peer.connect(sys.argv[1])
bytes, fds, flags, address = socket.recv_fds(peer, 1024, 8)
print(bytes.decode(), len(fds), flags, os.read(fds[0], 8)[0], os.read(fds[1], 8)[0])`
  const python = spawn('python3', ['-c', script, listener.path])
  const [stream] = await within(once(listener, 'connection'))
  const handles = [5n, 6n].map((count) => new FdHandle(eventfd.create(count, false)))
  stream.send('hello', { fds: handles })
  for (const handle of handles) handle.close()
  const [text] = await within(
    Promise.all([python.stdout.setEncoding('utf8').toArray(), onceEvent(python, 'exit')]),
  )
  expect(text.join('')).toBe('hello 2 0 5 6\n')
  stream.destroy()
})
