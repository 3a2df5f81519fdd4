import { spawn, spawnSync } from 'node:child_process'
import { once as onceEvent } from 'node:events'
import { writeSync } from 'node:fs'
import { FdHandle, once, type Reactor } from '@fd-reactor/core'
import { eventfd } from '@fd-reactor/core/sys'
import { ms, notify, UnixDatagram, watchdogInterval, type NotifyState } from '@fd-reactor/fd-events'
import { afterEach, describe, expect, onTestFinished, test, type TestContext } from 'vitest'
import { assertNoLeakedFds, countFds } from '../../core/test/support/fds.js'
import { openReactor, socketPath } from '../../core/test/support/reactors.js'
import { turn, within } from '../../core/test/support/wait.js'
import { thrownBy } from './unix-helpers.js'

assertNoLeakedFds()

const VARIABLES = ['NOTIFY_SOCKET', 'WATCHDOG_USEC', 'WATCHDOG_PID']
/** What a manager gets with a message. */
interface Told {
  text: string
  pid: number | undefined
  fds: readonly FdHandle[]
}

afterEach(() => {
  for (const name of VARIABLES) Reflect.deleteProperty(process.env, name)
})

/** A manager that keeps what it is told; who has set NOTIFY_SOCKET. */
function manager(reactor: Reactor, address: string | { abstract: string } = socketPath()): Told[] {
  const told: Told[] = []
  const socket = UnixDatagram.bind(reactor, address, { credentials: true, maxFds: 8 })
  socket.on('message', (bytes, { credentials, fds }) => {
    told.push({ text: String(bytes), pid: credentials?.pid, fds })
    onTestFinished(() => fds.forEach((fd) => fd.close()))
    if (String(bytes) === 'BARRIER=1') for (const fd of fds) fd.close()
  })
  process.env['NOTIFY_SOCKET'] = typeof address === 'string' ? address : `@${address.abstract}`
  return told
}

async function next(told: Told[]): Promise<Told> {
  while (told.length === 0) await turn()
  return told.shift() ?? expect.unreachable()
}

describe('what is told', () => {
  test.each<[NotifyState, string]>([
    [{ ready: true }, 'READY=1'],
    [{ ready: true, status: 'Serving 3 clients' }, 'READY=1\nSTATUS=Serving 3 clients'],
    [{ stopping: true, status: 'Bis später' }, 'STOPPING=1\nSTATUS=Bis später'],
    [{ status: '' }, 'STATUS='],
    [{ watchdog: true }, 'WATCHDOG=1'],
    [{ watchdog: 'trigger' }, 'WATCHDOG=trigger'],
    [{ mainPid: 4711 }, 'MAINPID=4711'],
    [{ errno: 2 }, 'ERRNO=2'],
    [{ errno: -2, status: 'no file' }, 'STATUS=no file\nERRNO=2'],
    [{ errno: 0 }, 'ERRNO=0'],
    [{ extendTimeout: ms(1500) }, 'EXTEND_TIMEOUT_USEC=1500000'],
    [{ extendTimeout: 1 }, 'EXTEND_TIMEOUT_USEC=1'],
    [{ removeFds: 'db; 1' }, 'FDSTOREREMOVE=1\nFDNAME=db; 1'],
    [{ ready: true, status: undefined, watchdog: true }, 'READY=1\nWATCHDOG=1'],
  ] as [NotifyState, string][])('%o', async (state, text) => {
    const reactor = openReactor()
    const told = manager(reactor)
    expect(await notify(reactor, state)).toBe(true)
    expect(await within(next(told))).toEqual({ text, pid: process.pid, fds: [] })
  })

  test('reloading, with the time of CLOCK_MONOTONIC', async () => {
    const reactor = openReactor()
    const told = manager(reactor)
    const before = process.hrtime.bigint()
    await notify(reactor, { reloading: true, status: 'Reading' })
    const after = process.hrtime.bigint()
    const { text } = await within(next(told))
    const [, usec = ''] = /^RELOADING=1\nMONOTONIC_USEC=(\d+)\nSTATUS=Reading$/.exec(text) ?? []
    expect(BigInt(usec) * 1000n).toBeGreaterThan(before - 1000n)
    expect(BigInt(usec) * 1000n).toBeLessThanOrEqual(after)
  })

  test('descriptors to keep', async () => {
    const reactor = openReactor()
    const told = manager(reactor)
    const fds = [1n, 2n].map((count) => new FdHandle(eventfd.create(count, false)))
    await notify(reactor, { fds, fdName: 'bells' })
    for (const fd of fds) fd.close()
    const { text, fds: kept } = await within(next(told))
    expect(text).toBe('FDSTORE=1\nFDNAME=bells')
    expect(kept).toHaveLength(2)
    for (const fd of kept) fd.close()
    using unnamed = new FdHandle(eventfd.create(0n, false))
    await notify(reactor, { fds: [unnamed] })
    expect((await within(next(told))).text).toBe('FDSTORE=1')
  })

  test('to an abstract address', async () => {
    const reactor = openReactor()
    const told = manager(reactor, { abstract: `fd-reactor-notify-${process.pid}` })
    expect(await notify(reactor, { ready: true })).toBe(true)
    expect((await within(next(told))).text).toBe('READY=1')
  })

  test('a manager that does not read for a while gets everything, in order of the waiting', async () => {
    const reactor = openReactor()
    const slow = openReactor({ wakeup: 'uv' })
    const path = socketPath()
    const texts: string[] = []
    const socket = UnixDatagram.bind(slow, path)
    process.env['NOTIFY_SOCKET'] = path
    const sending = (async () => {
      for (let count = 0; count < 50; count++) await notify(reactor, { status: `${count}` })
    })()
    for (let turns = 0; turns < 20; turns++) await turn()
    socket.on('message', (bytes) => texts.push(String(bytes)))
    await within(sending)
    while (texts.length < 50) await turn()
    expect(texts).toEqual(Array.from({ length: 50 }, (_, count) => `STATUS=${count}`))
  })
})

