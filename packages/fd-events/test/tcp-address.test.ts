import fc from 'fast-check'
import { isIP } from 'node:net'
import { expect, test } from 'vitest'
import { assertNoLeakedFds } from '../../core/test/support/fds.js'
import { decodeTcpAddress, encodeTcpAddress, showTcpAddress } from '../src/tcp-address.js'

assertNoLeakedFds()

const seed = Number(process.env['FD_REACTOR_SEED'] ?? 20261121)

test.each([
  ['127.0.0.1', 80, '127.0.0.1', '127.0.0.1:80'],
  ['::', 0, '::', '[::]:0'],
  ['::1', 65_535, '::1', '[::1]:65535'],
  ['2001:DB8:0:0:0:0:0:1', 1, '2001:db8::1', '[2001:db8::1]:1'],
  ['1:2:3:4:5:6:7:8', 1, '1:2:3:4:5:6:7:8', '[1:2:3:4:5:6:7:8]:1'],
  ['1::', 1, '1::', '[1::]:1'],
  ['::ffff:10.1.2.3', 1, '::ffff:10.1.2.3', '[::ffff:10.1.2.3]:1'],
  ['fe80::1%7', 1, 'fe80::1%7', '[fe80::1%7]:1'],
  ['fe80::1%lo', 1, 'fe80::1%1', '[fe80::1%1]:1'],
])('%s is encoded and shown as people know it', (host, port, same, text) => {
  const address = decodeTcpAddress(encodeTcpAddress({ host, port })) ?? expect.unreachable('nothing decoded')
  expect(address).toEqual({ host: same, port })
  expect(showTcpAddress(address)).toBe(text)
})

test('the bytes are those of sockaddr_in and sockaddr_in6', () => {
  expect([...encodeTcpAddress({ host: '10.1.2.3', port: 258 })]).toEqual([
    2, 0, 1, 2, 10, 1, 2, 3, 0, 0, 0, 0, 0, 0, 0, 0,
  ])
  const bytes = [...encodeTcpAddress({ host: 'fe80::a1b2%3', port: 258 })]
  expect(bytes.slice(0, 12)).toEqual([10, 0, 1, 2, 0, 0, 0, 0, 0xfe, 0x80, 0, 0])
  expect(bytes.slice(22)).toEqual([0xa1, 0xb2, 3, 0, 0, 0])
})

test('every address comes back the same', () => {
  const host = fc.oneof(fc.ipV4(), fc.ipV6())
  fc.assert(
    fc.property(host, fc.integer({ min: 0, max: 65_535 }), (given, port) => {
      const bytes = encodeTcpAddress({ host: given, port })
      const address = decodeTcpAddress(Buffer.from(bytes)) ?? expect.unreachable('nothing decoded')
      expect(isIP(address.host)).toBe(isIP(given))
      expect(encodeTcpAddress(address)).toEqual(bytes)
    }),
    { seed, numRuns: 500 },
  )
})

test('whatever the bytes are, decoding gives an address or nothing', () => {
  const numRuns = Number(process.env['FD_REACTOR_FUZZ'] ?? 5000)
  const family = fc.constantFrom([2, 0], [10, 0], [])
  fc.assert(
    fc.property(family, fc.uint8Array({ maxLength: 40 }), (start, rest) => {
      const address = decodeTcpAddress(Uint8Array.from([...start, ...rest]))
      if (address !== undefined) expect(isIP(address.host)).toBeGreaterThan(0)
    }),
    { seed, numRuns },
  )
}, 600_000)

test.each([
  [
    'localhost',
    1,
    "'localhost' is no IP address. To connect, names are looked up; to listen, give an address",
  ],
  ['256.1.1.1', 1, 'is no IP address'],
  ['fe80::1%no/such', 1, 'is no IP address'],
  ['fe80::1%..', 1, "There is no network interface '..'"],
  ['fe80::1%nosuch0', 1, "There is no network interface 'nosuch0'"],
  ['::1', 65_536, 'A port must be an integer from 0 to 65535, not 65536'],
  ['::1', 1.5, 'A port must be an integer'],
])('%s and port %d are refused with a message', (host, port, message) => {
  expect(() => encodeTcpAddress({ host, port })).toThrow(message)
})
