import { execFileSync } from 'node:child_process'
import {
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  statSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs'
import { FdHandle, Mapping } from '@fd-reactor/core'
import { SharedMemory, UnixListener, UnixSeqpacketListener, type MapOptions } from '@fd-reactor/fd-events'
import { describe, expect, onTestFinished, test } from 'vitest'
import { runForJson, withoutLeakCheck } from '../../core/test/support/child.js'
import { assertNoLeakedFds, flagsOf } from '../../core/test/support/fds.js'
import { assertNoLeakedMemory, liveMappings, memoryName } from '../../core/test/support/memory.js'
import { openReactor, socketPath } from '../../core/test/support/reactors.js'

assertNoLeakedFds()
assertNoLeakedMemory()

const PAGE = 4096
const GIB = 2 ** 30
const FD_CLOEXEC = 0o2000000

/** Closes it with the test. */
function kept<Item extends { [Symbol.dispose](): void }>(item: Item): Item {
  onTestFinished(() => {
    item[Symbol.dispose]()
  })
  return item
}

const mapped = (memory: SharedMemory, options?: MapOptions): Uint8Array =>
  new Uint8Array(kept(memory.map(options)).buffer)

/** The whole message of what `action` throws. */
function messageOf(action: () => unknown): string {
  try {
    action()
  } catch (error) {
    return String(error)
  }
  return 'nothing was thrown'
}

describe('create()', () => {
  test('makes zeros of that size, close-on-exec, sealed against resizing for good', () => {
    const memory = kept(SharedMemory.create(3 * PAGE + 5))
    expect([memory.size, memory.pageSize, memory.name]).toEqual([3 * PAGE + 5, PAGE, undefined])
    expect(memory.seals).toEqual(['seal', 'shrink', 'grow'])
    expect(flagsOf(memory.handle.fd) & FD_CLOEXEC).toBe(FD_CLOEXEC)
    const bytes = mapped(memory)
    expect([bytes.length, bytes.every((byte) => byte === 0)]).toEqual([3 * PAGE + 5, true])
    const path = `/proc/self/fd/${memory.handle.fd}`
    for (const size of [0, 10 * PAGE])
      expect(
        messageOf(() =>
          execFileSync('truncate', ['-s', String(size), path], {
            stdio: ['ignore', 'pipe', 'pipe', memory.handle.fd],
          }),
        ),
      ).toMatch(/Error/)
  })

  test('mappings stay when it is closed; everything else says that it is', () => {
    const memory = SharedMemory.create(PAGE)
    const bytes = mapped(memory)
    memory.close()
    memory.close()
    bytes[0] = 1
    expect(bytes[0]).toBe(1)
    for (const use of [() => memory.map(), () => memory.seals, () => memory.seal('write')])
      expect(use).toThrow(
        expect.objectContaining({ code: 'ERR_CLOSED', message: 'The descriptor is closed' }),
      )
  })

  test.each([
    [
      () => SharedMemory.create(0),
      'RangeError: The size must be an integer from 1 to 140737488355328, not 0',
    ],
    [
      () => SharedMemory.create(1.5),
      'RangeError: The size must be an integer from 1 to 140737488355328, not 1.5',
    ],
    [() => SharedMemory.create('1' as never), "TypeError: The size must be a number, not '1'"],
    [
      () => SharedMemory.create(PAGE, { hugepages: true } as never),
      "TypeError: SharedMemory.create has no option 'hugepages'; did you mean 'hugePages'?",
    ],
    [
      () => SharedMemory.create(PAGE, { name: 'x', mode: 0o1777 }),
      "RangeError: SharedMemory.create option 'mode' must be an integer from 0 to 511, not 1023",
    ],
  ])('refuses what cannot be: %#', (action, message) => {
    expect(messageOf(action)).toBe(message)
  })
})

describe('seals', () => {
  test('final ones cannot be added to; others can', () => {
    const final = kept(SharedMemory.create(PAGE))
    expect(messageOf(() => final.seal('write'))).toBe(
      "SystemError: EPERM: operation not permitted, fcntl 'F_ADD_SEALS'. Its seals are final, as it was made with `sealed`, or has a " +
        'name; or it is not open for writing',
    )
    const open = kept(SharedMemory.create(PAGE, { sealed: false }))
    expect(open.seals).toEqual(['shrink', 'grow'])
    expect(messageOf(() => open.seal('writ' as never))).toBe(
      'TypeError: A seal must be "seal" or "shrink" or "grow" or "write" or "future-write", not \'writ\'',
    )
    const mapping = open.map()
    expect(messageOf(() => open.seal('write'))).toBe(
      "SystemError: EBUSY: resource busy or locked, fcntl 'F_ADD_SEALS'. It is mapped with access 'write': unmap it first, or use " +
        "'future-write'",
    )
    mapping.unmap() // its pages are out of the way at once, although a view may be alive
    open.seal('write', 'seal')
    expect(open.seals).toEqual(['seal', 'shrink', 'grow', 'write'])
    expect(messageOf(() => open.map())).toBe(
      `SystemError: EPERM: operation not permitted, mmap 'SharedMemory ${open.handle.fd}'. The object is sealed against writing: map it with access 'read'`,
    )
    expect(mapped(open, { access: 'read' }).length).toBe(PAGE)
  })

  test("after 'future-write' who made it goes on writing, and all others can only read", () => {
    const memory = kept(SharedMemory.create(PAGE, { sealed: false }))
    const mine = mapped(memory)
    memory.seal('future-write', 'seal')
    expect(memory.seals).toEqual(['seal', 'shrink', 'grow', 'future-write'])
    const other = kept(SharedMemory.from(memory.handle.duplicate()))
    expect(() => other.map()).toThrow(expect.objectContaining({ code: 'EPERM' }))
    expect(messageOf(() => writeFileSync(other.handle.fd, 'x'))).toMatch(/EPERM/)
    const theirs = mapped(other, { access: 'read' })
    mine[7] = 3
    expect(theirs[7]).toBe(3)
  })

  test('a file has none, and cannot have any', () => {
    const file = kept(SharedMemory.from(FdHandle.adopt(openSync(socketPath(), 'w+'))))
    expect(file.seals).toEqual([])
    expect(messageOf(() => file.seal('write'))).toBe(
      "SystemError: EINVAL: invalid argument, fcntl 'F_ADD_SEALS'. Only memory objects without a name can be sealed",
    )
  })
})

describe('names', () => {
  test('one makes it, others open it, and unlink() leaves it to those', () => {
    const name = memoryName()
    const made = kept(SharedMemory.create(PAGE + 1, { name }))
    expect([made.name, made.size, made.seals]).toEqual([name, PAGE + 1, ['seal']])
    expect(flagsOf(made.handle.fd) & FD_CLOEXEC).toBe(FD_CLOEXEC)
    const opened = kept(SharedMemory.open(`/${name}`))
    const reader = kept(SharedMemory.open(name, { access: 'read' }))
    expect(opened.size).toBe(PAGE + 1)
    SharedMemory.unlink(name)
    mapped(made)[0] = 9
    expect([mapped(opened)[0], mapped(reader, { access: 'read' })[0]]).toEqual([9, 9])
    expect(messageOf(() => reader.map())).toBe(
      `SystemError: EACCES: permission denied, mmap 'SharedMemory ${name}'. The descriptor is not open for that: open it for reading ` +
        "and writing, or map it with access 'read'",
    )
    const gone = (syscall: string): string =>
      `SystemError: ENOENT: no such file or directory, ${syscall} '/dev/shm/${name}'. Nobody made it, or it was unlinked`
    expect(messageOf(() => SharedMemory.open(name))).toBe(gone('open'))
    expect(messageOf(() => SharedMemory.unlink(name))).toBe(gone('unlink'))
  })

  test.each([0o600, 0o644, 0o666, 0o000])('its mode is that which was asked for: 0o%o', (mode) => {
    const before = process.umask(0o077)
    const name = memoryName()
    try {
      SharedMemory.create(PAGE, { name, mode }).close()
    } finally {
      process.umask(before)
    }
    expect(statSync(`/dev/shm/${name}`).mode & 0o777).toBe(mode)
    SharedMemory.unlink(name)
  })

  test('a second one of the name is refused, and leaves nothing', () => {
    const name = memoryName()
    const first = kept(SharedMemory.create(PAGE, { name }))
    const open = readdirSync('/proc/self/fd').length
    expect(messageOf(() => SharedMemory.create(PAGE, { name }))).toBe(
      `SystemError: EEXIST: file already exists, linkat '/dev/shm/${name}'. open() it, or unlink() it if nobody needs it any more`,
    )
    expect(readdirSync('/proc/self/fd').length).toBe(open)
    SharedMemory.unlink(name)
    expect(first.handle.closed).toBe(false)
  })

  test('more than there is room for is refused before it has a name', () => {
    const name = memoryName()
    const size = 2 ** 46
    expect(messageOf(() => SharedMemory.create(size, { name }))).toBe(
      `SystemError: ENOSPC: no space left on device, fallocate '/dev/shm/${name}'. /dev/shm has no room for ${size} bytes`,
    )
    expect(readdirSync('/dev/shm')).not.toContain(name)
  })

  test('it appears at full size: nobody who waits for the name ever sees less', async () => {
    const name = memoryName()
    const size = 64 * 2 ** 20
    const seen = runForJson(
      `const [, name] = process.argv
      const end = performance.now() + 10_000
      while (performance.now() < end) {
        try {
          const memory = events.SharedMemory.open(name)
          console.log(memory.size)
          break
        } catch (error) { if (error.code !== 'ENOENT') throw error }
      }
      process.exit()`,
      { args: [name] },
    )
    SharedMemory.create(size, { name, mode: 0o600 }).close()
    expect(await seen).toBe(size)
    SharedMemory.unlink(name)
  })

  test.each(['', '/', '.', '..', '/..', 'a/b', '//a', 'a\0b', 'ä'.repeat(128)])('%j is none', (name) => {
    const message = `TypeError: A name of shared memory has 1 to 255 bytes and no '/' but a leading one, unlike ${JSON.stringify(name)}`
    expect(messageOf(() => SharedMemory.create(PAGE, { name }))).toBe(message)
    expect(messageOf(() => SharedMemory.open(name))).toBe(message)
    expect(messageOf(() => SharedMemory.unlink(name))).toBe(message)
  })

  test('what else may stand there is neither followed, waited for, nor mapped', () => {
    const name = memoryName()
    const path = `/dev/shm/${name}`
    symlinkSync('/etc/hostname', path)
    expect(messageOf(() => SharedMemory.open(name, { access: 'read' }))).toMatch(
      new RegExp(`^SystemError: ELOOP: .*, open '${path}'\\. A symbolic link is not followed$`),
    )
    unlinkSync(path)
    execFileSync('mkfifo', [path])
    const open = readdirSync('/proc/self/fd').length
    for (const access of ['read', 'write'] as const)
      expect(messageOf(() => SharedMemory.open(name, { access }))).toBe(
        `SystemError: EINVAL: invalid argument, mmap '${path}'. It is neither a memory object nor a file`,
      )
    expect(readdirSync('/proc/self/fd').length).toBe(open)
    unlinkSync(path)
    mkdirSync(path)
    expect(messageOf(() => SharedMemory.open(name, { access: 'read' }))).toMatch(
      /It is neither a memory object nor a file$/,
    )
    rmdirSync(path)
  })
})

describe('map()', () => {
  test('windows begin at any page, and see the same memory', () => {
    const memory = kept(SharedMemory.create(4 * PAGE + 100))
    const all = mapped(memory)
    const window = mapped(memory, { offset: PAGE, length: 10 })
    const rest = mapped(memory, { offset: 4 * PAGE })
    all.set([1, 2, 3], PAGE)
    rest[99] = 4
    expect([window.length, [...window.subarray(0, 3)], rest.length, all.at(-1)]).toEqual([
      10,
      [1, 2, 3],
      100,
      4,
    ])
  })

  test('6 GiB are mapped in windows of at most 4', () => {
    const memory = kept(SharedMemory.create(6 * GIB))
    const largest = mapped(memory, { length: 4 * GIB })
    const rest = mapped(memory, { offset: 4 * GIB })
    const overlapping = mapped(memory, { offset: 4 * GIB - PAGE, length: 2 * PAGE })
    largest[4 * GIB - 1] = 1
    rest[0] = 2
    rest[2 * GIB - 1] = 3
    expect([
      overlapping[PAGE - 1],
      overlapping[PAGE],
      mapped(memory, { offset: 6 * GIB - PAGE }).at(-1),
    ]).toEqual([1, 2, 3])
    expect(messageOf(() => memory.map())).toBe(
      `RangeError: SharedMemory ${memory.handle.fd}: a mapping has at most 4 GiB: map windows of the ${6 * GIB} bytes`,
    )
  })

  test('what is not within it is refused', () => {
    const memory = kept(SharedMemory.create(2 * PAGE))
    const label = `RangeError: SharedMemory ${memory.handle.fd}`
    expect(messageOf(() => memory.map({ offset: 100 }))).toBe(
      `${label}: offset 100 is no multiple of the page size, 4096`,
    )
    expect(messageOf(() => memory.map({ offset: PAGE, length: PAGE + 1 }))).toBe(
      `${label}: 4097 bytes at 4096 are not within 8192 bytes`,
    )
    expect(messageOf(() => memory.map({ offset: 2 * PAGE }))).toBe(
      `${label}: 0 bytes at 8192 are not within 8192 bytes`,
    )
    expect(messageOf(() => memory.map({ length: 0 }))).toBe(
      "RangeError: SharedMemory.map option 'length' must be an integer from 1 to 4294967296, not 0",
    )
    expect(messageOf(() => memory.map({ access: 'rw' as never }))).toBe(
      'TypeError: SharedMemory.map option \'access\' must be "read" or "write", not \'rw\'',
    )
    const name = memoryName()
    const named = kept(SharedMemory.create(2 * PAGE, { name }))
    execFileSync('truncate', ['-s', '100', `/dev/shm/${name}`])
    expect(messageOf(() => named.map())).toBe(
      `RangeError: SharedMemory ${name}: 8192 bytes at 0 are not within 100 bytes`,
    )
    SharedMemory.unlink(name)
  })

  test.each([{}, { populate: true }, { lock: true }, { populate: true, lock: true }])(
    "access 'read' sees what others store, and what it stores harms nobody: %j",
    (options) => {
      const memory = kept(SharedMemory.create(4 * PAGE))
      const writer = mapped(memory)
      const reader = mapped(memory, { access: 'read', ...options })
      writer[PAGE] = 1
      expect(reader[PAGE]).toBe(1)
      reader[2 * PAGE] = 9
      Atomics.add(new Int32Array(reader.buffer), 3, 1)
      expect([writer[2 * PAGE], writer[12], reader[2 * PAGE], reader[12]]).toEqual([0, 0, 9, 1])
      writer[PAGE] = 2
      expect(reader[PAGE]).toBe(2)
    },
  )

  /** What /proc says of the mapping that begins where `view` was found to have its pages: kB. */
  const total = (field: string): number =>
    readFileSync('/proc/self/smaps', 'utf8')
      .split(/^(?=[0-9a-f]+-[0-9a-f]+ )/m)
      .filter((range) => range.includes('memfd:fd-reactor'))
      .reduce((sum, range) => sum + Number(new RegExp(`^${field}:\\s+(\\d+)`, 'm').exec(range)?.[1] ?? 0), 0)

  test('populate brings all pages in, lock keeps them, and neither is the default', () => {
    const memory = kept(SharedMemory.create(64 * PAGE))
    const before = [total('Rss'), total('Locked')]
    const grown = (): number[] => [total('Rss') - (before[0] ?? 0), total('Locked') - (before[1] ?? 0)]
    const step = (options: MapOptions): number[] => {
      const mapping = memory.map(options)
      const seen = grown()
      mapping.unmap()
      expect(grown()).toEqual([0, 0])
      return seen
    }
    expect(step({})).toEqual([0, 0])
    expect(step({ populate: true })).toEqual([256, 0])
    expect(step({ lock: true })).toEqual([256, 256])
    expect(step({ access: 'read', populate: true })).toEqual([256, 0])
    expect(step({ access: 'read', lock: true })).toEqual([256, 256])
  })

  test.runIf(process.getuid?.() === 0)(
    'more than may be locked is refused, and nothing stays mapped',
    async () => {
      const script = `
      const memory = events.SharedMemory.create(1 << 20)
      const { Mapping } = await import('@fd-reactor/core')
      const small = memory.map({ length: 4096, lock: true })
      let message
      try { memory.map({ lock: true }) } catch (error) { message = error.message }
      for (let n = 0; n < 20 && Mapping.live > 1; n++) { gc(); await turn() }
      console.log(JSON.stringify([small.buffer.byteLength, message.replace(/\\d+'/, "N'"), Mapping.live]))`
      const under = [
        'prlimit',
        '--memlock=65536',
        'setpriv',
        '--bounding-set=-ipc_lock',
        '--inh-caps=-ipc_lock',
      ]
      const options = { under, execArgv: ['--expose-gc'], env: withoutLeakCheck }
      expect(await runForJson(script, options)).toEqual([
        PAGE,
        "ENOMEM: not enough memory, mlock 'SharedMemory N'. Raise the limit of locked memory (ulimit -l, LimitMEMLOCK=), or give CAP_IPC_LOCK",
        1,
      ])
    },
  )
})

describe('huge pages', () => {
  const SETTING = '/proc/sys/vm/nr_hugepages'
  const HUGE = 2 * 2 ** 20

  test('where there are none, ordinary ones', (context) => {
    if (readFileSync(SETTING, 'utf8').trim() !== '0') context.skip(`this machine has huge pages: ${SETTING}`)
    const memory = kept(SharedMemory.create(PAGE, { hugePages: true }))
    expect([memory.size, memory.pageSize, memory.seals]).toEqual([PAGE, PAGE, ['seal', 'shrink', 'grow']])
  })

  test('where there are some, whole ones, reserved at once', async (context) => {
    const before = readFileSync(SETTING, 'utf8')
    try {
      writeFileSync(SETTING, '4')
    } catch {
      context.skip(`${SETTING} cannot be changed here`)
    }
    onTestFinished(() => {
      writeFileSync(SETTING, before)
    })
    if (Number(readFileSync(SETTING, 'utf8')) < 4) context.skip('the kernel has no 8 MiB in one piece')
    const memory = SharedMemory.create(HUGE + 1, { hugePages: true })
    expect([memory.size, memory.pageSize]).toEqual([2 * HUGE, HUGE])
    // A length that is no multiple of the pages must be unmapped as well.
    const part = memory.map({ length: 100, lock: true })
    const rest = memory.map({ offset: HUGE })
    const bytes = new Uint8Array(rest.buffer)
    bytes[HUGE - 1] = 7
    expect(messageOf(() => memory.map({ offset: PAGE }))).toMatch(
      /offset 4096 is no multiple of the page size, 2097152$/,
    )
    // Copies of huge pages that there are not are lost, not fatal.
    const readers = [1, 2, 3].map(() => memory.map({ access: 'read' }))
    for (const reader of readers) new Uint8Array(reader.buffer).fill(1)
    expect(readers.map((reader) => reader.lost)).toContain(true)
    expect([bytes[0], bytes[HUGE - 1]]).toEqual([0, 7])
    for (const mapping of [part, rest, ...readers]) mapping.unmap()
    memory.close()
    await liveMappings(Mapping.live - 5)
    expect(readFileSync('/proc/meminfo', 'utf8')).toMatch(/HugePages_Free: +4\n/)
  })
})

describe('from()', () => {
  test('owns the descriptor, and refuses what cannot be mapped', () => {
    const folder = kept(FdHandle.adopt(openSync('/tmp', 'r')))
    expect(messageOf(() => SharedMemory.from(folder))).toBe(
      `SystemError: EINVAL: invalid argument, mmap 'fd ${folder.fd}'. It is neither a memory object nor a file`,
    )
    expect(folder.closed).toBe(false)
    const memory = SharedMemory.create(PAGE)
    const handle = memory.handle.duplicate()
    const other = SharedMemory.from(handle)
    other.close()
    expect([handle.closed, memory.handle.closed]).toEqual([true, false])
    memory.close()
  })

  /** Receives memory, looks at it before it maps it, and answers in it and by a message. */
  const RECEIVER = `
    const { SharedMemory, UnixSeqpacket } = events
    const reactor = new Reactor()
    const [, kind, address] = process.argv
    const take = ([handle], answer) => {
      const memory = SharedMemory.from(handle)
      const about = [memory.size, memory.seals]
      const mapping = memory.map({ offset: 4096 })
      const words = new Int32Array(mapping.buffer)
      const seen = Atomics.load(words, 1)
      Atomics.store(words, 2, seen * 2)
      answer(JSON.stringify([...about, seen]))
      mapping.unmap()
      memory.close()
    }
    if (kind === 'packets') {
      const peer = await UnixSeqpacket.connect(reactor, address, { maxFds: 1 })
      peer.on('message', (_, { fds }) => take(fds, (text) => peer.send(text)))
      peer.on('end', () => reactor.stop(0))
    } else {
      const stream = await UnixStream.connect(reactor, address, { maxFds: 1 })
      stream.on('fds', (fds) => take(fds, (text) => stream.write(text)))
      stream.on('data', () => {}).on('end', () => reactor.stop(0))
    }
    await reactor.run()
    console.log('"done"')
    process.exit()`

  test.each(['packets', 'stream'])('another process maps what it is sent: %s', async (kind) => {
    const reactor = openReactor()
    const path = socketPath()
    const memory = kept(SharedMemory.create(3 * PAGE))
    const words = new Int32Array(kept(memory.map({ offset: PAGE })).buffer)
    Atomics.store(words, 1, 21)
    const fds = [memory.handle]
    const answer = new Promise<unknown>((resolve) => {
      if (kind === 'packets') {
        const listener = UnixSeqpacketListener.listen(reactor, path)
        listener.on('connection', (peer) => {
          peer.send('here it is', { fds })
          peer.on('message', (bytes) => {
            resolve(JSON.parse(String(bytes)))
            peer.close()
            listener.close()
          })
        })
      } else {
        const listener = UnixListener.listen(reactor, path)
        listener.on('connection', (stream) => {
          stream.send('here it is', { fds })
          stream.on('data', (bytes) => {
            resolve(JSON.parse(String(bytes)))
            stream.end()
            listener.close()
          })
        })
      }
    })
    const child = runForJson(RECEIVER, { args: [kind, path] })
    expect(await Promise.race([answer, child])).toEqual([3 * PAGE, ['seal', 'shrink', 'grow'], 21])
    expect(Atomics.load(words, 2)).toBe(42)
    expect(await child).toBe('done')
  })
})
