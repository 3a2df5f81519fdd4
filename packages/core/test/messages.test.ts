/**
 * The drains of messages, by the smallest source there is, and the parser of control messages against anything.
 *
 * FD_REACTOR_FUZZ says how many inputs; FD_REACTOR_SEED repeats a run.
 */
import { closeSync, fstatSync, openSync, writeSync } from 'node:fs'
import {
  closeMessageHead,
  Drain,
  FdHandle,
  Interest,
  MAX_FDS,
  messageArgument,
  PackedMessages,
  sendWithFds,
  Source,
  takeMessageHead,
  type BatchRecord,
  type MessageHead,
  type Reactor,
  type SourceEvents,
} from '@fd-reactor/core'
import { Domain, MessageFlag, socket, SocketOption, SocketType } from '@fd-reactor/core/sys'
import { expect, onTestFinished, test } from 'vitest'
import { testAddon } from './support/addon.js'
import { assertNoLeakedFds, countFds } from './support/fds.js'
import { randomNumbers } from './support/random.js'
import { openManual, settle } from './support/reactors.js'

assertNoLeakedFds()

const seed = Number(process.env['FD_REACTOR_SEED'] ?? 20_261_121)
const inputs = Number(process.env['FD_REACTOR_FUZZ'] ?? 20_000)

interface Drained {
  result: number
  flags: number
  bytes: string
  head: MessageHead | undefined
}

type Wanted = Parameters<typeof messageArgument>[0]

/** Keeps what its drain gave. */
class Receiver extends Source<SourceEvents & { drained: [] }> {
  readonly drained: Drained[] = []
  readonly perTurn: number[] = []

  constructor(reactor: Reactor, handle: FdHandle, wanted: Wanted, drain: Drain = Drain.Messages) {
    const argument = messageArgument(wanted)
    super(reactor, handle, { drain, interest: Interest.In | Interest.RdHup, argument })
    this.on('drained', () => undefined)
  }

  protected get consumerEvents(): readonly string[] {
    return ['drained']
  }

  onRecord(record: BatchRecord): void {
    const { result, messageFlags, length } = record
    const head = takeMessageHead(record)
    const address = head && { ...head, address: Buffer.from(head.address) }
    const bytes = length > 0 ? String(record.view()) : ''
    this.drained.push({ result, flags: (messageFlags & ~MessageFlag.Head) >>> 0, bytes, head: address })
    for (const fd of head?.fds ?? []) onTestFinished(() => fd.close())
    if (result < 0 || (result === 0 && ((messageFlags & MessageFlag.End) !== 0 || length === 0))) this.pause()
  }

  override onSettle(record: BatchRecord): void {
    if (record.result >= 0) closeMessageHead(record)
  }
}

let names = 0

/** A socket that receives, and one that is connected to it. */
function pair(type: number): [near: FdHandle, far: FdHandle] {
  const name = Buffer.from(`\u0001\u0000\u0000messages-${process.pid}-${names++}`, 'latin1')
  name[1] = 0
  const bound = closedAfterTest(new FdHandle(socket.create(Domain.Unix, type)))
  const far = closedAfterTest(new FdHandle(socket.create(Domain.Unix, type)))
  expect(socket.bind(bound.fd, name)).toBe(0)
  if (type === SocketType.Datagram) {
    expect(socket.connect(far.fd, name)).toBe(0)
    return [bound, far]
  }
  socket.listen(bound.fd, 1)
  expect(socket.connect(far.fd, name)).toBe(0)
  return [closedAfterTest(new FdHandle(socket.accept(bound.fd))), far]
}

function closedAfterTest(handle: FdHandle): FdHandle {
  onTestFinished(() => {
    handle.close()
  })
  return handle
}

function openFile(): FdHandle {
  return closedAfterTest(FdHandle.adopt(openSync('/dev/null', 'r')))
}

