import { UnixListener, UnixStream } from '@fd-reactor/fd-events'
import { describe, expect, test } from 'vitest'
import { runForJson } from './support/child.js'
import { assertNoLeakedFds } from './support/fds.js'
import { openManual, settle, socketPath } from './support/reactors.js'

assertNoLeakedFds()

describe('maxConnections', () => {
  test('is obeyed while connections come, and who waits is served when others go', async () => {
    const reactor = openManual()
    const listener = UnixListener.listen(reactor, socketPath(), { maxConnections: 3 })
    const open: UnixStream[] = []
    listener.on('connection', (stream) => open.push(stream))
    for (let i = 0; i < 8; i++) await UnixStream.connect(reactor, listener.path)
    settle(reactor)
    expect([open.length, listener.connections, listener.stats.interest]).toEqual([3, 3, 0])
    open[0]?.close()
    open[1]?.close()
    settle(reactor)
    expect([open.length, listener.connections]).toEqual([5, 3])
    for (const stream of [...open]) stream.close()
    settle(reactor)
    expect([open.length, listener.connections]).toEqual([8, 3])
    reactor.close()
  })

  test('is obeyed when connections are closed in the batch that accepts others', async () => {
    const reactor = openManual()
    const listener = UnixListener.listen(reactor, socketPath(), { maxConnections: 4 })
    let most = 0
    let served = 0
    const open = new Set<UnixStream>()
    listener.on('connection', (stream) => {
      open.add(stream)
      served++
      most = Math.max(most, listener.connections)
      // The first of each batch goes at once: the drain has accepted the others of the batch already.
      if (served % 4 === 1) {
        stream.close()
        open.delete(stream)
      }
    })
    for (let i = 0; i < 20; i++) await UnixStream.connect(reactor, listener.path)
    for (let i = 0; i < 10; i++) reactor.dispatch()
    expect([most, open.size, listener.connections]).toEqual([4, 4, 4])
    reactor.close()
  })

  test('a paused listener accepts nobody', async () => {
    const reactor = openManual()
    const listener = UnixListener.listen(reactor, socketPath())
    let served = 0
    listener.on('connection', () => served++).pause()
    await UnixStream.connect(reactor, listener.path)
    settle(reactor)
    expect(served).toBe(0)
    listener.resume()
    settle(reactor)
    expect(served).toBe(1)
    reactor.close()
  })

  test('pausing in the first handler of a batch keeps the others, which are handed out after resume()', async () => {
    const reactor = openManual()
    const listener = UnixListener.listen(reactor, socketPath())
    let served = 0
    listener.on('connection', () => {
      served++
      listener.pause()
    })
    for (let i = 0; i < 5; i++) await UnixStream.connect(reactor, listener.path)
    settle(reactor)
    expect([served, listener.connections]).toEqual([1, 5])
    for (let i = 2; i <= 5; i++) {
      listener.resume()
      settle(reactor)
      expect(served).toBe(i)
    }
    reactor.close()
  })
})

