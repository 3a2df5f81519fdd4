import { spawn, spawnSync, type ChildProcess } from 'node:child_process'
import { once as onceEvent } from 'node:events'
import {
  chmodSync,
  closeSync,
  existsSync,
  lstatSync,
  mkdirSync,
  renameSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Worker } from 'node:worker_threads'
import { once, type FdHandle } from '@fd-reactor/core'
import { EventFd, UnixListener, UnixStream } from '@fd-reactor/fd-events'
import { afterEach, describe, expect, test, type TestContext } from 'vitest'
import { withoutLeakCheck } from '../../core/test/support/child.js'
import { assertNoLeakedFds, countFds } from '../../core/test/support/fds.js'
import { openManual, openReactor, settle, socketPath } from '../../core/test/support/reactors.js'
import { childEnded, until, within } from '../../core/test/support/wait.js'
import {
  errorCode,
  leaveDeadSocket,
  netClient,
  quiet,
  rawClient,
  readNow,
  thrownBy,
  writeAll,
} from './unix-helpers.js'

assertNoLeakedFds()

const umask = process.umask(0o022)
process.umask(umask)
afterEach(() => void process.umask(umask))

const NOBODY = 65_534
const modeOf = (path: string): number => lstatSync(path).mode & 0o7777
const folder = fileURLToPath(new URL('..', import.meta.url))

function needsRoot({ skip }: TestContext): void {
  skip(process.getuid?.() !== 0, 'only root may change owners and run as somebody else')
}

