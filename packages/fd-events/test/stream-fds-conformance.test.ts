import { FdHandle, once, Reactor } from '@fd-reactor/core'
import { eventfd } from '@fd-reactor/core/sys'
import { EventFd, UnixStream } from '@fd-reactor/fd-events'
import { afterAll, beforeAll } from 'vitest'
import { assertNoLeakedFds } from '../../core/test/support/fds.js'
import { streamPair } from '../../core/test/support/reactors.js'
import { describeSource } from './support/conformance.js'

assertNoLeakedFds()

let far: Reactor
let passed: FdHandle
beforeAll(() => {
  far = new Reactor({ wakeup: 'manual' })
  passed = new FdHandle(eventfd.create(0n, false))
})
afterAll(() => {
  far.close()
  passed.close()
})

const peers = new WeakMap<UnixStream, UnixStream>()

describeSource('UnixStream with descriptors', {
  make: async (reactor, options) => {
    const [near, peer] = await streamPair(far)
    const stream = UnixStream.from(reactor, near.detach().handle, { ...options, maxFds: 1 })
    stream.on('fds', (fds) => {
      for (const fd of fds) fd.close()
    })
    peers.set(stream, peer)
    return stream
  },
  fire: (stream) => peers.get(stream)?.send('x', { fds: [passed] }),
  listen: (stream, heard) => stream.on('data', heard),
  forget: (stream) => stream.off('data'),
  next: (stream, signal) => once(stream, 'data', { signal }),
  release: (stream) => peers.get(stream)?.destroy(),
  iterate: (stream) => stream,
  script: {
    make: `const far = new Reactor({ wakeup: 'manual' })
      const bell = new EventFd(far)
      const passed = FdHandle.adopt(bell.fd)
      const listener = UnixListener.listen(far, path)
      const peer = await UnixStream.connect(far, listener.path)
      let near
      listener.on('connection', (stream) => (near = stream))
      far.dispatch()
      listener.close()
      const source = UnixStream.from(reactor, near.detach().handle, { maxFds: 1 })
      source.on('fds', (fds) => fds.forEach((fd) => fd.close()))`,
    fire: "peer.send('x', { fds: [passed] })",
    event: 'data',
  },
})

describeSource('EventFd.from', {
  make: (reactor, options) => EventFd.from(reactor, new FdHandle(eventfd.create(0n, false)), options),
  fire: (bell) => bell.write(),
  listen: (bell, heard) => bell.on('event', heard),
  forget: (bell) => bell.off('event'),
  next: (bell, signal) => once(bell, 'event', { signal }),
  iterate: (bell) => bell,
  script: {
    make: `const source = EventFd.from(reactor, new EventFd(new Reactor({ wakeup: 'manual' })).detach())`,
    fire: 'source.write()',
    event: 'event',
  },
})
