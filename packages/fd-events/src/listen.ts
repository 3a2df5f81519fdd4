/**
 * Listeners and streams for an address in one line of a configuration, whatever kind it is.
 */
import { FdHandle, type Reactor } from '@fd-reactor/core'
import { checkOptions, Domain, SocketType, type OptionChecks } from '@fd-reactor/core/sys'
import { isIP } from 'node:net'
import { expectSocket, type SocketKind } from './socket-kind.js'
import type { SocketListener } from './socket-listener.js'
import type { Borrow } from './stream-options.js'
import type { StreamSocket } from './stream-socket.js'
import type { TcpAddress } from './tcp-address.js'
import { TcpListener, tcpListenerChecks, type TcpListenerOptions } from './tcp-listener.js'
import { TcpStream, tcpConnectChecks, type TcpConnectOptions } from './tcp-stream.js'
import type { UnixAddress } from './unix-address.js'
import { UnixListener, unixListenerChecks, type UnixListenerOptions } from './unix-listener.js'
import { UnixStream, unixConnectChecks, type UnixConnectOptions } from './unix-stream.js'

/** Options of {@link listen}: those of every kind of listener. What does not apply to the address is left out. */
export type ListenOptions<B extends Borrow = false> = UnixListenerOptions<B> &
  Omit<TcpListenerOptions<B>, 'host' | 'port'>

/** Options of {@link connect}: those of every kind of stream. What does not apply to the address is left out. */
export type ConnectOptions<B extends Borrow = false> = UnixConnectOptions<B> &
  Omit<TcpConnectOptions<B>, 'host' | 'port'>

type Address = { unix: UnixAddress } | { tcp: TcpAddress } | { fd: number }

const FORMS =
  "An address is 'unix:/run/x.sock', 'abstract:name', 'tcp://127.0.0.1:7000', 'tcp://[::1]:7000' or 'fd:3'"
const { host: _host, port: _port, ...tcpChecks } = tcpListenerChecks
const { host: _toHost, port: _toPort, ...toTcpChecks } = tcpConnectChecks
const LISTEN_CHECKS = { ...tcpChecks, ...unixListenerChecks }
const CONNECT_CHECKS = { ...toTcpChecks, ...unixConnectChecks }
const FAMILIES: readonly number[] = [Domain.Unix, Domain.Ipv4, Domain.Ipv6]
const NOT_FOR_ABSTRACT = ['mode', 'owner']
const ONLY_WHEN_MADE = [
  'mode',
  'owner',
  'backlog',
  'unlinkStale',
  'reusePort',
  'fastOpen',
  'ipv6Only',
  'timeout',
]

/**
 * Listens on `unix:/run/x.sock`, `abstract:name`, `tcp://127.0.0.1:7000`, `tcp://[::1]:0`, or on `fd:3`, a listening socket that the
 * process was started with.
 *
 * Options of all kinds may be given; those that do not apply to the address are left out. An inherited descriptor is the listener's from then
 * on, and is made close-on-exec.
 *
 * @throws TypeError for anything that is no address; what {@link UnixListener} and {@link TcpListener} throw.
 * @throws SystemError `EBADF`, `ENOTSOCK`, `EINVAL` for a descriptor that is no listening stream socket.
 * @example
 * import { Reactor } from '@fd-reactor/core'
 * import { connect, listen } from '@fd-reactor/fd-events'
 * using reactor = new Reactor()
 * const listener = listen(reactor, 'tcp://127.0.0.1:0', { mode: 0o660, maxConnections: 100 })
 * listener.on('connection', (stream) => stream.end('hello'))
 * for await (const bytes of await connect(reactor, listener.uri)) console.log(String(bytes)) // hello
 * @see unix(7), tcp(7)
 */
export function listen<B extends Borrow = false>(
  reactor: Reactor,
  address: string,
  options: ListenOptions<B> = {},
): SocketListener<StreamSocket<B>> {
  checkOptions('listen', options, LISTEN_CHECKS)
  const where = parseAddress(address)
  if ('tcp' in where) {
    if (isIP(where.tcp.host) === 0)
      refuse(address, `'${where.tcp.host}' is no IP address, and a listener needs one`)
    return TcpListener.listen(reactor, { ...only(tcpChecks, options), ...where.tcp })
  }
  if ('unix' in where) {
    const left = typeof where.unix === 'string' ? [] : NOT_FOR_ABSTRACT
    return UnixListener.listen(reactor, where.unix, only(unixListenerChecks, options, left))
  }
  return inherited(
    where.fd,
    ({ listening }) => listening,
    'a listening stream socket',
    (handle, domain) =>
      domain === Domain.Unix
        ? UnixListener.from(reactor, handle, only(unixListenerChecks, options, ONLY_WHEN_MADE))
        : TcpListener.from(reactor, handle, only(tcpChecks, options, ONLY_WHEN_MADE)),
  )
}

