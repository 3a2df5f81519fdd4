/**
 * Random bytes, cut at random, against every decoder, and against what a few naive lines make of the whole.
 *
 * FD_REACTOR_FUZZ says how many inputs; FD_REACTOR_SEED repeats a run.
 */
import { delimited, fixed, lengthPrefixed, lines, type Codec, type LengthPrefix } from '@fd-reactor/fd-events'
import { expect, test } from 'vitest'
import { assertNoLeakedFds } from '../../core/test/support/fds.js'
import { errorCode } from './unix-helpers.js'

assertNoLeakedFds()

const seed = Number(process.env['FD_REACTOR_SEED'] ?? 20_261_121)
const inputs = Number(process.env['FD_REACTOR_FUZZ'] ?? 5000)

/** The frames that come, as Latin-1, and what ends them. */
interface Outcome {
  frames: string[]
  end: unknown
}

/** Numbers from 0 to `limit` − 1: xorshift. */
function randomNumbers(from: number): (limit: number) => number {
  let state = from >>> 0 || 1
  return (limit) => {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    return (state >>> 0) % limit
  }
}

/** A codec's decoder fed piece by piece, by somebody who leaves early, uses memory again, and keeps an eye on what is held. */
function decodeInPieces<Frame>(
  codec: Codec<Frame, never>,
  bytes: Buffer,
  overhead: number,
  random: (limit: number) => number,
): Outcome {
  const decoder = codec.decoder()
  const frames: string[] = []
  const take = (from: Iterator<Frame, undefined>, limit: number): void => {
    for (let count = 0; count < limit; count++) {
      const { value } = from.next()
      if (value === undefined) break
      frames.push(typeof value === 'string' ? value : Buffer.from(value as Buffer).toString('latin1'))
    }
  }
  try {
    for (let at = 0; at < bytes.length;) {
      const memory = Buffer.from(bytes.subarray(at, at + 1 + random(random(4) === 0 ? 64 : 6)))
      at += memory.length
      const unread = decoder.unread
      take(decoder.push(memory), random(3) === 0 ? random(4) : Infinity)
      decoder.own()
      memory.fill(0xee)
      if (decoder.buffered > codec.maxFrame + overhead + unread + memory.length)
        throw new Error('it holds too much')
    }
    take(decoder.end(), Infinity)
    if (decoder.buffered > 0) throw new Error('it holds something after the end')
    return { frames, end: 'end' }
  } catch (error) {
    return { frames, end: errorCode(error) ?? error }
  }
}

function naiveDelimited(bytes: Buffer, delimiter: Buffer, maxFrame: number): Outcome {
  const frames: string[] = []
  for (let at = 0; ;) {
    const found = bytes.indexOf(delimiter, at)
    if (found < 0) {
      const rest = bytes.subarray(at)
      let begun = Math.min(delimiter.length - 1, rest.length)
      while (rest.compare(delimiter, 0, begun, rest.length - begun) !== 0) begun--
      if (rest.length - begun > maxFrame) return { frames, end: 'ERR_FRAME_TOO_LARGE' }
      return { frames, end: rest.length > 0 ? 'ERR_FRAME_INCOMPLETE' : 'end' }
    }
    if (found - at > maxFrame) return { frames, end: 'ERR_FRAME_TOO_LARGE' }
    frames.push(bytes.toString('latin1', at, found))
    at = found + delimiter.length
  }
}

function naiveLines(bytes: Buffer, maxFrame: number): Outcome {
  const all = bytes.toString('latin1').split('\n')
  if (all.at(-1) === '') all.pop()
  const stripped = all.map((line) => line.replace(/\r$/, ''))
  const long = stripped.findIndex((line) => line.length > maxFrame)
  if (long < 0) return { frames: stripped, end: 'end' }
  return { frames: stripped.slice(0, long), end: 'ERR_FRAME_TOO_LARGE' }
}

function naiveFixed(bytes: Buffer, size: number): Outcome {
  const count = Math.floor(bytes.length / size)
  const frames = Array.from({ length: count }, (_, n) => bytes.toString('latin1', n * size, (n + 1) * size))
  return { frames, end: count * size < bytes.length ? 'ERR_FRAME_INCOMPLETE' : 'end' }
}

