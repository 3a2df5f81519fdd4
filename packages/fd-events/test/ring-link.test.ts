/**
 * The handshake, the link of two rings, and what the other side can do wrong.
 */
import { FdHandle, once, type Reactor } from '@fd-reactor/core'
import { eventfd } from '@fd-reactor/core/sys'
import type { Ring } from '@fd-reactor/fd-events'
import {
  accept,
  offer,
  RingWriter,
  UnixSeqpacket,
  UnixSeqpacketListener,
  type AcceptOptions,
  type OfferOptions,
  type RingLink,
} from '@fd-reactor/fd-events'
import { expect, onTestFinished, test } from 'vitest'
import { openReactor } from '../../core/test/support/reactors.js'
import { turn, until, within } from '../../core/test/support/wait.js'
import { abstractName } from './message-helpers.js'
import { assertNothingLeft, message, openRing } from './ring-helpers.js'

assertNothingLeft()

/** Two connected packets' sockets. */
async function pair(reactor: Reactor): Promise<[UnixSeqpacket, UnixSeqpacket]> {
  const address = abstractName()
  const listener = UnixSeqpacketListener.listen(reactor, address)
  const [[accepted], connected] = await Promise.all([
    within(once(listener, 'connection')),
    UnixSeqpacket.connect(reactor, address),
  ])
  listener.close()
  return [accepted, connected]
}

async function linked(
  reactor: Reactor,
  offering: OfferOptions = { capacity: 4096 },
  accepting: AcceptOptions = {},
): Promise<[RingLink, RingLink]> {
  const [left, right] = await pair(reactor)
  const both = await within(Promise.all([offer(reactor, left, offering), accept(reactor, right, accepting)]))
  onTestFinished(() => {
    for (const link of both) link.close()
  })
  return both
}

/** What an attempt ends with. */
async function failure(attempt: Promise<unknown>): Promise<string> {
  return within(
    attempt.then(
      () => 'it succeeded',
      (error: unknown) => String(error),
    ),
  )
}

/** Descriptors that nothing else has, and whether they are closed. */
function bells(count: number): FdHandle[] {
  return Array.from({ length: count }, () => {
    const handle = new FdHandle(eventfd.create(0n, false))
    onTestFinished(() => {
      handle.close()
    })
    return handle
  })
}

test('connects by an address or a connection, whoever listens', async () => {
  const reactor = openReactor()
  for (const [serve, connect] of [
    [accept, offer],
    [offer, accept],
  ] as const) {
    const address = abstractName()
    const listener = UnixSeqpacketListener.listen(reactor, address)
    const served = once(listener, 'connection').then(async ([connection]) => serve(reactor, connection))
    const mine = await within(connect(reactor, address))
    const theirs = await served
    listener.close()
    expect([mine.connected, theirs.connected, mine.peer?.pid, theirs.peer?.pid]).toEqual([
      true,
      true,
      process.pid,
      process.pid,
    ])
    for (const [from, to] of [
      [mine, theirs],
      [theirs, mine],
    ] as const) {
      from.writer.write(Buffer.from('hello'))
      const [bytes] = await within(once(to.reader, 'message'))
      expect(String(bytes)).toBe('hello')
    }
    mine.close()
    theirs.close()
  }
})

test('passes the options on to both ends', async () => {
  const [mine, theirs] = await linked(
    openReactor(),
    { capacity: 5000, writer: { onFull: 'drop', label: 'Mine' }, reader: { label: 'Read' } },
    { reader: { priority: 'low' } },
  )
  expect([mine.writer.label, mine.reader.label].map((label) => label.split(' ')[0])).toEqual(['Mine', 'Read'])
  expect([mine.writer.bytes.length, theirs.writer.bytes.length, theirs.reader.stats.priority]).toEqual([
    8192,
    8192,
    'low',
  ])
})

