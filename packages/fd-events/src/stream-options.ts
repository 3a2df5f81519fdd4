/**
 * What all stream sockets have in common for their users: the events and the options.
 */
import { Buffer } from 'node:buffer'
import { FdHandle, sourceOptionChecks, type SourceEvents, type SourceOptions } from '@fd-reactor/core'
import { boolean, integer, oneOf } from '@fd-reactor/core/sys'
import { limitChecks, type Limit, type LimitOptions } from './socket-limits.js'

export { duration } from './socket-limits.js'

/**
 * How bytes are handed to `'data'`: `false` as a Buffer that may be kept, `true` as a view of the slab that is valid during the
 * handler only, `'offsets'` as `(slab, offset, length)`, which allocates nothing.
 */
export type Borrow = false | true | 'offsets'

/** The events of a stream socket. */
export interface StreamEvents<B extends Borrow = false> extends SourceEvents {
  /** Bytes came, in the form that the `borrow` option names. */
  data: B extends 'offsets' ? [slab: Buffer, offset: number, length: number] : [bytes: Buffer]
  /** The peer has shut its writing side; no `'data'` comes any more. */
  end: []
  /** Everything that waited was taken by the kernel, after a `write()` that returned false. */
  drain: []
  /** A limit was reached: `idleTimeout`, `headerTimeout` or `writeTimeout`. Without a listener the stream is destroyed. */
  timeout: [limit: Limit]
}

/** Options of every stream socket. */
export interface StreamOptions<B extends Borrow = false> extends SourceOptions, LimitOptions {
  /** See {@link Borrow}. Default false. */
  borrow?: B
  /** Keeps the writing side open when the peer has shut its own. Default false: what waits is flushed, then the stream closes. */
  allowHalfOpen?: boolean
  /** How many bytes may wait before `write()` returns false. Default 64 KiB. It is advice: nothing is refused beyond it. */
  highWaterMark?: number
  /** SO_SNDBUF in bytes. Default: the kernel's. */
  sendBuffer?: number
  /** SO_RCVBUF in bytes. Default: the kernel's. */
  receiveBuffer?: number
}

/** What `detach()` of a stream gives. */
export interface DetachedStream {
  /** The connected socket. */
  handle: FdHandle
  /** What was received and not delivered. */
  unread: Buffer
  /** What was written and not taken by the kernel; it must be written first. */
  unsent: Buffer
  /** Of a Unix stream with `maxFds`: descriptors that came with `unread`. */
  fds?: FdHandle[]
}

/** What `from()` of a stream takes, as `detach()` would give it. */
export function asDetached(source: FdHandle | DetachedStream): DetachedStream {
  return source instanceof FdHandle
    ? { handle: source, unread: Buffer.alloc(0), unsent: Buffer.alloc(0) }
    : source
}

const BYTES = integer(1, 2 ** 30)

/** The checks of {@link StreamOptions}. */
export const streamOptionChecks = {
  ...sourceOptionChecks,
  borrow: oneOf(false, true, 'offsets'),
  allowHalfOpen: boolean,
  highWaterMark: integer(0, Number.MAX_SAFE_INTEGER),
  ...limitChecks,
  sendBuffer: BYTES,
  receiveBuffer: BYTES,
}
