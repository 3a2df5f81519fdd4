import type { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import type { TLSSocket } from 'node:tls'
import fc from 'fast-check'
import {
  delimited,
  fixed,
  frames,
  lengthPrefixed,
  lines,
  type ByteStream,
  type Codec,
  type FrameStream,
  type UnixStream,
} from '@fd-reactor/fd-events'
import { describe, expect, expectTypeOf, test } from 'vitest'
import { assertNoLeakedFds } from '../../core/test/support/fds.js'
import { thrownBy } from './unix-helpers.js'

assertNoLeakedFds()

const seed = Number(process.env['FD_REACTOR_SEED'] ?? 20_261_121)

/** The frames of `chunks`, as text, and of their end. */
function decode<Frame>(codec: Codec<Frame, never>, ...chunks: (string | Uint8Array)[]): string[] {
  const decoder = codec.decoder()
  const frames = chunks.flatMap((chunk) => [...decoder.push(Buffer.from(chunk))])
  return [...frames, ...decoder.end()].map(String)
}

/** What a user sees of the error that `action` throws. */
function said(action: () => unknown): string {
  const error = thrownBy(action)
  if (!(error instanceof Error)) throw new Error('no error was thrown')
  return `${'code' in error ? String(error.code) : error.name}: ${error.message}`
}

/** `bytes` in pieces of at most `size`. */
function* pieces(bytes: Uint8Array, size: number): Generator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size)
}

describe('lines', () => {
  test('end with \\n or \\r\\n, may be empty, and the last one need not end', () => {
    expect(decode(lines(), 'one\ntwo\r\n\n\r\nth', 'ree')).toEqual(['one', 'two', '', '', 'three'])
    expect(decode(lines(), 'one\n')).toEqual(['one'])
    expect(decode(lines())).toEqual([])
  })

  test('keep a \\r that is not before a \\n, wherever the chunks are cut', () => {
    expect(decode(lines(), 'a\rb\n')).toEqual(['a\rb'])
    expect(decode(lines(), 'a\r', '\nb\r', 'c\n', 'd\r')).toEqual(['a', 'b\rc', 'd'])
    expect(decode(lines(), 'a\r\r\n')).toEqual(['a\r'])
  })

  test('are decoded whole, so a character may lie in two chunks', () => {
    const bytes = Buffer.from('grüße, 世界 🌍\n')
    for (let cut = 0; cut <= bytes.length; cut++) {
      expect(decode(lines(), bytes.subarray(0, cut), bytes.subarray(cut))).toEqual(['grüße, 世界 🌍'])
    }
    expect(decode(lines({ encoding: 'latin1' }), Buffer.from('gr\xfc\xdfe\n', 'latin1'))).toEqual(['grüße'])
    expect(decode(lines(), Buffer.from([0x61, 0xff, 0x0a]))).toEqual(['a\ufffd'])
  })

  test('are Buffers on request', () => {
    const [line] = lines({ encoding: 'buffer' }).decoder().push(Buffer.from('a\xff\n', 'latin1'))
    expect(line).toEqual(Buffer.from([0x61, 0xff]))
  })

  test('are sent with \\n, and refused when they would come as something else', () => {
    expect(String(lines().encode('hello'))).toBe('hello\n')
    expect(lines({ encoding: 'latin1' }).encode('ü')).toEqual(Buffer.from([0xfc, 0x0a]))
    expect(said(() => lines().encode('one\ntwo'))).toBe(
      'ERR_FRAME_INVALID: A line with a newline in it would come as two. Send them one by one',
    )
    expect(said(() => lines().encode('one\r'))).toBe(
      "ERR_FRAME_INVALID: A line that ends with '\\r' would come without it. Leave it away",
    )
    // In Latin-1 only the low byte of a character is sent, and U+010A has that of a newline.
    expect(said(() => lines({ encoding: 'latin1' }).encode('\u010a'))).toContain('ERR_FRAME_INVALID')
  })

  test('the end of a line is not counted in maxFrame', () => {
    const codec = lines({ maxFrame: 3 })
    for (const text of ['abc\n', 'abc\r\n', 'abc', 'abc\r']) {
      for (let size = 1; size < 6; size++)
        expect(decode(codec, ...pieces(Buffer.from(text), size))).toEqual(['abc'])
    }
    expect(said(() => decode(codec, 'abcd\n'))).toContain('A frame has 4 bytes, and at most 3 are allowed')
    expect(said(() => decode(codec, 'abcd'))).toContain('A frame has 4 bytes, and at most 3 are allowed')
    expect(said(() => decode(codec, 'ab', 'cdefg'))).toContain('A frame has 7 bytes or more, and at most 3')
  })
})

