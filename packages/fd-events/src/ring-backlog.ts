/**
 * What a ring has no room for: kept until there is some, dropped, or refused.
 */
import { integer, oneOf } from '@fd-reactor/core/sys'
import { recordBytes } from './ring-layout.js'

/** What `write()` does when the ring is full, see {@link BacklogOptions.onFull}. */
export type OnFull = 'wait' | 'drop' | 'error'

/** How a writer's options say what becomes of a message that finds no room. */
export interface BacklogOptions {
  /**
   * What happens to a message that the ring has no room for: `'wait'` (default) keeps a copy here until the reader has made room, up to
   * `queueBytes`; `'drop'` drops and counts it; `'error'` throws `ERR_RING_FULL`.
   */
  onFull?: OnFull
  /** How many bytes, with headers, may wait here before `write()` throws `ERR_RING_FULL`. Default 16 MiB. */
  queueBytes?: number
}

/** The checks of how a writer's options say that. */
export const backlogChecks = {
  onFull: oneOf('wait', 'drop', 'error'),
  queueBytes: integer(0, Number.MAX_SAFE_INTEGER),
}
const DEFAULT_QUEUE_BYTES = 16 * 2 ** 20

/** The messages that wait for room, in order. */
export class RingBacklog {
  /** How many messages were dropped. */
  dropped = 0
  readonly #onFull: OnFull
  readonly #limit: number
  readonly #queue: Uint8Array[] = []
  #bytes = 0

  constructor(options: BacklogOptions) {
    this.#onFull = options.onFull ?? 'wait'
    this.#limit = options.queueBytes ?? DEFAULT_QUEUE_BYTES
  }

  /** How many messages wait. */
  get length(): number {
    return this.#queue.length
  }

  /** Keeps a copy, or drops it and returns false. Otherwise it throws what `refusal` makes of what waits already. */
  take(message: Uint8Array, refusal: (waiting: string) => Error): boolean {
    if (this.#onFull === 'drop') {
      this.dropped++
      return false
    }
    if (this.#onFull === 'error') throw refusal('')
    const size = recordBytes(message.length)
    if (this.#bytes + size > this.#limit) throw refusal(`, and ${this.#bytes} bytes wait already`)
    this.#queue.push(Uint8Array.prototype.slice.call(message)) // the caller's memory is free again when write() returns
    this.#bytes += size
    return true
  }

  /** Lets `put` take what waits until it has no room. How many it took. */
  flush(put: (message: Uint8Array) => boolean): number {
    let taken = 0
    for (const message of this.#queue) {
      if (!put(message)) break
      this.#bytes -= recordBytes(message.length)
      taken++
    }
    this.#queue.splice(0, taken)
    return taken
  }

  /** Throws away what waits. */
  clear(): void {
    this.#queue.length = this.#bytes = 0
  }
}
