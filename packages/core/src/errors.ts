/**
 * The two shapes that an error of this toolkit has: one for what the kernel refused, one for what was asked wrongly.
 *
 * Match on `error.code`, not on `instanceof`: two copies of the package may be loaded.
 */
import { constants } from 'node:os'
import { getSystemErrorMap } from 'node:util'

/** Where a failed system call was made, and what to do about it. */
export interface SystemErrorContext {
  /** The file, socket or name that the call was about. */
  path?: string | undefined
  /** A second sentence for the message: what to do about it. */
  hint?: string | undefined
}

function describe(errno: number): [code: string, message: string] {
  const known = getSystemErrorMap().get(errno)
  if (known !== undefined) return known
  const code = Object.entries(constants.errno).find(([, value]) => value === -errno)?.[0]
  return [code ?? `E${-errno}`, 'unknown error']
}

/**
 * What the kernel refused: `code` (`'EBADF'`), `errno` (negative, as Node's), `syscall` and, where there is one, `path`.
 *
 * @example
 * import { FdHandle } from '@fd-reactor/core'
 * try {
 *   FdHandle.adopt(19_999)
 * } catch (error) {
 *   console.log(error.code, error.errno, error.syscall) // EBADF -9 fcntl
 * }
 * @see errno(3)
 */
export class SystemError extends Error {
  /** Its kind, as a stack trace begins. */
  override readonly name = 'SystemError'
  /** The kernel's name of the error, such as `'EADDRINUSE'`. */
  readonly code: string
  /** The kernel's number of the error, negative. */
  readonly errno: number
  /** The system call that failed. */
  readonly syscall: string
  /** The file, socket or name that the call was about, where there is one. */
  declare readonly path?: string

  /** `errno` is negative, as a native call returned it. */
  constructor(errno: number, syscall: string, context: SystemErrorContext = {}) {
    const [code, text] = describe(errno)
    const about = context.path === undefined ? '' : ` '${context.path}'`
    super(`${code}: ${text}, ${syscall}${about}${context.hint === undefined ? '' : `. ${context.hint}`}`)
    this.code = code
    this.errno = errno
    this.syscall = syscall
    if (context.path !== undefined) this.path = context.path
  }
}

/** The codes of {@link ReactorError}. */
export type ReactorErrorCode =
  | 'ERR_CLOSED'
  | 'ERR_REENTRANT'
  | 'ERR_RUNNING'
  | 'ERR_UNSUPPORTED_PLATFORM'
  | 'ERR_UNSUPPORTED_WAKEUP'
  | 'ERR_ADDON_MISSING'
  | 'ERR_TIMEOUT'
  | 'ERR_STREAM_ENDED'
  | 'ERR_FRAME_TOO_LARGE'
  | 'ERR_FRAME_INCOMPLETE'
  | 'ERR_FRAME_INVALID'
  | 'ERR_HAND_OVER'
  | 'ERR_FDS_TRUNCATED'
  | 'ERR_SHORT_FILE'
  | 'ERR_ENVIRONMENT'
  | 'ERR_MEMORY_LOST'
  | 'ERR_MESSAGE_TOO_LARGE'
  | 'ERR_MESSAGE_INVALID'
  | 'ERR_RING_FULL'
  | 'ERR_RING_CORRUPT'
  | 'ERR_SHARED_LAYOUT'
  | 'ERR_CELL_CORRUPT'
  | 'ERR_CELL_LAPPED'
  | 'ERR_HANDSHAKE'

/** What was asked at the wrong time or in the wrong place; `code` says which. */
export class ReactorError extends Error {
  /** Its kind, as a stack trace begins. */
  override readonly name = 'ReactorError'
  /** The kind of the mistake. */
  readonly code: ReactorErrorCode

  /** `message` says what happened and what to do about it. */
  constructor(code: ReactorErrorCode, message: string, options?: ErrorOptions) {
    super(message, options)
    this.code = code
  }
}

/** Returns a native call's result, or throws what its negative value means. */
export function check(result: number, syscall: string, context?: SystemErrorContext): number {
  if (result < 0) throw new SystemError(result, syscall, context)
  return result
}

/** An error for something that was used after its end. */
export function closedError(what: string): ReactorError {
  return new ReactorError('ERR_CLOSED', `${what} is closed`)
}
