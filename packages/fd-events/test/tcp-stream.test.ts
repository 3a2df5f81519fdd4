import { spawn, spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once as onceEvent } from 'node:events'
import { connect, createServer, type AddressInfo, type Socket } from 'node:net'
import { once, type Reactor } from '@fd-reactor/core'
import { socket, SocketOption } from '@fd-reactor/core/sys'
import { ms, seconds, TcpListener, TcpStream, type TcpStreamOptions } from '@fd-reactor/fd-events'
import { describe, expect, onTestFinished, test } from 'vitest'
import { runForJson } from '../../core/test/support/child.js'
import { assertNoLeakedFds, countFds } from '../../core/test/support/fds.js'
import { openManual, openReactor } from '../../core/test/support/reactors.js'
import { childEnded, until, within } from '../../core/test/support/wait.js'
import { HOSTS, rawTcpClient, tcpPair } from './tcp-helpers.js'
import { quiet, thrownBy } from './unix-helpers.js'

assertNoLeakedFds()

/** A stream of ours and a socket of Node's at its other end. */
async function withNode(reactor: Reactor, options: TcpStreamOptions = {}): Promise<[TcpStream, Socket]> {
  const listener = TcpListener.listen(reactor, options)
  const peer = connect({ ...listener.address, allowHalfOpen: true })
  peer.on('error', () => undefined)
  onTestFinished(() => void peer.destroy())
  const [stream] = await within(once(listener, 'connection'))
  listener.close()
  return [stream, peer]
}

/** Everything that a stream tells, as text. */
function record(stream: TcpStream): string[] {
  const told: string[] = []
  stream.on('data', (bytes) => told.push(`data ${String(bytes)}`))
  stream.on('end', () => told.push('end'))
  stream.on('error', (error) => told.push(`error ${'code' in error ? String(error.code) : error.message}`))
  stream.on('close', () => told.push('close'))
  return told
}

describe.each(HOSTS)('over %s', (host) => {
  test('bytes go both ways, and each end knows both addresses', async () => {
    const reactor = openReactor()
    const [server, client] = await tcpPair(reactor, { host })
    expect(client.remoteAddress).toEqual(server.localAddress)
    expect(server.remoteAddress).toEqual(client.localAddress)
    expect(client.localAddress?.host).toBe(host)
    const told = [record(server), record(client)]
    server.write('to the client')
    client.end('to the server')
    await until(() => server.closed && client.closed)
    expect(told).toEqual([
      ['data to the server', 'end', 'close'],
      ['data to the client', 'end', 'close'],
    ])
  })

  test('megabytes arrive whole, and backpressure holds the writer back', async () => {
    const reactor = openReactor()
    const [server, client] = await tcpPair(reactor, { host })
    const sent = createHash('sha256')
    const got = createHash('sha256')
    let left = 300
    const feed = (): void => {
      while (left-- > 0) {
        const chunk = Buffer.alloc(50_000, left)
        sent.update(chunk)
        if (!server.write(chunk)) return
      }
      server.end()
    }
    server.on('drain', feed)
    feed()
    expect(server.writableLength).toBeLessThan(200_000)
    for await (const bytes of client) got.update(bytes)
    expect(got.digest('hex')).toBe(sent.digest('hex'))
    expect(client.bytesRead).toBe(15_000_000)
  })
})

