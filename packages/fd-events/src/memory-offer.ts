/**
 * The handshake that gives shared memory to another process: one packet with the descriptors, one with the answer.
 *
 * The connection stays open afterwards. While it does, the other process is there; the kernel ends it with the process, however that
 * ends. Both packets are JSON: `{ offer, version }`, then `{ accepted: true }` or `{ refused: reason }`.
 */
import { once, ReactorError, SystemError, type FdHandle, type Reactor } from '@fd-reactor/core'
import { closeAll } from './passed-fds.js'
import type { UnixAddress } from './unix-address.js'
import { UnixSeqpacket } from './unix-seqpacket.js'

/** Whom memory is offered to, or accepted from: an address to connect to, or a connection that is there already and is used up. */
export type OfferPeer = UnixAddress | UnixSeqpacket

/** How long a handshake may take. */
export interface OfferLimits {
  /** Nanoseconds until the other side must have answered. Default 5 s. */
  timeout?: number
  /** Gives up when it is aborted. */
  signal?: AbortSignal
}

/** What is offered. `version` is that of the layout and of the protocol. */
export interface OfferKind {
  name: string
  version: number
  /** How many descriptors come along. */
  fds: number
}

/** Numbers that go along with an offer. */
export type OfferDetails = Readonly<Record<string, number>>
/** What came with an offer: anything. */
export type OfferHead = ReadonlyMap<string, unknown>

const DEFAULT_TIMEOUT = 5e9
const MAX_FDS = 16

/** Offers memory and waits until it is accepted. The descriptors stay the caller's. @throws ReactorError `ERR_HANDSHAKE`, `ERR_TIMEOUT`; as connecting. */
export async function offerMemory(
  reactor: Reactor,
  to: OfferPeer,
  kind: OfferKind,
  fds: readonly FdHandle[],
  limits: OfferLimits,
  details: OfferDetails = {},
): Promise<UnixSeqpacket> {
  return shakeHands(reactor, to, limits, async (connection, receive) => {
    connection.send(JSON.stringify({ ...details, offer: kind.name, version: kind.version }), { fds })
    const { head, fds: unasked } = await receive()
    closeAll(unasked)
    if (head.get('accepted') === true) return connection
    const reason = head.get('refused')
    throw handshakeError(
      typeof reason === 'string' ? `was refused: ${reason}` : 'was answered by something else',
    )
  })
}

/** Waits for an offer and lets `use` take what came; the descriptors are its own. @throws ReactorError `ERR_HANDSHAKE`, `ERR_TIMEOUT`; what `use` throws. */
export async function acceptMemory<Result extends Disposable>(
  reactor: Reactor,
  from: OfferPeer,
  kind: OfferKind,
  use: (fds: FdHandle[], head: OfferHead) => Result,
  limits: OfferLimits,
): Promise<[Result, UnixSeqpacket]> {
  return shakeHands(reactor, from, limits, async (connection, receive) => {
    const { head, fds } = await receive()
    let result: Result | undefined
    try {
      const wrong = whatIsWrong(head, fds.length, kind)
      if (wrong !== undefined) throw handshakeError(`of the other side ${wrong}`)
      result = use(fds, head)
      connection.send(JSON.stringify({ accepted: true }))
      return [result, connection]
    } catch (error) {
      result?.[Symbol.dispose]()
      closeAll(fds) // does nothing to those that have a new owner and were closed by it
      const refused = error instanceof Error ? error.message : String(error)
      if (!connection.closed) connection.send(JSON.stringify({ refused }))
      throw error
    }
  })
}

function whatIsWrong(head: OfferHead, count: number, kind: OfferKind): string | undefined {
  const name = head.get('offer')
  const version = head.get('version')
  if (name !== kind.name) return `is ${JSON.stringify(name)}, and not ${kind.name}`
  if (version !== kind.version)
    return `is of version ${String(version)}, and not ${kind.version}: run the same release on both`
  if (count !== kind.fds) return `came with ${count} descriptors, and not ${kind.fds}`
  return undefined
}

type Receive = () => Promise<{ head: OfferHead; fds: FdHandle[] }>

async function shakeHands<Result>(
  reactor: Reactor,
  peer: OfferPeer,
  { timeout = DEFAULT_TIMEOUT, signal }: OfferLimits,
  action: (connection: UnixSeqpacket, receive: Receive) => Promise<Result>,
): Promise<Result> {
  const late = AbortSignal.timeout(Math.ceil(timeout / 1e6))
  const either = signal === undefined ? late : AbortSignal.any([late, signal])
  const options = { maxFds: MAX_FDS, label: 'Shared memory' }
  const connection =
    peer instanceof UnixSeqpacket
      ? UnixSeqpacket.from(reactor, peer.detach().handle, options)
      : await UnixSeqpacket.connect(reactor, peer, { ...options, timeout })
  try {
    return await action(connection, async () => {
      const [bytes, { fds }] = await once(connection, 'message', { signal: either })
      return { head: parse(bytes), fds: [...fds] }
    })
  } catch (error) {
    connection.close()
    signal?.throwIfAborted()
    if (late.aborted)
      throw new ReactorError(
        'ERR_TIMEOUT',
        `An offer of shared memory was not answered within ${timeout / 1e6} ms`,
      )
    if (isOfSomebodyGone(error)) throw handshakeError('was not answered: the other side went away')
    throw error
  }
}

function isOfSomebodyGone(error: unknown): boolean {
  if (error instanceof ReactorError) return error.code === 'ERR_CLOSED'
  return error instanceof SystemError && (error.code === 'EPIPE' || error.code === 'ECONNRESET')
}

/** A number that came with an offer. @throws ReactorError `ERR_SHARED_LAYOUT` when there is none that will do. */
export function offeredNumber(head: OfferHead, name: string, limit = Number.MAX_SAFE_INTEGER): number {
  const value = head.get(name)
  if (typeof value === 'number' && Number.isInteger(value) && value >= 0 && value <= limit) return value
  throw new ReactorError(
    'ERR_SHARED_LAYOUT',
    `The offer of shared memory says that ${name} is ${String(value)}`,
  )
}

/** Empty for what is no JSON object: then nothing in it is right. */
function parse(bytes: Buffer): OfferHead {
  try {
    const value: unknown = JSON.parse(bytes.toString())
    return new Map(Object.entries(typeof value === 'object' && value !== null ? value : {}))
  } catch {
    return new Map()
  }
}

function handshakeError(what: string): ReactorError {
  return new ReactorError('ERR_HANDSHAKE', `The offer of shared memory ${what}`)
}