describe("the socket's file", () => {
  test.each([0o600, 0o660, 0o666, 0o777, 0o700, 0o000])(
    'has exactly the mode %o, whatever the umask',
    (mode) => {
      const reactor = openManual()
      for (const mask of [0o000, 0o022, 0o077, 0o777]) {
        process.umask(mask)
        const listener = UnixListener.listen(reactor, socketPath(), { mode })
        expect(modeOf(listener.path)).toBe(mode)
        listener.close()
      }
    },
  )

  test('without a mode has what the umask leaves', () => {
    process.umask(0o027)
    expect(modeOf(UnixListener.listen(openManual(), socketPath()).path)).toBe(0o750)
  })

  test('is never open to more than it should be, as another thread sees it all the time', async () => {
    const reactor = openManual()
    const path = socketPath()
    process.umask(0)
    const script = `
      const { lstatSync } = require('node:fs')
      const { parentPort, workerData: { path, stop } } = require('node:worker_threads')
      const modes = new Set()
      parentPort.postMessage('watching')
      let seen = 0
      while (Atomics.load(stop, 0) === 0) {
        const stat = lstatSync(path, { throwIfNoEntry: false })
        if (stat === undefined) continue
        modes.add(stat.mode & 0o777)
        seen++
      }
      parentPort.postMessage({ modes: [...modes], seen })`
    const stop = new Int32Array(new SharedArrayBuffer(4))
    const worker = new Worker(script, { eval: true, workerData: { path, stop } })
    await within(onceEvent(worker, 'message'))
    const end = performance.now() + 500
    while (performance.now() < end) UnixListener.listen(reactor, path, { mode: 0o600 }).close()
    const answer = onceEvent(worker, 'message')
    const exited = onceEvent(worker, 'exit') // it may come together with the message
    Atomics.store(stop, 0, 1)
    const [{ modes, seen }] = (await within(answer)) as [{ modes: number[]; seen: number }]
    await exited
    expect(seen).toBeGreaterThan(10)
    expect(modes).toEqual([0o600])
  })

  test('belongs to the owner that was asked for, and keeps its mode', (context) => {
    needsRoot(context)
    const reactor = openManual()
    const { path } = UnixListener.listen(reactor, socketPath(), {
      mode: 0o4660,
      owner: { uid: NOBODY, gid: 12_345 },
    })
    expect(lstatSync(path)).toMatchObject({ uid: NOBODY, gid: 12_345 })
    expect(modeOf(path)).toBe(0o4660)
    const other = UnixListener.listen(reactor, socketPath(), { owner: { gid: 12_345 } })
    expect(lstatSync(other.path)).toMatchObject({ uid: process.getuid?.(), gid: 12_345 })
  })

  test('keeps out who may not write to it', (context) => {
    needsRoot(context)
    const reactor = openManual()
    const path = socketPath()
    chmodSync(dirname(path), 0o755)
    const script = `require('node:net').connect(process.argv[1])
      .on('connect', () => process.exit(0)).on('error', (error) => { console.log(error.code); process.exit(1) })`
    const connectAsNobody = () =>
      spawnSync(process.execPath, ['-e', script, path], {
        uid: NOBODY,
        gid: NOBODY,
        encoding: 'utf8',
        cwd: '/',
        env: { ...process.env, ...withoutLeakCheck },
      })
    UnixListener.listen(reactor, path, { mode: 0o600 })
    expect(connectAsNobody().stdout).toBe('EACCES\n')
    chmodSync(path, 0o602)
    expect(connectAsNobody()).toMatchObject({ stdout: '', status: 0 })
  })

  test('is gone after close(), and a second close() does nothing', () => {
    const listener = UnixListener.listen(openManual(), socketPath())
    expect(existsSync(listener.path)).toBe(true)
    let closes = 0
    listener.on('close', () => closes++)
    listener.close()
    expect(existsSync(listener.path)).toBe(false)
    writeFileSync(listener.path, 'somebody else')
    listener.close()
    expect(existsSync(listener.path)).toBe(true)
    expect(closes).toBe(1)
  })

  test('is gone after reactor.close() and after an abort', () => {
    const reactor = openManual()
    const controller = new AbortController()
    const paths = [
      UnixListener.listen(reactor, socketPath(), { signal: controller.signal }).path,
      UnixListener.listen(reactor, socketPath()).path,
    ]
    controller.abort()
    expect(paths.map((path) => existsSync(path))).toEqual([false, true])
    reactor.close()
    expect(paths.map((path) => existsSync(path))).toEqual([false, false])
  })

  test('stays when it is not the one that was made', () => {
    const reactor = openManual()
    const listener = UnixListener.listen(reactor, socketPath())
    unlinkSync(listener.path)
    const next = UnixListener.listen(reactor, listener.path)
    listener.close()
    expect(existsSync(next.path)).toBe(true)
    rawClient(next.path)
    next.close()
    expect(existsSync(next.path)).toBe(false)
  })

  test('is found again after chdir() when the path was relative', () => {
    const path = socketPath()
    const home = process.cwd()
    try {
      process.chdir(dirname(path))
      const listener = UnixListener.listen(openManual(), basename(path))
      process.chdir('/')
      listener.close()
      expect(existsSync(path)).toBe(false)
    } finally {
      process.chdir(home)
    }
  })

  test('that cannot be looked at any more does not keep the listener open', async () => {
    const before = countFds()
    const reactor = openManual()
    const path = socketPath()
    const inner = join(dirname(path), 'inner')
    mkdirSync(inner)
    const listener = UnixListener.listen(reactor, join(inner, 's'))
    renameSync(inner, `${inner}.away`)
    symlinkSync('inner', inner) // a loop: ELOOP
    const warned = onceEvent(process, 'warning')
    listener.close()
    expect(listener.closed).toBe(true)
    expect(await within(warned)).toMatchObject([
      { code: 'FD_REACTOR_UNLINK', message: expect.stringContaining('ELOOP') },
    ])
    reactor.close()
    expect(countFds()).toEqual(before)
  })
})

