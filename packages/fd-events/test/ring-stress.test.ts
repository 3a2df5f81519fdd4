/**
 * No lost wakeup: two processes, a ring so small that both sleep often, and pauses at random places. FD_REACTOR_RING_MESSAGES says how many.
 */
import { expect, test } from 'vitest'
import { runForJson } from '../../core/test/support/child.js'
import { socketPath } from '../../core/test/support/reactors.js'
import { assertNothingLeft } from './ring-helpers.js'

assertNothingLeft()

const total = Number(process.env['FD_REACTOR_RING_MESSAGES'] ?? 300_000)
const seed = Number(process.env['FD_REACTOR_SEED'] ?? Date.now() & 0xfffffff)
/** A million messages take about a second. */
const limit = 60_000 + total / 50
/** What both have: random numbers, ways to pause, and a watchdog that ends the process when nothing moves. */
const COMMON = `
const [address, total, seed] = [process.argv[1], Number(process.argv[2]), Number(process.argv[3])]
let state = seed
const random = (limit) => {
  state ^= state << 13
  state ^= state >>> 17
  state ^= state << 5
  return (state >>> 0) % limit
}
const cell = new Int32Array(new SharedArrayBuffer(4))
const block = () => Atomics.wait(cell, 0, 0, random(40) / 1000)
let count = 0
let before = -1
let still = 0
const dog = setInterval(() => {
  still = count === before ? still + 1 : 0
  before = count
  if (still < 20) return
  console.error('stalled at', count, link?.writer.stats, link?.reader.stats)
  process.exit(1)
}, 1000)
let link
const reactor = new Reactor()
`
const READER = `${COMMON}
const listener = events.UnixSeqpacketListener.listen(reactor, address)
link = await events.accept(reactor, (await once(listener, 'connection'))[0], { reader: { borrow: 'offsets' } })
listener.close()
const { reader } = link
const { words } = reader
let wrong = 0
reader.on('message', (data, at, length, sequence) => {
  const word = at >> 2
  const last = word + (length >> 2) - 1
  if (sequence !== count >>> 0 || words[word] !== (count | 0) || words[last] !== (count ^ length) || length !== lengthOf(count)) wrong++
  count++
  const dice = random(4096)
  if (dice < 4) block()
  else if (dice < 8) {
    reader.pause()
    if (dice < 6) setImmediate(() => reader.resume())
    else setTimeout(() => reader.resume(), random(2))
  }
})
reader.on('end', () => {
  console.log(JSON.stringify({ count, wrong }))
  clearInterval(dog)
  link.close()
  reactor.close()
})
function lengthOf(index) { return 8 + (Math.imul(index, 2654435761) >>> 28) * 4 }
`
const WRITER = `${COMMON}
for (;;) {
  try {
    link = await events.offer(reactor, address, { capacity: 65536 })
    break
  } catch (error) {
    if (error.code !== 'ENOENT' && error.code !== 'ECONNREFUSED') throw error
    await turn() // the other process is not there yet
  }
}
const { writer } = link
const { words } = writer
let drains = 0
writer.on('drain', () => { drains++; pump() })
function pump() {
  while (count < total) {
    for (let left = 1 + random(400); left > 0 && count < total; left--, count++) {
      const length = lengthOf(count)
      const at = writer.claim(length)
      if (at < 0) return writer.commit()
      words[at >> 2] = count
      words[(at + length >> 2) - 1] = count ^ length
    }
    writer.commit()
    const dice = random(64)
    if (dice === 0) block()
    else if (dice === 1) return void setImmediate(pump)
    else if (dice === 2 && random(16) === 0) return void setTimeout(pump, random(2))
  }
  writer.close()
  const { rung } = writer.stats
  link.on('gone', () => {
    console.log(JSON.stringify({ drains, rung }))
    clearInterval(dog)
    link.close()
    reactor.close()
  })
}
pump()
function lengthOf(index) { return 8 + (Math.imul(index, 2654435761) >>> 28) * 4 }
`

test(
  `${total} messages and random pauses on both sides never stall`,
  async () => {
    const args = [socketPath(), String(total), String(seed)]
    const began = performance.now()
    const [reader, writer] = await Promise.all([
      runForJson(READER, { args, timeoutMs: limit }),
      runForJson(WRITER, { args, timeoutMs: limit }),
    ])
    const seconds = ((performance.now() - began) / 1000).toFixed(1)
    console.log(`seed ${seed}: ${total} messages in ${seconds} s, ${JSON.stringify(writer)}`)
    expect(reader).toMatchObject({ count: total, wrong: 0 })
  },
  limit,
)