test("tells 'end' and 'gone' on the other side, once, when it is closed, after what was committed", async () => {
  const [mine, theirs] = await linked(openReactor())
  const told: string[] = []
  theirs.reader.on('message', (bytes) => told.push(String(bytes)))
  theirs.reader.on('end', () => told.push('end'))
  theirs.on('gone', () => told.push('gone'))
  mine.on('close', () => told.push('close'))
  mine.on('gone', () => told.push('gone on my side'))
  mine.writer.write(Buffer.from('last'))
  mine.close()
  mine.close()
  mine[Symbol.dispose]()
  await until(() => told.length === 4)
  await turn()
  expect(told.sort()).toEqual(['close', 'end', 'gone', 'last'])
  expect([mine.closed, mine.connected, theirs.closed, theirs.connected, theirs.peer]).toEqual([
    true,
    false,
    false,
    false,
    undefined,
  ])
  expect(() => mine.writer.write(Buffer.from('x'))).toThrow(expect.objectContaining({ code: 'ERR_CLOSED' }))
})

test('is offered to a successor, who goes on where the one before it stopped', async () => {
  const reactor = openReactor()
  const [mine, first] = await linked(reactor)
  for (let i = 0; i < 3; i++) mine.writer.write(message(i, 100))
  expect(first.reader.read()).toEqual(message(0, 100))
  first.writer.write(Buffer.from('from the first'))
  await expect(mine.offer(abstractName())).rejects.toThrow(
    'The rings have a reader and a writer on the other side: wait for gone',
  )
  const gone = new Promise<void>((resolve) => mine.once('gone', resolve))
  first.close()
  await within(gone)
  const [left, right] = await pair(reactor)
  const accepting = accept(reactor, right)
  const offering = mine.offer(left)
  await expect(mine.offer(abstractName())).rejects.toThrow(
    'The rings are being offered to the other side: wait for gone',
  )
  await within(offering)
  const second = await within(accepting)
  onTestFinished(() => {
    second.close()
  })
  expect([mine.connected, second.connected, second.writer.sequence]).toEqual([true, true, 1])
  expect([second.reader.read(), second.reader.sequence]).toEqual([message(1, 100), 1])
  second.writer.write(Buffer.from('from the second'))
  expect([String(mine.reader.read()), String(mine.reader.read())]).toEqual([
    'from the first',
    'from the second',
  ])
  mine.close()
  await expect(mine.offer(abstractName())).rejects.toMatchObject({ code: 'ERR_CLOSED' })
})

test('a reader that ends by its link inside its handler has acknowledged that message', async () => {
  const reactor = openReactor()
  const [mine, theirs] = await linked(reactor)
  theirs.reader.on('message', () => theirs.close())
  mine.writer.write(message(0, 10))
  mine.writer.write(message(1, 10))
  await until(() => !mine.connected)
  const [left, right] = await pair(reactor)
  const [next] = await within(Promise.all([accept(reactor, right), mine.offer(left)]))
  expect([next.reader.read(), next.reader.read()]).toEqual([message(1, 10), undefined])
  next.close()
})

