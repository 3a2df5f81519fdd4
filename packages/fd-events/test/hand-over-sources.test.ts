/**
 * What a hand-over asks of sources: a listener that leaves its socket to another, the ownership of its file, and streams that go on where
 * a detached one stopped.
 */
import { existsSync, unlinkSync, writeFileSync } from 'node:fs'
import { FdHandle, type Reactor } from '@fd-reactor/core'
import { transfer } from '@fd-reactor/core/sys'
import { TcpListener, TcpStream, UnixListener, UnixStream, type Borrow } from '@fd-reactor/fd-events'
import { describe, expect, test } from 'vitest'
import { assertNoLeakedFds } from '../../core/test/support/fds.js'
import { openManual, openReactor, settle, socketPath } from '../../core/test/support/reactors.js'
import { until } from '../../core/test/support/wait.js'
import { pair, rawClient, readNow, writeAll } from './unix-helpers.js'

assertNoLeakedFds()

/** A second source on the same listening socket, as a successor has it. */
function sharing(reactor: Reactor, listener: UnixListener): UnixListener {
  return UnixListener.from(reactor, new FdHandle(transfer.duplicate(listener.fd)))
}

describe('leave()', () => {
  test('stops accepting, and who connects goes to the other holder of the socket', () => {
    const reactor = openManual()
    const listener = UnixListener.listen(reactor, socketPath())
    const other = sharing(reactor, listener)
    const accepted: string[] = []
    listener.on('connection', () => accepted.push('first'))
    rawClient(listener.path)
    settle(reactor)
    listener.unlinkOnClose = false
    listener.leave()
    listener.leave()
    rawClient(listener.path)
    settle(reactor)
    expect([accepted, listener.closed, existsSync(listener.path)]).toEqual([['first'], true, true])
    other.on('connection', () => accepted.push('other'))
    settle(reactor)
    expect(accepted).toEqual(['first', 'other'])
  })

  test('tells what was accepted in the batch that is being delivered', () => {
    const reactor = openManual()
    const listener = UnixListener.listen(reactor, socketPath())
    const other = sharing(reactor, listener)
    const heard: UnixStream[] = []
    listener.on('connection', (stream) => {
      heard.push(stream)
      listener.leave()
    })
    const clients = [1, 2, 3].map(() => rawClient(listener.path))
    settle(reactor)
    other.on('connection', (stream) => heard.push(stream))
    settle(reactor)
    expect(heard.length).toBe(3)
    for (const stream of heard) stream.write('hello')
    expect(clients.map((client) => String(readNow(client)))).toEqual(['hello', 'hello', 'hello'])
  })

  test('tells them all and closes, even when a listener throws', async () => {
    const errors: unknown[] = []
    const reactor = openManual({ onHandlerError: (error) => void errors.push(error) })
    const listener = UnixListener.listen(reactor, socketPath())
    const heard: UnixStream[] = []
    listener.on('connection', (stream) => {
      heard.push(stream)
      if (heard.length === 1) listener.pause()
      else throw new Error('no')
    })
    for (let n = 0; n < 4; n++) rawClient(listener.path)
    reactor.dispatch()
    expect(heard.length).toBe(1)
    listener.leave()
    expect([heard.length, listener.closed]).toEqual([4, true])
    await until(() => reactor.dispatch() === 0 && errors.length === 3)
    expect(errors.map(String)).toEqual(['Error: no', 'Error: no', 'Error: no'])
  })

  test('tells what was accepted before pause()', () => {
    const reactor = openManual()
    const listener = UnixListener.listen(reactor, socketPath())
    const heard: UnixStream[] = []
    listener.on('connection', (stream) => {
      heard.push(stream)
      listener.pause()
    })
    for (let n = 0; n < 3; n++) rawClient(listener.path)
    reactor.dispatch()
    expect(heard.length).toBe(1)
    listener.leave()
    expect(heard.length).toBe(3)
  })

  test('ends an iteration after what was accepted', async () => {
    const reactor = openReactor()
    const listener = UnixListener.listen(reactor, socketPath())
    let heard = 0
    const iterating = (async () => {
      for await (const stream of listener) {
        expect(stream.closed).toBe(false)
        heard++
        if (heard === 1) listener.leave()
      }
    })()
    for (let n = 0; n < 20; n++) rawClient(listener.path)
    await iterating
    expect(heard).toBeGreaterThanOrEqual(1)
  })

  test('leaves a TCP port open', async () => {
    const reactor = openReactor()
    const listener = TcpListener.listen(reactor)
    const { host, port } = listener.address
    const other = TcpListener.from(reactor, new FdHandle(transfer.duplicate(listener.fd)))
    listener.on('connection', () => expect.unreachable('it has left'))
    listener.leave()
    let accepted = 0
    other.on('connection', () => accepted++)
    await TcpStream.connect(reactor, { host, port })
    await until(() => accepted === 1)
  })
})

