/**
 * The one owner of a descriptor.
 *
 * A number is not an identity: it may be closed behind our back and given out again. So the addon's books give each descriptor
 * a serial, and a handle whose number has gone to another one never closes it.
 */
import { check, closedError } from './errors.js'
import { native } from './sys/native.js'

const dropped = new FinalizationRegistry<{ fd: number; serial: number }>(({ fd, serial }) => {
  if (native().fdSerial(fd) !== serial) return
  native().closeFd(fd, serial)
  process.emitWarning(
    `A descriptor (${fd}) was dropped without close() and closed by the garbage collector`,
    {
      code: 'FD_REACTOR_DROPPED_FD',
    },
  )
})

/**
 * Owns one open descriptor, and closes it exactly once.
 *
 * `close()` may be called any number of times, and `using` calls it. A handle that is dropped without it is closed when it
 * is collected, with a warning; not promised is when. In a worker, what is open when it ends is closed.
 *
 * @example
 * import { openSync } from 'node:fs'
 * import { FdHandle } from '@fd-reactor/core'
 * const handle = FdHandle.adopt(openSync('/etc/hostname'))
 * console.log(handle.closed) // false
 * handle.close()
 */
export class FdHandle implements Disposable {
  #fd: number
  /** Which descriptor of all that had this number it is, in the thread's books; 0 when it is not in them. */
  readonly serial: number

  /** For sources: `fd` was made by this package and is in the environment's books. */
  constructor(fd: number) {
    this.#fd = fd
    this.serial = native().fdSerial(fd)
  }

  /**
   * Takes over a descriptor that somebody else opened; who hands it in must not close it any more.
   * @throws SystemError `EBADF` when it is not open.
   */
  static adopt(fd: number): FdHandle {
    return new FdHandle(check(native().ownFd(fd), 'fcntl', { path: `fd ${fd}` })).guard()
  }

  /** The descriptor's number. @throws ReactorError `ERR_CLOSED` after `close()` or `release()`. */
  get fd(): number {
    if (this.#fd < 0) throw closedError('The descriptor')
    return this.#fd
  }

  /** Whether the descriptor was closed or released. */
  get closed(): boolean {
    return this.#fd < 0
  }

  /** False once the number was closed behind its back and given to another handle; then it is not ours to use. */
  get owned(): boolean {
    return this.#fd >= 0 && native().fdSerial(this.#fd) === this.serial
  }

  /**
   * A second descriptor of the same open file (F_DUPFD_CLOEXEC).
   * @throws SystemError `EMFILE` when no descriptor is left.
   */
  duplicate(): FdHandle {
    return new FdHandle(check(native().duplicateFd(this.fd), 'fcntl')).guard()
  }

  /** Gives up ownership: the descriptor stays open, and closing it is the caller's business. */
  release(): number {
    const fd = this.fd
    if (FdHandle.#forget(this)) native().disownFd(fd)
    return fd
  }

  /** Closes the descriptor; does nothing when that has happened already, or when its number has a new owner. */
  close(): void {
    const fd = this.#fd
    if (fd >= 0 && FdHandle.#forget(this)) native().closeFd(fd, this.serial)
  }

  /** `close()`, for `using`. */
  [Symbol.dispose](): void {
    this.close()
  }

  /** Lets the garbage collector close what is dropped. Sources need not: the reactor holds them until they are closed. */
  guard(): this {
    dropped.register(this, { fd: this.fd, serial: this.serial }, this)
    return this
  }

  /** True when the number was still ours. Static, since an object with private methods is marked as having them, by a field. */
  static #forget(handle: FdHandle): boolean {
    dropped.unregister(handle)
    const ours = handle.owned
    handle.#fd = -1
    return ours
  }
}
