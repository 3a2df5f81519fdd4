/**
 * Memory objects: memory that has a descriptor, to be passed to other processes and mapped by each of them.
 *
 * An anonymous one (memfd) is sealed against resizing, so that no page under a mapping can be taken away. One with a name in
 * /dev/shm cannot be sealed; its mappings stand in a table that turns a lost page into an error (`Mapping.lost`).
 */
import { Buffer } from 'node:buffer'
import { fstatSync, ftruncateSync, unlinkSync, constants as fs } from 'node:fs'
import { FdHandle, Mapping, SystemError } from '@fd-reactor/core'
import { boolean, checkOptions, file, integer, memory, oneOf, Seal, string } from '@fd-reactor/core/sys'

/** Options of {@link SharedMemory.create}. */
export interface SharedMemoryOptions {
  /** Makes it in /dev/shm under this name, for processes that no descriptor can be passed to. Default: it has none. */
  name?: string
  /** Permissions of a named one. Default 0o600. */
  mode?: number
  /** Huge pages where there are any (`pageSize` tells); the size is rounded up to whole ones. Default false. */
  hugePages?: boolean
  /** Whether no seals can be added any more (F_SEAL_SEAL), beside those against resizing. Default true. */
  sealed?: boolean
}

/** Options of {@link SharedMemory.open}. */
export interface SharedMemoryOpenOptions {
  /** Default `'write'`. */
  access?: MemoryAccess
}

/** `'read'`: stores do not reach the memory. */
export type MemoryAccess = 'read' | 'write'

/** Options of {@link SharedMemory.map}. */
export interface MapOptions {
  /** Where it begins: a multiple of the page size. Default 0. */
  offset?: number
  /** How many bytes, at most 4 GiB. Default: the rest. */
  length?: number
  /** `'read'`: a store stays in this process, on a copy of the page that no longer shows what others store. Default `'write'`. */
  access?: MemoryAccess
  /** Brings all pages in at once (MAP_POPULATE), so that none is brought in later. Default false. */
  populate?: boolean
  /** Keeps them in memory (mlock). Default false. */
  lock?: boolean
}

/** What a seal forbids from then on: `F_SEAL_*` in words. */
export type MemorySeal = keyof typeof SEALS

const SEALS = {
  seal: Seal.Seal,
  shrink: Seal.Shrink,
  grow: Seal.Grow,
  write: Seal.Write,
  'future-write': Seal.FutureWrite,
} as const
/** Node 20's largest ArrayBuffer. */
const MAX_WINDOW = 2 ** 32
const MAX_SIZE = 2 ** 47
/** Those above are huge: Linux has ordinary ones of 4, 16 or 64 KiB. */
const LARGEST_PAGE = 65_536
const ENOSPC = -28
const FOLDER = '/dev/shm'

const CREATE_CHECKS = {
  name: string,
  mode: integer(0, 0o777),
  hugePages: boolean,
  sealed: boolean,
}
const OPEN_CHECKS = { access: oneOf('read', 'write') }
const MAP_CHECKS = {
  ...OPEN_CHECKS,
  offset: integer(0, MAX_SIZE),
  length: integer(1, MAX_WINDOW),
  populate: boolean,
  lock: boolean,
}

/**
 * A memory object: made, opened by name, or received from another process.
 *
 * Sizes and offsets are bytes. It owns its descriptor (`handle`), which is passed by `send(bytes, { fds: [memory.handle] })`, and any
 * number of mappings can be made of it, which live on after `close()`.
 *
 * Guaranteed: new memory is zeros; an anonymous object never changes its size, so no mapping of it can lose a page; a named one appears
 * under its name at full size. Across processes and threads: what one stores the others see; when they see it is what `Atomics` order; a
 * thread that is passed no object makes its own `from()` a duplicate of the descriptor. Across crashes (kill -9): what was stored stays;
 * anonymous memory lives as long as a descriptor or mapping of it, a name until `unlink()`. Not guaranteed: anything after a power
 * failure (that is for `MappedFile`); that a peer with write access stores only what it should.
 *
 * @throws SystemError `EMFILE`; `EEXIST`, `EACCES`, `ENOSPC` for a named one.
 * @throws TypeError, RangeError for options that do not exist or are out of range.
 * @example
 * import { SharedMemory } from '@fd-reactor/fd-events'
 * using memory = SharedMemory.create(4096)
 * using mine = memory.map()
 * using theirs = memory.map({ access: 'read' })
 * Atomics.store(new Int32Array(mine.buffer), 0, 42)
 * console.log(Atomics.load(new Int32Array(theirs.buffer), 0)) // 42
 * @see memfd_create(2), shm_open(3)
 */
