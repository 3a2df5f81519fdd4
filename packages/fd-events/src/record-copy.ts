/**
 * Bytes out of the slab, for whoever keeps them.
 */
import type { Buffer } from 'node:buffer'
import type { BatchRecord } from '@fd-reactor/core'
import { copyOut } from './word-copy.js'

/** A copy of a record's bytes. */
export function copyOf(record: BatchRecord): Buffer {
  return copyOut(record.slab, record.words, record.offset, record.length)
}
