/**
 * Every bad input to sockets and listeners, with the message that a user sees. Others have their tables beside what they belong to: variables in
 * activation.test.ts and notify.test.ts, bytes on the wire in framing.test.ts, partners of a hand-over in hand-over.test.ts.
 */
import { mkdirSync, writeFileSync } from 'node:fs'
import { FdHandle, once } from '@fd-reactor/core'
import {
  connect,
  EventFd,
  listen,
  TcpListener,
  TcpStream,
  UnixDatagram,
  UnixListener,
  UnixSeqpacket,
  UnixSeqpacketListener,
  UnixStream,
  type DatagramSendOptions,
  type SendOptions,
  type SendOutcome,
} from '@fd-reactor/fd-events'
import { Domain, socket, SocketType } from '@fd-reactor/core/sys'
import { assertNoLeakedFds } from '../../core/test/support/fds.js'
import { closedLater, describeBad, LONG, type Kit, type Row } from './bad-inputs-helpers.js'
import { abstractName, devNull } from './message-helpers.js'
import { leaveDeadSocket, pair } from './unix-helpers.js'

assertNoLeakedFds()

describeBad('an address to listen at', ({ reactor }, address) => UnixListener.listen(reactor, address), [
  [
    '',
    'TypeError: The address of a Unix socket must be a path that is not empty and has no NUL in it, or { abstract: name }',
  ],
  [
    'a\0b',
    'TypeError: The address of a Unix socket must be a path that is not empty and has no NUL in it, or { abstract: name }',
  ],
  [
    7,
    'TypeError: The address of a Unix socket must be a path that is not empty and has no NUL in it, or { abstract: name }',
  ],
  [
    null,
    'TypeError: The address of a Unix socket must be a path that is not empty and has no NUL in it, or { abstract: name }',
  ],
  [
    undefined,
    'TypeError: The address of a Unix socket must be a path that is not empty and has no NUL in it, or { abstract: name }',
  ],
  [
    {},
    'TypeError: An abstract name must be a text that is not empty and has no NUL in it (the leading one is added), or bytes',
  ],
  [
    { abstract: '' },
    'TypeError: An abstract name must be a text that is not empty and has no NUL in it (the leading one is added), or bytes',
  ],
  [
    { abstract: '\0name' },
    'TypeError: An abstract name must be a text that is not empty and has no NUL in it (the leading one is added), or bytes',
  ],
  [
    { abstract: 7 },
    'TypeError: An abstract name must be a text that is not empty and has no NUL in it (the leading one is added), or bytes',
  ],
  [
    { abstract: new Uint8Array() },
    'TypeError: An abstract name must be a text that is not empty and has no NUL in it (the leading one is added), or bytes',
  ],
  [
    LONG,
    "SystemError: ENAMETOOLONG: name too long, bind 'LONG'. The path has 108 bytes, and sun_path holds 107: use a shorter folder, or a path relative to the working directory",
  ],
  [
    { abstract: LONG },
    "SystemError: ENAMETOOLONG: name too long, bind '@LONG'. The name has 108 bytes, and an abstract name holds 107",
  ],
  ['/no-such-folder/socket', "Error: ENOENT: no such file or directory, open '/no-such-folder'"],
  ['/proc/socket', "SystemError: ENOENT: no such file or directory, bind '/proc/socket'"],
])

const TAKEN: Readonly<Record<string, (kit: Kit) => void>> = {
  'by a listener': ({ reactor, path }) => void UnixListener.listen(reactor, path),
  'by a datagram socket': ({ reactor, path }) => void UnixDatagram.bind(reactor, path),
  'by a file': ({ path }) => writeFileSync(path, ''),
  'by a folder': ({ path }) => mkdirSync(path),
}
describeBad(
  'a path that is taken',
  (kit, how: string) => {
    TAKEN[how]?.(kit)
    return UnixSeqpacketListener.listen(kit.reactor, kit.path)
  },
  Object.keys(TAKEN).map((how): Row => [
    how,
    "SystemError: EADDRINUSE: address already in use, bind 'DIR/socket'. Another process listens there, or the file is not a dead socket",
  ]),
)
describeBad(
  'an abstract name that is taken',
  ({ reactor }, abstract: string) => {
    UnixListener.listen(reactor, { abstract })
    return UnixListener.listen(reactor, { abstract })
  },
  [
    [
      'fd-reactor-taken',
      "SystemError: EADDRINUSE: address already in use, bind '@fd-reactor-taken'. Another socket in this network namespace has the name",
    ],
  ],
)
describeBad(
  'for a path that is taken, unlinkStale',
  ({ reactor, path }, unlinkStale) => {
    leaveDeadSocket(path)
    return UnixListener.listen(reactor, path, { unlinkStale })
  },
  [
    [
      false,
      "SystemError: EADDRINUSE: address already in use, bind 'DIR/socket'. Another process listens there, or the file is not a dead socket",
    ],
    ['no', "TypeError: UnixListener option 'unlinkStale' must be a boolean, not 'no'"],
  ],
)

