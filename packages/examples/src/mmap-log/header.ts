/**
 * The first page of a log, and how its state changes at once (little-endian):
 *
 *   0 magic, 8 bytes | 8 version u32 | 12 crc u32 of the id | 16 id, 16 bytes | 64 commit i32 | 128 slot 0 | 192 slot 1
 *   slot: 0 tail u64 | 8 next u64 | 16 durable u64 | 24 durableNext u64 | 32 crc u32 of these
 *
 * The state is in slot `commit & 1`. A writer, who has the lock, fills the other slot and then adds 1 to `commit`: killed anywhere before that it
 * has changed nothing. `commit` is stored and loaded by Atomics, which orders it after the records and the slot on the writer's side, and before
 * them on the reader's, on x86-64 and arm64 alike. A reader that was overtaken while it read a slot sees another `commit`, or a wrong crc, and
 * reads again. After a power loss one slot may be torn: then the other one counts.
 */
import { randomBytes } from 'node:crypto'
import { crc32 } from 'node:zlib'

/** Where the first record is. */
export const FIRST = 4096

/** What all writers and readers agree on. */
export interface LogState {
  /** Where the next record goes: all before it is committed. */
  tail: number
  /** Its sequence number; the first one's is 1. */
  next: number
  /** Up to here a flush has come back from the disk. */
  durable: number
  /** The sequence number of what is there. */
  durableNext: number
}

const MAGIC = Buffer.from('FDRMLOG1')
const VERSION = 1
const SLOTS = [128, 192] as const
const FIELDS = ['tail', 'next', 'durable', 'durableNext'] as const
const SLOT_BYTES = FIELDS.length * 8
const EMPTY: LogState = { tail: FIRST, next: 1, durable: FIRST, durableNext: 1 }

/** The first page of a log that is mapped. */
export class Header {
  readonly #page: Buffer
  readonly #commit: Int32Array

  constructor(bytes: Buffer) {
    this.#page = bytes.subarray(0, FIRST)
    this.#commit = new Int32Array(bytes.buffer, bytes.byteOffset + 64, 1)
  }

  /** Begins an empty log. Killed before the last line it has begun nothing. */
  static create(bytes: Buffer): void {
    const id = randomBytes(16)
    bytes.fill(0, 0, FIRST)
    bytes.writeUInt32LE(VERSION, 8)
    bytes.writeUInt32LE(crc32(id), 12)
    id.copy(bytes, 16)
    const header = new Header(bytes)
    header.commit(EMPTY)
    Atomics.store(new BigInt64Array(bytes.buffer, bytes.byteOffset, 1), 0, MAGIC.readBigInt64LE())
  }

  /** Whether nobody has begun a log there. */
  static missing(bytes: Buffer): boolean {
    return bytes.length < FIRST || bytes.readBigInt64LE() === 0n
  }

  /** What is wrong with the part that never changes. */
  get damage(): string | undefined {
    if (!this.#page.subarray(0, 8).equals(MAGIC)) return 'it is no log of mmap-log'
    const version = this.#page.readUInt32LE(8)
    if (version !== VERSION) return `its version is ${version}, and this program knows ${VERSION}`
    return crc32(this.#page.subarray(16, 32)) === this.salt ? undefined : 'its first page is damaged'
  }

  /** What checksums of records begin with. */
  get salt(): number {
    return this.#page.readUInt32LE(12)
  }

  /** Changes with every commit. */
  get version(): number {
    return Atomics.load(this.#commit, 0)
  }

  /** The newest state; undefined when both slots are damaged. */
  read(): LogState | undefined {
    for (let attempts = 0; attempts < 1000; attempts++) {
      const version = this.version
      const state = this.#slot(version)
      if (version !== this.version) continue
      return state ?? this.#slot(version + 1)
    }
    throw new Error('The log changes faster than it can be read')
  }

  /** Makes this the state, at once for everybody. Only for who has the lock. */
  commit(state: LogState): void {
    const version = this.version + 1
    const at = slotOf(version)
    for (const [index, field] of FIELDS.entries())
      this.#page.writeBigUInt64LE(BigInt(state[field]), at + index * 8)
    this.#page.writeUInt32LE(crc32(this.#page.subarray(at, at + SLOT_BYTES)), at + SLOT_BYTES)
    Atomics.store(this.#commit, 0, version)
  }

  #slot(version: number): LogState | undefined {
    const at = slotOf(version)
    // A copy: what is checked must be what is used.
    const slot = Buffer.from(this.#page.subarray(at, at + SLOT_BYTES + 4))
    if (crc32(slot.subarray(0, SLOT_BYTES)) !== slot.readUInt32LE(SLOT_BYTES)) return undefined
    const field = (index: number): number => Number(slot.readBigUInt64LE(index * 8))
    const state = { tail: field(0), next: field(1), durable: field(2), durableNext: field(3) }
    return state.tail >= FIRST ? state : undefined // zeros have a right checksum, too
  }
}

function slotOf(version: number): number {
  return SLOTS[(version & 1) === 0 ? 0 : 1]
}
