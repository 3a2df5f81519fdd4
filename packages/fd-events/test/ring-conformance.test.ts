import { once, Reactor } from '@fd-reactor/core'
import { RingReader, RingWriter, type Ring } from '@fd-reactor/fd-events'
import { afterAll, beforeAll } from 'vitest'
import { assertNothingLeft, openRing } from './ring-helpers.js'
import { describeSource } from './support/conformance.js'

assertNothingLeft()

/** Where the far ends live: a reactor that never turns. */
let far: Reactor
beforeAll(() => {
  far = new Reactor({ wakeup: 'manual' })
})
afterAll(() => {
  far.close()
})

const writers = new WeakMap<RingReader, RingWriter>()
const rings = new WeakMap<object, Ring>()

describeSource('RingReader', {
  make: (reactor, options) => {
    const ring = openRing()
    const reader = new RingReader(reactor, ring, options)
    writers.set(reader, new RingWriter(far, ring))
    rings.set(reader, ring)
    return reader
  },
  fire: (reader) => writers.get(reader)?.write(Buffer.from('x')),
  listen: (reader, heard) => reader.on('message', heard),
  forget: (reader) => reader.off('message'),
  next: (reader, signal) => once(reader, 'message', { signal }),
  release: (reader) => {
    writers.get(reader)?.close()
    rings.get(reader)?.close()
  },
  iterate: (reader) => reader,
  script: {
    make: `const ring = events.Ring.create()
      const writer = new events.RingWriter(new Reactor({ wakeup: 'manual' }), ring)
      const source = new events.RingReader(reactor, ring)`,
    fire: "writer.write(Buffer.from('x'))",
    event: 'message',
  },
})

const readers = new WeakMap<RingWriter, RingReader>()

/** Its event is that there is room again: the ring is full from the beginning, and emptied and filled again each time. */
describeSource('RingWriter', {
  make: (reactor, options) => {
    const ring = openRing()
    const writer = new RingWriter(reactor, ring, options)
    readers.set(writer, new RingReader(far, ring))
    rings.set(writer, ring)
    return writer
  },
  fire: (writer) => {
    const reader = readers.get(writer)
    if (writer.closed || reader === undefined || reader.closed) return
    while (writer.claim(1000) >= 0);
    writer.commit()
    while (reader.next() >= 0);
    reader.release()
  },
  listen: (writer, heard) => writer.on('drain', heard),
  forget: (writer) => writer.off('drain'),
  next: (writer, signal) => once(writer, 'drain', { signal }),
  release: (writer) => {
    readers.get(writer)?.close()
    rings.get(writer)?.close()
  },
  iterate: (writer) => writer.events('drain'),
  script: {
    make: `const ring = events.Ring.create({ capacity: 4096 })
      const reader = new events.RingReader(new Reactor({ wakeup: 'manual' }), ring)
      const source = new events.RingWriter(reactor, ring)`,
    fire: `while (source.claim(1000) >= 0);
      source.commit()
      while (reader.next() >= 0);
      reader.release()`,
    event: 'drain',
  },
})