export class SharedMemory implements Disposable {
  /** Its descriptor; it is closed with the object. */
  readonly handle: FdHandle
  /** In bytes. */
  readonly size: number
  /** Of its pages, in bytes: 4096, or that of huge ones. */
  readonly pageSize: number
  /** The name that it was made or opened by. */
  readonly name: string | undefined

  private constructor(handle: FdHandle, name?: string) {
    this.handle = handle
    this.name = name
    this.size = fstatSync(handle.fd).size
    this.pageSize = memory.pageSize(handle.fd)
  }

  /** Makes an object of `size` bytes. */
  static create(size: number, options: SharedMemoryOptions = {}): SharedMemory {
    integer(1, MAX_SIZE)(size, 'The size')
    checkOptions('SharedMemory.create', options, CREATE_CHECKS)
    const { name, mode = 0o600, hugePages = false, sealed = true } = options
    if (name !== undefined)
      return createNamed(pathOf(name), size, mode, (handle) => new SharedMemory(handle, name))
    const handle = (hugePages ? hugeObject(size) : undefined) ?? plainObject(size)
    return orClosed(handle, () => {
      const made = new SharedMemory(handle)
      made.seal('shrink', 'grow', ...(sealed ? (['seal'] as const) : []))
      return made
    })
  }

  /**
   * Opens an object by its name.
   * @throws SystemError `ENOENT`, `EACCES`; `ELOOP` for a symbolic link, which is not followed; `EINVAL` for what is no file.
   */
  static open(name: string, options: SharedMemoryOpenOptions = {}): SharedMemory {
    checkOptions('SharedMemory.open', options, OPEN_CHECKS)
    const access = options.access === 'read' ? fs.O_RDONLY : fs.O_RDWR
    // Somebody else's pipe of that name must not keep us waiting (O_NONBLOCK).
    const flags = access | fs.O_NOFOLLOW | fs.O_NONBLOCK
    const path = pathOf(name)
    const handle = new FdHandle(orExplained('open', path, () => file.open(path, flags))).guard()
    return orClosed(handle, () => new SharedMemory(mappable(handle, path), name))
  }

  /** Makes one of a descriptor that came from elsewhere, which is its own from then on. @throws SystemError `EINVAL` for what cannot be mapped. */
  static from(handle: FdHandle): SharedMemory {
    return new SharedMemory(mappable(handle, `fd ${handle.fd}`))
  }

  /** Takes a name away; who has the object open keeps it. @throws SystemError `ENOENT`, `EACCES`. */
  static unlink(name: string): void {
    const path = pathOf(name)
    orExplained('unlink', path, () => {
      unlinkSync(path)
    })
  }

  /** What is forbidden: `['seal']` for a named object, and nothing for another file, which cannot be sealed. */
  get seals(): MemorySeal[] {
    const bits = memory.seals(this.handle.fd)
    return SEAL_NAMES.filter((name) => (bits & SEALS[name]) !== 0)
  }

  /**
   * Forbids things for good, for everybody. `'future-write'` leaves mappings that exist writable: who made the object can go on
   * writing, and those that it is passed to can only read.
   * @throws SystemError `EPERM` when the seals are final, as those of a named object are; `EINVAL` for what cannot be sealed; `EBUSY` for
   * `'write'` while it is mapped with access `'write'`.
   */
  seal(...seals: readonly MemorySeal[]): void {
    for (const name of seals) oneOf(...SEAL_NAMES)(name, 'A seal')
    memory.addSeals(
      this.handle.fd,
      seals.reduce((bits, name) => bits | SEALS[name], 0),
    )
  }