describe('lengthPrefixed', () => {
  test.each([
    [{}, '00000002'],
    [{ byteOrder: 'little' }, '02000000'],
    [{ prefix: 2 }, '0002'],
    [{ prefix: 2, byteOrder: 'little' }, '0200'],
    [{ prefix: 1 }, '02'],
    [{ prefix: 'varint' }, '02'],
  ] as const)('%j puts %s before two bytes', (options, prefix) => {
    const encoded = lengthPrefixed(options).encode('hi')
    expect(Buffer.from(encoded).toString('hex')).toBe(`${prefix}6869`)
    expect(decode(lengthPrefixed(options), encoded)).toEqual(['hi'])
  })

  test.each([
    [127, '7f'],
    [128, '8001'],
    [300, 'ac02'],
    [16_384, '808001'],
    [2_097_152, '80808001'],
  ])('a varint of %i is %s', (size, hex) => {
    const codec = lengthPrefixed({ prefix: 'varint', maxFrame: 4 << 20 })
    const encoded = codec.encode(Buffer.alloc(size, 'x'))
    expect(Buffer.from(encoded.subarray(0, hex.length / 2)).toString('hex')).toBe(hex)
    expect(codec.decoder().push(encoded).next().value).toHaveLength(size)
  })

  test('a length of 32 bits is no negative number', () => {
    const codec = lengthPrefixed()
    expect(said(() => decode(codec, Buffer.from([0xff, 0xff, 0xff, 0xff])))).toBe(
      'ERR_FRAME_TOO_LARGE: A frame has 4294967295 bytes, and at most 1048576 are allowed. ' +
        'If such frames are right raise maxFrame; otherwise the two sides frame differently',
    )
  })

  test('a frame may be empty, also at the end of a chunk', () => {
    expect(decode(lengthPrefixed({ prefix: 1 }), Buffer.from([0]), Buffer.from([1, 0x61, 0, 0]))).toEqual([
      '',
      'a',
      '',
      '',
    ])
  })

  test('a varint may be longer than it need be, but not without end', () => {
    const codec = lengthPrefixed({ prefix: 'varint' })
    expect(
      decode(codec, Buffer.from([0x81, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0, 0x61])),
    ).toEqual(['a'])
    expect(said(() => decode(codec, Buffer.alloc(11, 0x80)))).toBe(
      'ERR_FRAME_INVALID: A length prefix goes on after 10 bytes. The two sides frame differently',
    )
    const huge = Buffer.from([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f])
    expect(said(() => decode(codec, huge))).toContain('ERR_FRAME_TOO_LARGE')
  })

  test('what its prefix cannot say is refused', () => {
    const codec = lengthPrefixed({ prefix: 1 })
    expect(codec.maxFrame).toBe(255)
    expect(said(() => codec.encode(Buffer.alloc(256)))).toContain(
      'A frame has 256 bytes, and at most 255 are',
    )
  })

  test('an end within a frame or its prefix is an error', () => {
    expect(said(() => decode(lengthPrefixed(), Buffer.from([0, 0, 0, 9, 1, 2])))).toBe(
      'ERR_FRAME_INCOMPLETE: The stream ended after 2 of the 9 bytes of a frame. ' +
        'The peer stopped in the middle of it, or the two sides frame differently',
    )
    expect(said(() => decode(lengthPrefixed(), Buffer.from([0, 0, 1])))).toContain(
      'The stream ended after 3 bytes of a length prefix.',
    )
    expect(said(() => decode(lengthPrefixed(), Buffer.from([0, 0, 0, 9])))).toContain(
      'after 0 of the 9 bytes',
    )
  })

  test('what a prefix announces is not allocated before it comes', () => {
    const decoder = lengthPrefixed({ maxFrame: 1 << 30 }).decoder()
    expect([...decoder.push(Buffer.from([0x40, 0, 0, 0, 1, 2, 3]))]).toEqual([])
    expect(decoder.buffered).toBe(3)
  })
})

