/**
 * Addresses of Unix sockets, and the sockaddr_un that the kernel knows them by. Pure: nothing is looked up.
 *
 * A name is abstract when its first byte is NUL: then every byte up to the given length counts, so the length is exact. A path
 * ends at a NUL instead. A sockaddr without a name stands for an unnamed socket, and asks bind(2) to choose an abstract name.
 */
import { Buffer } from 'node:buffer'
import { SystemError } from '@fd-reactor/core'
import { Domain } from '@fd-reactor/core/sys'

/**
 * Where a Unix socket is: a path, or a name in the abstract namespace. Abstract names have no file and therefore no permissions:
 * anybody in the same network namespace may connect, or take the name first. See the `allow` option of listeners.
 */
export type UnixAddress = string | AbstractName

/** A name in the abstract namespace: text, or up to 107 bytes of any value. */
export interface AbstractName {
  /** Without the leading NUL, which is added. */
  abstract: string | Uint8Array
}

const FAMILY_BYTES = 2
/** `sun_path` has 108 bytes, of which one is the NUL that ends a path, or the one that begins an abstract name. */
const MAX_NAME_BYTES = 107
const ENAMETOOLONG = -36
const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

/** The sockaddr of no name: binding to it makes the kernel choose an abstract one. */
export const unnamedUnixAddress: Uint8Array = new Uint8Array(new Uint16Array([Domain.Unix]).buffer)

/** The address as the kernel wants it. @throws SystemError `ENAMETOOLONG`; TypeError for what is no address, or has a NUL in it. */
export function encodeUnixAddress(address: UnixAddress, syscall: string): Uint8Array {
  const isAbstract = typeof address === 'object' && (address as unknown) !== null
  const name = isAbstract ? abstractBytes(address) : pathBytes(address)
  if (name.length > MAX_NAME_BYTES) {
    const hint = isAbstract
      ? `The name has ${name.length} bytes, and an abstract name holds ${MAX_NAME_BYTES}`
      : `The path has ${name.length} bytes, and sun_path holds ${MAX_NAME_BYTES}: use a shorter folder, or a path relative to the working directory`
    throw new SystemError(ENAMETOOLONG, syscall, { path: showUnixAddress(address), hint })
  }
  // One more byte in both cases: the NUL before an abstract name, or the one behind a path.
  const bytes = new Uint8Array(FAMILY_BYTES + name.length + 1)
  bytes.set(unnamedUnixAddress)
  bytes.set(name, FAMILY_BYTES + (isAbstract ? 1 : 0))
  return bytes
}

/** What the kernel said; undefined for an unnamed socket. An abstract name that is no UTF-8 text comes as bytes. */
export function decodeUnixAddress(bytes: Uint8Array): UnixAddress | undefined {
  const name = bytes.subarray(FAMILY_BYTES)
  if (name.length === 0) return undefined
  if (name[0] !== 0) {
    const end = name.indexOf(0)
    return Buffer.from(end < 0 ? name : name.subarray(0, end)).toString()
  }
  const rest = Uint8Array.from(name.subarray(1)) // a copy, whatever `bytes` is a view of
  if (rest.includes(0)) return { abstract: rest }
  try {
    return { abstract: utf8.decode(rest) }
  } catch {
    return { abstract: rest }
  }
}

/** For people: a path as it is, an abstract name after an `@`, as ss(8) shows it. */
export function showUnixAddress(address: UnixAddress): string {
  if (typeof address === 'string') return address
  const { abstract } = address
  return `@${typeof abstract === 'string' ? abstract : Buffer.from(abstract).toString('latin1')}`
}

function pathBytes(path: unknown): Uint8Array {
  if (typeof path === 'string' && path !== '' && !path.includes('\0')) return Buffer.from(path)
  throw new TypeError(
    'The address of a Unix socket must be a path that is not empty and has no NUL in it, or { abstract: name }',
  )
}

function abstractBytes({ abstract }: AbstractName): Uint8Array {
  // A text with a NUL is somebody's habit of writing '\0name'; who really wants one passes bytes.
  if (typeof abstract === 'string' && !abstract.includes('\0') && abstract !== '')
    return Buffer.from(abstract)
  if (abstract instanceof Uint8Array && abstract.length > 0) return abstract
  throw new TypeError(
    'An abstract name must be a text that is not empty and has no NUL in it (the leading one is added), or bytes',
  )
}
