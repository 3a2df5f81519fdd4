/**
 * Sockets that whoever started the process opened for it: the protocol of sd_listen_fds(3), without libsystemd.
 *
 * They come as descriptors 3 and on; LISTEN_FDS says how many, LISTEN_FDNAMES what they are called, and LISTEN_PID for whom they are, so that a
 * child that inherits the variables does not take what it reads there for its own.
 */
import { fstatSync, type Stats } from 'node:fs'
import process from 'node:process'
import { FdHandle } from '@fd-reactor/core'
import { Domain, SocketType } from '@fd-reactor/core/sys'
import { environmentError, environmentNumber } from './environment.js'
import { socketKind } from './socket-kind.js'

/**
 * What an inherited descriptor is: a Unix socket of one of three types, a TCP or UDP socket, a FIFO or pipe, or something else, such as a message
 * queue.
 */
export type InheritedKind = 'stream' | 'seqpacket' | 'datagram' | 'tcp' | 'udp' | 'fifo' | 'other'

/** One of {@link inheritedListeners}. */
export interface InheritedListener {
  /** What the unit calls it (`FileDescriptorName=`), or `'unknown'`. Several may have the same name. */
  name: string
  /** The descriptor, which is the caller's: to close, or to give to a source. */
  handle: FdHandle
  /** What it is, and so which source takes it. */
  kind: InheritedKind
  /** Whether connections can be accepted from it. A stream that does not listen is a connection itself (`Accept=yes`). */
  listening: boolean
}

const FIRST_FD = 3
const MAX_INT = 2 ** 31 - 1
const VARIABLES = ['LISTEN_PID', 'LISTEN_FDS', 'LISTEN_FDNAMES', 'LISTEN_PIDFDID']

/**
 * Takes over the sockets and FIFOs that the process was started with, in the order of the unit; none if it was not started like that.
 *
 * Give each to its source: `'stream'` to `UnixListener.from`, `'seqpacket'` to `UnixSeqpacketListener.from`, `'datagram'` to `UnixDatagram.from`,
 * `'tcp'` to `TcpListener.from`; a FIFO is for `FdWatcher` or `pump`. Those sources leave the socket's file where it is: it belongs to who made it.
 * Guaranteed: either all of them are taken, or none; each is close-on-exec (Node sees to it when it starts); the variables are removed from
 * `process.env`, also when they make no sense, so that no child finds them and a second call gives none. When LISTEN_PID names another
 * process there are none: run `node` itself, not `npm start`, which would be that process. Not guaranteed: anything about variables that
 * are not there; a missing one means that nothing was passed. Call it in the main thread, before files are opened.
 *
 * @throws ReactorError `ERR_ENVIRONMENT` for numbers that are none, a descriptor that is not open, or as many names as there are no descriptors.
 * @example
 * import { Reactor } from '@fd-reactor/core'
 * import { inheritedListeners, UnixListener } from '@fd-reactor/fd-events'
 * using reactor = new Reactor()
 * const [inherited] = inheritedListeners()
 * const listener = inherited === undefined
 *   ? UnixListener.listen(reactor, '/tmp/example-activation.sock')
 *   : UnixListener.from(reactor, inherited.handle)
 * console.log(listener.path) // /tmp/example-activation.sock
 * @see sd_listen_fds(3)
 */
export function inheritedListeners(): InheritedListener[] {
  const { LISTEN_PID: pid, LISTEN_FDS: fds, LISTEN_FDNAMES: fdNames } = process.env
  for (const name of VARIABLES) Reflect.deleteProperty(process.env, name)
  if (pid === undefined || fds === undefined) return []
  if (environmentNumber('LISTEN_PID', pid, 1, MAX_INT) !== process.pid) return []
  const count = environmentNumber('LISTEN_FDS', fds, 0, MAX_INT - FIRST_FD)
  const names = fdNames?.split(':')
  if (names !== undefined && names.length !== count) {
    const message = `LISTEN_FDNAMES has ${names.length} names ('${fdNames ?? ''}'), and LISTEN_FDS is ${count}`
    throw environmentError(`${message}: there must be a name for each descriptor, with colons in between`)
  }
  const found: Omit<InheritedListener, 'handle'>[] = []
  for (let index = 0; index < count; index++) {
    const fd = FIRST_FD + index
    const stats = statsOf(fd)
    if (stats === undefined) {
      const last = FIRST_FD + count - 1
      const message = `LISTEN_FDS is ${count}, but descriptor ${fd} is not open`
      throw environmentError(`${message}: who starts this process must leave ${FIRST_FD} to ${last} open`)
    }
    found.push({ name: names?.[index] ?? 'unknown', ...whatIs(fd, stats) })
  }
  return found.map((each, index) => ({ ...each, handle: FdHandle.adopt(FIRST_FD + index) }))
}

function statsOf(fd: number): Stats | undefined {
  try {
    return fstatSync(fd)
  } catch {
    return undefined // EBADF
  }
}

function whatIs(fd: number, stats: Stats): Pick<InheritedListener, 'kind' | 'listening'> {
  if (stats.isFIFO()) return { kind: 'fifo', listening: false }
  const socket = stats.isSocket() ? socketKind(fd) : undefined
  if (socket === undefined) return { kind: 'other', listening: false }
  return { kind: kindOf(socket.domain, socket.type), listening: socket.listening }
}

function kindOf(domain: number, type: number): InheritedKind {
  const local = domain === Domain.Unix
  if (!local && domain !== Domain.Ipv4 && domain !== Domain.Ipv6) return 'other'
  switch (type) {
    case SocketType.Stream:
      return local ? 'stream' : 'tcp'
    case SocketType.Datagram:
      return local ? 'datagram' : 'udp'
    case SocketType.Seqpacket:
      return local ? 'seqpacket' : 'other' // SCTP
    default:
      return 'other'
  }
}
