/**
 * Datagrams and packets with programs that others wrote: socat, logger, Python.
 */
import { readFileSync, writeFileSync } from 'node:fs'
import { once } from '@fd-reactor/core'
import { UnixDatagram, UnixSeqpacket, UnixSeqpacketListener } from '@fd-reactor/fd-events'
import { beforeEach, describe, expect, test } from 'vitest'
import { assertNoLeakedFds } from '../../core/test/support/fds.js'
import { openReactor, socketPath } from '../../core/test/support/reactors.js'
import { until, within } from '../../core/test/support/wait.js'
import { abstractName, devNull, needs, Outcomes, Peer, python } from './message-helpers.js'

assertNoLeakedFds()

/** Sends until the peer, which is being started, takes it. */
async function sendUntilTaken(
  datagram: UnixDatagram,
  text: string,
  to: string | { abstract: string },
): Promise<void> {
  const outcomes = new Outcomes()
  await until(
    () => {
      datagram.send(text, { to }, outcomes.next())
      return outcomes.words.at(-1) === 'sent'
    },
    `a receiver at ${JSON.stringify(to)}`,
  )
}

/** Connects to a peer that is being started. */
async function connectUntilTaken(connect: () => Promise<UnixSeqpacket>): Promise<UnixSeqpacket> {
  let connection: UnixSeqpacket | undefined
  let trying = false
  await until(() => {
    if (!trying) {
      trying = true
      connect().then(
        (made) => (connection = made),
        () => (trying = false),
      )
    }
    return connection !== undefined
  }, 'a listener')
  return connection ?? expect.unreachable('it was awaited')
}

describe('socat', () => {
  beforeEach(needs('socat'))

  test('UNIX-SENDTO sends, and gets an answer at its own name', async () => {
    const reactor = openReactor()
    const path = socketPath()
    const server = UnixDatagram.bind(reactor, path)
    const client = socketPath()
    server.on('message', (bytes, { from }) => {
      expect(from).toBe(client)
      server.send(`got ${String(bytes)}`, { to: from ?? '' })
    })
    const peer = new Peer('socat', ['-', `UNIX-SENDTO:${path},bind=${client}`])
    peer.write('hello')
    await peer.said('got hello')
  })

  test('ABSTRACT-SENDTO sends', async () => {
    const reactor = openReactor()
    const name = abstractName()
    const server = UnixDatagram.bind(reactor, name)
    const peer = new Peer('socat', ['-', `ABSTRACT-SENDTO:${name.abstract}`])
    peer.write('hello')
    const [bytes, { from }] = await within(once(server, 'message'))
    expect([String(bytes), from]).toEqual(['hello', undefined])
  })

  test('UNIX-RECV receives from us', async () => {
    const path = socketPath()
    const peer = new Peer('socat', ['-u', `UNIX-RECV:${path}`, '-'])
    const sender = UnixDatagram.open(openReactor())
    await sendUntilTaken(sender, 'one ', path)
    sender.send('two', { to: path })
    await peer.said('one two')
  })

  test('UNIX-RECVFROM answers', async () => {
    const path = socketPath()
    new Peer('socat', [`UNIX-RECVFROM:${path}`, 'EXEC:cat'])
    const datagram = UnixDatagram.open(openReactor(), { autobind: true })
    const heard = within(once(datagram, 'message'))
    await sendUntilTaken(datagram, 'echo this', path)
    expect(String((await heard)[0])).toBe('echo this')
  })

  test('a seqpacket client of ours: UNIX-LISTEN with type=5', async () => {
    const reactor = openReactor()
    const path = socketPath()
    new Peer('socat', [`UNIX-LISTEN:${path},type=5`, 'EXEC:cat'])
    const connection = await connectUntilTaken(() => UnixSeqpacket.connect(reactor, path))
    connection.send('packet')
    expect(String((await within(once(connection, 'message')))[0])).toBe('packet')
  })

  test.each(['path', 'abstract'])('a seqpacket server of ours: CONNECT with type=5 (%s)', async (kind) => {
    const reactor = openReactor()
    const address = kind === 'path' ? socketPath() : abstractName()
    const listener = UnixSeqpacketListener.listen(reactor, address)
    listener.on('connection', (connection) =>
      connection.on('message', (bytes) => connection.send(`got ${String(bytes)}`)),
    )
    const to =
      typeof address === 'string' ? `UNIX-CONNECT:${address}` : `ABSTRACT-CONNECT:${address.abstract}`
    const peer = new Peer('socat', ['-', `${to},type=5`])
    peer.write('hello')
    await peer.said('got hello')
  })
})

