/**
 * Two rings between two processes, one each way, and the connection that tells whether the other one is there.
 */
import { EventEmitter } from 'node:events'
import type { PeerCredentials } from '@fd-reactor/core/sys'
import { checkOptions, abortSignal } from '@fd-reactor/core/sys'
import { ReactorError, type FdHandle, type Reactor } from '@fd-reactor/core'
import {
  acceptMemory,
  offerMemory,
  type OfferKind,
  type OfferLimits,
  type OfferPeer,
} from './memory-offer.js'
import { Ring, type RingOptions } from './ring.js'
import { RING_VERSION } from './ring-layout.js'
import { RingReader, type RingReaderOptions } from './ring-reader.js'
import { RingWriter, type RingWriterOptions } from './ring-writer.js'
import { duration } from './socket-limits.js'
import type { Borrow } from './stream-options.js'
import type { UnixSeqpacket } from './unix-seqpacket.js'

/** Options of {@link accept}. */
export interface AcceptOptions<B extends Borrow = false> extends OfferLimits {
  /** Of the link's writer. */
  writer?: RingWriterOptions
  /** Of the link's reader. */
  reader?: RingReaderOptions<B>
}

/** Options of {@link offer}; `capacity` is that of each of the two rings. */
export interface OfferOptions<B extends Borrow = false> extends AcceptOptions<B>, RingOptions {}

/** The events of a {@link RingLink}. */
export interface RingLinkEvents {
  /** The other process has ended or closed its link. The rings stay as they are; `offer()` gives them to its successor. */
  gone: []
  /** The link was closed on this side. */
  close: []
}

const PAIR: OfferKind = { name: 'ring-pair', version: RING_VERSION, fds: 6 }
const ignored = (): void => undefined
const ACCEPT_CHECKS = { timeout: duration, signal: abortSignal, writer: ignored, reader: ignored } // their own constructors check them
const OFFER_CHECKS = { ...ACCEPT_CHECKS, capacity: ignored }

/**
 * A pair of rings with another process. {@link offer} and {@link accept} make it, one on each side.
 *
 * Guaranteed: when the other process ends, however it does, `'gone'` comes as soon as the kernel has closed its connection, and what it had
 * committed is still delivered. What was committed for it and not acknowledged stays in the ring for its successor, and comes there
 * with the same sequence numbers. Not guaranteed: that a peer which only closed its link has stopped writing; it must.
 */
export class RingLink<B extends Borrow = false> extends EventEmitter<RingLinkEvents> implements Disposable {
  /** Where messages to the other side are written. */
  readonly writer: RingWriter
  /** Where those of the other side come. */
  readonly reader: RingReader<B>
  readonly #reactor: Reactor
  readonly #out: Ring
  readonly #in: Ring
  #connection: UnixSeqpacket | undefined
  #offering = false
  #closed = false

  /** For {@link offer} and {@link accept}. The rings are its own. */
  constructor(reactor: Reactor, out: Ring, inward: Ring, options: AcceptOptions<B>) {
    super()
    this.#reactor = reactor
    this.#out = out
    this.#in = inward
    this.writer = new RingWriter(reactor, out, options.writer)
    try {
      this.reader = new RingReader(reactor, inward, options.reader)
    } catch (error) {
      this.writer.close()
      throw error
    }
  }

  /** Whether the other side is there. */
  get connected(): boolean {
    return this.#connection !== undefined
  }

  /** Whether `close()` was called. */
  get closed(): boolean {
    return this.#closed
  }

  /** The other process, as the kernel noted it when it connected; undefined when it is gone. */
  get peer(): PeerCredentials | undefined {
    return this.#connection?.peer
  }

