/**
 * What a ring has no room for: kept until there is some, dropped, or refused.
 */
import { integer, oneOf } from '@fd-reactor/core/sys'
import type { OnFull, RingWriterOptions } from './ring-writer.js'

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

  constructor(options: Pick<RingWriterOptions, 'onFull' | 'queueBytes'>) {
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
    if (this.#bytes + message.length > this.#limit) throw refusal(`, and ${this.#bytes} bytes wait already`)
    this.#queue.push(Uint8Array.prototype.slice.call(message)) // the caller's memory is free again when write() returns
    this.#bytes += message.length
    return true
  }

  /** Lets `put` take what waits until it has no room. How many it took. */
  flush(put: (message: Uint8Array) => boolean): number {
    let taken = 0
    for (const message of this.#queue) {
      if (!put(message)) break
      this.#bytes -= message.length
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
