/**
 * Paths of Unix sockets: the life of the file that bind(2) makes.
 *
 * A listener's file outlives a process that was killed. Whoever starts next must tell a dead file from a live one and take its
 * place, and two starters must not both win. So binding happens under an flock of the folder, which leaves no file behind.
 */
import { chmodSync, chownSync, closeSync, lstatSync, openSync, unlinkSync, type BigIntStats } from 'node:fs'
import { dirname, resolve } from 'node:path'
import process from 'node:process'
import { FdHandle, SystemError } from '@fd-reactor/core'
import { check, file, Domain, socket, SocketType } from '@fd-reactor/core/sys'
import {
  decodeUnixAddress,
  encodeUnixAddress,
  showUnixAddress,
  type AbstractName,
  type UnixAddress,
} from './unix-address.js'

const LOCK_ATTEMPTS = 500
const LOCK_PAUSE_MS = 2
const EADDRINUSE = -98
const ECONNREFUSED = -111
/** What a socket without a name is called. */
const UNBOUND = ''

/** Who may own a socket's file. */
export interface FileOwner {
  /** User id; −1 or absent leaves it. */
  uid?: number
  /** Group id; −1 or absent leaves it. */
  gid?: number
}

/** How a socket gets its name. */
export interface BindOptions {
  mode: number | undefined
  owner: FileOwner | undefined
  /** Undefined for a socket that does not listen. */
  backlog: number | undefined
  unlinkStale: boolean
  unlinkOnClose: boolean
}

/** Where a socket is bound, and the file that goes with it. */
export class UnixName {
  #file: SocketFile | undefined
  #shared: boolean

  /** `address` is as the kernel knows it; `file` is ours to remove; `shared` with whoever made the socket. */
  constructor(
    readonly address: UnixAddress,
    file?: SocketFile,
    shared = false,
  ) {
    this.#file = file
    this.#shared = shared
  }

  /** Whether the socket goes on with somebody else when we close ours. */
  get shared(): boolean {
    return this.#shared
  }

  /** Whether the file is ours to remove; set when that changes, for the file that is there now. */
  get unlinkOnClose(): boolean {
    return this.#file !== undefined
  }

  set unlinkOnClose(ours: boolean) {
    const { address } = this
    this.#shared = !ours
    if (!ours) this.#file = undefined
    else if (typeof address === 'string' && isSocketFile(address)) this.#file ??= new SocketFile(address)
  }

  /** Removes the file, if it is ours to remove, and if it is still the one that was made. A file that stays is a process warning. */
  remove(): void {
    try {
      this.#file?.remove()
    } catch (error) {
      // Whoever gave up the right to the folder must still be able to end. The next start takes the place of a dead file.
      process.emitWarning(`The socket's file stays: ${String(error)}`, { code: 'FD_REACTOR_UNLINK' })
    }
  }
}

/**
 * Binds, and listens, taking the place of a dead file. The mode is set on the socket before bind(2), so that the file is
 * never open to more than it should be.
 */
export function bindUnix(handle: FdHandle, address: UnixAddress, options: BindOptions): UnixName {
  const bytes = encodeUnixAddress(address, 'bind')
  if (typeof address !== 'string') return bindAbstract(handle, address, bytes, options)
  const { mode, owner, backlog } = options
  if (mode !== undefined) file.chmod(handle.fd, mode)
  return underLock(dirname(resolve(address)), () => {
    let result = socket.bind(handle.fd, bytes)
    if (result === EADDRINUSE && options.unlinkStale && isDead(address, bytes)) {
      unlinkSync(address)
      result = socket.bind(handle.fd, bytes)
    }
    const hint =
      result === EADDRINUSE ? 'Another process listens there, or the file is not a dead socket' : undefined
    check(result, 'bind', { path: address, hint })
    const made = new SocketFile(address)
    try {
      made.dress(mode, owner)
      if (backlog !== undefined) socket.listen(handle.fd, backlog)
    } catch (error) {
      made.remove()
      throw error
    }
    return new UnixName(address, options.unlinkOnClose ? made : undefined)
  })
}

/** The name of a socket that was bound elsewhere. */
export function boundUnix(handle: FdHandle, unlinkOnClose: boolean): UnixName {
  const name = new UnixName(decodeUnixAddress(socket.name(handle.fd)) ?? UNBOUND)
  name.unlinkOnClose = unlinkOnClose
  return name
}

function bindAbstract(
  handle: FdHandle,
  address: AbstractName,
  bytes: Uint8Array,
  { mode, owner, backlog }: BindOptions,
): UnixName {
  if (mode !== undefined || owner !== undefined) {
    throw new TypeError('An abstract name has no file, and so neither mode nor owner: see `allow`')
  }
  const result = socket.bind(handle.fd, bytes)
  const hint = result === EADDRINUSE ? 'Another socket in this network namespace has the name' : undefined
  check(result, 'bind', { path: showUnixAddress(address), hint })
  if (backlog !== undefined) socket.listen(handle.fd, backlog)
  return new UnixName(address)
}

/** The file of a socket: removed on close, if it is still the one that we made. */
class SocketFile {
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

function isSocketFile(path: string): boolean {
  return lstatSync(path, { throwIfNoEntry: false })?.isSocket() === true
}

/** A socket that refuses connections has no listener; one that is only busy answers EAGAIN, another type EPROTOTYPE. */
function isDead(path: string, bytes: Uint8Array): boolean {
  if (!isSocketFile(path)) return false
  using probe = new FdHandle(socket.create(Domain.Unix, SocketType.Stream))
  return socket.connect(probe.fd, bytes) === ECONNREFUSED
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
