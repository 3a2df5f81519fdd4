/**
 * A mapped range of a file or memory object, and its end.
 *
 * JavaScript sees it as an ArrayBuffer, which must not outlive the range: unmapping detaches it, and native code gives the
 * range back only when nothing can reach it any more (`native/mapping.h`).
 */
import { check, closedError, ReactorError, SystemError } from './errors.js'
import { native, type MappingHandle, type NativeCell } from './sys/native.js'

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
  /** Whether a page of it may be lost: somebody can truncate the file, or there may be no huge page left (see {@link Mapping.lost}). */
  losable: boolean
  /** The size of its pages. */
  page: number
}

/** Where the parts of a cell lie in a mapping, in bytes; the layout is its user's. */
export interface CellPlace {
  /** Its sequence: 8 bytes. */
  sequenceAt: number
  /** Its first slot. */
  slotsAt: number
  /** How many slots: a power of two. */
  slots: number
  /** From one slot to the next. */
  stride: number
  /** What is copied of each: a multiple of 8. */
  size: number
}

const MMAP_HINTS: Readonly<Record<number, string>> = {
  [-12]:
    'There is no room: memory, addresses (those of unmapped ranges come back in later turns of the loop), or mappings (vm.max_map_count)',
  [-1]: "The object is sealed against writing: map it with access 'read'",
  [-13]: "The descriptor is not open for that: open it for reading and writing, or map it with access 'read'",
}
const FLUSH_HINTS: Readonly<Record<number, string>> = {
  [-5]: 'The disk refused; of what was stored since the last flush some may be lost, and another flush may not say so again',
  [-28]: 'The disk is full, and what was stored into holes of the file has no place on it',
}
const LOCK_HINT = 'Raise the limit of locked memory (ulimit -l, LimitMEMLOCK=), or give CAP_IPC_LOCK'
const WATCH_HINT =
  'At most 4096 ranges that somebody can cut short are mapped at a time: unmap some, or map larger ones, or sealed memory'
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
 * maps for itself. After `unmap()` the buffer is detached: views of it have length 0. A mapping that is dropped is unmapped when its buffer
 * was collected. The addresses of an unmapped range are given back when its buffer was collected, in a later turn of the loop.
 *
 * Guaranteed: unmapping is safe at any time, also while the thread pool works on the memory, and after `buffer.transfer()`, whose
 * result then shows zeros (also in another thread, and when the thread that mapped it has ended; the addresses of that one are never given
 * back). Memory whose file is cut short never kills the process: from the first page that is missed to the end of the mapping it reads as
 * zeros, stores there reach nobody, `lost` is true, and `assertIntact()` throws; a system call that is given such memory fails with `EFAULT`
 * instead. Across processes and threads: what one stores the others see, in the order that `Atomics` make; across crashes (kill -9): what was stored
 * stays stored for everybody else, and in the file.
 *
 * Not guaranteed: that anything survives a power failure before `sync()` has waited for it; that `Atomics` on memory of two processes mean anything to ECMAScript (they do in V8, which the tests look at); that mapping
 * more than 1 GiB at once is quick (V8 takes it for its own memory, and collects at once); that Node's own code bears a detached buffer (zlib of
 * Node 20 aborts the process when its input is detached between two of its steps, whoever does that).
 *
 * @example
 * import { SharedMemory } from '@fd-reactor/fd-events'
 * using memory = SharedMemory.create(4096)
 * const mapping = memory.map()
 * const words = new Int32Array(mapping.buffer)
 * console.log(words.length, mapping.lost) // 1024 false
 * mapping.unmap()
 * console.log(words.length) // 0
 * @see mmap(2)
 */
export class Mapping implements Disposable {
  /** Undefined once it is unmapped: the range is given back when nobody holds the buffer any more. */
  #handle: MappingHandle | undefined
  /** What errors call it. */
  readonly label: string
  /** Whether stores into it reach the memory. */
  readonly writable: boolean
  /** Whether somebody else can cut its memory short, because it is not sealed. */
  readonly losable: boolean

