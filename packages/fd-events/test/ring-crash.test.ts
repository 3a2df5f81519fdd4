/**
 * SIGKILL at random moments: FD_REACTOR_KILLS times the one side of a link dies, and the other one goes on with a successor.
 */
import { spawn, type ChildProcess } from 'node:child_process'
import { readdirSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { once } from '@fd-reactor/core'
import {
  offer,
  SharedMemory,
  UnixSeqpacketListener,
  type RingLink,
  type UnixSeqpacket,
} from '@fd-reactor/fd-events'
import { expect, onTestFinished, test } from 'vitest'
import { openReactor, socketPath } from '../../core/test/support/reactors.js'
import { childEnded, until, within } from '../../core/test/support/wait.js'
import { check, fill, lengthOf, Note, random } from './fixtures/ring-crash-kit.mjs'
import { assertNothingLeft, shmName } from './ring-helpers.js'

assertNothingLeft()

const kills = Number(process.env['FD_REACTOR_KILLS'] ?? 15)
const seed = Number(process.env['FD_REACTOR_SEED'] ?? Date.now() & 0xfffffff)
const PEER = fileURLToPath(new URL('fixtures/ring-crash-peer.mjs', import.meta.url))
const WAIT_MS = 20_000

interface Peer {
  child: ChildProcess
  notes: Int32Array
}

/** Starts one with notes of its own. */
function start(address: string, index: number, side = 'accept'): Peer {
  const name = shmName(String(index))
  const memory = SharedMemory.create(4096, { name })
  const mapping = memory.map()
  const notes = new Int32Array(mapping.buffer)
  notes[Note.First] = notes[Note.Start] = -1
  const child = spawn(process.execPath, [PEER, address, name, String(seed + index), side], {
    stdio: ['ignore', 'ignore', 'inherit'],
  })
  onTestFinished(async () => {
    child.kill('SIGKILL')
    await childEnded(child)
    mapping.unmap()
    memory.close()
    SharedMemory.unlink(name)
  })
  return { child, notes }
}

function note(peer: Peer, index: number): number {
  return Atomics.load(peer.notes, index)
}

test(
  `${kills} deaths of one side lose nothing, repeat nothing that was acknowledged, and tear nothing`,
  async () => {
    const dice = random(seed)
    const reactor = openReactor()
    const address = socketPath()
    const listener = UnixSeqpacketListener.listen(reactor, address)
    const waiting: UnixSeqpacket[] = []
    listener.on('connection', (connection) => waiting.push(connection))
    const nextConnection = async (): Promise<UnixSeqpacket> => {
      await until(() => waiting.length > 0, 'a successor', WAIT_MS)
      return waiting.shift() ?? expect.unreachable()
    }

    let peer = start(address, 0)
    const link: RingLink = await offer(reactor, await nextConnection(), { capacity: 8192 })
    onTestFinished(() => {
      link.close()
    })
    const { reader, writer } = link
    let heard = 0
    let wrong = 0
    reader.on('message', (bytes, sequence) => {
      if (sequence !== heard || !check(bytes, sequence)) wrong++
      heard = sequence + 1
      if (dice(200) !== 0) return
      reader.pause()
      setTimeout(() => reader.resume(), dice(2))
    })
    const pump = (): void => {
      if (writer.closed) return
      for (;;) {
        for (let left = 1 + dice(20); left > 0; left--) {
          const { sequence } = writer
          const at = writer.claim(lengthOf(sequence))
          if (at < 0) return writer.commit()
          fill(writer.bytes.subarray(at, at + lengthOf(sequence)), sequence)
        }
        writer.commit()
        if (dice(8) === 0) return void setTimeout(pump, dice(2))
      }
    }
    writer.on('drain', pump)
    pump()

    const late: number[] = []
    let again = 0
    let found = 0
    let released = { least: 0, most: 0 }
    let committed = { least: 0, most: 0 }
    for (let index = 1; index <= kills; index++) {
      const successor = start(address, index)
      const connection = await nextConnection()
      await until(() => note(peer, Note.First) >= 0 && note(peer, Note.Start) >= 0, 'messages', WAIT_MS)
      // It goes on where the one before it stopped.
      expect(note(peer, Note.First)).toBeGreaterThanOrEqual(released.least)
      expect(note(peer, Note.First)).toBeLessThanOrEqual(released.most)
      again += Math.max(0, found - note(peer, Note.First))
      expect(note(peer, Note.Start)).toBeGreaterThanOrEqual(committed.least)
      expect(note(peer, Note.Start)).toBeLessThanOrEqual(committed.most)
      const before = heard
      if (dice(4) > 0) await until(() => heard > before, 'a message of this one', WAIT_MS)
      await new Promise((resolve) => setTimeout(resolve, dice(12)))

      const gone = new Promise<number>((resolve) => link.once('gone', () => resolve(performance.now())))
      const killed = performance.now()
      peer.child.kill('SIGKILL')
      late.push((await within(gone, "'gone'")) - killed)
      await childEnded(peer.child)
      expect([peer.child.signalCode, note(peer, Note.Wrong)]).toEqual(['SIGKILL', 0])
      const first = note(peer, Note.First)
      released = {
        least: Math.max(first, note(peer, Note.Released)),
        most: Math.max(first, note(peer, Note.Releasing)),
      }
      const started = note(peer, Note.Start)
      committed = {
        least: Math.max(started, note(peer, Note.Committed)),
        most: Math.max(started, note(peer, Note.Committing)),
      }
      found = note(peer, Note.Found)
      await until(() => heard >= committed.least, 'what was committed', WAIT_MS)
      expect(heard).toBeLessThanOrEqual(committed.most)
      expect(wrong).toBe(0)
      await link.offer(connection)
      peer = successor
    }
    const all = heard
    await until(() => heard > all, 'a message of the last one', WAIT_MS)
    late.sort((a, b) => a - b)
    const [median = 0, most = 0, slowest = 0] = [0.5, 0.99, 1].map(
      (part) => late[Math.ceil(part * kills) - 1],
    )
    console.log(
      `seed ${seed}: ${kills} kills, ${heard} messages in and ${writer.sequence} out; told after ${median.toFixed(1)} ms, ${most.toFixed(1)} (99 %), ${slowest.toFixed(1)} at the latest; ` +
        `${again} messages came again`,
    )
    expect(slowest).toBeLessThan(1000) // the requirement is 100 ms on a machine that has the time
    expect(wrong).toBe(0)
    listener.close()
    peer.child.kill('SIGKILL')
    await childEnded(peer.child)
  },
  60_000 + kills * 2000,
)

test('when both sides die, nothing is left', async () => {
  const rounds = Math.min(kills, 2)
  for (let round = 0; round < rounds; round++) {
    const address = socketPath()
    const reactor = openReactor()
    // The test only brings them together: each side's socket is passed through to the other one by the same address.
    const listener = UnixSeqpacketListener.listen(reactor, address, { maxFds: 6 })
    const peers = [start(address, 1000 + 2 * round), start(address, 1001 + 2 * round, 'offer')]
    const sockets: UnixSeqpacket[] = []
    for (let index = 0; index < 2; index++) {
      const [socket] = await within(once(listener, 'connection'), 'a side', WAIT_MS)
      sockets.push(socket)
    }
    for (const [index, socket] of sockets.entries()) {
      socket.on('message', (bytes, { fds }) => {
        sockets[1 - index]?.send(bytes, { fds })
        for (const fd of fds) fd.close()
      })
    }
    await until(() => peers.every((peer) => note(peer, Note.First) >= 0), 'messages', WAIT_MS)
    for (const { child } of peers) child.kill('SIGKILL')
    for (const { child } of peers) await childEnded(child)
    for (const peer of peers) expect(note(peer, Note.Wrong)).toBe(0)
    reactor.close()
  }
  // The rings have no names. What has one is the notes, which go with the test.
  expect(readdirSync('/dev/shm').filter((name) => name.startsWith(shmName('')))).toHaveLength(2 * rounds)
})
