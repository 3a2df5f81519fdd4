/**
 * Paths of Unix sockets: their limit, and the life of the file that bind(2) makes.
 *
 * A listener's file outlives a process that was killed. Whoever starts next must tell a dead file from a live one and take its
 * place, and two starters must not both win. So binding happens under an flock of the folder, which leaves no file behind.
 */
import { chmodSync, chownSync, closeSync, lstatSync, openSync, unlinkSync, type BigIntStats } from 'node:fs'
import { dirname, resolve } from 'node:path'
import { FdHandle, SystemError } from '@fd-reactor/core'
import { check, file, socket } from '@fd-reactor/core/sys'

/** `sun_path` has 108 bytes, of which one is the terminating NUL. */
const MAX_PATH_BYTES = 107
const LOCK_ATTEMPTS = 500
const LOCK_PAUSE_MS = 2
const ENAMETOOLONG = -36
const EADDRINUSE = -98
const ECONNREFUSED = -111

/** Who may own a socket's file. */
export interface FileOwner {
  /** User id; −1 or absent leaves it. */
  uid?: number
  /** Group id; −1 or absent leaves it. */
  gid?: number
}

/** How a listener's file is made. */
export interface BindOptions {
  mode: number | undefined
  owner: FileOwner | undefined
  backlog: number
  unlinkStale: boolean
}

/** The path as the kernel wants it. @throws SystemError `ENAMETOOLONG`, TypeError for an empty path or one with a NUL. */
export function encodeUnixPath(path: string, syscall: string): Buffer {
  if (typeof path !== 'string' || path === '' || path.includes('\0')) {
    throw new TypeError('The path of a Unix socket must be a string that is not empty and has no NUL in it')
  }
  const bytes = Buffer.from(path)
  if (bytes.length > MAX_PATH_BYTES) {
    const hint = `The path has ${bytes.length} bytes, and sun_path holds ${MAX_PATH_BYTES}: use a shorter folder, or a path relative to the working directory`
    throw new SystemError(ENAMETOOLONG, syscall, { path, hint })
  }
  return bytes
}

/** The file of a listener: removed on close, if it is still the one that we made. */
export class SocketFile {
  readonly #path: string
  readonly #made: BigIntStats

  constructor(path: string) {
    this.#path = resolve(path)
    this.#made = lstatSync(this.#path, { bigint: true })
  }

  /** Applies what bind(2) could not: the bits that the umask took from the mode, and the owner. */
  dress(mode: number | undefined, owner: FileOwner | undefined): void {
    if (owner !== undefined) chownSync(this.#path, owner.uid ?? -1, owner.gid ?? -1)
    if (mode !== undefined && Number(this.#made.mode & 0o7777n) !== mode) chmodSync(this.#path, mode)
  }

  remove(): void {
    const now = lstatSync(this.#path, { bigint: true, throwIfNoEntry: false })
    if (now?.dev === this.#made.dev && now.ino === this.#made.ino) unlinkSync(this.#path)
  }
}

/**
 * Binds and listens, taking the place of a dead file. The mode is set on the socket before bind(2), so that the file is
 * never open to more than it should be.
 */
export function bindAndListen(handle: FdHandle, path: string, options: BindOptions): SocketFile {
  const bytes = encodeUnixPath(path, 'bind')
  if (options.mode !== undefined) file.chmod(handle.fd, options.mode)
  return underLock(dirname(resolve(path)), () => {
    let result = socket.bindUnix(handle.fd, bytes)
    if (result === EADDRINUSE && options.unlinkStale && isDead(path, bytes)) {
      unlinkSync(path)
      result = socket.bindUnix(handle.fd, bytes)
    }
    const hint =
      result === EADDRINUSE ? 'Another process listens there, or the file is not a dead socket' : undefined
    check(result, 'bind', { path, hint })
    const made = new SocketFile(path)
    try {
      made.dress(options.mode, options.owner)
      socket.listen(handle.fd, options.backlog)
    } catch (error) {
      made.remove()
      throw error
    }
    return made
  })
}

/** A socket that refuses connections has no listener; one that is only busy answers EAGAIN, another type EPROTOTYPE. */
function isDead(path: string, bytes: Buffer): boolean {
  if (lstatSync(path, { throwIfNoEntry: false })?.isSocket() !== true) return false
  using probe = new FdHandle(socket.createUnix())
  return socket.connectUnix(probe.fd, bytes) === ECONNREFUSED
}

function underLock<T>(folder: string, action: () => T): T {
  const fd = openSync(folder, 'r')
  try {
    for (let attempt = 1; !file.lock(fd); attempt++) {
      if (attempt === LOCK_ATTEMPTS) {
        const hint = `The folder was locked by another process for ${LOCK_ATTEMPTS * LOCK_PAUSE_MS} ms`
        throw new SystemError(-11, 'flock', { path: folder, hint })
      }
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, LOCK_PAUSE_MS)
    }
    return action()
  } finally {
    closeSync(fd) // and the lock with it
  }
}
