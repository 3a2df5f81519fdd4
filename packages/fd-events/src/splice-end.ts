/**
 * A socket or pipe that a pump has taken over: a source without events of its own.
 *
 * Only the end that a flow waits for is watched for it: the other one may be ready all the time, and would keep the loop spinning. An end
 * that nobody waits for stays in the set for what epoll reports unasked, until that has been heard.
 */
import { fstatSync } from 'node:fs'
import {
  Drain,
  Interest,
  Source,
  SystemError,
  type BatchRecord,
  type FdHandle,
  type Reactor,
  type SourceEvents,
} from '@fd-reactor/core'
import { socket, SocketType } from '@fd-reactor/core/sys'
import { expectSocket } from './socket-kind.js'
import type { DetachedStream } from './stream-options.js'

const EINVAL = -22

/** It says what is ready; the flows say what to wait for. */
export class End extends Source<SourceEvents> {
  readonly socket: boolean
  readonly unread: Buffer
  readonly unsent: Buffer
  /** Whether a flow waits for something to read here. */
  reads = false
  /** Whether a flow waits for room here. */
  writes = false
  /** Whether the peer has gone for good: nothing can be sent any more. */
  gone = false
  /** Whether all that is for it has been sent. */
  finished = false
  declare readonly ownedHandle: FdHandle
  readonly #onReady: (revents: number) => void

  constructor(
    reactor: Reactor,
    { handle, unread, unsent }: DetachedStream,
    onReady: (revents: number) => void,
  ) {
    const isSocket = checkKind(handle)
    super(reactor, handle, { drain: Drain.None, interest: 0 }, { label: 'Pump' })
    this.socket = isSocket
    this.unread = unread
    this.unsent = unsent
    this.#onReady = onReady
  }

  /** Applies what the flows wait for. */
  watch(): void {
    this.update()
  }

  /** No more comes: passes the end on. */
  finish(): void {
    if (this.closed) return
    this.finished = true
    if (this.socket)
      socket.shutdownWrite(this.fd) // ENOTCONN: there is nobody left to be told
    else this.close()
  }

  protected get consumerEvents(): readonly string[] {
    return []
  }

  protected override wantedInterest(): number {
    const wanted = (this.reads ? Interest.In : 0) | (this.writes ? Interest.Out : 0)
    // To hear of the peer's going, which epoll reports unasked, and then goes on reporting.
    return wanted !== 0 || this.gone ? wanted : Interest.Err
  }

  onRecord(record: BatchRecord): void {
    this.#onReady(record.revents)
  }
}

/** Whether it is a socket; refuses, and closes, what is neither one for streams nor a pipe. */
function checkKind(handle: FdHandle): boolean {
  try {
    const stats = fstatSync(handle.fd)
    if (stats.isFIFO()) return false
    if (stats.isSocket()) {
      const fits = 'a connected stream socket'
      expectSocket(handle.fd, fits, ({ type, listening }) => type === SocketType.Stream && !listening)
      return true
    }
    const hint = 'Only stream sockets, pipes and FIFOs can be pumped; sendFile() sends files'
    throw new SystemError(EINVAL, 'splice', { path: `fd ${handle.fd}`, hint })
  } catch (error) {
    handle.close()
    throw error
  }
}