/** Sends each by one call, and says how many the kernel took. */
function send(handle: FdHandle, ...messages: { bytes: string | Buffer; fds?: FdHandle[] }[]): number {
  const packed = new PackedMessages()
  for (const { bytes, fds } of messages) packed.push(Buffer.from(bytes), undefined, fds)
  return packed.send(handle, messages.length)
}

test('a batch of messages keeps their bounds, and comes in one crossing', () => {
  const reactor = openManual()
  const [near, far] = pair(SocketType.Seqpacket)
  const receiver = new Receiver(reactor, near, { maxBytes: 4096 })
  const texts = Array.from({ length: 32 }, (_, n) => 'x'.repeat(n * 7 + 1))
  expect(send(far, ...texts.map((bytes) => ({ bytes })))).toBe(32)
  expect(reactor.dispatch()).toBe(32)
  expect(receiver.drained.map(({ bytes }) => bytes)).toEqual(texts)
  expect(receiver.drained.every(({ flags, head }) => flags === 0 && head === undefined)).toBe(true)
})

test('more than one call holds is sent by several, and taken over several batches', () => {
  const reactor = openManual()
  const [near, far] = pair(SocketType.Seqpacket)
  const receiver = new Receiver(reactor, near, { maxBytes: 64 * 1024 })
  const texts = Array.from({ length: 100 }, (_, n) => `message ${n}`)
  expect(send(far, ...texts.map((bytes) => ({ bytes })))).toBe(100)
  settle(reactor)
  expect(receiver.drained.map(({ bytes }) => bytes)).toEqual(texts)
})

test('a message that is cut says how long it was', () => {
  const reactor = openManual()
  const [near, far] = pair(SocketType.Datagram)
  const receiver = new Receiver(reactor, near, { maxBytes: 10 })
  send(far, { bytes: 'x'.repeat(1000) }, { bytes: 'whole' })
  settle(reactor)
  const [cut, whole] = receiver.drained
  expect(cut).toMatchObject({
    bytes: 'x'.repeat(10),
    flags: MessageFlag.Truncated,
    head: { fullLength: 1000 },
  })
  expect(whole).toMatchObject({ bytes: 'whole', flags: 0, head: undefined })
})

test.each([0, 1, 2, 3, 22, 100, 252, 253])(
  'exactly maxFds descriptors come, however much room is left (%i)',
  (maxFds) => {
    const reactor = openManual()
    const [near, far] = pair(SocketType.Datagram)
    const receiver = new Receiver(reactor, near, { maxBytes: 100, maxFds, pidFd: true, credentials: true })
    const file = openFile()
    const before = countFds()
    const many = (count: number): FdHandle[] => Array.from({ length: count }, () => file)
    send(far, { bytes: 'fits', fds: many(maxFds) })
    settle(reactor)
    expect(receiver.drained[0]).toMatchObject({ bytes: 'fits', flags: 0 })
    expect(receiver.drained[0]?.head?.fds ?? []).toHaveLength(maxFds)
    if (maxFds === MAX_FDS) return
    send(far, { bytes: 'too many', fds: many(maxFds + 1) }, { bytes: 'after' })
    settle(reactor)
    const [, truncated, after] = receiver.drained
    expect(truncated).toMatchObject({ bytes: 'too many', flags: MessageFlag.ControlTruncated })
    expect(truncated?.head?.fds.length ?? 0).toBeLessThanOrEqual(maxFds)
    expect(after).toMatchObject({ bytes: 'after', flags: 0 })
    for (const { head } of receiver.drained) for (const fd of head?.fds ?? []) fd.close()
    expect(countFds()).toEqual(before)
  },
)

