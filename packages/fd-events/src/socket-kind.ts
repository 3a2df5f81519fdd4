/**
 * What kind of socket a descriptor is, for those that come from elsewhere: inherited, passed, or handed over.
 */
import { SystemError } from '@fd-reactor/core'
import { Domain, socket, SocketOption, SocketType } from '@fd-reactor/core/sys'

const ENOTSOCK = -88
const EINVAL = -22

/** A socket's kind. */
export interface SocketKind {
  /** One of `Domain`. */
  domain: number
  /** One of `SocketType`. */
  type: number
  /** Whether it listens. */
  listening: boolean
}

/** What `fd` is; undefined when it is no socket. */
export function socketKind(fd: number): SocketKind | undefined {
  try {
    const domain = socket.get(fd, SocketOption.Domain)
    const type = socket.get(fd, SocketOption.Type)
    return { domain, type, listening: socket.get(fd, SocketOption.Listening) === 1 }
  } catch (error) {
    if (!(error instanceof SystemError)) throw error
    if (error.errno === ENOTSOCK) return undefined
    throw new SystemError(error.errno, error.syscall, { path: `fd ${fd}` })
  }
}

/** Refuses a descriptor that is not of this kind, `what` in words. @throws SystemError `ENOTSOCK`, `EINVAL`. */
export function expectSocket(fd: number, what: string, fits: (kind: SocketKind) => boolean): void {
  const kind = socketKind(fd)
  if (kind !== undefined && fits(kind)) return
  const hint = `It is ${kind === undefined ? 'no socket' : describeKind(kind)}, and must be ${what}`
  throw new SystemError(kind === undefined ? ENOTSOCK : EINVAL, 'getsockopt', { path: `fd ${fd}`, hint })
}

/** For people: `a listening Unix stream socket`. */
export function describeKind({ domain, type, listening }: SocketKind): string {
  const family = nameOf(Domain, domain, 'address family')
  const article = listening ? 'a listening' : family.startsWith('Unix') ? 'a' : 'an'
  return `${article} ${family} ${nameOf(SocketType, type, 'type').toLowerCase()} socket`
}

function nameOf(names: Readonly<Record<string, number>>, value: number, what: string): string {
  const name = Object.entries(names).find(([, number]) => number === value)?.[0]
  return name?.replace('Ipv', 'IPv') ?? `${what} ${value}`
}
