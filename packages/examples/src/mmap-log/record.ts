/**
 * Records, one behind the other, each at a multiple of 8 bytes (little-endian):
 *
 *   0 crc u32 | 4 length u32 | 8 sequence u64 | 16 time u64, nanoseconds since 1970 | 24 `length` bytes | zeros up to a multiple of 8
 *
 * The CRC-32 is over all that follows it, and begins with that of the log's id: what a disk still has of another file does not pass.
 */
import { crc32 } from 'node:zlib'

/** What is before the bytes of a record. */
const HEAD = 24

/** A record that was checked. */
export interface LogRecord {
  offset: number
  /** Where the next one begins. */
  end: number
  sequence: number
  timeNs: bigint
  /** A view of the log. */
  payload: Buffer
}

/** How much room a record of so many bytes takes. */
export function recordSize(length: number): number {
  return HEAD + Math.ceil(length / 8) * 8
}

/** Writes a record; returns where the next one goes. */
export function writeRecord(
  log: Buffer,
  offset: number,
  salt: number,
  record: { sequence: number; timeNs: bigint; payload: Uint8Array },
): number {
  const { sequence, timeNs, payload } = record
  const end = offset + recordSize(payload.length)
  log.writeUInt32LE(payload.length, offset + 4)
  log.writeBigUInt64LE(BigInt(sequence), offset + 8)
  log.writeBigUInt64LE(timeNs, offset + 16)
  log.set(payload, offset + HEAD)
  log.fill(0, offset + HEAD + payload.length, end)
  log.writeUInt32LE(crc32(log.subarray(offset + 4, end), salt), offset)
  return end
}

/** The record at `offset`, of which nothing lies behind `limit`; or what is wrong with it. */
function readRecord(log: Buffer, offset: number, limit: number, salt: number): LogRecord | string {
  if (offset + HEAD > limit) return 'it begins too near to the end'
  const length = log.readUInt32LE(offset + 4)
  const end = offset + recordSize(length)
  if (end > limit) return `its length, ${length}, goes beyond the end`
  if (crc32(log.subarray(offset + 4, end), salt) !== log.readUInt32LE(offset)) return 'its checksum is wrong'
  return {
    offset,
    end,
    sequence: Number(log.readBigUInt64LE(offset + 8)),
    timeNs: log.readBigUInt64LE(offset + 16),
    payload: log.subarray(offset + HEAD, offset + HEAD + length),
  }
}

/** Where a scan stopped. */
export interface ScanEnd {
  /** Behind the last good record. */
  end: number
  /** The sequence number of what comes there. */
  next: number
  records: number
  /** Why it stopped before the limit. */
  bad?: string
}

/** Checks the records from `offset` up to `limit`, the first of which has the sequence number `next`, and shows them to `visit`. */
export function scan(
  log: Buffer,
  salt: number,
  from: { offset: number; next: number },
  limit: number,
  visit?: (record: LogRecord) => void,
): ScanEnd {
  let { offset, next } = from
  let records = 0
  while (offset < limit) {
    const record = readRecord(log, offset, limit, salt)
    if (typeof record === 'string') return { end: offset, next, records, bad: record }
    if (record.sequence !== next)
      return { end: offset, next, records, bad: `its sequence number is ${record.sequence}, not ${next}` }
    visit?.(record)
    offset = record.end
    next++
    records++
  }
  return { end: offset, next, records }
}
