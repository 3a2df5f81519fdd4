import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { SystemError, type Reactor } from '@fd-reactor/core'
import { Domain } from '@fd-reactor/core/sys'
import { ms, TcpListener, TcpStream } from '@fd-reactor/fd-events'
import { describe, expect, onTestFinished, test, type TestContext } from 'vitest'
import { runForJson, withoutLeakCheck } from '../../core/test/support/child.js'
import { refusing } from '../../core/test/support/refusing.js'
import { assertNoLeakedFds, countFds } from '../../core/test/support/fds.js'
import { openManual, openReactor } from '../../core/test/support/reactors.js'
import { within } from '../../core/test/support/wait.js'
import { byTurns } from '../src/tcp-connect.js'
import { HOSTS, rawTcpClient } from './tcp-helpers.js'

assertNoLeakedFds()

const EAFNOSUPPORT = 97

/** A listener whose backlog is full: Linux lets every further SYN fall, as a host that is gone does. */
function blackHole(reactor: Reactor, host: string, port = 0): TcpListener {
  const listener = TcpListener.listen(reactor, { host, port, backlog: 0 })
  for (let n = 0; n < 3; n++) rawTcpClient(listener.address)
  return listener
}

async function failure(connecting: Promise<TcpStream>, ms?: number): Promise<unknown> {
  return within(
    connecting.then(
      () => 'connected',
      (error: unknown) => error,
    ),
    'the end of the attempt',
    ms,
  )
}

describe('what fails', () => {
  test.each(HOSTS)('ECONNREFUSED where nobody listens (%s)', async (host) => {
    const reactor = openReactor()
    const closed = TcpListener.listen(reactor, { host })
    closed.close()
    const before = countFds()
    const error = await failure(TcpStream.connect(reactor, closed.address))
    expect(error).toBeInstanceOf(SystemError)
    expect(error).toMatchObject({ code: 'ECONNREFUSED', syscall: 'connect', path: closed.uri.slice(6) })
    expect(String(error)).toMatch(/Nobody listens there$/)
    expect(countFds().socket).toBe(before.socket)
  })

  test('ENETUNREACH for what no connection goes to', async () => {
    // The broadcast address of the loopback network: refused without a packet.
    const error = await failure(TcpStream.connect(openReactor(), { host: '127.255.255.255', port: 9 }))
    expect(String(error)).toBe(
      "SystemError: ENETUNREACH: network is unreachable, connect '127.255.255.255:9'",
    )
  })

  test('a name that does not exist is Node’s ENOTFOUND or EAI_AGAIN', async () => {
    const error = await failure(TcpStream.connect(openReactor(), { host: 'no-such-host.invalid', port: 9 }))
    expect(['ENOTFOUND', 'EAI_AGAIN']).toContain((error as { code: string }).code)
    expect(String(error)).toContain('no-such-host.invalid')
  }, 30_000)

  test('ERR_TIMEOUT when nobody answers, and nothing stays open', async () => {
    const reactor = openReactor()
    const { address } = blackHole(reactor, '127.0.0.1')
    const before = countFds().socket
    const error = await failure(TcpStream.connect(reactor, { ...address, timeout: ms(50) }))
    expect(error).toMatchObject({ name: 'ReactorError', code: 'ERR_TIMEOUT' })
    expect(String(error)).toContain(`'127.0.0.1:${address.port}' could not be reached within 50 ms`)
    expect(countFds().socket).toBe(before)
  })

  test('an AbortSignal ends it with its reason, before, during and after', async () => {
    const reactor = openReactor()
    const { address } = blackHole(reactor, '127.0.0.1')
    const before = countFds().socket
    const controller = new AbortController()
    const { signal } = controller
    const connecting = failure(TcpStream.connect(reactor, { ...address, signal }))
    const reason = new Error('changed my mind')
    setImmediate(() => {
      controller.abort(reason)
    })
    expect(await connecting).toBe(reason)
    expect(await failure(TcpStream.connect(reactor, { ...address, signal }))).toBe(reason)
    expect(await failure(TcpStream.connect(reactor, { host: 'localhost', port: 9, signal }))).toBe(reason)
    expect(countFds().socket).toBe(before)
    const later = new AbortController()
    const listener = TcpListener.listen(reactor)
    const stream = await TcpStream.connect(reactor, { ...listener.address, signal: later.signal })
    later.abort()
    expect(stream.closed).toBe(true)
  })

  test.each([
    ['an attempt', '127.0.0.1', 'ReactorError: The reactor was closed while it connected'],
    ['the lookup of a name', 'localhost', "ReactorError: The reactor 'reactor' is closed"],
    [
      'the lookup of a name that is none',
      'no-such-host.invalid',
      /^Error: getaddrinfo (ENOTFOUND|EAI_AGAIN)/,
    ],
  ])(
    'a reactor that is closed during %s leaves nothing open, and the promise settles',
    async (_, host, message) => {
      const { address } = blackHole(openReactor(), '127.0.0.1')
      const before = countFds()
      const reactor = openManual()
      const connecting = failure(TcpStream.connect(reactor, { host, port: address.port }), 30_000)
      reactor.close()
      const told = String(await connecting)
      if (typeof message === 'string') expect(told).toBe(message)
      else expect(told).toMatch(message)
      expect(countFds()).toEqual(before)
    },
    30_000,
  )

  test('EMFILE says for which address', async () => {
    const told = await runForJson(
      `import { openSync } from 'node:fs'
       const reactor = new Reactor()
       const connect = () => events.TcpStream.connect(reactor, { host: '127.0.0.1', port: 9 })
       await connect().catch(() => undefined) // now the timer for the limit is there
       try { for (;;) openSync('/dev/null') } catch {}
       console.log(JSON.stringify(await connect().catch((error) => error.message)))
       process.exit()`,
      { maxFiles: 64 },
    )
    expect(told).toBe("EMFILE: too many open files, socket '127.0.0.1:9'")
  })
})