/**
 * Connects to `unix:/run/x.sock`, `abstract:name`, `tcp://localhost:7000`, or takes `fd:3`, a connected socket that the process was
 * started with.
 *
 * Options of all kinds may be given; those that do not apply to the address are left out.
 *
 * @throws TypeError for anything that is no address; what {@link UnixStream.connect} and {@link TcpStream.connect} throw.
 * @throws SystemError `EBADF`, `ENOTSOCK`, `EINVAL` for a descriptor that is no connected stream socket.
 * @example
 * import { Reactor } from '@fd-reactor/core'
 * import { connect, listen } from '@fd-reactor/fd-events'
 * using reactor = new Reactor()
 * listen(reactor, 'abstract:fd-reactor-example').on('connection', (stream) => stream.end('hello'))
 * for await (const bytes of await connect(reactor, 'abstract:fd-reactor-example')) console.log(String(bytes)) // hello
 */
export async function connect<B extends Borrow = false>(
  reactor: Reactor,
  address: string,
  options: ConnectOptions<B> = {},
): Promise<StreamSocket<B>> {
  checkOptions('connect', options, CONNECT_CHECKS)
  const where = parseAddress(address)
  if ('tcp' in where) return TcpStream.connect(reactor, { ...only(toTcpChecks, options), ...where.tcp })
  if ('unix' in where) return UnixStream.connect(reactor, where.unix, only(unixConnectChecks, options))
  return inherited(
    where.fd,
    ({ listening }) => !listening,
    'a connected stream socket',
    (handle, domain) =>
      domain === Domain.Unix
        ? UnixStream.from(reactor, handle, only(unixConnectChecks, options, ONLY_WHEN_MADE))
        : TcpStream.from(reactor, handle, only(toTcpChecks, options, ONLY_WHEN_MADE)),
  )
}

/** Host in brackets, host without, port. */
const TCP = /^tcp:\/\/(?:\[([^\]]*:[^\]]*)\]|([^:[\]/@]+)):(\d+)$/

/** @throws TypeError with all forms, for what is none of them. */
function parseAddress(address: string): Address {
  if (typeof address !== 'string') throw new TypeError(`An address must be a string. ${FORMS}`)
  const [scheme = '', ...others] = address.split(':')
  const rest = others.join(':')
  switch (others.length > 0 ? scheme : '') {
    case 'unix':
      if (rest === '') refuse(address, 'the path is missing')
      return { unix: rest }
    case 'abstract':
      if (rest === '') refuse(address, 'the name is missing')
      return { unix: { abstract: rest } }
    case 'tcp': {
      const [, ipv6, host = ipv6 ?? '', digits] = TCP.exec(address) ?? []
      if (digits === undefined) refuse(address, 'it needs a host and a port, and IPv6 needs brackets')
      const port = Number(digits)
      if (port > 65_535) refuse(address, 'the port must be at most 65535')
      return { tcp: { host, port } }
    }
    case 'fd':
      if (!/^\d{1,9}$/.test(rest)) refuse(address, 'the number of a descriptor is missing')
      return { fd: Number(rest) }
    default:
      return refuse(
        address,
        scheme.startsWith('/') ? `a path is written 'unix:${address}'` : 'its kind is missing',
      )
  }
}

function refuse(address: string, why: string): never {
  throw new TypeError(`'${address}' is no address: ${why}. ${FORMS}`)
}

/** The options that `checks` know. */
function only<Options extends object>(
  checks: OptionChecks,
  options: Options,
  without: readonly string[] = [],
): Partial<Options> {
  const fits = ([name]: [string, unknown]): boolean => Object.hasOwn(checks, name) && !without.includes(name)
  return Object.fromEntries(Object.entries(options).filter(fits)) as Partial<Options>
}

/** Takes over a descriptor that the process was started with. Its duplicate is close-on-exec, which it is not. */
function inherited<Made>(
  fd: number,
  fits: (kind: SocketKind) => boolean,
  what: string,
  make: (handle: FdHandle, domain: number) => Made,
): Made {
  let kind: SocketKind | undefined
  expectSocket(fd, what, (found) => {
    kind = found
    return found.type === SocketType.Stream && FAMILIES.includes(found.domain) && fits(found)
  })
  const original = FdHandle.adopt(fd)
  let handle: FdHandle | undefined
  try {
    handle = original.duplicate()
    const made = make(handle, kind?.domain ?? Domain.Unix)
    original.close()
    return made
  } catch (error) {
    handle?.close()
    original.release()
    throw error
  }
}
