import { execFileSync, spawn, spawnSync } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import {
  closeSync,
  constants,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { open } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { pathToFileURL } from 'node:url'
import fc from 'fast-check'
import { FdHandle, type Reactor } from '@fd-reactor/core'
import {
  sendFile,
  TcpListener,
  TcpStream,
  UnixListener,
  type FileSource,
  type UnixStream,
} from '@fd-reactor/fd-events'
import { describe, expect, onTestFinished, test, type TestContext } from 'vitest'
import {
  coreUrl,
  fdEventsUrl,
  runForJson,
  runScript,
  withoutLeakCheck,
} from '../../core/test/support/child.js'
import { assertNoLeakedFds, linkOf } from '../../core/test/support/fds.js'
import { openReactor, socketPath } from '../../core/test/support/reactors.js'
import { cpuMsDuring, until, within } from '../../core/test/support/wait.js'
import { pair, quiet, readNow } from './unix-helpers.js'

assertNoLeakedFds()

const MIB = 2 ** 20

/** A path in a folder that goes with the test, on a real filesystem. */
function tempPath(name = 'file'): string {
  return join(dirname(socketPath()), name)
}

/** A path on a filesystem that cannot say what is in memory, in a folder that goes with the test. */
function tmpfsPath(context: TestContext): string {
  const kind = spawnSync('stat', ['-f', '-c', '%T', '/dev/shm'], { encoding: 'utf8' }).stdout.trim()
  context.skip(kind !== 'tmpfs', '/dev/shm is no tmpfs')
  const folder = mkdtempSync('/dev/shm/fd-reactor-')
  onTestFinished(() => {
    rmSync(folder, { recursive: true })
  })
  return join(folder, 'file')
}

/** A file with `bytes` in it. */
function fileOf(bytes: Uint8Array | string, path = tempPath()): string {
  writeFileSync(path, bytes)
  return path
}

/** Everything that comes until the end, read by hand. */
async function readToEnd(peer: FdHandle): Promise<Buffer> {
  const chunks: Buffer[] = []
  await until(() => {
    for (;;) {
      const bytes = readNow(peer)
      if (bytes === undefined) return false
      if (bytes.length === 0) return true
      chunks.push(bytes)
    }
  }, 'the end')
  return Buffer.concat(chunks)
}

/** A stream with a raw peer, and its errors. */
async function connection(reactor: Reactor = openReactor()): Promise<{
  stream: UnixStream
  peer: FdHandle
  errors: Error[]
}> {
  const [stream, peer] = await pair(reactor)
  const errors: Error[] = []
  stream.on('error', (error) => errors.push(error))
  return { stream, peer, errors }
}

/** What `promise` is rejected with. */
async function rejection(promise: Promise<unknown>): Promise<unknown> {
  return within(
    promise.then(
      () => expect.unreachable('it was not rejected'),
      (error: unknown) => error,
    ),
  )
}

describe('what is sent', () => {
  const BYTES = randomBytes(300_000)
  /** A source of each kind, and what closes it. */
  const kinds: Record<string, (path: string) => Promise<[FileSource, close?: () => unknown]>> = {
    path: async (path) => Promise.resolve([path]),
    'path as a Buffer': async (path) => Promise.resolve([Buffer.from(path)]),
    URL: async (path) => Promise.resolve([pathToFileURL(path)]),
    number: async (path) => {
      const fd = openSync(path, 'r')
      return Promise.resolve([
        fd,
        () => {
          closeSync(fd)
        },
      ])
    },
    FdHandle: async (path) => {
      const handle = FdHandle.adopt(openSync(path, 'r'))
      return Promise.resolve([
        handle,
        () => {
          handle.close()
        },
      ])
    },
    FileHandle: async (path) => {
      const file = await open(path)
      return [file, async () => file.close()]
    },
  }

  test.each(Object.keys(kinds))(
    'a file, whole and in part, by %s; the descriptor may be closed at once',
    async (kind) => {
      const { stream, peer } = await connection()
      const path = fileOf(BYTES)
      const parts = [{}, { offset: 100_001 }, { length: 5 }, { offset: 299_999, length: 1 }]
      const sending: Promise<number>[] = []
      for (const part of parts) {
        const [source, close] = (await kinds[kind]?.(path)) ?? expect.unreachable()
        sending.push(sendFile(stream, source, part))
        await close?.()
      }
      const read = readToEnd(peer)
      expect(await within(Promise.all(sending))).toEqual([300_000, 199_999, 5, 1])
      stream.end()
      const whole = parts.map(({ offset = 0, length = BYTES.length }) =>
        BYTES.subarray(offset, offset + length),
      )
      expect((await within(read)).equals(Buffer.concat(whole))).toBe(true)
      expect(stream.bytesWritten).toBe(500_005)
    },
  )

  test('nothing, of an empty file and of a part without length', async () => {
    const { stream, peer } = await connection()
    expect(await sendFile(stream, fileOf(''))).toBe(0)
    expect(await sendFile(stream, fileOf('text'), { length: 0 })).toBe(0)
    expect(await sendFile(stream, fileOf('text'), { offset: 4 })).toBe(0)
    stream.end()
    expect(String(await readToEnd(peer))).toBe('')
  })

  test("the descriptor's own offset stays where it was", async () => {
    const { stream, peer } = await connection()
    const file = await open(fileOf('0123456789'))
    await file.read(Buffer.alloc(3))
    await sendFile(stream, file, { offset: 5 })
    expect(String((await file.read(Buffer.alloc(10))).buffer.subarray(0, 7))).toBe('3456789')
    await file.close()
    stream.end()
    expect(String(await readToEnd(peer))).toBe('56789')
  })

  test('what the file had when it was opened, though it grows', async () => {
    const { stream, peer } = await connection()
    const path = fileOf(Buffer.alloc(MIB, 'a'))
    const sending = sendFile(stream, path)
    await until(() => stream.bytesWritten > 0)
    writeFileSync(path, 'more', { flag: 'a' })
    stream.end()
    expect((await readToEnd(peer)).length).toBe(MIB)
    expect(await sending).toBe(MIB)
  })

  test('files of /proc say that they are empty, and so nothing is sent', async () => {
    const { stream } = await connection()
    expect(await sendFile(stream, '/proc/self/status')).toBe(0)
  })
})

describe('order', () => {
  test('between the writes before and after, while it is still being opened', async () => {
    const { stream, peer } = await connection()
    stream.write('before ')
    const sending = [sendFile(stream, fileOf('first')), sendFile(stream, fileOf(' second'))]
    stream.write(' after ')
    sending.push(sendFile(stream, fileOf('third')))
    stream.end(' end')
    expect(String(await readToEnd(peer))).toBe('before first second after third end')
    expect(await Promise.all(sending)).toEqual([5, 7, 5])
  })

  test('the same inside a handler', async () => {
    const { stream, peer } = await connection()
    const path = fileOf('file')
    stream.on('data', (bytes) => {
      stream.write(bytes)
      void sendFile(stream, path)
      stream.write(bytes)
      stream.end()
    })
    writeSync(peer.fd, '-')
    expect(String(await readToEnd(peer))).toBe('-file-')
  })

  test('any sequence of writes and files arrives as it was made, whatever the peer takes', async () => {
    const seed = Number(process.env['FD_REACTOR_SEED'] ?? 20_261_121)
    console.log(`send-file: seed ${seed} (set FD_REACTOR_SEED to repeat)`)
    const content = randomBytes(2 * MIB)
    const path = fileOf(content)
    const size = fc.oneof(fc.integer({ min: 0, max: 50 }), fc.integer({ min: 0, max: MIB }))
    const step = fc.record({ file: fc.boolean(), inHandler: fc.boolean(), offset: size, length: size })
    const reactor = openReactor()
    await fc.assert(
      fc.asyncProperty(
        fc.array(step, { maxLength: 12 }),
        fc.integer({ min: 1000, max: MIB }),
        async (steps, gulp) => {
          const [stream, peer] = await pair(reactor)
          const expected = createHash('sha1')
          const sending: Promise<number>[] = []
          for (const { file, inHandler, offset, length } of steps) {
            const bytes = content.subarray(offset, offset + length)
            expected.update(bytes)
            const act = (): void => {
              if (file) sending.push(sendFile(stream, path, { offset, length }))
              else stream.write(bytes)
            }
            if (inHandler) {
              await new Promise<void>((resolve) => {
                reactor.defer(() => {
                  act()
                  resolve()
                })
              })
            } else act()
          }
          stream.end()
          const got = createHash('sha1')
          await until(() => {
            const bytes = readNow(peer, gulp)
            if (bytes !== undefined) got.update(bytes)
            return bytes?.length === 0
          }, 'the end')
          expect(got.digest('hex')).toBe(expected.digest('hex'))
          expect(await Promise.all(sending)).toEqual(
            steps.filter(({ file }) => file).map(({ length }) => length),
          )
          peer.close()
          stream.destroy()
        },
      ),
      { seed, numRuns: 40 },
    )
  })

  test('end() waits for it, and nothing can be sent after', async () => {
    const { stream, peer } = await connection()
    const sending = sendFile(stream, fileOf('file'))
    stream.end()
    expect(await rejection(sendFile(stream, fileOf('late')))).toMatchObject({ code: 'ERR_STREAM_ENDED' })
    expect(String(await readToEnd(peer))).toBe('file')
    expect(await sending).toBe(4)
    stream.close()
    expect(await rejection(sendFile(stream, fileOf('late')))).toMatchObject({ code: 'ERR_CLOSED' })
  })
})

describe('backpressure', () => {
  test('a peer that does not read stops it; nothing piles up, nothing spins, and the rest follows', async () => {
    const { stream, peer } = await connection()
    const progress: number[] = []
    const sending = sendFile(stream, fileOf(Buffer.alloc(8 * MIB, 'x')), {
      onProgress: (bytes) => progress.push(bytes),
    })
    expect(stream.write('after')).toBe(true) // the file does not count
    expect(stream.writableLength).toBe(5)
    await until(() => stream.bytesWritten > 0)
    await quiet()
    const stuck = stream.bytesWritten
    expect(stuck).toBeLessThan(2 * MIB)
    expect(await cpuMsDuring(200)).toBeLessThan(100)
    expect(stream.bytesWritten).toBe(stuck)
    stream.end()
    expect((await readToEnd(peer)).length).toBe(8 * MIB + 5)
    expect(await sending).toBe(8 * MIB)
    expect(progress).toEqual(progress.toSorted((a, b) => a - b))
    expect(progress.at(-1)).toBe(8 * MIB)
  })

  test("'drain' comes after what waits behind a file has left, too", async () => {
    const { stream, peer } = await connection()
    void sendFile(stream, fileOf(Buffer.alloc(MIB)))
    expect(stream.write(Buffer.alloc(100_000))).toBe(false)
    let drained = 0
    stream.on('drain', () => drained++)
    await quiet()
    expect(drained).toBe(0)
    let read = 0
    await until(() => {
      read += readNow(peer)?.length ?? 0
      return drained === 1
    }, "'drain'")
    expect(stream.writableLength).toBe(0)
    await until(() => (read += readNow(peer)?.length ?? 0) === MIB + 100_000)
  })
})

describe('a peer that goes away', () => {
  test('in the middle: the promise is rejected, and the stream tells its error', async () => {
    const { stream, peer, errors } = await connection()
    const path = fileOf(Buffer.alloc(8 * MIB))
    const sending = rejection(sendFile(stream, path))
    await until(() => stream.bytesWritten > 0)
    peer.close()
    const error = await sending
    // A Unix socket says ECONNRESET when the peer had not read everything.
    expect(error).toMatchObject({ name: 'SystemError', code: 'ECONNRESET', syscall: 'sendfile', path })
    expect(String(error)).toMatch(
      /ECONNRESET: connection reset by peer, sendfile '.*'\. \d+ of 8388608 bytes have left$/,
    )
    await until(() => stream.closed)
    expect(errors).toEqual([expect.objectContaining({ code: 'ECONNRESET', syscall: 'recv' })])
  })

  test('before its turn: with what the writes before it met', async () => {
    const { stream, peer } = await connection()
    stream.write(Buffer.alloc(MIB))
    const sending = rejection(sendFile(stream, fileOf('file')))
    peer.close()
    expect(await sending).toMatchObject({ code: expect.stringMatching(/EPIPE|ECONNRESET/) })
    await until(() => stream.closed)
  })

  test('while somebody reads: its last words come before the error', async () => {
    const { stream, peer, errors } = await connection()
    const told: string[] = []
    stream.on('data', (bytes) => told.push(String(bytes)))
    const sending = rejection(sendFile(stream, fileOf(Buffer.alloc(8 * MIB))))
    await until(() => stream.bytesWritten > 0)
    writeSync(peer.fd, 'bye')
    peer.close()
    expect(await sending).toMatchObject({ code: expect.stringMatching(/EPIPE|ECONNRESET/) })
    await until(() => stream.closed)
    expect(told).toEqual(['bye'])
    expect(errors).toHaveLength(1)
  })

  test('SIGPIPE kills nobody, though its disposition is the default', async () => {
    const result = await runScript(`
      import { writeFileSync } from 'node:fs'
      const ignore = () => {}
      process.on('SIGPIPE', ignore).removeListener('SIGPIPE', ignore) // libuv leaves SIG_DFL behind
      const file = process.env.SCRIPT_FOLDER + '/file'
      writeFileSync(file, Buffer.alloc(8 << 20))
      const reactor = new Reactor()
      const listener = UnixListener.listen(reactor, path)
      listener.on('connection', (stream) => stream.destroy())
      const stream = await UnixStream.connect(reactor, path)
      stream.on('error', () => {})
      await events.sendFile(stream, file).catch((error) => console.log(error.code))
      reactor.close()`)
    expect(result).toMatchObject({ signal: null, code: 0, stdout: expect.stringMatching(/EPIPE|ECONNRESET/) })
  })
})

describe('a source that will not do', () => {
  test.for([
    { place: 'on a disk', pathIn: () => tempPath() },
    { place: 'on a tmpfs', pathIn: tmpfsPath },
  ])(
    'a file $place that shrinks: what has left is said, and the stream is destroyed',
    async (each, context) => {
      const { stream, peer, errors } = await connection()
      const path = fileOf(Buffer.alloc(4 * MIB), each.pathIn(context))
      const sending = rejection(sendFile(stream, path))
      await until(() => stream.bytesWritten > 0)
      await quiet()
      const before = stream.bytesWritten
      truncateSync(path, MIB)
      stream.write('behind')
      const read = readToEnd(peer)
      const error = await sending
      expect(error).toMatchObject({ code: 'ERR_SHORT_FILE' })
      expect(String(error)).toMatch(
        /'.*\/file' has 1048576 bytes only, and 3145728 bytes from 1048576 on were to be sent; 1048576 of 4194304 bytes have left$/,
      )
      expect(before).toBeLessThan(MIB)
      expect(stream.closed).toBe(true)
      expect((await read).length).toBe(MIB) // and not what was written behind it
      expect(errors).toEqual([])
    },
  )

  test('a part that lies beyond the end: nothing is sent, and the stream goes on', async () => {
    const { stream, peer } = await connection()
    const path = fileOf('0123456789')
    const cases = [{ offset: 4, length: 7 }, { offset: 11 }, { length: 11 }]
    const failures = cases.map(async (part) => rejection(sendFile(stream, path, part)))
    stream.end('goes on')
    expect((await Promise.all(failures)).map(String)).toEqual([
      `ReactorError: '${path}' has 10 bytes only, and 7 bytes from 4 on were to be sent; 0 of 7 bytes have left`,
      `ReactorError: '${path}' has 10 bytes only, and 0 bytes from 11 on were to be sent; 0 of 0 bytes have left`,
      `ReactorError: '${path}' has 10 bytes only, and 11 bytes from 0 on were to be sent; 0 of 11 bytes have left`,
    ])
    expect(String(await readToEnd(peer))).toBe('goes on')
  })

  test('what is no regular file is refused, and never waited for', async () => {
    const { stream, peer } = await connection()
    const fifo = tempPath('fifo')
    execFileSync('mkfifo', [fifo])
    const folder = tempPath('folder')
    mkdirSync(folder)
    const failures = [fifo, '/dev/null', folder, stream].map(async (source) =>
      rejection(sendFile(stream, source)),
    )
    stream.end('goes on')
    const hint = 'It is no regular file: pump() moves what sockets, pipes and FIFOs have'
    expect((await within(Promise.all(failures))).map(String)).toEqual([
      `SystemError: EINVAL: invalid argument, sendfile '${fifo}'. ${hint}`,
      `SystemError: EINVAL: invalid argument, sendfile '/dev/null'. ${hint}`,
      `SystemError: EISDIR: illegal operation on a directory, sendfile '${folder}'`,
      expect.stringMatching(/^SystemError: EINVAL: invalid argument, sendfile 'fd \d+'/),
    ])
    expect(String(await readToEnd(peer))).toBe('goes on')
  })

  test('what cannot be opened or read fails with what the kernel says', async () => {
    const { stream, peer } = await connection()
    const missing = tempPath('missing')
    const onlyForWriting = FdHandle.adopt(openSync(fileOf('text'), constants.O_WRONLY))
    const closed = FdHandle.adopt(openSync('/dev/null', 'r'))
    closed.close()
    const shut = await open('/dev/null')
    await shut.close()
    const failures = [missing, 'with\0NUL', onlyForWriting, 19_999, closed, shut].map(async (source) =>
      rejection(sendFile(stream, source)),
    )
    stream.end('goes on')
    expect((await Promise.all(failures)).map((error) => String(error).replace(/fd \d+/, 'fd N'))).toEqual([
      `Error: ENOENT: no such file or directory, open '${missing}'`,
      expect.stringMatching(/^TypeError.*null bytes/),
      expect.stringMatching(
        /^SystemError: EBADF: bad file descriptor, sendfile 'fd N'\. 0 of 4 bytes have left$/,
      ),
      "SystemError: EBADF: bad file descriptor, fcntl 'fd N'",
      'ReactorError: The descriptor is closed',
      "SystemError: EBADF: bad file descriptor, fcntl 'fd -1'",
    ])
    onlyForWriting.close()
    expect(String(await readToEnd(peer))).toBe('goes on')
  })

  test('wrong arguments are refused by name', async () => {
    const { stream } = await connection()
    const wrong = sendFile as (...args: unknown[]) => Promise<number>
    const failures = [
      wrong(stream, 'x', { ofset: 1 }),
      wrong(stream, 'x', { offset: -1 }),
      wrong(stream, 'x', { length: '1' }),
      wrong(stream, 'x', { onProgress: 1 }),
      wrong(stream, {}),
      wrong(stream, null),
    ]
    expect((await Promise.all(failures.map(rejection))).map(String)).toEqual([
      "TypeError: sendFile has no option 'ofset'; did you mean 'offset'?",
      "RangeError: sendFile option 'offset' must be an integer from 0 to 9007199254740991, not -1",
      "TypeError: sendFile option 'length' must be a number, not '1'",
      "TypeError: sendFile option 'onProgress' must be a function, not 1",
      'TypeError: sendFile() takes a path, a descriptor, an FdHandle or a FileHandle',
      'TypeError: sendFile() takes a path, a descriptor, an FdHandle or a FileHandle',
    ])
  })
})

describe('stopping it', () => {
  test('abort before anything has left: the stream goes on', async () => {
    const { stream, peer } = await connection()
    const abort = new AbortController()
    const sending = rejection(sendFile(stream, fileOf('file'), { signal: abort.signal }))
    stream.write('goes on')
    abort.abort(new Error('enough'))
    expect(String(await sending)).toBe('Error: enough')
    expect(await rejection(sendFile(stream, 'x', { signal: abort.signal }))).toMatchObject({
      message: 'enough',
    })
    stream.end()
    expect(String(await readToEnd(peer))).toBe('goes on')
  })

  test('abort in the middle: the stream is destroyed', async () => {
    const { stream } = await connection()
    const abort = new AbortController()
    const sending = rejection(sendFile(stream, fileOf(Buffer.alloc(8 * MIB)), { signal: abort.signal }))
    await until(() => stream.bytesWritten > 0)
    abort.abort()
    expect(await sending).toMatchObject({ name: 'AbortError' })
    expect(stream.closed).toBe(true)
  })

  test.each(['close', 'destroy'] as const)('%s() of the stream, at any time', async (how) => {
    const path = fileOf(Buffer.alloc(8 * MIB))
    for (const started of [false, true]) {
      const { stream } = await connection()
      const sending = rejection(sendFile(stream, path))
      if (started) await until(() => stream.bytesWritten > 0)
      const { label } = stream
      stream[how]()
      const error = await sending
      expect(error).toMatchObject({ code: 'ERR_CLOSED' })
      const soFar = started ? /; \d+ of 8388608 bytes have left$/ : /was sent$/
      expect(String(error)).toMatch(soFar)
      expect(String(error)).toContain(`${label} was closed before '${path}' was sent`)
    }
  })

  test('a progress handler that throws rejects, and destroys the stream', async () => {
    const { stream } = await connection()
    const onProgress = (): void => {
      throw new Error('no more')
    }
    expect(String(await rejection(sendFile(stream, fileOf('file'), { onProgress })))).toBe('Error: no more')
    expect(stream.closed).toBe(true)
  })

  test('a stream does not detach in the middle of a file', async () => {
    const { stream, peer } = await connection()
    const sending = sendFile(stream, fileOf('file'))
    expect(() => stream.detach()).toThrow(
      `EBUSY: resource busy or locked, detach '${stream.label}'. What is being sent would be torn apart: wait for the promise of sendFile()`,
    )
    await sending
    const { handle, unsent } = stream.detach()
    handle.close()
    expect(unsent.length).toBe(0)
    expect(String(await readToEnd(peer))).toBe('file')
  })

  test('no descriptor of the file is left, however it ends', async () => {
    const path = fileOf(Buffer.alloc(4 * MIB))
    const open = (): number =>
      Array.from({ length: 200 }, (_, fd) => linkOf(fd)).filter((link) => link === path).length
    const { stream, peer } = await connection()
    const sending = sendFile(stream, path)
    stream.end()
    await readToEnd(peer)
    await sending
    for (const stop of ['destroy', 'close'] as const) {
      const other = await connection()
      const failing = rejection(sendFile(other.stream, path))
      other.stream[stop]()
      await failing
    }
    const reactor = openReactor()
    const last = await connection(reactor)
    const failing = rejection(sendFile(last.stream, path))
    await until(() => last.stream.bytesWritten > 0)
    reactor.close()
    expect(await failing).toMatchObject({ code: 'ERR_CLOSED' })
    await until(() => open() === 0)
  })
})

test('a socket that another holder made blocking does not block the loop', async () => {
  const result = await runForJson(`
    import { spawnSync } from 'node:child_process'
    import { writeFileSync } from 'node:fs'
    const file = process.env.SCRIPT_FOLDER + '/file'
    writeFileSync(file, Buffer.alloc(4 << 20, 'x'))
    const reactor = new Reactor()
    const listener = UnixListener.listen(reactor, path)
    const accepted = once(listener, 'connection')
    const client = await UnixStream.connect(reactor, path)
    const [server] = await accepted
    spawnSync('true', { stdio: [server.fd, 'ignore', 'ignore'] }) // libuv clears O_NONBLOCK of what it hands down
    const sending = events.sendFile(server, file)
    await sleep(100) // nobody reads: sendfile(2) itself would hang here
    let read = 0
    client.on('data', (bytes) => { read += bytes.length })
    const sent = await sending
    server.end()
    await once(client, 'end')
    console.log(JSON.stringify({ sent, read }))
    reactor.close()`)
  expect(result).toEqual({ sent: 4 * MIB, read: 4 * MIB })
})

test('in a worker, which keeps books of what Node opens', async () => {
  const result = await runScript(
    `
    import { Worker } from 'node:worker_threads'
    import { writeFileSync } from 'node:fs'
    const file = process.env.SCRIPT_FOLDER + '/file'
    writeFileSync(file, Buffer.alloc(1 << 20))
    const source = async () => {
      const { Reactor } = await import(process.env.CORE)
      const { sendFile, UnixListener, UnixStream } = await import(process.env.EVENTS)
      const reactor = new Reactor()
      const listener = UnixListener.listen(reactor, process.env.SCRIPT_FOLDER + '/socket')
      listener.on('connection', (stream) => {
        void sendFile(stream, process.env.SCRIPT_FOLDER + '/file').then(() => stream.end())
      })
      for (let n = 0; n < 3; n++) {
        let read = 0
        for await (const bytes of await UnixStream.connect(reactor, listener.path)) read += bytes.length
        console.log(read)
      }
      const { parentPort } = await import('node:worker_threads')
      parentPort.postMessage('done')
      const last = await UnixStream.connect(reactor, listener.path) // terminated in the middle of a file
    }
    const worker = new Worker('(' + source + ')()', { eval: true })
    await new Promise((resolve) => worker.once('message', resolve))
    await worker.terminate()`,
    { env: { CORE: coreUrl, EVENTS: fdEventsUrl } },
  )
  expect(result).toEqual({ code: 0, signal: null, stdout: '1048576\n'.repeat(3), stderr: '' })
})

test('over TCP', async () => {
  const reactor = openReactor()
  const content = randomBytes(3 * MIB + 1)
  const path = fileOf(content)
  const listener = TcpListener.listen(reactor, { host: '127.0.0.1', port: 0 })
  listener.on('connection', (stream) => {
    stream.write('header')
    void sendFile(stream, path)
    stream.end('trailer')
  })
  const client = await TcpStream.connect(reactor, { host: '127.0.0.1', port: listener.address.port })
  const chunks: Buffer[] = []
  for await (const bytes of client) chunks.push(bytes)
  const whole = Buffer.concat([Buffer.from('header'), content, Buffer.from('trailer')])
  expect(Buffer.concat(chunks).equals(whole)).toBe(true)
})

describe('a cold disk', () => {
  test('is read on the thread pool, and never by the thread of the loop; warm pages cost no hop', async (context) => {
    const traceable =
      spawnSync('strace', ['-f', '-o', '/dev/null', 'true'], { env: { ...process.env, ...withoutLeakCheck } })
        .status === 0
    context.skip(!traceable, 'strace is not installed, or may not trace')
    const path = fileOf(randomBytes(4 * MIB))
    const evict = (): unknown =>
      execFileSync('dd', [`if=${path}`, 'iflag=nocache', 'count=0'], { stdio: 'ignore' })
    const trace = tempPath('trace')
    const script = `
      const reactor = new Reactor()
      const listener = UnixListener.listen(reactor, path)
      listener.on('connection', (stream) => {
        events.sendFile(stream, process.env.FILE).then(() => stream.end())
      })
      const client = await UnixStream.connect(reactor, path)
      let read = 0
      client.on('data', (bytes) => { read += bytes.length })
      await once(client, 'end')
      console.log(read)
      reactor.close()`
    const run = async (): Promise<{ reads: string[]; loop: string[] }> => {
      const { stdout } = await runScript(script, {
        under: ['strace', '-f', '-y', '-e', 'trace=pread64,sendfile', '-o', trace],
        env: { FILE: path, ...withoutLeakCheck },
      })
      expect(stdout).toBe(`${4 * MIB}\n`)
      const calls = readFileSync(trace, 'utf8')
        .split('\n')
        .filter((line) => line.includes(path))
      const threads = (call: string): string[] =>
        calls.filter((line) => line.includes(`${call}(`)).map((line) => line.split(' ')[0] ?? '')
      return { reads: threads('pread64'), loop: [...new Set(threads('sendfile'))] }
    }
    execFileSync('sync', [path])
    evict()
    const cold = await run()
    const warm = await run()
    expect(cold.loop).toHaveLength(1)
    expect(warm.loop).toHaveLength(1)
    // No page is in memory at first, so the first thing that happens to the file is a read elsewhere.
    context.skip(cold.reads.length === 0, 'this filesystem does not evict on POSIX_FADV_DONTNEED')
    expect(cold.reads).not.toContain(cold.loop[0])
    expect(cold.reads.length).toBeGreaterThan(0)
    expect(warm.reads).toEqual([])
  })
})

test('a filesystem that cannot say what is in memory is read on the thread pool', async (context) => {
  const content = randomBytes(3 * MIB + 1)
  const path = fileOf(content, tmpfsPath(context))
  const { stream, peer } = await connection()
  const sending = sendFile(stream, path)
  stream.end()
  expect((await readToEnd(peer)).equals(content)).toBe(true)
  expect(await sending).toBe(content.length)
})

describe('real peers', () => {
  const content = randomBytes(3 * MIB + 17)
  const sum = createHash('sha256').update(content).digest('hex')

  /** A server that sends `header` and the file to whoever connects and says something. */
  function serve(header: string): string {
    const reactor = openReactor()
    const path = fileOf(content)
    const listener = UnixListener.listen(reactor, socketPath())
    listener.on('connection', (stream) => {
      stream.once('data', () => {
        stream.write(header)
        void sendFile(stream, path)
        stream.end()
      })
    })
    return listener.path
  }

  const http = `HTTP/1.1 200 OK\r\nContent-Length: ${content.length}\r\nConnection: close\r\n\r\n`
  test.for([
    { peer: 'curl', header: http, args: (path: string) => ['-sS', '--unix-socket', path, 'http://x/'] },
    { peer: 'socat', header: '', args: (path: string) => ['-t5', '-', `UNIX-CONNECT:${path}`] },
    { peer: 'nc', header: '', args: (path: string) => ['-U', path] },
  ])('$peer downloads a file', async ({ peer, header, args }, context) => {
    context.skip(spawnSync('which', [peer]).status !== 0, `${peer} is not installed`)
    const child = spawn(peer, args(serve(header)), { stdio: ['pipe', 'pipe', 'inherit'] })
    onTestFinished(() => void child.kill())
    child.stdin.end('GET\n')
    const hash = createHash('sha256')
    for await (const chunk of child.stdout) hash.update(chunk as Buffer)
    expect(hash.digest('hex')).toBe(sum)
  })
})
