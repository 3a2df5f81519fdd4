import { execFileSync, spawn, spawnSync } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import { once as onceEvent } from 'node:events'
import { closeSync, constants, openSync, readFileSync, writeFileSync, writeSync } from 'node:fs'
import { createServer, type AddressInfo, type Socket } from 'node:net'
import { dirname, join } from 'node:path'
import fc from 'fast-check'
import { FdHandle, type Reactor } from '@fd-reactor/core'
import { Domain, socket, SocketType } from '@fd-reactor/core/sys'
import { proxy, pump, UnixListener, UnixStream } from '@fd-reactor/fd-events'
import { describe, expect, onTestFinished, test } from 'vitest'
import { runForJson, runScript, withoutLeakCheck } from '../../core/test/support/child.js'
import { assertNoLeakedFds } from '../../core/test/support/fds.js'
import { openReactor, socketPath } from '../../core/test/support/reactors.js'
import { cpuMsDuring, turn, until, within } from '../../core/test/support/wait.js'
import { errorCode, netClient, pair, quiet, readNow, writeAll } from './unix-helpers.js'

assertNoLeakedFds()

const MIB = 2 ** 20
const CONTENT = randomBytes(8 * MIB)

/** A FIFO's two ends. */
function fifo(): { reader: FdHandle; writer: FdHandle; path: string } {
  const path = join(dirname(socketPath()), 'fifo')
  execFileSync('mkfifo', [path])
  const open = (flags: number): FdHandle => {
    const handle = FdHandle.adopt(openSync(path, flags | constants.O_NONBLOCK))
    onTestFinished(() => {
      handle.close()
    })
    return handle
  }
  return { reader: open(constants.O_RDONLY), writer: open(constants.O_WRONLY), path }
}

/** A connected TCP socket as a bare descriptor, and Node's socket at its other end. */
async function tcpPair(): Promise<[FdHandle, Socket]> {
  const server = createServer({ allowHalfOpen: true }).listen(0, '127.0.0.1')
  await onceEvent(server, 'listening')
  const accepted = onceEvent(server, 'connection')
  const { port } = server.address() as AddressInfo
  const handle = new FdHandle(socket.create(Domain.Ipv4, SocketType.Stream))
  socket.connect(handle.fd, Buffer.from([2, 0, port >> 8, port & 255, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]))
  const [peer] = (await within(accepted)) as [Socket]
  server.close()
  peer.on('error', () => undefined)
  onTestFinished(() => {
    handle.close()
    peer.destroy()
  })
  return [handle, peer]
}

/** Writes everything as fast as the other side takes it, and shuts the writing side. */
async function feed(to: FdHandle, bytes: Uint8Array, end = true): Promise<void> {
  let sent = 0
  await until(() => (sent += writeAll(to, bytes.subarray(sent))) === bytes.length, 'the feeding', 20_000)
  if (end) shut(to)
}

function shut(handle: FdHandle): void {
  if (socket.shutdownWrite(handle.fd) < 0) handle.close() // a pipe
}

async function drain(from: FdHandle): Promise<Buffer> {
  const chunks: Buffer[] = []
  await until(
    () => {
      for (let n = 0; n < 8; n++) {
        const bytes = readNow(from)
        if (bytes?.length === 0) return true
        if (bytes === undefined) return false
        chunks.push(bytes)
      }
      return false
    },
    'the end',
    20_000,
  )
  return Buffer.concat(chunks)
}

async function rejection(promise: Promise<unknown>): Promise<unknown> {
  return within(
    promise.then(
      () => expect.unreachable('it was not rejected'),
      (error: unknown) => error,
    ),
  )
}

/** The labels of what is being pumped. */
function pumps(reactor: Reactor): string[] {
  return reactor
    .sources()
    .map(({ label }) => label)
    .filter((label) => label.startsWith('Pump'))
}

/** Two pairs: the ends to be joined, and the raw sockets at their far sides. */
async function twoPairs(reactor: Reactor): Promise<{
  a: UnixStream
  b: UnixStream
  farA: FdHandle
  farB: FdHandle
}> {
  const [a, farA] = await pair(reactor, { allowHalfOpen: true })
  const [b, farB] = await pair(reactor, { allowHalfOpen: true })
  return { a, b, farA, farB }
}

