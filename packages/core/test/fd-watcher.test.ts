import { closeSync, constants, mkdtempSync, openSync, readSync, rmdirSync, writeSync } from 'node:fs'
import { createServer, connect, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { FdWatcher, Interest, type Reactor } from '@fd-reactor/core'
import { describe, expect, onTestFinished, test } from 'vitest'
import { assertNoLeakedFds, linkOf } from './support/fds.js'
import { openManual, openReactor, settle, streamPair } from './support/reactors.js'
import { Counter } from './support/sources.js'
import { within } from './support/wait.js'

assertNoLeakedFds()

/** An eventfd that nobody drains, and a watcher of it. */
function watched(
  reactor: Reactor,
  mode: 'level' | 'edge' | 'oneshot',
): { counter: Counter; watcher: FdWatcher; seen: number[] } {
  const counter = new Counter(openManual())
  const seen: number[] = []
  const watcher = new FdWatcher(reactor, counter.fd, { mode }).on('ready', (events) => seen.push(events))
  return { counter, watcher, seen }
}

describe('modes', () => {
  test('level: as long as it lasts', () => {
    const reactor = openManual()
    const { counter, seen } = watched(reactor, 'level')
    reactor.dispatch()
    expect(seen).toEqual([])
    counter.write()
    for (let i = 0; i < 3; i++) reactor.dispatch()
    expect(seen).toEqual([Interest.In, Interest.In, Interest.In])
  })

  test('edge: once for each change, and rearm() repeats one that still lasts', () => {
    const reactor = openManual()
    const { counter, watcher, seen } = watched(reactor, 'edge')
    counter.write()
    settle(reactor)
    expect(seen).toEqual([Interest.In])
    counter.write()
    settle(reactor)
    expect(seen).toHaveLength(2)
    watcher.rearm()
    settle(reactor)
    expect(seen).toHaveLength(3)
  })

  test('oneshot: once, until rearm(), also in its own handler', () => {
    const reactor = openManual()
    const { counter, watcher, seen } = watched(reactor, 'oneshot')
    counter.write()
    settle(reactor)
    counter.write()
    settle(reactor)
    expect(seen).toEqual([Interest.In])
    watcher.rearm()
    settle(reactor)
    expect(seen).toHaveLength(2)
    const again = (): void => {
      if (seen.length < 6) watcher.rearm()
    }
    watcher.on('ready', again).rearm()
    settle(reactor)
    expect(seen).toHaveLength(6)
  })

  test('rearm() of a paused watcher leaves it paused; resume() arms it', () => {
    const reactor = openManual()
    const { counter, watcher, seen } = watched(reactor, 'oneshot')
    watcher.pause().rearm()
    counter.write()
    settle(reactor)
    expect(seen).toEqual([])
    watcher.resume()
    settle(reactor)
    expect(seen).toHaveLength(1)
    watcher.close()
    expect(() => watcher.rearm()).toThrow(expect.objectContaining({ code: 'ERR_CLOSED' }))
  })
})

describe('interest', () => {
  test('Pri: out-of-band data of a TCP socket', async () => {
    const server = createServer()
    await within(new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve)))
    const address = server.address()
    const port = typeof address === 'object' && address !== null ? address.port : 0
    const accepted = new Promise<Socket>((resolve) => server.once('connection', resolve))
    const client = connect(port, '127.0.0.1')
    const peer = (await within(accepted)).pause()
    onTestFinished(() => {
      client.destroy()
      peer.destroy()
      server.close()
    })
    const fd = (peer as Socket & { _handle: { fd: number } })._handle.fd
    const reactor = openReactor()
    const watcher = new FdWatcher(reactor, fd, { interest: Interest.Pri })
    const ready = within(new Promise<number>((resolve) => watcher.once('ready', resolve)))
    const clientFd = (client as Socket & { _handle: { fd: number } })._handle.fd
    const { spawnSync } = await import('node:child_process')
    const urgent = 'import socket; s = socket.socket(fileno=0); s.send(b"!", socket.MSG_OOB); s.detach()'
    expect(spawnSync('python3', ['-c', urgent], { stdio: [clientFd, 'inherit', 'inherit'] }).status).toBe(0)
    expect((await ready) & Interest.Pri).toBe(Interest.Pri)
    watcher.close()
  })

  test('RdHup, Hup and Out', async () => {
    const reactor = openManual()
    const [server, client] = await streamPair(reactor)
    const seen: number[] = []
    const interest = Interest.RdHup | Interest.Out
    new FdWatcher(reactor, server.fd, { interest, mode: 'edge' }).on('ready', (events) => seen.push(events))
    settle(reactor)
    expect(seen).toEqual([Interest.Out])
    client.end()
    settle(reactor)
    expect(seen.at(-1)).toBe(Interest.Out | Interest.RdHup)
    client.destroy()
    settle(reactor)
    expect((seen.at(-1) ?? 0) & Interest.Hup).toBe(Interest.Hup)
    reactor.close()
  })

  test.each([
    [0, 'RangeError'],
    [1 << 20, 'RangeError'],
    ['in', 'TypeError'],
  ])('%j is refused', (interest, name) => {
    const reactor = openManual()
    expect(() => new FdWatcher(reactor, 0, { interest: interest as number })).toThrow(
      expect.objectContaining({ name }),
    )
    expect(() => new FdWatcher(reactor, 0, { mode: 'levels' as 'level' })).toThrow(TypeError)
  })
})

