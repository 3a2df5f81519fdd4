/**
 * Who gets the ticks. A subscriber that does not read is dropped once too much waits for it; the others do not notice.
 */
import type { Connection } from './connection.js'
import { RequestError, type RequestId } from './protocol.js'

/** What one tick tells. */
export interface Tick {
  /** How many periods it stands for; more than 1 when the daemon was late. */
  expirations: number
  /** How long ago the newest of them was due. */
  latenessNs: number
}

/** All subscriptions; a connection has one at most. */
export class Subscribers {
  readonly #ids = new Map<Connection, RequestId>()
  #dropped = 0

  get count(): number {
    return this.#ids.size
  }

  /** How many were dropped because they did not read. */
  get dropped(): number {
    return this.#dropped
  }

  /** The events go to `client` with the `id` of its request. @throws RequestError */
  add(client: Connection, id: RequestId): void {
    if (this.#ids.has(client)) throw new RequestError('bad_request', 'This connection has subscribed already')
    this.#ids.set(client, id)
    client.hold()
  }

  remove(client: Connection): void {
    if (this.#ids.delete(client)) client.release()
  }

  /** Sends a tick to all of them, and drops those for whom more than `maxBacklog` bytes wait; returns how many that were. */
  publish(tick: Tick, maxBacklog: number): number {
    const before = this.#dropped
    for (const [client, id] of this.#ids) {
      if (client.backlog > maxBacklog) {
        this.#dropped++
        client.drop()
      } else {
        client.send({ id, event: 'tick', ...tick })
      }
    }
    return this.#dropped - before
  }

  /** Ends all subscriptions. */
  clear(): void {
    for (const client of this.#ids.keys()) this.remove(client)
  }
}
