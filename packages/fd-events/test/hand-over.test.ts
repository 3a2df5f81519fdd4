import { spawn, type ChildProcess } from 'node:child_process'
import { once as onceEvent } from 'node:events'
import { chmodSync, existsSync, readFileSync, statSync } from 'node:fs'
import { dirname } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { FdHandle, once, type Reactor } from '@fd-reactor/core'
import { transfer } from '@fd-reactor/core/sys'
import {
  EventFd,
  handOver,
  ms,
  seconds,
  takeOver,
  TcpListener,
  TcpStream,
  UnixListener,
  UnixSeqpacket,
  UnixSeqpacketListener,
  UnixStream,
  type HandOverOptions,
  type IdleConnection,
  type ListenerMakers,
  type SendOutcome,
  type TakenOver,
} from '@fd-reactor/fd-events'
import { describe, expect, onTestFinished, test } from 'vitest'
import { runScript, withoutLeakCheck } from '../../core/test/support/child.js'
import { assertNoLeakedFds, countFds } from '../../core/test/support/fds.js'
import { openManual, openReactor, socketPath, streamPair } from '../../core/test/support/reactors.js'
import { turn, until, within } from '../../core/test/support/wait.js'
import { leaveDeadSocket, quiet, rawClient, readNow, writeAll } from './unix-helpers.js'

assertNoLeakedFds()

const NOBODY = 65_534
const half = fileURLToPath(new URL('fixtures/hand-over-half.mjs', import.meta.url))
const packageFolder = fileURLToPath(new URL('..', import.meta.url))

/** A process that serves `web` and offers it: each answer says who gave it. */
interface Older {
  reactor: Reactor
  web: UnixListener
  control: string
  /** The streams that it says are idle. */
  idle: Map<UnixStream, unknown>
  failures: string[]
  given: Promise<boolean>
}

/** Answers what comes with a name before it. */
function echo(name: string, stream: UnixStream): void {
  stream.on('data', (bytes) => stream.write(`${name}:${bytes.toString()}`))
}

function startOlder(options: Partial<HandOverOptions> = {}, path = socketPath()): Older {
  const reactor = openReactor()
  const web = UnixListener.listen(reactor, path)
  const control = `${path}.control`
  const idle = new Map<UnixStream, unknown>()
  const failures: string[] = []
  web.on('connection', (stream) => {
    idle.set(stream, undefined)
    stream.on('close', () => idle.delete(stream))
    echo('older', stream)
  })
  const given = handOver(reactor, control, {
    listeners: { web },
    connections: () => Array.from(idle, ([stream, state]) => ({ stream, state })),
    onFailed: (error) => failures.push(error.message),
    ...options,
  })
  given.catch(() => undefined)
  return { reactor, web, control, idle, failures, given }
}

async function takeFrom({ control }: { control: string }) {
  const reactor = openReactor()
  const taken = await within(
    takeOver(reactor, control, {
      listeners: { web: (handle) => UnixListener.from(reactor, handle) },
      connections: true,
      timeout: seconds(3),
    }),
    'the hand-over',
  )
  return { reactor, taken }
}

/** What a raw client gets for what it sends. */
async function ask(client: FdHandle, question: string): Promise<string> {
  writeAll(client, question)
  let answer: Buffer | undefined
  await until(() => (answer = readNow(client)) !== undefined, `the answer to ${question}`)
  return String(answer)
}

/** A successor that speaks by hand. */
async function byHand(control: string) {
  const socket = await UnixSeqpacket.connect(openReactor(), control, { maxFds: 1, allowHalfOpen: true })
  socket.on('error', () => undefined)
  const packets = socket.events('message')
  const say = async (head: object): Promise<SendOutcome> =>
    new Promise((resolve) => socket.send(JSON.stringify({ size: 0, ...head }), {}, resolve))
  const hear = async (): Promise<unknown> => {
    const { value } = await within(packets.next())
    if (value === undefined) return 'the end'
    for (const fd of value[1].fds) fd.close()
    return JSON.parse(value[0].toString())
  }
  expect(await hear()).toEqual({ type: 'hello', version: 1, size: 0 })
  return { socket, say, hear }
}