  /** `label` names it in errors. @throws SystemError `ENOMEM`, `EPERM`, `EACCES`, `EINVAL`. */
  constructor(fd: number, request: MappingRequest, label: string) {
    const { offset, length, write, populate, lock, losable, page } = request
    // Locking what is private brings nothing in by itself (see `Mapping::Lock`).
    const present = populate || (lock && !write)
    const made = native().mapMemory(fd, offset, length, write, present, page)
    if (typeof made === 'number') throw new SystemError(made, 'mmap', { path: label, hint: MMAP_HINTS[made] })
    this.#handle = made
    this.label = label
    this.writable = write
    this.losable = losable
    noticeTransfers(made)
    try {
      if (lock) check(native().lockMemory(made), 'mlock', { path: label, hint: LOCK_HINT })
      if (losable) check(native().watchMemory(made), 'sigaction', { path: label, hint: WATCH_HINT })
    } catch (error) {
      this.unmap()
      throw error
    }
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
      `${this.label}: the file was cut short while it was mapped, and what was read there is not to be trusted. Unmap it; seals ` +
        'prevent this for memory that was made by SharedMemory.create()',
    )
  }

  /**
   * Copies memory that somebody may be writing at the same time into `target`, and looks at nothing later before that is done:
   * the reading side of a sequence lock. @throws RangeError outside of the mapping; ReactorError `ERR_CLOSED`.
   */
  load(offset: number, target: Uint8Array): void {
    if (!native().loadShared(this.#mapped(), offset, target)) throw this.#notCopied(offset, target)
  }

  /** Copies `source` into memory that somebody may be reading at the same time, and nothing of it before what was stored earlier. */
  store(offset: number, source: Uint8Array): void {
    if (!native().storeShared(this.#mapped(), offset, source)) throw this.#notCopied(offset, source)
  }

  /**
   * One end of a cell in it, which publishes after sample `sequence` (`writes`), or reads what is newer. It keeps the range, and does
   * nothing any more once that is unmapped.
   * @throws RangeError outside of the mapping; ReactorError `ERR_CLOSED`.
   */
  cell(place: CellPlace, writes: boolean, sequence: number): NativeCell {
    const { sequenceAt, slotsAt, slots, stride, size } = place
    const made = native().openCell(this.#mapped(), sequenceAt, slotsAt, slots, stride, size, writes, sequence)
    if (made === undefined) throw this.#outside(slotsAt, slots * stride)
    return made
  }

  /** msync(2): writes the pages of a range back to the file's disk and waits for that; `wait` false is MS_ASYNC, which on Linux does nothing. */
  sync(offset: number, length: number, wait: boolean): void {
    const flags = wait ? MS_SYNC : MS_ASYNC
    const result = native().syncMemory(this.#mapped(), offset, length, flags)
    check(result, 'msync', { path: this.label, hint: FLUSH_HINTS[result] })
  }

  /**
   * As `sync()` with `wait`, on the thread pool; or, when `begin` tells which file it is and where in it the range begins, only starts the
   * writing (sync_file_range). It is the file's pages that are written, also when the mapping is unmapped meanwhile.
   * @throws SystemError `EIO`, `ENOSPC`; `EINVAL` for what is not within it.
   */
  async flush(offset: number, length: number, begin?: { fd: number; offset: number }): Promise<void> {
    const { fd, offset: at } = begin ?? { fd: -1, offset: 0 }
    const result = await native().flushMapped(this.#mapped(), offset, length, fd, at)
    check(result, fd < 0 ? 'msync' : 'sync_file_range', { path: this.label, hint: FLUSH_HINTS[result] })
  }

  /** madvise(2): says how a range will be used. */
  advise(offset: number, length: number, advice: MemoryAdvice): void {
    check(native().adviseMemory(this.#mapped(), offset, length, ADVICE[advice]), 'madvise', {
      path: this.label,
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
    if (this.#handle === undefined) throw closedError(this.label)
    return this.#handle
  }

  /** Why native code did not copy. */
  #notCopied(offset: number, bytes: unknown): Error {
    if (!(bytes instanceof Uint8Array)) return new TypeError(`${this.label}: bytes must be a Uint8Array`)
    return this.#outside(offset, bytes.length)
  }

  #outside(offset: number, length: number): Error {
    const size = this.buffer.byteLength
    return new RangeError(`${this.label}: ${length} bytes at ${offset} are not within ${size} bytes`)
  }
}

/**
 * Tells the native side that the buffer's memory goes to another one (Node 22), by methods of its own before those of the prototype:
 * what is posted on from there may outlive the thread that mapped it.
 */
function noticeTransfers(handle: MappingHandle): void {
  for (const name of ['transfer', 'transferToFixedLength']) {
    const transfer: unknown = Reflect.get(ArrayBuffer.prototype, name)
    if (typeof transfer !== 'function') continue
    const value = (...args: unknown[]): unknown => {
      native().memoryMoves(handle)
      return Reflect.apply(transfer, handle.buffer, args)
    }
    Object.defineProperty(handle.buffer, name, { value })
  }
}
