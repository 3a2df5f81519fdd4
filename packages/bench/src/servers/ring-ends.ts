/**
 * One end of a ring, or of two, whose descriptors are 3, 4, 5 and 6, 7, 8: `ring-ends write|read|ping|pong HOW COUNT BYTES`.
 *
 * write, read: COUNT messages of BYTES. HOW is `copy` (`write()`, and a copy for each `'message'`), `borrow` (claimed and
 * committed 32 at a time, a view for each `'message'`) or `claim` (the same, read in a loop, 64 at a time; looks at the first 64 bytes).
 * ping, pong: COUNT round trips of 8 bytes over both rings. HOW is `poll` or `sleep`.
 */
import process from 'node:process'
import { FdHandle, once, Reactor } from '@fd-reactor/core'
import { Ring, RingReader, RingWriter } from '@fd-reactor/fd-events'

const [role = '', how = '', countText = '0', bytesText = '8'] = process.argv.slice(2)
const count = Number(countText)
const bytes = Number(bytesText)
const reactor = new Reactor()
const ringAt = (first: number): Ring => Ring.from([0, 1, 2].map((index) => FdHandle.adopt(first + index)))

switch (role) {
  case 'write':
    await write()
    break
  case 'read':
    await read()
    break
  case 'ping':
    await ping()
    break
  case 'pong':
    await pong()
    break
  default:
    throw new Error(`unknown role ${role}`)
}
process.exit()

async function write(): Promise<void> {
  const writer = new RingWriter(reactor, ringAt(3))
  if (bytes > 4096) await claimOneByOne(writer)
  else if (how === 'copy') await writeCopies(writer)
  else claimBatches(writer)
  writer.close()
}

async function writeCopies(writer: RingWriter): Promise<void> {
  const message = Buffer.alloc(bytes, 7)
  for (let sent = 0; sent < count; sent++) if (!writer.write(message)) await once(writer, 'drain')
}

/** What is large is copied once, to where it stays: `write()` would copy what finds no room a second time. */
async function claimOneByOne(writer: RingWriter): Promise<void> {
  const message = Buffer.alloc(bytes, 7)
  for (let sent = 0; sent < count; sent++) {
    let at = writer.claim(bytes)
    for (; at < 0; at = writer.claim(bytes)) await once(writer, 'drain')
    writer.bytes.set(message, at)
    writer.commit()
  }
}

function claimBatches(writer: RingWriter): void {
  const { words } = writer
  for (let sent = 0; sent < count; sent++) {
    let at = writer.claim(bytes)
    while (at < 0) {
      writer.commit()
      at = writer.claim(bytes)
    }
    fill(words, at >> 2, sent)
    if ((sent & 31) === 31) writer.commit()
  }
  writer.commit()
}

/** Written out, as a program writes the fields of a record: V8 unrolls no loop, and one takes longer than all that the ring does. */
function fill(words: Int32Array, at: number, value: number): void {
  words[at] = value
  words[at + 1] = value + 1
  words[at + 2] = value + 2
  words[at + 3] = value + 3
  words[at + 4] = value + 4
  words[at + 5] = value + 5
  words[at + 6] = value + 6
  words[at + 7] = value + 7
  words[at + 8] = value + 8
  words[at + 9] = value + 9
  words[at + 10] = value + 10
  words[at + 11] = value + 11
  words[at + 12] = value + 12
  words[at + 13] = value + 13
  words[at + 14] = value + 14
  words[at + 15] = value + 15
}

/** The exclusive or of 16 words. */
function fold(words: Int32Array, at: number): number {
  const word = (index: number): number => words[at + index] ?? 0
  const low = word(0) ^ word(1) ^ word(2) ^ word(3) ^ word(4) ^ word(5) ^ word(6) ^ word(7)
  return low ^ word(8) ^ word(9) ^ word(10) ^ word(11) ^ word(12) ^ word(13) ^ word(14) ^ word(15)
}

async function read(): Promise<void> {
  const ring = ringAt(3)
  let seen = 0
  let begin = 0
  let cpu = process.cpuUsage()
  const first = (): void => {
    begin = performance.now()
    cpu = process.cpuUsage()
  }
  if (how === 'claim') {
    const reader = new RingReader(reactor, ring)
    const { words } = reader
    let sum = 0
    while (seen < count) {
      let found = 0
      for (let at = reader.next(); at >= 0; at = reader.next()) {
        if (seen++ === 0) first()
        sum ^= fold(words, at >> 2)
        if ((++found & 63) === 0) reader.release()
      }
      reader.release()
      // Some microseconds: a reader close behind takes the writer the lines that it is about to fill, by its processor's prefetching.
      if (found === 0) for (let pause = 0; pause < 20_000; pause++) sum ^= pause
    }
    print(begin, cpu, sum)
  } else {
    let sum = 0
    const reader = new RingReader(reactor, ring, { borrow: how === 'borrow' })
    await new Promise<void>((resolve) => {
      reader.on('message', (message: Buffer) => {
        if (seen++ === 0) first()
        for (let at = 0; at < message.length; at += 65_536) sum += message[at] ?? 0
        if (seen === count) resolve()
      })
    })
    print(begin, cpu, sum)
  }
}

function print(begin: number, before: NodeJS.CpuUsage, sum: number): void {
  const seconds = (performance.now() - begin) / 1000
  const { user, system } = process.cpuUsage(before)
  const perSecond = (count - 1) / seconds
  console.log(
    JSON.stringify({
      messagesPerSecond: perSecond,
      bytesPerSecond: perSecond * bytes,
      readerCpuNs: ((user + system) * 1000) / count,
      sum,
    }),
  )
}

async function ping(): Promise<void> {
  const writer = new RingWriter(reactor, ringAt(3))
  const reader = new RingReader(reactor, ringAt(6), { borrow: 'offsets' })
  const times = new Float64Array(count)
  if (how === 'poll') {
    for (let trip = 0; trip < count; trip++) {
      const begin = performance.now()
      say(writer, trip)
      while (reader.next() < 0);
      reader.release()
      times[trip] = performance.now() - begin
    }
  } else {
    let trip = 0
    let begin = performance.now()
    await new Promise<void>((resolve) => {
      reader.on('message', () => {
        times[trip++] = performance.now() - begin
        if (trip === count) return resolve()
        begin = performance.now()
        say(writer, trip)
      })
      say(writer, trip)
    })
  }
  times.sort()
  const at = (share: number): number => (times[Math.floor(count * share)] ?? 0) * 1e6
  console.log(JSON.stringify({ p50Nanos: at(0.5), p99Nanos: at(0.99) }))
  writer.close()
}

async function pong(): Promise<void> {
  const reader = new RingReader(reactor, ringAt(3), { borrow: 'offsets' })
  const writer = new RingWriter(reactor, ringAt(6))
  if (how === 'poll') {
    for (let trip = 0; trip < count; trip++) {
      while (reader.next() < 0);
      reader.release()
      say(writer, trip)
    }
  } else {
    let trip = 0
    await new Promise<void>((resolve) => {
      reader.on('message', () => {
        say(writer, trip)
        if (++trip === count) resolve()
      })
    })
  }
}

function say(writer: RingWriter, trip: number): void {
  const at = writer.claim(8)
  writer.words[at >> 2] = trip
  writer.commit()
}