describe('the end', () => {
  test('half-open: the peer’s end leaves our side open', async () => {
    const [stream, peer] = await withNode(openReactor(), { allowHalfOpen: true })
    const told = record(stream)
    peer.end('question')
    await until(() => told.includes('end'))
    let answer = ''
    peer.setEncoding('utf8').on('data', (text: string) => (answer += text))
    stream.end('answer')
    await within(onceEvent(peer, 'end'))
    expect([answer, told]).toEqual(['answer', ['data question', 'end', 'close']])
  })

  test('allowHalfOpen can be chosen after construction', async () => {
    const [stream, peer] = await withNode(openReactor())
    stream.allowHalfOpen = true
    const told = record(stream)
    peer.end()
    await until(() => told.includes('end'))
    await quiet()
    expect([stream.closed, stream.allowHalfOpen]).toEqual([false, true])
    stream.end()
    expect(stream.closed).toBe(true)
  })

  test('a reset is ECONNRESET, after what came before it', async () => {
    const [stream, peer] = await withNode(openReactor())
    stream.pause()
    const told = record(stream)
    peer.write('last words')
    await within(new Promise((resolve) => peer.write('!', resolve)))
    peer.resetAndDestroy()
    await within(onceEvent(peer, 'close'))
    stream.resume()
    await until(() => stream.closed)
    expect(told).toEqual(['data last words!', 'error ECONNRESET', 'close'])
    expect(stream.remoteAddress).toBeUndefined()
  })

  test('writing to a peer that has reset is an error and a close, also while nobody reads', async () => {
    const [stream, peer] = await withNode(openReactor())
    const errors: unknown[] = []
    stream.on('error', (error) => errors.push('code' in error && error.code))
    peer.resetAndDestroy()
    await within(onceEvent(peer, 'close'))
    await until(() => {
      if (!stream.closed) stream.write('anybody?')
      return stream.closed
    })
    expect(errors).toHaveLength(1)
    expect(['EPIPE', 'ECONNRESET']).toContain(errors[0])
  })

  test('closing with bytes unread resets the peer', async () => {
    const [stream, peer] = await withNode(openReactor())
    const closed = within(new Promise((resolve) => peer.once('close', resolve)))
    let code: unknown
    peer.on('error', (error) => (code = 'code' in error && error.code)).resume()
    peer.write('unread')
    await until(() => stream.readableLength === 6)
    stream.close()
    await closed
    expect(code).toBe('ECONNRESET')
  })
})

describe('options', () => {
  const optionsOf = ({ fd }: TcpStream): number[] =>
    [
      SocketOption.NoDelay,
      SocketOption.KeepAlive,
      SocketOption.KeepIdle,
      SocketOption.KeepInterval,
      SocketOption.KeepCount,
      SocketOption.UserTimeout,
    ].map((option) => socket.get(fd, option))

  test('Nagle is off by default, and the rest is the kernel’s', async () => {
    for (const stream of await tcpPair(openReactor())) {
      expect(optionsOf(stream).slice(0, 2)).toEqual([1, 0])
      expect(optionsOf(stream)[5]).toBe(0)
    }
  })

  test.each<[TcpStreamOptions, number[]]>([
    [{ noDelay: false, keepAlive: true }, [0, 1]],
    [
      { keepAlive: { idleNs: seconds(30), intervalNs: ms(1500), count: 4 }, userTimeout: ms(2500) },
      [1, 1, 30, 2, 4, 2500],
    ],
  ])('%j is set on what is accepted, connected, and taken over', async (options, wanted) => {
    const reactor = openReactor()
    const listener = TcpListener.listen(reactor, options)
    const client = await TcpStream.connect(reactor, { ...listener.address, ...options })
    const [server] = await within(once(listener, 'connection'))
    const plain = await tcpPair(reactor)
    const taken = TcpStream.from(reactor, plain[0].detach().handle, options)
    for (const stream of [server, client, taken])
      expect(optionsOf(stream).slice(0, wanted.length)).toEqual(wanted)
  })

  test('buffers are set before the connection is made', async () => {
    const reactor = openReactor()
    const [server, client] = await tcpPair(reactor, { receiveBuffer: 20_000, sendBuffer: 30_000 })
    expect(socket.get(server.fd, SocketOption.ReceiveBuffer)).toBe(40_000)
    expect(socket.get(server.fd, SocketOption.SendBuffer)).toBe(60_000)
    expect(socket.get(client.fd, SocketOption.ReceiveBuffer)).not.toBe(40_000)
  })

  test('from() refuses what is no connected TCP socket', () => {
    const reactor = openReactor()
    const { handle } = TcpListener.listen(reactor).detach()
    onTestFinished(() => handle.close())
    expect(() => TcpStream.from(reactor, handle)).toThrow(
      /^EINVAL: invalid argument, getsockopt 'fd \d+'\. It is a listening IPv4 stream socket, and must be a TCP stream socket$/,
    )
  })
})