describe('what epoll refuses', () => {
  test.each([
    ['a regular file', () => openSync(import.meta.filename, 'r')],
    ['a folder', () => openSync(tmpdir(), 'r')],
  ])('%s: EPERM, explained, as soon as it is watched', (_, open) => {
    const reactor = openManual()
    const fd = open()
    expect(() => new FdWatcher(reactor, fd)).toThrow(
      expect.objectContaining({
        code: 'EPERM',
        syscall: 'epoll_ctl',
        message: expect.stringContaining('regular files and directories') as string,
      }),
    )
    expect(reactor.sources()).toEqual([])
    closeSync(fd)
  })

  test('a number that is not open: EBADF; no number at all: TypeError, RangeError', () => {
    const reactor = openManual()
    expect(() => new FdWatcher(reactor, 19_999)).toThrow(expect.objectContaining({ code: 'EBADF' }))
    expect(() => new FdWatcher(reactor, -1)).toThrow(RangeError)
    expect(() => new FdWatcher(reactor, '5' as unknown as number)).toThrow(TypeError)
  })

  test('a descriptor that the reactor watches already: EEXIST, and the first goes on', () => {
    const reactor = openManual()
    const { counter, seen } = watched(reactor, 'edge')
    expect(() => new FdWatcher(reactor, counter.fd)).toThrow(expect.objectContaining({ code: 'EEXIST' }))
    counter.write()
    settle(reactor)
    expect(seen).toEqual([Interest.In])
  })

  test('another reactor may watch it too', () => {
    const [one, two] = [openManual(), openManual()]
    const { counter, seen } = watched(one, 'edge')
    const also: number[] = []
    new FdWatcher(two, counter.fd, { mode: 'edge' }).on('ready', (events) => also.push(events))
    counter.write()
    settle(one)
    settle(two)
    expect([seen, also]).toEqual([[Interest.In], [Interest.In]])
  })
})

describe('ownership', () => {
  test('closing the watcher, or the reactor, leaves the descriptor open', () => {
    const folder = mkdtempSync(join(tmpdir(), 'fd-reactor-'))
    onTestFinished(() => rmdirSync(folder))
    const fd = openSync('/dev/null', 'r+')
    const other = openSync('/dev/ptmx', constants.O_RDWR | constants.O_NOCTTY)
    const reactor = openManual()
    // /dev/null is one of the character devices that epoll refuses.
    expect(() => new FdWatcher(reactor, fd)).toThrow(expect.objectContaining({ code: 'EPERM' }))
    new FdWatcher(reactor, other).close()
    new FdWatcher(reactor, other)
    reactor.close()
    expect(linkOf(other)).toContain('ptmx')
    closeSync(fd)
    closeSync(other)
  })

  test('a pseudo-terminal: what is typed on the one side is ready on the other', async () => {
    const master = openSync('/dev/ptmx', constants.O_RDWR | constants.O_NOCTTY | constants.O_NONBLOCK)
    onTestFinished(() => closeSync(master))
    const reactor = openReactor()
    const watcher = new FdWatcher(reactor, master)
    const bytes = Buffer.alloc(64)
    const echoed = within(
      new Promise<string>((resolve) => {
        watcher.on('ready', () => resolve(bytes.toString('latin1', 0, readSync(master, bytes))))
      }),
    )
    writeSync(master, 'typed\n') // the terminal's own echo comes back
    await expect(echoed).resolves.toContain('typed')
    watcher.close()
  })

  test('for await gives the bits', async () => {
    const reactor = openManual()
    const [server, client] = await streamPair(reactor)
    const live = openReactor()
    const watcher = new FdWatcher(live, server.fd)
    client.write('x')
    for await (const events of watcher) {
      expect(events).toBe(Interest.In)
      break
    }
    watcher.close()
    reactor.close()
  })
})