describe('pump', () => {
  test('moves everything from stream to stream, passes the end on, and closes both', async () => {
    const reactor = openReactor()
    const { a, b, farA, farB } = await twoPairs(reactor)
    const progress: number[] = []
    const pumping = pump(reactor, a, b, { onProgress: (bytes) => progress.push(bytes) })
    expect([a.closed, b.closed]).toEqual([true, true])
    const feeding = feed(farA, CONTENT)
    expect((await drain(farB)).equals(CONTENT)).toBe(true)
    await feeding
    expect(await within(pumping)).toBe(CONTENT.length)
    expect(progress).toEqual(progress.toSorted((x, y) => x - y))
    expect(progress.at(-1)).toBe(CONTENT.length)
    expect(pumps(reactor)).toEqual([])
  })

  test('sends first what the streams had read and not sent', async () => {
    const reactor = openReactor()
    const { a, b, farA, farB } = await twoPairs(reactor)
    writeAll(farA, 'read ')
    const heard = new Promise<void>((resolve) => {
      a.once('data', (bytes) => {
        expect(String(bytes)).toBe('read ')
        resolve()
      })
    })
    await heard
    const filling = Buffer.alloc(4 * MIB, 'unsent')
    b.write(filling)
    a.write(filling)
    expect(b.writableLength).toBeGreaterThan(0)
    expect(a.writableLength).toBeGreaterThan(0)
    const pumping = pump(reactor, a, b)
    writeAll(farA, 'pumped')
    shut(farA)
    const [, toB] = await Promise.all([drain(farA), drain(farB)])
    expect(toB.subarray(0, filling.length).equals(filling)).toBe(true)
    expect(String(toB.subarray(filling.length))).toBe('pumped')
    await within(pumping)
  })

  test('descriptors do not travel: those that a stream had received are closed', async () => {
    const reactor = openReactor()
    const { a, b, farA, farB } = await twoPairs(reactor)
    const { reader, writer } = fifo()
    const { handle, unsent } = a.detach()
    const from = {
      detach: () => ({ handle, unread: Buffer.from('x'), unsent, fds: [reader, writer] }),
      close: () => undefined,
    }
    const pumping = pump(reactor, from, b)
    expect([reader.closed, writer.closed]).toEqual([true, true])
    shut(farA)
    expect(String(await drain(farB))).toBe('x')
    expect(await within(pumping)).toBe(1)
  })

  test('hands on what a paused stream was given in the middle of a batch', async () => {
    const reactor = openReactor()
    const { a, b, farA, farB } = await twoPairs(reactor)
    const pumping = new Promise<number>((resolve) => {
      a.on('data', (bytes) => {
        expect(String(bytes)).toBe('header\n')
        resolve(pump(reactor, a, b))
        writeAll(farA, 'body')
        shut(farA)
      })
    })
    writeAll(farA, 'header\n')
    expect(String(await drain(farB))).toBe('body')
    expect(await within(pumping)).toBe(4)
  })

  test('moves between pipes, FIFOs and sockets', async () => {
    const reactor = openReactor()
    const first = fifo()
    const second = fifo()
    const [stream, far] = await pair(reactor)
    const content = CONTENT.subarray(0, 2 * MIB + 3)
    const into = pump(reactor, first.reader, stream)
    const [again, source] = await pair(reactor)
    const out = pump(reactor, again, second.writer)
    const feeding = Promise.all([feed(first.writer, content), feed(source, content)])
    const [one, two] = await Promise.all([drain(far), drain(second.reader)])
    expect([one.equals(content), two.equals(content)]).toEqual([true, true])
    expect(await within(Promise.all([into, out]))).toEqual([content.length, content.length])
    await feeding
    const third = fifo()
    const fourth = fifo()
    const between = pump(reactor, third.reader, fourth.writer)
    const last = feed(third.writer, content)
    expect((await drain(fourth.reader)).equals(content)).toBe(true)
    expect(await within(between)).toBe(content.length)
    await last
  })

  test('a FIFO that nobody has opened yet has not ended', async () => {
    const reactor = openReactor()
    const { reader, writer, path } = fifo()
    reader.close()
    writer.close()
    const fresh = FdHandle.adopt(openSync(path, constants.O_RDONLY | constants.O_NONBLOCK))
    const [stream, far] = await pair(reactor)
    const pumping = pump(reactor, fresh, stream)
    await quiet()
    const late = openSync(path, 'w')
    writeSync(late, 'late')
    closeSync(late)
    expect(String(await drain(far))).toBe('late')
    expect(await within(pumping)).toBe(4)
  })

  test('over TCP, either way', async () => {
    const reactor = openReactor()
    const [to, peer] = await tcpPair()
    const [stream, far] = await pair(reactor)
    const hash = createHash('sha1')
    peer.on('data', (bytes) => hash.update(bytes))
    const ended = onceEvent(peer, 'end')
    const pumping = pump(reactor, stream, to)
    await feed(far, CONTENT)
    await within(ended)
    expect(hash.digest('hex')).toBe(createHash('sha1').update(CONTENT).digest('hex'))
    expect(await within(pumping)).toBe(CONTENT.length)
    const [from, source] = await tcpPair()
    const [target, reader] = await pair(reactor)
    const back = pump(reactor, from, target)
    source.end(CONTENT)
    expect((await drain(reader)).equals(CONTENT)).toBe(true)
    expect(await within(back)).toBe(CONTENT.length)
  })

  test('any amounts, written and read in any steps, arrive as they were sent', async () => {
    const seed = Number(process.env['FD_REACTOR_SEED'] ?? 20_261_121)
    console.log(`splice: seed ${seed} (set FD_REACTOR_SEED to repeat)`)
    const reactor = openReactor()
    const size = fc.oneof(fc.integer({ min: 1, max: 50 }), fc.integer({ min: 1, max: 200_000 }))
    const step = fc.record({ write: fc.boolean(), size, turns: fc.integer({ min: 0, max: 2 }) })
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 40 }), async (steps) => {
        const { a, b, farA, farB } = await twoPairs(reactor)
        const pumping = pump(reactor, a, b)
        let written = 0
        const read: Buffer[] = []
        for (const { write, size, turns } of steps) {
          if (write) written += writeAll(farA, CONTENT.subarray(written, written + size))
          else read.push(readNow(farB, size) ?? Buffer.alloc(0))
          for (let n = 0; n < turns; n++) await turn()
        }
        shut(farA)
        read.push(await drain(farB))
        expect(Buffer.concat(read).equals(CONTENT.subarray(0, written))).toBe(true)
        expect(await within(pumping)).toBe(written)
        farA.close()
        farB.close()
      }),
      { seed, numRuns: 60 },
    )
  })
})