test('a descriptor that comes is close-on-exec, and owned', () => {
  const reactor = openManual()
  const [near, far] = pair(SocketType.Seqpacket)
  const receiver = new Receiver(reactor, near, { maxBytes: 100, maxFds: 4, packets: true })
  socket.set(near.fd, SocketOption.Timestamp, 1)
  const file = openFile()
  send(far, { bytes: '', fds: [file, file] })
  settle(reactor)
  const fds = receiver.drained[0]?.head?.fds ?? []
  expect(fds).toHaveLength(2)
  for (const fd of fds) {
    expect(fd.owned).toBe(true)
    expect(fstatSync(fd.fd).rdev).toBe(fstatSync(file.fd).rdev)
  }
})

test('an empty packet is told from the end of the connection', () => {
  const reactor = openManual()
  const [near, far] = pair(SocketType.Seqpacket)
  socket.set(near.fd, SocketOption.Timestamp, 1)
  const receiver = new Receiver(reactor, near, { maxBytes: 100, packets: true })
  send(far, { bytes: 'one' }, { bytes: '' }, { bytes: 'two' })
  socket.shutdownWrite(far.fd)
  reactor.dispatch()
  const seen = receiver.drained.map(({ bytes, flags }) => [bytes, flags])
  expect(seen).toEqual([
    ['one', 0],
    ['', 0],
    ['two', 0],
    ['', MessageFlag.End],
  ])
})

test('a datagram socket that was shut for reading does not spin', () => {
  const reactor = openManual()
  const [near] = pair(SocketType.Datagram)
  const receiver = new Receiver(reactor, near, { maxBytes: 100 })
  socket.shutdownRead(near.fd)
  settle(reactor, 10)
  expect(receiver.drained).toEqual([{ result: 0, flags: MessageFlag.End, bytes: '', head: undefined }])
})

test('on a stream descriptors come with the first byte of their send', () => {
  const reactor = openManual()
  const [near, far] = pair(SocketType.Stream)
  const wanted = { maxBytes: 64 * 1024, maxFds: 1 }
  const receiver = new Receiver(reactor, near, wanted, Drain.StreamControl)
  writeSync(far.fd, 'before ')
  const bytes = Buffer.from('-with-')
  expect(sendWithFds(far, bytes, 1, 4, [openFile()])).toBe(4)
  writeSync(far.fd, ' after')
  settle(reactor)
  expect(receiver.drained.map((each) => each.bytes).join('')).toBe('before with after')
  expect(receiver.drained.flatMap(({ head }) => head?.fds ?? [])).toHaveLength(1)
})

test('what is packed keeps its order while it moves, grows and shrinks', () => {
  const reactor = openManual()
  const [near, far] = pair(SocketType.Seqpacket)
  socket.set(near.fd, SocketOption.ReceiveBuffer, 1 << 20)
  const receiver = new Receiver(reactor, near, { maxBytes: 64 * 1024 })
  const random = randomNumbers(seed)
  const [first, second] = [new PackedMessages(), new PackedMessages()]
  const sizes: number[] = []
  const moved: number[] = []
  const expected: string[] = []
  const actual = (): string[] => receiver.drained.map(({ bytes }) => bytes)
  for (let step = 0; step < 2000; step++) {
    const text = `${step}:`.padEnd(random(random(20) === 0 ? 20_000 : 100) + 6, 'x')
    if (random(2) === 0) {
      sizes.push(first.push(Buffer.from(text), undefined))
      expected.push(text)
    } else if (sizes.length > 0) {
      const size = sizes.shift() ?? 0
      first.moveTo(second, size, [])
      moved.push(size)
    } else if (moved.length > 0) {
      expect(second.send(far, 1)).toBe(1)
      second.skip(moved.shift() ?? 0)
      settle(reactor)
    }
  }
  for (const size of sizes) {
    first.moveTo(second, size, [])
    moved.push(size)
  }
  for (const size of moved) {
    expect(second.send(far, 1)).toBe(1)
    second.skip(size)
    settle(reactor)
  }
  expect(actual()).toEqual(expected)
  expect([first.size, second.size]).toEqual([0, 0])
})