const ELSEWHERE: Readonly<Record<string, (kit: Kit) => unknown>> = {
  'no file': () => undefined,
  'a file': ({ path }) => writeFileSync(path, ''),
  'a dead socket': ({ path }) => leaveDeadSocket(path),
  'a listener for streams': ({ reactor, path }) => UnixListener.listen(reactor, path),
  'a listener for packets': ({ reactor, path }) => UnixSeqpacketListener.listen(reactor, path),
  'a datagram socket': ({ reactor, path }) => UnixDatagram.bind(reactor, path),
}
describeBad(
  'UnixStream.connect() to',
  async (kit, where: string) => {
    ELSEWHERE[where]?.(kit)
    return UnixStream.connect(kit.reactor, kit.path)
  },
  [
    ['no file', "SystemError: ENOENT: no such file or directory, connect 'DIR/socket'"],
    ['a file', "SystemError: ECONNREFUSED: connection refused, connect 'DIR/socket'. Nobody listens there"],
    [
      'a dead socket',
      "SystemError: ECONNREFUSED: connection refused, connect 'DIR/socket'. Nobody listens there",
    ],
    [
      'a listener for packets',
      "SystemError: EPROTOTYPE: protocol wrong type for socket, connect 'DIR/socket'. The socket there has another type",
    ],
    [
      'a datagram socket',
      "SystemError: EPROTOTYPE: protocol wrong type for socket, connect 'DIR/socket'. The socket there has another type",
    ],
  ],
)
describeBad('UnixStream.connect() to', ({ reactor }, address) => UnixStream.connect(reactor, address), [
  [
    '',
    'TypeError: The address of a Unix socket must be a path that is not empty and has no NUL in it, or { abstract: name }',
  ],
  [
    7,
    'TypeError: The address of a Unix socket must be a path that is not empty and has no NUL in it, or { abstract: name }',
  ],
  [
    LONG,
    "SystemError: ENAMETOOLONG: name too long, connect 'LONG'. The path has 108 bytes, and sun_path holds 107: use a shorter folder, or a path relative to the working directory",
  ],
  [
    { abstract: LONG },
    "SystemError: ENAMETOOLONG: name too long, connect '@LONG'. The name has 108 bytes, and an abstract name holds 107",
  ],
  [
    { abstract: 'nobody listens' },
    "SystemError: ECONNREFUSED: connection refused, connect '@nobody listens'. Nobody listens there",
  ],
])
describeBad(
  'UnixStream.connect() options',
  async ({ reactor, path }, options) => UnixStream.connect(reactor, path, options),
  [
    [
      { timeout: 0 },
      "RangeError: UnixStream.connect option 'timeout' must be an integer from 1 to 9007199254740991, not 0",
    ],
    [{ timeOut: 1 }, "TypeError: UnixStream.connect has no option 'timeOut'; did you mean 'timeout'?"],
    [
      { maxFds: 254 },
      "RangeError: UnixStream.connect option 'maxFds' must be an integer from 0 to 253, not 254",
    ],
    [7, 'TypeError: UnixStream.connect options must be an object, not 7'],
  ],
)
describeBad(
  'UnixSeqpacket.connect() to',
  async (kit, where: string) => {
    ELSEWHERE[where]?.(kit)
    return UnixSeqpacket.connect(kit.reactor, kit.path)
  },
  [
    ['no file', "SystemError: ENOENT: no such file or directory, connect 'DIR/socket'"],
    [
      'a listener for streams',
      "SystemError: EPROTOTYPE: protocol wrong type for socket, connect 'DIR/socket'. The socket there has another type",
    ],
  ],
)
describeBad(
  'UnixSeqpacket.connect() options',
  async ({ reactor, path }, options) => UnixSeqpacket.connect(reactor, path, options),
  [
    [
      { timeout: 0 },
      "RangeError: UnixSeqpacket.connect option 'timeout' must be an integer from 1 to 9007199254740991, not 0",
    ],
    [
      { idleTimeout: '1s' },
      "TypeError: UnixSeqpacket.connect option 'idleTimeout' must be a number, not '1s'",
    ],
    [
      { allowHalfOpen: 1 },
      "TypeError: UnixSeqpacket.connect option 'allowHalfOpen' must be a boolean, not 1",
    ],
    [
      { headerTimeout: 1 },
      "TypeError: UnixSeqpacket.connect has no option 'headerTimeout'; did you mean 'idleTimeout'?",
    ],
  ],
)
describeBad(
  'UnixDatagram.connect() to',
  (kit, where: string) => {
    ELSEWHERE[where]?.(kit)
    return UnixDatagram.connect(kit.reactor, kit.path)
  },
  [
    ['no file', "SystemError: ENOENT: no such file or directory, connect 'DIR/socket'"],
    [
      'a dead socket',
      "SystemError: ECONNREFUSED: connection refused, connect 'DIR/socket'. Nobody receives there",
    ],
    [
      'a listener for streams',
      "SystemError: EPROTOTYPE: protocol wrong type for socket, connect 'DIR/socket'. The socket there has another type",
    ],
  ],
)
describeBad(
  'UnixDatagram.connect() to one that is connected',
  ({ reactor, path }, bind: string) => {
    const far = UnixDatagram.bind(reactor, path)
    UnixDatagram.connect(reactor, path, { bind: `${path}${bind}` })
    void far
    return UnixDatagram.connect(reactor, `${path}${bind}`)
  },
  [
    [
      '.taken',
      "SystemError: EPERM: operation not permitted, connect 'DIR/socket.taken'. The socket there is connected to another one, and hears from that alone",
    ],
  ],
)
describeBad(
  'UnixDatagram.connect() options',
  ({ reactor }, options) => UnixDatagram.connect(reactor, abstractName(), options),
  [
    [
      { bind: '' },
      'TypeError: The address of a Unix socket must be a path that is not empty and has no NUL in it, or { abstract: name }',
    ],
    [
      { bind: LONG },
      "SystemError: ENAMETOOLONG: name too long, bind 'LONG'. The path has 108 bytes, and sun_path holds 107: use a shorter folder, or a path relative to the working directory",
    ],
    [{ autobind: 1 }, "TypeError: UnixDatagram.connect option 'autobind' must be a boolean, not 1"],
    [{ to: '/tmp/x' }, "TypeError: UnixDatagram.connect has no option 'to'; did you mean 'ref'?"],
  ],
)

