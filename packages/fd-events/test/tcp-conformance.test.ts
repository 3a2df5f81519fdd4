import { once, Reactor, type FdHandle } from '@fd-reactor/core'
import { TcpListener, TcpStream } from '@fd-reactor/fd-events'
import { afterAll, beforeAll } from 'vitest'
import { assertNoLeakedFds } from '../../core/test/support/fds.js'
import { describeSource } from './support/conformance.js'
import { rawTcpClient, tcpPair } from './tcp-helpers.js'

assertNoLeakedFds()

/** Where the far ends live. */
let far: Reactor
beforeAll(() => {
  far = new Reactor()
})
afterAll(() => {
  far.close()
})

const clients = new WeakMap<TcpListener, FdHandle[]>()

describeSource('TcpListener', {
  make: (reactor, options) => {
    const listener = TcpListener.listen(reactor, options)
    clients.set(listener, [])
    return listener
  },
  fire: (listener) => clients.get(listener)?.push(rawTcpClient(listener.address)),
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
  release: (listener) => clients.get(listener)?.forEach((client) => client.close()),
  iterate: (listener) => listener,
  script: {
    make: 'const source = events.TcpListener.listen(reactor)',
    fire: "events.TcpStream.connect(new Reactor({ wakeup: 'manual' }), source.address)",
    event: 'connection',
  },
})

const peers = new WeakMap<TcpStream, TcpStream>()

describeSource('TcpStream', {
  make: async (reactor, options) => {
    const [near, peer] = await tcpPair(far)
    const stream = TcpStream.from(reactor, near.detach().handle, options)
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
    make: `const far = new Reactor()
      const listener = events.TcpListener.listen(far)
      const connecting = events.TcpStream.connect(far, listener.address)
      const [near] = await once(listener, 'connection')
      const peer = (await connecting).unref()
      listener.close()
      const source = events.TcpStream.from(reactor, near.detach().handle)`,
    fire: "peer.write('x')",
    event: 'data',
  },
})