test('messages that were packed wrongly are refused, not sent', () => {
  const [, far] = pair(SocketType.Seqpacket)
  const packed = new PackedMessages()
  expect(packed.send(far, 1)).toBe(-22) // EINVAL
  const fd = openSync('/dev/null', 'r')
  const handle = FdHandle.adopt(fd)
  packed.push(Buffer.from('x'), undefined, [handle])
  closeSync(fd) // behind its back
  expect(packed.send(far, 1)).toBe(-9) // EBADF
  handle.close()
})

const addon = testAddon()

test(`${inputs} control messages of any bytes are read within bounds`, ({ skip }) => {
  skip(addon === undefined, 'the test addon was not built')
  const random = randomNumbers(seed)
  for (let input = 0; input < inputs; input++) {
    const bytes = randomControl(random)
    const maxFds = random(3) === 0 ? MAX_FDS : random(MAX_FDS + 10)
    const found = [...(addon?.parseControl(bytes, maxFds) ?? [])]
    const wanted = parse(bytes, maxFds)
    if (found.length === wanted.length && found.every((value, index) => value === wanted[index])) continue
    expect.fail(`seed ${seed}, input ${input}: ${bytes.toString('hex')} with ${maxFds}: ${String(found)}`)
  }
}, 60_000)

/** Control messages, mostly as the kernel writes them, then spoilt here and there, and cut. */
function randomControl(random: (limit: number) => number): Buffer {
  const parts: Buffer[] = []
  for (let count = random(6); count > 0; count--) {
    const type = [1, 2, 4, 29, random(64)][random(5)] ?? 0
    const length = [4 * random(300), 12, 4, 16, random(64)][random(5)] ?? 0
    const part = Buffer.alloc(16 + ((length + 7) & ~7))
    part.writeBigUInt64LE(BigInt(16 + length), 0)
    part.writeInt32LE(random(20) === 0 ? random(100) : 1, 8)
    part.writeInt32LE(type, 12)
    for (let at = 16; at < 16 + length; at++) part[at] = random(256)
    parts.push(part)
  }
  if (random(4) === 0) parts.push(Buffer.from(Array.from({ length: random(40) }, () => random(256))))
  const bytes = Buffer.concat(parts)
  for (let spoilt = random(3) === 0 ? random(8) : 0; spoilt > 0 && bytes.length > 0; spoilt--) {
    bytes[random(bytes.length)] = [0, 255, random(256), 16, 127][random(5)] ?? 0
  }
  return random(3) === 0 ? bytes.subarray(0, random(bytes.length + 1)) : bytes
}

/** What a few naive lines make of the same bytes. */
function parse(bytes: Buffer, maxFds: number): number[] {
  const fds: number[] = []
  const excess: number[] = []
  let [more, pidFd, pid, time] = [0, -1, -1, 0]
  const limit = Math.min(maxFds, MAX_FDS)
  for (let rest = bytes; rest.length >= 16;) {
    const length = rest.readBigUInt64LE(0)
    if (length < 16n || length > BigInt(rest.length)) break
    const data = rest.subarray(16, Number(length))
    if (rest.readInt32LE(8) === 1) {
      const type = rest.readInt32LE(12)
      if (type === 1) {
        for (let at = 0; at + 4 <= data.length; at += 4) {
          if (fds.length === limit) more = 1
          const list = more === 0 ? fds : excess
          list.push(data.readInt32LE(at))
        }
      } else if (type === 2) pid = data.length >= 12 ? data.readInt32LE(0) : -1
      else if (type === 4) {
        if (pidFd >= 0) excess.push(pidFd)
        pidFd = data.length >= 4 ? data.readInt32LE(0) : -1
      } else if (type === 29) time = 1
    }
    rest = rest.subarray(Number((length + 7n) & ~7n))
  }
  return [more, pidFd, pid, time, fds.length, ...fds, ...excess]
}