describe('without a manager', () => {
  test('false, and nothing is done', async () => {
    const reactor = openReactor()
    const before = countFds()
    expect(await notify(reactor, { ready: true }, { barrier: true })).toBe(false)
    expect(countFds()).toEqual(before)
    expect(reactor.sources()).toEqual([])
  })

  test.each(['', 'relative/path', '@', 'vsock:2:1234'])('NOTIFY_SOCKET %o is an error', async (address) => {
    process.env['NOTIFY_SOCKET'] = address
    await expect(notify(openReactor(), { ready: true })).rejects.toMatchObject({
      code: 'ERR_ENVIRONMENT',
      message: `NOTIFY_SOCKET is '${address}', and must be an absolute path, or an abstract name after an @`,
    })
  })

  test('nobody at the address is an error', async () => {
    const reactor = openReactor()
    const path = (process.env['NOTIFY_SOCKET'] = socketPath())
    await expect(notify(reactor, { ready: true })).rejects.toMatchObject({
      code: 'ENOENT',
      message: `ENOENT: no such file or directory, connect '${path}'`,
    })
    const gone = UnixDatagram.bind(reactor, path, { unlinkOnClose: false })
    gone.close()
    await expect(notify(reactor, { ready: true })).rejects.toMatchObject({
      message: `ECONNREFUSED: connection refused, connect '${path}'. Nobody receives there`,
    })
  })

  test('an address that is too long is explained', async () => {
    const path = (process.env['NOTIFY_SOCKET'] = `/${'x'.repeat(107)}`)
    await expect(notify(openReactor(), { ready: true })).rejects.toMatchObject({
      message: `ENAMETOOLONG: name too long, connect '${path}'. The path has 108 bytes, and sun_path holds 107: use a shorter folder, or a path relative to the working directory`,
    })
    const name = (process.env['NOTIFY_SOCKET'] = `@${'x'.repeat(108)}`)
    await expect(notify(openReactor(), { ready: true })).rejects.toMatchObject({
      message: `ENAMETOOLONG: name too long, connect '${name}'. The name has 108 bytes, and an abstract name holds 107`,
    })
  })
})

