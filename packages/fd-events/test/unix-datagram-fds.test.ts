/**
 * Very many descriptors passed to another process, by datagrams and by packets, with messages that bring too many, and receivers that
 * close in between: both processes end with the descriptors that they began with.
 *
 * FD_REACTOR_FDS says how many.
 */
import { Reactor, SystemError, type FdHandle } from '@fd-reactor/core'
import { UnixDatagram, UnixSeqpacket, type SendOptions, type SendOutcome } from '@fd-reactor/fd-events'
import { expect, test } from 'vitest'
import { runForJson } from '../../core/test/support/child.js'
import { assertNoLeakedFds, countFds } from '../../core/test/support/fds.js'
import { turn } from '../../core/test/support/wait.js'
import { abstractName, devNull, openNulls } from './message-helpers.js'

assertNoLeakedFds()

const total = Number(process.env['FD_REACTOR_FDS'] ?? 6000)
const timeoutMs = 30_000 + total / 10

/** Takes and closes what comes; a message 'close' closes its receiver, with whatever is behind it, and 'stop' ends it all. */
const RECEIVER = `
  import { readdirSync } from 'node:fs'
  const open = () => readdirSync('/proc/self/fd').length
  const [, datagrams, packets] = process.argv
  const counts = { received: 0, truncated: 0, before: 0, after: 0 }
  const reactor = new Reactor()
  events.UnixDatagram.open(reactor).close() // with the timer that stays
  counts.before = open()
  const take = (bytes, { fds }) => {
    counts.received += fds.length
    for (const fd of fds) fd.close()
    return String(bytes)
  }
  let datagram
  const bind = () => {
    datagram = events.UnixDatagram.bind(reactor, { abstract: datagrams }, { maxFds: 4 })
    datagram.on('lost', () => counts.truncated++)
    datagram.on('message', (...message) => {
      if (take(...message) !== 'close') return
      datagram.close()
      bind()
    })
  }
  bind()
  const listener = events.UnixSeqpacketListener.listen(reactor, { abstract: packets }, { maxFds: 4 })
  listener.on('connection', (connection) => {
    connection.on('error', () => counts.truncated++)
    connection.on('message', (...message) => {
      const text = take(...message)
      if (text !== '') connection.close()
      if (text !== 'stop') return
      listener.close()
      datagram.close()
    })
  })
  await reactor.run({ keepOpen: true })
  counts.after = open()
  reactor.close()
  console.log(JSON.stringify(counts))`

interface Counts {
  received: number
  truncated: number
  before: number
  after: number
}

/** What is sent with, over and over: until as many descriptors as wanted have left. */
class Load {
  readonly #files: FdHandle[]
  passed = 0
  truncated = 0
  #messages = 0

  constructor(file: FdHandle) {
    this.#files = Array.from({ length: 5 }, () => file)
  }

  /** The next message: mostly four descriptors, now and then one too many, or the order to close. */
  next(
    send: (bytes: string, options: SendOptions, settled: (outcome: SendOutcome) => void) => boolean,
  ): boolean {
    this.#messages++
    const fds = this.#messages % 101 === 0 ? 5 : 1 + (this.#messages % 4)
    const bytes = this.#messages % 97 === 0 ? 'close' : ''
    return send(bytes, { fds: this.#files.slice(0, fds) }, (outcome) => {
      if (outcome !== 'sent') return
      this.passed += fds
      if (fds === 5) this.truncated++
    })
  }
}

test(
  `${total} descriptors go to another process, and none stays behind`,
  { timeout: timeoutMs },
  async () => {
    const file = devNull()
    const [datagrams, packets] = [abstractName(), abstractName()]
    const before = { ...countFds(), nulls: openNulls() }
    const reactor = new Reactor()
    const receiver = runForJson(RECEIVER, { args: [datagrams.abstract, packets.abstract], timeoutMs })

    const connect = async (): Promise<UnixSeqpacket> => {
      for (;;) {
        try {
          const connection = await UnixSeqpacket.connect(reactor, packets)
          connection.on('error', () => undefined) // the other side closes now and then
          return connection.on('message', () => undefined)
        } catch (error) {
          if (!(error instanceof SystemError) || error.code !== 'ECONNREFUSED') throw error
          await turn()
        }
      }
    }
    let connection = await connect()
    const byPackets = new Load(file)
    while (byPackets.passed < total / 2) {
      if (connection.closed) connection = await connect()
      else if (!byPackets.next((...message) => connection.send(...message)) || byPackets.passed % 64 === 0)
        await turn()
    }
    const sender = UnixDatagram.open(reactor)
    sender.on('lost', () => undefined)
    const byDatagrams = new Load(file)
    while (byDatagrams.passed < total / 2) {
      const going = byDatagrams.next((bytes, options, settled) =>
        sender.send(bytes, { ...options, to: datagrams }, settled),
      )
      if (!going || byDatagrams.passed % 64 === 0) await turn()
    }
    while (sender.stats.queued > 0) await turn()
    connection.close()
    await stop(await connect())
    const counts = (await receiver) as Counts
    reactor.close()

    expect(counts.after).toBe(counts.before)
    expect({ ...countFds(), nulls: openNulls() }).toEqual(before)
    // What was in a queue when its receiver closed has left here and not come there.
    expect(counts.received).toBeGreaterThan(total / 2)
    expect(counts.truncated).toBeGreaterThan(0)
  },
)

async function stop(connection: UnixSeqpacket): Promise<void> {
  connection.send('stop')
  await new Promise<void>((resolve) => void connection.on('close', resolve))
}