describe('backpressure', () => {
  test('a target that is not read stops the source; nothing spins, nothing is lost', async () => {
    const reactor = openReactor()
    const { a, b, farA, farB } = await twoPairs(reactor)
    let moved = 0
    const pumping = pump(reactor, a, b, { onProgress: (bytes) => (moved = bytes) })
    let sent = 0
    let before = -1
    while (sent !== before) {
      before = sent
      sent += writeAll(farA, CONTENT.subarray(sent))
      await quiet()
    }
    expect(sent).toBeLessThan(4 * MIB)
    const stuck = moved
    expect(await cpuMsDuring(200)).toBeLessThan(100)
    expect(moved).toBe(stuck)
    const feeding = feed(farA, CONTENT.subarray(sent))
    expect((await drain(farB)).equals(CONTENT)).toBe(true)
    await feeding
    await within(pumping)
  })

  test('an idle source does not spin, though its target has room and both wait for long', async () => {
    const reactor = openReactor()
    const { a, b, farA, farB } = await twoPairs(reactor)
    const proxying = proxy(reactor, a, b)
    writeAll(farA, 'x')
    await until(() => readNow(farB) !== undefined)
    expect(await cpuMsDuring(200)).toBeLessThan(100)
    // Nor when one side has ended, or has gone while bytes for the other side are stuck.
    shut(farA)
    await until(() => readNow(farB)?.length === 0)
    expect(await cpuMsDuring(200)).toBeLessThan(100)
    farB.close()
    await within(proxying)
    const again = await twoPairs(reactor)
    const stuck = proxy(reactor, again.a, again.b)
    for (let n = 0; n < 20; n++) {
      writeAll(again.farA, CONTENT)
      await turn()
    }
    again.farA.close()
    await quiet()
    expect(await cpuMsDuring(200)).toBeLessThan(100)
    expect((await drain(again.farB)).length).toBeGreaterThan(0)
    again.farB.close()
    await within(stuck)
  })
})