function naiveLengthPrefixed(
  bytes: Buffer,
  prefix: LengthPrefix,
  little: boolean,
  maxFrame: number,
): Outcome {
  const frames: string[] = []
  for (let at = 0; at < bytes.length;) {
    let header = 0
    if (prefix === 'varint') {
      while ((bytes[at + header++] ?? 0) > 0x7f)
        if (header === 10) return { frames, end: 'ERR_FRAME_INVALID' }
    } else header = prefix
    if (at + header > bytes.length) return { frames, end: 'ERR_FRAME_INCOMPLETE' }
    const digits = [...bytes.subarray(at, at + header)]
    if (prefix !== 'varint' && !little) digits.reverse()
    const [mask, base] = prefix === 'varint' ? [0x7f, 128] : [0xff, 256]
    const size = digits.reduceRight((value, digit) => value * base + (digit & mask), 0)
    if (size > maxFrame) return { frames, end: 'ERR_FRAME_TOO_LARGE' }
    at += header
    if (at + size > bytes.length) return { frames, end: 'ERR_FRAME_INCOMPLETE' }
    frames.push(bytes.toString('latin1', at, at + size))
    at += size
  }
  return { frames, end: 'end' }
}

type Fuzzed = [
  name: string,
  codec: Codec<Buffer | string, never>,
  overhead: number,
  naive: (bytes: Buffer) => Outcome,
  /** Which bytes most inputs are made of. */
  alphabet: string,
]

function fuzzedDelimited(delimiter: string, maxFrame: number): Fuzzed {
  const end = Buffer.from(delimiter, 'latin1')
  const naive = (bytes: Buffer): Outcome => naiveDelimited(bytes, end, maxFrame)
  return [
    `delimited ${JSON.stringify(delimiter)}`,
    delimited(end, { maxFrame }),
    end.length,
    naive,
    delimiter,
  ]
}

function fuzzedPrefix(prefix: LengthPrefix, byteOrder: 'big' | 'little', maxFrame: number): Fuzzed {
  const codec = lengthPrefixed(prefix === 'varint' ? { prefix, maxFrame } : { prefix, byteOrder, maxFrame })
  const naive = (bytes: Buffer): Outcome =>
    naiveLengthPrefixed(bytes, prefix, byteOrder === 'little', codec.maxFrame)
  const alphabet = prefix === 'varint' ? '\0\x01\x05\x81' + '\x80'.repeat(12) : '\0\0\0\x01\x02\x05'
  return [`lengthPrefixed ${prefix} ${byteOrder}`, codec, 0, naive, alphabet]
}

const subjects: Fuzzed[] = [
  ['lines', lines({ maxFrame: 8, encoding: 'latin1' }), 2, (bytes) => naiveLines(bytes, 8), 'ab\r\n'],
  [
    'lines, buffer',
    lines({ maxFrame: 30, encoding: 'buffer' }),
    2,
    (bytes) => naiveLines(bytes, 30),
    'a\r\n',
  ],
  ...([1, 2, 4] as const).flatMap((size) => [
    fuzzedPrefix(size, 'big', 200),
    fuzzedPrefix(size, 'little', 40),
  ]),
  fuzzedPrefix('varint', 'little', 300),
  ...[';', '\r\n', 'aab', 'abab', 'aaaa', 'abaababaabaab', '\xff\0'].map((end) => fuzzedDelimited(end, 9)),
  fuzzedDelimited('aabaa', 60),
  ...[1, 3, 50].map((size): Fuzzed => [
    `fixed ${size}`,
    fixed(size),
    0,
    (bytes) => naiveFixed(bytes, size),
    'abc',
  ]),
]

test(`${inputs} random inputs, seed ${seed}: every decoder gives what the whole bytes mean, and holds no more than it may`, () => {
  const random = randomNumbers(seed)
  const ends = new Map<unknown, number>()
  for (let input = 0; input < inputs; input++) {
    const subject = subjects[input % subjects.length]
    if (subject === undefined) break
    const [name, codec, overhead, naive, alphabet] = subject
    const noise = random(8) === 0
    const bytes = Buffer.allocUnsafe(random(random(10) === 0 ? 500 : 40))
    for (let n = 0; n < bytes.length; n++)
      bytes[n] = noise || random(12) === 0 ? random(256) : alphabet.charCodeAt(random(alphabet.length))
    const before = random(2 ** 31)
    const came = decodeInPieces(codec, bytes, overhead, randomNumbers(before))
    const meant = naive(bytes)
    ends.set(came.end, (ends.get(came.end) ?? 0) + 1)
    // Compared by hand: a million expectations would take minutes.
    if (came.end === meant.end && came.frames.length === meant.frames.length) {
      if (came.frames.every((frame, n) => frame === meant.frames[n])) continue
    }
    expect(came, `${name}, input ${input}: ${bytes.toString('hex')}, cut by ${before}`).toEqual(meant)
  }
  console.log(`framing-fuzz: ${JSON.stringify(Object.fromEntries(ends))}`)
  expect([...ends.keys()].sort()).toEqual([
    'ERR_FRAME_INCOMPLETE',
    'ERR_FRAME_INVALID',
    'ERR_FRAME_TOO_LARGE',
    'end',
  ])
}, 600_000)