describe('a barrier', () => {
  test('resolves when the manager has closed what came with it', async () => {
    const reactor = openReactor()
    const path = (process.env['NOTIFY_SOCKET'] = socketPath())
    const socket = UnixDatagram.bind(reactor, path, { maxFds: 1 })
    await notify(reactor, { ready: true })
    await within(once(socket, 'message'))
    await new Promise<void>((resolve) => reactor.defer(resolve)) // opens what is needed for it
    const before = countFds()
    let finished = false
    const done = notify(reactor, { stopping: true }, { barrier: true }).then(() => (finished = true))
    const [first] = await within(once(socket, 'message'))
    const [second, { fds }] = await within(once(socket, 'message'))
    expect([String(first), String(second), fds.length]).toEqual(['STOPPING=1', 'BARRIER=1', 1])
    for (let turns = 0; turns < 20; turns++) await turn()
    expect(finished).toBe(false)
    for (const fd of fds) fd.close()
    await within(done)
    expect(countFds()).toEqual(before)
  })

  test('that is not answered ends with ERR_TIMEOUT, and leaves nothing open', async () => {
    const reactor = openReactor()
    const path = (process.env['NOTIFY_SOCKET'] = socketPath())
    UnixDatagram.bind(reactor, path)
    await notify(reactor, { ready: true })
    const before = countFds()
    await expect(notify(reactor, { ready: true }, { barrier: true, timeout: ms(20) })).rejects.toMatchObject({
      code: 'ERR_TIMEOUT',
      message: 'The service manager did not take the notification within 20 ms',
    })
    expect(countFds()).toEqual(before)
  })

  test('ends with its signal, and with its reactor', async () => {
    const reactor = openReactor()
    const path = (process.env['NOTIFY_SOCKET'] = socketPath())
    const far = openReactor()
    UnixDatagram.bind(far, path)
    const controller = new AbortController()
    const waiting = notify(reactor, { ready: true }, { barrier: true, signal: controller.signal })
    const reason = new Error('the test has changed its mind')
    setImmediate(() => controller.abort(reason))
    await expect(waiting).rejects.toBe(reason)
    await expect(notify(reactor, { ready: true }, { signal: controller.signal })).rejects.toBe(reason)
    const closing = notify(reactor, { ready: true }, { barrier: true })
    setImmediate(() => reactor.close())
    await expect(closing).rejects.toMatchObject({ code: 'ERR_CLOSED' })
  })

  test('a manager that never reads is given up', async () => {
    const reactor = openReactor()
    const path = (process.env['NOTIFY_SOCKET'] = socketPath())
    UnixDatagram.bind(reactor, path)
    const results = await Promise.allSettled(
      Array.from({ length: 400 }, async () => notify(reactor, { watchdog: true }, { timeout: ms(50) })),
    )
    const failed = results.filter((result) => result.status === 'rejected')
    expect(failed.length).toBeGreaterThan(0)
    for (const { reason } of failed) expect(reason).toMatchObject({ code: 'ERR_TIMEOUT' })
  })
})

describe('bad input says what was wrong', () => {
  test.each<[unknown, string]>([
    [{}, 'notify() needs something to tell, such as { ready: true }'],
    [{ ready: false }, "notify option 'ready' must be true, not false"],
    [{ redy: true }, "notify has no option 'redy'; did you mean 'ready'?"],
    [{ status: 'two\nlines' }, "notify option 'status' must be one line, without a newline or NUL"],
    [{ status: 'a\0b' }, "notify option 'status' must be one line, without a newline or NUL"],
    [{ status: 7 }, "notify option 'status' must be a string"],
    [
      { status: 'x'.repeat(4096) },
      'notify(): 4103 bytes are more than the 4096 that a manager reads: shorten the status',
    ],
    [{ mainPid: 0 }, "notify option 'mainPid' must be an integer from 1 to 4194304, not 0"],
    [{ errno: 5000 }, "notify option 'errno' must be an integer from -4095 to 4095, not 5000"],
    [
      { extendTimeout: 0 },
      "notify option 'extendTimeout' must be an integer from 1 to 9007199254740991, not 0",
    ],
    [{ watchdog: 'on' }, "notify option 'watchdog' must be true or \"trigger\", not 'on'"],
    [{ fds: [] }, "notify option 'fds' must be an array of FdHandles that is not empty"],
    [{ fds: [3] }, "UnixDatagram.send option 'fds' must be an array of at most 253 open FdHandles"],
    [{ fdName: 'a', ready: true }, "notify() option 'fdName' needs fds"],
    [
      { fds: [3], fdName: 'a:b' },
      "notify option 'fdName' must be 1 to 255 characters of printable ASCII other than ':'",
    ],
    [
      { removeFds: 'a\nREADY=1' },
      "notify option 'removeFds' must be 1 to 255 characters of printable ASCII other than ':'",
    ],
    [
      { fds: [3], removeFds: 'b' },
      'notify() cannot store and remove descriptors at once: they would share a name',
    ],
  ])('%o', async (state, message) => {
    const reactor = openReactor()
    const told = manager(reactor)
    await expect(notify(reactor, state as NotifyState)).rejects.toMatchObject({ message })
    await turn()
    expect(told).toEqual([])
  })

  test('also without a manager', async () => {
    const reactor = openReactor()
    await expect(notify(reactor, { status: 'two\nlines' })).rejects.toThrow('must be one line')
    // @ts-expect-error a misspelt option
    await expect(notify(reactor, { ready: true }, { barier: true })).rejects.toMatchObject({
      message: "notify has no option 'barier'; did you mean 'barrier'?",
    })
    await expect(notify(reactor, { ready: true }, { timeout: 0 })).rejects.toMatchObject({
      message: "notify option 'timeout' must be an integer from 1 to 9007199254740991, not 0",
    })
  })
})

