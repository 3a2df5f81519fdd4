/**
 * The conformance suite over the sockets of messages: datagrams, packets, and the listener of the latter.
 */
import { once, Reactor } from '@fd-reactor/core'
import { UnixDatagram, UnixSeqpacket, UnixSeqpacketListener } from '@fd-reactor/fd-events'
import { afterAll, beforeAll } from 'vitest'
import { assertNoLeakedFds } from '../../core/test/support/fds.js'
import { socketPath } from '../../core/test/support/reactors.js'
import { abstractName, packetPair } from './message-helpers.js'
import { describeSource } from './support/conformance.js'

assertNoLeakedFds()

/** Where the far ends live: a reactor that never turns, so that nothing of it mixes with what is tested. */
let far: Reactor
let sender: UnixDatagram
beforeAll(() => {
  far = new Reactor({ wakeup: 'manual' })
  sender = UnixDatagram.open(far)
})
afterAll(() => {
  far.close()
})

describeSource('UnixDatagram', {
  make: (reactor, options) => UnixDatagram.bind(reactor, abstractName(), options),
  fire: (datagram) => sender.send('x', { to: datagram.address ?? '' }),
  listen: (datagram, heard) => datagram.on('message', heard),
  forget: (datagram) => datagram.off('message'),
  next: (datagram, signal) => once(datagram, 'message', { signal }),
  iterate: (datagram) => datagram,
  script: {
    make: `const source = events.UnixDatagram.bind(reactor, path)
      const sender = events.UnixDatagram.open(new Reactor({ wakeup: 'manual' }))`,
    fire: 'sender.send("x", { to: path })',
    event: 'message',
  },
})

const peers = new WeakMap<UnixSeqpacket, UnixSeqpacket>()

describeSource('UnixSeqpacket', {
  make: async (reactor, options) => {
    const [near, peer] = await packetPair(far)
    const connection = UnixSeqpacket.from(reactor, near.detach().handle, options)
    peers.set(connection, peer)
    return connection
  },
  fire: (connection) => peers.get(connection)?.send('x'),
  listen: (connection, heard) => connection.on('message', heard),
  forget: (connection) => connection.off('message'),
  next: (connection, signal) => once(connection, 'message', { signal }),
  release: (connection) => peers.get(connection)?.destroy(),
  iterate: (connection) => connection,
  script: {
    make: `const far = new Reactor({ wakeup: 'manual' })
      const listener = events.UnixSeqpacketListener.listen(far, path)
      const peer = await events.UnixSeqpacket.connect(far, path)
      let near
      listener.on('connection', (connection) => (near = connection))
      far.dispatch()
      listener.close()
      const source = events.UnixSeqpacket.from(reactor, near.detach().handle)`,
    fire: "peer.send('x')",
    event: 'message',
  },
})

const clients = new WeakMap<UnixSeqpacketListener, Promise<UnixSeqpacket>[]>()

describeSource('UnixSeqpacketListener', {
  make: (reactor, options) => UnixSeqpacketListener.listen(reactor, socketPath(), options),
  // It connects at once; the promise is only for closing it.
  fire: (listener) =>
    clients.set(listener, [...(clients.get(listener) ?? []), UnixSeqpacket.connect(far, listener.path)]),
  listen: (listener, heard) =>
    listener.on('connection', (connection) => {
      connection.close()
      heard()
    }),
  forget: (listener) => listener.off('connection'),
  next: async (listener, signal) => {
    const [connection] = await once(listener, 'connection', { signal })
    connection.close()
  },
  release: async (listener) => {
    for (const client of clients.get(listener) ?? []) (await client).destroy()
  },
  iterate: (listener) => listener,
  script: {
    make: 'const source = events.UnixSeqpacketListener.listen(reactor, path)',
    fire: "events.UnixSeqpacket.connect(new Reactor({ wakeup: 'manual' }), source.path)",
    event: 'connection',
  },
})
