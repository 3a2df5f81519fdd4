import { execFileSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { record, type RecordValue } from '@fd-reactor/fd-events'
import { describe, expect, expectTypeOf, test } from 'vitest'
import { runScript } from '../../core/test/support/child.js'
import { assertNoLeakedFds } from '../../core/test/support/fds.js'
import { assertNoMappings, compiled } from './cell-helpers.js'

assertNoLeakedFds()
assertNoMappings()

const Pose = record({
  i8: 'i8',
  f64: 'f64',
  u8: 'u8',
  i16: 'i16',
  u16: ['u16', 3],
  f32: 'f32',
  i32: 'i32',
  u64: 'u64',
  u32: 'u32',
  i64: 'i64',
  axes: ['f64', 2],
  halves: 'u64-halves',
  big: ['u64-bigint', 2],
  tail: 'u8',
})

describe('layout', () => {
  test('the fields lie where C puts them, and C reads and writes the same values', () => {
    const program = compiled(fileURLToPath(new URL('fixtures/pose.c', import.meta.url)))
    const bytes = Uint8Array.from(execFileSync(program))
    expect(bytes.length).toBe(Pose.size)
    const pose = Pose.view(bytes.buffer)
    const { i8, f64, u8, i16, f32, i32, u64, u32, i64, tail } = pose
    expect([i8, f64, u8, i16, f32, i32]).toEqual([-1, 0.5, 200, -300, 1.5, -70_000])
    expect([u64, u32, i64, tail]).toEqual([2 ** 40, 4e9, -(2 ** 40), 9])
    expect([...pose.u16]).toEqual([1, 2, 65_535])
    expect([...pose.axes]).toEqual([0.25, -8])
    expect([...pose.halves]).toEqual([0x55667788, 0x11223344])
    expect([...pose.big]).toEqual([1n, 2n ** 64n - 1n])

    const ours = new ArrayBuffer(Pose.size)
    const copy = Pose.view(ours)
    Object.assign(copy, { i8, f64, u8, i16, f32, i32, u64, u32, i64, tail })
    copy.u16.set(pose.u16)
    copy.axes.set(pose.axes)
    copy.halves.set(pose.halves)
    copy.big.set(pose.big)
    for (const { name, offset, length, type } of Pose.fields) {
      const size = (Number(type.slice(1)) / 8) * length
      expect(new Uint8Array(ours, offset, size), name).toEqual(bytes.subarray(offset, offset + size))
    }
  })

  test('the description and the hash are those of the memory, not of how JavaScript sees it', () => {
    const one = record({ a: 'i32', b: ['f64', 2], c: 'u64' })
    const other = record({ a: 'i32', b: ['f64', 2], c: 'u64-bigint' })
    expect(one.description).toBe('a:i32@0 b:f64[2]@8 c:u64@24 size:32')
    expect(one.hash).toBe(other.hash)
    expect(record({ a: 'i32', b: ['f64', 2], d: 'u64' }).hash).not.toBe(one.hash)
    expect(record({ a: 'u8' }).hash).toBe(BigInt.asUintN(64, fnv1a('a:u8@0 size:1')))
  })

  test('any name that C has works, those of our own views included', () => {
    const value = record({
      Float64Array: ['u8', 2],
      x: 'f64',
      get: 'i8',
      set: 'i8',
      static: 'u8',
      class: 'u8',
    }).view(new ArrayBuffer(64))
    value.x = 1.5
    value.class = 3
    value.get = 4
    value.Float64Array[1] = 2
    expect([value.x, value.class, value.get, value.set, value.static, value.Float64Array[1]]).toEqual([
      1.5, 3, 4, 0, 0, 2,
    ])
  })
})

describe('values', () => {
  test('u64 and i64 are numbers up to 2^53 − 1, and refuse what is beyond', () => {
    const Wide = record({ u: 'u64', i: 'i64', ub: 'u64-bigint', ib: 'i64-bigint' })
    const buffer = new ArrayBuffer(Wide.size)
    const wide = Wide.view(buffer)
    const big = new BigInt64Array(buffer)
    for (const value of [0, 1, 2 ** 31, 2 ** 32 - 1, 2 ** 32, 2 ** 52 + 3, Number.MAX_SAFE_INTEGER]) {
      wide.u = value
      wide.i = -value
      expect([wide.u, big[0], wide.i, big[1]]).toEqual([value, BigInt(value), 0 - value, -BigInt(value)])
      wide.i = value
      expect(wide.i).toBe(value)
    }
    const message = (name: string, low: number, value: string): string =>
      `Field '${name}' holds whole numbers from ${low} to 9007199254740991, not ${value}. ` +
      `Declare it as '${name === 'u' ? 'u64' : 'i64'}-bigint' for others`
    for (const value of [-1, 0.5, NaN, Infinity, 2 ** 53])
      expect(() => (wide.u = value)).toThrow(new RangeError(message('u', 0, String(value))))
    expect(() => (wide.i = -(2 ** 53))).toThrow(
      new RangeError(message('i', Number.MIN_SAFE_INTEGER, '-9007199254740992')),
    )
    big[0] = -1n
    expect(() => wide.u).toThrow(new RangeError(message('u', 0, '18446744073709552000')))
    wide.ub = 2n ** 64n - 1n
    wide.ib = -5n
    expect([wide.ub, wide.ib]).toEqual([2n ** 64n - 1n, -5n])
  })

  test('types follow from the literal', () => {
    const pose = Pose.view(new ArrayBuffer(Pose.size))
    expectTypeOf(pose.f64).toEqualTypeOf<number>()
    expectTypeOf(pose.u64).toEqualTypeOf<number>()
    expectTypeOf(pose.axes).toEqualTypeOf<Float64Array>()
    expectTypeOf(pose.halves).toEqualTypeOf<Uint32Array>()
    expectTypeOf(pose.big).toEqualTypeOf<BigUint64Array>()
    expectTypeOf<RecordValue<{ a: 'i64-bigint' }>['a']>().toEqualTypeOf<bigint>()
    // @ts-expect-error -- no such field
    expect(pose.nothing).toBeUndefined()
    // @ts-expect-error -- arrays are views: they cannot be replaced
    expect(() => (pose.axes = new Float64Array(2))).toThrow(TypeError)
  })

  test('accessors do not allocate', async () => {
    const script = `
      const Pose = events.record({ f64: 'f64', i32: 'i32', u64: 'u64', axes: ['f64', 6], halves: 'u64-halves' })
      const pose = Pose.view(new ArrayBuffer(Pose.size))
      const sum = new Float64Array(1)
      function step(i) {
        pose.f64 = i + 0.5; pose.i32 = i; pose.u64 = i * 2 ** 20; pose.axes[3] = i / 3; pose.halves[1] = i
        sum[0] += pose.f64 + pose.i32 + pose.u64 + pose.axes[3] + pose.halves[1]
      }
      function use(count) {
        for (let i = 0; i < count; i++) step(i)
      }
      for (let i = 0; i < 20; i++) use(100_000)
      gc()
      const before = process.memoryUsage().heapUsed
      use(1_000_000)
      console.log(process.memoryUsage().heapUsed - before)`
    // Were something allocated, it would not be collected in between: the young generation has room for all of it.
    const { stdout, stderr } = await runScript(script, {
      execArgv: ['--expose-gc', '--max-semi-space-size=512', '--min-semi-space-size=512'],
    })
    expect(stderr).toBe('')
    expect(Number(stdout)).toBeLessThan(200_000)
  })
})

describe('refusals', () => {
  test.each([
    [{}, 'A record has at least one field'],
    [
      { 'a b': 'f64' },
      `A field's name is a C identifier, does not begin with '__' and is not 'constructor', unlike "a b"`,
    ],
    [
      { constructor: 'f64' },
      `A field's name is a C identifier, does not begin with '__' and is not 'constructor', unlike "constructor"`,
    ],
    [
      { ['__proto__']: 'f64' },
      `A field's name is a C identifier, does not begin with '__' and is not 'constructor', unlike "__proto__"`,
    ],
    [{ a: ['f64', 0] }, `The length of field 'a' must be an integer from 1 to 1048576, not 0`],
    [{ a: ['f64', 131_073] }, 'A record has at most 1048576 bytes, not 1048584: share a ring instead'],
  ])('%j', (fields, message) => {
    expect(() => record(Object.fromEntries(Object.entries(fields)) as never)).toThrow(message)
  })

  test.each([['f65'], [7], [null], [['u64', 2]]])('the type %j', (type) => {
    const types = `"f64" or "f32" or "i32" or "u32" or "i16" or "u16" or "i8" or "u8" or`
    expect(() => record({ a: type } as never)).toThrow(`The type of field 'a' must be ${types}`)
  })

  test('a record that is not within its buffer, or not aligned', () => {
    const Two = record({ a: 'f64', b: 'u8' })
    expect(() => Two.view(new ArrayBuffer(15))).toThrow(
      new RangeError('A record of 16 bytes is not within 15 bytes'),
    )
    expect(() => Two.view(new ArrayBuffer(32), 4)).toThrow(
      new RangeError('The offset of a record must be a multiple of 8, not 4'),
    )
    expect(() => Two.view(new ArrayBuffer(32), 24)).toThrow(
      'The offset of a record must be an integer from 0 to 16, not 24',
    )
  })
})

function fnv1a(text: string): bigint {
  return [...Buffer.from(text)].reduce(
    (hash, byte) => ((hash ^ BigInt(byte)) * 1_099_511_628_211n) % 2n ** 64n,
    14_695_981_039_346_656_037n,
  )
}