describe('delimited', () => {
  test('takes any bytes for a delimiter, also where chunks cut it', () => {
    expect(decode(delimited('\r\n\r\n'), 'one\r\n\r', '\n\r\n\r\ntwo\r\nthree\r', '\n', '\r\n')).toEqual([
      'one',
      '',
      'two\r\nthree',
    ])
    expect(decode(delimited(Uint8Array.of(0)), 'a\0\0b\0')).toEqual(['a', '', 'b'])
    expect(decode(delimited('ü'), Buffer.from('aüb'), Buffer.from('ü'))).toEqual(['a', 'b'])
  })

  test('finds a delimiter that begins within the one that did not come', () => {
    expect(decode(delimited('aab'), 'aa', 'ab')).toEqual(['a'])
    expect(decode(delimited('abab'), 'aba', 'aba', 'b')).toEqual(['ab'.slice(0, 1) + 'ba'])
    expect(decode(delimited('aa'), 'aaa', 'a')).toEqual(['', ''])
  })

  test('a frame in which the delimiter is, or in which it would begin, is not sent', () => {
    expect(said(() => delimited(';').encode('a;b'))).toBe(
      'ERR_FRAME_INVALID: A frame with the delimiter in it would come as two. Escape it, or send frames with their length',
    )
    expect(said(() => delimited('aa').encode('ba'))).toContain('ERR_FRAME_INVALID')
  })

  test('a frame of maxFrame bytes is whole, one more is too large', () => {
    const codec = delimited('--', { maxFrame: 4 })
    for (let size = 1; size < 8; size++) {
      expect(decode(codec, ...pieces(Buffer.from('abcd---ab--'), size))).toEqual(['abcd', '-ab'])
    }
    expect(said(() => decode(codec, 'abcde--'))).toContain('A frame has 5 bytes, and at most 4 are allowed.')
    expect(said(() => decode(codec, 'abcd-e'))).toContain('A frame has 6 bytes or more, and at most 4')
  })

  test('an end without a delimiter is an error', () => {
    expect(said(() => decode(delimited(';'), 'a;bc'))).toBe(
      'ERR_FRAME_INCOMPLETE: The stream ended after 2 bytes of a frame. ' +
        'The peer stopped in the middle of it, or the two sides frame differently',
    )
  })
})

describe('fixed', () => {
  test('cuts records', () => {
    expect(decode(fixed(2), 'a', 'bc', 'def', 'ghij')).toEqual(['ab', 'cd', 'ef', 'gh', 'ij'])
  })

  test('an end within a record is an error, and so is another size', () => {
    expect(said(() => decode(fixed(4), 'abcdef'))).toContain(
      'ERR_FRAME_INCOMPLETE: The stream ended after 2 of the 4 bytes of a frame.',
    )
    expect(said(() => fixed(4).encode('abc'))).toBe(
      'ERR_FRAME_INVALID: fixed(4) sends frames of 4 bytes, not of 3. Fill the frame up',
    )
    expect(said(() => fixed(4).encode('abcde'))).toContain(
      'ERR_FRAME_TOO_LARGE: A frame has 5 bytes, and at most 4',
    )
  })
})

test('options that nobody can mean are refused', () => {
  const untyped = (value: unknown): never => value as never
  expect(said(() => lines(untyped({ maxframe: 1 })))).toBe(
    "ERR_UNKNOWN_OPTION: lines has no option 'maxframe'; did you mean 'maxFrame'?",
  )
  expect(said(() => lines(untyped({ encoding: 'utf16le' })))).toContain(
    'must be "utf8" or "latin1" or "buffer", not \'utf16le\'',
  )
  expect(said(() => lines({ maxFrame: 0 }))).toContain(
    "ERR_OUT_OF_RANGE: lines option 'maxFrame' must be an integer from 1 to 1073741824, not 0",
  )
  expect(said(() => lengthPrefixed({ prefix: untyped(3) }))).toContain(
    'must be 1 or 2 or 4 or "varint", not 3',
  )
  expect(said(() => lengthPrefixed({ prefix: 'varint', byteOrder: 'big' }))).toBe(
    "TypeError: lengthPrefixed option 'byteOrder' has no meaning with a varint, which has its own order",
  )
  expect(said(() => delimited(''))).toBe(
    'TypeError: delimited() takes a delimiter of at least one byte, a string or a Uint8Array',
  )
  expect(said(() => delimited(untyped(10)))).toContain('TypeError: delimited() takes a delimiter')
  expect(said(() => fixed(0))).toContain('fixed() size must be an integer from 1 to 1073741824, not 0')
  expect(said(() => lines().encode(untyped(7)))).toBe('TypeError: A frame must be a Uint8Array or a string')
  expect(said(() => lines().decoder().push(untyped('text')))).toBe('TypeError: push() takes a Uint8Array')
})

