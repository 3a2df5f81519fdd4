import fc from 'fast-check'
import { expect, test } from 'vitest'
import { assertNoLeakedFds } from '../../core/test/support/fds.js'
import { LATER, StreamQueue } from '../src/stream-queue.js'

assertNoLeakedFds()

const EAGAIN = -11
const EPIPE = -32

/** A kernel that takes at most `room` bytes, and says how often it was called. */
function kernel(room: number) {
  const taken: number[] = []
  const calls: number[] = []
  const send = (bytes: Uint8Array, offset: number, length: number): number => {
    calls.push(length)
    const size = Math.min(length, room - taken.length)
    if (size <= 0) return EAGAIN
    taken.push(...bytes.subarray(offset, offset + size))
    return size
  }
  return { send, taken, calls, grow: (more: number) => (room += more) }
}

test('small pieces leave in one call', () => {
  const queue = new StreamQueue()
  const { send, calls, taken } = kernel(Infinity)
  for (let n = 0; n < 100; n++) queue.borrow(Buffer.from([n]), 0, 1)
  expect(queue.length).toBe(100)
  expect(queue.flush(send)).toBe(0)
  expect(calls).toEqual([100])
  expect(taken).toEqual(Array.from({ length: 100 }, (_, n) => n))
  expect(queue.length).toBe(0)
})

test('a large piece is sent from where it lies', () => {
  const queue = new StreamQueue()
  const large = Buffer.alloc(100_000)
  const seen: Uint8Array[] = []
  queue.borrow(large, 10, 90_000)
  queue.flush((bytes, offset, length) => {
    seen.push(bytes)
    expect([offset, length]).toEqual([10, 90_000])
    return length
  })
  expect(seen[0]).toBe(large)
})

test('what the kernel does not take is copied, and the writer may change its memory', () => {
  const queue = new StreamQueue()
  const { send, taken, grow } = kernel(3)
  const memory = Buffer.from('abcdef')
  queue.borrow(memory, 0, 6)
  queue.flush(send)
  memory.fill('x')
  expect(queue.length).toBe(3)
  grow(100)
  queue.flush(send)
  expect(Buffer.from(taken).toString()).toBe('abcdef')
})

test('an error is passed on', () => {
  const queue = new StreamQueue()
  queue.borrow(Buffer.from('x'), 0, 1)
  expect(queue.flush(() => EPIPE)).toBe(EPIPE)
  queue.clear()
  expect(queue.length).toBe(0)
  expect(queue.flush(() => EPIPE)).toBe(0)
})

test('an item leaves in its place, by its own function, and what is behind it waits', () => {
  const queue = new StreamQueue()
  const { send, taken } = kernel(Infinity)
  const results = [LATER, 2, EAGAIN, 1, 0]
  queue.borrow(Buffer.from('a'), 0, 1)
  queue.push({
    send: () => {
      const result = results.shift() ?? 0
      for (let n = 0; n < result; n++) taken.push(0x2d)
      return result
    },
    drop: () => expect.unreachable(),
  })
  queue.borrow(Buffer.from('b'), 0, 1)
  const states: unknown[] = []
  for (let turn = 0; turn < 3; turn++) {
    expect(queue.flush(send)).toBe(0)
    states.push([Buffer.from(taken).toString(), queue.length, queue.empty, queue.busy, queue.needsRoom])
  }
  expect(states).toEqual([
    ['a', 1, false, true, false],
    ['a--', 1, false, true, true],
    ['a---b', 0, true, false, false],
  ])
})

test('items send a bounded number of bytes in one flush', () => {
  const queue = new StreamQueue()
  let calls = 0
  queue.push({ send: () => (calls++, 300_000), drop: () => undefined })
  expect(queue.flush(() => EAGAIN)).toBe(0)
  expect([calls, queue.needsRoom]).toEqual([4, true])
})

test('an item that breaks the socket, or clears the queue, ends the flush', () => {
  const { send } = kernel(Infinity)
  const dropped: unknown[] = []
  const queue = new StreamQueue()
  queue.push({ send: () => EPIPE, drop: (reason) => dropped.push(reason) })
  expect(queue.flush(send)).toBe(EPIPE)
  const reason = new Error('broken')
  queue.clear(reason)
  expect([dropped, queue.empty]).toEqual([[reason], true])
  queue.push({ send: () => (queue.clear(), 0), drop: () => undefined })
  queue.borrow(Buffer.from('b'), 0, 1)
  expect([queue.flush(send), queue.empty, queue.length]).toEqual([0, true, 0])
})

test('any sequence of writes and flushes sends each byte once and in order, whatever the kernel takes', () => {
  const size = fc.oneof(
    fc.integer({ min: 1, max: 40 }),
    fc.integer({ min: 16_000, max: 17_000 }),
    fc.constant(40_000),
  )
  const write = fc.record({ write: size, offset: fc.integer({ min: 0, max: 9 }) })
  const flush = fc.record({ flush: fc.oneof(fc.integer({ min: 0, max: 30_000 }), fc.constant(200_000)) })
  const item = fc.record({ item: size })
  const seed = Number(process.env['FD_REACTOR_SEED'] ?? 20_261_121)
  console.log(`stream-queue: seed ${seed} (set FD_REACTOR_SEED to repeat)`)
  fc.assert(
    fc.property(
      fc.array(fc.oneof(write, flush, item, fc.constant({ own: true })), { maxLength: 30 }),
      (steps) => {
        const queue = new StreamQueue()
        const taken: number[] = []
        let room = 0
        let written = 0
        let lent: Buffer[] = []
        const send = (bytes: Uint8Array, offset: number, length: number): number => {
          const take = Math.min(length, room)
          if (take === 0) return EAGAIN
          room -= take
          for (const byte of bytes.subarray(offset, offset + take)) taken.push(byte)
          return take
        }
        let inItems = 0
        for (const step of steps) {
          if ('item' in step) {
            const bytes = Buffer.alloc(step.item)
            for (let n = 0; n < step.item; n++) bytes[n] = written++ % 251
            inItems += step.item
            let at = 0
            queue.push({
              send: () => {
                if (at === bytes.length) return 0
                const sent = send(bytes, at, bytes.length - at)
                if (sent > 0) at += sent
                if (sent > 0) inItems -= sent
                return sent
              },
              drop: () => expect.unreachable(),
            })
          } else if ('write' in step) {
            const memory = Buffer.alloc(step.offset + step.write + 5, 255)
            for (let n = 0; n < step.write; n++) memory[step.offset + n] = written++ % 251
            queue.borrow(memory, step.offset, step.write)
            lent.push(memory)
          } else {
            if ('flush' in step) {
              room = step.flush
              expect(queue.flush(send)).toBe(0)
            } else queue.own()
            for (const memory of lent) memory.fill(255)
            lent = []
          }
          expect(queue.length).toBe(written - taken.length - inItems)
        }
        room = Infinity
        queue.flush(send)
        expect(taken).toHaveLength(written)
        expect(taken.every((byte, n) => byte === n % 251)).toBe(true)
      },
    ),
    { seed, numRuns: 300 },
  )
})
