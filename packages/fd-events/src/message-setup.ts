/**
 * What a message socket is told before it is used, and what its refusals mean.
 */
import { SystemError, type FdHandle } from '@fd-reactor/core'
import { socket, SocketOption } from '@fd-reactor/core/sys'
import type { MessageOptions } from './message-options.js'
import { askForSender } from './sender-options.js'

const EAGAIN = -11
const EMSGSIZE = -90
const ENOBUFS = -105
const ETOOMANYREFS = -109
/** What the kernel adds to a message when it counts it against SO_SNDBUF. */
const SEND_OVERHEAD = 32

/** A message that was not sent. */
export interface Refusal {
  errno: number
  /** How many bytes it has. */
  length: number
  /** Where it was to go, for people. */
  path: string | undefined
  /** How many may wait. */
  queueLimit: number
}

/** A refusal with what to do about it; `handle` is the socket, if it is still there. */
export function explainRefusal(handle: FdHandle | undefined, refusal: Refusal): SystemError {
  const { errno, length, path, queueLimit } = refusal
  let hint = SEND_HINTS[errno]
  if (errno === EMSGSIZE && handle !== undefined) {
    const size = socket.get(handle.fd, SocketOption.SendBuffer)
    hint =
      `The message has ${length} bytes, and SO_SNDBUF (${size}) allows ${size - SEND_OVERHEAD}: raise sendBuffer (at most ` +
      '/proc/sys/net/core/wmem_max), or send less at a time'
  } else if (errno === ENOBUFS) {
    hint = `${queueLimit} messages wait for it already (queueLimit): go on at 'drain' when send() returned false`
  }
  return new SystemError(errno, 'sendmsg', { path, hint })
}

const SEND_HINTS: Readonly<Record<number, string>> = {
  [EAGAIN]: "The receiver's queue is full",
  [-9]: 'The socket or a descriptor to be passed was closed',
  [-107]: 'The socket is not connected: say where the message goes',
  [-111]: 'Nobody receives there',
  [-2]: 'Nobody receives there',
  [-91]: 'The socket there has another type',
  [ETOOMANYREFS]: 'More descriptors are on their way, unreceived, than this user may have open files',
}

/** Done before it is registered, so that a refusal leaves nothing behind. */
export function prepared(handle: FdHandle, options: MessageOptions<boolean>, packets: boolean): FdHandle {
  const { sendBuffer, receiveBuffer, credentials = false, pidFd = false } = options
  try {
    if (sendBuffer !== undefined) socket.set(handle.fd, SocketOption.SendBuffer, sendBuffer)
    if (receiveBuffer !== undefined) socket.set(handle.fd, SocketOption.ReceiveBuffer, receiveBuffer)
    askForSender(handle.fd, credentials, pidFd)
    // Only what was sent has a time: this tells an empty packet from the end of the connection.
    if (packets) socket.set(handle.fd, SocketOption.Timestamp, 1)
    return handle
  } catch (error) {
    handle.close()
    throw error
  }
}