describe('proxy', () => {
  test('moves both ways at once, and half-closes are carried over', async () => {
    const reactor = openReactor()
    const { a, b, farA, farB } = await twoPairs(reactor)
    const proxying = proxy(reactor, a, b)
    const half = CONTENT.subarray(0, 3 * MIB)
    const feeding = Promise.all([feed(farA, CONTENT), feed(farB, half, false)])
    const toB = drain(farB)
    let back = 0
    await until(() => (back += readNow(farA)?.length ?? 0) === half.length, 'the way back', 20_000)
    expect((await toB).equals(CONTENT)).toBe(true)
    await feeding
    // One direction has ended; the other one goes on.
    writeAll(farB, 'answer')
    await quiet()
    expect(String(readNow(farA))).toBe('answer')
    shut(farB)
    expect(String(await drain(farA))).toBe('')
    expect(await within(proxying)).toEqual({ forth: CONTENT.length, back: half.length + 6 })
  })

  test('what both streams had read and not sent goes first, both ways', async () => {
    const reactor = openReactor()
    const { a, b, farA, farB } = await twoPairs(reactor)
    const filling = Buffer.alloc(2 * MIB, 'first')
    a.write(filling)
    b.write(filling)
    const proxying = proxy(reactor, a, b)
    writeAll(farA, ' to b')
    writeAll(farB, ' to a')
    shut(farA)
    shut(farB)
    const [atA, atB] = await Promise.all([drain(farA), drain(farB)])
    expect(atA.equals(Buffer.concat([filling, Buffer.from(' to a')]))).toBe(true)
    expect(atB.equals(Buffer.concat([filling, Buffer.from(' to b')]))).toBe(true)
    expect(await within(proxying), 'what the ends had to send is not counted').toEqual({ forth: 5, back: 5 })
  })

  test('an end that goes away with nothing on its way to it ends both, without an error', async () => {
    const reactor = openReactor()
    const { a, b, farA, farB } = await twoPairs(reactor)
    const proxying = proxy(reactor, a, b)
    writeAll(farA, 'last words')
    farA.close()
    expect(String(await drain(farB))).toBe('last words')
    expect(await within(proxying)).toEqual({ forth: 10, back: 0 })
  })

  test('an end that goes away with bytes on their way to it is an error', async () => {
    const reactor = openReactor()
    const { a, b, farA, farB } = await twoPairs(reactor)
    const proxying = rejection(proxy(reactor, a, b))
    writeAll(farA, CONTENT)
    await quiet()
    farB.close()
    expect(errorCode(await proxying)).toMatch(/EPIPE|ECONNRESET/)
    await until(() => {
      const bytes = readNow(farA)
      return bytes?.length === 0
    })
  })

  test('a connection that is reset is an error', async () => {
    const reactor = openReactor()
    const [tcp, peer] = await tcpPair()
    const [stream, far] = await pair(reactor)
    const proxying = rejection(proxy(reactor, stream, tcp))
    writeAll(far, 'x')
    await onceEvent(peer, 'data')
    peer.resetAndDestroy()
    const error = await proxying
    expect(error).toMatchObject({ name: 'SystemError', code: 'ECONNRESET', syscall: 'splice' })
    expect(String(error)).toMatch(/^SystemError: ECONNRESET: connection reset by peer, splice 'Pump \d+'/)
  })
})

