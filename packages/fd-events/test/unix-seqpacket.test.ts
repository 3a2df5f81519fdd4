import { readFileSync, statSync } from 'node:fs'
import { FdHandle, once, Reactor } from '@fd-reactor/core'
import { Domain, socket, SocketType } from '@fd-reactor/core/sys'
import { ms, UnixSeqpacket, UnixSeqpacketListener, UnixStream } from '@fd-reactor/fd-events'
import { describe, expect, test } from 'vitest'
import { assertNoLeakedFds } from '../../core/test/support/fds.js'
import { openManual, openReactor, settle, socketPath } from '../../core/test/support/reactors.js'
import { cpuMsDuring, until, within } from '../../core/test/support/wait.js'
import { abstractName, devNull, openNulls, Outcomes, packetPair } from './message-helpers.js'
import { quiet, thrownBy } from './unix-helpers.js'

assertNoLeakedFds()

/** What a connection hears, as text, and its events. */
function heardBy(connection: UnixSeqpacket): string[] {
  const heard: string[] = []
  connection.on('message', (bytes) => heard.push(String(bytes)))
  connection.on('end', () => heard.push('(end)'))
  connection.on('error', (error) => heard.push(`(${String(Reflect.get(error, 'code'))})`))
  connection.on('close', () => heard.push('(close)'))
  return heard
}

describe('messages', () => {
  test('keep their bounds and order, and empty ones are no end', async () => {
    const [near, peer] = await packetPair(openReactor())
    const heard = heardBy(near)
    for (const text of ['one', '', 'three', '', '']) peer.send(text)
    await until(() => heard.length === 5)
    expect(heard).toEqual(['one', '', 'three', '', ''])
    peer.end()
    await until(() => heard.includes('(close)'))
    expect(heard.slice(5)).toEqual(['(end)', '(close)'])
  })

  test('an empty one as the last is told, and then the end', async () => {
    const [near, peer] = await packetPair(openReactor())
    peer.send('')
    peer.close()
    const heard = heardBy(near)
    await until(() => heard.includes('(close)'))
    expect(heard).toEqual(['', '(end)', '(close)'])
  })

  test('that are cut say so', async () => {
    const [near, peer] = await packetPair(openReactor(), { maxMessageBytes: 3 })
    peer.send('12345')
    const [bytes, { truncatedFrom }] = await within(once(near, 'message'))
    expect([String(bytes), truncatedFrom]).toEqual(['123', 5])
  })

  test('that are too large end their own send, with an explanation', async () => {
    const [near, peer] = await packetPair(openReactor(), { sendBuffer: 10_000 })
    const heard = heardBy(near)
    const outcomes = new Outcomes()
    peer.send(Buffer.alloc(20_000), undefined, outcomes.next())
    peer.send('after', undefined, outcomes.next())
    expect(String(outcomes.list[0])).toBe(
      'SystemError: EMSGSIZE: message too long, sendmsg. The message has 20000 bytes, and SO_SNDBUF (20000) allows 19968: ' +
        'raise sendBuffer (at most /proc/sys/net/core/wmem_max), or send less at a time',
    )
    await until(() => heard.length > 0)
    expect(heard).toEqual(['after'])
  })

  test('the largest that a receiver can ask for comes whole', async () => {
    const [near, peer] = await packetPair(openReactor({}), {
      maxMessageBytes: 212 * 1024,
      sendBuffer: 1 << 20,
    })
    peer.send(Buffer.alloc(212 * 1024, 'x'))
    peer.send(Buffer.alloc(212 * 1024 + 1, 'y'))
    const lengths: [number, number | undefined][] = []
    near.on('message', (bytes, { truncatedFrom }) => lengths.push([bytes.length, truncatedFrom]))
    await until(() => lengths.length === 2)
    expect(lengths).toEqual([
      [217088, undefined],
      [217088, 217089],
    ])
  })

  test('the same by a source of high priority, whose slab holds one', async () => {
    const [near, peer] = await packetPair(openReactor(), {
      maxMessageBytes: 212 * 1024,
      sendBuffer: 1 << 20,
      priority: 'high',
      maxFds: 253,
    })
    const file = devNull()
    const fds = Array.from({ length: 253 }, () => file)
    for (let n = 0; n < 3; n++) peer.send(Buffer.alloc(200_000, String(n)), { fds })
    const heard: string[] = []
    near.on('message', (bytes, info) => {
      for (const fd of info.fds) fd.close()
      heard.push(`${bytes.length} ${bytes.toString('latin1', 0, 1)} ${info.fds.length}`)
    })
    await until(() => heard.length === 3)
    expect(heard).toEqual(['200000 0 253', '200000 1 253', '200000 2 253'])
  })

  test('who is at the other end, and who sent each', async () => {
    const [near, peer] = await packetPair(openReactor(), { credentials: true, pidFd: true })
    const self = { pid: process.pid, uid: process.getuid?.(), gid: process.getgid?.() }
    expect([near.peer, peer.peer]).toEqual([self, self])
    expect(near.peerGroups).toEqual(expect.any(Array))
    using pidFd = near.peerPidFd()
    peer.send('x')
    const [, info] = await within(once(near, 'message'))
    expect(info.credentials).toEqual(self)
    for (const fd of [pidFd, info.pidFd])
      expect(readFileSync(`/proc/self/fdinfo/${fd?.fd}`, 'utf8')).toContain(`Pid:\t${process.pid}`)
    info.pidFd?.close()
  })

  test('a borrowed view echoes without a copy', async () => {
    const reactor = openReactor()
    const [near, peer] = await packetPair(reactor, {})
    const echo = UnixSeqpacket.from(reactor, near.detach().handle, { borrow: true })
    echo.on('message', (bytes) => echo.send(bytes))
    const heard = heardBy(peer)
    for (let n = 0; n < 50; n++) peer.send(`message ${n}`)
    await until(() => heard.length === 50)
    expect(heard).toEqual(Array.from({ length: 50 }, (_, n) => `message ${n}`))
  })
})

