import fc from 'fast-check'
import { expect, test } from 'vitest'
import { assertNoLeakedFds } from '../../core/test/support/fds.js'
import {
  decodeUnixAddress,
  encodeUnixAddress,
  showUnixAddress,
  unnamedUnixAddress,
  type UnixAddress,
} from '../src/unix-address.js'

assertNoLeakedFds()

const seed = Number(process.env['FD_REACTOR_SEED'] ?? 20261121)

test('a path ends with a NUL, an abstract name begins with one, and both have their exact length', () => {
  expect([...encodeUnixAddress('/s', 'bind')]).toEqual([1, 0, 0x2f, 0x73, 0])
  expect([...encodeUnixAddress({ abstract: 'ab' }, 'bind')]).toEqual([1, 0, 0, 0x61, 0x62])
  expect([...encodeUnixAddress({ abstract: Uint8Array.of(0, 255) }, 'bind')]).toEqual([1, 0, 0, 0, 255])
  expect([...unnamedUnixAddress]).toEqual([1, 0])
})

test('what is encoded is decoded to the same', () => {
  const path = fc
    .string({ unit: 'binary', minLength: 1, maxLength: 26 })
    .filter((text) => !text.includes('\0'))
  const name = fc.oneof(path, fc.uint8Array({ minLength: 1, maxLength: 107 }))
  const address: fc.Arbitrary<UnixAddress> = fc.oneof(path, fc.record({ abstract: name }))
  fc.assert(
    fc.property(address, (given) => {
      const got = decodeUnixAddress(Buffer.from(encodeUnixAddress(given, 'bind')))
      if (typeof given === 'string') expect(got).toBe(given)
      else expect(bytesOf(got)).toEqual(Buffer.from(given.abstract))
    }),
    { seed, numRuns: 500 },
  )
})

test('whatever the bytes are, decoding gives an address or none', () => {
  const numRuns = Number(process.env['FD_REACTOR_FUZZ'] ?? 5000)
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 128 }), (bytes) => {
      const address = decodeUnixAddress(bytes)
      if (address === undefined) {
        expect(bytes.length).toBeLessThanOrEqual(2)
        return
      }
      expect(showUnixAddress(address).length).toBeLessThanOrEqual(bytes.length)
      if (typeof address === 'string') expect(address).not.toContain('\0')
      else expect(bytesOf(address).equals(bytes.subarray(3))).toBe(true)
    }),
    { seed, numRuns },
  )
}, 600_000)

test.each([
  [
    '',
    'The address of a Unix socket must be a path that is not empty and has no NUL in it, or { abstract: name }',
  ],
  ['a\0b', 'has no NUL in it'],
  [{ abstract: '' }, 'An abstract name must be a text that is not empty and has no NUL in it'],
  [{ abstract: '\0name' }, 'the leading one is added'],
  [{ abstract: new Uint8Array() }, 'An abstract name must be'],
])('%j is a TypeError that says why', (address, message) => {
  expect(() => encodeUnixAddress(address, 'bind')).toThrow(TypeError)
  expect(() => encodeUnixAddress(address, 'bind')).toThrow(message)
})

test.each([7, null, undefined, {}, { abstract: 7 }])(
  '%j, which no compiler would let through, is a TypeError',
  (address) => {
    expect(() => encodeUnixAddress(address as never, 'bind')).toThrow(TypeError)
  },
)

test('a name that is too long is explained, in bytes', () => {
  expect(encodeUnixAddress({ abstract: 'n'.repeat(107) }, 'bind')).toHaveLength(110)
  expect(() => encodeUnixAddress({ abstract: 'ä'.repeat(54) }, 'bind')).toThrow(
    /^ENAMETOOLONG: name too long, bind '@ä+'\. The name has 108 bytes, and an abstract name holds 107$/,
  )
})

function bytesOf(address: UnixAddress | undefined): Buffer {
  return typeof address === 'object' ? Buffer.from(address.abstract) : expect.unreachable('not abstract')
}