describe('stopping and refusing', () => {
  test('abort, before and in the middle: the reason comes, and all is closed', async () => {
    const reactor = openReactor()
    for (const early of [true, false]) {
      const { a, b, farA, farB } = await twoPairs(reactor)
      const abort = new AbortController()
      if (early) abort.abort(new Error('enough'))
      const pumping = rejection(pump(reactor, a, b, { signal: abort.signal }))
      await quiet()
      abort.abort(new Error('enough'))
      expect(String(await pumping)).toBe('Error: enough')
      expect([(await drain(farA)).length, (await drain(farB)).length]).toEqual([0, 0])
      expect(pumps(reactor)).toEqual([])
    }
  })

  test('closing the reactor rejects', async () => {
    const reactor = openReactor()
    const { a, b } = await twoPairs(reactor)
    const pumping = rejection(proxy(reactor, a, b))
    reactor.close()
    expect(String(await pumping)).toMatch(
      /^ReactorError: The reactor was closed while Pump \d+ was being pumped$/,
    )
  })

  test('a progress handler that throws rejects', async () => {
    const reactor = openReactor()
    const { a, b, farA } = await twoPairs(reactor)
    const onProgress = (): void => {
      throw new Error('no more')
    }
    const pumping = rejection(pump(reactor, a, b, { onProgress }))
    writeAll(farA, 'x')
    expect(String(await pumping)).toBe('Error: no more')
  })

  test('a reader that goes away is an EPIPE for a pump, though nothing was on its way', async () => {
    const reactor = openReactor()
    const { reader, writer } = fifo()
    const [stream] = await pair(reactor)
    const pumping = rejection(pump(reactor, stream, writer))
    reader.close()
    expect(String(await pumping)).toMatch(/^SystemError: EPIPE: broken pipe, splice 'Pump \d+'$/)
  })

  test('both are closed also when a listener of one throws', async () => {
    const reactor = openReactor()
    const [[from], [to]] = [await pair(reactor), await pair(reactor)]
    from.on('close', () => {
      throw new Error('nothing to do with it')
    })
    const refused = rejection(pump(reactor, from, to, { signal: AbortSignal.abort(new Error('not now')) }))
    expect(await refused).toMatchObject({ message: 'not now' })
    expect([from.closed, to.closed]).toEqual([true, true])
  })

  test('what cannot be pumped is refused by name, and closed', async () => {
    const reactor = openReactor()
    const open = (path: string): FdHandle => FdHandle.adopt(openSync(path, 'r'))
    const datagram = new FdHandle(socket.create(Domain.Unix, SocketType.Datagram))
    const listener = UnixListener.listen(reactor, socketPath())
    const closed = open('/dev/null')
    closed.close()
    const failures: string[] = []
    for (const end of [open('/etc/passwd'), open('/dev/null'), datagram, listener, closed]) {
      const [stream] = await pair(reactor)
      const wrong = pump as (...args: unknown[]) => Promise<number>
      failures.push(String(await rejection(wrong(reactor, stream, end))).replace(/fd \d+/, 'fd N'))
      expect([stream.closed, end.closed]).toEqual([true, true])
    }
    const hint = 'Only stream sockets, pipes and FIFOs can be pumped; sendFile() sends files'
    expect(failures).toEqual([
      `SystemError: EINVAL: invalid argument, splice 'fd N'. ${hint}`,
      `SystemError: EINVAL: invalid argument, splice 'fd N'. ${hint}`,
      expect.stringMatching(
        /EINVAL.*'fd N'.*It is a Unix datagram socket, and must be a connected stream socket/,
      ),
      expect.stringMatching(/EINVAL.*'fd N'.*It is a listening Unix stream socket, and must be a connected/),
      'ReactorError: The descriptor is closed',
    ])
    const { reader, writer } = fifo()
    const [stream] = await pair(reactor)
    expect(String(await rejection(proxy(reactor, stream, reader)))).toBe(
      "SystemError: EINVAL: invalid argument, splice 'proxy'. A pipe goes one way only: use pump()",
    )
    writer.close()
  })

  test('wrong options are refused by name', async () => {
    const reactor = openReactor()
    const { a, b } = await twoPairs(reactor)
    const wrong = pump as (...args: unknown[]) => Promise<number>
    expect(String(await rejection(wrong(reactor, a, b, { onProgres: 1 })))).toBe(
      "TypeError: pump has no option 'onProgres'; did you mean 'onProgress'?",
    )
    const [c, d] = [await pair(reactor), await pair(reactor)]
    expect(String(await rejection(wrong(reactor, c[0], d[0], { signal: 1 })))).toBe(
      "TypeError: pump option 'signal' must be an AbortSignal, not 1",
    )
  })

  test('without a descriptor for the pipe it fails, and closes everything', async () => {
    const result = await runForJson(
      `
      import { openSync, readdirSync } from 'node:fs'
      const reactor = new Reactor()
      const listener = UnixListener.listen(reactor, path)
      const accepted = once(listener, 'connection')
      const client = await UnixStream.connect(reactor, path)
      const [server] = await accepted
      const handles = [client.detach().handle, server.detach().handle]
      const count = () => readdirSync('/proc/self/fd').length
      const before = count()
      const ballast = []
      try { for (;;) ballast.push(openSync('/dev/null')) } catch {}
      const error = await events.proxy(reactor, ...handles).catch((error) => error.code)
      const { closeSync } = await import('node:fs')
      for (const fd of ballast) closeSync(fd)
      console.log(JSON.stringify([error, before - count()]))
      reactor.close()`,
      { maxFiles: 64 },
    )
    expect(result).toEqual(['EMFILE', 2])
  })
})