describe('a path that is taken', () => {
  test('by a dead socket is taken over', async () => {
    const reactor = openReactor()
    const path = socketPath()
    leaveDeadSocket(path)
    expect(thrownBy(() => rawClient(path))).toMatchObject({ code: 'ECONNREFUSED' })
    const listener = UnixListener.listen(reactor, path, { mode: 0o640 })
    expect(modeOf(path)).toBe(0o640)
    rawClient(path)
    await within(once(listener, 'connection'))
  })

  test('by a dead socket is left alone with unlinkStale: false', () => {
    const path = socketPath()
    leaveDeadSocket(path)
    const error = thrownBy(() => UnixListener.listen(openManual(), path, { unlinkStale: false }))
    expect(error).toMatchObject({ code: 'EADDRINUSE', syscall: 'bind', path })
    expect(existsSync(path)).toBe(true)
  })

  test.each([true, false])(
    'by a live listener is EADDRINUSE, and the listener goes on (unlinkStale: %s)',
    async (unlinkStale) => {
      const before = countFds()
      const reactor = openReactor()
      const first = UnixListener.listen(reactor, socketPath())
      const error = thrownBy(() => UnixListener.listen(reactor, first.path, { unlinkStale }))
      expect(error).toMatchObject({ name: 'SystemError', code: 'EADDRINUSE', errno: -98, path: first.path })
      expect(String(error)).toContain(first.path)
      let connections = 0
      first.on('connection', (stream) => {
        connections++
        stream.close()
      })
      rawClient(first.path)
      await until(() => first.stats.events >= (unlinkStale ? 2 : 1)) // looking whether it lives is a connection as well
      expect(connections).toBeGreaterThan(0)
      reactor.close()
      await until(() => countFds().eventpoll === before.eventpoll)
    },
  )

  test('by a live listener whose backlog is full is EADDRINUSE', () => {
    const reactor = openManual()
    const first = UnixListener.listen(reactor, socketPath(), { backlog: 0 })
    rawClient(first.path)
    expect(thrownBy(() => rawClient(first.path))).toMatchObject({ code: 'EAGAIN' })
    expect(thrownBy(() => UnixListener.listen(reactor, first.path))).toMatchObject({ code: 'EADDRINUSE' })
  })

  test.each(['file', 'folder', 'symlink'] as const)('by a %s is EADDRINUSE, and it stays', (kind) => {
    const path = socketPath()
    if (kind === 'file') writeFileSync(path, 'precious')
    if (kind === 'folder') mkdirSync(path)
    if (kind === 'symlink') {
      leaveDeadSocket(`${path}.target`)
      symlinkSync(`${path}.target`, path)
    }
    const error = thrownBy(() => UnixListener.listen(openManual(), path))
    expect(error).toMatchObject({ code: 'EADDRINUSE', path })
    expect(existsSync(path)).toBe(true)
  })

  test('is won by exactly one of two processes that start at the same moment, in each of 50 rounds', async () => {
    const script = `
      import { Reactor } from '@fd-reactor/core'
      import { UnixListener } from '@fd-reactor/fd-events'
      const reactor = new Reactor()
      let listener
      process.on('message', ({ path, at }) => {
        if (path === undefined) {
          listener?.close()
          listener = undefined
          return process.send('closed')
        }
        while (Date.now() < at);
        try {
          listener = UnixListener.listen(reactor, path)
          process.send('won')
        } catch (error) {
          process.send(error.code + ' ' + error.path)
        }
      })
      process.send('ready')`
    const starters = [1, 2].map(() =>
      spawn(process.execPath, ['--input-type=module', '-e', script], {
        cwd: folder,
        stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
      }),
    )
    const answers = async (): Promise<unknown[]> =>
      Promise.all(
        starters.map(async (starter) => ((await within(onceEvent(starter, 'message'))) as unknown[])[0]),
      )
    await answers()
    const tell = (message: object): void => starters.forEach((starter) => void starter.send(message))
    for (let round = 0; round < 50; round++) {
      const path = socketPath()
      if (round % 5 > 0) leaveDeadSocket(path)
      let answered = answers()
      tell({ path, at: Date.now() + 4 })
      expect((await answered).sort()).toEqual([`EADDRINUSE ${path}`, 'won'])
      answered = answers()
      tell({})
      await answered
      expect(existsSync(path)).toBe(false)
    }
    starters.forEach((starter) => starter.disconnect())
    await Promise.all(starters.map((starter: ChildProcess) => onceEvent(starter, 'exit')))
  })
})