  /** Maps it, or a window of it. @throws RangeError for what is not within it; SystemError `ENOMEM`, `EACCES`, `EPERM`. */
  map(options: MapOptions = {}): Mapping {
    checkOptions('SharedMemory.map', options, MAP_CHECKS)
    const { offset = 0, access = 'write', populate = false, lock = false } = options
    const label = `SharedMemory ${this.name ?? this.handle.fd}`
    const length = options.length ?? this.size - offset
    if (offset % this.pageSize !== 0)
      throw new RangeError(`${label}: offset ${offset} is no multiple of the page size, ${this.pageSize}`)
    if (length > MAX_WINDOW)
      throw new RangeError(`${label}: a mapping has at most 4 GiB: map windows of the ${this.size} bytes`)
    // Asked anew: one that is not sealed may have changed, and what lies behind its end cannot be touched.
    const resizable = (memory.seals(this.handle.fd) & Seal.Shrink) === 0
    const size = resizable ? fstatSync(this.handle.fd).size : this.size
    if (length <= 0 || offset + length > size)
      throw new RangeError(`${label}: ${length} bytes at ${offset} are not within ${size} bytes`)
    const write = access === 'write'
    // A huge page that is to be copied or filled when none is left is lost as well.
    const losable = resizable || this.pageSize > LARGEST_PAGE
    const request = { offset, length, write, populate, lock, losable, page: this.pageSize }
    return new Mapping(this.handle.fd, request, label)
  }

  /** Closes the descriptor; mappings stay. Idempotent. */
  close(): void {
    this.handle.close()
  }

  /** `close()`, for `using`. */
  [Symbol.dispose](): void {
    this.close()
  }
}

const SEAL_NAMES: readonly MemorySeal[] = ['seal', 'shrink', 'grow', 'write', 'future-write']

function pathOf(name: string): string {
  const bare = name.startsWith('/') ? name.slice(1) : name
  if (
    bare === '' ||
    bare === '.' ||
    bare === '..' ||
    bare.includes('/') ||
    bare.includes('\0') ||
    Buffer.byteLength(bare) > 255
  ) {
    throw new TypeError(
      `A name of shared memory has 1 to 255 bytes and no '/' but a leading one, unlike ${JSON.stringify(name)}`,
    )
  }
  return `${FOLDER}/${bare}`
}

const NAME_HINTS: Readonly<Record<string, string>> = {
  ENOENT: 'Nobody made it, or it was unlinked',
  ELOOP: 'A symbolic link is not followed',
}

function orExplained<Result>(syscall: string, path: string, action: () => Result): Result {
  try {
    return action()
  } catch (error) {
    if (!(error instanceof Error && 'errno' in error && typeof error.errno === 'number')) throw error
    const hint = 'code' in error && typeof error.code === 'string' ? NAME_HINTS[error.code] : undefined
    throw new SystemError(error.errno, syscall, { path, hint })
  }
}

function mappable(handle: FdHandle, path: string): FdHandle {
  if (fstatSync(handle.fd).isFile()) return handle
  throw new SystemError(-22, 'mmap', { path, hint: 'It is neither a memory object nor a file' })
}

function plainObject(size: number): FdHandle {
  const handle = new FdHandle(memory.create('fd-reactor', false)).guard()
  return orClosed(handle, () => {
    ftruncateSync(handle.fd, size)
    return handle
  })
}

/** Reserved at once: a huge page that is missing later would be a SIGBUS. Undefined where there are not enough. */
function hugeObject(size: number): FdHandle | undefined {
  let handle: FdHandle | undefined
  try {
    handle = new FdHandle(memory.create('fd-reactor', true)).guard()
    const page = memory.pageSize(handle.fd)
    if (memory.allocate(handle.fd, 0, Math.ceil(size / page) * page) === 0) return handle
  } catch (error) {
    if (!(error instanceof SystemError) || error.code === 'EMFILE') throw error
  }
  handle?.close()
  return undefined
}

/** It gets its size and its mode before its name, so that nobody ever sees half of it. */
function createNamed(
  path: string,
  size: number,
  mode: number,
  make: (handle: FdHandle) => SharedMemory,
): SharedMemory {
  const O_TMPFILE = 0o20000000 | fs.O_DIRECTORY
  const handle = new FdHandle(file.open(FOLDER, O_TMPFILE | fs.O_RDWR, 0o600)).guard()
  return orClosed(handle, () => {
    const allocated = memory.allocate(handle.fd, 0, size)
    if (allocated < 0) {
      const hint = allocated === ENOSPC ? `${FOLDER} has no room for ${size} bytes` : undefined
      throw new SystemError(allocated, 'fallocate', { path, hint })
    }
    file.chmod(handle.fd, mode)
    const named = memory.name(handle.fd, path)
    const hint = 'open() it, or unlink() it if nobody needs it any more'
    if (named < 0) throw new SystemError(named, 'linkat', { path, ...(named === -17 && { hint }) })
    return make(handle)
  })
}

function orClosed<Result>(handle: FdHandle, action: () => Result): Result {
  try {
    return action()
  } catch (error) {
    handle.close()
    throw error
  }
}
