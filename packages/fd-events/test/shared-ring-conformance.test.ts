/**
 * The conformance suite over rings with many readers or many writers.
 */
import { once, Reactor } from '@fd-reactor/core'
import {
  BroadcastReader,
  BroadcastWriter,
  ManyWriter,
  ManyWriterRing,
  type RingPeer,
} from '@fd-reactor/fd-events'
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

const writers = new WeakMap<ManyWriterRing, ManyWriter>()

describeSource('ManyWriterRing', {
  make: async (reactor, options) => {
    const ring = new ManyWriterRing(reactor, { slots: 64, ...options })
    const [, writer] = await attached(
      (to) => ring.offer(to),
      (from) => ManyWriter.accept(far, from),
    )
    writers.set(ring, writer)
    return ring
  },
  fire: (ring) => {
    const writer = writers.get(ring)
    if (writer?.closed === false) writer.write(Buffer.alloc(1))
  },
  listen: (ring, heard) => ring.on('message', heard),
  forget: (ring) => ring.off('message'),
  next: (ring, signal) => once(ring, 'message', { signal }),
  release: async (ring) => until(() => writers.get(ring)?.closed === true),
  iterate: (ring) => ring,
  script: {
    make: `${SCRIPT}const source = new events.ManyWriterRing(reactor)
      const writer = await attach((to) => source.offer(to), (from) => events.ManyWriter.accept(reactor, from, { ref: false }))`,
    fire: 'writer.write(byte)',
    event: 'message',
  },
})

const rings = new WeakMap<ManyWriter, ManyWriterRing>()

describeSource('ManyWriter', {
  make: async (reactor, options) => {
    const ring = new ManyWriterRing(far, { slots: 16 })
    try {
      const [peer, writer] = await attached(
        (to) => ring.offer(to),
        (from) => ManyWriter.accept(reactor, from, options),
      )
      rings.set(writer, ring)
      peer.on('gone', () => ring.close())
      return writer
    } catch (error) {
      ring.close()
      throw error
    }
  },
  // It is told once there is room again.
  fire: (writer) => {
    const ring = rings.get(writer)
    if (ring === undefined || ring.closed || writer.closed) return
    while (writer.claim(1) >= 0);
    writer.commit()
    while (ring.read() !== undefined);
  },
  listen: (writer, heard) => writer.on('drain', heard),
  forget: (writer) => writer.off('drain'),
  next: (writer, signal) => once(writer, 'drain', { signal }),
  release: async (writer) => until(() => rings.get(writer)?.closed === true),
  iterate: (writer) => writer.events('drain'),
  script: {
    make: `${SCRIPT}const ring = new events.ManyWriterRing(reactor, { ref: false, slots: 16 })
      const source = await attach((to) => ring.offer(to), (from) => events.ManyWriter.accept(reactor, from))`,
    fire: 'while (source.claim(1) >= 0); source.commit(); while (ring.read() !== undefined);',
    event: 'drain',
  },
})