test('an acceptor is refused by what comes, with the reason on both sides, and closes it', async () => {
  const reactor = openReactor()
  const attempt = async (text: string | Buffer, fds: readonly FdHandle[]): Promise<string[]> => {
    const [left, right] = await pair(reactor)
    left.send(text, { fds })
    const answer = within(once(left, 'message'))
    const refused = await failure(accept(reactor, right))
    const [bytes] = await answer
    left.close()
    return [refused, String(bytes)]
  }
  const rings = [openRing(), openRing()]
  const good = rings.flatMap((ring) => ring.fds)
  const offered = JSON.stringify({ offer: 'ring-pair', version: 1 })
  const results = [
    await attempt('garbage', []),
    await attempt(Buffer.from([0xff, 0, 0x7b]), bells(2)),
    await attempt('null', bells(6)),
    await attempt('[]', bells(6)),
    await attempt(JSON.stringify({ offer: 'other', version: 1 }), bells(6)),
    await attempt(JSON.stringify({ offer: 'ring-pair', version: 2 }), bells(6)),
    await attempt(offered, []),
    await attempt(offered, bells(5)),
    await attempt(offered, bells(7)),
    await attempt(offered, bells(6)),
    await attempt(offered, [...good.slice(0, 3), ...bells(3)]),
  ]
  const places = /fd \d+/g
  expect(results.flat().map((text) => text.replace(places, 'fd N'))).toMatchInlineSnapshot(`
    [
      "ReactorError: The offer of shared memory of the other side is undefined, and not ring-pair",
      "{"refused":"The offer of shared memory of the other side is undefined, and not ring-pair"}",
      "ReactorError: The offer of shared memory of the other side is undefined, and not ring-pair",
      "{"refused":"The offer of shared memory of the other side is undefined, and not ring-pair"}",
      "ReactorError: The offer of shared memory of the other side is undefined, and not ring-pair",
      "{"refused":"The offer of shared memory of the other side is undefined, and not ring-pair"}",
      "ReactorError: The offer of shared memory of the other side is undefined, and not ring-pair",
      "{"refused":"The offer of shared memory of the other side is undefined, and not ring-pair"}",
      "ReactorError: The offer of shared memory of the other side is "other", and not ring-pair",
      "{"refused":"The offer of shared memory of the other side is \\"other\\", and not ring-pair"}",
      "ReactorError: The offer of shared memory of the other side is of version 2, and not 1: run the same release on both",
      "{"refused":"The offer of shared memory of the other side is of version 2, and not 1: run the same release on both"}",
      "ReactorError: The offer of shared memory of the other side came with 0 descriptors, and not 6",
      "{"refused":"The offer of shared memory of the other side came with 0 descriptors, and not 6"}",
      "ReactorError: The offer of shared memory of the other side came with 5 descriptors, and not 6",
      "{"refused":"The offer of shared memory of the other side came with 5 descriptors, and not 6"}",
      "ReactorError: The offer of shared memory of the other side came with 7 descriptors, and not 6",
      "{"refused":"The offer of shared memory of the other side came with 7 descriptors, and not 6"}",
      "SystemError: EINVAL: invalid argument, mmap 'fd N'. It is neither a memory object nor a file",
      "{"refused":"EINVAL: invalid argument, mmap 'fd N'. It is neither a memory object nor a file"}",
      "SystemError: EINVAL: invalid argument, mmap 'fd N'. It is neither a memory object nor a file",
      "{"refused":"EINVAL: invalid argument, mmap 'fd N'. It is neither a memory object nor a file"}",
    ]
  `)
  if (rings[0] !== undefined) rings[0].control[64] = 4 // a tail that cannot be
  expect((await attempt(offered, good)).join('\n')).toMatchInlineSnapshot(`
    "ReactorError: The ring cannot be read: head is 0 and tail 4, which cannot be; somebody has damaged it
    {"refused":"The ring cannot be read: head is 0 and tail 4, which cannot be; somebody has damaged it"}"
  `)
})

test('an offerer is told by an answer that is none, by silence, by a close', async () => {
  const reactor = openReactor()
  const attempt = async (
    act: (peer: UnixSeqpacket) => unknown,
    options: OfferOptions = {},
  ): Promise<string> => {
    const [left, right] = await pair(reactor)
    right.on('message', (_, { fds }) => {
      for (const fd of fds) fd.close()
      act(right)
    })
    const result = await failure(offer(reactor, left, { capacity: 4096, ...options }))
    right.close()
    return result
  }
  const abort = new AbortController()
  expect([
    await attempt((peer) => peer.send('garbage')),
    await attempt((peer) => peer.send('{"accepted":1}', { fds: bells(3) })),
    await attempt((peer) => peer.send('{"refused":"not today"}')),
    await attempt((peer) => {
      peer.close()
    }),
    await attempt(() => undefined, { timeout: 20e6 }),
    await attempt(
      () => {
        abort.abort(new Error('changed my mind'))
      },
      { signal: abort.signal },
    ),
    await attempt(() => undefined, { signal: abort.signal }),
    await attempt(() => undefined, { capacity: 0 }),
    await attempt(() => undefined, JSON.parse('{"timout":1}') as object),
    await attempt(() => undefined, { writer: { queueBytes: -1 } }),
  ]).toMatchInlineSnapshot(`
    [
      "ReactorError: The offer of shared memory was answered by something else",
      "ReactorError: The offer of shared memory was answered by something else",
      "ReactorError: The offer of shared memory was refused: not today",
      "ReactorError: The offer of shared memory was not answered: the other side went away",
      "ReactorError: An offer of shared memory was not answered within 20 ms",
      "Error: changed my mind",
      "Error: changed my mind",
      "RangeError: Ring.create option 'capacity' must be an integer from 1 to 1073741824, not 0",
      "TypeError: offer has no option 'timout'; did you mean 'timeout'?",
      "RangeError: RingWriter option 'queueBytes' must be an integer from 0 to 9007199254740991, not -1",
    ]
  `)
})

