/**
 * Locks between writers of a file: in several processes, or several in one.
 *
 * They are locks of the open file description (F_OFD_SETLK), so each FileLock opens the file for itself, and the kernel releases what it
 * holds when that is closed, by whatever end. The kernel can wait for such a lock only by blocking a thread, and cannot tell an
 * epoll set of it; so waiting is trying again, at first in every turn of the loop, since most locks are held for microseconds, then by a timer.
 */
import { constants as fs } from 'node:fs'
import { setImmediate as turn, setTimeout as sleep } from 'node:timers/promises'
import { FdHandle, ReactorError, SystemError } from '@fd-reactor/core'
import { abortSignal, boolean, checkOptions, file as files, integer, oneOf } from '@fd-reactor/core/sys'
import type { HasDescriptor } from './send-file.js'
import type { MemoryAccess } from './shared-memory.js'
import { duration } from './timer-options.js'

/** `'exclusive'`: nobody else has it. `'shared'`: nobody has it exclusively. */
export type LockKind = 'exclusive' | 'shared'

/** Options of {@link FileLock.open}. */
export interface FileLockOptions {
  /** Where the range begins that is locked, in bytes. It need not exist. Default 0. */
  offset?: number
  /** How many bytes. Default: to the end of the file, wherever that will be. */
  length?: number
  /** `'read'` needs no permission to write, and allows shared locks only. Default `'write'`. */
  access?: MemoryAccess
  /** Makes the file when there is none. Default false. */
  create?: boolean
  /** Permissions of a file that is made, less the umask. Default 0o600. */
  mode?: number
}

/** Options of {@link FileLock.lock}. */
export interface LockOptions {
  /** Default `'exclusive'`. */
  kind?: LockKind
  /** For how many nanoseconds to try. Default: for ever. */
  timeout?: number
  /** Stops it; the promise is rejected with the reason. */
  signal?: AbortSignal
}

const EBADF = -9
const LAST = 2 ** 53 - 1
const OFFSET = integer(0, LAST)
const OPEN_CHECKS = {
  offset: OFFSET,
  length: integer(1, LAST),
  access: oneOf('read', 'write'),
  create: boolean,
  mode: integer(0, 0o777),
}
const KIND = oneOf('exclusive', 'shared')
const LOCK_CHECKS = { kind: KIND, timeout: duration(0), signal: abortSignal }
/** For how long every turn of the loop tries, and then the longest pause between two tries: both in milliseconds. */
const EAGER = 1
const LONGEST_PAUSE = 16

/**
 * A lock on a file or a range of it, which excludes every other FileLock whose range meets it: in other processes, in other threads, and in this one.
 *
 * Ranges are bytes. It is advisory: it keeps out who asks for it, not who just writes. `lock()` never blocks the loop and takes no thread:
 * it tries again in every turn of the loop for 1 ms, then after pauses of 1, 2, 4, 8, 16, 16 … ms. So a lock that was
 * freed is had up to 16 ms later by who has waited long, a wait of more than a millisecond costs about 60 system calls a second, and waiters come in
 * no order: who has just come may be first, and under constant contention nobody is promised a turn.
 *
 * Across processes and threads: only the open file has the lock, so a descriptor of it that was passed on or duplicated (fork without exec, too) holds it as
 * well. Across crashes: the kernel releases it with the last descriptor, as soon as a process that was killed is gone. Across power loss: none is
 * left. Not guaranteed: that what it protects is whole when its holder was killed; nor locks between machines (NFS), nor against
 * flock(2). It excludes locks of `fcntl(F_SETLK)` and of `lockf`.
 *
 * @throws SystemError `ENOENT`, `EACCES`, `EISDIR`, `EMFILE`; `ENOLCK` when the kernel has no room for locks; `EBADF` for an exclusive lock with
 * access `'read'`. ReactorError `ERR_CLOSED`; `ERR_REENTRANT` when this object has the lock, or waits for it, already.
 * @throws TypeError, RangeError for options that do not exist or are out of range.
 * @example
 * import { rmSync } from 'node:fs'
 * import { FileLock, ms } from '@fd-reactor/fd-events'
 * using mine = FileLock.open('/tmp/example-file-lock', { create: true })
 * using theirs = FileLock.open('/tmp/example-file-lock')
 * await mine.lock({ timeout: ms(100) })
 * console.log(theirs.tryLock()) // false
 * mine.unlock()
 * console.log(theirs.tryLock(), theirs.held) // true exclusive
 * rmSync('/tmp/example-file-lock')
 * @see F_OFD_SETLK in fcntl(2)
 */
export class FileLock implements Disposable {
  readonly #handle: FdHandle
  readonly #path: string
  readonly #access: MemoryAccess
  readonly #offset: number
  readonly #length: number
  readonly #end = new AbortController()
  #held: LockKind | undefined
  #waiting = false

  private constructor(handle: FdHandle, path: string, options: FileLockOptions) {
    const { access = 'write', offset = 0, length = 0 } = options
    this.#access = access
    this.#handle = handle
    this.#path = path
    this.#offset = offset
    this.#length = length
  }

