/**
 * Bytes out of the slab, for whoever keeps them.
 */
import { Buffer } from 'node:buffer'
import type { BatchRecord } from '@fd-reactor/core'

/** A copy of a record's bytes. Small ones share Node's pool of 8 KiB, so that a kept one pins little. */
export function copyOf(record: BatchRecord): Buffer {
  const copy = Buffer.allocUnsafe(record.length)
  copy.set(record.view())
  return copy
}
