/**
 * A mapped range of a file or memory object, and its end.
 *
 * JavaScript sees it as an ArrayBuffer, which must not outlive the range: unmapping detaches it, and native code gives the
 * range back only when nothing can reach it any more (`native/mapping.h`).
 */
import { check, closedError, ReactorError, SystemError } from './errors.js'
import { native, type MappingHandle } from './sys/native.js'

/** What is mapped, and how. */
export interface MappingRequest {
  /** Where it begins in the file, in bytes: a multiple of the page size. */
  offset: number
  /** How many bytes. */
  length: number
  /** Whether stores reach the file. Otherwise they stay on private pages, and end seeing what others store there. */
  write: boolean
  /** MAP_POPULATE: brings the pages in at once. */
  populate: boolean
  /** mlock(2): keeps them in memory. */
  lock: boolean
  /** Whether somebody can truncate the file, so that a page of it may be lost (see {@link Mapping.lost}). */
  losable: boolean
  /** The size of its pages. */
  page: number
}

const MMAP_HINTS: Readonly<Record<number, string>> = {
  [-12]:
    'There is no room: memory, huge pages, mlock limit (ulimit -l) or mappings (vm.max_map_count, 4096 unsealed ones)',
  [-1]: 'The object is sealed against writing, or mlock is not permitted',
  [-13]: 'The descriptor is not open for what was asked',
}
const FLUSH_HINTS: Readonly<Record<number, string>> = {
  [-5]: 'The disk refused; of what was stored since the last flush some may be lost, and another flush may not say so again',
  [-28]: 'The disk is full, and what was stored into holes of the file has no place on it',
}
/** `advise()`'s names, `MADV_*`. */
const ADVICE = { normal: 0, random: 1, sequential: 2, willneed: 3, dontneed: 4, hugepage: 14 } as const
const MS_ASYNC = 1
const MS_SYNC = 4

/** How memory will be used. @see madvise(2) */
export type MemoryAdvice = keyof typeof ADVICE

/**
 * Memory of a file or memory object, shared with whoever else maps it.
 *
 * `buffer` is its memory, for typed arrays and `Atomics`. It cannot be moved to another thread by `postMessage()`; each thread
 * maps for itself. After `unmap()` the buffer is detached: views of it have length 0. That is safe at any time, also while
 * the thread pool works on it, and after `ArrayBuffer.prototype.transfer()`, whose result then shows zeros. A mapping that is dropped is
 * unmapped when its buffer was collected.
 *
 * Guaranteed: memory whose file is cut short never kills the process: what was lost reads as zeros, `lost` is true, and `assertIntact()`
 * throws. Not guaranteed: that `Atomics` on memory of two processes mean anything to ECMAScript; they do in V8 (the tests look).
 *
 * @see mmap(2)
 */
export class Mapping implements Disposable {
  /** Undefined once it is unmapped: the range is given back when nobody holds the buffer any more. */
  #handle: MappingHandle | undefined
  readonly #label: string

  /** `label` names it in errors. @throws SystemError `ENOMEM`, `EPERM`, `EACCES`, `EINVAL`. */
  constructor(fd: number, request: MappingRequest, label: string) {
    const { offset, length, write, populate, lock, losable, page } = request
    const made = native().mapMemory(fd, offset, length, write, populate, lock, losable, page)
    if (typeof made === 'number') throw new SystemError(made, 'mmap', { path: label, hint: MMAP_HINTS[made] })
    this.#handle = made
    this.#label = label
  }

  /** How many ranges this process has mapped, or not given back yet. For finding leaks. */
  static get live(): number {
    return native().liveMappings()
  }

  /** The memory. @throws ReactorError `ERR_CLOSED` after `unmap()`. */
  get buffer(): ArrayBuffer {
    return this.#mapped().buffer
  }

  /** Whether `unmap()` was called. */
  get unmapped(): boolean {
    return this.#handle === undefined
  }

  /** Whether a page of it was touched that the file does not have any more. @throws ReactorError `ERR_CLOSED`. */
  get lost(): boolean {
    return native().memoryLost(this.#mapped())
  }

  /** @throws ReactorError `ERR_MEMORY_LOST` when something of it was lost; `ERR_CLOSED`. */
  assertIntact(): void {
    if (!this.lost) return
    throw new ReactorError(
      'ERR_MEMORY_LOST',
      `${this.#label}: the file was cut short while it was mapped, and what was read there is not to be trusted. Unmap it; seals ` +
        'prevent this for memory that was made by SharedMemory.create()',
    )
  }

  /**
   * Copies memory that somebody may be writing at the same time into `target`, and looks at nothing later before that is done:
   * the reading side of a sequence lock. @throws RangeError outside of the mapping; ReactorError `ERR_CLOSED`.
   */
  load(offset: number, target: Uint8Array): void {
    if (!native().loadShared(this.#mapped(), offset, target)) throw this.#outside(offset, target.length)
  }

  /** Copies `source` into memory that somebody may be reading at the same time, and nothing of it before what was stored earlier. */
  store(offset: number, source: Uint8Array): void {
    if (!native().storeShared(this.#mapped(), offset, source)) throw this.#outside(offset, source.length)
  }

  /** msync(2): writes the pages of a range back to the file's disk and waits for that; `wait` false is MS_ASYNC, which on Linux does nothing. */
  sync(offset: number, length: number, wait: boolean): void {
    const flags = wait ? MS_SYNC : MS_ASYNC
    const result = native().syncMemory(this.#mapped(), offset, length, flags)
    check(result, 'msync', { path: this.#label, hint: FLUSH_HINTS[result] })
  }

  /**
   * As `sync()` with `wait`, on the thread pool; or, when `begin` tells which file it is and where in it the range begins, only starts the
   * writing (sync_file_range). It is the file's pages that are written, also when the mapping is unmapped meanwhile.
   * @throws SystemError `EIO`, `ENOSPC`; `EINVAL` for what is not within it.
   */
  async flush(offset: number, length: number, begin?: { fd: number; offset: number }): Promise<void> {
    const { fd, offset: at } = begin ?? { fd: -1, offset: 0 }
    const result = await native().flushMapped(this.#mapped(), offset, length, fd, at)
    check(result, fd < 0 ? 'msync' : 'sync_file_range', { path: this.#label, hint: FLUSH_HINTS[result] })
  }

  /** madvise(2): says how a range will be used. */
  advise(offset: number, length: number, advice: MemoryAdvice): void {
    check(native().adviseMemory(this.#mapped(), offset, length, ADVICE[advice]), 'madvise', {
      path: this.#label,
    })
  }

  /** Ends it; the buffer is detached. Idempotent. */
  unmap(): void {
    if (this.#handle === undefined) return
    native().unmapMemory(this.#handle)
    this.#handle = undefined
  }

  /** `unmap()`, for `using`. */
  [Symbol.dispose](): void {
    this.unmap()
  }

  #mapped(): MappingHandle {
    if (this.#handle === undefined) throw closedError(this.#label)
    return this.#handle
  }

  #outside(offset: number, length: number): Error {
    const size = this.buffer.byteLength
    return new RangeError(`${this.#label}: ${length} bytes at ${offset} are not within ${size} bytes`)
  }
}