test('logger -u: syslog datagrams', async (context) => {
  needs('logger')(context)
  const reactor = openReactor()
  const path = socketPath()
  const server = UnixDatagram.bind(reactor, path, { credentials: true })
  const heard: string[] = []
  server.on('message', (bytes, { credentials }) => {
    heard.push(String(bytes))
    expect(credentials?.pid).toBe(peer.pid)
  })
  const peer = new Peer('logger', [
    '-u',
    path,
    '-d',
    '-t',
    'fd-reactor',
    '-p',
    'user.notice',
    'first',
    'message',
  ])
  expect(await within(peer.exited)).toBe(0)
  await until(() => heard.length === 1)
  expect(heard[0]).toMatch(/^<13>.*fd-reactor: first message$/)
})

describe('Python', () => {
  beforeEach(needs('python3'))

  test('passes descriptors, and says who it is', async () => {
    const reactor = openReactor()
    const file = socketPath()
    writeFileSync(file, 'from a file')
    const server = UnixDatagram.bind(reactor, abstractName(), { maxFds: 2, credentials: true, pidFd: true })
    const { abstract } = server.address as { abstract: string }
    const peer = python(
      `s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.connect('\\0' + sys.argv[1])
with open(sys.argv[2]) as f: socket.send_fds(s, [b'two'], [f.fileno(), f.fileno()])
s.send(b'none')
sys.stdin.read(1)`,
      abstract,
      file,
    )
    const heard: string[] = []
    server.on('message', (bytes, { fds, credentials, pidFd }) => {
      heard.push(
        `${String(bytes)} ${fds.length} ${fds[0] === undefined ? '' : readFileSync(fds[0].fd, 'utf8')}`,
      )
      expect(credentials).toEqual({ pid: peer.pid, uid: process.getuid?.(), gid: process.getgid?.() })
      expect(readFileSync(`/proc/self/fdinfo/${pidFd?.fd}`, 'utf8')).toContain(`Pid:\t${peer.pid}\n`)
      for (const fd of [...fds, pidFd]) fd?.close()
    })
    await until(() => heard.length === 2)
    expect(heard).toEqual(['two 2 from a file', 'none 0 '])
  })

  test('receives descriptors and credentials of ours', async () => {
    const reactor = openReactor()
    const name = abstractName()
    const peer = python(
      `s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
s.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
s.bind('\\0' + sys.argv[1]); s.listen(1)
c, _ = s.accept()
fds = []
for i in range(3):
    bytes, control, _, _ = c.recvmsg(100, 1000)
    for level, kind, data in control:
        if kind == socket.SCM_CREDENTIALS: pid = array.array('i', data)[0]
        else: fds = array.array('i', data)
    print(bytes.decode(), pid, [os.readlink('/proc/self/fd/%d' % fd) for fd in fds])
c.send(b'one'); c.send(b''); c.send(b'three')`,
      name.abstract,
    )
    const connection = await connectUntilTaken(() => UnixSeqpacket.connect(reactor, name))
    const file = devNull()
    const heard: string[] = []
    connection.on('message', (bytes) => heard.push(String(bytes)))
    connection.on('end', () => heard.push('(end)'))
    connection.send('none')
    connection.send('one', { fds: [file] })
    connection.send('two', { fds: [file, file] })
    await until(() => heard.includes('(end)'))
    expect(heard).toEqual(['one', '', 'three', '(end)'])
    const pid = String(process.pid)
    expect(peer.output).toBe(
      `none ${pid} []\none ${pid} ['/dev/null']\ntwo ${pid} ['/dev/null', '/dev/null']\n`,
    )
  })

  test('that sends malformed control messages is refused by its own kernel, and ours goes on', async () => {
    const reactor = openReactor()
    const name = abstractName()
    const server = UnixDatagram.bind(reactor, name, { maxFds: 2 })
    const heard: string[] = []
    server.on('message', (bytes, { fds }) => {
      for (const fd of fds) fd.close()
      heard.push(`${String(bytes)} ${fds.length}`)
    })
    const lost: string[] = []
    server.on('lost', ({ code }) => lost.push(code))
    const peer = python(
      `s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.connect('\\0' + sys.argv[1])
R = (socket.SOL_SOCKET, socket.SCM_RIGHTS)
for data in (b'', b'\\xff\\xff\\xff\\xff', array.array('i', [0] * 254)):
    try: s.sendmsg([b'bad'], [R + (data,)])
    except OSError as error: print(error.errno)
s.sendmsg([b'many'], [R + (array.array('i', [0] * 253),)])
s.sendmsg([b'good'], [R + (array.array('i', [0, 1]),)])`,
      name.abstract,
    )
    expect(await within(peer.exited)).toBe(0)
    await until(() => heard.includes('good 2'))
    expect(lost).toEqual(['ERR_FDS_TRUNCATED'])
    expect(peer.output).toBe('9\n22\n')
    expect(heard).toEqual(['bad 0', 'good 2'])
  })
})
