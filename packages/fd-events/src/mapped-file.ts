/**
 * Regular files as memory: mapped shared, grown with the room reserved, flushed without blocking the loop.
 *
 * The file is one mapping of its whole length, or of its first 4 GiB; windows show the rest. The kernel cannot be kept from losing
 * pages of a file (somebody truncates it, the disk fails), so every mapping stands in the table of native/lost-pages.h, and
 * each call looks first whether all is still there.
 */
import { Buffer } from 'node:buffer'
import { constants as fs, fstatSync } from 'node:fs'
import { FdHandle, Mapping, ReactorError, SystemError, type MemoryAdvice } from '@fd-reactor/core'
import { checkOptions, file as files, memory } from '@fd-reactor/core/sys'
import {
  ALLOCATE_HINTS,
  fileSize,
  FLUSH_CHECKS,
  OPEN_CHECKS,
  RANGE_CHECKS,
  type FileRange,
  type FlushOptions,
  type MappedFileOptions,
} from './mapped-file-options.js'
import { MappedViews } from './mapped-views.js'
import type { MemoryAccess } from './shared-memory.js'

/** Node 20's largest ArrayBuffer. */
const MAX_WINDOW = 2 ** 32
const EBADF = -9
const EISDIR = -21
const EINVAL = -22
const NOTHING = Buffer.alloc(0)

/**
 * A regular file, mapped shared: reading and writing it is reading and writing memory.
 *
 * Sizes and offsets are bytes. `bytes` is the file, or its first 4 GiB; `window()` shows any part. Views stay valid when the file grows, and
 * show the same file; `close()` detaches them all (their length becomes 0). The file has no holes below a size that `open()` or
 * `grow()` was asked for, so a full disk is `ENOSPC` there and then, never a store that fails later.
 *
 * Across processes and threads: what one stores every other mapping shows at once, and so does read(2); in which order is what `Atomics`
 * or a {@link FileLock} make of it. Growth by others shows after `refresh()`. Across crashes (kill -9): every store that was made stays, the
 * kernel has it. Across power loss: a range holds once `flush()` has resolved, with the size that it needs, as after fdatasync(2);
 * before that any of its pages may be there or not, in any order, and a page may be torn at its sectors. The name of a file that
 * was just made holds after fsync(2) of its folder. Only stores made before the call are sure to be in a flush.
 *
 * A file that somebody cuts short under the mapping never kills the process: what is lost reads as zeros, and the next call throws `ERR_MEMORY_LOST`,
 * as does every other from then on but `close()`. `bytes` sees that when a lost page was touched, the other calls look at the file's size, too. Not
 * seen: a file that was cut short and grown again before anybody looked. The same holds for a page that the disk cannot read, and
 * for a store into a hole that has no room any more.
 *
 * @throws SystemError `ENOENT`, `EACCES`, `EISDIR`, `EMFILE`, `ENOMEM`; `EINVAL` for what is no regular file; `ENOSPC`, `EDQUOT`,
 * `EFBIG`, `EOPNOTSUPP` when it has to grow. ReactorError `ERR_CLOSED`, `ERR_MEMORY_LOST`.
 * @throws TypeError, RangeError for options that do not exist or are out of range.
 * @example
 * import { rmSync } from 'node:fs'
 * import { MappedFile } from '@fd-reactor/fd-events'
 * using file = MappedFile.open('/tmp/example-mapped-file', { create: true, size: 4096 })
 * file.bytes.write('hello', 100)
 * await file.flush({ offset: 100, length: 5 })
 * file.grow(1_000_000)
 * console.log(file.bytes.length, file.bytes.toString('utf8', 100, 105)) // 1000000 hello
 * rmSync(file.path)
 * @see mmap(2), msync(2), fallocate(2)
 */
export class MappedFile implements Disposable {
  /** As it was opened by. */
  readonly path: string
  /** Whether stores reach the file. */
  readonly access: MemoryAccess
  /** Its descriptor; it is closed with the object. */
  readonly handle: FdHandle
  readonly #settings: { populate: boolean; lock: boolean; page: number }
  readonly #views = new MappedViews()
  /** Of the whole file; undefined while that is empty. */
  #main: Mapping | undefined
  #bytes = NOTHING
  /** The end of what was mapped of the file: it must not be shorter. */
  #end = 0
  #lost: ReactorError | undefined

  private constructor(path: string, handle: FdHandle, options: MappedFileOptions) {
    const { access = 'write', populate = false, lock = false } = options
    this.path = path
    this.access = access
    this.handle = handle
    this.#settings = { populate, lock, page: memory.pageSize(handle.fd) }
  }

