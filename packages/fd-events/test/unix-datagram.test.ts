import { chmodSync, existsSync, readFileSync, statSync } from 'node:fs'
import { FdHandle, once, type Reactor } from '@fd-reactor/core'
import { Domain, socket, SocketType } from '@fd-reactor/core/sys'
import {
  EventFd,
  UnixDatagram,
  UnixListener,
  type MessageInfo,
  type UnixAddress,
} from '@fd-reactor/fd-events'
import { describe, expect, onTestFinished, test } from 'vitest'
import { runForJson } from '../../core/test/support/child.js'
import { assertNoLeakedFds } from '../../core/test/support/fds.js'
import { refusing } from '../../core/test/support/refusing.js'
import { openReactor, socketPath } from '../../core/test/support/reactors.js'
import { cpuMsDuring, until, within } from '../../core/test/support/wait.js'
import { encodeUnixAddress, unnamedUnixAddress } from '../src/unix-address.js'
import { abstractName, devNull, fullReceiver, openNulls, Outcomes } from './message-helpers.js'
import { quiet } from './unix-helpers.js'

assertNoLeakedFds()

/** How many datagrams a receiver's queue takes here. */
const SO_PASSPIDFD = 76
const ENOPROTOOPT = 92
const QUEUE = Number(readFileSync('/proc/sys/net/unix/max_dgram_qlen', 'utf8')) + 1

/** What a socket hears, as text. */
function heardBy(datagram: UnixDatagram): string[] {
  const heard: string[] = []
  datagram.on('message', (bytes) => heard.push(String(bytes)))
  return heard
}

/** Runs `action` inside a handler. */
async function inHandler(reactor: Reactor, action: () => void): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    reactor.defer(() => {
      try {
        action()
        resolve()
      } catch (error) {
        reject(error instanceof Error ? error : new Error(String(error)))
      }
    })
  })
}

describe('addresses', () => {
  test.each<[string, () => UnixAddress]>([
    ['a path', socketPath],
    ['an abstract name', abstractName],
  ])('%s receives, and answers go to where messages came from', async (_, address) => {
    const reactor = openReactor()
    const server = UnixDatagram.bind(reactor, address())
    server.on('message', (bytes, { from }) => {
      expect(from).toEqual(client.address)
      if (from !== undefined) server.send(`${String(bytes)} too`, { to: from })
    })
    const client = UnixDatagram.bind(reactor, address())
    client.send('you', { to: server.address ?? '' })
    const [answer] = await within(once(client, 'message'))
    expect(String(answer)).toBe('you too')
  })

  test('the kernel chooses a name, or there is none', async () => {
    const reactor = openReactor()
    const server = UnixDatagram.bind(reactor, abstractName())
    const froms: (UnixAddress | undefined)[] = []
    server.on('message', (_, { from }) => froms.push(from))
    const named = UnixDatagram.connect(reactor, server.address ?? '', { autobind: true })
    const unnamed = UnixDatagram.open(reactor)
    expect([named.address, unnamed.address]).toEqual([
      { abstract: expect.stringMatching(/^[0-9a-f]{5}$/) },
      undefined,
    ])
    named.send('1')
    unnamed.send('2', { to: server.address ?? '' })
    await until(() => froms.length === 2)
    expect(froms).toEqual([named.address, undefined])
  })

  test('a connected socket hears from its peer alone', async () => {
    const reactor = openReactor()
    const peer = UnixDatagram.bind(reactor, abstractName())
    const near = UnixDatagram.connect(reactor, peer.address ?? '', { bind: abstractName() })
    const heard = heardBy(near)
    const stranger = UnixDatagram.open(reactor)
    const outcomes = new Outcomes()
    stranger.send('no', { to: near.address ?? '' }, outcomes.next())
    peer.send('yes', { to: near.address ?? '' })
    await until(() => heard.length > 0)
    expect([heard, outcomes.words]).toEqual([['yes'], ['EPERM']])
  })

  test('a file gets its mode and goes with its socket', () => {
    const reactor = openReactor()
    const path = socketPath()
    const datagram = UnixDatagram.bind(reactor, path, { mode: 0o622 })
    expect(statSync(path).mode & 0o777).toBe(0o622)
    datagram.close()
    expect(existsSync(path)).toBe(false)
  })

  test('a dead file is taken over, a live one is not', async () => {
    const reactor = openReactor()
    const path = socketPath()
    const first = UnixDatagram.bind(reactor, path)
    expect(() => UnixDatagram.bind(reactor, path)).toThrow(
      `EADDRINUSE: address already in use, bind '${path}'. Another process listens there, or the file is not a dead socket`,
    )
    first.detach().handle.close() // the file stays, as after a kill
    expect(existsSync(path)).toBe(true)
    const heard = heardBy(UnixDatagram.bind(reactor, path))
    UnixDatagram.connect(reactor, path).send('you')
    await until(() => heard.length > 0)
  })

  test('a live stream listener is not taken for a dead datagram socket', () => {
    const reactor = openReactor()
    const { path } = UnixListener.listen(reactor, socketPath())
    expect(() => UnixDatagram.bind(reactor, path)).toThrow('EADDRINUSE')
  })
})