test('the compiler knows what a frame is', () => {
  expectTypeOf(lines()).toEqualTypeOf<Codec<string, Uint8Array | string>>()
  expectTypeOf(lines({ encoding: 'latin1', maxFrame: 9 })).toEqualTypeOf<Codec<string, Uint8Array | string>>()
  expectTypeOf(lines({ encoding: 'buffer' })).toEqualTypeOf<Codec<Buffer, Uint8Array | string>>()
  const streams = (plain: UnixStream, borrowed: UnixStream<true>, offsets: UnixStream<'offsets'>): void => {
    expectTypeOf(frames(plain, lines())).toEqualTypeOf<FrameStream<string, Uint8Array | string>>()
    frames(borrowed, fixed(4)).on('frame', (frame) => {
      expectTypeOf(frame).toEqualTypeOf<Buffer>()
    })
    // @ts-expect-error no such event
    frames(offsets, fixed(4)).on('data', () => undefined)
    // @ts-expect-error a frame is bytes or text
    frames(plain, fixed(4)).send(4)
    expectTypeOf<Socket>().toExtend<ByteStream>()
    expectTypeOf<TLSSocket>().toExtend<ByteStream>()
    expectTypeOf<Duplex>().toExtend<ByteStream>()
  }
  expectTypeOf(streams).toBeFunction()
})

describe('a decoder', () => {
  test('that failed, or was told the end, takes nothing more', () => {
    const failed = lines({ maxFrame: 2 }).decoder()
    const first = thrownBy(() => [...failed.push(Buffer.from('abcd'))])
    expect(thrownBy(() => failed.push(Buffer.from('a\n')))).toBe(first)
    expect(thrownBy(() => failed.end().next())).toBe(first)
    expect(failed.buffered).toBe(0)
    const ended = lines().decoder()
    ended.end()
    expect(said(() => ended.push(Buffer.from('a\n')))).toBe(
      'ERR_STREAM_ENDED: push() after end(): take a decoder for each stream',
    )
  })

  test('gives the frames before a bad one first', () => {
    const frames = lines({ maxFrame: 2 }).decoder().push(Buffer.from('a\nb\nlong\nc\n'))
    expect([frames.next().value, frames.next().value]).toEqual(['a', 'b'])
    expect(said(() => frames.next())).toContain('ERR_FRAME_TOO_LARGE')
  })

  test('that was left early goes on where it was', () => {
    const decoder = lines().decoder()
    for (const line of decoder.push(Buffer.from('a\nb\nc'))) {
      expect(line).toBe('a')
      break
    }
    expect(decoder.unread).toBe(3)
    expect([...decoder.push(Buffer.from('d\n'))]).toEqual(['b', 'cd'])
    expect([decoder.unread, decoder.buffered]).toEqual([0, 0])
  })

  test('makes a frame that lies in one chunk a part of it, and needs no chunk once all were taken', () => {
    const chunk = Buffer.from('abcdef')
    const decoder = fixed(4).decoder()
    const [whole] = [...decoder.push(chunk)]
    expect(whole?.buffer).toBe(chunk.buffer)
    chunk.fill('x')
    expect(String(whole)).toBe('xxxx')
    const [joined] = [...decoder.push(Buffer.from('gh'))]
    expect(String(joined)).toBe('efgh')
  })

  test('that owns what is left needs no chunk either', () => {
    const chunk = Buffer.from('abcdef')
    const decoder = fixed(2).decoder()
    const frames = decoder.push(chunk)
    frames.next()
    decoder.own()
    chunk.fill('x')
    expect([...frames].map(String)).toEqual(['cd', 'ef'])
  })

  test('takes the bytes of any Uint8Array', () => {
    const memory = new Uint8Array([1, 2, 3, 4, 5, 6])
    expect([...fixed(2).decoder().push(memory.subarray(1, 5))]).toEqual([
      Buffer.from([2, 3]),
      Buffer.from([4, 5]),
    ])
  })
})

