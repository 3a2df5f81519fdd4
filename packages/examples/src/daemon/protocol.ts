/**
 * What travels over the socket: JSON objects, one on each line.
 *
 * A request has an `id` and an `op`; its answer has the same `id` and either `ok` or `error`. Events of a subscription have the
 * `id` of the request that began it. An error that belongs to no request that could be read has the id null.
 */
import { isUtf8 } from 'node:buffer'

/** Chosen by the client; comes back with the answer. */
export type RequestId = string | number

/** A request, checked as far as every operation needs it; its other members are for the operation to check. */
export interface Request {
  id: RequestId
  op: string
  [parameter: string]: unknown
}

/** What can be wrong. */
export type ErrorCode =
  | 'bad_request' // no JSON, no object, no id or op, or a parameter that is not right
  | 'unknown_op'
  | 'too_long' // a line that exceeds the limit
  | 'incomplete' // a line that did not end
  | 'forbidden' // this user may not talk to the daemon
  | 'busy' // too many jobs are waiting
  | 'worker_failed' // the worker died over this job
  | 'internal'

/** An answer that says what went wrong. */
interface ErrorReply {
  id: RequestId | null
  error: { code: ErrorCode; message: string }
}

/** An answer, or an event of a subscription. */
export type Message = { id: RequestId; ok: unknown } | { id: RequestId; event: string } | ErrorReply

/** Thrown by whatever finds a request wrong; becomes its answer. */
export class RequestError extends Error {
  constructor(
    readonly code: ErrorCode,
    message: string,
    readonly id: RequestId | null = null,
  ) {
    super(message)
  }
}

/** Reads one line. @throws RequestError */
export function parseRequest(line: Buffer): Request {
  if (!isUtf8(line)) throw new RequestError('bad_request', 'The line is not UTF-8')
  const request = parseObject(line.toString())
  const { id, op } = request
  if (typeof id !== 'string' && typeof id !== 'number') {
    throw new RequestError('bad_request', "The request needs an 'id', a string or a number")
  }
  if (typeof op !== 'string') throw new RequestError('bad_request', "The request needs an 'op', a string", id)
  return { ...request, id, op }
}

/** One message as a line. */
export function encode(message: Message): string {
  return `${JSON.stringify(message)}\n`
}

function parseObject(text: string): Record<string, unknown> {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (error) {
    throw new RequestError('bad_request', error instanceof Error ? error.message : String(error))
  }
  if (!isObject(value)) throw new RequestError('bad_request', 'The line is not a JSON object')
  return value
}

/** Whether a value that came as JSON is an object. */
export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
