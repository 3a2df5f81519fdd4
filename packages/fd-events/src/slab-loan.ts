/**
 * Which view of a slab is lent to a handler now.
 *
 * What is written of it then goes by its place in the slab, which is cheapest to send. There is one loan for all sockets, because
 * one record is delivered at a time. Where a handler runs the loop of another reactor, the inner loan ends the outer one, whose bytes are
 * then sent as any others.
 */
import { Buffer } from 'node:buffer'
import type { BatchRecord } from '@fd-reactor/core'

/** The view, and where its bytes lie: for good, so a loan that was not ended does no harm. */
interface Loan {
  view: Buffer | undefined
  slab: Buffer
  offset: number
}
export const loan: Loan = { view: undefined, slab: Buffer.alloc(0), offset: 0 }

/** Lends the bytes of a record. The borrower ends the loan by `loan.view = undefined`. */
export function lend(record: BatchRecord): Buffer {
  const view = record.view()
  loan.view = view
  loan.slab = record.slab
  loan.offset = record.offset
  return view
}
