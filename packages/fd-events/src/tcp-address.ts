/**
 * Addresses of TCP sockets, and the sockaddr_in and sockaddr_in6 that the kernel knows them by. Pure but for the names of interfaces.
 *
 * Node checks the text (`isIP`), and its URL parser brings IPv6 into groups of hexadecimal digits and back into the shortest form.
 */
import { readFileSync } from 'node:fs'
import { isIP } from 'node:net'
import { endianness } from 'node:os'
import { Domain } from '@fd-reactor/core/sys'

/** One end of a TCP connection. */
export interface TcpAddress {
  /** An IPv4 or IPv6 address; a link-local one with its interface, as in `fe80::1%2`. */
  host: string
  /** From 0 to 65535; to a listener 0 means any free one. */
  port: number
}

/** A sockaddr has its family and scope in the order of the machine, and the rest in that of the network. */
const LITTLE_ENDIAN = endianness() === 'LE'
const IPV4_BYTES = 16
const IPV6_BYTES = 28
const MAPPED = /^0:0:0:0:0:ffff:([0-9a-f]+):([0-9a-f]+)$/

/** The address as the kernel wants it. @throws TypeError when `host` is no IP address; RangeError for a port that does not exist. */
export function encodeTcpAddress({ host, port }: TcpAddress): Uint8Array {
  if (!Number.isInteger(port) || port < 0 || port > 65_535) {
    throw new RangeError(`A port must be an integer from 0 to 65535, not ${String(port)}`)
  }
  const family = isIP(host)
  const bytes = new Uint8Array(family === 4 ? IPV4_BYTES : IPV6_BYTES)
  const view = new DataView(bytes.buffer)
  view.setUint16(0, family === 4 ? Domain.Ipv4 : Domain.Ipv6, LITTLE_ENDIAN)
  view.setUint16(2, port)
  if (family === 4) {
    bytes.set(host.split('.').map(Number), 4)
  } else if (family === 6) {
    const [address = '', zone] = host.split('%')
    groupsOf(address).forEach((group, index) => {
      view.setUint16(8 + 2 * index, group)
    })
    view.setUint32(24, zone === undefined ? 0 : interfaceIndex(zone), LITTLE_ENDIAN)
  } else {
    throw new TypeError(
      `'${host}' is no IP address. To connect, names are looked up; to listen, give an address`,
    )
  }
  return bytes
}

/** What the kernel said; undefined for an address of another family. */
export function decodeTcpAddress(bytes: Uint8Array): TcpAddress | undefined {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const family = bytes.length < 2 ? 0 : view.getUint16(0, LITTLE_ENDIAN)
  if (family === Domain.Ipv4 && bytes.length >= IPV4_BYTES) {
    return { host: bytes.subarray(4, 8).join('.'), port: view.getUint16(2) }
  }
  if (family !== Domain.Ipv6 || bytes.length < IPV6_BYTES) return undefined
  const groups = Array.from({ length: 8 }, (_, index) => view.getUint16(8 + 2 * index).toString(16)).join(':')
  const zone = view.getUint32(24, LITTLE_ENDIAN)
  return { host: zone === 0 ? shortest(groups) : `${shortest(groups)}%${zone}`, port: view.getUint16(2) }
}

/** For people, and as part of a URL: `127.0.0.1:80`, `[::1]:80`. */
export function showTcpAddress({ host, port }: TcpAddress): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`
}

/** The eight groups of an IPv6 address. */
function groupsOf(address: string): number[] {
  const [head = '', tail] = new URL(`http://[${address}]`).hostname.slice(1, -1).split('::')
  const before = head === '' ? [] : head.split(':')
  const after = tail === undefined || tail === '' ? [] : tail.split(':')
  const zeros = Array.from({ length: 8 - before.length - after.length }, () => '0')
  return [...before, ...zeros, ...after].map((group) => parseInt(group, 16))
}

function shortest(groups: string): string {
  const mapped = MAPPED.exec(groups)
  if (mapped === null) return new URL(`http://[${groups}]`).hostname.slice(1, -1)
  const ends = mapped.slice(1).map((group) => parseInt(group, 16))
  return `::ffff:${ends.flatMap((end) => [end >> 8, end & 255]).join('.')}`
}

function interfaceIndex(zone: string): number {
  if (/^\d+$/.test(zone)) return Number(zone)
  try {
    return Number(readFileSync(`/sys/class/net/${zone}/ifindex`, 'utf8'))
  } catch (cause) {
    throw new TypeError(`There is no network interface '${zone}'`, { cause })
  }
}
