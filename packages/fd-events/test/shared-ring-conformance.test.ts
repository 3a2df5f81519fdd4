/**
 * The conformance suite over rings with many readers or many writers.
 */
import { once, Reactor } from '@fd-reactor/core'
import { BroadcastReader, BroadcastWriter, type RingPeer } from '@fd-reactor/fd-events'
import { afterAll, beforeAll } from 'vitest'
import { until } from '../../core/test/support/wait.js'
import { assertNothingLeft, attached } from './shared-ring-helpers.js'
import { describeSource } from './support/conformance.js'

assertNothingLeft()

/** Where the far ends live. */
let far: Reactor
beforeAll(() => {
  far = new Reactor()
})
afterAll(() => {
  far.close()
})

/** In a script: `attach(offer, accept)`, as {@link attached} here. */
const SCRIPT = `const attach = (offer, accept) => new Promise((resolve, reject) => {
  const address = { abstract: 'fd-reactor-' + process.pid }
  const listener = events.UnixSeqpacketListener.listen(reactor, address)
  listener.on('connection', (connection) => { listener.close(); offer(connection) })
  accept(address).then(resolve, reject)
})
const byte = Buffer.alloc(1)\n`

const broadcasts = new WeakMap<BroadcastReader, [BroadcastWriter, RingPeer]>()

describeSource('BroadcastReader', {
  make: async (reactor, options) => {
    const writer = new BroadcastWriter(far, { capacity: 4096 })
    try {
      const [peer, reader] = await attached(
        (to) => writer.offer(to),
        (from) => BroadcastReader.accept(reactor, from, options),
      )
      broadcasts.set(reader, [writer, peer])
      peer.on('gone', () => writer.close())
      return reader
    } catch (error) {
      writer.close()
      throw error
    }
  },
  fire: (reader) => {
    const [writer] = broadcasts.get(reader) ?? []
    if (writer?.closed === false) writer.write(Buffer.alloc(1))
  },
  listen: (reader, heard) => reader.on('message', heard),
  forget: (reader) => reader.off('message'),
  next: (reader, signal) => once(reader, 'message', { signal }),
  release: async (reader) => {
    const [writer] = broadcasts.get(reader) ?? []
    await until(() => writer?.closed === true)
  },
  iterate: (reader) => reader,
  script: {
    make: `${SCRIPT}const writer = new events.BroadcastWriter(reactor)
      const source = await attach((to) => writer.offer(to), (from) => events.BroadcastReader.accept(reactor, from))`,
    fire: 'writer.write(byte)',
    event: 'message',
  },
})