describe("the socket's file", () => {
  test('can change its owner', () => {
    const reactor = openManual()
    const listener = UnixListener.listen(reactor, socketPath())
    const other = sharing(reactor, listener)
    expect([listener.unlinkOnClose, other.unlinkOnClose]).toEqual([true, false])
    listener.unlinkOnClose = false
    other.unlinkOnClose = true
    expect([listener.unlinkOnClose, other.unlinkOnClose]).toEqual([false, true])
    listener.close()
    expect(existsSync(other.path)).toBe(true)
    other.close()
    expect(existsSync(other.path)).toBe(false)
  })

  test('that is not there, or is no socket, becomes nobody’s', () => {
    const reactor = openManual()
    const listener = UnixListener.listen(reactor, socketPath(), { unlinkOnClose: false })
    unlinkSync(listener.path)
    listener.unlinkOnClose = true
    expect(listener.unlinkOnClose).toBe(false)
    writeFileSync(listener.path, 'somebody else')
    listener.unlinkOnClose = true
    expect(listener.unlinkOnClose).toBe(false)
    listener.close()
    expect(existsSync(listener.path)).toBe(true)
  })

  test('of an abstract name is none', () => {
    const reactor = openManual()
    const listener = UnixListener.listen(reactor, { abstract: `fd-reactor-${process.pid}-file` })
    listener.unlinkOnClose = true
    expect(listener.unlinkOnClose).toBe(false)
  })
})

describe('a stream that is made of what detach() gave', () => {
  test.each([false, true, 'offsets'] as const)(
    'delivers first what was unread (borrow: %j)',
    async (borrow) => {
      const reactor = openReactor()
      const [stream, peer] = await pair(reactor)
      writeAll(peer, 'one,')
      stream.once('data', () => stream.pause())
      await until(() => stream.bytesRead === 4)
      writeAll(peer, 'two,')
      const detached = stream.detach()
      const next = UnixStream.from<Borrow>(
        reactor,
        { ...detached, unread: Buffer.from('one again,') },
        { borrow },
      )
      expect(next.readableLength).toBe('one again,two,'.length)
      writeAll(peer, 'three')
      let heard = ''
      next.on('data', (bytes: Buffer, offset = 0, length = bytes.length) => {
        heard += bytes.subarray(offset, offset + length).toString()
      })
      await until(() => heard.endsWith('three'))
      expect([heard, next.bytesRead]).toEqual(['one again,two,three', heard.length])
    },
  )

  test('sends first what was unsent, whatever is written meanwhile', async () => {
    const reactor = openReactor()
    const [stream, peer] = await pair(reactor)
    const block = Buffer.alloc(1 << 20, 'a')
    stream.write(block)
    const detached = stream.detach()
    expect(detached.unsent.length).toBeGreaterThan(0)
    const next = UnixStream.from(reactor, detached)
    next.write('behind it')
    const parts: Buffer[] = []
    let length = 0
    await until(() => {
      const bytes = readNow(peer)
      if (bytes !== undefined) {
        parts.push(bytes)
        length += bytes.length
      }
      return length === block.length + 'behind it'.length
    })
    const all = Buffer.concat(parts)
    expect(all.subarray(0, block.length).equals(block)).toBe(true)
    expect(String(all.subarray(block.length))).toBe('behind it')
  })

  test('tells an error of what was unsent to who listens to it later', async () => {
    const reactor = openReactor()
    const [stream, peer] = await pair(reactor)
    stream.write(Buffer.alloc(1 << 20))
    const detached = stream.detach()
    peer.close()
    const next = UnixStream.from(reactor, detached)
    let code = ''
    next.on('error', (error) => (code = 'code' in error ? String(error.code) : ''))
    await until(() => next.closed)
    expect(code).toBe('EPIPE')
  })

  test.each<[Borrow, boolean]>([
    [false, false],
    [true, false],
    ['offsets', false],
    [true, true],
  ])('takes over in the middle of a batch (borrow: %j, paused: %j)', (borrow, paused) => {
    const reactor = openManual()
    const listener = UnixListener.listen<Borrow>(reactor, socketPath(), { borrow })
    const streams: UnixStream<Borrow>[] = []
    listener.on('connection', (stream) => streams.push(stream))
    const peers = [1, 2, 3].map(() => rawClient(listener.path))
    settle(reactor)
    let heard = ''
    let moved = 0
    for (const stream of streams) {
      stream.on('data', (bytes: Buffer, offset = 0, length = bytes.length) => {
        heard += bytes.subarray(offset, offset + length).toString()
        // The first that hears something moves all, those included whose bytes were drained in this batch.
        for (const each of streams.splice(0)) {
          moved++
          if (paused) each.pause()
          UnixStream.from(reactor, each.detach()).on('data', (more) => (heard += String(more)))
        }
      })
    }
    peers.forEach((peer, n) => writeAll(peer, `<${n}>`))
    settle(reactor)
    expect(moved).toBe(3)
    expect(heard.match(/<\d>/g)?.sort()).toEqual(['<0>', '<1>', '<2>'])
    peers.forEach((peer, n) => writeAll(peer, `[${n}]`))
    settle(reactor)
    expect(heard.match(/\[\d\]/g)?.sort()).toEqual(['[0]', '[1]', '[2]'])
  })
})