test('TCP Fast Open: the first bytes go with the SYN, or right behind it', async () => {
  const reactor = openReactor()
  const listener = TcpListener.listen(reactor, { fastOpen: 16 })
  listener.on('connection', (stream) => stream.on('data', (bytes) => stream.write(bytes)))
  for (let round = 0; round < 2; round++) {
    const stream = await TcpStream.connect(reactor, { ...listener.address, fastOpen: true })
    stream.write('early')
    expect(String((await within(once(stream, 'data')))[0])).toBe('early')
    stream.destroy()
  }
})

describe('peers that other people wrote', () => {
  test('a server of Node’s own', async () => {
    const server = createServer((peer) => peer.pipe(peer)).listen(0, '127.0.0.1')
    onTestFinished(() => void server.close())
    await onceEvent(server, 'listening')
    const { port } = server.address() as AddressInfo
    const stream = await TcpStream.connect(openReactor(), { host: '127.0.0.1', port })
    stream.end('there and back')
    let text = ''
    for await (const bytes of stream) text += String(bytes)
    expect(text).toBe('there and back')
  })

  test.for([
    { command: 'socat', host: '127.0.0.1', args: (port: number) => ['-t1', '-', `TCP4:127.0.0.1:${port}`] },
    { command: 'socat', host: '::1', args: (port: number) => ['-t1', '-', `TCP6:[::1]:${port}`] },
    { command: 'nc', host: '127.0.0.1', args: (port: number) => ['-N', '127.0.0.1', `${port}`] },
  ])('$command talks to an echo server on $host', async ({ command, host, args }, { skip }) => {
    skip(spawnSync('which', [command]).status !== 0, `${command} is not installed`)
    const listener = TcpListener.listen(openReactor(), { host })
    listener.on('connection', (stream) => stream.on('data', (bytes) => stream.write(bytes)))
    const child = spawn(command, args(listener.address.port))
    let text = ''
    child.stdout.setEncoding('utf8').on('data', (chunk: string) => (text += chunk))
    child.stdin.end('hello from outside\n')
    await childEnded(child)
    expect(text).toBe('hello from outside\n')
    await until(() => listener.connections === 0)
  })

  test('socat listens', async ({ skip }) => {
    skip(spawnSync('which', ['socat']).status !== 0, 'socat is not installed')
    // A port that was free a moment ago; the kernel gives out another one to whoever asks for any.
    const reactor = openReactor()
    const free = TcpListener.listen(reactor)
    free.close()
    const child = spawn('socat', [
      '-d',
      '-d',
      `TCP4-LISTEN:${free.address.port},bind=127.0.0.1`,
      'SYSTEM:cat',
    ])
    let log = ''
    child.stderr.setEncoding('utf8').on('data', (chunk: string) => (log += chunk))
    await until(() => log.includes('listening on'))
    const stream = await TcpStream.connect(reactor, free.address)
    stream.end('round')
    let text = ''
    stream.allowHalfOpen = true
    for await (const bytes of stream) text += String(bytes)
    expect(text).toBe('round')
    await childEnded(child)
  })
})