describe('receiving', () => {
  test('messages keep their bounds and order, empty ones too', async () => {
    const reactor = openReactor()
    const server = UnixDatagram.bind(reactor, abstractName())
    const heard = heardBy(server)
    const client = UnixDatagram.connect(reactor, server.address ?? '')
    const sent = Array.from({ length: 200 }, (_, n) => 'x'.repeat(n % 7))
    for (const text of sent) client.send(text)
    await until(() => heard.length === 200)
    expect(heard).toEqual(sent)
    expect(server.stats).toMatchObject({ received: 200 })
    expect(client.stats).toMatchObject({ sent: 200, dropped: 0, failed: 0, queued: 0 })
  })

  test('a message that is longer than maxMessageBytes says so', async () => {
    const reactor = openReactor()
    const server = UnixDatagram.bind(reactor, abstractName(), { maxMessageBytes: 4 })
    const client = UnixDatagram.connect(reactor, server.address ?? '')
    client.send('123456789')
    client.send('1234')
    const heard: [string, number | undefined][] = []
    server.on('message', (bytes, { truncatedFrom }) => heard.push([String(bytes), truncatedFrom]))
    await until(() => heard.length === 2)
    expect(heard).toEqual([
      ['1234', 9],
      ['1234', undefined],
    ])
  })

  test('a message that brings nothing has an info that costs nothing', async () => {
    const reactor = openReactor()
    const server = UnixDatagram.bind(reactor, abstractName())
    const infos = new Set<MessageInfo>()
    server.on('message', (_, info) => infos.add(info))
    const client = UnixDatagram.connect(reactor, server.address ?? '')
    client.send('1')
    client.send('2')
    await until(() => server.stats.received === 2)
    expect([...infos]).toEqual([
      { from: undefined, credentials: undefined, fds: [], pidFd: undefined, truncatedFrom: undefined },
    ])
  })

  test('who sent it is vouched for by the kernel', async () => {
    const reactor = openReactor()
    const server = UnixDatagram.bind(reactor, abstractName(), { credentials: true, pidFd: true })
    UnixDatagram.connect(reactor, server.address ?? '').send('it is me')
    const [, { credentials, pidFd }] = await within(once(server, 'message'))
    expect(credentials).toEqual({ pid: process.pid, uid: process.getuid?.(), gid: process.getgid?.() })
    expect(readFileSync(`/proc/self/fdinfo/${pidFd?.fd}`, 'utf8')).toContain(`Pid:\t${process.pid}`)
    pidFd?.close()
  })

  test('a borrowed view is the slab, and can be sent on', async () => {
    const reactor = openReactor()
    const server = UnixDatagram.bind(reactor, abstractName(), { borrow: true })
    const slabs = new Set<ArrayBufferLike>()
    server.on('message', (bytes, { from }) => {
      slabs.add(bytes.buffer)
      if (from !== undefined) server.send(bytes, { to: from })
    })
    const client = UnixDatagram.connect(reactor, server.address ?? '', { autobind: true })
    const heard = heardBy(client)
    client.send('one')
    client.send('two')
    await until(() => heard.length === 2)
    expect(heard).toEqual(['one', 'two'])
    expect(slabs.size).toBe(1)
  })

  test('what was drained before pause() comes at resume(), in order', async () => {
    const reactor = openReactor()
    const server = UnixDatagram.bind(reactor, abstractName())
    const client = UnixDatagram.connect(reactor, server.address ?? '')
    for (let n = 0; n < 5; n++) client.send(String(n))
    const heard: string[] = []
    server.on('message', (bytes) => {
      heard.push(String(bytes))
      if (heard.length === 2) server.pause()
    })
    await quiet()
    expect(heard).toEqual(['0', '1'])
    server.resume()
    await until(() => heard.length === 5)
    expect(heard).toEqual(['0', '1', '2', '3', '4'])
  })

  test('iteration gives messages and what they brought, and leaves the rest', async () => {
    const reactor = openReactor()
    const server = UnixDatagram.bind(reactor, abstractName())
    const client = UnixDatagram.connect(reactor, server.address ?? '')
    for (let n = 0; n < 5; n++) client.send(String(n))
    for await (const [bytes, info] of server) {
      expect([String(bytes), info.fds]).toEqual(['0', []])
      break
    }
    const heard = heardBy(server)
    await until(() => heard.length === 4)
    expect(heard).toEqual(['1', '2', '3', '4'])
    expect(server.stats.received).toBe(5)
  })

  test('detach() hands over what was drained and not told', async () => {
    const reactor = openReactor()
    const server = UnixDatagram.bind(reactor, abstractName(), { maxFds: 1 })
    const client = UnixDatagram.connect(reactor, server.address ?? '')
    client.send('1')
    client.send('2', { fds: [devNull()] })
    client.send('3')
    const [handle, unread] = await new Promise<[FdHandle, [Buffer, MessageInfo][]]>((resolve) => {
      server.on('message', () => {
        const detached = server.detach()
        resolve([detached.handle, detached.unread])
      })
    })
    expect(unread.map(([bytes, { fds }]) => [String(bytes), fds.length])).toEqual([
      ['2', 1],
      ['3', 0],
    ])
    for (const [, { fds }] of unread) for (const fd of fds) fd.close()
    const again = UnixDatagram.from(reactor, handle)
    client.send('4')
    const [bytes] = await within(once(again, 'message'))
    expect(String(bytes)).toBe('4')
  })

  test('somebody else who shuts the socket ends it, with a reason', async () => {
    const reactor = openReactor()
    const server = UnixDatagram.bind(reactor, abstractName())
    server.on('message', () => undefined)
    const failed = within(once(server, 'error'))
    socket.shutdownRead(server.fd)
    const [error] = await failed
    expect(error.message).toMatch(
      /^ESHUTDOWN: .*, recvmmsg 'UnixDatagram \d+'. Another holder of the socket has shut it for reading$/,
    )
    expect(server.closed).toBe(true)
  })

  test('a peer that turns to another loses what it was sent, and that is told', async () => {
    const reactor = openReactor()
    const [a, b] = [abstractName(), abstractName()]
    const first = UnixDatagram.bind(reactor, a)
    const second = UnixDatagram.connect(reactor, a, { bind: b })
    expect(socket.connect(first.fd, encodeUnixAddress(b, 'connect'))).toBe(0)
    second.on('message', () => undefined)
    const lost = within(once(second, 'lost'))
    second.send('never read')
    const third = UnixDatagram.bind(reactor, abstractName()).address ?? ''
    expect(socket.connect(first.fd, encodeUnixAddress(third, 'connect'))).toBe(0)
    const [error] = await lost
    expect(error.code).toBe('ECONNRESET')
    expect(second.closed).toBe(false)
  })
})