describe('a path that cannot be', () => {
  test('because it is too long is explained, in bytes', () => {
    const reactor = openManual()
    const base = `${dirname(socketPath())}/`
    const longest = base + 's'.repeat(107 - Buffer.byteLength(base))
    const listener = UnixListener.listen(reactor, longest)
    expect(listener.path).toBe(longest)
    rawClient(longest)
    const error = thrownBy(() => UnixListener.listen(reactor, `${longest}x`))
    expect(error).toMatchObject({ code: 'ENAMETOOLONG', syscall: 'bind', path: `${longest}x` })
    expect(String(error)).toMatch(/108 bytes.*107/)
    const wide = base + 'ä'.repeat(54)
    expect(String(thrownBy(() => UnixListener.listen(reactor, wide)))).toContain(
      `${Buffer.byteLength(wide)} bytes`,
    )
  })

  test('because its folder does not exist is ENOENT, and nothing is left open', () => {
    const before = countFds()
    const path = join(dirname(socketPath()), 'missing', 's')
    expect(thrownBy(() => UnixListener.listen(openManual(), path))).toMatchObject({ code: 'ENOENT' })
    expect(countFds()).toEqual({ ...before, eventpoll: before.eventpoll + 1 })
  })

  test.each(['', 'a\0b'])('%j is a TypeError', async (path) => {
    const reactor = openManual()
    expect(() => UnixListener.listen(reactor, path)).toThrow(TypeError)
    await expect(UnixStream.connect(reactor, path)).rejects.toThrow(TypeError)
  })
})

test('options that do not exist or are out of range are refused, and nothing is made', () => {
  const before = countFds()
  const reactor = openManual()
  const path = socketPath()
  const listen = (options: object) => () => UnixListener.listen(reactor, path, options)
  expect(listen({ maxConnection: 1 })).toThrow("did you mean 'maxConnections'")
  expect(listen({ maxConnections: 0 })).toThrow(RangeError)
  expect(listen({ mode: 0o10000 })).toThrow(RangeError)
  expect(listen({ mode: '660' })).toThrow(TypeError)
  expect(listen({ backlog: -1 })).toThrow(RangeError)
  expect(listen({ owner: 0 })).toThrow(TypeError)
  expect(listen({ owner: { user: 0 } })).toThrow("did you mean 'uid'")
  expect(listen({ borrow: 'yes' })).toThrow(TypeError)
  expect(existsSync(path)).toBe(false)
  reactor.close()
  expect(countFds()).toEqual(before)
})