describe('TcpListener', () => {
  test('tells where it listens, as listen() takes it', () => {
    const reactor = openManual()
    const listener = TcpListener.listen(reactor, { host: '::1' })
    expect(listener.address.port).toBeGreaterThan(0)
    expect(listener.uri).toBe(`tcp://[::1]:${listener.address.port}`)
    expect(TcpListener.listen(reactor).address.host).toBe('127.0.0.1')
  })

  test('the port can be taken again at once, also while an old connection lingers', async () => {
    const reactor = openReactor()
    const listener = TcpListener.listen(reactor)
    const client = await TcpStream.connect(reactor, listener.address)
    const [server] = await within(once(listener, 'connection'))
    listener.close()
    server.close() // first to close: TIME_WAIT is on this side
    client.destroy()
    TcpListener.listen(reactor, listener.address)
  })

  test('a port that is taken is EADDRINUSE, unless both share it', async () => {
    const reactor = openReactor()
    const first = TcpListener.listen(reactor, { reusePort: true })
    const before = countFds()
    const error = thrownBy(() => TcpListener.listen(reactor, first.address))
    expect(error).toMatchObject({ code: 'EADDRINUSE', path: `127.0.0.1:${first.address.port}` })
    expect(String(error)).toContain('Another process listens there')
    expect(countFds()).toEqual(before)
    const second = TcpListener.listen(reactor, { ...first.address, reusePort: true })
    for (const listener of [first, second]) listener.on('connection', (stream) => stream.close())
    let seen = 0
    for (const listener of [first, second]) listener.on('connection', () => seen++)
    for (let n = 0; n < 40; n++) rawTcpClient(first.address)
    await until(() => seen === 40)
    expect(Math.min(first.stats.events, second.stats.events)).toBeGreaterThan(0)
  })

  test.each<[object, new () => Error, string]>([
    [{ host: 'localhost' }, TypeError, "'localhost' is no IP address"],
    [{ port: 65_536 }, RangeError, "TcpListener option 'port' must be an integer from 0 to 65535, not 65536"],
    [{ path: '/s' }, TypeError, "TcpListener has no option 'path'"],
    [
      { host: '240.0.0.1' },
      Error,
      "EADDRNOTAVAIL: address not available, bind '240.0.0.1:0'. This machine has no such address",
    ],
  ])('%j is refused with a message', (options, kind, message) => {
    const before = countFds()
    const reactor = openManual()
    expect(() => TcpListener.listen(reactor, options)).toThrow(kind)
    expect(() => TcpListener.listen(reactor, options)).toThrow(message)
    reactor.close()
    expect(countFds()).toEqual(before)
  })

  test('a low port needs a capability', async ({ skip }) => {
    const without = ['--bounding-set', '-net_bind_service', '--inh-caps', '-net_bind_service']
    const under = ['unshare', '-n', 'setpriv', ...without]
    skip(
      spawnSync('unshare', [...under.slice(1), 'true']).status !== 0,
      'a network namespace without the capability cannot be made here',
    )
    const told = await runForJson(
      `try { events.TcpListener.listen(new Reactor(), { host: '0.0.0.0', port: 80 }) } catch (error) { console.log(JSON.stringify(error.message)) }
       process.exit()`,
      { under },
    )
    expect(told).toBe(
      "EACCES: permission denied, bind '0.0.0.0:80'. Ports below 1024 need CAP_NET_BIND_SERVICE",
    )
  })

  test("'::' takes IPv4 as well, unless ipv6Only", async () => {
    const reactor = openReactor()
    const both = TcpListener.listen(reactor, { host: '::' })
    rawTcpClient({ host: '127.0.0.1', port: both.address.port })
    const [stream] = await within(once(both, 'connection'))
    expect(stream.remoteAddress?.host).toBe('::ffff:127.0.0.1')
    const only = TcpListener.listen(reactor, { host: '::', ipv6Only: true })
    await expect(
      TcpStream.connect(reactor, { host: '127.0.0.1', port: only.address.port }),
    ).rejects.toMatchObject({
      code: 'ECONNREFUSED',
    })
  })

  test('maxConnections leaves the next ones in the backlog', async () => {
    const reactor = openReactor()
    const listener = TcpListener.listen(reactor, { maxConnections: 2 })
    const streams: TcpStream[] = []
    listener.on('connection', (stream) => streams.push(stream))
    for (let n = 0; n < 5; n++) rawTcpClient(listener.address)
    await quiet()
    expect(streams).toHaveLength(2)
    streams[0]?.destroy()
    await until(() => streams.length === 3)
    expect(listener.connections).toBe(2)
  })

  test('end() gives out who waits, and refuses who comes later', async () => {
    const reactor = openReactor()
    const listener = TcpListener.listen(reactor, { maxConnections: 1 })
    let seen = 0
    listener.on('connection', () => seen++)
    for (let n = 0; n < 5; n++) rawTcpClient(listener.address)
    await until(() => seen === 1)
    listener.end()
    expect([seen, listener.closed]).toEqual([5, true])
    await expect(TcpStream.connect(reactor, listener.address)).rejects.toMatchObject({ code: 'ECONNREFUSED' })
  })

  test('detach() hands over the listening socket, and nobody is refused', async () => {
    const reactor = openReactor()
    const { handle } = TcpListener.listen(reactor).detach()
    const listener = TcpListener.from(reactor, handle, { noDelay: false })
    rawTcpClient(listener.address)
    const [stream] = await within(once(listener, 'connection'))
    expect(socket.get(stream.fd, SocketOption.NoDelay)).toBe(0)
  })
})