describeBad(
  'UnixDatagram.bind() options',
  ({ reactor, path }, options) => UnixDatagram.bind(reactor, path, options),
  [
    [7, 'TypeError: UnixDatagram.bind options must be an object, not 7'],
    [{ maxFd: 1 }, "TypeError: UnixDatagram.bind has no option 'maxFd'; did you mean 'maxFds'?"],
    [
      { maxFds: 254 },
      "RangeError: UnixDatagram.bind option 'maxFds' must be an integer from 0 to 253, not 254",
    ],
    [
      { maxFds: -1 },
      "RangeError: UnixDatagram.bind option 'maxFds' must be an integer from 0 to 253, not -1",
    ],
    [
      { maxMessageBytes: 0 },
      "RangeError: UnixDatagram.bind option 'maxMessageBytes' must be an integer from 1 to 217088, not 0",
    ],
    [
      { maxMessageBytes: 300_000 },
      "RangeError: UnixDatagram.bind option 'maxMessageBytes' must be an integer from 1 to 217088, not 300000",
    ],
    [
      { onCongestion: 'drop' },
      'TypeError: UnixDatagram.bind option \'onCongestion\' must be "wait" or "drop-new" or "drop-old" or "error", not \'drop\'',
    ],
    [
      { queueLimit: -1 },
      "RangeError: UnixDatagram.bind option 'queueLimit' must be an integer from 0 to 1000000, not -1",
    ],
    [
      { highWaterMark: -1 },
      "RangeError: UnixDatagram.bind option 'highWaterMark' must be an integer from 0 to 9007199254740991, not -1",
    ],
    [
      { sendBuffer: 0 },
      "RangeError: UnixDatagram.bind option 'sendBuffer' must be an integer from 1 to 1073741824, not 0",
    ],
    [
      { receiveBuffer: '64k' },
      "TypeError: UnixDatagram.bind option 'receiveBuffer' must be a number, not '64k'",
    ],
    [{ credentials: 1 }, "TypeError: UnixDatagram.bind option 'credentials' must be a boolean, not 1"],
    [{ pidFd: 'yes' }, "TypeError: UnixDatagram.bind option 'pidFd' must be a boolean, not 'yes'"],
    [{ borrow: 'offsets' }, "TypeError: UnixDatagram.bind option 'borrow' must be a boolean, not 'offsets'"],
    [{ mode: '0600' }, "TypeError: UnixDatagram.bind option 'mode' must be a number, not '0600'"],
    [
      { mode: 0o10000 },
      "RangeError: UnixDatagram.bind option 'mode' must be an integer from 0 to 4095, not 4096",
    ],
    [{ owner: 0 }, "TypeError: UnixDatagram.bind option 'owner' must be an object { uid, gid }"],
    [
      { owner: { user: 0 } },
      "TypeError: UnixDatagram.bind option 'owner' has no option 'user'; did you mean 'uid'?",
    ],
    [
      { owner: { uid: -2 } },
      "RangeError: UnixDatagram.bind option 'owner' option 'uid' must be an integer from -1 to 4294967294, not -2",
    ],
    [{ unlinkStale: 1 }, "TypeError: UnixDatagram.bind option 'unlinkStale' must be a boolean, not 1"],
    [{ unlinkOnClose: 1 }, "TypeError: UnixDatagram.bind option 'unlinkOnClose' must be a boolean, not 1"],
    [
      { priority: 'urgent' },
      'TypeError: UnixDatagram.bind option \'priority\' must be "high" or "normal" or "low", not \'urgent\'',
    ],
    [{ ref: 1 }, "TypeError: UnixDatagram.bind option 'ref' must be a boolean, not 1"],
    [{ label: 1 }, "TypeError: UnixDatagram.bind option 'label' must be a string, not 1"],
    [{ signal: {} }, "TypeError: UnixDatagram.bind option 'signal' must be an AbortSignal, not {}"],
  ],
)
describeBad(
  'UnixListener.listen() options',
  ({ reactor, path }, options) => UnixListener.listen(reactor, path, options),
  [
    [
      { maxConnection: 1 },
      "TypeError: UnixListener has no option 'maxConnection'; did you mean 'maxConnections'?",
    ],
    [
      { maxConnections: 0 },
      "RangeError: UnixListener option 'maxConnections' must be an integer from 1 to 9007199254740991, not 0",
    ],
    [
      { backlog: -1 },
      "RangeError: UnixListener option 'backlog' must be an integer from 0 to 2147483647, not -1",
    ],
    [{ mode: '660' }, "TypeError: UnixListener option 'mode' must be a number, not '660'"],
    [{ mode: -1 }, "RangeError: UnixListener option 'mode' must be an integer from 0 to 4095, not -1"],
    [{ owner: null }, "TypeError: UnixListener option 'owner' must be an object { uid, gid }"],
    [
      { owner: { gid: 0.5 } },
      "RangeError: UnixListener option 'owner' option 'gid' must be an integer from -1 to 4294967294, not 0.5",
    ],
    [
      { borrow: 'yes' },
      "TypeError: UnixListener option 'borrow' must be false or true or \"offsets\", not 'yes'",
    ],
    [{ allowHalfOpen: 'yes' }, "TypeError: UnixListener option 'allowHalfOpen' must be a boolean, not 'yes'"],
    [
      { highWaterMark: -1 },
      "RangeError: UnixListener option 'highWaterMark' must be an integer from 0 to 9007199254740991, not -1",
    ],
    [
      { sendBuffer: 0 },
      "RangeError: UnixListener option 'sendBuffer' must be an integer from 1 to 1073741824, not 0",
    ],
    [
      { receiveBuffer: 2 ** 31 },
      "RangeError: UnixListener option 'receiveBuffer' must be an integer from 1 to 1073741824, not 2147483648",
    ],
    [
      { idleTimeout: 0 },
      "RangeError: UnixListener option 'idleTimeout' must be an integer from 1 to 9007199254740991, not 0",
    ],
    [{ headerTimeout: '5s' }, "TypeError: UnixListener option 'headerTimeout' must be a number, not '5s'"],
    [
      { writeTimeout: -1 },
      "RangeError: UnixListener option 'writeTimeout' must be an integer from 1 to 9007199254740991, not -1",
    ],
    [{ maxFds: -1 }, "RangeError: UnixListener option 'maxFds' must be an integer from 0 to 253, not -1"],
    [
      { allow: {} },
      "TypeError: UnixListener option 'allow' must name uids, gids, or both: with neither, nobody could connect",
    ],
    [
      { allow: { uid: [0] } },
      "TypeError: UnixListener option 'allow' has no option 'uid'; did you mean 'uids'?",
    ],
    [
      { allow: { uids: 0 } },
      "TypeError: UnixListener option 'allow' option 'uids' must be an array of numeric ids",
    ],
    [
      { allow: { gids: ['staff'] } },
      "TypeError: UnixListener option 'allow' option 'gids' must be an array of numeric ids",
    ],
    [
      { allow: { uids: [-1] } },
      "TypeError: UnixListener option 'allow' option 'uids' must be an array of numeric ids",
    ],
    [{ allow: 'root' }, "TypeError: UnixListener option 'allow' options must be an object, not 'root'"],
    [{ reusePort: true }, "TypeError: UnixListener has no option 'reusePort'; did you mean 'ref'?"],
  ],
)
describeBad(
  'UnixListener.listen() options for an abstract name',
  ({ reactor }, options) => UnixListener.listen(reactor, abstractName(), options),
  [
    [{ mode: 0o600 }, 'TypeError: An abstract name has no file, and so neither mode nor owner: see `allow`'],
    [
      { owner: { uid: 0 } },
      'TypeError: An abstract name has no file, and so neither mode nor owner: see `allow`',
    ],
  ],
)
describeBad(
  'what an allow function gives',
  async ({ reactor, path }, { gives, throws }: { gives: never; throws?: Error }) => {
    const allow = (): boolean => {
      if (throws !== undefined) throw throws
      return gives
    }
    const listener = UnixListener.listen(reactor, path, { allow })
    listener.on('connection', (stream) => stream.close())
    await UnixStream.connect(reactor, path)
    const [error] = await once(listener, 'error')
    return error
  },
  [
    [{}, 'TypeError: allow must return true or false, not undefined'],
    [{ gives: 1 }, 'TypeError: allow must return true or false, not 1'],
    [{ gives: Promise.resolve(true) }, 'TypeError: allow must return true or false, not Promise { true }'],
    [{ throws: new Error('the directory does not answer') }, 'Error: the directory does not answer'],
  ],
)
describeBad(
  'UnixSeqpacketListener.listen() options',
  ({ reactor, path }, options) => UnixSeqpacketListener.listen(reactor, path, options),
  [
    [
      { maxConnection: 1 },
      "TypeError: UnixSeqpacketListener has no option 'maxConnection'; did you mean 'maxConnections'?",
    ],
    [
      { onCongestion: 'block' },
      'TypeError: UnixSeqpacketListener option \'onCongestion\' must be "wait" or "drop-new" or "drop-old" or "error", not \'block\'',
    ],
    [
      { borrow: 'offsets' },
      "TypeError: UnixSeqpacketListener option 'borrow' must be a boolean, not 'offsets'",
    ],
    [
      { allow: { uids: ['root'] } },
      "TypeError: UnixSeqpacketListener option 'allow' option 'uids' must be an array of numeric ids",
    ],
  ],
)