  /** Opens a file and maps it. */
  static open(path: string, options: MappedFileOptions = {}): MappedFile {
    checkOptions('MappedFile.open', options, OPEN_CHECKS)
    const { access = 'write', create = false, mode = 0o600, size } = options
    if (access === 'read' && (create || size !== undefined))
      throw new TypeError("MappedFile.open option 'access' is 'read': nothing can be made or grown by it")
    const flags = (access === 'read' ? fs.O_RDONLY : fs.O_RDWR) | (create ? fs.O_CREAT : 0)
    const handle = new FdHandle(files.open(path, flags, mode)).guard()
    try {
      const about = fstatSync(handle.fd)
      if (!about.isFile()) throw notRegular(path, about.isDirectory())
      const opened = new MappedFile(path, handle, options)
      if (size !== undefined) opened.#allocate(0, size)
      opened.#remap()
      return opened
    } catch (error) {
      handle.close()
      throw error
    }
  }

  /** The file's memory: all of it, or its first 4 GiB. What it has grown by since is in it after `refresh()` or `grow()`. A hot loop keeps it. */
  get bytes(): Buffer {
    this.#assertNoneLost()
    return this.#bytes
  }

  /** How long the file is now. */
  get size(): number {
    return fstatSync(this.handle.fd).size
  }

  /** Whether it was closed. */
  get closed(): boolean {
    return this.handle.closed
  }

  /**
   * Makes the file at least `size` bytes long, with the room for it reserved, and maps it so. What is new is zeros. Views that were made
   * before stay valid. It blocks for as long as the filesystem takes to reserve the room.
   * @throws SystemError `ENOSPC`, `EDQUOT`, `EFBIG`, `EOPNOTSUPP`, after which `bytes` is as before; `EBADF` when it is open for reading only.
   * ReactorError `ERR_MEMORY_LOST`: a file that was cut short does not get its bytes back by growing. RangeError.
   */
  grow(size: number): void {
    fileSize(size, 'The size')
    this.#mustWrite('fallocate')
    this.assertIntact()
    const now = this.size
    if (size > now) this.#allocate(now, size)
    this.#remap()
  }

  /** Maps what others have made the file grow by; returns whether there was any. */
  refresh(): boolean {
    this.assertIntact()
    return this.#remap()
  }

  /**
   * Other parts of the file, or parts beyond 4 GiB: memory that lasts until `close()`, or until nobody holds it.
   * @throws RangeError for what is not within the file, or longer than 4 GiB.
   */
  window(range: FileRange = {}): Buffer {
    checkOptions('MappedFile.window', range, RANGE_CHECKS)
    this.assertIntact()
    const { offset, length } = this.#within(range)
    if (length === 0) return NOTHING
    if (length > MAX_WINDOW)
      throw new RangeError(`${this.#label}: a window has at most 4 GiB, not ${length} bytes`)
    const mapping = this.#map(offset, length)
    this.#views.add(mapping)
    this.#end = Math.max(this.#end, offset + length)
    return Buffer.from(mapping.buffer, mapping.buffer.byteLength - length)
  }

