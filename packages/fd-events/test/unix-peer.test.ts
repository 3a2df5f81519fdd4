import { spawn, spawnSync } from 'node:child_process'
import { once as onceEvent } from 'node:events'
import { chmodSync, readFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { once, type FdHandle } from '@fd-reactor/core'
import { UnixListener, UnixStream, type Allow, type UnixPeer } from '@fd-reactor/fd-events'
import { describe, expect, test, type TestContext } from 'vitest'
import { runForJson } from '../../core/test/support/child.js'
import { assertNoLeakedFds, countFds } from '../../core/test/support/fds.js'
import { openManual, openReactor, settle, socketPath } from '../../core/test/support/reactors.js'
import { refusing } from '../../core/test/support/refusing.js'
import { until, within } from '../../core/test/support/wait.js'
import { errorCode, rawClient, readNow, writeAll } from './unix-helpers.js'

assertNoLeakedFds()

const SO_PEERPIDFD = 77
const ENOPROTOOPT = 92

const us: UnixPeer = {
  pid: process.pid,
  uid: process.getuid?.() ?? -1,
  gid: process.getgid?.() ?? -1,
  groups: Array.from(
    readFileSync('/proc/self/status', 'utf8')
      .match(/^Groups:(.*)/m)?.[1]
      ?.match(/\d+/g) ?? [],
    Number,
  ),
}

/** Lets one client of our own connect, write and go on; tells what the listener told, and whether the client was let in. */
function tryOne(allow: Allow): { told: string[]; peers: UnixPeer[]; open: boolean } {
  const reactor = openManual({ onHandlerError: (error) => void told.push(`thrown ${String(error)}`) })
  const told: string[] = []
  const peers: UnixPeer[] = []
  const listener = UnixListener.listen(reactor, socketPath(), { allow, maxConnections: 1 })
  listener.on('refused', (peer) => {
    told.push('refused')
    peers.push(peer)
  })
  listener.on('connection', (stream) => {
    told.push('connection')
    stream.on('data', (bytes) => told.push(`data ${String(bytes)}`))
  })
  const client = rawClient(listener.path)
  writeAll(client, 'secret')
  settle(reactor)
  const open = !ended(client)
  expect(listener.connections).toBe(open ? 1 : 0)
  return { told, peers, open }
}

describe('allow', () => {
  test.each<[string, Allow]>([
    ['its user', { uids: [1, us.uid] }],
    ['its group', { gids: [us.gid] }],
    ['either of them', { uids: [12_345], gids: [us.gid] }],
    ['a function', ({ pid }) => pid === process.pid],
  ])('lets in whom it names by %s', (_, allow) => {
    expect(tryOne(allow)).toEqual({ told: ['connection', 'data secret'], peers: [], open: true })
  })

  test.each<[string, Allow]>([
    ['another user', { uids: [12_345] }],
    ['another group', { gids: [12_345] }],
    ['nobody', { uids: [] }],
    ['a function', () => false],
  ])('refuses who is not meant by %s, reads nothing of it, and says who it was', (_, allow) => {
    expect(tryOne(allow)).toEqual({ told: ['refused'], peers: [us], open: false })
  })

  test('a function that throws refuses, and its error is the listener’s', () => {
    const { told, open } = tryOne(() => {
      throw new Error('no database')
    })
    expect([told, open]).toEqual([['refused', 'thrown Error: no database'], false])
  })

  test('a promise, which is no answer, refuses', () => {
    const never: unknown = async () => Promise.resolve(true)
    const { told, open } = tryOne(never as Allow)
    expect(told[0]).toBe('refused')
    expect(told[1]).toContain('TypeError: allow must return true or false, not Promise')
    expect(open).toBe(false)
  })

  test('an error goes to who listens to it, and the listener goes on', () => {
    const reactor = openManual()
    let asked = 0
    const allow = (): boolean => {
      if (++asked === 1) throw new Error('first')
      return true
    }
    const listener = UnixListener.listen(reactor, socketPath(), { allow })
    const errors: string[] = []
    let connections = 0
    listener.on('error', ({ message }) => errors.push(message)).on('connection', () => connections++)
    rawClient(listener.path)
    rawClient(listener.path)
    settle(reactor)
    expect([errors, connections, listener.closed]).toEqual([['first'], 1, false])
  })

  test('refused ones take no place of maxConnections, also by the hundred', () => {
    const before = countFds()
    const reactor = openManual()
    let asked = 0
    const listener = UnixListener.listen(reactor, socketPath(), {
      allow: () => ++asked % 50 === 0,
      maxConnections: 3,
    })
    const streams: UnixStream[] = []
    let refused = 0
    listener.on('refused', () => refused++).on('connection', (stream) => streams.push(stream))
    const clients = Array.from({ length: 150 }, () => rawClient(listener.path))
    settle(reactor)
    expect([streams.length, refused, listener.connections]).toEqual([3, 147, 3])
    for (const client of clients) client.close()
    reactor.close()
    expect(countFds()).toEqual(before)
  })

  test('supplementary groups count, and other users are refused (socat as peer)', async (context) => {
    needsRootAnd(context, 'setpriv', 'socat')
    const reactor = openReactor()
    const path = socketPath()
    chmodSync(dirname(path), 0o755)
    const listener = UnixListener.listen(reactor, path, { mode: 0o666, allow: { gids: [4711] } })
    listener.on('connection', (stream) => stream.end(`welcome ${stream.peerGroups.join(' ')}\n`))
    const refused: UnixPeer[] = []
    listener.on('refused', (peer) => refused.push(peer))
    const answer = async (groups: string): Promise<string> => {
      const as = ['--reuid=12345', '--regid=12346', groups]
      const child = spawn('setpriv', [...as, 'socat', '-t1', '-', `UNIX-CONNECT:${path}`])
      let text = ''
      child.stdout.setEncoding('utf8').on('data', (chunk: string) => (text += chunk))
      await within(onceEvent(child, 'close'))
      return text
    }
    expect(await answer('--groups=100,4711')).toBe('welcome 100 4711\n')
    expect(refused).toEqual([])
    expect(await answer('--clear-groups')).toBe('')
    expect(refused).toMatchObject([{ uid: 12_345, gid: 12_346, groups: [] }])
  })
})

describe('peerPidFd()', () => {
  test('stands for the process at the other end', async (context) => {
    needsPidFd(context)
    const reactor = openReactor()
    const listener = UnixListener.listen(reactor, socketPath())
    const client = await UnixStream.connect(reactor, listener.path)
    using pidfd = client.peerPidFd()
    expect(readFileSync(`/proc/self/fdinfo/${pidfd.fd}`, 'utf8')).toMatch(
      new RegExp(`^Pid:\\s+${process.pid}$`, 'm'),
    )
  })

  test('tells that the process has ended', async (context) => {
    needsPidFd(context)
    context.skip(spawnSync('which', ['socat']).status !== 0, 'socat is not installed')
    const reactor = openReactor()
    const listener = UnixListener.listen(reactor, socketPath())
    const child = spawn('socat', ['-u', `UNIX-CONNECT:${listener.path}`, '/dev/null'])
    const [stream] = await within(once(listener, 'connection'))
    using pidfd: FdHandle = stream.peerPidFd()
    child.kill()
    await within(onceEvent(child, 'exit'))
    await until(() => /^Pid:\s+-1$/m.test(readFileSync(`/proc/self/fdinfo/${pidfd.fd}`, 'utf8')))
    stream.destroy()
  })
})

function needsRootAnd({ skip }: TestContext, ...commands: string[]): void {
  skip(process.getuid?.() !== 0, 'only root may run a child as somebody else')
  for (const command of commands)
    skip(spawnSync('which', [command]).status !== 0, `${command} is not installed`)
}

function needsPidFd({ skip }: TestContext): void {
  const [major = 0, minor = 0] = readFileSync('/proc/sys/kernel/osrelease', 'utf8').split('.').map(Number)
  skip(major < 6 || (major === 6 && minor < 5), 'SO_PEERPIDFD needs Linux 6.5')
}

function ended(client: FdHandle): boolean {
  try {
    return readNow(client)?.length === 0
  } catch (error) {
    return errorCode(error) === 'ECONNRESET'
  }
}

test('a kernel without SO_PEERPIDFD says so', async (context) => {
  const told = await runForJson(
    `const reactor = new Reactor()
     UnixListener.listen(reactor, path)
     const stream = await UnixStream.connect(reactor, path)
     try { stream.peerPidFd() } catch (error) { console.log(JSON.stringify(error.message)) }
     process.exit()`,
    { under: refusing(context, 'getsockopt', 2, SO_PEERPIDFD, ENOPROTOOPT) },
  )
  expect(told).toBe(
    "ENOPROTOOPT: protocol not available, getsockopt 'SO_PEERPIDFD'. The kernel cannot tell before Linux 6.5: use the pid of the peer, which may have been given to another process",
  )
})