describe('when descriptors run out', () => {
  const script = (listening: string): string => `
    import { openSync, closeSync } from 'node:fs'
    import { spawn } from 'node:child_process'
    const warnings = []
    process.on('warning', (warning) => warnings.push(warning.code))
    const reactor = new Reactor()
    const listener = UnixListener.listen(reactor, path)
    const told = []
    ${listening}
    const served = []
    listener.on('connection', (stream) => served.push(stream))
    // Another process connects, because here no descriptor is left for it.
    const script = "import { connect } from 'node:net'; for (let i = 0; i < 5; i++) connect(process.argv[1]).on('connect', () => console.log('connected'))"
    const peer = spawn(process.execPath, ['--input-type=module', '-e', script, path], { stdio: ['ignore', 'pipe', 'inherit'] })
    let connected = 0
    const all = new Promise((resolve) => peer.stdout.on('data', (text) => {
      connected += String(text).split('connected').length - 1
      if (connected === 5) resolve()
    }))
    const hoard = []
    listener.pause()
    await all
    try { for (;;) hoard.push(openSync('/dev/null')) } catch {}
    listener.resume()
    const before = [reactor.stats().batches, cpuMs()]
    await sleep(400)
    const during = { batches: reactor.stats().batches - before[0], cpu: cpuMs() - before[1], served: served.length }
    for (const fd of hoard) closeSync(fd)
    while (served.length < 5) await once(listener, 'connection')
    console.log(JSON.stringify({ ...during, recovered: served.length, told, warnings }))
    reactor.close()
    peer.kill()`

  test('accepting backs off without spinning, says so, and recovers', async () => {
    const result = await runForJson(
      script(
        "listener.on('backoff', (error, delayNs) => told.push([error.code, error.syscall, delayNs / 1e6]))",
      ),
      { maxFiles: 64 },
    )
    expect(result).toMatchObject({ served: 0, recovered: 5, warnings: [] })
    const { batches, cpu, told } = result as { batches: number; cpu: number; told: unknown[] }
    expect(told.slice(0, 4)).toEqual([20, 40, 80, 160].map((ms) => ['EMFILE', 'accept4', ms]))
    expect(batches).toBeLessThan(20)
    expect(cpu).toBeLessThan(150)
  })

  test('without a listener it is one warning', async () => {
    const result = await runForJson(script(''), { maxFiles: 64 })
    expect(result).toMatchObject({ served: 0, recovered: 5, warnings: ['FD_REACTOR_ACCEPT_BACKOFF'] })
  })

  const kinds: [string, string, string][] = [
    ['UnixListener', 'UnixListener.listen(reactor, path)', 'UnixStream.connect(reactor, path)'],
    [
      'TcpListener',
      'events.TcpListener.listen(reactor)',
      'events.TcpStream.connect(reactor, listener.address)',
    ],
    [
      'UnixSeqpacketListener',
      'events.UnixSeqpacketListener.listen(reactor, path)',
      'events.UnixSeqpacket.connect(reactor, path)',
    ],
  ]
  const ending = (make: string, connect: string, free: string): string => `
    import { openSync, closeSync } from 'node:fs'
    const told = []
    const reactor = new Reactor({ onHandlerError: (error, source) => told.push(source.label.replace(/\\d+/, 'N')) })
    const listener = ${make}
    listener.on('connection', (connection) => { told.push('connection'); connection.close() })
    listener.on('backoff', (error, delayNs) => told.push(error.message.replace(listener.uri, 'URI'), delayNs / 1e6))
    listener.on('close', () => { told.push('close'); throw new Error('this is the listener’s') })
    listener.pause()
    for (let n = 0; n < 3; n++) await ${connect}
    const hoard = []
    try { for (;;) hoard.push(openSync('/dev/null')) } catch {}
    ${free}
    listener.end()
    told.push(listener.closed)
    ${free === '' ? 'for (const fd of hoard) closeSync(fd)' : ''}
    while (!listener.closed) await turn()
    await turn()
    console.log(JSON.stringify(told))
    process.exit()`
  const EMFILE =
    "EMFILE: too many open files, accept4 'URI'. Connections wait in the backlog until it is tried again"

  test.each(kinds)(
    'end() of a %s gives out who waits once there are some again',
    async (kind, make, connect) => {
      const result = await runForJson(ending(make, connect, ''), { maxFiles: 64 })
      expect(result).toEqual([
        ...[EMFILE, 20, false],
        ...['connection', 'connection', 'connection', 'close', `${kind} N`],
      ])
    },
  )

  test.each(kinds)(
    'end() of a %s goes on with the descriptors that come back',
    async (kind, make, connect) => {
      const script = ending(make, connect, 'closeSync(hoard.pop())')
      const result = (await runForJson(script, { maxFiles: 64 })) as unknown[]
      expect(result.slice(0, 5)).toEqual(['connection', EMFILE, 20, false, 'connection'])
      expect(result.filter((each) => each === 'connection')).toHaveLength(3)
      expect(result.slice(-2)).toEqual(['close', `${kind} N`])
    },
  )

  test.each(kinds)('end() of a connection to a %s needs none', async (_, make, connect) => {
    const result = await runForJson(
      `
      import { openSync } from 'node:fs'
      const reactor = new Reactor()
      const listener = ${make}
      const accepted = once(listener, 'connection')
      const client = await ${connect}
      const [server] = await accepted
      try { for (;;) openSync('/dev/null') } catch {}
      const told = []
      for (const [name, each] of Object.entries({ server, client })) {
        for (const event of ['data', 'message']) each.on(event, (bytes) => told.push(name + ' has ' + bytes))
        each.on('end', () => told.push(name + ' end'))
        each.on('close', () => told.push(name + ' close'))
      }
      if ('send' in client && !('write' in client)) client.send('bye')
      else client.write('bye')
      client.end()
      while (!client.closed || !server.closed) await turn()
      console.log(JSON.stringify(told))
      process.exit()`,
      { maxFiles: 64 },
    )
    expect(result).toEqual(['server has bye', 'server end', 'server close', 'client end', 'client close'])
  })

  test('making sources and reactors fails with EMFILE, and leaves nothing behind', async () => {
    const result = await runForJson(
      `
      import { openSync, closeSync } from 'node:fs'
      const reactor = new Reactor()
      const bell = new EventFd(reactor)
      const hoard = []
      try { for (;;) hoard.push(openSync('/dev/null')) } catch {}
      const codes = []
      const attempts = [
        () => new Reactor(),
        () => new EventFd(reactor),
        () => UnixListener.listen(reactor, '/tmp/fd-reactor-never'),
        () => new EventFd(reactor, { priority: 'high' }),
        () => bell.detach().duplicate(),
        () => reactor.defer(() => {}),
      ]
      for (const attempt of attempts) try { attempt() } catch (error) { codes.push(error.code) }
      try { await UnixStream.connect(reactor, '/tmp/fd-reactor-never') } catch (error) { codes.push(error.code) }
      // Of the descriptors that were not to be had none was kept: closing one makes room for exactly one.
      closeSync(hoard.pop())
      let room = 0
      try { for (;;) { openSync('/dev/null'); room++ } } catch {}
      console.log(JSON.stringify([codes, room, reactor.sources().length]))
      process.exit()`,
      { maxFiles: 64 },
    )
    expect(result).toEqual([Array.from({ length: 7 }, () => 'EMFILE'), 1, 0])
  })
})