/** A process that plays one side up to a stage; `line` is the next that it prints, `there` at the stage. */
function startHalf(...args: string[]): { child: ChildProcess; line: () => Promise<unknown[]> } {
  const child = spawn(process.execPath, [half, ...args], {
    cwd: packageFolder,
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  onTestFinished(() => void child.kill('SIGKILL'))
  const lines = createInterface(child.stdout)
  return { child, line: async () => within(onceEvent(lines, 'line'), `a line of ${args.join(' ')}`) }
}

/** A predecessor in a process of its own, up to a stage. */
async function startDoomed(stage: string) {
  const path = socketPath()
  const control = `${path}.control`
  const { child, line } = startHalf('predecessor', control, stage, path)
  expect(await line()).toEqual(['listening'])
  return { path, control, child, there: line() }
}

async function kill(child: ChildProcess): Promise<void> {
  const exit = onceEvent(child, 'exit')
  child.kill('SIGKILL')
  await within(exit)
}

/** Keeps a process from doing anything, from now on until it is sent SIGCONT. */
function stop(child: ChildProcess): void {
  child.kill('SIGSTOP')
  while (!/^State:\tT/m.test(readFileSync(`/proc/${child.pid}/status`, 'utf8')));
}

describe('listeners', () => {
  test('go to the successor, and nobody who connects meanwhile notices', async () => {
    const older = startOlder()
    const { path } = older.web
    const inode = statSync(path).ino
    const early = rawClient(path)
    expect(await ask(early, 'early')).toBe('older:early')
    older.idle.clear() // it is busy for ever
    const { taken } = await takeFrom(older)
    expect(await older.given).toBe(true)
    const between = rawClient(path) // nobody accepts yet
    await quiet()
    taken?.listeners.web?.on('connection', (stream) => echo('newer', stream))
    expect(await ask(between, 'between')).toBe('newer:between')
    expect(await ask(rawClient(path), 'late')).toBe('newer:late')
    expect(await ask(early, 'still there')).toBe('older:still there')
    expect([older.web.closed, existsSync(older.control), older.failures]).toEqual([true, false, []])
    expect([statSync(path).ino, taken?.listeners.web?.unlinkOnClose]).toEqual([inode, true])
    taken?.listeners.web?.close()
    expect(existsSync(path)).toBe(false)
  })

  test('of every kind go together, under their names', async () => {
    const reactor = openReactor()
    const path = socketPath()
    const listeners = {
      unix: UnixListener.listen(reactor, path, { unlinkOnClose: false }),
      packets: UnixSeqpacketListener.listen(reactor, `${path}.packets`),
      tcp: TcpListener.listen(reactor),
      abstract: UnixListener.listen(reactor, { abstract: `fd-reactor-${process.pid}-hand-over` }),
      gone: TcpListener.listen(reactor),
    }
    listeners.gone.close()
    const { port } = listeners.tcp.address
    const given = handOver(reactor, `${path}.control`, { listeners })
    const successor = openReactor()
    const taken = await within(
      takeOver(successor, `${path}.control`, {
        listeners: {
          unix: (handle) => UnixListener.from(successor, handle),
          packets: (handle) => UnixSeqpacketListener.from(successor, handle),
          tcp: (handle) => TcpListener.from(successor, handle),
          abstract: (handle) => UnixListener.from(successor, handle),
          gone: (handle) => TcpListener.from(successor, handle),
          fresh: (handle) => TcpListener.from(successor, handle),
        },
      }),
    )
    expect(await given).toBe(true)
    const { unix, packets, tcp, abstract, gone, fresh } = taken?.listeners ?? {}
    expect([gone, fresh]).toEqual([undefined, undefined])
    expect([unix?.unlinkOnClose, packets?.unlinkOnClose, abstract?.unlinkOnClose]).toEqual([
      false,
      true,
      false,
    ])
    let accepted = 0
    const count = (): number => accepted++
    unix?.on('connection', count)
    packets?.on('connection', count)
    tcp?.on('connection', count)
    abstract?.on('connection', count)
    rawClient(path)
    await UnixSeqpacket.connect(reactor, `${path}.packets`)
    await TcpStream.connect(reactor, { host: '127.0.0.1', port })
    await UnixStream.connect(reactor, { abstract: `fd-reactor-${process.pid}-hand-over` })
    await until(() => accepted === 4)
  })

  test('go on from hand to hand', async () => {
    const first = startOlder()
    const { path } = first.web
    const client = rawClient(path)
    await ask(client, 'hello')
    let older = first
    for (let generation = 1; generation <= 5; generation++) {
      const { reactor, taken } = await takeFrom(older)
      expect(await older.given).toBe(true)
      older.reactor.close()
      const web = taken?.listeners.web
      if (web === undefined) throw new Error('nothing was taken over')
      const name = `generation ${generation}`
      const idle = new Map<UnixStream, unknown>()
      const serve = (stream: UnixStream, state: unknown): void => {
        idle.set(stream, state)
        echo(name, stream)
      }
      web.on('connection', (stream) => serve(stream, undefined))
      for (const each of taken?.connections ?? []) serve(UnixStream.from(reactor, each), each.state)
      expect(await ask(client, 'who?')).toBe(`${name}:who?`)
      expect(await ask(rawClient(path), 'and new?')).toBe(`${name}:and new?`)
      const given = handOver(reactor, older.control, {
        listeners: { web },
        connections: () => Array.from(idle, ([stream, state]) => ({ stream, state })),
      })
      older = { ...older, reactor, web, given }
    }
  })

  test('that the successor gives up are closed', async () => {
    const older = startOlder()
    const reactor = openReactor()
    const taken = await takeOver(reactor, older.control, { listeners: { web: () => undefined } })
    expect([await older.given, taken]).toEqual([true, { listeners: {}, connections: [] }])
    expect(() => rawClient(older.web.path)).toThrow('ECONNREFUSED')
  })
})

describe('who begins', () => {
  test('finds that nobody offers, and listens', async () => {
    const reactor = openReactor()
    const path = socketPath()
    const start = async (): Promise<TakenOver<ListenerMakers> | undefined> =>
      takeOver(reactor, path, { listeners: {} })
    expect(await start()).toBeUndefined()
    leaveDeadSocket(path)
    expect(await start()).toBeUndefined()
    expect(await takeOver(reactor, { abstract: 'fd-reactor-nobody' }, { listeners: {} })).toBeUndefined()
  })

  test('second finds another that offers', async () => {
    const { reactor, control } = startOlder()
    await expect(handOver(reactor, control, { listeners: {} })).rejects.toMatchObject({
      code: 'EADDRINUSE',
      message: expect.stringContaining('Another process listens there'),
    })
  })

  test('of two successors one takes over, and the other is told', async () => {
    const older = startOlder()
    const results = await Promise.allSettled([takeFrom(older), takeFrom(older)])
    expect(results.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected'])
    const failed = results.find((result) => result.status === 'rejected')
    expect(failed?.reason).toMatchObject({
      code: 'ERR_HAND_OVER',
      message: 'The predecessor went away before it sent hello',
    })
    expect([await older.given, older.failures]).toEqual([true, []])
  })
})

describe('connections', () => {
  test('go with what was unread and unsent, and their state', async () => {
    const older = startOlder()
    const clients = [1, 2, 3].map(() => rawClient(older.web.path))
    for (const [n, client] of clients.entries()) await ask(client, `hello ${n}`)
    const [plain, paused, full] = [...older.idle.keys()]
    if (plain === undefined || paused === undefined || full === undefined) throw new Error('three came')
    older.idle.set(plain, { user: 'ann', seen: [1, 2] })
    const [, second, third] = clients
    if (second === undefined || third === undefined) throw new Error('three clients')
    paused.removeAllListeners('data').on('data', () => expect.unreachable('it is paused'))
    paused.pause()
    writeAll(second, 'unread')
    const block = Buffer.alloc(1 << 20, 'x')
    full.write(block)
    expect(full.writableLength).toBeGreaterThan(0)
    const { reactor, taken } = await takeFrom(older)
    expect(await older.given).toBe(true)
    const connections = taken?.connections ?? []
    expect(connections.map(({ state }) => state)).toEqual([
      { user: 'ann', seen: [1, 2] },
      undefined,
      undefined,
    ])
    const streams = connections.map((connection) => UnixStream.from(reactor, connection))
    const answers: string[] = []
    streams[1]?.on('data', (bytes) => answers.push(String(bytes)))
    await until(() => answers.join('') === 'unread')
    streams[2]?.write('behind it')
    let received = 0
    let tail = ''
    await until(() => {
      const bytes = readNow(third)
      received += bytes?.length ?? 0
      tail = (tail + (bytes?.toString() ?? '')).slice(-9)
      return received === block.length + 9
    })
    expect(tail).toBe('behind it')
    for (const [n, stream] of streams.entries()) {
      stream.removeAllListeners('data')
      echo('newer', stream)
      expect(await ask(clients[n] ?? expect.unreachable(), 'now')).toBe('newer:now')
    }
  })

  test('that are busy when the successor is ready stay, and those that are idle since go', async () => {
    let asked = 0
    const older = startOlder()
    const { web, idle, reactor } = older
    const control = `${older.control}.2`
    const connections = (): IdleConnection[] => {
      const all = Array.from(idle, ([stream]) => ({ stream }))
      // Asked for the second time, the first has a request, and a third has come.
      return asked++ === 0 ? all.slice(0, 2) : all.slice(1)
    }
    const given = handOver(reactor, control, { listeners: { web }, connections })
    const clients = [1, 2, 3].map(() => rawClient(web.path))
    for (const client of clients) await ask(client, 'hello')
    const { reactor: successor, taken } = await takeFrom({ control })
    expect([await given, asked, taken?.connections.length]).toEqual([true, 2, 2])
    for (const each of taken?.connections ?? []) echo('newer', UnixStream.from(successor, each))
    const answers = await Promise.all(clients.map(async (client) => ask(client, 'now')))
    expect(answers).toEqual(['older:now', 'newer:now', 'newer:now'])
  })

  test('stay when the successor does not want them', async () => {
    const older = startOlder()
    const client = rawClient(older.web.path)
    await ask(client, 'hello')
    const reactor = openReactor()
    const taken = await takeOver(reactor, older.control, {
      listeners: { web: (handle) => UnixListener.from(reactor, handle) },
    })
    expect([await older.given, taken?.connections]).toEqual([true, []])
    expect(await ask(client, 'now')).toBe('older:now')
  })

  test('that nobody makes a stream of are closed when they are collected, or by their taker', async () => {
    const older = startOlder()
    const client = rawClient(older.web.path)
    await ask(client, 'hello')
    const { taken } = await takeFrom(older)
    for (const { handle } of taken?.connections ?? []) handle.close()
    expect(taken?.connections.length).toBe(1)
    await until(() => readNow(client)?.length === 0, 'the end')
  })

  test('go while the one under way has more to say than a message holds', async () => {
    const older = startOlder()
    const client = rawClient(older.web.path)
    await ask(client, 'hello')
    const [stream] = older.idle.keys()
    const state = { text: 'y'.repeat(500_000) }
    older.idle.set(stream ?? expect.unreachable(), state)
    const block = Buffer.alloc(3 << 20, 'z')
    stream?.write(block)
    const { taken } = await takeFrom(older)
    const [connection] = taken?.connections ?? []
    expect(connection?.state).toEqual(state)
    const waiting = readNow(client)?.length ?? 0
    expect(waiting + (connection?.unsent.length ?? 0)).toBe(block.length)
    connection?.handle.close()
  })

  test('go with descriptors that nobody had taken', async () => {
    const reactor = openReactor()
    const web = UnixListener.listen(reactor, socketPath(), { maxFds: 2 })
    const streams: UnixStream[] = []
    web.on('connection', (stream) => {
      streams.push(stream)
      stream.on('data', () => expect.unreachable('descriptors come first'))
    })
    const client = await UnixStream.connect(reactor, web.path)
    const bell = new EventFd(reactor)
    using passed = new FdHandle(transfer.duplicate(bell.fd))
    client.send('with it', { fds: [passed] })
    await until(() => streams[0]?.readableLength === 7)
    await quiet()
    const control = `${web.path}.control`
    const given = handOver(reactor, control, {
      listeners: { web },
      connections: () => streams.map((stream) => ({ stream })),
    })
    const successor = openReactor()
    const taken = await takeOver(successor, control, {
      listeners: { web: (handle) => UnixListener.from(successor, handle) },
      connections: true,
    })
    expect(await given).toBe(true)
    const heard: string[] = []
    for (const each of taken?.connections ?? []) {
      const stream = UnixStream.from(successor, each, { maxFds: 2 })
      stream.on('fds', (fds) => {
        heard.push(`${fds.length} descriptors`)
        for (const fd of fds) EventFd.from(successor, fd).write(5n)
      })
      stream.on('data', (bytes) => heard.push(String(bytes)))
    }
    const [count] = await once(bell, 'event', { signal: AbortSignal.timeout(5000) })
    await until(() => heard.length === 2)
    expect([count, heard]).toEqual([5n, ['1 descriptors', 'with it']])
  })

  test('over TCP go too', async () => {
    const reactor = openReactor()
    const tcp = TcpListener.listen(reactor)
    const streams: TcpStream[] = []
    tcp.on('connection', (stream) => {
      streams.push(stream)
      stream.on('data', () => expect.unreachable('nothing comes before the hand-over'))
    })
    const client = await TcpStream.connect(reactor, tcp.address)
    await until(() => streams.length === 1)
    const control = socketPath()
    const given = handOver(reactor, control, {
      listeners: { tcp },
      connections: () => streams.map((stream) => ({ stream })),
    })
    const successor = openReactor()
    const taken = await takeOver(successor, control, {
      listeners: { tcp: (handle) => TcpListener.from(successor, handle) },
      connections: true,
    })
    expect(await given).toBe(true)
    for (const each of taken?.connections ?? []) {
      const stream = TcpStream.from(successor, each)
      stream.on('data', (bytes) => stream.write(bytes))
    }
    client.write('hello')
    const [answer] = await once(client, 'data', { signal: AbortSignal.timeout(5000) })
    expect([String(answer), streams[0]?.closed]).toEqual(['hello', true])
  })

  test('a hundred go at once', async () => {
    const older = startOlder()
    const clients = Array.from({ length: 100 }, () => rawClient(older.web.path))
    for (const client of clients) await ask(client, 'hello')
    const { reactor, taken } = await takeFrom(older)
    expect(taken?.connections.length).toBe(100)
    for (const each of taken?.connections ?? []) echo('newer', UnixStream.from(reactor, each))
    for (const client of clients) expect(await ask(client, 'now')).toBe('newer:now')
  })
})

describe('a connection that cannot be handed over', () => {
  const twoClients = async (older: Older) => {
    const clients = [rawClient(older.web.path), rawClient(older.web.path)] as const
    for (const client of clients) await ask(client, 'hello')
    return clients
  }

  test.each<[string, unknown, string]>([
    ['JSON', { big: 1n }, 'Do not know how to serialize a BigInt'],
    ['its own toJSON', { toJSON: () => { throw new Error('not me') } }, 'not me'], // prettier-ignore
  ])('because its state is not for %s stays, and the others go', async (_, state, message) => {
    const older = startOlder()
    const clients = await twoClients(older)
    const [stream] = older.idle.keys()
    older.idle.set(stream ?? expect.unreachable(), state)
    const { reactor, taken } = await takeFrom(older)
    expect(await older.given).toBe(true)
    for (const each of taken?.connections ?? []) echo('newer', UnixStream.from(reactor, each))
    expect([await ask(clients[0], 'now'), await ask(clients[1], 'now')]).toEqual(['older:now', 'newer:now'])
    expect(older.failures).toEqual([message])
  })

  test('because nobody can say which are idle stays', async () => {
    let asked = 0
    const older = startOlder({
      connections: () => {
        if (asked++ > 0) throw new Error('lost count')
        return Array.from(older.idle.keys(), (stream) => ({ stream }))
      },
    })
    const clients = await twoClients(older)
    const { taken } = await takeFrom(older)
    expect([await older.given, taken?.connections, older.failures]).toEqual([true, [], ['lost count']])
    expect([await ask(clients[0], 'now'), await ask(clients[1], 'now')]).toEqual(['older:now', 'older:now'])
  })

  test('because the successor has no descriptor left keeps everything where it is', async () => {
    const older = startOlder()
    const clients = Array.from({ length: 150 }, () => rawClient(older.web.path))
    for (const client of clients) await ask(client, 'hello')
    const before = countFds()
    const result = await runScript(
      `const reactor = new Reactor()
       const listeners = { web: (handle) => UnixListener.from(reactor, handle) }
       await events.takeOver(reactor, process.argv[1], { listeners, connections: true }).catch((error) => console.log(error.code))
       reactor.close()`,
      { maxFiles: 120, args: [older.control] },
    )
    expect(result).toEqual({ code: 0, signal: null, stderr: '', stdout: 'ERR_FDS_TRUNCATED\n' })
    await until(() => older.failures.length === 1)
    await until(() => JSON.stringify(countFds()) === JSON.stringify(before), 'the same descriptors')
    for (const client of clients) expect(await ask(client, 'now')).toBe('older:now')
  })
})

describe('a successor that is killed', () => {
  test.each(['connected', 'asked', 'listener', 'connection', 'offered'])(
    'at the stage "%s" changes nothing',
    async (stage) => {
      const older = startOlder()
      const client = rawClient(older.web.path)
      await ask(client, 'hello')
      const before = countFds()
      const { child, line } = startHalf('successor', older.control, stage)
      await line()
      await kill(child)
      await until(() => older.failures.length === 1, 'the failure')
      expect(older.failures[0]).toMatch(/^The successor went away (before it sent|in the middle)/)
      await until(() => JSON.stringify(countFds()) === JSON.stringify(before), 'the same descriptors')
      expect([older.web.closed, older.web.unlinkOnClose]).toEqual([false, true])
      expect(await ask(client, 'still there')).toBe('older:still there')
      expect(await ask(rawClient(older.web.path), 'new')).toBe('older:new')
      const { taken } = await takeFrom(older)
      expect([await older.given, taken?.connections.length]).toEqual([true, 2])
      for (const { handle } of taken?.connections ?? []) handle.close()
    },
  )

  test('after it was ready takes everything with it, and the next one begins afresh', async () => {
    const older = startOlder()
    const { path } = older.web
    const client = rawClient(path)
    await ask(client, 'hello')
    const { child, line } = startHalf('successor', older.control, 'ready')
    await line()
    expect(await within(older.given)).toBe(true)
    await kill(child)
    await until(() => readNow(client)?.length === 0, 'the end')
    expect(existsSync(path)).toBe(true)
    expect(await takeOver(openReactor(), older.control, { listeners: {} })).toBeUndefined()
    expect(UnixListener.listen(openReactor(), path).path).toBe(path)
  })
})

describe('a predecessor that is killed', () => {
  test.each([
    ['connected', 'hello'],
    ['take', 'listener or connection or offered'],
    ['listener', 'listener or connection or offered'],
    ['connection', 'listener or connection or offered'],
  ])('at the stage "%s" leaves nothing, and a second try finds nobody', async (stage, due) => {
    const reactor = openReactor()
    const start = async (control: string): Promise<TakenOver<ListenerMakers> | undefined> =>
      takeOver(reactor, control, {
        listeners: { web: (handle: FdHandle) => UnixListener.from(reactor, handle) },
        connections: true,
      })
    const before = countFds()
    const { control, child, there } = await startDoomed(stage)
    const failing = expect(start(control)).rejects.toMatchObject({
      code: 'ERR_HAND_OVER',
      message: `The predecessor went away before it sent ${due}`,
    })
    await there
    await kill(child)
    await within(failing)
    await until(() => countFds().socket === before.socket, 'the same sockets')
    expect(await start(control)).toBeUndefined()
  })

  test.each(['ready', 'handed'])(
    'at the stage "%s" leaves its listeners, and closes the connections of which it had not told',
    async (stage) => {
      const doomed = await startDoomed(stage)
      const taking = takeFrom(doomed)
      await doomed.there
      const client = rawClient(doomed.path)
      await kill(doomed.child)
      const { taken } = await taking
      expect(taken?.connections).toEqual([])
      taken?.listeners.web?.on('connection', (stream) => echo('newer', stream))
      expect(await ask(client, 'now')).toBe('newer:now')
      expect(taken?.listeners.web?.unlinkOnClose).toBe(true)
    },
  )
})

describe('refused', () => {
  test('is another version, by both sides', async () => {
    const older = startOlder()
    const { say, hear } = await byHand(older.control)
    await say({ type: 'take', version: 2, connections: true })
    const reason =
      'it speaks version 1 of the protocol, and not 2. Stop the older process, then start the newer one'
    expect(await hear()).toEqual({ type: 'refused', reason, size: 0 })
    expect(await hear()).toBe('the end')
    expect(older.failures).toEqual([`The successor was refused: ${reason}`])
    const newer = UnixSeqpacketListener.listen(older.reactor, `${older.control}.2`)
    newer.on('connection', (socket) => {
      socket.send(JSON.stringify({ type: 'hello', version: 2, size: 0, more: true }))
    })
    await expect(takeFrom({ control: newer.path })).rejects.toMatchObject({
      code: 'ERR_HAND_OVER',
      message:
        'The predecessor speaks version 2 of the protocol, and this process 1. Stop the older process, then start the newer one',
    })
  })

  test.each([
    ['no JSON', 'no JSON'],
    ['another shape', '{"type":"take","version":"1","size":0}'],
    ['an unknown type', '{"type":"toString","size":0}'],
    ['a type that is not due', '{"type":"ready","size":0}'],
    ['nothing', ''],
  ])('is %s', async (_, packet) => {
    const older = startOlder()
    const { socket, hear } = await byHand(older.control)
    socket.send(packet)
    expect(await hear()).toBe('the end')
    expect(older.failures).toEqual(['The successor does not speak the protocol of hand-overs'])
    expect(older.web.closed).toBe(false)
  })

  test('is a listener that the successor does not know', async () => {
    const older = startOlder()
    const reactor = openReactor()
    const message =
      "The predecessor offers a listener 'web' that the successor does not make: a function that returns undefined gives it up"
    await expect(takeOver(reactor, older.control, { listeners: {} })).rejects.toMatchObject({
      code: 'ERR_HAND_OVER',
      message,
    })
    await until(() => older.failures.length === 1)
    expect(older.failures).toEqual([`The successor refused: ${message}`])
    expect(await ask(rawClient(older.web.path), 'who?')).toBe('older:who?')
  })

  test('is what a maker cannot make, and the file stays', async () => {
    const older = startOlder()
    const reactor = openReactor()
    let made: UnixListener | undefined
    const second = UnixListener.listen(older.reactor, `${older.web.path}.2`)
    const given = handOver(older.reactor, `${older.control}.2`, {
      listeners: { web: older.web, second },
      onFailed: (error) => older.failures.push(error.message),
    })
    await expect(
      takeOver(reactor, `${older.control}.2`, {
        listeners: {
          web: (handle) => (made = UnixListener.from(reactor, handle, { unlinkOnClose: true })),
          second: (handle) => TcpListener.from(reactor, handle),
        },
      }),
    ).rejects.toMatchObject({ code: 'EINVAL', message: expect.stringContaining('must be a listening TCP') })
    await until(() => older.failures.length === 1)
    expect(older.failures[0]).toContain('It is a listening Unix stream socket')
    expect([made?.closed, existsSync(older.web.path), older.web.closed]).toEqual([true, true, false])
    older.reactor.close()
    expect(await given).toBe(false)
  })

  test('is who is not allowed, on both sides', async () => {
    const older = startOlder({ allow: { uids: [NOBODY] } })
    const uid = process.getuid?.()
    await expect(takeFrom(older)).rejects.toMatchObject({
      code: 'ERR_HAND_OVER',
      message: `The predecessor refused: uid ${uid} may not take over. See the option 'allow' of handOver()`,
    })
    const trusting = startOlder()
    await expect(
      takeOver(openReactor(), trusting.control, { listeners: {}, allow: { uids: [NOBODY] } }),
    ).rejects.toMatchObject({
      code: 'ERR_HAND_OVER',
      message: `'${trusting.control}' belongs to uid ${uid}, from whom nothing is taken over. See the option 'allow' of takeOver()`,
    })
    await until(() => trusting.failures.length === 1)
  })

  test('is another user, even when it may connect', async ({ skip }) => {
    skip(process.getuid?.() !== 0, 'only root may run a process as somebody else')
    const older = startOlder()
    chmodSync(dirname(older.control), 0o755)
    const script = `
      import { Reactor } from '@fd-reactor/core'
      import { takeOver } from '@fd-reactor/fd-events'
      const reactor = new Reactor()
      await takeOver(reactor, process.argv[1], { listeners: {}, allow: { uids: [0] } }).catch((error) => console.log(error.code, error.message))
      reactor.close()`
    const asNobody = async (): Promise<string> => {
      const child = spawn(process.execPath, ['--input-type=module', '-e', script, older.control], {
        uid: NOBODY,
        gid: NOBODY,
        cwd: packageFolder,
        env: { ...process.env, ...withoutLeakCheck },
        stdio: ['ignore', 'pipe', 'inherit'],
      })
      return (await child.stdout.toArray()).join('')
    }
    expect(statSync(older.control).mode & 0o777).toBe(0o600)
    expect(await asNobody()).toBe(`EACCES EACCES: permission denied, connect '${older.control}'\n`)
    chmodSync(older.control, 0o666)
    expect(await asNobody()).toBe(
      "ERR_HAND_OVER The predecessor refused: uid 65534 may not take over. See the option 'allow' of handOver()\n",
    )
    expect(older.web.closed).toBe(false)
  })
})

describe('limits', () => {
  test('a successor that says nothing is given up, and one that is late learns that nothing is its own', async () => {
    const older = startOlder({ timeout: ms(50) })
    const { say, hear } = await byHand(older.control)
    await say({ type: 'take', version: 1, connections: false })
    expect(await hear()).toMatchObject({ type: 'listener', name: 'web', unlinkOnClose: true })
    expect(await hear()).toMatchObject({ type: 'offered' })
    await until(() => older.failures.length === 1)
    expect(older.failures).toEqual(['The successor was not done with the hand-over within 50 ms'])
    expect(await say({ type: 'ready' })).toMatchObject({ code: 'EPIPE' })
    expect(await ask(rawClient(older.web.path), 'who?')).toBe('older:who?')
  })

  test('what was said just before the limit counts', async () => {
    const older = startOlder({ timeout: ms(50) })
    const { say, hear } = await byHand(older.control)
    await say({ type: 'take', version: 1, connections: false })
    await hear()
    await hear()
    // Both the message and the limit are there when the predecessor looks.
    expect(await say({ type: 'ready' })).toBe('sent')
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 80)
    expect(await within(older.given)).toBe(true)
    expect(older.failures).toEqual([])
  })

  test('both sides know the same, however close to the limit the last word comes', async () => {
    const outcomes = new Set<boolean>()
    for (let n = 0; n < 60; n++) {
      const older = startOlder({ timeout: ms(4) })
      const takeLate = async (): Promise<boolean> => {
        const { say, hear } = await byHand(older.control)
        const start = performance.now()
        await say({ type: 'take', version: 1, connections: false })
        await hear()
        await hear()
        while (performance.now() - start < 2.5 + n / 20) await turn()
        return (await say({ type: 'ready' })) === 'sent'
      }
      const taken = await takeLate().catch(() => false) // the limit may come while it is still listening
      outcomes.add(taken)
      if (taken) expect(await within(older.given)).toBe(true)
      else await until(() => older.failures.length === 1)
      expect([older.web.closed, older.failures.length]).toEqual([taken, taken ? 0 : 1])
      older.reactor.close()
    }
    expect(outcomes.has(false)).toBe(true)
  })

  test('a predecessor that says nothing is given up', async () => {
    const reactor = openReactor()
    const silent = UnixSeqpacketListener.listen(reactor, socketPath())
    const before = countFds()
    await expect(
      takeOver(openReactor(), silent.path, { listeners: {}, timeout: ms(30) }),
    ).rejects.toMatchObject({
      code: 'ERR_TIMEOUT',
      message: 'The predecessor was not done with the hand-over within 30 ms',
    })
    await until(() => countFds().socket === before.socket, 'the same sockets')
  })

  test('a predecessor that is busy for longer is given up, and goes on when it can', async () => {
    const path = socketPath()
    const control = `${path}.control`
    const { child, line } = startHalf('serving', control, '-', path)
    expect(await line()).toEqual(['listening'])
    const client = rawClient(path)
    expect(await ask(client, 'before')).toBe('older:before')
    stop(child)
    const before = countFds()
    await expect(takeOver(openReactor(), control, { listeners: {}, timeout: ms(50) })).rejects.toMatchObject({
      code: 'ERR_TIMEOUT',
      message: 'The predecessor was not done with the hand-over within 50 ms',
    })
    expect(countFds().socket).toBe(before.socket)
    const failed = line()
    child.kill('SIGCONT')
    expect(String(await failed)).toMatch(/^failed: The successor (refused|went away)/)
    expect(await ask(client, 'after')).toBe('older:after')
    const given = line()
    const { taken } = await takeFrom({ control })
    expect(await given).toEqual(['given: true'])
    taken?.listeners.web?.on('connection', (stream) => echo('newer', stream))
    expect(await ask(rawClient(path), 'who?')).toBe('newer:who?')
    await kill(child)
  })

  test('once the successor is ready, a predecessor that is busy for longer is waited for', async () => {
    const path = socketPath()
    const control = `${path}.control`
    const { child, line } = startHalf('serving', control, '-', path)
    expect(await line()).toEqual(['listening'])
    const reactor = openReactor()
    const timeout = seconds(1)
    let settled = false
    let web: UnixListener | undefined
    const taking = takeOver(reactor, control, {
      listeners: {
        web: (handle) => {
          stop(child)
          return (web = UnixListener.from(reactor, handle))
        },
      },
      timeout,
    }).finally(() => (settled = true))
    const late = new Promise((resolve) => setTimeout(resolve, (1.2 * timeout) / 1e6))
    await until(() => web !== undefined, 'the listener')
    web?.on('connection', (stream) => echo('newer', stream))
    expect(await ask(rawClient(path), 'already')).toBe('newer:already')
    await late
    expect(settled).toBe(false)
    child.kill('SIGCONT')
    expect((await within(taking))?.listeners.web).toBe(web)
  })

  test('a successor that takes in nothing more is given up at the last word, too', async () => {
    const [stream] = await streamPair(openManual())
    /** Offers as many connections to who never reads, and tells what was on its way to it in the end. */
    const offer = async (count: number): Promise<number> => {
      const connections = (): IdleConnection[] => Array.from({ length: count }, () => ({ stream }))
      const older = startOlder({ listeners: {}, timeout: ms(100), connections })
      const deaf = await UnixSeqpacket.connect(openReactor(), older.control)
      deaf.send(JSON.stringify({ type: 'take', version: 1, connections: true, size: 0 }))
      await until(() => older.failures.length > 0, `the failure with ${count} connections`)
      expect(older.failures).toEqual(['The successor was not done with the hand-over within 100 ms'])
      older.reactor.close()
      let heard = 0
      for await (const [bytes] of deaf) heard += bytes.length > 0 ? 1 : 0
      return heard
    }
    const room = await offer(3000)
    // The first word is 'hello', and the last one, 'offered', is the first that finds no room.
    expect(await offer(room - 1)).toBe(room)
  })

  test('a signal ends the offer, an attempt under way included', async () => {
    const idle = new AbortController()
    const waiting = startOlder({ signal: idle.signal })
    idle.abort()
    await expect(waiting.given).rejects.toMatchObject({ name: 'AbortError' })
    expect([existsSync(waiting.control), waiting.web.closed]).toEqual([false, false])
    const busy = new AbortController()
    const older = startOlder({ signal: busy.signal })
    const { say, hear } = await byHand(older.control)
    await say({ type: 'take', version: 1, connections: false })
    await hear()
    busy.abort(new Error('changed my mind'))
    await expect(older.given).rejects.toThrow('changed my mind')
    expect([existsSync(older.control), older.web.closed, older.failures]).toEqual([false, false, []])
    await expect(
      handOver(older.reactor, older.control, { listeners: {}, signal: busy.signal }),
    ).rejects.toThrow('changed my mind')
  })

  test('a signal ends the taking', async () => {
    const reactor = openReactor()
    const silent = UnixSeqpacketListener.listen(reactor, socketPath())
    const taking = takeOver(openReactor(), silent.path, { listeners: {}, signal: AbortSignal.timeout(20) })
    await expect(within(taking)).rejects.toMatchObject({ name: 'TimeoutError' })
    await expect(
      takeOver(reactor, silent.path, { listeners: {}, signal: AbortSignal.abort() }),
    ).rejects.toMatchObject({ name: 'AbortError' })
  })

  test('closing the reactor ends the offer with false', async () => {
    const older = startOlder()
    older.reactor.close()
    expect(await within(older.given)).toBe(false)
    expect([existsSync(older.control), existsSync(older.web.path)]).toEqual([false, false])
  })

  test('closing the reactor ends the offer with false, also while one successor is served and another waits', async () => {
    const older = startOlder()
    await byHand(older.control)
    await UnixSeqpacket.connect(openReactor(), older.control)
    await quiet()
    older.reactor.close()
    expect(await within(older.given)).toBe(false)
    expect(older.failures).toEqual(['The successor went away before it sent take'])
  })

  test('a callback for failures that throws ends no offer, and is called once for each', async () => {
    const result = await runScript(
      `process.on('uncaughtException', (error) => console.log('uncaught', error.message))
       const reactor = new Reactor()
       let asked = 0
       const given = events.handOver(reactor, path, {
         listeners: {},
         connections: () => { if (asked++ > 0) throw new Error('lost count'); return [] },
         onFailed: (error) => { throw new Error('while told: ' + error.message) },
       })
       const newer = new Reactor()
       const socket = await events.UnixSeqpacket.connect(newer, path)
       await once(socket, 'message')
       socket.close()
       console.log(await events.takeOver(newer, path, { listeners: {}, connections: true }), await given)
       newer.close()
       reactor.close()`,
    )
    expect(result).toEqual({
      code: 0,
      signal: null,
      stderr: '',
      stdout:
        'uncaught while told: The successor went away before it sent take\n' +
        'uncaught while told: lost count\n{ listeners: {}, connections: [] } true\n',
    })
  })

  test('a successor without a descriptor for its limit leaves nothing behind', async () => {
    const older = startOlder()
    const result = await runScript(
      `import { closeSync, openSync } from 'node:fs'
       const reactor = new Reactor()
       const hoard = []
       try { for (;;) hoard.push(openSync('/dev/null')) } catch {}
       closeSync(hoard.pop()) // enough for the socket
       await events.takeOver(reactor, process.argv[1], { listeners: {} }).catch((error) => console.log(error.message))
       console.log(reactor.sources().length)
       process.exit()`,
      { maxFiles: 64, args: [older.control] },
    )
    expect(result).toMatchObject({
      code: 0,
      stdout: "EMFILE: too many open files, timerfd_create 'clock monotonic'\n0\n",
    })
  })

  test('an offer does not keep run() going', async () => {
    const reactor = openReactor()
    const given = handOver(reactor, socketPath(), { listeners: {} })
    expect(await within(reactor.run())).toBe(0)
    expect(await given).toBe(false)
  })

  test('a failure is a warning when nobody listens to it', async () => {
    const older = startOlder()
    const warned = onceEvent(process, 'warning')
    void handOver(older.reactor, `${older.control}.2`, { listeners: {} })
    const { socket } = await byHand(`${older.control}.2`)
    socket.close()
    expect(await within(warned)).toMatchObject([
      {
        code: 'FD_REACTOR_HAND_OVER',
        message: 'Not everything was handed over. The successor went away before it sent take',
      },
    ])
  })
})