describe('backpressure', () => {
  test('what does not fit waits, in order, and drain comes once', async () => {
    const [near, peer] = await packetPair(openReactor())
    const sent = Array.from({ length: 1000 }, (_, n) => `${n}`.padEnd(1000, 'x'))
    const outcomes = new Outcomes()
    let drained = 0
    peer.on('drain', () => drained++)
    const answers = sent.map((text) => peer.send(text, undefined, outcomes.next()))
    expect(answers.includes(false)).toBe(true)
    expect(outcomes.count('waiting')).toBe(peer.stats.queued)
    expect(peer.stats.queued).toBeGreaterThan(100)
    const heard = heardBy(near)
    await until(() => heard.length === 1000)
    expect(heard).toEqual(sent)
    expect(outcomes.count('sent')).toBe(1000)
    await until(() => drained === 1)
  })

  test('waiting does not spin', async () => {
    const [, peer] = await packetPair(openReactor())
    for (let n = 0; n < 1000; n++) peer.send(Buffer.alloc(1000))
    expect(peer.stats.queued).toBeGreaterThan(0)
    expect(await cpuMsDuring(300)).toBeLessThan(60)
  })

  test('queueLimit holds, and so do the policies', async () => {
    const [, peer] = await packetPair(openReactor(), { queueLimit: 3 })
    const outcomes = new Outcomes()
    while (outcomes.count('ENOBUFS') < 2) peer.send(Buffer.alloc(10_000), undefined, outcomes.next())
    expect(outcomes.words.slice(-5)).toEqual(['waiting', 'waiting', 'waiting', 'ENOBUFS', 'ENOBUFS'])
    peer.close()
    expect(outcomes.words.slice(-5)).toEqual(['dropped', 'dropped', 'dropped', 'ENOBUFS', 'ENOBUFS'])
  })
})

