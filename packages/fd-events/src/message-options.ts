/**
 * What datagram and packet sockets have in common for their users: the events, the options, and how a send ends.
 */
import {
  FdHandle,
  MAX_FDS,
  MAX_MESSAGE_BYTES,
  sourceOptionChecks,
  type ReactorError,
  type SourceEvents,
  type SourceOptions,
  type SourceStats,
  type SystemError,
} from '@fd-reactor/core'
import { boolean, integer, oneOf, type PeerCredentials } from '@fd-reactor/core/sys'
import type { UnixAddress } from './unix-address.js'

/** What a message brought besides its bytes. */
export interface MessageInfo {
  /** The sender's address, as `to` takes it; undefined when it has none, and on connected sockets. */
  from: UnixAddress | undefined
  /** Who sent it, as the kernel vouches, with the option `credentials`. */
  credentials: PeerCredentials | undefined
  /** Descriptors that were passed, close-on-exec. They are the listener's to close; one that is dropped is closed when it is collected. */
  fds: readonly FdHandle[]
  /** The sending process, with the option `pidFd`; the listener's to close. Undefined when the process was reaped before. */
  pidFd: FdHandle | undefined
  /** How long it was, if it was longer than `maxMessageBytes` and therefore cut. */
  truncatedFrom: number | undefined
}

/** The events of a message socket. */
export interface MessageEvents extends SourceEvents {
  /** A message came, whole unless `info.truncatedFrom` is there. */
  message: [bytes: Buffer, info: MessageInfo]
  /** Everything that waited has left, after a `send()` that returned false. */
  drain: []
  /**
   * A message was lost, and the socket goes on: one whose `send()` had no callback was refused by the kernel; one came with more
   * descriptors than fit (`ERR_FDS_TRUNCATED`); a peer turned to another without reading ours (`ECONNRESET`). Without a listener the first
   * one is a process warning.
   */
  lost: [error: SystemError | ReactorError]
}

/** What to do about a message that the receiver has no room for, see {@link MessageOptions.onCongestion}. */
export type OnCongestion = 'wait' | 'drop-new' | 'drop-old' | 'error'

/** How a send ends: the kernel has taken the message, it was dropped by the policy or by closing, or it was refused. */
export type SendOutcome = 'sent' | 'dropped' | SystemError

/** Options of every message socket. */
export interface MessageOptions<B extends boolean = false> extends SourceOptions {
  /** Whether `'message'` gets a view of the slab that is valid during the handler only, rather than a Buffer that may be kept. Default false. */
  borrow?: B
  /** How much of a message is kept; the rest is cut off. Default 64 KiB, at most 212 KiB. */
  maxMessageBytes?: number
  /** How many descriptors may come with a message, at most 253. Default 0: the kernel closes those that come. */
  maxFds?: number
  /** Asks for `info.credentials` (SO_PASSCRED); what was sent before it was set comes with pid 0 and nobody's ids. Default false. */
  credentials?: boolean
  /** Asks for `info.pidFd` (SO_PASSPIDFD, Linux 6.5). Default false. */
  pidFd?: boolean
  /**
   * What happens to messages while the receiver is full. `'wait'` (default), `'drop-new'` and `'drop-old'` let them wait; when
   * `queueLimit` of them do, the next one is refused with ENOBUFS, is dropped, or makes the oldest be dropped. `'error'` lets none wait:
   * EAGAIN.
   */
  onCongestion?: OnCongestion
  /** How many messages may wait, for each destination. Default 1024. */
  queueLimit?: number
  /** How many bytes may wait before `send()` returns false. Default 64 KiB. */
  highWaterMark?: number
  /** SO_SNDBUF in bytes, which bounds a message's size too. Default: the kernel's. */
  sendBuffer?: number
  /** SO_RCVBUF in bytes. Default: the kernel's. */
  receiveBuffer?: number
}

/** What can go with a message. */
export interface SendOptions {
  /** Descriptors to pass, at most 253. They stay yours: what has to wait holds duplicates. */
  fds?: readonly FdHandle[]
}

/** A message socket's statistics. */
export interface MessageStats extends SourceStats {
  /** How many messages were delivered. */
  received: number
  /** How many the kernel has taken. */
  sent: number
  /** How many were dropped, by the policy or by closing. */
  dropped: number
  /** How many the kernel refused, or the full queue. */
  failed: number
  /** How many wait. */
  queued: number
}

/** What `detach()` of a message socket gives. */
export interface DetachedMessages {
  /** The socket. */
  handle: FdHandle
  /** What was received and not delivered. */
  unread: [bytes: Buffer, info: MessageInfo][]
}

const BUFFER_BYTES = integer(1, 2 ** 30)

/** The checks of {@link MessageOptions}. */
export const messageOptionChecks = {
  ...sourceOptionChecks,
  borrow: boolean,
  maxMessageBytes: integer(1, MAX_MESSAGE_BYTES),
  maxFds: integer(0, MAX_FDS),
  credentials: boolean,
  pidFd: boolean,
  onCongestion: oneOf('wait', 'drop-new', 'drop-old', 'error'),
  queueLimit: integer(0, 1_000_000),
  highWaterMark: integer(0, Number.MAX_SAFE_INTEGER),
  sendBuffer: BUFFER_BYTES,
  receiveBuffer: BUFFER_BYTES,
}

/** The checks of {@link SendOptions}. */
export const sendOptionChecks = {
  fds: (value: unknown, name: string): void => {
    const isOpen = (fd: unknown): boolean => fd instanceof FdHandle && !fd.closed
    if (!Array.isArray(value) || !value.every(isOpen) || value.length > MAX_FDS)
      throw new TypeError(`${name} must be an array of at most ${MAX_FDS} open FdHandles`)
  },
}
