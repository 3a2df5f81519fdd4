/**
 * Descriptors that travel with the bytes of a Unix stream.
 *
 * The kernel gives them out with the first byte of the send that they came with, and ends a read behind that send. So a chunk has at most one
 * set of them, perhaps behind bytes of earlier sends, and a chunk that waits to be delivered keeps its set with it.
 */
import { Drain, Interest, messageArgument, ReactorError, takeMessageHead } from '@fd-reactor/core'
import type { BatchRecord, FdHandle, SourceRegistration } from '@fd-reactor/core'
import { MessageFlag } from '@fd-reactor/core/sys'
import { closeAll } from './passed-fds.js'

const STREAM_BYTES = 64 * 1024

/** How a stream is registered that receives up to `maxFds` descriptors with a chunk. */
export function streamWithFds(maxFds: number): SourceRegistration {
  const argument = messageArgument({ maxBytes: STREAM_BYTES, maxFds })
  return { drain: Drain.StreamControl, interest: Interest.In | Interest.RdHup, argument }
}

/** What has come and was not told yet, by the chunk that it belongs to. */
export class ChunkFds {
  /** Whether the next chunk waits for somebody to listen to `'fds'`. */
  stalled = false
  /** Why the stream is of no more use. */
  failure: ReactorError | undefined
  readonly #sets = new Map<Buffer, FdHandle[]>()

  /** Whether descriptors came with a record, or should have. */
  cameWith(record: BatchRecord): boolean {
    return record.messageFlags !== 0
  }

  /** Takes what came with a record, whose bytes are `chunk` now; when some did not fit there is a `failure`. */
  keep(chunk: Buffer, record: BatchRecord, label: string): void {
    const fds = takeMessageHead(record)?.fds ?? []
    if ((record.messageFlags & MessageFlag.ControlTruncated) !== 0) {
      closeAll(fds)
      const message = `${label}: more descriptors came at once than maxFds allows, or than this process can open`
      this.failure ??= new ReactorError('ERR_FDS_TRUNCATED', `${message}. Those that did come were closed`)
    } else if (fds.length > 0) {
      for (const fd of fds) fd.guard()
      this.#sets.set(chunk, fds)
    }
  }

  /** Keeps a set without a record, for a chunk that comes again or stands for the set only. */
  put(chunk: Buffer, fds: FdHandle[]): void {
    this.#sets.set(chunk, fds)
  }

  /** Whether a chunk has a set. */
  has(chunk: Buffer | undefined): boolean {
    return chunk !== undefined && this.#sets.has(chunk)
  }

  /** Gives the set of a chunk away. */
  take(chunk: Buffer | undefined): FdHandle[] | undefined {
    const fds = chunk === undefined ? undefined : this.#sets.get(chunk)
    if (chunk !== undefined) this.#sets.delete(chunk)
    return fds
  }

  /** Gives everything away, in order of the chunks. */
  takeAll(chunks: readonly Buffer[]): FdHandle[] {
    return chunks.flatMap((chunk) => this.take(chunk) ?? [])
  }

  /** Closes everything. */
  close(): void {
    for (const fds of this.#sets.values()) closeAll(fds)
    this.#sets.clear()
  }
}
