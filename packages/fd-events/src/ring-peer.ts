/**
 * One other process that shares a ring, as the connection that it was set up over tells.
 */
import { EventEmitter } from 'node:events'
import type { PeerCredentials } from '@fd-reactor/core/sys'
import type { Reactor } from '@fd-reactor/core'
import type { UnixSeqpacket } from './unix-seqpacket.js'

/** The events of a {@link RingPeer}. */
export interface RingPeerEvents {
  /** The other side has ended or closed its end, or this side's ring was closed. */
  gone: []
}

/**
 * One reader of a `BroadcastWriter`, or one writer of a `ManyWriterRing`: what their `offer()` gives.
 *
 * Guaranteed: `'gone'` comes once, as soon as the kernel has closed the other side's connection, however its process or thread ended. Not
 * guaranteed: that a process that passed its connection on is noticed before the last holder ends.
 */
export class RingPeer extends EventEmitter<RingPeerEvents> implements Disposable {
  /** Its number: of a writer, the one that comes with its messages. */
  readonly id: number
  /** The other process, as the kernel noted it when it connected; undefined when it was gone before that could be asked. */
  readonly credentials: PeerCredentials | undefined
  readonly #connection: UnixSeqpacket

  /** For who offers rings; `onGone` hears of the end before the listeners. */
  constructor(reactor: Reactor, id: number, connection: UnixSeqpacket, onGone: () => void) {
    super()
    this.id = id
    this.credentials = connection.closed ? undefined : connection.peer
    this.#connection = connection
    watchPeer(reactor, connection, () => {
      onGone()
      this.emit('gone')
    })
  }

  /** Whether the other side is there. */
  get connected(): boolean {
    return !this.#connection.closed
  }

  /** Ends it: the other side is told that this one is gone. Idempotent. */
  close(): void {
    this.#connection.close()
  }

  /** `close()`, for `using`. */
  [Symbol.dispose](): void {
    this.close()
  }
}

/** Calls `gone` once when a connection over which nothing more is said ends. It does not keep `run()` going. */
export function watchPeer(reactor: Reactor, connection: UnixSeqpacket, gone: () => void): void {
  connection.unref()
  connection.on('message', (_, { fds }) => {
    for (const fd of fds) fd.close() // it is read only to see the end
  })
  connection.on('error', () => undefined) // followed by 'close'
  if (connection.closed)
    reactor.defer(gone) // once somebody can listen
  else connection.on('close', gone)
}