describe('the work is linear in the bytes, whatever the chunks:', () => {
  const MUCH = 1 << 20
  const codecs: [string, Codec<Buffer | string, Uint8Array | string>][] = [
    ['lines', lines()],
    ['lengthPrefixed', lengthPrefixed()],
    ['delimited', delimited('\r\n\r\n')],
    ['delimited by what the frame nearly has', delimited('x'.repeat(200) + 'y')],
    ['fixed', fixed(MUCH)],
  ]
  test.each(codecs)('%s', (_name, codec) => {
    let copied = 0
    const encoded = codec.encode('x'.repeat(MUCH))
    const whole: (Buffer | string)[] = []
    const decoder = codec.decoder()
    // What is copied is counted on the way. (A spy would keep every call.)
    const typedArray: unknown = Object.getPrototypeOf(Uint8Array.prototype)
    if (!(typedArray instanceof Object)) throw new Error('typed arrays have no prototype')
    const set: (this: Uint8Array, from: ArrayLike<number>, at?: number) => void = Reflect.get(
      typedArray,
      'set',
    )
    Object.assign(typedArray, {
      set(this: Uint8Array, from: ArrayLike<number>, at?: number) {
        copied += from.length
        set.call(this, from, at)
      },
    })
    try {
      for (const chunk of pieces(encoded, 1)) for (const frame of decoder.push(chunk)) whole.push(frame)
    } finally {
      Object.assign(typedArray, { set })
    }
    expect(whole).toHaveLength(1)
    expect(whole[0]).toHaveLength(MUCH)
    // Each byte once, and once more, at most, when the memory doubles.
    expect(copied).toBeGreaterThanOrEqual(MUCH)
    expect(copied).toBeLessThanOrEqual(3 * encoded.length)
  })
})

describe('what is sent comes, however it is cut:', () => {
  const bytes = fc.uint8Array({ maxLength: 300 })
  const text = fc.string({ maxLength: 60, unit: 'binary' })
  const delimiters = [';', '\0', '\r\n', 'aab', 'abab', 'aa', '\xff\xfe', 'x'.repeat(40)]
  const few = fc.uint8Array({ maxLength: 12, max: 3 }).map((array) => array.map((value) => value + 0x61))
  const properties: [
    string,
    fc.Arbitrary<[Codec<Buffer | string, Uint8Array | string>, (Uint8Array | string)[]]>,
  ][] = [
    [
      'lines',
      fc.tuple(
        fc.constantFrom<Codec<Buffer | string, Uint8Array | string>>(lines(), lines({ encoding: 'buffer' })),
        fc.array(text.filter((line) => !/\n|\r$|\p{Surrogate}/u.test(line))),
      ),
    ],
    [
      'lengthPrefixed',
      fc.tuple(
        fc
          .tuple(fc.constantFrom(2 as const, 4 as const, 'varint' as const), fc.constantFrom('big', 'little'))
          .map(([prefix, byteOrder]) =>
            lengthPrefixed(prefix === 'varint' ? { prefix } : { prefix, byteOrder }),
          ),
        fc.array(bytes),
      ),
    ],
    [
      'lengthPrefixed by one byte',
      fc.tuple(fc.constant(lengthPrefixed({ prefix: 1 })), fc.array(fc.uint8Array({ maxLength: 255 }))),
    ],
    [
      'delimited',
      fc.tuple(fc.constantFrom(...delimiters), fc.array(fc.oneof(bytes, few))).map(([delimiter, frames]) => [
        delimited(delimiter),
        frames.filter((frame) => {
          const end = Buffer.from(delimiter)
          return Buffer.concat([frame, end]).indexOf(end) === frame.length
        }),
      ]),
    ],
    [
      'fixed',
      fc
        .tuple(fc.integer({ min: 1, max: 40 }), fc.array(bytes))
        .map(([size, frames]) => [
          fixed(size),
          frames.map((frame) => Buffer.concat([frame, Buffer.alloc(size)], size)),
        ]),
    ],
  ]
  test.each(properties)('%s', (_name, property) => {
    fc.assert(
      fc.property(
        property,
        fc.array(fc.integer({ min: 0, max: 40 }), { minLength: 1 }),
        ([codec, frames], cuts) => {
          const encoded = Buffer.concat(frames.map((frame) => codec.encode(frame)))
          const decoder = codec.decoder()
          const came: Buffer[] = []
          for (let at = 0, turn = 0; at < encoded.length; turn++) {
            const end = at + Math.max(cuts[turn % cuts.length] ?? 0, turn % 2)
            for (const frame of decoder.push(encoded.subarray(at, end))) came.push(Buffer.from(frame))
            expect(decoder.unread).toBe(0)
            at = end
          }
          for (const frame of decoder.end()) came.push(Buffer.from(frame))
          expect(came).toEqual(frames.map((frame) => Buffer.from(frame)))
        },
      ),
      { seed, numRuns: 200 },
    )
  })
})