describe('watchdogInterval', () => {
  test.each([
    [{}, undefined],
    [{ USEC: '30000000' }, 30e9],
    [{ USEC: '1', PID: `${process.pid}` }, 1000],
    [{ USEC: '30000000', PID: `${process.pid + 1}` }, undefined],
    [{ PID: `${process.pid}` }, undefined],
  ])('%o', (variables, interval) => {
    for (const [name, value] of Object.entries(variables)) process.env[`WATCHDOG_${name}`] = value
    expect(watchdogInterval()).toBe(interval)
  })

  test.each([
    [{ USEC: '0' }, "WATCHDOG_USEC is '0', and must be a number from 1 to 9007199254740991"],
    [{ USEC: '30s' }, "WATCHDOG_USEC is '30s', and must be a number from 1 to 9007199254740991"],
    [{ USEC: '1', PID: '' }, "WATCHDOG_PID is '', and must be a number from 1 to 4194304"],
  ])('%o is an error', (variables, message) => {
    for (const [name, value] of Object.entries(variables)) process.env[`WATCHDOG_${name}`] = value
    expect(thrownBy(watchdogInterval)).toMatchObject({ code: 'ERR_ENVIRONMENT', message })
  })
})

describe('peers that other people wrote', () => {
  function needs({ skip }: TestContext, command: string, what: string): void {
    skip(spawnSync('which', [command]).status !== 0, `${what} is not installed`)
  }

  test('systemd-notify tells our socket the same, and waits for its barrier', async (context) => {
    needs(context, 'systemd-notify', 'systemd-notify (Debian package systemd)')
    const reactor = openReactor()
    const path = socketPath()
    const socket = UnixDatagram.bind(reactor, path, { credentials: true, maxFds: 1 })
    const env = { ...process.env, NOTIFY_SOCKET: path }
    const args = ['--ready', '--status=Serving 3 clients', '--pid=4711', 'WATCHDOG=1']
    const child = spawn('systemd-notify', args, { env, stdio: 'inherit' })
    const exit = onceEvent(child, 'exit')
    const [bytes, { fds: none }] = await within(once(socket, 'message'))
    const theirs = String(bytes).split('\n').sort()
    expect(none).toEqual([])
    const [barrier, { fds }] = await within(once(socket, 'message'))
    expect([String(barrier), fds.length]).toEqual(['BARRIER=1', 1])
    expect(child.exitCode).toBe(null)
    for (const fd of fds) fd.close()
    expect((await within(exit))[0]).toBe(0)
    const told = manager(reactor)
    await notify(reactor, { ready: true, status: 'Serving 3 clients', mainPid: 4711, watchdog: true })
    expect((await within(next(told))).text.split('\n').sort()).toEqual(theirs)
  })

  test('python3, as a manager, sees who sent it and what came along', async (context) => {
    needs(context, 'python3', 'python3')
    const reactor = openReactor()
    const path = (process.env['NOTIFY_SOCKET'] = socketPath())
    const script = `import os, socket, struct, sys
manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
manager.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
manager.bind(sys.argv[1])
print('ready', flush=True)
for _ in range(2):
  text, control, flags, _ = manager.recvmsg(4096, 1024)
  for level, kind, data in control:
    if kind == socket.SCM_CREDENTIALS: pid, uid, gid = struct.unpack('iii', data)
    if kind == socket.SCM_RIGHTS: fd, = struct.unpack('i', data)
  print(text.decode().replace(chr(10), ' '), pid, os.read(fd, 8) if text.startswith(b'FD') else os.fstat(fd).st_mode >> 12, flush=True)
  os.close(fd)`
    const python = spawn('python3', ['-c', script, path])
    const lines = python.stdout.setEncoding('utf8')[Symbol.asyncIterator]()
    await within(lines.next())
    using own = new FdHandle(eventfd.create(5n, false))
    expect(await within(notify(reactor, { fds: [own], fdName: 'bell' }, { barrier: true }))).toBe(true)
    let text = ''
    for await (const chunk of { [Symbol.asyncIterator]: () => lines }) text += String(chunk)
    const bell = String.raw`b'\x05\x00\x00\x00\x00\x00\x00\x00'`
    expect(text.trimStart()).toBe(
      `FDSTORE=1 FDNAME=bell ${process.pid} ${bell}\nBARRIER=1 ${process.pid} 1\n`,
    )
  })
})

test('what is stored can be used by who gets it', async () => {
  const reactor = openReactor()
  const told = manager(reactor)
  const own = new FdHandle(eventfd.create(0n, false))
  await notify(reactor, { fds: [own] })
  own.close()
  const [stored = expect.unreachable()] = (await within(next(told))).fds
  writeSync(stored.fd, Buffer.from([1, 0, 0, 0, 0, 0, 0, 0]))
  stored.close()
})