/** What a send with bad options says. */
const fdsRows = (what: string): [unknown, string][] => [
  [{ fds: 3 }, `TypeError: ${what} option 'fds' must be an array of at most 253 open FdHandles`],
  [{ fds: [3] }, `TypeError: ${what} option 'fds' must be an array of at most 253 open FdHandles`],
  [
    { fds: Array.from({ length: 254 }) },
    `TypeError: ${what} option 'fds' must be an array of at most 253 open FdHandles`,
  ],
]
/** As many descriptors as `count`, of which the last one is closed if it is asked for. */
function nulls(count: number, closeLast: boolean): FdHandle[] {
  const fds = Array.from({ length: count }, devNull)
  if (closeLast) fds.at(-1)?.close()
  return fds
}
describeBad(
  'UnixDatagram.send() options',
  ({ reactor }, options: DatagramSendOptions) => UnixDatagram.open(reactor).send('x', options),
  [
    ...fdsRows('UnixDatagram.send'),
    [{ fd: [] }, "TypeError: UnixDatagram.send has no option 'fd'; did you mean 'fds'?"],
    [
      { to: '' },
      'TypeError: The address of a Unix socket must be a path that is not empty and has no NUL in it, or { abstract: name }',
    ],
    [
      { to: 7 },
      'TypeError: The address of a Unix socket must be a path that is not empty and has no NUL in it, or { abstract: name }',
    ],
    [
      { to: { abstract: '' } },
      'TypeError: An abstract name must be a text that is not empty and has no NUL in it (the leading one is added), or bytes',
    ],
    [
      { to: LONG },
      "SystemError: ENAMETOOLONG: name too long, sendmsg 'LONG'. The path has 108 bytes, and sun_path holds 107: use a shorter folder, or a path relative to the working directory",
    ],
    [
      { to: { abstract: LONG } },
      "SystemError: ENAMETOOLONG: name too long, sendmsg '@LONG'. The name has 108 bytes, and an abstract name holds 107",
    ],
  ],
)
describeBad(
  'UnixDatagram.send() of descriptors',
  ({ reactor }, [count, closeLast]: [number, boolean]) =>
    UnixDatagram.open(reactor).send('x', { to: abstractName(), fds: nulls(count, closeLast) }),
  [
    [
      [254, false],
      "TypeError: UnixDatagram.send option 'fds' must be an array of at most 253 open FdHandles",
    ],
    [[1, true], "TypeError: UnixDatagram.send option 'fds' must be an array of at most 253 open FdHandles"],
  ],
)
describeBad(
  'UnixDatagram.send() of',
  ({ reactor }, bytes: string) => UnixDatagram.open(reactor).send(bytes),
  [
    [1, 'TypeError: send() takes a Uint8Array or a string'],
    [undefined, 'TypeError: send() takes a Uint8Array or a string'],
    [[1, 2], 'TypeError: send() takes a Uint8Array or a string'],
  ],
)
describeBad(
  'UnixDatagram.send() after',
  ({ reactor }, how: 'close' | 'detach') => {
    const datagram = UnixDatagram.open(reactor)
    const left = datagram[how]()
    if (left !== undefined) closedLater(left.handle)
    return datagram.send('x')
  },
  [
    ['close', 'ReactorError: UnixDatagram N is closed'],
    ['detach', 'ReactorError: UnixDatagram N is closed'],
  ],
)
describeBad(
  'UnixDatagram.send() of a connected socket to',
  ({ reactor, path }, to: string) => {
    UnixDatagram.bind(reactor, path)
    return UnixDatagram.connect(reactor, path).send('x', { to })
  },
  [['/tmp/x', "TypeError: UnixDatagram N is connected: leave out 'to', or send from another socket"]],
)
/** How the first of many sends ends that does so badly. */
async function firstError(send: (settled: (outcome: SendOutcome) => void) => void): Promise<Error> {
  return new Promise((resolve) => {
    for (let n = 0; n < 1000; n++) {
      send((outcome) => {
        if (outcome instanceof Error) resolve(outcome)
      })
    }
  })
}
describeBad(
  'a datagram is refused',
  async (kit, [where, options, bytes]: [string | undefined, object, string | Uint8Array]) => {
    const { reactor, path } = kit
    if (where !== undefined) ELSEWHERE[where]?.(kit)
    const sender = UnixDatagram.open(reactor, options)
    return firstError((settled) => sender.send(bytes, where === undefined ? {} : { to: path }, settled))
  },
  [
    [
      [undefined, {}, 'x'],
      'SystemError: ENOTCONN: socket is not connected, sendmsg. The socket is not connected: say where the message goes',
    ],
    [
      ['no file', {}, 'x'],
      "SystemError: ENOENT: no such file or directory, sendmsg 'DIR/socket'. Nobody receives there",
    ],
    [
      ['a dead socket', {}, 'x'],
      "SystemError: ECONNREFUSED: connection refused, sendmsg 'DIR/socket'. Nobody receives there",
    ],
    [
      ['a listener for streams', {}, 'x'],
      "SystemError: EPROTOTYPE: protocol wrong type for socket, sendmsg 'DIR/socket'. The socket there has another type",
    ],
    [
      ['a datagram socket', { sendBuffer: 10_000 }, Buffer.alloc(30_000)],
      "SystemError: EMSGSIZE: message too long, sendmsg 'DIR/socket'. The message has 30000 bytes, and SO_SNDBUF (20000) allows 19968: raise sendBuffer (at most /proc/sys/net/core/wmem_max), or send less at a time",
    ],
    [
      ['a datagram socket', { onCongestion: 'error' }, 'x'],
      "SystemError: EAGAIN: resource temporarily unavailable, sendmsg 'DIR/socket'. The receiver's queue is full",
    ],
    [
      ['a datagram socket', { queueLimit: 2 }, 'x'],
      "SystemError: ENOBUFS: no buffer space available, sendmsg 'DIR/socket'. 2 messages wait for it already (queueLimit): go on at 'drain' when send() returned false",
    ],
  ],
)
describeBad(
  'UnixSeqpacket.send() options',
  async ({ reactor }, options: SendOptions) => (await connectedPacket(reactor)).send('x', options),
  [
    ...fdsRows('UnixSeqpacket.send'),
    [{ to: '/tmp/x' }, "TypeError: UnixSeqpacket.send has no option 'to'; did you mean 'fds'?"],
  ],
)
describeBad(
  'UnixSeqpacket.send() of',
  async ({ reactor }, bytes: string) => (await connectedPacket(reactor)).send(bytes),
  [
    [1, 'TypeError: send() takes a Uint8Array or a string'],
    [null, 'TypeError: send() takes a Uint8Array or a string'],
  ],
)
describeBad(
  'a packet is refused',
  async ({ reactor }, [options, bytes]: [object, Uint8Array]) => {
    const near = await connectedPacket(reactor, options)
    return firstError((settled) => near.send(bytes, {}, settled))
  },
  [
    [
      [{ sendBuffer: 10_000 }, Buffer.alloc(20_000)],
      'SystemError: EMSGSIZE: message too long, sendmsg. The message has 20000 bytes, and SO_SNDBUF (20000) allows 19968: raise sendBuffer (at most /proc/sys/net/core/wmem_max), or send less at a time',
    ],
    [
      [{ onCongestion: 'error' }, Buffer.alloc(1000)],
      "SystemError: EAGAIN: resource temporarily unavailable, sendmsg. The receiver's queue is full",
    ],
    [
      [{ queueLimit: 2 }, Buffer.alloc(1000)],
      "SystemError: ENOBUFS: no buffer space available, sendmsg. 2 messages wait for it already (queueLimit): go on at 'drain' when send() returned false",
    ],
  ],
)
describeBad(
  'UnixSeqpacket.send() after',
  async ({ reactor }, how: 'end' | 'close' | 'detach') => {
    const near = await connectedPacket(reactor)
    const left = near[how]()
    if (left !== undefined) closedLater(left.handle)
    return near.send('x')
  },
  [
    ['end', 'ReactorError: UnixSeqpacket N: send() after end()'],
    ['close', 'ReactorError: UnixSeqpacket N is closed'],
    ['detach', 'ReactorError: UnixSeqpacket N is closed'],
  ],
)