describe('the end', () => {
  test('end() lets what waits leave first', async () => {
    const [near, peer] = await packetPair(openReactor())
    for (let n = 0; n < 500; n++) peer.send(Buffer.alloc(1000, 'x'))
    peer.end()
    expect(peer.stats.queued).toBeGreaterThan(0)
    expect(() => peer.send('more')).toThrow(expect.objectContaining({ code: 'ERR_STREAM_ENDED' }))
    const heard = heardBy(near)
    await until(() => heard.includes('(close)'))
    expect(heard).toHaveLength(502)
    await until(() => peer.closed || near.closed)
  })

  test('half-open: who has ended still hears', async () => {
    const [near, peer] = await packetPair(openReactor(), { allowHalfOpen: true })
    const heard = heardBy(near)
    const answers = heardBy(peer)
    peer.end()
    await until(() => heard.includes('(end)'))
    near.send('still here')
    near.send('')
    near.end()
    await until(() => answers.includes('(close)'))
    expect(answers).toEqual(['still here', '', '(end)', '(close)'])
    expect(heard).toEqual(['(end)', '(close)'])
  })

  test('messages that came before the end are told to who listens late', async () => {
    const [near, peer] = await packetPair(openReactor())
    peer.send('1')
    peer.send('2')
    peer.close()
    await quiet()
    const heard: string[] = []
    for await (const [bytes] of near) heard.push(String(bytes))
    expect(heard).toEqual(['1', '2'])
  })

  test('a peer that closes with messages unread resets, after what it said', async () => {
    const [near, peer] = await packetPair(openReactor())
    near.send('never read')
    peer.send('1')
    peer.send('2')
    peer.close()
    const heard = heardBy(near)
    await until(() => heard.includes('(close)'))
    expect(heard).toEqual(['1', '2', '(end)', '(ECONNRESET)', '(close)'])
  })

  test('sending to who has gone ends every send, and the connection with an error', async () => {
    const [near, peer] = await packetPair(openReactor())
    peer.close()
    const outcomes = new Outcomes()
    const heard: string[] = []
    near.on('error', (error) => heard.push(error.message))
    near.send('1', undefined, outcomes.next())
    expect(outcomes.words).toEqual(['EPIPE'])
    expect(heard).toEqual([expect.stringMatching(/^EPIPE: broken pipe, sendmsg/)])
    expect(near.closed).toBe(true)
  })

  test('what the peer said before it went comes before the error', async () => {
    const reactor = openManual()
    const [near, peer] = await packetPair(reactor)
    const heard = heardBy(near)
    near.pause()
    peer.send('last words')
    peer.close()
    near.resume()
    const outcomes = new Outcomes()
    near.send('1', undefined, outcomes.next())
    near.send('2', undefined, outcomes.next())
    expect(outcomes.words).toEqual(['EPIPE', 'EPIPE'])
    settle(reactor)
    expect(heard).toEqual(['last words', '(end)', '(EPIPE)', '(close)'])
  })

  test('a peer that resets ends a connection that only sends, too', async () => {
    const reactor = openReactor()
    const [near, peer] = await packetPair(reactor)
    const heard: string[] = []
    near.on('error', (error) => heard.push(error.message))
    near.on('drain', () => expect.unreachable('nothing that waited has left'))
    const outcomes = new Outcomes()
    while (near.send(Buffer.alloc(1000), undefined, outcomes.next()));
    peer.close()
    await until(() => near.closed)
    expect(heard).toEqual([`ECONNRESET: connection reset by peer, recvmmsg '${near.label}'`])
    expect(outcomes.count('sent') + outcomes.count('ECONNRESET')).toBe(outcomes.words.length)
  })

  test('a peer that dies ends what waits', async () => {
    const [near, peer] = await packetPair(openReactor())
    near.on('message', () => undefined)
    near.on('error', () => undefined)
    const outcomes = new Outcomes()
    for (let n = 0; n < 500; n++) near.send(Buffer.alloc(1000), undefined, outcomes.next())
    expect(outcomes.count('waiting')).toBeGreaterThan(0)
    peer.close()
    await until(() => near.closed)
    expect(outcomes.count('waiting')).toBe(0)
    expect(outcomes.count('sent') + outcomes.count('ECONNRESET') + outcomes.count('EPIPE')).toBe(500)
  })

  test('nobody looks at the idle limit of a connection that was detached', async () => {
    const reactor = openReactor()
    const [near, peer] = await packetPair(reactor, { idleTimeout: ms(20) })
    const looks = (): number =>
      reactor.sources().find(({ label }) => label.startsWith('Deadlines'))?.events ?? 0
    await until(() => looks() > 1)
    near.detach().handle.close()
    peer.close()
    const before = looks()
    await cpuMsDuring(100)
    expect(looks() - before).toBeLessThan(2) // the one that was armed
  })

  test('an idle connection times out, a busy one does not', async () => {
    const [near, peer] = await packetPair(openReactor(), { idleTimeout: ms(80) })
    near.on('message', () => undefined)
    let timeouts = 0
    near.on('timeout', () => timeouts++)
    peer.on('timeout', () => undefined)
    const end = performance.now() + 200
    while (performance.now() < end) {
      peer.send('busy')
      await new Promise((resolve) => setTimeout(resolve, 10))
    }
    expect(timeouts).toBe(0)
    await until(() => timeouts > 0)
    peer.off('timeout')
    await until(() => peer.closed)
  })
})

