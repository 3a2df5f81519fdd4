/**
 * The two ends of a channel, and how the second one comes into the hands of another thread.
 *
 * The maker owns four eventfds and passes their numbers. Who opens the second end duplicates them for itself, in its own thread's
 * books, so that each thread closes what is its own, also when it is terminated. A number says nothing about what it stands for by then, since
 * the maker may be gone: so the maker has a fifth eventfd, the **ticket**, with a random count that nobody reads. It is closed before the
 * four (the books of a thread that ends are closed newest first). When the ticket is still there after duplicating, the four were.
 */
import { randomBytes } from 'node:crypto'
import { MessageChannel, MessagePort } from 'node:worker_threads'
import { FdHandle, ReactorError } from '@fd-reactor/core'
import { eventfd, transfer } from '@fd-reactor/core/sys'
import { eventFdInfo } from './event-fd.js'
import { bell, formatRing, owning, Ring } from './ring.js'
import { RingOffset } from './ring-layout.js'

/**
 * One end of a {@link Channel} on its way to the thread that opens it: goes through `postMessage()` or `workerData`, with `port` in the
 * transfer list. It can be passed on from thread to thread, and is opened once.
 */
export interface ChannelEnd {
  /** Closed by Node when the thread that has it ends; no messages go through it. */
  readonly port: MessagePort
  /** The memory of the ring that this end writes, and of the one that it reads. */
  readonly memory: readonly [out: SharedArrayBuffer, inward: SharedArrayBuffer]
  /** The numbers of the eventfds: `filled` and `drained` of each ring. They are the maker's. */
  readonly bells: readonly [number, number, number, number]
  /** An eventfd of the maker, and its count. */
  readonly ticket: readonly [fd: number, count: bigint]
}

/** What an open end stands on. */
export interface Standing extends Disposable {
  readonly out: Ring
  readonly inward: Ring
  readonly port: MessagePort
}

/** Makes both ends: one to stand on, one to pass. */
export function makeEnds(capacity: number): { mine: Standing; there: ChannelEnd } {
  return owning((own) => {
    const memory = (): SharedArrayBuffer => {
      const buffer = new SharedArrayBuffer(RingOffset.Data + capacity)
      formatRing(buffer, capacity)
      return buffer
    }
    const [out, inward] = [memory(), memory()]
    const mine = Ring.over(out, own(bell()), own(bell()))
    const theirs = Ring.over(inward, own(bell()), own(bell()))
    const count = randomBytes(8).readBigUInt64LE() >> 1n
    const ticket = own(new FdHandle(eventfd.create(count, false)).guard())
    const { port1, port2 } = new MessageChannel()
    const there: ChannelEnd = {
      port: port2,
      memory: [inward, out],
      bells: [theirs.filled.fd, theirs.drained.fd, mine.filled.fd, mine.drained.fd],
      ticket: [ticket.fd, count],
    }
    return { mine: standing(mine, theirs, port1, ticket), there }
  })
}

/** Opens an end that was passed. @throws ReactorError `ERR_CLOSED`, `ERR_HANDSHAKE`; TypeError for what is no end. */
export function takeEnd(end: ChannelEnd): Standing {
  assertEnd(end)
  const { port, memory, bells, ticket } = end
  if (taken.has(port)) throw new ReactorError('ERR_HANDSHAKE', 'This end of the channel was opened already')
  return owning((own) => {
    const [outFilled, outDrained, inFilled, inDrained] = bells
    const duplicate = (fd: number): FdHandle => own(duplicateOf(fd))
    const out = Ring.over(memory[0], duplicate(outFilled), duplicate(outDrained))
    const inward = Ring.over(memory[1], duplicate(inFilled), duplicate(inDrained))
    if (!isThere(ticket)) throw goneError()
    taken.add(port)
    return standing(out, inward, port)
  })
}

/** The ports of ends that were opened in this thread; a port is in one thread only. */
const taken = new WeakSet<MessagePort>()

function standing(out: Ring, inward: Ring, port: MessagePort, ticket?: FdHandle): Standing {
  const dispose = (): void => {
    ticket?.close() // before the eventfds that it stands for
    out.close()
    inward.close()
    port.close()
  }
  return { out, inward, port, [Symbol.dispose]: dispose }
}

const EBADF = -9

function duplicateOf(fd: number): FdHandle {
  try {
    return new FdHandle(transfer.duplicate(fd)).guard()
  } catch (error) {
    throw error instanceof Error && 'errno' in error && error.errno === EBADF ? goneError() : error
  }
}

function isThere([fd, count]: ChannelEnd['ticket']): boolean {
  try {
    const [, shown = ''] = /eventfd-count:\s*([0-9a-f]+)/.exec(eventFdInfo(fd)) ?? []
    return BigInt(`0x${shown}`) === count
  } catch {
    return false // closed, or something else by now
  }
}

function goneError(): ReactorError {
  return new ReactorError('ERR_CLOSED', 'The channel was closed on the other side before it was opened here')
}

function assertEnd(value: unknown): asserts value is ChannelEnd {
  const parts = new Map<string, unknown>(
    typeof value === 'object' && value !== null ? Object.entries(value) : [],
  )
  const [port, memory, bells, ticket] = ['port', 'memory', 'bells', 'ticket'].map((name) => parts.get(name))
  const isFd = (fd: unknown): boolean => typeof fd === 'number' && Number.isInteger(fd) && fd >= 0
  const good =
    port instanceof MessagePort &&
    Array.isArray(memory) &&
    memory.length === 2 &&
    memory.every((each) => each instanceof SharedArrayBuffer) &&
    Array.isArray(bells) &&
    bells.length === 4 &&
    bells.every(isFd) &&
    Array.isArray(ticket) &&
    isFd(ticket[0])
  if (!good)
    throw new TypeError(
      "Channel.open() takes another channel's `there`, as it came through postMessage() or workerData with its port in the transfer list",
    )
}