describe('accepting', () => {
  test('waits for a listener, so that nothing is lost', () => {
    const reactor = openManual()
    const listener = UnixListener.listen(reactor, socketPath())
    const clients = Array.from({ length: 100 }, () => rawClient(listener.path))
    settle(reactor)
    expect(listener.connections).toBe(0)
    let seen = 0
    listener.on('connection', () => seen++)
    settle(reactor)
    expect(seen).toBe(clients.length)
    expect(listener.connections).toBe(clients.length)
  })

  test('stops with pause(), and what was accepted in the same batch waits for resume()', () => {
    const reactor = openManual()
    const listener = UnixListener.listen(reactor, socketPath())
    for (let n = 0; n < 10; n++) rawClient(listener.path)
    let seen = 0
    listener.on('connection', () => {
      if (++seen === 3) listener.pause()
    })
    settle(reactor)
    expect(seen).toBe(3)
    rawClient(listener.path)
    listener.resume()
    settle(reactor)
    expect(seen).toBe(11)
  })

  test('a connection keeps its place in the backlog, which is as long as asked for', () => {
    const reactor = openManual()
    const { path } = UnixListener.listen(reactor, socketPath(), { backlog: 4 })
    let waiting = 0
    for (; waiting < 100; waiting++) {
      try {
        rawClient(path)
      } catch (error) {
        expect(errorCode(error)).toBe('EAGAIN')
        break
      }
    }
    expect(waiting).toBe(5) // Linux lets one more in than it was told
  })

  test('closing it in the middle of a batch closes what was accepted and not delivered', () => {
    const before = countFds()
    const reactor = openManual()
    const listener = UnixListener.listen(reactor, socketPath())
    const clients = Array.from({ length: 10 }, () => rawClient(listener.path))
    const streams: UnixStream[] = []
    listener.on('connection', (stream) => {
      streams.push(stream)
      if (streams.length === 4) listener.close()
    })
    settle(reactor)
    expect(streams).toHaveLength(4)
    expect(clients.filter((client) => ended(client))).toHaveLength(6)
    expect(reactor.sources().filter(({ label }) => label.startsWith('UnixStream'))).toHaveLength(4)
    for (const client of clients) client.close()
    reactor.close()
    expect(countFds()).toEqual(before)
  })

  test('a connection that got the number of a source that lost it is not closed with that source', () => {
    const reactor = openManual()
    const robbed = new EventFd(reactor)
    const bell = new EventFd(reactor)
    const listener = UnixListener.listen(reactor, socketPath())
    listener.on('connection', (stream) => stream.on('data', (bytes) => stream.write(bytes)))
    let accepted = -1
    listener.on('connection', (stream) => (accepted = stream.fd))
    bell.on('event', () => {
      robbed.close()
    })
    settle(reactor)
    const lost = robbed.fd
    bell.write()
    const client = rawClient(listener.path) // is accepted in the batch in which the bell rings, and delivered after it
    closeSync(lost)
    settle(reactor)
    expect(accepted).toBe(lost)
    writeAll(client, 'alive')
    settle(reactor)
    expect(String(readNow(client))).toBe('alive')
  })

  test('connections live on when their listener closes', () => {
    const reactor = openManual()
    const listener = UnixListener.listen(reactor, socketPath())
    listener.on('connection', (stream) => {
      stream.on('data', (bytes) => stream.write(bytes))
      listener.close()
    })
    const client = rawClient(listener.path)
    settle(reactor)
    expect(listener.closed).toBe(true)
    writeAll(client, 'still here')
    settle(reactor)
    expect(String(readNow(client))).toBe('still here')
  })

  test('close() while end() gives out who waits closes the others, and nothing comes after it', () => {
    const reactor = openManual()
    const listener = UnixListener.listen(reactor, socketPath())
    const told: string[] = []
    listener.on('connection', (stream) => {
      told.push('connection')
      listener.close()
      stream.close()
    })
    listener.on('close', () => told.push('close'))
    const clients = [rawClient(listener.path), rawClient(listener.path)]
    listener.end()
    expect(told).toEqual(['connection', 'close'])
    expect(clients.map(ended)).toEqual([true, true])
  })

  test('a client that is gone before it is accepted is a stream that ends', () => {
    const reactor = openManual()
    const listener = UnixListener.listen(reactor, socketPath())
    rawClient(listener.path).close()
    const happened: string[] = []
    listener.on('connection', (stream) => {
      stream.on('data', () => happened.push('data'))
      stream.on('end', () => happened.push('end'))
      stream.on('close', () => happened.push('close'))
    })
    settle(reactor)
    expect(happened).toEqual(['end', 'close'])
    expect(listener.connections).toBe(0)
  })

  test('for await gives each connection, in order', async () => {
    const reactor = openReactor()
    const listener = UnixListener.listen(reactor, socketPath())
    const script = Array.from({ length: 40 }, (_, n) => `${n};`)
    for (const text of script) {
      const client = rawClient(listener.path)
      writeAll(client, text)
    }
    const texts: string[] = []
    for await (const stream of listener) {
      const [bytes] = await within(once(stream, 'data'))
      texts.push(String(bytes))
      stream.close()
      if (texts.length === script.length) break
    }
    expect(texts).toEqual(script)
  })

  test('leaving a for await leaves the connections that it has not given to the next one who listens', async () => {
    const reactor = openReactor()
    const listener = UnixListener.listen(reactor, socketPath())
    for (let n = 0; n < 40; n++) rawClient(listener.path)
    let seen = 0
    for await (const _ of listener) if (++seen === 5) break
    await quiet()
    listener.on('connection', () => seen++)
    await until(() => seen >= 40, 'the other connections')
    expect(listener.connections).toBe(40)
  })
})