describe('descriptors', () => {
  test('go along, with an empty message too', async () => {
    const [near, peer] = await packetPair(openReactor(), { maxFds: 2 })
    const file = devNull()
    peer.send('', { fds: [file, file] })
    file.close()
    const [bytes, { fds }] = await within(once(near, 'message'))
    expect([bytes.length, fds.length]).toEqual([0, 2])
    for (const fd of fds) fd.close()
  })

  test('a received socket becomes a source', async () => {
    const reactor = openReactor()
    const [near, peer] = await packetPair(reactor, { maxFds: 1 })
    const [a, b] = await packetPair(reactor)
    using handle = a.detach().handle
    peer.send('take this', { fds: [handle] })
    const [, { fds }] = await within(once(near, 'message'))
    const passed = UnixSeqpacket.from(reactor, fds[0] ?? expect.unreachable('it was passed'))
    b.send('through')
    const [bytes] = await within(once(passed, 'message'))
    expect(String(bytes)).toBe('through')
  })

  test('that are too many fail the connection, and none stays open', async () => {
    const [near, peer] = await packetPair(openReactor(), { maxFds: 1 })
    const before = openNulls()
    const file = devNull()
    const failed = within(once(near, 'error'))
    near.on('message', () => expect.unreachable('the message was lost'))
    peer.send('x', { fds: [file, file] })
    const [error] = await failed
    expect(error).toMatchObject({
      code: 'ERR_FDS_TRUNCATED',
      message:
        `${near.label}: a message came with more descriptors than maxFds (1), or than this process may still open. ` +
        'All of them were closed, and the message was dropped: raise maxFds, or the limit of open files',
    })
    expect(near.closed).toBe(true)
    expect(openNulls()).toBe(before + 1)
  })

  test('what waits when the receiver closes is closed, too', async () => {
    const [near, peer] = await packetPair(openReactor(), { maxFds: 1 })
    peer.on('error', () => undefined)
    const before = openNulls()
    const file = devNull()
    for (let n = 0; n < 400; n++) peer.send(Buffer.alloc(1000), { fds: [file] })
    expect(peer.stats.queued).toBeGreaterThan(0)
    expect(openNulls()).toBe(before + 1 + peer.stats.queued)
    near.close()
    peer.on('message', () => undefined)
    await until(() => peer.closed)
    expect(openNulls()).toBe(before + 1)
  })
})

