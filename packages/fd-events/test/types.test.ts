/**
 * What the compiler must accept and refuse. `tsc` checks this file (each `@ts-expect-error` fails when there is no error); the
 * functions are never called.
 */
import { FdHandle, once, type EventMap, type Reactor, type Source, type SystemError } from '@fd-reactor/core'
import {
  EventFd,
  UnixListener,
  UnixStream,
  type Borrow,
  type EventFdEvents,
  type UnixListenerEvents,
  type UnixStreamEvents,
} from '@fd-reactor/fd-events'
import { expectTypeOf, test } from 'vitest'

declare const reactor: Reactor

test('event maps: each event has its arguments, and no other event exists', () => {
  expectTypeOf<EventFdEvents['event']>().toEqualTypeOf<[count: bigint]>()
  expectTypeOf<UnixStreamEvents['data']>().toEqualTypeOf<[bytes: Buffer]>()
  expectTypeOf<UnixStreamEvents<true>['data']>().toEqualTypeOf<[bytes: Buffer]>()
  expectTypeOf<UnixStreamEvents<'offsets'>['data']>().toEqualTypeOf<
    [slab: Buffer, offset: number, length: number]
  >()
  expectTypeOf<UnixStreamEvents['end']>().toEqualTypeOf<[]>()
  expectTypeOf<UnixListenerEvents<true>['connection']>().toEqualTypeOf<[stream: UnixStream<true>]>()
  expectTypeOf<UnixListenerEvents['backoff']>().toEqualTypeOf<[error: SystemError, delayNs: number]>()
  expectTypeOf<EventFdEvents>().toExtend<EventMap<EventFdEvents>>()
  expectTypeOf<EventFd>().toExtend<Source<EventFdEvents>>()
})

test('listeners', () => {
  const listeners = (bell: EventFd, stream: UnixStream, listener: UnixListener): void => {
    bell.on('event', (count) => {
      expectTypeOf(count).toEqualTypeOf<bigint>()
    })
    bell.on('error', (error) => {
      expectTypeOf(error).toEqualTypeOf<Error>()
    })
    stream.once('data', (bytes) => {
      expectTypeOf(bytes).toEqualTypeOf<Buffer>()
    })
    listener.on('connection', (connection) => {
      expectTypeOf(connection).toEqualTypeOf<UnixStream>()
    })
    expectTypeOf(bell.on('event', () => undefined)).toEqualTypeOf<EventFd>()
    expectTypeOf(bell.pause().resume().ref().unref()).toEqualTypeOf<EventFd>()
    // @ts-expect-error no such event
    bell.on('evnt', () => undefined)
    // @ts-expect-error an event of another source
    bell.on('data', () => undefined)
    // @ts-expect-error a count is a bigint
    bell.on('event', (count: number) => count)
    // @ts-expect-error 'end' has no argument
    stream.on('end', (bytes: Buffer) => bytes)
    // @ts-expect-error the wrong argument
    bell.emit('event', 1)
  }
  expectTypeOf(listeners).toBeFunction()
})

test('borrow: its form decides what data is, from listen() and connect() on', () => {
  const borrowing = async (): Promise<void> => {
    UnixListener.listen(reactor, '/s', { borrow: 'offsets' }).on('connection', (stream) => {
      stream.on('data', (slab, offset, length) => {
        expectTypeOf(slab).toEqualTypeOf<Buffer>()
        expectTypeOf(offset).toEqualTypeOf<number>()
        expectTypeOf(length).toEqualTypeOf<number>()
      })
    })
    expectTypeOf(await UnixStream.connect(reactor, '/s')).toEqualTypeOf<UnixStream>()
    expectTypeOf(await UnixStream.connect(reactor, '/s', { borrow: true })).toEqualTypeOf<UnixStream<true>>()
    expectTypeOf(UnixStream.from(reactor, FdHandle.adopt(3), { borrow: 'offsets' })).toEqualTypeOf<
      UnixStream<'offsets'>
    >()
    // @ts-expect-error no such form
    UnixListener.listen(reactor, '/s', { borrow: 'views' })
  }
  expectTypeOf(borrowing).toBeFunction()
})

test('for await: bytes that may be kept yes, borrowed ones no', () => {
  const loops = async (
    bell: EventFd,
    kept: UnixStream,
    view: UnixStream<true>,
    offsets: UnixStream<'offsets'>,
  ): Promise<void> => {
    for await (const count of bell) expectTypeOf(count).toEqualTypeOf<bigint>()
    for await (const bytes of kept) expectTypeOf(bytes).toEqualTypeOf<Buffer>()
    // @ts-expect-error the view is overwritten before the loop sees it
    for await (const bytes of view) void bytes
    // @ts-expect-error so is the slab
    for await (const bytes of offsets) void bytes
    for await (const stream of UnixListener.listen<true>(reactor, '/s', { borrow: true })) {
      expectTypeOf(stream).toEqualTypeOf<UnixStream<true>>()
    }
    for await (const [count] of bell.events('event', { limit: 4 }))
      expectTypeOf(count).toEqualTypeOf<bigint>()
  }
  expectTypeOf(loops).toBeFunction()
})

test('once() gives the arguments of the event', () => {
  const waits = async (bell: EventFd, stream: UnixStream<'offsets'>): Promise<void> => {
    expectTypeOf(await once(bell, 'event')).toEqualTypeOf<[count: bigint]>()
    expectTypeOf(await once(stream, 'data')).toEqualTypeOf<[slab: Buffer, offset: number, length: number]>()
    expectTypeOf(await once(stream, 'end', { signal: AbortSignal.timeout(1) })).toEqualTypeOf<[]>()
    // @ts-expect-error no such event
    await once(bell, 'data')
  }
  expectTypeOf(waits).toBeFunction()
})

test('options are checked, misspelt ones too', () => {
  const options = (): void => {
    UnixListener.listen(reactor, '/s', {
      mode: 0o660,
      owner: { uid: 0 },
      backlog: 5,
      maxConnections: 9,
      unlinkStale: false,
    })
    // @ts-expect-error a misspelt option
    UnixListener.listen(reactor, '/s', { maxConnection: 9 })
    // @ts-expect-error modes are numbers
    UnixListener.listen(reactor, '/s', { mode: '660' })
    // @ts-expect-error counts are bigints
    new EventFd(reactor, { initial: 1 })
    // @ts-expect-error no such priority
    new EventFd(reactor, { priority: 'urgent' })
  }
  expectTypeOf(options).toBeFunction()
})

test('`using` takes every source', () => {
  expectTypeOf<EventFd | UnixListener | UnixStream<Borrow> | Reactor | FdHandle>().toExtend<Disposable>()
})