describe('maxConnections', () => {
  test('leaves who comes next in the backlog until a connection closes', () => {
    const reactor = openManual()
    const listener = UnixListener.listen(reactor, socketPath(), { maxConnections: 3 })
    const streams: UnixStream[] = []
    listener.on('connection', (stream) => streams.push(stream))
    for (let n = 0; n < 8; n++) rawClient(listener.path)
    settle(reactor)
    expect([streams.length, listener.connections]).toEqual([3, 3])
    streams[0]?.close()
    settle(reactor)
    expect([streams.length, listener.connections]).toEqual([4, 3])
    for (const stream of streams) stream.destroy()
    settle(reactor)
    expect([streams.length, listener.connections]).toEqual([7, 3])
    for (const stream of streams) stream.destroy()
    settle(reactor)
    expect([streams.length, listener.connections]).toEqual([8, 1])
  })

  test.each([1, 2, 3, 7])(
    'is never exceeded, also when connections close in the batch that accepts them (%i)',
    (maxConnections) => {
      const reactor = openManual()
      const listener = UnixListener.listen(reactor, socketPath(), { maxConnections })
      const clients = Array.from({ length: 60 }, () => rawClient(listener.path))
      const others = countFds().socket
      let most = 0
      let seen = 0
      const open: UnixStream[] = []
      const closeOne = (): void => open.shift()?.close()
      listener.on('connection', (stream) => {
        open.push(stream)
        most = Math.max(most, listener.connections, countFds().socket - others)
        if (++seen % 2 === 1) open.splice(0).forEach((each) => each.close())
        if (seen % 3 === 0) reactor.defer(closeOne)
      })
      for (let turns = 0; turns < 500 && seen < clients.length; turns++) {
        if (reactor.dispatch() === 0) closeOne()
      }
      expect(seen).toBe(clients.length)
      expect(most).toBe(maxConnections)
    },
  )

  test('a connection that is passed on with detach() no longer counts', () => {
    const reactor = openManual()
    const listener = UnixListener.listen(reactor, socketPath(), { maxConnections: 1 })
    const handles: FdHandle[] = []
    listener.on('connection', (stream) => handles.push(stream.detach().handle))
    for (let n = 0; n < 5; n++) rawClient(listener.path)
    settle(reactor)
    expect(handles).toHaveLength(5)
    expect(listener.connections).toBe(0)
    for (const handle of handles) handle.close()
  })
})

describe('peers that other people wrote', () => {
  test.for([
    { command: 'socat', args: ['-t1', '-', 'UNIX-CONNECT:PATH'] },
    { command: 'nc', args: ['-N', '-U', 'PATH'] },
  ])('$command talks to an echo server', async ({ command, args }, { skip }) => {
    skip(spawnSync('which', [command]).status !== 0, `${command} is not installed`)
    const reactor = openReactor()
    const listener = UnixListener.listen(reactor, socketPath())
    listener.on('connection', (stream) => stream.on('data', (bytes) => stream.write(bytes)))
    const child = spawn(
      command,
      args.map((arg) => arg.replace('PATH', listener.path)),
    )
    let text = ''
    child.stdout.setEncoding('utf8').on('data', (chunk: string) => (text += chunk))
    child.stdin.end('hello from outside\n')
    await childEnded(child)
    expect(text).toBe('hello from outside\n')
    await until(() => listener.connections === 0)
  })

  test('are known by pid, uid and gid', async (context) => {
    needsRoot(context)
    const reactor = openReactor()
    const path = socketPath()
    chmodSync(dirname(path), 0o755)
    const listener = UnixListener.listen(reactor, path, { mode: 0o666 })
    const script = `require('node:net').connect(process.argv[1]).resume().on('error', () => process.exit(1))`
    const child = spawn(process.execPath, ['-e', script, path], { uid: NOBODY, gid: 12_345, cwd: '/' })
    const [stream] = await within(once(listener, 'connection'))
    expect(stream.peer).toEqual({ pid: child.pid, uid: NOBODY, gid: 12_345 })
    stream.close()
    await childEnded(child)
    await netClient(path)
    const [ours] = await within(once(listener, 'connection'))
    expect(ours.peer).toEqual({ pid: process.pid, uid: process.getuid?.(), gid: process.getgid?.() })
  })
})

/** Whether the other side has closed it. */
function ended(client: FdHandle): boolean {
  try {
    return readNow(client)?.length === 0
  } catch (error) {
    return errorCode(error) === 'ECONNRESET'
  }
}
