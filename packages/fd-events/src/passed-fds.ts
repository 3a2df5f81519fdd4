/**
 * Sets of descriptors on their way to another process.
 */
import { FdHandle, MAX_FDS, SystemError } from '@fd-reactor/core'

const EBADF = -9

/** Closes all of them. */
export function closeAll(fds: Iterable<FdHandle>): void {
  for (const fd of fds) fd.close()
}

/**
 * Second descriptors of all of them, to be kept while the bytes wait: all or none.
 * @throws SystemError `EMFILE`; `EBADF` for one whose number was given to another; ReactorError `ERR_CLOSED`; TypeError, RangeError.
 */
export function duplicates(fds: readonly FdHandle[]): FdHandle[] {
  if (fds.length > MAX_FDS) {
    throw new RangeError(`One send() passes at most ${MAX_FDS} descriptors, not ${fds.length}: use several`)
  }
  const made: FdHandle[] = []
  try {
    for (const handle of fds) {
      if (!(handle instanceof FdHandle)) {
        throw new TypeError('send() passes FdHandles: FdHandle.adopt(fd) makes one of a number')
      }
      if (!handle.closed && !handle.owned) throw new SystemError(EBADF, 'fcntl', { path: `fd ${handle.fd}` })
      made.push(handle.duplicate())
    }
    return made
  } catch (error) {
    closeAll(made)
    throw error
  }
}
