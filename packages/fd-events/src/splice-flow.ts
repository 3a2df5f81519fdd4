/**
 * One direction of a pump: splice(2) from one end into a kernel pipe, and from there to the other end.
 *
 * The pipe is filled only when it is empty, so that EAGAIN from filling always means that the source has nothing, and EAGAIN from
 * emptying that the target has no room.
 */
import { Buffer } from 'node:buffer'
import { readSync, writeSync } from 'node:fs'
import { FdHandle, Interest, SystemError, type Reactor } from '@fd-reactor/core'
import { socket, transfer } from '@fd-reactor/core/sys'
import type { End } from './splice-end.js'

const CHUNK = 64 * 1024 // what a pipe holds
const SHORT = CHUNK / 4 // a source that gave less has most likely no more: looking costs a system call, and epoll tells anyway
const ROUNDS = 16 // of one flow in one batch
const EPIPE = -32
const EAGAIN = -11
const EOPNOTSUPP = -95
const NO_BYTES = Buffer.alloc(0)

/** One direction. */
export class Flow {
  readonly #reactor: Reactor
  readonly #from: End | undefined
  readonly #to: End
  readonly #whole: boolean
  readonly #readEnd: FdHandle
  readonly #writeEnd: FdHandle
  /** How many bytes are in the pipe, or were and are in `#copied`. */
  #held = 0
  /** What goes before all that the source gives. */
  #first: Buffer
  /** What was taken out of the pipe for a socket in blocking mode. */
  #copied = NO_BYTES
  /** How many of the bytes that go first are not the source's. */
  #foreign: number
  moved = 0
  done = false
  error: SystemError | undefined

  constructor(reactor: Reactor, from: End | undefined, to: End, whole: boolean) {
    const [readEnd, writeEnd] = transfer.pipe()
    this.#readEnd = new FdHandle(readEnd)
    this.#writeEnd = new FdHandle(writeEnd)
    this.#reactor = reactor
    this.#from = from
    this.#to = to
    this.#whole = whole
    this.#first = to.unsent
    this.#foreign = to.unsent.length
    if (from !== undefined) this.#first = Buffer.concat([to.unsent, from.unread])
  }

  /** Sends what goes first. Nothing is asked of the source before it is ready: a FIFO that nobody has opened yet would say that it has ended. */
  begin(): void {
    if (this.#first.length > 0) this.run()
    else this.#waitToRead()
  }

  /** Whether what happened at `end` may let it go on. */
  concerns(end: End, revents: number): boolean {
    if (this.done) return false
    return end === this.#to
      ? (revents & ~Interest.In) !== 0
      : end === this.#from && (revents & ~Interest.Out) !== 0
  }

  /** Moves what can be moved now, and notes which end it waits for. */
  run(): void {
    if (this.#from !== undefined) this.#from.reads = false
    this.#to.writes = false
    for (let round = 0; round < ROUNDS; round++) {
      let more = true
      if (this.#held === 0) {
        if (this.#to.gone) return this.#targetGone()
        const first = this.#first.length > 0
        const filled = this.#fill()
        if (filled === EAGAIN) return this.#waitToRead()
        if (filled < 0) return this.#fail(filled)
        if (filled === 0) return this.#finish()
        this.#held = filled
        more = first ? this.#first.length > 0 : filled >= SHORT
      }
      const sent = this.#empty()
      if (sent === EAGAIN) break
      if (sent < 0) return this.#fail(sent)
      this.#held -= sent
      const foreign = Math.min(sent, this.#foreign)
      this.#foreign -= foreign
      this.moved += sent - foreign
      if (this.#held === 0 && !more) return this.#waitToRead()
    }
    // Out of room, or of rounds: then there is room, and the next batch goes on.
    this.#to.writes = true
  }

  close(): void {
    this.#readEnd.close()
    this.#writeEnd.close()
  }

  #waitToRead(): void {
    if (this.#from === undefined) return this.#finish()
    this.#from.reads = true
  }

  #fill(): number {
    if (this.#first.length > 0) {
      const taken = writeSync(this.#writeEnd.fd, this.#first, 0, Math.min(this.#first.length, CHUNK))
      this.#first = this.#first.subarray(taken)
      return taken
    }
    if (this.#from === undefined) return 0
    return transfer.splice(this.#from.fd, this.#writeEnd.fd, CHUNK, this.#from.socket ? 'from' : 'none')
  }

  #empty(): number {
    const to = this.#to
    if (this.#copied.length === 0) {
      const sent = transfer.splice(this.#readEnd.fd, to.fd, this.#held, to.socket ? 'to' : 'none')
      if (sent !== EOPNOTSUPP) return sent
      const bytes = Buffer.allocUnsafe(this.#held)
      this.#copied = bytes.subarray(0, readSync(this.#readEnd.fd, bytes))
    }
    const sent = this.#reactor.send(to.ownedHandle, this.#copied, 0, this.#copied.length)
    if (sent > 0) this.#copied = this.#copied.subarray(sent)
    return sent
  }

  #finish(): void {
    this.#end()
    if (this.#from !== undefined) this.#to.finish() // what a stream had left to send is not its end
  }

  /** The target has gone with nothing on its way to it. */
  #targetGone(): void {
    const errno = this.#to.socket ? socket.takeError(this.#to.fd) : 0
    if (errno !== 0 || this.#whole) return this.#fail(-errno || EPIPE)
    this.#end()
  }

  #fail(errno: number): void {
    const hint = this.#held > 0 ? `${this.#held} bytes were on their way` : undefined
    this.error = new SystemError(errno, 'splice', { path: this.#to.label, hint })
    this.#finish()
  }

  #end(): void {
    this.done = true
    this.close()
  }
}