describe('sending', () => {
  test('what one handler sends leaves together when it returns', async () => {
    const reactor = openReactor()
    const server = UnixDatagram.bind(reactor, abstractName())
    const client = UnixDatagram.connect(reactor, server.address ?? '')
    const outcomes = new Outcomes()
    const memory = Buffer.from('0')
    await inHandler(reactor, () => {
      for (let n = 0; n < 5; n++) client.send(n === 0 ? memory : String(n), undefined, outcomes.next())
      expect([client.stats.queued, client.stats.sent]).toEqual([5, 0])
      expect(outcomes.count('waiting')).toBe(5)
    })
    await quiet()
    memory.fill('x')
    expect(outcomes.words).toEqual(Array(5).fill('sent'))
    const heard = heardBy(server)
    await until(() => heard.length === 5)
    expect(heard).toEqual(['0', '1', '2', '3', '4'])
  })

  test('outside of a handler it leaves at once, and its end may be told before send() returns', () => {
    const reactor = openReactor()
    const server = UnixDatagram.bind(reactor, abstractName())
    const outcomes = new Outcomes()
    const client = UnixDatagram.open(reactor)
    expect(client.send('x', { to: server.address ?? '' }, outcomes.next())).toBe(true)
    expect(outcomes.words).toEqual(['sent'])
  })

  test('one receiver after the other, by one handler', async () => {
    const reactor = openReactor()
    const servers = [0, 1, 2].map(() => UnixDatagram.bind(reactor, abstractName()))
    const heard = servers.map(heardBy)
    const client = UnixDatagram.open(reactor)
    await inHandler(reactor, () => {
      for (let n = 0; n < 4; n++)
        for (const { address = '' } of servers) client.send(String(n), { to: address })
    })
    await until(() => heard.every(({ length }) => length === 4))
    expect(heard).toEqual(Array(3).fill(['0', '1', '2', '3']))
  })

  test('an error of one destination ends that send only', async () => {
    const reactor = openReactor()
    const server = UnixDatagram.bind(reactor, abstractName())
    const heard = heardBy(server)
    const client = UnixDatagram.open(reactor)
    const outcomes = new Outcomes()
    const gone = socketPath()
    await inHandler(reactor, () => {
      client.send('1', { to: server.address ?? '' }, outcomes.next())
      client.send('2', { to: gone }, outcomes.next())
      client.send('3', { to: { abstract: 'nobody has this name' } }, outcomes.next())
      client.send('4', { to: server.address ?? '' }, outcomes.next())
    })
    await until(() => heard.length === 2)
    expect(outcomes.words).toEqual(['sent', 'ENOENT', 'ECONNREFUSED', 'sent'])
    expect(String(outcomes.list[1])).toBe(
      `SystemError: ENOENT: no such file or directory, sendmsg '${gone}'. Nobody receives there`,
    )
    expect(client.closed).toBe(false)
  })

  test('an error that no callback takes is told by an event, and else once by a warning', async () => {
    const reactor = openReactor()
    const client = UnixDatagram.open(reactor)
    const warnings: Error[] = []
    const onWarning = (warning: Error): void => void warnings.push(warning)
    process.on('warning', onWarning)
    onTestFinished(() => void process.off('warning', onWarning))
    client.send('1', { to: { abstract: 'nobody' } })
    client.send('2', { to: { abstract: 'nobody' } })
    await until(() => warnings.length > 0)
    expect(warnings.map(({ message }) => message)).toEqual([
      expect.stringMatching(
        /^ECONNREFUSED: connection refused, sendmsg '@nobody'. Nobody receives there \(UnixDatagram \d+ tells later ones only to/,
      ),
    ])
    const lost: string[] = []
    client.on('lost', ({ code }) => lost.push(code))
    client.send('3', { to: { abstract: 'nobody' } })
    expect(lost).toEqual(['ECONNREFUSED'])
    expect(client.stats.failed).toBe(3)
  })

  test('a receiver that was started anew is found again', async () => {
    const reactor = openReactor()
    const address = abstractName()
    const first = UnixDatagram.bind(reactor, address)
    const client = UnixDatagram.connect(reactor, address)
    const outcomes = new Outcomes()
    client.send('1', undefined, outcomes.next())
    first.close()
    client.send('2', undefined, outcomes.next())
    client.send('3', undefined, outcomes.next())
    const second = UnixDatagram.bind(reactor, address)
    const heard = heardBy(second)
    client.send('4', undefined, outcomes.next())
    client.send('5', undefined, outcomes.next())
    await until(() => heard.length === 2)
    expect(outcomes.words).toEqual(['sent', 'ECONNREFUSED', 'ECONNREFUSED', 'sent', 'sent'])
    expect(heard).toEqual(['4', '5'])
  })

  test('a message that is too large is explained', () => {
    const reactor = openReactor()
    const server = UnixDatagram.bind(reactor, abstractName())
    const client = UnixDatagram.connect(reactor, server.address ?? '', { sendBuffer: 10_000 })
    const outcomes = new Outcomes()
    client.send(Buffer.alloc(30_000), undefined, outcomes.next())
    client.send(Buffer.alloc(20_000 - 32), undefined, outcomes.next())
    expect(String(outcomes.list[0])).toBe(
      `SystemError: EMSGSIZE: message too long, sendmsg '@${(server.address as { abstract: string }).abstract}'. The message has 30000 bytes, ` +
        'and SO_SNDBUF (20000) allows 19968: raise sendBuffer (at most /proc/sys/net/core/wmem_max), or send less at a time',
    )
    expect(outcomes.words[1]).toBe('sent')
  })
})

describe('congestion', () => {
  test.each([true, false])(
    "'wait': everything arrives, in order, each once (connected: %s)",
    async (connected) => {
      const reactor = openReactor()
      const server = fullReceiver(reactor)
      const to = server.address ?? ''
      const client = connected ? UnixDatagram.connect(reactor, to) : UnixDatagram.open(reactor)
      const outcomes = new Outcomes()
      let drained = 0
      client.on('drain', () => drained++)
      const sent = Array.from({ length: 500 }, (_, n) => `message ${n}`.padEnd(200))
      let full = 0
      for (const text of sent) if (!client.send(text, connected ? {} : { to }, outcomes.next())) full++
      expect(outcomes.count('sent')).toBe(QUEUE)
      expect(client.stats).toMatchObject({ sent: QUEUE, queued: 500 - QUEUE })
      expect(client.writableLength).toBe(200 * (500 - QUEUE))
      expect(full).toBe(500 - QUEUE - Math.floor((64 * 1024) / 200))
      const heard = heardBy(server)
      await until(() => heard.length === 500)
      expect(heard).toEqual(sent)
      expect(outcomes.count('sent')).toBe(500)
      await until(() => drained > 0)
      await quiet()
      expect(drained).toBe(1)
    },
  )

  test.each([true, false])('waiting does not spin (connected: %s)', async (connected) => {
    const reactor = openReactor()
    const server = fullReceiver(reactor)
    const to = server.address ?? ''
    const client = connected ? UnixDatagram.connect(reactor, to) : UnixDatagram.open(reactor)
    for (let n = 0; n < 50; n++) client.send('x', connected ? {} : { to })
    expect(await cpuMsDuring(500)).toBeLessThan(100)
    expect(client.stats.queued).toBe(50 - QUEUE)
  })

  test('a slow receiver does not hold up the others', async () => {
    const reactor = openReactor()
    const slow = fullReceiver(reactor)
    const quick = UnixDatagram.bind(reactor, abstractName())
    const heard = heardBy(quick)
    const client = UnixDatagram.open(reactor)
    const sent: string[] = []
    for (let n = 0; n < 100; n++) {
      client.send(`slow ${n}`, { to: slow.address ?? '' })
      client.send(`quick ${n}`, { to: quick.address ?? '' })
      sent.push(`quick ${n}`)
    }
    await until(() => heard.length === 100)
    expect(heard).toEqual(sent)
    expect(client.stats.queued).toBe(100 - QUEUE)
    const late = heardBy(slow)
    await until(() => late.length === 100)
    expect(late).toEqual(sent.map((text) => text.replace('quick', 'slow')))
  })

  test("'wait' refuses what is beyond queueLimit, and says what to do", () => {
    const reactor = openReactor()
    const server = fullReceiver(reactor)
    const client = UnixDatagram.open(reactor, { queueLimit: 5 })
    const outcomes = new Outcomes()
    for (let n = 0; n < QUEUE + 7; n++) client.send('x', { to: server.address ?? '' }, outcomes.next())
    expect([outcomes.count('sent'), outcomes.count('waiting'), outcomes.count('ENOBUFS')]).toEqual([
      QUEUE,
      5,
      2,
    ])
    expect(String(outcomes.list.at(-1))).toMatch(
      /ENOBUFS: no buffer space available, sendmsg '@.*'. 5 messages wait for it already \(queueLimit\): go on at 'drain' when send\(\) returned false$/,
    )
  })

  test("'drop-new' drops what comes when the queue is full", async () => {
    const reactor = openReactor()
    const server = fullReceiver(reactor)
    const client = UnixDatagram.open(reactor, { onCongestion: 'drop-new', queueLimit: 2 })
    const outcomes = new Outcomes()
    for (let n = 0; n < QUEUE + 4; n++) client.send(String(n), { to: server.address ?? '' }, outcomes.next())
    expect(outcomes.words.slice(QUEUE)).toEqual(['waiting', 'waiting', 'dropped', 'dropped'])
    const heard = heardBy(server)
    await until(() => heard.length === QUEUE + 2)
    expect(heard.slice(QUEUE)).toEqual([String(QUEUE), String(QUEUE + 1)])
    expect(client.stats).toMatchObject({ sent: QUEUE + 2, dropped: 2, queued: 0 })
  })

  test("'drop-new' with no queue drops at once", () => {
    const reactor = openReactor()
    const server = fullReceiver(reactor)
    const client = UnixDatagram.connect(reactor, server.address ?? '', {
      onCongestion: 'drop-new',
      queueLimit: 0,
    })
    for (let n = 0; n < QUEUE + 4; n++) client.send('x')
    expect(client.stats).toMatchObject({ sent: QUEUE, dropped: 4, queued: 0 })
  })

  test("'drop-old' keeps the newest", async () => {
    const reactor = openReactor()
    const server = fullReceiver(reactor)
    const client = UnixDatagram.open(reactor, { onCongestion: 'drop-old', queueLimit: 2 })
    const outcomes = new Outcomes()
    for (let n = 0; n < QUEUE + 4; n++) client.send(String(n), { to: server.address ?? '' }, outcomes.next())
    expect(outcomes.words.slice(QUEUE)).toEqual(['dropped', 'dropped', 'waiting', 'waiting'])
    const heard = heardBy(server)
    await until(() => heard.length === QUEUE + 2)
    expect(heard.slice(QUEUE)).toEqual([String(QUEUE + 2), String(QUEUE + 3)])
  })

  test("'error' tells at once", () => {
    const reactor = openReactor()
    const server = fullReceiver(reactor)
    const client = UnixDatagram.connect(reactor, server.address ?? '', { onCongestion: 'error' })
    const outcomes = new Outcomes()
    for (let n = 0; n < QUEUE + 2; n++) client.send('x', undefined, outcomes.next())
    expect(outcomes.words.slice(QUEUE)).toEqual(['EAGAIN', 'EAGAIN'])
    expect(String(outcomes.list.at(-1))).toMatch(/EAGAIN: .*, sendmsg '@.*'. The receiver's queue is full$/)
  })

  test('a receiver that dies ends what waits for it', async () => {
    const reactor = openReactor()
    const server = fullReceiver(reactor)
    const other = UnixDatagram.open(reactor)
    const client = UnixDatagram.connect(reactor, server.address ?? '')
    const outcomes = new Outcomes()
    for (let n = 0; n < QUEUE; n++) client.send('x')
    for (let n = 0; n < 3; n++) {
      other.send('x', { to: server.address ?? '' }, outcomes.next())
      client.send('x', undefined, outcomes.next())
    }
    expect(outcomes.count('waiting')).toBe(6)
    server.close()
    await until(() => outcomes.count('waiting') === 0)
    expect(outcomes.count('ECONNREFUSED')).toBe(6)
  })

  test.each(['close', 'destroy', 'detach'] as const)('%s() drops what waits', (how) => {
    const reactor = openReactor()
    const server = fullReceiver(reactor)
    const client = UnixDatagram.connect(reactor, server.address ?? '')
    const outcomes = new Outcomes()
    for (let n = 0; n < QUEUE + 2; n++) client.send('x', undefined, outcomes.next())
    if (how === 'detach') client.detach().handle.close()
    else client[how]()
    expect(outcomes.words.slice(QUEUE)).toEqual(['dropped', 'dropped'])
    expect(client.stats).toMatchObject({ dropped: 2, queued: 0 })
  })

  test('callbacks may send, close and throw', async () => {
    const thrown: unknown[] = []
    const reactor = openReactor({ onHandlerError: (error) => thrown.push(error) })
    const server = fullReceiver(reactor)
    const client = UnixDatagram.connect(reactor, server.address ?? '', { queueLimit: 1 })
    const order: string[] = []
    for (let n = 0; n < QUEUE; n++) client.send('x')
    client.send('waits', undefined, (outcome) => {
      order.push(`waits ${String(outcome)}`)
      throw new Error('from the callback')
    })
    client.send('refused', undefined, () => {
      order.push('refused')
      client.send('refused too', undefined, () => order.push('refused too'))
    })
    expect(order).toEqual(['refused', 'refused too'])
    client.close()
    expect(order.at(-1)).toBe('waits dropped')
    expect(client.closed).toBe(true)
    await until(() => thrown.length === 1)
    expect(String(thrown)).toBe('Error: from the callback')
  })

  test('a callback that throws in a handler holds up no other message', async () => {
    const thrown: unknown[] = []
    const reactor = openReactor({ onHandlerError: (error) => thrown.push(error) })
    const server = fullReceiver(reactor)
    const client = UnixDatagram.open(reactor)
    const to = server.address ?? ''
    const bell = new EventFd(reactor)
    bell.on('event', () => {
      for (let n = 0; n < 3 * QUEUE; n++) {
        client.send('x', { to }, () => {
          if (n % 4 === 0) throw new Error('from the callback')
        })
      }
    })
    bell.write()
    let received = 0
    server.on('message', () => received++)
    await until(() => received === 3 * QUEUE, 'all of them')
    expect(thrown.length).toBeGreaterThan(0)
  })
})

describe('descriptors', () => {
  test('that nobody asked for do not crowd out the pidfd of their sender', async () => {
    const reactor = openReactor()
    const server = UnixDatagram.bind(reactor, abstractName(), { pidFd: true })
    const client = UnixDatagram.connect(reactor, server.address ?? '')
    using file = devNull()
    client.send('with many', { fds: Array.from({ length: 20 }, () => file) })
    const [bytes, { pidFd, fds }] = await within(once(server, 'message'))
    expect([String(bytes), pidFd?.closed, fds]).toEqual(['with many', false, []])
    pidFd?.close()
  })

  test('have their room also on a socket whose former owner asked for credentials', async () => {
    const reactor = openReactor()
    const former = UnixDatagram.bind(reactor, abstractName(), { credentials: true })
    const server = UnixDatagram.from(reactor, former.detach().handle, { maxFds: 1 })
    const client = UnixDatagram.connect(reactor, server.address ?? '')
    using file = devNull()
    client.send('one', { fds: [file] })
    const [bytes, { fds, credentials }] = await within(once(server, 'message'))
    expect([String(bytes), fds.length, credentials]).toEqual(['one', 1, undefined])
    for (const fd of fds) fd.close()
  })

  test('come as handles that are the listener’s', async () => {
    const reactor = openReactor()
    const server = UnixDatagram.bind(reactor, abstractName(), { maxFds: 3 })
    const client = UnixDatagram.connect(reactor, server.address ?? '')
    const file = devNull()
    client.send('three', { fds: [file, file, file] })
    file.close() // it has left already
    const [bytes, { fds }] = await within(once(server, 'message'))
    expect([String(bytes), fds.length]).toEqual(['three', 3])
    for (const fd of fds) {
      expect(readFileSync(`/proc/self/fdinfo/${fd.fd}`, 'utf8')).toMatch(/flags:\s*02/) // O_CLOEXEC
      fd.close()
    }
  })

  test('what waits holds duplicates, which are closed in the end', async () => {
    const reactor = openReactor()
    const before = openNulls()
    const server = fullReceiver(reactor, { maxFds: 1 })
    const client = UnixDatagram.open(reactor, { onCongestion: 'drop-old', queueLimit: 2 })
    for (let n = 0; n < QUEUE + 5; n++) {
      const file = devNull()
      client.send(String(n), { to: server.address ?? '', fds: [file] })
      file.close()
    }
    expect(openNulls()).toBe(before + 2)
    const heard: string[] = []
    server.on('message', (bytes, { fds: [fd] }) => {
      expect(fd?.owned).toBe(true)
      fd?.close()
      heard.push(String(bytes))
    })
    await until(() => heard.length === QUEUE + 2)
    expect(heard.slice(-2)).toEqual([String(QUEUE + 3), String(QUEUE + 4)])
    expect(openNulls()).toBe(before)
  })

  test('are closed with a socket whose messages nobody took', async () => {
    const reactor = openReactor()
    const before = openNulls()
    const server = UnixDatagram.bind(reactor, abstractName(), { maxFds: 1 })
    const client = UnixDatagram.connect(reactor, server.address ?? '')
    const file = devNull()
    for (let n = 0; n < 6; n++) client.send(String(n), { fds: [file] })
    let taken = 0
    server.on('message', (_, { fds: [fd] }) => {
      fd?.close()
      if (++taken === 2) server.pause() // four are drained and kept
    })
    await until(() => taken === 2)
    expect(openNulls()).toBe(before + 5)
    server.close()
    expect(openNulls()).toBe(before + 1)
  })

  test('are closed when the socket is closed in the middle of a batch', async () => {
    const reactor = openReactor()
    const before = openNulls()
    const server = UnixDatagram.bind(reactor, abstractName(), { maxFds: 1 })
    const client = UnixDatagram.connect(reactor, server.address ?? '')
    const file = devNull()
    for (let n = 0; n < 6; n++) client.send(String(n), { fds: [file] })
    server.on('message', (_, { fds: [fd] }) => {
      fd?.close()
      server.close()
    })
    await until(() => server.closed)
    expect(openNulls()).toBe(before + 1)
  })

  test('that are not wanted are closed by the kernel', async () => {
    const reactor = openReactor()
    const server = UnixDatagram.bind(reactor, abstractName())
    const client = UnixDatagram.connect(reactor, server.address ?? '')
    const before = openNulls()
    const file = devNull()
    client.send('with', { fds: [file, file] })
    const [bytes, { fds }] = await within(once(server, 'message'))
    expect([String(bytes), fds]).toEqual(['with', []])
    expect(openNulls()).toBe(before + 1)
  })

  test('that are too many cost their message, and are told', async () => {
    const reactor = openReactor()
    const server = UnixDatagram.bind(reactor, abstractName(), { maxFds: 2 })
    const heard = heardBy(server)
    const client = UnixDatagram.connect(reactor, server.address ?? '')
    const before = openNulls()
    const file = devNull()
    const lost = within(once(server, 'lost'))
    client.send('too many', { fds: [file, file, file] })
    client.send('after')
    const [error] = await lost
    expect(error.code).toBe('ERR_FDS_TRUNCATED')
    expect(error.message).toMatch(
      /^UnixDatagram \d+: a message came with more descriptors than maxFds \(2\), or than this process may still open. All of them were closed, and the message was dropped: raise maxFds, or the limit of open files$/,
    )
    await until(() => heard.length === 1)
    expect(heard).toEqual(['after'])
    expect(openNulls()).toBe(before + 1)
    expect(server.closed).toBe(false)
  })

  test('that were closed are refused', () => {
    const reactor = openReactor()
    const server = UnixDatagram.bind(reactor, abstractName())
    const client = UnixDatagram.connect(reactor, server.address ?? '')
    const file = devNull()
    file.close()
    expect(() => client.send('x', { fds: [file] })).toThrow(
      "UnixDatagram.send option 'fds' must be an array of at most 253 open FdHandles",
    )
    expect(client.stats).toMatchObject({ queued: 0 })
    expect(client.writableLength).toBe(0)
  })
})

describe('what is asked wrongly', () => {
  test('whom to connect to', () => {
    const reactor = openReactor()
    const { path } = UnixListener.listen(reactor, socketPath())
    expect(() => UnixDatagram.connect(reactor, path)).toThrow(
      /^EPROTOTYPE: .*, connect '.*'. The socket there has another type$/,
    )
    const mine = socketPath()
    expect(() => UnixDatagram.connect(reactor, `${path}.not`, { bind: mine })).toThrow('ENOENT')
    expect(existsSync(mine)).toBe(false)
    expect(() => UnixDatagram.connect(reactor, { abstract: 'nobody' })).toThrow(
      "ECONNREFUSED: connection refused, connect '@nobody'. Nobody receives there",
    )
  })

  test('a kernel without SO_PASSPIDFD says so, and serves without it', async (context) => {
    const told = await runForJson(
      `const reactor = new Reactor()
       const told = []
       const open = (options) => {
         try { told.push(events.UnixDatagram.open(reactor, options).closed) } catch (error) { told.push(error.message) }
       }
       open({})
       open({ pidFd: true })
       console.log(JSON.stringify(told))
       process.exit()`,
      { under: refusing(context, 'setsockopt', 2, SO_PASSPIDFD, ENOPROTOOPT) },
    )
    expect(told).toEqual([
      false,
      "ENOPROTOOPT: protocol not available, setsockopt 'SO_PASSPIDFD'. The kernel passes pidfds from Linux 6.5 on: use the option credentials instead",
    ])
  })
})

test('a socket of a pair, bound to nothing, works from a handle', async () => {
  const reactor = openReactor()
  const handle = new FdHandle(socket.create(Domain.Unix, SocketType.Datagram))
  expect(socket.bind(handle.fd, unnamedUnixAddress)).toBe(0)
  const datagram = UnixDatagram.from(reactor, handle)
  UnixDatagram.open(reactor).send('hi', { to: datagram.address ?? '' })
  const [bytes] = await within(once(datagram, 'message'))
  expect(String(bytes)).toBe('hi')
})

test('permissions of the file decide who may send', () => {
  const reactor = openReactor()
  const path = socketPath()
  UnixDatagram.bind(reactor, path, { mode: 0o600 })
  expect(statSync(path).mode & 0o777).toBe(0o600)
  chmodSync(path, 0o622)
  expect(statSync(path).mode & 0o777).toBe(0o622)
})