describe('happy eyeballs', () => {
  test('the families take turns, the preferred one first', () => {
    const six = (address: string): { address: string; family: number } => ({ address, family: 6 })
    const four = (address: string): { address: string; family: number } => ({ address, family: 4 })
    expect(byTurns([six('a'), six('b'), four('c'), six('d')])).toEqual(['a', 'c', 'b', 'd'])
    expect(byTurns([four('a'), six('b'), six('c')])).toEqual(['a', 'b', 'c'])
    expect(byTurns([four('a'), four('b')])).toEqual(['a', 'b'])
  })

  /**
   * Runs a script where /etc/hosts gives a name the addresses of both families: in a mount namespace of its own, since few machines
   * have such a name. `listen(host, port)` and `blackHole(host, port)` are there.
   */
  async function withNames(context: TestContext, script: string, underToo: string[] = []): Promise<unknown> {
    const works = spawnSync('unshare', ['-m', 'mount', '--bind', '/etc/hosts', '/etc/hosts'])
    context.skip(works.status !== 0, 'a mount namespace cannot be made here')
    const prelude = `
      import { readdirSync } from 'node:fs'
      import { connect as netConnect } from 'node:net'
      import { lookup } from 'node:dns/promises'
      const { TcpListener, TcpStream } = events
      const reactor = new Reactor()
      const listen = (host, port = 0, backlog = 511) => TcpListener.listen(reactor, { host, port, backlog })
      const order = (await lookup('both.test', { all: true })).map(({ address }) => address)
      `
    const hosts = join(mkdtempSync(join(tmpdir(), 'fd-reactor-')), 'hosts')
    onTestFinished(() => rmSync(dirname(hosts), { recursive: true }))
    writeFileSync(hosts, '127.0.0.1 both.test\n::1 both.test\n')
    const under = [
      'unshare',
      '-m',
      'sh',
      '-c',
      'mount --bind "$0" /etc/hosts && exec "$@"',
      hosts,
      ...underToo,
    ]
    return runForJson(prelude + script, {
      under,
      env: withoutLeakCheck,
    })
  }

  test.for(HOSTS)('a name is connected to whichever of its addresses listens (%s)', async (host, context) => {
    const result = await withNames(
      context,
      `const { address } = listen('${host}')
       const start = performance.now()
       const stream = await TcpStream.connect(reactor, { host: 'both.test', port: address.port })
       const ms = performance.now() - start
       console.log(JSON.stringify({ order: order.sort(), host: stream.remoteAddress.host, late: ms > 200 }))
       process.exit()`,
    )
    expect(result).toEqual({ order: ['127.0.0.1', '::1'], host, late: false }) // a refusal is not waited for
  })

  test('an address that does not answer costs 250 ms, and its attempt is closed', async (context) => {
    const result = await withNames(
      context,
      `const [first, second] = order
       const { address: { port } } = listen(first, 0, 0)
       // Its backlog is full: Linux lets every further SYN fall, as a host that is gone does.
       for (let n = 0; n < 3; n++) netConnect(port, first).on('error', () => {})
       await sleep(50)
       listen(second, port)
       const before = readdirSync('/proc/self/fd').length
       const start = performance.now()
       const stream = await TcpStream.connect(reactor, { host: 'both.test', port })
       const ms = performance.now() - start
       const left = readdirSync('/proc/self/fd').length - before
       console.log(JSON.stringify({ second: stream.remoteAddress.host === second, waited: ms >= 249 && ms < 2000, left }))
       process.exit()`,
    )
    expect(result).toEqual({ second: true, waited: true, left: 1 })
  })

  test('when all fail, the error names each', async (context) => {
    const result = await withNames(
      context,
      `const { address: { port } } = listen('127.0.0.1')
       const before = readdirSync('/proc/self/fd').length
       const error = await TcpStream.connect(reactor, { host: 'both.test', port: port === 65535 ? 65534 : port + 1 }).catch((error) => error)
       const { name, code, message, errors } = error
       const left = readdirSync('/proc/self/fd').length - before
       console.log(JSON.stringify({ name, code, message: message.replaceAll(/\\d{4,5}/g, 'PORT'), errors: errors.map(({ code }) => code), order, left }))
       process.exit()`,
    )
    const { order, ...rest } = result as { order: string[] }
    const each = order
      .map((host) => `${host.includes(':') ? `[${host}]` : host}:PORT (ECONNREFUSED)`)
      .join(', ')
    expect(rest).toEqual({
      name: 'SystemError',
      code: 'ECONNREFUSED',
      message: `ECONNREFUSED: connection refused, connect 'both.test:PORT'. All of its addresses failed: ${each}`,
      errors: ['ECONNREFUSED', 'ECONNREFUSED'],
      left: 0,
    })
  })

  /** What IPv6 does where there is none: to connect and to listen at its address, and for a name with an address of either family. */
  const withoutIpv6 = `
    const settled = (promise) => promise.then((stream) => stream.remoteAddress.host, (error) => error.message)
    const { address: { port } } = listen('127.0.0.1')
    const told = [await settled(TcpStream.connect(reactor, { host: '::1', port }))]
    try { listen('::1', port) } catch (error) { told.push(error.message) }
    told.push(await settled(TcpStream.connect(reactor, { host: 'both.test', port })))
    const free = port === 65535 ? 65534 : port + 1
    told.push(await settled(TcpStream.connect(reactor, { host: 'both.test', port: free })))
    console.log(JSON.stringify({ order, told: told.map((each) => each.replaceAll(/\\d{4,5}/g, 'PORT')) }))
    process.exit()`

  /** `code` and `inAll` are what attempts at `::1` failed with, the latter when IPv4 has failed as well. */
  function expectWithoutIpv6(result: unknown, direct: string, listening: string, code: string): void {
    const { order, told } = result as { order: string[]; told: string[] }
    const six = order.indexOf('::1')
    const each = [`127.0.0.1:PORT (ECONNREFUSED)`].toSpliced(six, 0, `[::1]:PORT (${code})`).join(', ')
    expect(told.slice(0, 3)).toEqual([direct, listening, '127.0.0.1'])
    expect(told[3]).toContain(`'both.test:PORT'. All of its addresses failed: ${each}`)
  }

  test('where IPv6 is switched off its addresses are refused, and IPv4 serves', async (context) => {
    const off = 'echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6 && ip link set lo up && exec "$@"'
    const under = ['unshare', '-n', 'sh', '-c', off, 'sh']
    context.skip(
      spawnSync('unshare', [...under.slice(1), 'true']).status !== 0,
      'a network namespace without IPv6 cannot be made here',
    )
    expectWithoutIpv6(
      await withNames(context, withoutIpv6, under),
      "EADDRNOTAVAIL: address not available, connect '[::1]:PORT'",
      "EADDRNOTAVAIL: address not available, bind '[::1]:PORT'. This machine has no such address",
      'EADDRNOTAVAIL',
    )
  })

  test('where the kernel has no IPv6 at all it is the same', async (context) => {
    const under = refusing(context, 'socket', 0, Domain.Ipv6, EAFNOSUPPORT)
    expectWithoutIpv6(
      await withNames(context, withoutIpv6, under),
      "EAFNOSUPPORT: address family not supported, socket '[::1]:PORT'",
      'EAFNOSUPPORT: address family not supported, socket',
      'EAFNOSUPPORT',
    )
  })
})