async function connectedPacket(reactor: Kit['reactor'], options = {}): Promise<UnixSeqpacket> {
  const listener = UnixSeqpacketListener.listen(reactor, abstractName())
  return UnixSeqpacket.connect(reactor, listener.address, options)
}

async function connectedStream(reactor: Kit['reactor']): Promise<UnixStream> {
  const [stream] = await pair(reactor)
  return stream
}

describeBad(
  'UnixStream.send() options',
  async ({ reactor }, options: SendOptions) => (await connectedStream(reactor)).send('x', options),
  [
    [{ fd: [] }, "TypeError: UnixStream.send has no option 'fd'; did you mean 'fds'?"],
    [{ fds: 3 }, "TypeError: UnixStream.send option 'fds' must be an array of FdHandles"],
    [{ fds: [3] }, 'TypeError: send() passes FdHandles: FdHandle.adopt(fd) makes one of a number'],
    [
      { fds: Array.from({ length: 254 }) },
      'RangeError: One send() passes at most 253 descriptors, not 254: use several',
    ],
  ],
)
describeBad(
  'UnixStream.send() of descriptors',
  async ({ reactor }, [bytes, count, closeLast]: [string, number, boolean]) =>
    (await connectedStream(reactor)).send(bytes, { fds: nulls(count, closeLast) }),
  [
    [['', 1, false], 'TypeError: Descriptors leave with a byte: send() at least one'],
    [[7, 1, false], 'TypeError: send() takes a Uint8Array or a string'],
    [['x', 254, false], 'RangeError: One send() passes at most 253 descriptors, not 254: use several'],
    [['x', 1, true], 'ReactorError: The descriptor is closed'],
  ],
)
describeBad(
  'UnixStream.write() of',
  async ({ reactor }, args: [Uint8Array, number, number]) => (await connectedStream(reactor)).write(...args),
  [
    [[7], 'TypeError: write() takes a Uint8Array or a string'],
    [[Buffer.alloc(10), 5, 6], 'RangeError: write(): offset 5 and length 6 are not within 10 bytes'],
    [[Buffer.alloc(10), -1], 'RangeError: write(): offset -1 and length 11 are not within 10 bytes'],
    [[Buffer.alloc(10), 11], 'RangeError: write(): offset 11 and length -1 are not within 10 bytes'],
    [
      [Buffer.alloc(10), 0, Number.NaN],
      'RangeError: write(): offset 0 and length NaN are not within 10 bytes',
    ],
  ],
)
describeBad(
  'UnixStream.write() after',
  async ({ reactor }, how: 'end' | 'close') => {
    const stream = await connectedStream(reactor)
    stream[how]()
    return stream.write('x')
  },
  [
    ['end', 'ReactorError: UnixStream N: write() after end()'],
    ['close', 'ReactorError: UnixStream N is closed'],
  ],
)