describe('in a process of its own', () => {
  const SETUP = `
    import { spawnSync } from 'node:child_process'
    const reactor = new Reactor()
    const connect = async (name) => {
      const listener = UnixListener.listen(reactor, path + name, { allowHalfOpen: true })
      const accepted = once(listener, 'connection')
      const client = await UnixStream.connect(reactor, path + name, { allowHalfOpen: true })
      const [server] = await accepted
      listener.close()
      return [client, server]
    }
    const [farA, a] = await connect('a')
    const [farB, b] = await connect('b')`

  test('a target that another holder made blocking does not block the loop', async () => {
    const result = await runForJson(`${SETUP}
      // libuv clears O_NONBLOCK of what it hands down as standard input.
      for (const end of [a, b]) spawnSync('true', { stdio: [end.fd, 'ignore', 'ignore'] })
      const pumping = events.pump(reactor, a, b)
      const bytes = Buffer.alloc(4 << 20, 'x')
      farA.end(bytes)
      await sleep(100) // nobody reads: splice(2) itself would hang here
      let read = 0
      farB.on('data', (chunk) => { read += chunk.length })
      const moved = await pumping
      await once(farB, 'end')
      console.log(JSON.stringify({ moved, read }))
      reactor.close()`)
    expect(result).toEqual({ moved: 4 * MIB, read: 4 * MIB })
  })

  test('SIGPIPE kills nobody, though its disposition is the default', async () => {
    const result = await runScript(`${SETUP}
      const ignore = () => {}
      process.on('SIGPIPE', ignore).removeListener('SIGPIPE', ignore) // libuv leaves SIG_DFL behind
      const pumping = events.pump(reactor, a, b)
      farB.destroy()
      farA.write('x')
      await pumping.catch((error) => console.log(error.code))
      reactor.close()`)
    expect(result).toMatchObject({ signal: null, code: 0, stdout: expect.stringMatching(/EPIPE|ECONNRESET/) })
  })

  test('the bytes never enter the process: it splices, and neither reads nor writes them', async (context) => {
    const traceable =
      spawnSync('strace', ['-f', '-o', '/dev/null', 'true'], { env: { ...process.env, ...withoutLeakCheck } })
        .status === 0
    context.skip(!traceable, 'strace is not installed, or may not trace')
    const trace = join(dirname(socketPath()), 'trace')
    const from = fifo()
    const to = fifo()
    // The far ends live here; the child has the FIFOs only.
    const { path: fromPath } = from
    const { path: toPath } = to
    const running = runScript(
      `
      import { constants, openSync } from 'node:fs'
      const open = (file, flags) => FdHandle.adopt(openSync(file, flags | constants.O_NONBLOCK))
      const reactor = new Reactor()
      console.log(await events.pump(reactor, open('${fromPath}', constants.O_RDONLY), open('${toPath}', constants.O_WRONLY)))
      reactor.close()`,
      { env: withoutLeakCheck, under: ['strace', '-f', '-y', '-o', trace] },
    )
    const content = CONTENT.subarray(0, MIB)
    const feeding = feed(from.writer, content)
    const chunks: Buffer[] = []
    await until(
      () => {
        const bytes = readNow(to.reader)
        if (bytes !== undefined) chunks.push(bytes)
        return Buffer.concat(chunks).length === MIB
      },
      'all bytes',
      20_000,
    )
    await feeding
    const { stdout } = await running
    expect(stdout).toBe(`${MIB}\n`)
    expect(Buffer.concat(chunks).equals(content)).toBe(true)
    const calls = readFileSync(trace, 'utf8')
      .split('\n')
      .filter((line) => line.includes('/fifo>'))
    const names = new Set(calls.map((line) => /^\d+\s+(\w+)\(/.exec(line)?.[1]))
    expect(names).toContain('splice')
    for (const name of [
      'read',
      'readv',
      'pread64',
      'preadv2',
      'write',
      'writev',
      'pwrite64',
      'recvfrom',
      'sendto',
    ]) {
      expect(names).not.toContain(name)
    }
  })
})

describe('real peers', () => {
  test.for([
    { peer: 'curl', args: (path: string) => ['-sS', '--unix-socket', path, 'http://x/'] },
    { peer: 'socat', args: (path: string) => ['-t5', '-', `UNIX-CONNECT:${path}`] },
  ])('$peer, through a proxy to a server of Node', async ({ peer, args }, context) => {
    context.skip(spawnSync('which', [peer]).status !== 0, `${peer} is not installed`)
    const reactor = openReactor()
    const header = `HTTP/1.1 200 OK\r\nContent-Length: ${CONTENT.length}\r\nConnection: close\r\n\r\n`
    const server = createServer((connection) => {
      connection.once('data', () => {
        connection.end(Buffer.concat([Buffer.from(peer === 'curl' ? header : ''), CONTENT]))
      })
    })
    const serverPath = socketPath()
    server.listen(serverPath)
    await onceEvent(server, 'listening')
    onTestFinished(() => void server.close())
    const front = UnixListener.listen(reactor, socketPath())
    const proxied: Promise<unknown>[] = []
    front.on('connection', (client) => {
      proxied.push(
        UnixStream.connect(reactor, serverPath).then(async (upstream) => proxy(reactor, client, upstream)),
      )
    })
    const child = spawn(peer, args(front.path), { stdio: ['pipe', 'pipe', 'inherit'] })
    onTestFinished(() => void child.kill())
    child.stdin.end('GET\n')
    const hash = createHash('sha256')
    for await (const chunk of child.stdout) hash.update(chunk as Buffer)
    expect(hash.digest('hex')).toBe(createHash('sha256').update(CONTENT).digest('hex'))
    await within(Promise.all(proxied))
  })

  test("a child's output goes to a client", async () => {
    const reactor = openReactor()
    const { reader: used, writer, path } = fifo()
    used.close()
    writer.close()
    const reader = FdHandle.adopt(openSync(path, constants.O_RDONLY | constants.O_NONBLOCK))
    const listener = UnixListener.listen(reactor, socketPath())
    const pumped = new Promise<number>((resolve) => {
      listener.on('connection', (client) => {
        resolve(pump(reactor, reader, client))
      })
    })
    const client = await netClient(listener.path)
    const content = join(dirname(path), 'content')
    writeFileSync(content, CONTENT)
    const child = spawn('sh', ['-c', `cat '${content}' > '${path}'`])
    onTestFinished(() => void child.kill())
    const hash = createHash('sha256')
    for await (const chunk of client) hash.update(chunk as Buffer)
    expect(hash.digest('hex')).toBe(createHash('sha256').update(CONTENT).digest('hex'))
    expect(await within(pumped)).toBe(CONTENT.length)
  })
})
