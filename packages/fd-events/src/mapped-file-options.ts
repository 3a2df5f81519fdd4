/**
 * What a mapped file can be asked for, and what is checked of it.
 */
import { boolean, integer, oneOf } from '@fd-reactor/core/sys'
import type { MemoryAccess } from './shared-memory.js'

/** Options of `MappedFile.open()`. */
export interface MappedFileOptions {
  /** `'read'`: stores do not reach the file. Default `'write'`. */
  access?: MemoryAccess
  /** Makes the file when there is none. Default false. */
  create?: boolean
  /** Permissions of a file that is made, less the umask. Default 0o600. */
  mode?: number
  /** In bytes: a file that is shorter is grown, and holes before that are filled, so that all of it has its place on the disk. Default: as it is. */
  size?: number
  /** Brings all pages in at once (MAP_POPULATE). Default false. */
  populate?: boolean
  /** Keeps them in memory (mlock). Default false. */
  lock?: boolean
}

/** A range of a mapped file: offsets in the file, in bytes, which need not be those of pages. */
export interface FileRange {
  /** Where it begins. Default 0. */
  offset?: number
  /** How many bytes. Default: to the end of the file. */
  length?: number
}

/** Options of `MappedFile.flush()`. */
export interface FlushOptions extends FileRange {
  /** Whether to wait until it is on the disk. Otherwise the writing only begins, and nothing is promised. Default true. */
  wait?: boolean
}

const MAX_SIZE = 2 ** 47

/** Checks a size in bytes. */
export const fileSize = integer(0, MAX_SIZE)
/** The checks of each call's options. */
export const OPEN_CHECKS = {
  access: oneOf('read', 'write'),
  create: boolean,
  mode: integer(0, 0o777),
  size: fileSize,
  populate: boolean,
  lock: boolean,
}
/** See above. */
export const RANGE_CHECKS = { offset: fileSize, length: fileSize }
/** See above. */
export const FLUSH_CHECKS = { ...RANGE_CHECKS, wait: boolean }
/** What to do when there is no room, by -errno of fallocate(2). */
export const ALLOCATE_HINTS: Readonly<Record<number, string>> = {
  [-28]: 'The disk is full; what is mapped is as usable as before',
  [-122]: 'The quota is used up; what is mapped is as usable as before',
  [-27]: 'It would be larger than the filesystem or `ulimit -f` allows',
  [-95]:
    'The filesystem cannot reserve room (fallocate), and without it a full disk would take pages away: use a local one',
}