const DESCRIPTORS: Readonly<Record<string, (kit: Kit) => FdHandle>> = {
  'a file': devNull,
  'an eventfd': ({ reactor }) => closedLater(new EventFd(reactor).detach()),
  'a Unix stream': () => made(Domain.Unix, SocketType.Stream),
  'a Unix listener': ({ reactor, path }) => closedLater(UnixListener.listen(reactor, path).detach().handle),
  'a datagram socket': () => made(Domain.Unix, SocketType.Datagram),
  'a packet socket': () => made(Domain.Unix, SocketType.Seqpacket),
  'a TCP socket': () => made(Domain.Ipv6, SocketType.Stream),
  'a UDP socket': () => made(Domain.Ipv4, SocketType.Datagram),
}
function made(domain: number, type: number): FdHandle {
  return closedLater(new FdHandle(socket.create(domain, type)))
}
const FROM: Readonly<Record<string, { from(reactor: Kit['reactor'], handle: FdHandle): unknown }>> = {
  UnixStream,
  UnixListener,
  UnixDatagram,
  UnixSeqpacket,
  UnixSeqpacketListener,
  TcpStream,
  TcpListener,
  EventFd,
}
describeBad(
  'from()',
  (kit, [of, what]: [string, string]) => {
    const handle = DESCRIPTORS[what]?.(kit) ?? devNull()
    return FROM[of]?.from(kit.reactor, handle)
  },
  [
    [
      ['UnixStream', 'a file'],
      "SystemError: ENOTSOCK: socket operation on non-socket, getsockopt 'fd N'. It is no socket, and must be a Unix stream socket",
    ],
    [
      ['UnixStream', 'a TCP socket'],
      "SystemError: EINVAL: invalid argument, getsockopt 'fd N'. It is an IPv6 stream socket, and must be a Unix stream socket",
    ],
    [
      ['UnixStream', 'a Unix listener'],
      "SystemError: EINVAL: invalid argument, getsockopt 'fd N'. It is a listening Unix stream socket, and must be a Unix stream socket",
    ],
    [
      ['UnixStream', 'a packet socket'],
      "SystemError: EINVAL: invalid argument, getsockopt 'fd N'. It is a Unix seqpacket socket, and must be a Unix stream socket",
    ],
    [
      ['UnixListener', 'a file'],
      "SystemError: ENOTSOCK: socket operation on non-socket, getsockopt 'fd N'. It is no socket, and must be a listening Unix stream socket",
    ],
    [
      ['UnixListener', 'a Unix stream'],
      "SystemError: EINVAL: invalid argument, getsockopt 'fd N'. It is a Unix stream socket, and must be a listening Unix stream socket",
    ],
    [
      ['UnixDatagram', 'a file'],
      "SystemError: ENOTSOCK: socket operation on non-socket, getsockopt 'fd N'. It is no socket, and must be a Unix datagram socket",
    ],
    [
      ['UnixDatagram', 'a UDP socket'],
      "SystemError: EINVAL: invalid argument, getsockopt 'fd N'. It is an IPv4 datagram socket, and must be a Unix datagram socket",
    ],
    [
      ['UnixDatagram', 'a Unix stream'],
      "SystemError: EINVAL: invalid argument, getsockopt 'fd N'. It is a Unix stream socket, and must be a Unix datagram socket",
    ],
    [
      ['UnixSeqpacket', 'a datagram socket'],
      "SystemError: EINVAL: invalid argument, getsockopt 'fd N'. It is a Unix datagram socket, and must be a Unix seqpacket socket",
    ],
    [
      ['UnixSeqpacketListener', 'a Unix listener'],
      "SystemError: EINVAL: invalid argument, getsockopt 'fd N'. It is a listening Unix stream socket, and must be a listening Unix seqpacket socket",
    ],
    [
      ['UnixSeqpacketListener', 'a packet socket'],
      "SystemError: EINVAL: invalid argument, getsockopt 'fd N'. It is a Unix seqpacket socket, and must be a listening Unix seqpacket socket",
    ],
    [
      ['TcpStream', 'an eventfd'],
      "SystemError: ENOTSOCK: socket operation on non-socket, getsockopt 'fd N'. It is no socket, and must be a TCP stream socket",
    ],
    [
      ['TcpStream', 'a Unix stream'],
      "SystemError: EINVAL: invalid argument, getsockopt 'fd N'. It is a Unix stream socket, and must be a TCP stream socket",
    ],
    [
      ['TcpListener', 'a TCP socket'],
      "SystemError: EINVAL: invalid argument, getsockopt 'fd N'. It is an IPv6 stream socket, and must be a listening TCP socket",
    ],
    [['EventFd', 'a file'], "SystemError: EINVAL: invalid argument, read 'fd N'. It is no eventfd"],
  ],
)