  /**
   * Gives the rings, as they are, to a successor of the process that is gone, which calls {@link accept}.
   * @throws ReactorError `ERR_HANDSHAKE` while the other side is there, or when it refuses; `ERR_TIMEOUT`, `ERR_CLOSED`.
   */
  async offer(to: OfferPeer, limits: OfferLimits = {}): Promise<void> {
    checkOptions('RingLink.offer', limits, { timeout: duration, signal: abortSignal })
    if (this.#closed) throw new ReactorError('ERR_CLOSED', 'The link is closed')
    if (this.#connection !== undefined || this.#offering)
      throw new ReactorError(
        'ERR_HANDSHAKE',
        `The rings ${this.#offering ? 'are being offered to' : 'have a reader and a writer on'} the other side: wait for gone`,
      )
    this.#offering = true
    try {
      this.watch(await offerMemory(this.#reactor, to, PAIR, [...this.#out.fds, ...this.#in.fds], limits))
    } finally {
      this.#offering = false
    }
  }

  /** For {@link offer} and {@link accept}: from now on this connection stands for the other side. */
  watch(connection: UnixSeqpacket): this {
    if (this.#closed) {
      connection.close()
      return this
    }
    this.#connection = connection
    connection.on('message', (_, { fds }) => {
      for (const fd of fds) fd.close() // nothing is said after the handshake; it is read to see the end
    })
    connection.on('error', () => undefined) // followed by 'close'
    const gone = (): void => {
      if (this.#connection !== connection) return
      this.#connection = undefined
      if (this.#closed) return
      this.#out.wake() // it may have been killed between a commit and its ring
      this.#in.wake()
      this.emit('gone')
    }
    connection.on('close', gone)
    if (connection.closed) this.#reactor.defer(gone) // once somebody can listen
    return this
  }

  /** Ends reader, writer, connection and rings; the other side's reader tells `'end'` and its link `'gone'`. Idempotent. */
  close(): void {
    if (this.#closed) return
    this.#closed = true
    this.writer.close()
    this.reader.close()
    this.#connection?.close()
    this.#out.close()
    this.#in.close()
    this.emit('close')
  }

  /** `close()`, for `using`. */
  [Symbol.dispose](): void {
    this.close()
  }
}

/**
 * Makes two rings and gives the other side its ends of them.
 *
 * `to` is the address of a `UnixSeqpacketListener`, or a connection over a Unix socket of packets, which is used up; the other side calls
 * {@link accept}. Who listens and who connects does not matter.
 *
 * @throws ReactorError `ERR_HANDSHAKE` when it is refused, `ERR_TIMEOUT`; SystemError as connecting, `EMFILE`, `ENOMEM`.
 * @example
 * import { once, Reactor } from '@fd-reactor/core'
 * import { accept, offer, UnixSeqpacketListener } from '@fd-reactor/fd-events'
 * using reactor = new Reactor()
 * const listener = UnixSeqpacketListener.listen(reactor, '/tmp/example-offer.sock')
 * listener.on('connection', async (connection) => {
 *   const theirs = await accept(reactor, connection) // in real life: another process
 *   theirs.reader.on('message', (bytes) => theirs.writer.write(Buffer.concat([bytes, bytes])))
 * })
 * using link = await offer(reactor, '/tmp/example-offer.sock', { capacity: 65_536 })
 * link.writer.write(Buffer.from('ab'))
 * const [answer] = await once(link.reader, 'message')
 * console.log(String(answer)) // abab
 * @see unix(7), SCM_RIGHTS
 */
export async function offer<B extends Borrow = false>(
  reactor: Reactor,
  to: OfferPeer,
  options: OfferOptions<B> = {},
): Promise<RingLink<B>> {
  checkOptions('offer', options, OFFER_CHECKS)
  const { capacity } = options
  const rings: Ring[] = []
  let link: RingLink<B> | undefined
  try {
    const sizes = capacity === undefined ? {} : { capacity }
    const out = Ring.create(sizes)
    rings.push(out)
    const inward = Ring.create(sizes)
    rings.push(inward)
    link = new RingLink(reactor, out, inward, options)
    await link.offer(to, limitsOf(options))
    return link
  } catch (error) {
    link?.close()
    for (const ring of rings) ring.close()
    throw error
  }
}

/**
 * Takes the ends of two rings that the other side gives with {@link offer}.
 *
 * Memory that comes is checked before it is used. Whom to accept from is for the listener's `allow` to say: whoever shares memory
 * can store what it likes there, at any time.
 *
 * @throws ReactorError `ERR_HANDSHAKE`, `ERR_TIMEOUT`, `ERR_SHARED_LAYOUT`, `ERR_RING_CORRUPT`; SystemError as connecting, `EMFILE`, `ENOMEM`.
 */
export async function accept<B extends Borrow = false>(
  reactor: Reactor,
  from: OfferPeer,
  options: AcceptOptions<B> = {},
): Promise<RingLink<B>> {
  checkOptions('accept', options, ACCEPT_CHECKS)
  const make = (fds: FdHandle[]): RingLink<B> => {
    const inward = Ring.from(fds.slice(0, 3))
    let out: Ring | undefined
    try {
      out = Ring.from(fds.slice(3))
      return new RingLink(reactor, out, inward, options)
    } catch (error) {
      out?.close()
      inward.close()
      throw error
    }
  }
  const [link, connection] = await acceptMemory(reactor, from, PAIR, make, limitsOf(options))
  return link.watch(connection)
}

function limitsOf({ timeout, signal }: OfferLimits): OfferLimits {
  return { ...(timeout !== undefined && { timeout }), ...(signal && { signal }) }
}
