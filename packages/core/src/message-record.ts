/**
 * Messages with what they bring along: how a received one is decoded, and how those to be sent are laid out.
 *
 * The layouts are those of native/record.h and native/message.cc; change both together. Everything is 8-byte aligned.
 */
import { Buffer } from 'node:buffer'
import type { BatchRecord } from './batch.js'
import { FdHandle } from './fd-handle.js'
import { MessageFlag } from './sys/constants.js'
import { native, type PeerCredentials } from './sys/native.js'

/** What a message brought besides its bytes. */
export interface MessageHead {
  /** The length that it had when it was sent. */
  fullLength: number
  /** The sender's address as a `sockaddr`, valid during the call only; empty when it has none. */
  address: Buffer
  /** Descriptors that were passed; whoever asks for the head owns them. */
  fds: FdHandle[]
  /** A pidfd of the sender, if it was asked for. */
  pidFd: FdHandle | undefined
  /** The sender's, if they were asked for. */
  credentials: PeerCredentials | undefined
}

const HEAD_BYTES = 32
const PACKED_BYTES = 16
const FIRST_BYTES = 1024
/** An empty queue gives back what is larger. */
const KEPT_BYTES = 64 * 1024
const NO_BYTES = Buffer.alloc(0)
/** The largest message that a drain can receive. */
export const MAX_MESSAGE_BYTES = 212 * 1024
/** SCM_MAX_FD: how many descriptors the kernel passes with one message. */
export const MAX_FDS = 253

const align = (size: number): number => (size + 7) & ~7

/** What the drains `Messages` and `StreamControl` need to know; what is not asked for does not come. */
export function messageArgument(wanted: {
  /** What is kept of a message; the rest is cut off. At most {@link MAX_MESSAGE_BYTES}. */
  maxBytes: number
  /** How many descriptors may come with one; at most {@link MAX_FDS}. */
  maxFds?: number
  /** Whether the sender's address is wanted. */
  address?: boolean
  /** Whether they are packets of a connection, which has an end. SO_TIMESTAMP must be set: an end has no time. */
  packets?: boolean
  /** Whether the sender's credentials are wanted. SO_PASSCRED must be set. */
  credentials?: boolean
  /** Whether a pidfd of the sender is wanted. SO_PASSPIDFD must be set. */
  pidFd?: boolean
}): number {
  const { maxBytes, maxFds = 0 } = wanted
  const flags = [wanted.address, wanted.packets, wanted.credentials, wanted.pidFd]
  const bits = flags.reduce((sum, flag, index) => (flag === true ? sum + 2 ** (8 + index) : sum), maxFds)
  return maxBytes + bits * 2 ** 32
}

/** Decodes a record's head, and takes the descriptors that came with it: they are the caller's to close. */
export function takeMessageHead(record: BatchRecord): MessageHead | undefined {
  if ((record.messageFlags & MessageFlag.Head) === 0) return undefined
  const { slab, words: ints, messageHead } = record
  const at = messageHead / 4
  const int = (index: number): number => ints[at + index] ?? 0
  const fds: FdHandle[] = []
  for (let index = 0; index < int(2); index++) fds.push(new FdHandle(int(HEAD_BYTES / 4 + index)))
  const address = messageHead + HEAD_BYTES + align(int(2) * 4)
  return {
    fullLength: int(0),
    address: int(1) === 0 ? NO_BYTES : slab.subarray(address, address + int(1)),
    fds,
    pidFd: int(3) < 0 ? undefined : new FdHandle(int(3)),
    credentials: int(4) === 0 ? undefined : { pid: int(5), uid: int(6) >>> 0, gid: int(7) >>> 0 },
  }
}

/** Closes what a message brought that nobody will get. */
export function closeMessageHead(record: BatchRecord): void {
  const head = takeMessageHead(record)
  for (const fd of head?.fds ?? []) fd.close()
  head?.pidFd?.close()
}

/** Messages on their way to sendmmsg(2), one behind the other in one buffer: added at the end, taken off the front. */
export class PackedMessages {
  #bytes: Buffer = NO_BYTES
  #ints = new Int32Array()
  #start = 0
  #end = 0

  /** How many bytes they take. */
  get size(): number {
    return this.#end - this.#start
  }

  /** Adds a message, and returns how much that takes, for `skip`. The descriptors must stay open until it is sent. */
  push(bytes: Uint8Array, address: Uint8Array | undefined, fds: readonly FdHandle[] = []): number {
    const addressLength = address?.length ?? 0
    const start = this.#room(
      PACKED_BYTES + align(addressLength) + align(fds.length * 4) + align(bytes.length),
    )
    let at = start / 4
    this.#ints[at] = bytes.length
    this.#ints[at + 1] = addressLength
    this.#ints[at + 2] = fds.length
    at += PACKED_BYTES / 4
    if (address !== undefined) this.#bytes.set(address, at * 4)
    at += align(addressLength) / 4
    for (let index = 0; index < fds.length; index++) this.#ints[at + index] = fds[index]?.fd ?? -1
    at += align(fds.length * 4) / 4
    this.#bytes.set(bytes, at * 4)
    return this.#end - start
  }

  /** Moves the first message, which takes `size`, to the end of `target`, with other descriptors for those that it has. */
  moveTo(target: PackedMessages, size: number, fds: readonly FdHandle[]): void {
    const start = target.#room(size)
    target.#bytes.set(this.#bytes.subarray(this.#start, this.#start + size), start)
    const at = (start + PACKED_BYTES + align(target.#ints[start / 4 + 1] ?? 0)) / 4
    for (const [index, { fd }] of fds.entries()) target.#ints[at + index] = fd
    this.skip(size)
  }

  /** Takes the first message off, which takes `size`. */
  skip(size: number): void {
    this.#start += size
    if (this.#start < this.#end) return
    this.#start = this.#end = 0
    if (this.#bytes.length > KEPT_BYTES) this.#resize(0)
  }

  /** sendmmsg(2) without blocking, of the first `count`: how many the kernel took, or -errno. They stay until they are skipped. */
  send(handle: FdHandle, count: number): number {
    return native().sendMessages(handle.fd, handle.serial, this.#bytes, this.#start, count)
  }

  /** Where the next `size` bytes go. */
  #room(size: number): number {
    const needed = this.size + size
    if (this.#end + size > this.#bytes.length) {
      // Moving what is there costs less than what has been taken off since the last time, or else the room doubles.
      if (needed * 2 > this.#bytes.length)
        this.#resize(Math.max(FIRST_BYTES, this.#bytes.length * 2, align(needed)))
      else this.#bytes.copyWithin(0, this.#start, this.#end)
      this.#end -= this.#start
      this.#start = 0
    }
    this.#end += size
    return this.#end - size
  }

  #resize(length: number): void {
    const bytes = Buffer.allocUnsafeSlow(length) // not from the pool: aligned
    this.#bytes.copy(bytes, 0, this.#start, this.#end)
    this.#bytes = bytes
    this.#ints = new Int32Array(bytes.buffer)
  }
}

/** sendmsg(2) without blocking, on a stream: how many bytes the kernel took, the descriptors with the first, or -errno. */
export function sendWithFds(
  handle: FdHandle,
  bytes: Uint8Array,
  offset: number,
  length: number,
  fds: readonly FdHandle[],
): number {
  const numbers = Int32Array.from(fds, ({ fd }) => fd)
  return native().sendWithFds(handle.fd, handle.serial, bytes, offset, length, numbers)
}