describeBad('TcpListener.listen()', ({ reactor }, options) => TcpListener.listen(reactor, options), [
  [
    { host: 'localhost' },
    "TypeError: 'localhost' is no IP address. To connect, names are looked up; to listen, give an address",
  ],
  [
    { host: '' },
    "TypeError: '' is no IP address. To connect, names are looked up; to listen, give an address",
  ],
  [
    { host: '256.1.1.1' },
    "TypeError: '256.1.1.1' is no IP address. To connect, names are looked up; to listen, give an address",
  ],
  [
    { host: '127.0.0.1:80' },
    "TypeError: '127.0.0.1:80' is no IP address. To connect, names are looked up; to listen, give an address",
  ],
  [
    { host: '[::1]' },
    "TypeError: '[::1]' is no IP address. To connect, names are looked up; to listen, give an address",
  ],
  [{ host: 'fe80::1%nosuch0' }, "TypeError: There is no network interface 'nosuch0'"],
  [{ host: 7 }, "TypeError: TcpListener option 'host' must be a string, not 7"],
  [
    { host: '240.0.0.1' },
    "SystemError: EADDRNOTAVAIL: address not available, bind '240.0.0.1:0'. This machine has no such address",
  ],
  [{ port: -1 }, "RangeError: TcpListener option 'port' must be an integer from 0 to 65535, not -1"],
  [{ port: 65_536 }, "RangeError: TcpListener option 'port' must be an integer from 0 to 65535, not 65536"],
  [{ port: 1.5 }, "RangeError: TcpListener option 'port' must be an integer from 0 to 65535, not 1.5"],
  [{ port: '80' }, "TypeError: TcpListener option 'port' must be a number, not '80'"],
  [
    { backlog: -1 },
    "RangeError: TcpListener option 'backlog' must be an integer from 0 to 2147483647, not -1",
  ],
  [
    { maxConnections: 0 },
    "RangeError: TcpListener option 'maxConnections' must be an integer from 1 to 9007199254740991, not 0",
  ],
  [{ path: '/s' }, "TypeError: TcpListener has no option 'path'; did you mean 'port'?"],
  [{ reuseport: true }, "TypeError: TcpListener has no option 'reuseport'; did you mean 'reusePort'?"],
  [{ reusePort: 1 }, "TypeError: TcpListener option 'reusePort' must be a boolean, not 1"],
  [{ ipv6Only: 1 }, "TypeError: TcpListener option 'ipv6Only' must be a boolean, not 1"],
  [{ fastOpen: true }, "TypeError: TcpListener option 'fastOpen' must be a number, not true"],
  [
    { fastOpen: 0 },
    "RangeError: TcpListener option 'fastOpen' must be an integer from 1 to 2147483647, not 0",
  ],
  [{ noDelay: 1 }, "TypeError: TcpListener option 'noDelay' must be a boolean, not 1"],
  [{ keepAlive: 5 }, "TypeError: TcpListener option 'keepAlive' options must be an object, not 5"],
  [
    { keepAlive: { idle: 1 } },
    "TypeError: TcpListener option 'keepAlive' has no option 'idle'; did you mean 'idleNs'?",
  ],
  [
    { keepAlive: { idleNs: 0 } },
    "RangeError: TcpListener option 'keepAlive' option 'idleNs' must be an integer from 1 to 32767000000000, not 0",
  ],
  [
    { keepAlive: { intervalNs: 1e14 } },
    "RangeError: TcpListener option 'keepAlive' option 'intervalNs' must be an integer from 1 to 32767000000000, not 100000000000000",
  ],
  [
    { keepAlive: { count: 128 } },
    "RangeError: TcpListener option 'keepAlive' option 'count' must be an integer from 1 to 127, not 128",
  ],
  [
    { userTimeout: 0 },
    "RangeError: TcpListener option 'userTimeout' must be an integer from 1 to 9007199254740991, not 0",
  ],
])
describeBad(
  'TcpListener.listen() where',
  ({ reactor }, other: object) => {
    const { address } = TcpListener.listen(reactor, other)
    return TcpListener.listen(reactor, { ...address, reusePort: true })
  },
  [
    [
      {},
      "SystemError: EADDRINUSE: address already in use, bind '127.0.0.1:N'. Another process listens there",
    ],
    [
      { host: '::1' },
      "SystemError: EADDRINUSE: address already in use, bind '[::1]:N'. Another process listens there",
    ],
  ],
)
describeBad(
  'TcpStream.connect()',
  async ({ reactor }, options: object) =>
    TcpStream.connect(reactor, { host: '127.0.0.1', port: 9, ...options }),
  [
    [{ host: '' }, "TypeError: TcpStream.connect option 'host' must be an address or a name, and is empty"],
    [{ host: undefined }, "TypeError: TcpStream.connect option 'host' must be a string, not undefined"],
    [{ host: 7 }, "TypeError: TcpStream.connect option 'host' must be a string, not 7"],
    [{ port: undefined }, "TypeError: TcpStream.connect option 'port' must be a number, not undefined"],
    [{ port: 0 }, "RangeError: TcpStream.connect option 'port' must be an integer from 1 to 65535, not 0"],
    [
      { port: 65_536 },
      "RangeError: TcpStream.connect option 'port' must be an integer from 1 to 65535, not 65536",
    ],
    [{ port: '80' }, "TypeError: TcpStream.connect option 'port' must be a number, not '80'"],
    [
      { timeout: 0 },
      "RangeError: TcpStream.connect option 'timeout' must be an integer from 1 to 9007199254740991, not 0",
    ],
    [{ fastOpen: 1 }, "TypeError: TcpStream.connect option 'fastOpen' must be a boolean, not 1"],
    [{ nodelay: true }, "TypeError: TcpStream.connect has no option 'nodelay'; did you mean 'noDelay'?"],
    [{ backlog: 5 }, "TypeError: TcpStream.connect has no option 'backlog'; did you mean 'label'?"],
    [{ host: 'fe80::1%nosuch0' }, "TypeError: There is no network interface 'nosuch0'"],
    [
      { host: '127.255.255.255' },
      "SystemError: ENETUNREACH: network is unreachable, connect '127.255.255.255:9'",
    ],
  ],
)
describeBad(
  'TcpStream.connect() where nobody listens',
  async ({ reactor }, host: string) => {
    const listener = TcpListener.listen(reactor, { host })
    listener.close()
    return TcpStream.connect(reactor, listener.address)
  },
  [
    [
      '127.0.0.1',
      "SystemError: ECONNREFUSED: connection refused, connect '127.0.0.1:N'. Nobody listens there",
    ],
    ['::1', "SystemError: ECONNREFUSED: connection refused, connect '[::1]:N'. Nobody listens there"],
  ],
)

