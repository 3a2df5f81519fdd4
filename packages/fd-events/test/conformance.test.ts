import { readSync } from 'node:fs'
import { isMainThread } from 'node:worker_threads'
import { FdHandle, FdWatcher, once, Reactor } from '@fd-reactor/core'
import { eventfd } from '@fd-reactor/core/sys'
import {
  EventFd,
  seconds,
  SignalFd,
  TimerFd,
  UnixListener,
  UnixStream,
  type SignalName,
} from '@fd-reactor/fd-events'
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest'
import { assertNoLeakedFds } from '../../core/test/support/fds.js'
import { socketPath, streamPair } from '../../core/test/support/reactors.js'
import { describeSource } from './support/conformance.js'

assertNoLeakedFds()

test('this file runs in the thread that its project names', () => {
  expect(isMainThread).toBe(process.env['FD_REACTOR_IN_WORKER'] !== '1')
})

if (!isMainThread) {
  test("the 'epoll' wakeup refuses to load in a worker, where it would crash", () => {
    expect(() => new Reactor({ wakeup: 'epoll' })).toThrow(
      expect.objectContaining({ code: 'ERR_UNSUPPORTED_WAKEUP' }),
    )
  })
}

describeSource('EventFd', {
  make: (reactor, options) => new EventFd(reactor, options),
  fire: (bell) => bell.write(),
  listen: (bell, heard) => bell.on('event', heard),
  forget: (bell) => bell.off('event'),
  next: (bell, signal) => once(bell, 'event', { signal }),
  iterate: (bell) => bell,
  script: { make: 'const source = new EventFd(reactor)', fire: 'source.write()', event: 'event' },
})

describeSource('TimerFd', {
  make: (reactor, options) => TimerFd.every(reactor, seconds(3600), options),
  fire: (timer) => timer.rearm(1),
  listen: (timer, heard) => timer.on('tick', heard),
  forget: (timer) => timer.off('tick'),
  next: (timer, signal) => once(timer, 'tick', { signal }),
  iterate: (timer) => timer,
  script: {
    make: 'const source = events.TimerFd.every(reactor, 3600e9)',
    fire: 'source.rearm(1)',
    event: 'tick',
  },
})

// A signal of its own for each source, so that several of them do not share one.
const signals: SignalName[] = [
  'SIGRTMIN+1',
  'SIGRTMIN+2',
  'SIGRTMIN+3',
  'SIGRTMIN+4',
  'SIGRTMIN+5',
  'SIGRTMIN+6',
]
let signalsUsed = 0
const SIGRTMIN = 34

describeSource('SignalFd', {
  make: (reactor, options) =>
    new SignalFd(reactor, [signals[signalsUsed++ % signals.length] ?? 'SIGRTMIN'], options),
  fire: ({ signals: [name] }) => process.kill(process.pid, SIGRTMIN + Number(name?.split('+')[1])),
  listen: (source, heard) => source.on('signal', heard),
  forget: (source) => source.off('signal'),
  next: (source, signal) => once(source, 'signal', { signal }),
  iterate: (source) => source,
  script: {
    make: "const source = new events.SignalFd(reactor, ['SIGHUP'])",
    fire: "process.kill(process.pid, 'SIGHUP')",
    event: 'SIGHUP',
  },
})

/** Where the far ends live: a reactor that never turns, so that nothing of it mixes with what is tested. */
let far: Reactor
beforeAll(() => {
  far = new Reactor({ wakeup: 'manual' })
})
afterAll(() => {
  far.close()
})

const watched = new WeakMap<FdWatcher, FdHandle>()

describeSource('FdWatcher', {
  make: (reactor, options) => {
    const handle = new FdHandle(eventfd.create(0n, false))
    onTestFinished(() => handle.close())
    const watcher = new FdWatcher(reactor, handle.fd, options)
    watched.set(watcher, handle)
    return watcher
  },
  fire: (watcher) => void eventfd.write(watched.get(watcher)?.fd ?? -1, 1n),
  listen: (watcher, heard) =>
    watcher.on('ready', () => {
      readSync(watched.get(watcher)?.fd ?? -1, Buffer.alloc(8))
      heard()
    }),
  forget: (watcher) => watcher.off('ready'),
  next: (watcher, signal) => once(watcher, 'ready', { signal }),
  release: (watcher) => watched.get(watcher)?.close(),
  iterate: (watcher) => watcher,
  script: {
    make: `const other = new EventFd(new Reactor({ wakeup: 'manual' }))
      const source = new FdWatcher(reactor, other.fd)`,
    fire: 'other.write()',
    event: 'ready',
  },
})

const clients = new WeakMap<UnixListener, Promise<UnixStream>[]>()

describeSource('UnixListener', {
  make: (reactor, options) => UnixListener.listen(reactor, socketPath(), options),
  // It connects at once; the promise is only for closing it.
  fire: (listener) =>
    clients.set(listener, [...(clients.get(listener) ?? []), UnixStream.connect(far, listener.path)]),
  listen: (listener, heard) =>
    listener.on('connection', (stream) => {
      stream.close()
      heard()
    }),
  forget: (listener) => listener.off('connection'),
  next: async (listener, signal) => {
    const [stream] = await once(listener, 'connection', { signal })
    stream.close()
  },
  release: async (listener) => {
    for (const client of clients.get(listener) ?? []) (await client).destroy()
  },
  iterate: (listener) => listener,
  script: {
    make: 'const source = UnixListener.listen(reactor, path)',
    fire: "UnixStream.connect(new Reactor({ wakeup: 'manual' }), source.path)",
    event: 'connection',
  },
})

const peers = new WeakMap<UnixStream, UnixStream>()

describeSource('UnixStream', {
  make: async (reactor, options) => {
    const [near, peer] = await streamPair(far)
    const stream = UnixStream.from(reactor, near.detach().handle, options)
    peers.set(stream, peer)
    return stream
  },
  fire: (stream) => peers.get(stream)?.write('x'),
  listen: (stream, heard) => stream.on('data', heard),
  forget: (stream) => stream.off('data'),
  next: (stream, signal) => once(stream, 'data', { signal }),
  release: (stream) => peers.get(stream)?.destroy(),
  iterate: (stream) => stream,
  script: {
    make: `const far = new Reactor({ wakeup: 'manual' })
      const listener = UnixListener.listen(far, path)
      const peer = await UnixStream.connect(far, listener.path)
      let near
      listener.on('connection', (stream) => (near = stream))
      far.dispatch()
      listener.close()
      const source = UnixStream.from(reactor, near.detach().handle)`,
    fire: "peer.write('x')",
    event: 'data',
  },
})