test('an acceptor is told by silence and by a close', async () => {
  const reactor = openReactor()
  const [left, right] = await pair(reactor)
  expect(await failure(accept(reactor, right, { timeout: 20e6 }))).toBe(
    'ReactorError: An offer of shared memory was not answered within 20 ms',
  )
  left.close()
  const [here, there] = await pair(reactor)
  const accepting = failure(accept(reactor, there))
  here.close()
  expect(await accepting).toBe(
    'ReactorError: The offer of shared memory was not answered: the other side went away',
  )
  expect(await failure(accept(reactor, abstractName()))).toMatch(/^SystemError: ECONNREFUSED/)
})

test('an acceptor whose offerer went away before the answer leaves nothing, or hears that it is gone', async () => {
  const reactor = openReactor()
  const rings = [openRing(), openRing()]
  for (let round = 0; round < 20; round++) {
    const [left, right] = await pair(reactor)
    left.send(JSON.stringify({ offer: 'ring-pair', version: 1 }), { fds: rings.flatMap((ring) => ring.fds) })
    if (round % 2 === 0) left.close()
    const accepting = accept(reactor, right).catch((error: unknown) => error)
    left.close()
    const link = await within(accepting)
    if (link instanceof Error) {
      expect(link).toMatchObject({ code: 'ERR_HANDSHAKE' })
    } else {
      const accepted = link as RingLink
      await until(() => !accepted.connected, "'gone'")
      accepted.close()
    }
  }
})

test('delivers what was committed by one that was killed before it rang', async () => {
  const reactor = openReactor()
  const rings = [openRing(), openRing()]
  const [left, right] = await pair(reactor)
  left.send(JSON.stringify({ offer: 'ring-pair', version: 1 }), { fds: rings.flatMap((ring) => ring.fds) })
  const link = await within(accept(reactor, right))
  const heard: string[] = []
  link.reader.on('message', (bytes) => heard.push(String(bytes)))
  const [ring] = rings
  if (ring === undefined) return expect.unreachable()
  const writer = new RingWriter(reactor, ring)
  await until(() => Atomics.load(ring.control, 96) === 1, 'its sleep')
  for (let turns = 0; turns < 10; turns++) await turn()
  Atomics.store(ring.control, 96, 0) // it has taken this out, and is killed
  writer.write(Buffer.from('last'))
  for (let turns = 0; turns < 10; turns++) await turn()
  expect(heard).toEqual([])
  left.close()
  await until(() => heard.length === 1)
  expect(link.connected).toBe(false)
  link.close()
})

test('takes a ring pair of one and the same ring without harm', async () => {
  const reactor = openReactor()
  const [left, right] = await pair(reactor)
  using ring: Ring = openRing()
  left.send(JSON.stringify({ offer: 'ring-pair', version: 1 }), { fds: [...ring.fds, ...ring.fds] })
  const link = await within(accept(reactor, right))
  link.writer.write(Buffer.from('echo'))
  const [bytes] = await within(once(link.reader, 'message'))
  expect(String(bytes)).toBe('echo')
  link.close()
  left.close()
})

test('descriptors that come after the handshake are closed', async () => {
  const reactor = openReactor()
  const rings = [openRing(), openRing()]
  const [left, right] = await pair(reactor)
  left.send(JSON.stringify({ offer: 'ring-pair', version: 1 }), { fds: rings.flatMap((ring) => ring.fds) })
  const link = await within(accept(reactor, right))
  left.send('more', { fds: bells(3) })
  left.send('more', { fds: bells(3) })
  left.close()
  await until(() => !link.connected)
  link.close()
})