  /**
   * Writes a range back to the disk on the thread pool, and resolves when it is there: msync(2) with MS_SYNC. With `wait: false` it
   * only starts the writing (sync_file_range(2); MS_ASYNC does nothing on Linux). `close()` meanwhile does not stop it.
   * @throws SystemError `EIO`, `ENOSPC`; `EBADF` when it is open for reading only. ReactorError `ERR_MEMORY_LOST`. RangeError.
   */
  async flush(options: FlushOptions = {}): Promise<void> {
    checkOptions('MappedFile.flush', options, FLUSH_CHECKS)
    this.#mustWrite('msync')
    this.assertIntact()
    const jobs = this.#parts(options).map(async ({ mapping, offset, length, at, done }) => {
      using copy = options.wait === false ? this.handle.duplicate() : undefined
      try {
        await mapping.flush(offset, length, copy && { fd: copy.fd, offset: at })
      } finally {
        done()
      }
    })
    await Promise.all(jobs)
    if (!this.closed) this.assertIntact()
  }

  /** As `flush()`, but blocks until the range is on the disk. */
  flushSync(range: FileRange = {}): void {
    checkOptions('MappedFile.flushSync', range, RANGE_CHECKS)
    this.#mustWrite('msync')
    this.assertIntact()
    for (const { mapping, offset, length, done } of this.#parts(range)) {
      try {
        mapping.sync(offset, length, true)
      } finally {
        done()
      }
    }
    this.assertIntact()
  }

  /** Says how a range of `bytes` will be used. @throws SystemError `EINVAL`, `ENOMEM`; RangeError for what is not in `bytes`. */
  advise(advice: MemoryAdvice, range: FileRange = {}): void {
    checkOptions('MappedFile.advise', range, RANGE_CHECKS)
    this.assertIntact()
    const { offset = 0, length = this.#bytes.length - offset } = range
    if (length < 0 || offset + length > this.#bytes.length)
      throw new RangeError(this.#outside(offset, length, this.#bytes.length))
    if (length > 0) this.#main?.advise(offset, length, advice)
  }

  /** Looks whether the file still has all that was mapped of it. @throws ReactorError `ERR_MEMORY_LOST`, `ERR_CLOSED`. */
  assertIntact(): void {
    const { size } = this
    if (size < this.#end && this.#lost === undefined)
      this.#lose(
        `the file was cut short while it was mapped: it has ${size} bytes, and ${this.#end} were mapped`,
      )
    this.#assertNoneLost()
  }

  /** Unmaps it, which detaches all views, and closes the descriptor. Idempotent. */
  close(): void {
    this.#views.close()
    this.#main = undefined
    this.#bytes = NOTHING
    this.handle.close()
  }

  /** `close()`, for `using`. */
  [Symbol.dispose](): void {
    this.close()
  }

  get #label(): string {
    return `MappedFile '${this.path}'`
  }

  #assertNoneLost(): void {
    if (this.closed) throw new ReactorError('ERR_CLOSED', `${this.#label} is closed`)
    if (this.#lost === undefined && this.#views.lost)
      this.#lose(
        'a page of it was lost while it was mapped: the file was cut short, the disk could not read it, or a hole in it had no room',
      )
    if (this.#lost !== undefined) throw this.#lost
  }

  #lose(what: string): void {
    const advice = 'What was read there is not to be trusted. Close it, look at the file, and open it anew'
    this.#lost = new ReactorError('ERR_MEMORY_LOST', `${this.#label}: ${what}. ${advice}`)
  }

  #allocate(from: number, to: number): void {
    if (to === from) return
    const result = memory.allocate(this.handle.fd, from, to - from)
    if (result < 0)
      throw new SystemError(result, 'fallocate', { path: this.path, hint: ALLOCATE_HINTS[result] })
  }

  #remap(): boolean {
    const { size } = this
    const length = Math.min(size, MAX_WINDOW)
    if (length <= this.#bytes.length) return false
    const mapping = this.#map(0, length)
    this.#views.add(mapping)
    this.#main = mapping
    this.#bytes = Buffer.from(mapping.buffer)
    this.#end = Math.max(this.#end, length)
    return true
  }

  /** From the beginning of the page that `offset` is in. */
  #map(offset: number, length: number): Mapping {
    const before = offset % this.#settings.page
    const request = { ...this.#settings, offset: offset - before, length: length + before, losable: true }
    return new Mapping(this.handle.fd, { ...request, write: this.access === 'write' }, this.#label)
  }

  #within({ offset = 0, length }: FileRange): { offset: number; length: number } {
    const { size } = this
    const asked = length ?? size - offset
    if (asked < 0 || offset + asked > size) throw new RangeError(this.#outside(offset, asked, size))
    return { offset, length: asked }
  }

  /** A range by the mappings that it lies in: `bytes`, and for what is beyond one that lasts as long as the call. */
  #parts(range: FileRange): FlushPart[] {
    const { offset, length } = this.#within(range)
    const parts: FlushPart[] = []
    for (let at = offset; at < offset + length;) {
      const main = at < this.#bytes.length ? this.#main : undefined
      const most = main === undefined ? MAX_WINDOW / 2 : this.#bytes.length - at
      const taken = Math.min(offset + length - at, most)
      const mapping = main ?? this.#map(at, taken)
      const done = main === undefined ? () => mapping.unmap() : () => undefined
      parts.push({
        mapping,
        offset: main === undefined ? at % this.#settings.page : at,
        length: taken,
        at,
        done,
      })
      at += taken
    }
    return parts
  }

  #mustWrite(syscall: string): void {
    if (this.access === 'write') return
    throw new SystemError(EBADF, syscall, { path: this.path, hint: "It was opened with access 'read'" })
  }

  #outside(offset: number, length: number, size: number): string {
    return `${this.#label}: ${length} bytes at ${offset} are not within ${size} bytes`
  }
}

/** `length` bytes at `offset` of a mapping, which are at `at` in the file. */
interface FlushPart {
  mapping: Mapping
  offset: number
  length: number
  at: number
  done: () => void
}

function notRegular(path: string, directory: boolean): SystemError {
  const hint = 'Only regular files can be mapped'
  return new SystemError(directory ? EISDIR : EINVAL, 'mmap', { path, hint })
}