  /**
   * Opens a file, by its path or as whoever has a descriptor of it (a MappedFile's `handle`), for locking. Nothing is locked yet.
   * A path must always name the same file: who removes it, or renames another in its place, has a lock of another file than the others.
   */
  static open(file: string | HasDescriptor, options: FileLockOptions = {}): FileLock {
    checkOptions('FileLock.open', options, OPEN_CHECKS)
    const { access = 'write', create = false, mode = 0o600, offset = 0, length = 0 } = options
    if (access === 'read' && create)
      throw new TypeError("FileLock.open option 'access' is 'read': nothing can be made by it")
    if (offset + length > LAST)
      throw new RangeError(`FileLock.open: the range ends beyond ${LAST}, and no file does`)
    const flags = (access === 'read' ? fs.O_RDONLY : fs.O_RDWR) | (create ? fs.O_CREAT : 0)
    // Opened anew, for a duplicate of the descriptor would share its locks.
    const path = typeof file === 'string' ? file : `/proc/self/fd/${file.fd}`
    const name = typeof file === 'string' ? file : `fd ${file.fd}`
    return new FileLock(new FdHandle(files.open(path, flags, mode)).guard(), name, options)
  }

  /** What it has. */
  get held(): LockKind | undefined {
    return this.#held
  }

  /** Whether it was closed. */
  get closed(): boolean {
    return this.#handle.closed
  }

  /** Takes the lock, or returns false when it is in somebody's way. */
  tryLock(kind: LockKind = 'exclusive'): boolean {
    KIND(kind, 'The kind of lock')
    this.#assertFree(kind)
    return this.#try(kind)
  }

  /**
   * Takes the lock as soon as it is free, as described above. A wait keeps the process going.
   * @throws ReactorError `ERR_TIMEOUT`, which names who has it where the kernel tells: for locks as these it does not, for those of
   * `fcntl(F_SETLK)` it is a pid. ReactorError `ERR_CLOSED` when it is closed meanwhile; the signal's reason.
   */
  async lock(options: LockOptions = {}): Promise<void> {
    checkOptions('FileLock.lock', options, LOCK_CHECKS)
    const { kind = 'exclusive', timeout = Infinity, signal } = options
    signal?.throwIfAborted()
    this.#assertFree(kind)
    if (this.#try(kind)) return
    this.#waiting = true
    try {
      await this.#wait(kind, timeout / 1e6, signal)
    } finally {
      this.#waiting = false
    }
  }

  /** Gives the lock up; does nothing when it has none. */
  unlock(): void {
    if (this.#held === undefined) return
    files.unlockRange(this.#handle.fd, this.#offset, this.#length)
    this.#held = undefined
  }

  /** Gives the lock up, ends a wait for it, and closes the descriptor. Idempotent. */
  close(): void {
    this.#held = undefined
    this.#handle.close()
    this.#end.abort()
  }

  /** `close()`, for `using`. */
  [Symbol.dispose](): void {
    this.close()
  }

  get #label(): string {
    return `FileLock '${this.#path}'`
  }

  #try(kind: LockKind): boolean {
    const taken = files.lockRange(this.#handle.fd, kind === 'exclusive', this.#offset, this.#length)
    if (taken) this.#held = kind
    return taken
  }

  async #wait(kind: LockKind, timeout: number, signal: AbortSignal | undefined): Promise<void> {
    const begun = performance.now()
    const ended = signal === undefined ? this.#end.signal : AbortSignal.any([this.#end.signal, signal])
    for (let pause = 1; ;) {
      const waited = performance.now() - begun
      if (waited >= timeout) throw this.#timedOut(kind, timeout)
      try {
        if (waited < EAGER) await turn(undefined, { signal: ended })
        else {
          await sleep(Math.min(pause, timeout - waited), undefined, { signal: ended })
          pause = Math.min(pause * 2, LONGEST_PAUSE)
        }
      } catch (error) {
        signal?.throwIfAborted()
        throw this.closed ? this.#closedError() : error
      }
      // The loop may have ended it between the timer and here.
      signal?.throwIfAborted()
      if (this.closed) throw this.#closedError()
      if (this.#try(kind)) return
    }
  }

  #timedOut(kind: LockKind, timeout: number): ReactorError {
    const pid = files.lockHolder(this.#handle.fd, kind === 'exclusive', this.#offset, this.#length)
    const holder =
      pid > 0
        ? `Process ${pid} has it`
        : 'Who has it the kernel does not tell for locks of open files; `lsof` lists who has the file open'
    return new ReactorError('ERR_TIMEOUT', `${this.#label}: it was not free within ${timeout} ms. ${holder}`)
  }

  #assertFree(kind: LockKind): void {
    if (this.closed) throw this.#closedError()
    if (kind === 'exclusive' && this.#access === 'read') {
      const hint = "An exclusive lock needs access 'write'"
      throw new SystemError(EBADF, 'fcntl', { path: this.#path, hint })
    }
    if (this.#held === undefined && !this.#waiting) return
    const state = this.#waiting ? 'waits for the lock' : 'has the lock'
    throw new ReactorError(
      'ERR_REENTRANT',
      `${this.#label} ${state} already: unlock() it first, and open one for each that is to be kept out`,
    )
  }

  #closedError(): ReactorError {
    return new ReactorError('ERR_CLOSED', `${this.#label} is closed`)
  }
}