const FORMS =
  "An address is 'unix:/run/x.sock', 'abstract:name', 'tcp://127.0.0.1:7000', 'tcp://[::1]:7000' or 'fd:3'"
describeBad('listen()', ({ reactor }, address: string) => listen(reactor, address), [
  ['', `TypeError: '' is no address: its kind is missing. ${FORMS}`],
  ['7000', `TypeError: '7000' is no address: its kind is missing. ${FORMS}`],
  ['/run/x.sock', `TypeError: '/run/x.sock' is no address: a path is written 'unix:/run/x.sock'. ${FORMS}`],
  [
    '/run/x:y.sock',
    `TypeError: '/run/x:y.sock' is no address: a path is written 'unix:/run/x:y.sock'. ${FORMS}`,
  ],
  ['http://127.0.0.1:80', `TypeError: 'http://127.0.0.1:80' is no address: its kind is missing. ${FORMS}`],
  ['unix:', `TypeError: 'unix:' is no address: the path is missing. ${FORMS}`],
  [
    'unix:a\0b',
    'TypeError: The address of a Unix socket must be a path that is not empty and has no NUL in it, or { abstract: name }',
  ],
  [
    `unix:${LONG}`,
    "SystemError: ENAMETOOLONG: name too long, bind 'LONG'. The path has 108 bytes, and sun_path holds 107: use a shorter folder, or a path relative to the working directory",
  ],
  ['abstract:', `TypeError: 'abstract:' is no address: the name is missing. ${FORMS}`],
  [
    'tcp:127.0.0.1:7000',
    `TypeError: 'tcp:127.0.0.1:7000' is no address: it needs a host and a port, and IPv6 needs brackets. ${FORMS}`,
  ],
  [
    'tcp://127.0.0.1',
    `TypeError: 'tcp://127.0.0.1' is no address: it needs a host and a port, and IPv6 needs brackets. ${FORMS}`,
  ],
  [
    'tcp://:7000',
    `TypeError: 'tcp://:7000' is no address: it needs a host and a port, and IPv6 needs brackets. ${FORMS}`,
  ],
  [
    'tcp://::1:7000',
    `TypeError: 'tcp://::1:7000' is no address: it needs a host and a port, and IPv6 needs brackets. ${FORMS}`,
  ],
  [
    'tcp://[127.0.0.1]:7000',
    `TypeError: 'tcp://[127.0.0.1]:7000' is no address: it needs a host and a port, and IPv6 needs brackets. ${FORMS}`,
  ],
  [
    'tcp://127.0.0.1:7000/',
    `TypeError: 'tcp://127.0.0.1:7000/' is no address: it needs a host and a port, and IPv6 needs brackets. ${FORMS}`,
  ],
  [
    'tcp://user@host:7000',
    `TypeError: 'tcp://user@host:7000' is no address: it needs a host and a port, and IPv6 needs brackets. ${FORMS}`,
  ],
  [
    'tcp://127.0.0.1:65536',
    `TypeError: 'tcp://127.0.0.1:65536' is no address: the port must be at most 65535. ${FORMS}`,
  ],
  [
    'tcp://localhost:7000',
    `TypeError: 'tcp://localhost:7000' is no address: 'localhost' is no IP address, and a listener needs one. ${FORMS}`,
  ],
  ['fd:', `TypeError: 'fd:' is no address: the number of a descriptor is missing. ${FORMS}`],
  ['fd:-1', `TypeError: 'fd:-1' is no address: the number of a descriptor is missing. ${FORMS}`],
  ['fd:three', `TypeError: 'fd:three' is no address: the number of a descriptor is missing. ${FORMS}`],
  ['fd:19999', "SystemError: EBADF: bad file descriptor, getsockopt 'fd N'"],
  [7000, `TypeError: An address must be a string. ${FORMS}`],
])
describeBad('listen() options', ({ reactor, path }, options) => listen(reactor, `unix:${path}`, options), [
  [{ reuseport: true }, "TypeError: listen has no option 'reuseport'; did you mean 'reusePort'?"],
  [{ port: 1 }, "TypeError: listen has no option 'port'; did you mean 'mode'?"],
  [{ mode: '660' }, "TypeError: listen option 'mode' must be a number, not '660'"],
])
describeBad('connect()', async ({ reactor }, address: string) => connect(reactor, address), [
  ['', `TypeError: '' is no address: its kind is missing. ${FORMS}`],
  [
    'tcp://127.0.0.1:0',
    "RangeError: TcpStream.connect option 'port' must be an integer from 1 to 65535, not 0",
  ],
  [
    'tcp://[localhost]:7000',
    `TypeError: 'tcp://[localhost]:7000' is no address: it needs a host and a port, and IPv6 needs brackets. ${FORMS}`,
  ],
  [
    'abstract:nobody listens',
    "SystemError: ECONNREFUSED: connection refused, connect '@nobody listens'. Nobody listens there",
  ],
  ['fd:19999', "SystemError: EBADF: bad file descriptor, getsockopt 'fd N'"],
])
describeBad(
  'connect() options',
  async ({ reactor, path }, options) => connect(reactor, `unix:${path}`, options),
  [
    [{ timeOut: 1 }, "TypeError: connect has no option 'timeOut'; did you mean 'timeout'?"],
    [{ backlog: 1 }, "TypeError: connect has no option 'backlog'; did you mean 'label'?"],
  ],
)
describeBad(
  'a descriptor for listen()',
  (kit, what: string) => listen(kit.reactor, `fd:${DESCRIPTORS[what]?.(kit).fd}`),
  [
    [
      'a file',
      "SystemError: ENOTSOCK: socket operation on non-socket, getsockopt 'fd N'. It is no socket, and must be a listening stream socket",
    ],
    [
      'a Unix stream',
      "SystemError: EINVAL: invalid argument, getsockopt 'fd N'. It is a Unix stream socket, and must be a listening stream socket",
    ],
    [
      'a datagram socket',
      "SystemError: EINVAL: invalid argument, getsockopt 'fd N'. It is a Unix datagram socket, and must be a listening stream socket",
    ],
  ],
)