describe('the listener', () => {
  test('serves a path with its mode, and answers', async () => {
    const reactor = openReactor()
    const path = socketPath()
    const listener = UnixSeqpacketListener.listen(reactor, path, { mode: 0o600, maxConnections: 2 })
    expect(statSync(path).mode & 0o777).toBe(0o600)
    listener.on('connection', (connection) =>
      connection.on('message', (bytes) => connection.send(`${String(bytes)}!`)),
    )
    const client = await UnixSeqpacket.connect(reactor, path)
    client.send('hi')
    const [bytes] = await within(once(client, 'message'))
    expect(String(bytes)).toBe('hi!')
    expect(listener.connections).toBe(1)
    client.close()
    await until(() => listener.connections === 0)
  })

  test('refuses whom allow does not let in', async () => {
    const reactor = openReactor()
    const listener = UnixSeqpacketListener.listen(reactor, abstractName(), { allow: { uids: [12_345] } })
    const refused = within(once(listener, 'refused'))
    listener.on('connection', () => expect.unreachable('it was refused'))
    const client = await UnixSeqpacket.connect(reactor, listener.address)
    const heard = heardBy(client)
    const [peer] = await refused
    expect(peer).toMatchObject({ pid: process.pid })
    await until(() => heard.includes('(close)'))
  })

  test('no longer counts a connection that is passed on with detach()', async () => {
    const reactor = openManual()
    const listener = UnixSeqpacketListener.listen(reactor, abstractName(), { maxConnections: 1 })
    const handles: FdHandle[] = []
    listener.on('connection', (connection) => handles.push(connection.detach().handle))
    for (let n = 0; n < 5; n++) await UnixSeqpacket.connect(reactor, listener.address)
    settle(reactor)
    expect([handles.length, listener.connections]).toEqual([5, 0])
    for (const handle of handles) handle.close()
  })

  test('and stream sockets do not mix', async () => {
    const reactor = openReactor()
    const listener = UnixSeqpacketListener.listen(reactor, socketPath())
    await expect(UnixStream.connect(reactor, listener.path)).rejects.toThrow(
      `EPROTOTYPE: protocol wrong type for socket, connect '${listener.path}'. The socket there has another type`,
    )
  })

  test('hands its socket on', async () => {
    const reactor = openReactor()
    const first = UnixSeqpacketListener.listen(reactor, abstractName())
    const { handle } = first.detach()
    const second = UnixSeqpacketListener.from(reactor, handle)
    const connected = within(once(second, 'connection'))
    await UnixSeqpacket.connect(reactor, second.address)
    await connected
  })
})

test('close() inside a handler whose callback throws closes all the same', async () => {
  const thrown: unknown[] = []
  const reactor = openReactor({ onHandlerError: (error) => thrown.push(error) })
  const [near, peer] = await packetPair(reactor)
  const heard = heardBy(peer)
  near.on('message', () => {
    near.send('bye', undefined, () => {
      throw new Error('from the callback')
    })
    near.close()
  })
  peer.send('go')
  await until(() => heard.includes('(close)'))
  expect(heard).toEqual(['bye', '(end)', '(close)'])
  expect([near.closed, thrown.length]).toEqual([true, 1])
})

test('one that has ended, and that nobody reads, closes when the peer has gone', async () => {
  const [near, peer] = await packetPair(openReactor())
  near.end()
  peer.close()
  await until(() => near.closed)
})

test('what is asked wrongly', async () => {
  const reactor = openReactor()
  const [near] = await packetPair(reactor)
  const bad = (action: () => unknown): string => String(thrownBy(action))
  const misspelt: object = { maxConnection: 1 }
  expect(bad(() => Reflect.apply(near.send.bind(near), undefined, ['x', { to: '/tmp/x' }]))).toMatch(
    /^TypeError: UnixSeqpacket.send has no option 'to'/,
  )
  expect(bad(() => UnixSeqpacketListener.listen(reactor, abstractName(), misspelt))).toBe(
    "TypeError: UnixSeqpacketListener has no option 'maxConnection'; did you mean 'maxConnections'?",
  )
  const datagram = new FdHandle(socket.create(Domain.Unix, SocketType.Datagram))
  expect(bad(() => UnixSeqpacket.from(reactor, datagram))).toMatch(
    /^SystemError: EINVAL: .*It is a Unix datagram socket, and must be a Unix seqpacket socket$/,
  )
  datagram.close()
  await expect(UnixSeqpacket.connect(reactor, { abstract: 'nobody listens' })).rejects.toThrow(
    "ECONNREFUSED: connection refused, connect '@nobody listens'. Nobody listens there",
  )
})

test('closing the reactor in a handler leaves nothing behind', async () => {
  const reactor = new Reactor()
  const [near, peer] = await packetPair(reactor, { maxFds: 1 })
  const before = openNulls()
  const file = devNull()
  for (let n = 0; n < 5; n++) peer.send('x', { fds: [file] })
  near.on('message', (_, { fds: [fd] }) => {
    fd?.close()
    reactor.close()
  })
  await until(() => reactor.closed)
  expect(openNulls()).toBe(before + 1)
})
