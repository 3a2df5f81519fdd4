/**
 * What a client can ask for. Each operation answers at once, or lets somebody answer later.
 */
import type { ConfigFile } from './config.js'
import type { Connection } from './connection.js'
import { RequestError, type Request } from './protocol.js'
import type { Statistics, StatisticsSources } from './statistics.js'

/** What the operations work on. */
export interface OperationContext extends StatisticsSources {
  config: ConfigFile
  statistics: Statistics
}

type Operation = (request: Request, client: Connection, context: OperationContext) => void

/** Half a minute or so of one processor: nobody keeps a worker for longer with one request. */
const MAX_LIMIT = 50_000_000

const operations: Readonly<Record<string, Operation>> = {
  /** Gives `payload` back. */
  echo({ id, payload }, client) {
    client.reply(id, payload ?? null)
  },

  /** What the clock shows. */
  time({ id }, client) {
    const now = new Date()
    client.reply(id, { iso: now.toISOString(), unixMs: now.getTime() })
  },

  /** The statistics report. */
  stats({ id }, client, context) {
    client.reply(id, context.statistics.report(context))
  },

  /** From now on, ticks, as objects with `event: "tick"` and the request's id. */
  subscribe({ id }, client, { subscribers, config }) {
    subscribers.add(client, id)
    client.reply(id, { tickMs: config.current.tickMs })
  },

  /** Counts the primes below `limit` in a worker thread. */
  work({ id, limit }, client, { pool, config }) {
    if (typeof limit !== 'number' || !Number.isInteger(limit) || limit < 0 || limit > MAX_LIMIT) {
      throw new RequestError('bad_request', `work needs a 'limit', an integer from 0 to ${MAX_LIMIT}`)
    }
    if (pool.waiting >= config.current.maxJobs) throw new RequestError('busy', 'Too many jobs are waiting')
    pool.run(
      { limit },
      {
        get closed() {
          return client.closed
        },
        onResult: (result) => client.reply(id, result),
        onFailure: (error) => client.fail(id, new RequestError('worker_failed', error.message)),
      },
    )
  },
}

/** Does what a request asks for. @throws RequestError */
export function perform(request: Request, client: Connection, context: OperationContext): void {
  const operation = Object.hasOwn(operations, request.op) ? operations[request.op] : undefined
  if (operation === undefined) {
    throw new RequestError(
      'unknown_op',
      `There is no '${request.op}'; there are ${Object.keys(operations).join(', ')}`,
    )
  }
  context.statistics.request(request.op)
  operation(request, client, context)
}
