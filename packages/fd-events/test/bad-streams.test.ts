/**
 * Every bad input to what works on streams, and to hand-overs, with the message that a user sees.
 */
import { mkdirSync, openSync, truncateSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { FdHandle } from '@fd-reactor/core'
import { Domain, socket, SocketType, transfer } from '@fd-reactor/core/sys'
import {
  delimited,
  fixed,
  handOver,
  lengthPrefixed,
  lines,
  proxy,
  pump,
  sendFile,
  takeOver,
  toDuplex,
  UnixListener,
  type Codec,
  type FileSource,
  type PumpEnd,
  type UnixStream,
} from '@fd-reactor/fd-events'
import { assertNoLeakedFds } from '../../core/test/support/fds.js'
import { closedLater, describeBad, LONG, type Kit } from './bad-inputs-helpers.js'
import { devNull } from './message-helpers.js'
import { pair } from './unix-helpers.js'

assertNoLeakedFds()

async function connected({ reactor }: Kit): Promise<UnixStream> {
  const [stream] = await pair(reactor)
  return stream
}

/** A file of ten bytes. */
function tenBytes({ path }: Kit): string {
  const file = `${dirname(path)}/ten`
  writeFileSync(file, '0123456789')
  return file
}

describeBad(
  'sendFile() options',
  async (kit, options) => sendFile(await connected(kit), tenBytes(kit), options),
  [
    [7, 'TypeError: sendFile options must be an object, not 7'],
    [{ offet: 1 }, "TypeError: sendFile has no option 'offet'; did you mean 'offset'?"],
    [
      { offset: -1 },
      "RangeError: sendFile option 'offset' must be an integer from 0 to 9007199254740991, not -1",
    ],
    [
      { offset: 1.5 },
      "RangeError: sendFile option 'offset' must be an integer from 0 to 9007199254740991, not 1.5",
    ],
    [{ offset: '1' }, "TypeError: sendFile option 'offset' must be a number, not '1'"],
    [
      { length: -1 },
      "RangeError: sendFile option 'length' must be an integer from 0 to 9007199254740991, not -1",
    ],
    [
      { length: Infinity },
      "RangeError: sendFile option 'length' must be an integer from 0 to 9007199254740991, not Infinity",
    ],
    [
      { length: 11 },
      "ReactorError: 'DIR/ten' has 10 bytes only, and 11 bytes from 0 on were to be sent; 0 of 11 bytes have left",
    ],
    [
      { offset: 4, length: 7 },
      "ReactorError: 'DIR/ten' has 10 bytes only, and 7 bytes from 4 on were to be sent; 0 of 7 bytes have left",
    ],
    [
      { offset: 11, length: 1 },
      "ReactorError: 'DIR/ten' has 10 bytes only, and 1 bytes from 11 on were to be sent; 0 of 1 bytes have left",
    ],
    [{ signal: {} }, "TypeError: sendFile option 'signal' must be an AbortSignal, not {}"],
    [{ signal: AbortSignal.abort(new Error('not now')) }, 'Error: not now'],
    [{ onProgress: true }, "TypeError: sendFile option 'onProgress' must be a function, not true"],
  ],
)
const SOURCES: Readonly<Record<string, (kit: Kit) => FileSource>> = {
  'no file': ({ path }) => path,
  'a path with a NUL': () => 'a\0b',
  'a folder': ({ path }) => dirname(path),
  'a socket': ({ reactor, path }) => UnixListener.listen(reactor, path).fd,
  'a device': devNull,
  'a pipe': () => {
    const [read, write] = transfer.pipe()
    closedLater(new FdHandle(write))
    return closedLater(new FdHandle(read))
  },
  'a descriptor that is not open': () => 19_999,
  'a negative number': () => -1,
  'a closed handle': () => {
    const handle = devNull()
    handle.close()
    return handle
  },
}
describeBad(
  'sendFile() of',
  async (kit, what: string) => sendFile(await connected(kit), SOURCES[what]?.(kit) ?? ''),
  [
    ['no file', "Error: ENOENT: no such file or directory, open 'DIR/socket'"],
    [
      'a path with a NUL',
      "TypeError [ERR_INVALID_ARG_VALUE]: The argument 'path' must be a string, Uint8Array, or URL without null bytes. Received 'a\\x00b'",
    ],
    ['a folder', "SystemError: EISDIR: illegal operation on a directory, sendfile 'DIR'"],
    [
      'a socket',
      "SystemError: EINVAL: invalid argument, sendfile 'fd N'. It is no regular file: pump() moves what sockets, pipes and FIFOs have",
    ],
    [
      'a device',
      "SystemError: EINVAL: invalid argument, sendfile 'fd N'. It is no regular file: pump() moves what sockets, pipes and FIFOs have",
    ],
    [
      'a pipe',
      "SystemError: EINVAL: invalid argument, sendfile 'fd N'. It is no regular file: pump() moves what sockets, pipes and FIFOs have",
    ],
    ['a descriptor that is not open', "SystemError: EBADF: bad file descriptor, fcntl 'fd N'"],
    ['a negative number', "SystemError: EBADF: bad file descriptor, fcntl 'fd -1'"],
    ['a closed handle', 'ReactorError: The descriptor is closed'],
  ],
)
describeBad('sendFile() of', async (kit, source: string) => sendFile(await connected(kit), source), [
  [undefined, 'TypeError: sendFile() takes a path, a descriptor, an FdHandle or a FileHandle'],
  [null, 'TypeError: sendFile() takes a path, a descriptor, an FdHandle or a FileHandle'],
  [{}, 'TypeError: sendFile() takes a path, a descriptor, an FdHandle or a FileHandle'],
  [true, 'TypeError: sendFile() takes a path, a descriptor, an FdHandle or a FileHandle'],
])
describeBad(
  'sendFile() to a stream after',
  async (kit, how: 'end' | 'close') => {
    const stream = await connected(kit)
    stream[how]()
    return sendFile(stream, tenBytes(kit))
  },
  [
    ['end', 'ReactorError: UnixStream N: it was asked to send after end()'],
    ['close', 'ReactorError: UnixStream N is closed'],
  ],
)
describeBad(
  'sendFile() to a stream, and then',
  async (kit, how: 'close' | 'detach' | 'cut') => {
    const stream = await connected(kit)
    const file = tenBytes(kit)
    const sending = sendFile(stream, file, { length: 10 })
    sending.catch(() => undefined) // where something else is the error
    if (how === 'cut') truncateSync(file, 5)
    else stream[how]()
    return sending
  },
  [
    ['close', "ReactorError: UnixStream N was closed before 'DIR/ten' was sent; 0 of 10 bytes have left"],
    [
      'detach',
      "SystemError: EBUSY: resource busy or locked, detach 'UnixStream N'. What is being sent would be torn apart: wait for the promise of sendFile(), or for descriptors to leave",
    ],
    [
      'cut',
      "ReactorError: 'DIR/ten' has 5 bytes only, and 10 bytes from 0 on were to be sent; 0 of 10 bytes have left",
    ],
  ],
)

const ENDS: Readonly<Record<string, (kit: Kit) => PumpEnd | Promise<PumpEnd>>> = {
  'a stream': connected,
  'a closed stream': async (kit) => {
    const stream = await connected(kit)
    stream.close()
    return stream
  },
  'a stream that sends a file': async (kit) => {
    const stream = await connected(kit)
    sendFile(stream, tenBytes(kit)).catch(() => undefined)
    return stream
  },
  'a file': (kit) => FdHandle.adopt(openSync(tenBytes(kit), 'r')),
  'a device': devNull,
  'a listener': ({ reactor, path }) => UnixListener.listen(reactor, path).detach().handle,
  'a datagram socket': () => new FdHandle(socket.create(Domain.Unix, SocketType.Datagram)),
  'a pipe': () => {
    const [read, write] = transfer.pipe()
    closedLater(new FdHandle(write))
    return new FdHandle(read)
  },
  'a closed handle': () => {
    const handle = devNull()
    handle.close()
    return handle
  },
}
const end = async (kit: Kit, what: string): Promise<PumpEnd> => ENDS[what]?.(kit) ?? devNull()
describeBad(
  'pump() from',
  async (kit, what: string) => pump(kit.reactor, await end(kit, what), await connected(kit)),
  [
    ['a closed stream', 'ReactorError: UnixStream N is closed'],
    [
      'a stream that sends a file',
      "SystemError: EBUSY: resource busy or locked, detach 'UnixStream N'. What is being sent would be torn apart: wait for the promise of sendFile(), or for descriptors to leave",
    ],
    [
      'a file',
      "SystemError: EINVAL: invalid argument, splice 'fd N'. Only stream sockets, pipes and FIFOs can be pumped; sendFile() sends files",
    ],
    [
      'a device',
      "SystemError: EINVAL: invalid argument, splice 'fd N'. Only stream sockets, pipes and FIFOs can be pumped; sendFile() sends files",
    ],
    [
      'a listener',
      "SystemError: EINVAL: invalid argument, getsockopt 'fd N'. It is a listening Unix stream socket, and must be a connected stream socket",
    ],
    [
      'a datagram socket',
      "SystemError: EINVAL: invalid argument, getsockopt 'fd N'. It is a Unix datagram socket, and must be a connected stream socket",
    ],
    ['a closed handle', 'ReactorError: The descriptor is closed'],
  ],
)
describeBad(
  'pump() to',
  async (kit, what: string) => pump(kit.reactor, await connected(kit), await end(kit, what)),
  [
    ['a closed stream', 'ReactorError: UnixStream N is closed'],
    [
      'a file',
      "SystemError: EINVAL: invalid argument, splice 'fd N'. Only stream sockets, pipes and FIFOs can be pumped; sendFile() sends files",
    ],
  ],
)
describeBad(
  'proxy() with',
  async (kit, what: string) => proxy(kit.reactor, await connected(kit), await end(kit, what)),
  [
    ['a pipe', "SystemError: EINVAL: invalid argument, splice 'proxy'. A pipe goes one way only: use pump()"],
    [
      'a device',
      "SystemError: EINVAL: invalid argument, splice 'fd N'. Only stream sockets, pipes and FIFOs can be pumped; sendFile() sends files",
    ],
  ],
)
describeBad(
  'pump() options',
  async (kit, options) => pump(kit.reactor, await connected(kit), await connected(kit), options),
  [
    [{ progress: 1 }, "TypeError: pump has no option 'progress'; did you mean 'onProgress'?"],
    [{ onProgress: 1 }, "TypeError: pump option 'onProgress' must be a function, not 1"],
    [{ signal: 1 }, "TypeError: pump option 'signal' must be an AbortSignal, not 1"],
    [{ signal: AbortSignal.abort(new Error('not now')) }, 'Error: not now'],
  ],
)

describeBad('lines()', (_, options) => lines(options), [
  [7, 'TypeError: lines options must be an object, not 7'],
  [
    { encoding: 'ascii' },
    'TypeError: lines option \'encoding\' must be "utf8" or "latin1" or "buffer", not \'ascii\'',
  ],
  [{ maxFrame: 0 }, "RangeError: lines option 'maxFrame' must be an integer from 1 to 1073741824, not 0"],
  [
    { maxFrame: 2 ** 31 },
    "RangeError: lines option 'maxFrame' must be an integer from 1 to 1073741824, not 2147483648",
  ],
  [{ max: 1 }, "TypeError: lines has no option 'max'; did you mean 'maxFrame'?"],
])
describeBad('lengthPrefixed()', (_, options) => lengthPrefixed(options), [
  [{ prefix: 3 }, 'TypeError: lengthPrefixed option \'prefix\' must be 1 or 2 or 4 or "varint", not 3'],
  [{ prefix: 8 }, 'TypeError: lengthPrefixed option \'prefix\' must be 1 or 2 or 4 or "varint", not 8'],
  [
    { byteOrder: 'middle' },
    'TypeError: lengthPrefixed option \'byteOrder\' must be "big" or "little", not \'middle\'',
  ],
  [
    { prefix: 'varint', byteOrder: 'big' },
    "TypeError: lengthPrefixed option 'byteOrder' has no meaning with a varint, which has its own order",
  ],
  [
    { maxFrame: 1.5 },
    "RangeError: lengthPrefixed option 'maxFrame' must be an integer from 1 to 1073741824, not 1.5",
  ],
  [{ size: 4 }, "TypeError: lengthPrefixed has no option 'size'; did you mean 'prefix'?"],
])
describeBad('delimited()', (_, args: [string, object]) => delimited(...args), [
  [[''], 'TypeError: delimited() takes a delimiter of at least one byte, a string or a Uint8Array'],
  [[7], 'TypeError: delimited() takes a delimiter of at least one byte, a string or a Uint8Array'],
  [
    [new Uint8Array()],
    'TypeError: delimited() takes a delimiter of at least one byte, a string or a Uint8Array',
  ],
  [['\n', { maxFrame: '1k' }], "TypeError: delimited option 'maxFrame' must be a number, not '1k'"],
  [['\n', { encoding: 'utf8' }], "TypeError: delimited has no option 'encoding'; did you mean 'maxFrame'?"],
])
describeBad('fixed()', (_, size: number) => fixed(size), [
  [0, 'RangeError: fixed() size must be an integer from 1 to 1073741824, not 0'],
  [1.5, 'RangeError: fixed() size must be an integer from 1 to 1073741824, not 1.5'],
  [2 ** 31, 'RangeError: fixed() size must be an integer from 1 to 1073741824, not 2147483648'],
  ['4', "TypeError: fixed() size must be a number, not '4'"],
  [undefined, 'TypeError: fixed() size must be a number, not undefined'],
])
type AnyCodec = Codec<unknown, Uint8Array | string>
describeBad('a frame to send', (_, [codec, frame]: [AnyCodec, string]) => codec.encode(frame), [
  [[lines(), 'a\nb'], 'ReactorError: A line with a newline in it would come as two. Send them one by one'],
  [[lines(), 'a\r'], "ReactorError: A line that ends with '\\r' would come without it. Leave it away"],
  [
    [lines({ maxFrame: 3 }), 'four'],
    'ReactorError: A frame has 4 bytes, and at most 3 are allowed. If such frames are right raise maxFrame; otherwise the two sides frame differently',
  ],
  [[lines(), 7], 'TypeError: A frame must be a Uint8Array or a string'],
  [
    [lengthPrefixed({ prefix: 1 }), 'x'.repeat(256)],
    'ReactorError: A frame has 256 bytes, and at most 255 are allowed. If such frames are right raise maxFrame; otherwise the two sides frame differently',
  ],
  [[lengthPrefixed(), null], 'TypeError: A frame must be a Uint8Array or a string'],
  [
    [delimited('--'), 'a--b'],
    'ReactorError: A frame with the delimiter in it would come as two. Escape it, or send frames with their length',
  ],
  [
    [delimited('--'), 'a-'],
    'ReactorError: A frame with the delimiter in it would come as two. Escape it, or send frames with their length',
  ],
  [
    [delimited('\0', { maxFrame: 1 }), 'ab'],
    'ReactorError: A frame has 2 bytes, and at most 1 are allowed. If such frames are right raise maxFrame; otherwise the two sides frame differently',
  ],
  [[fixed(4), 'abc'], 'ReactorError: fixed(4) sends frames of 4 bytes, not of 3. Fill the frame up'],
  [
    [fixed(4), 'abcde'],
    'ReactorError: A frame has 5 bytes, and at most 4 are allowed. If such frames are right raise maxFrame; otherwise the two sides frame differently',
  ],
])
describeBad(
  'frames that come',
  (_, [codec, bytes]: [AnyCodec, Uint8Array]) => {
    const decoder = codec.decoder()
    for (const frame of decoder.push(bytes)) void frame
    for (const frame of decoder.end()) void frame
  },
  [
    [
      [lines({ maxFrame: 3 }), Buffer.from('four\n')],
      'ReactorError: A frame has 4 bytes, and at most 3 are allowed. If such frames are right raise maxFrame; otherwise the two sides frame differently',
    ],
    [
      [lines({ maxFrame: 3 }), Buffer.from('five5')],
      'ReactorError: A frame has 5 bytes or more, and at most 3 are allowed. If such frames are right raise maxFrame; otherwise the two sides frame differently',
    ],
    [[lines(), 'text'], 'TypeError: push() takes a Uint8Array'],
    [
      [lengthPrefixed(), Buffer.from([0, 0])],
      'ReactorError: The stream ended after 2 bytes of a length prefix. The peer stopped in the middle of it, or the two sides frame differently',
    ],
    [
      [lengthPrefixed(), Buffer.from([0, 0, 0, 2, 0])],
      'ReactorError: The stream ended after 1 of the 2 bytes of a frame. The peer stopped in the middle of it, or the two sides frame differently',
    ],
    [
      [lengthPrefixed(), Buffer.from([0, 0x10, 0, 1])],
      'ReactorError: A frame has 1048577 bytes, and at most 1048576 are allowed. If such frames are right raise maxFrame; otherwise the two sides frame differently',
    ],
    [
      [lengthPrefixed({ prefix: 'varint' }), Buffer.alloc(10, 0xff)],
      'ReactorError: A length prefix goes on after 10 bytes. The two sides frame differently',
    ],
    [
      [delimited('\0'), Buffer.from('abc')],
      'ReactorError: The stream ended after 3 bytes of a frame. The peer stopped in the middle of it, or the two sides frame differently',
    ],
    [
      [delimited('\0', { maxFrame: 2 }), Buffer.from('abc\0')],
      'ReactorError: A frame has 3 bytes, and at most 2 are allowed. If such frames are right raise maxFrame; otherwise the two sides frame differently',
    ],
    [
      [fixed(4), Buffer.from('abc')],
      'ReactorError: The stream ended after 3 of the 4 bytes of a frame. The peer stopped in the middle of it, or the two sides frame differently',
    ],
  ],
)
describeBad(
  'a decoder after its end',
  (_, bytes: string) => {
    const decoder = lines().decoder()
    decoder.end()
    return decoder.push(Buffer.from(bytes))
  },
  [['x', 'ReactorError: push() after end(): take a decoder for each stream']],
)

describeBad(
  'toDuplex() of a stream that',
  async (kit, what: string) => {
    const [stream] = await pair(kit.reactor, what === 'borrows' ? { borrow: true } : {})
    if (what === 'is read') stream.on('data', () => undefined)
    if (what === 'is closed') stream.close()
    return Reflect.apply(toDuplex, undefined, [stream])
  },
  [
    [
      'borrows',
      "TypeError: toDuplex(): UnixStream N lends its bytes, and Node keeps them. Make it without the option 'borrow'",
    ],
    [
      'is read',
      "TypeError: toDuplex(): UnixStream N has a 'data' listener, so its bytes would go two ways. Remove it first; a stream has one duplex",
    ],
    ['is closed', 'ReactorError: UnixStream N is closed'],
  ],
)

describeBad('handOver()', async ({ reactor, path }, options) => handOver(reactor, path, options), [
  [undefined, 'TypeError: handOver options must be an object, not undefined'],
  [{ listners: {} }, "TypeError: handOver has no option 'listners'; did you mean 'listeners'?"],
  [{}, "TypeError: handOver option 'listeners' must be an object whose values are listeners"],
  [
    { listeners: { web: 'web' } },
    "TypeError: handOver option 'listeners' must be an object whose values are listeners",
  ],
  [
    { listeners: {}, timeout: 0 },
    "RangeError: handOver option 'timeout' must be an integer from 1 to 9007199254740991, not 0",
  ],
  [{ listeners: {}, connections: [] }, "TypeError: handOver option 'connections' must be a function, not []"],
  [
    { listeners: {}, allow: {} },
    "TypeError: handOver option 'allow' must name uids, gids, or both: with neither, nobody could connect",
  ],
  [
    { listeners: {}, onFailed: 'warn' },
    "TypeError: handOver option 'onFailed' must be a function, not 'warn'",
  ],
  [{ listeners: {}, signal: AbortSignal.abort(new Error('not now')) }, 'Error: not now'],
])
describeBad(
  'handOver() at',
  async ({ reactor }, path: string) => handOver(reactor, path, { listeners: {} }),
  [
    [
      '',
      'TypeError: The address of a Unix socket must be a path that is not empty and has no NUL in it, or { abstract: name }',
    ],
    [
      LONG,
      "SystemError: ENAMETOOLONG: name too long, bind 'LONG'. The path has 108 bytes, and sun_path holds 107: use a shorter folder, or a path relative to the working directory",
    ],
  ],
)
describeBad(
  'handOver() at a path',
  async ({ reactor, path }, kind: string) => {
    if (kind === 'of a folder') mkdirSync(path)
    else UnixListener.listen(reactor, path)
    return handOver(reactor, path, { listeners: {} })
  },
  [
    [
      'of a folder',
      "SystemError: EADDRINUSE: address already in use, bind 'DIR/socket'. Another process listens there, or the file is not a dead socket",
    ],
    [
      'of a listener',
      "SystemError: EADDRINUSE: address already in use, bind 'DIR/socket'. Another process listens there, or the file is not a dead socket",
    ],
  ],
)
describeBad('takeOver()', async ({ reactor, path }, options) => takeOver(reactor, path, options), [
  [{ listener: {} }, "TypeError: takeOver has no option 'listener'; did you mean 'listeners'?"],
  [
    {},
    "TypeError: takeOver option 'listeners' must be an object whose values are functions that make listeners",
  ],
  [
    { listeners: { web: {} } },
    "TypeError: takeOver option 'listeners' must be an object whose values are functions that make listeners",
  ],
  [{ listeners: {}, connections: 1 }, "TypeError: takeOver option 'connections' must be a boolean, not 1"],
  [{ listeners: {}, timeout: '1s' }, "TypeError: takeOver option 'timeout' must be a number, not '1s'"],
  [
    { listeners: {}, allow: { users: [0] } },
    "TypeError: takeOver option 'allow' has no option 'users'; did you mean 'uids'?",
  ],
])
describeBad(
  'takeOver() at',
  async ({ reactor }, path: string) => takeOver(reactor, path, { listeners: {} }),
  [
    [
      '',
      'TypeError: The address of a Unix socket must be a path that is not empty and has no NUL in it, or { abstract: name }',
    ],
    [
      { abstract: '' },
      'TypeError: An abstract name must be a text that is not empty and has no NUL in it (the leading one is added), or bytes',
    ],
  ],
)
describeBad(
  'takeOver() from who is no predecessor',
  async ({ reactor, path }, makers: Record<string, never>) => {
    UnixListener.listen(reactor, path)
    return takeOver(reactor, path, { listeners: makers })
  },
  [
    [
      {},
      "SystemError: EPROTOTYPE: protocol wrong type for socket, connect 'DIR/socket'. The socket there has another type",
    ],
  ],
)
