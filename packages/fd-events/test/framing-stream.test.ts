import { spawn, type ChildProcess } from 'node:child_process'
import type { FdHandle, Reactor } from '@fd-reactor/core'
import {
  delimited,
  fixed,
  frames,
  lengthPrefixed,
  lines,
  UnixListener,
  UnixStream,
  type Borrow,
  type FrameStream,
  type UnixStreamOptions,
} from '@fd-reactor/fd-events'
import fc from 'fast-check'
import { describe, expect, onTestFinished, test } from 'vitest'
import { assertNoLeakedFds } from '../../core/test/support/fds.js'
import { openManual, openReactor, settle, socketPath, streamPair } from '../../core/test/support/reactors.js'
import { until, within } from '../../core/test/support/wait.js'
import { needs } from './message-helpers.js'
import { netClient, pair, quiet, rawClient, readNow, thrownBy, writeAll } from './unix-helpers.js'

assertNoLeakedFds()

/** A stream of a manual reactor and its raw peer. Errors of handlers are noted, instead of ending the process. */
function manualPair<B extends Borrow = false>(options: UnixStreamOptions<B> = {}) {
  const errors: unknown[] = []
  const reactor = openManual({ onHandlerError: (error) => errors.push(error) })
  const listener = UnixListener.listen(reactor, socketPath(), options)
  let stream: UnixStream<B> | undefined
  listener.on('connection', (accepted) => (stream = accepted))
  const peer = rawClient(listener.path)
  settle(reactor)
  listener.close()
  if (stream === undefined) throw new Error('no connection was accepted')
  return { reactor, stream, peer, errors }
}

/** Everything that a stream of frames tells, as text. */
function record<Frame>(of: FrameStream<Frame, never>): string[] {
  const told: string[] = []
  of.on('frame', (frame) => told.push(String(frame)))
  of.on('end', () => told.push('<end>'))
  of.on('error', (error) => told.push(`<${'code' in error ? String(error.code) : error.message}>`))
  of.on('close', () => told.push('<close>'))
  return told
}

/** Lets the reactor do what there is to do, and what that defers: a turn that only does deferred work counts no record. */
function run(reactor: Reactor): void {
  for (let rounds = 0; rounds < 4; rounds++) settle(reactor)
}

/** Writes, and lets the reactor do what there is to do. */
function say(reactor: Reactor, peer: FdHandle, text: string): void {
  writeAll(peer, text)
  run(reactor)
}

test('a stream that has ended before is one without frames', async () => {
  const reactor = openManual()
  const [stream, peer] = await streamPair(reactor, { allowHalfOpen: true })
  stream.on('data', () => undefined)
  peer.end()
  settle(reactor)
  expect([stream.readableEnded, stream.closed]).toEqual([true, false])
  const framed = frames(stream, lines())
  for await (const line of framed) expect.unreachable(line)
  const told = record(frames(stream, lines()))
  settle(reactor)
  await until(() => told.length > 0)
  expect(told).toEqual(['<end>'])
})

describe("listeners of 'frame'", () => {
  test('get what comes, and what is sent comes at the other side', async () => {
    const reactor = openManual()
    const [server, client] = await streamPair(reactor)
    const codec = lengthPrefixed({ prefix: 'varint' })
    const served = frames(server, codec)
    const asked = frames(client, codec)
    served.on('frame', (frame) => served.send(`${String(frame)}!`))
    const told = record(asked)
    expect(asked.send('one')).toBe(true)
    asked.send('')
    asked.send('x'.repeat(300))
    run(reactor)
    expect(told).toEqual(['one!', '!', `${'x'.repeat(300)}!`])
    asked.end()
    run(reactor)
    expect(told.slice(3)).toEqual(['<end>', '<close>'])
  })

  test('nothing is read before there is one, nor after the last is gone', () => {
    const { reactor, stream, peer } = manualPair()
    const framed = frames(stream, lines())
    say(reactor, peer, 'a\nb\n')
    expect(stream.bytesRead).toBe(0)
    const seen: string[] = []
    framed.once('frame', (line) => seen.push(line))
    run(reactor)
    expect(seen).toEqual(['a'])
    say(reactor, peer, 'c\n')
    expect(stream.bytesRead).toBe(4)
    const listener = (line: string): void => void seen.push(line)
    framed.on('frame', listener)
    run(reactor)
    expect(seen).toEqual(['a', 'b', 'c'])
    framed.off('frame', listener)
    say(reactor, peer, 'd\n')
    expect([seen.length, stream.bytesRead]).toEqual([3, 6])
  })

  test('a pause holds back the rest of the chunk, and resume() brings it in order', () => {
    const { reactor, stream, peer } = manualPair()
    const framed = frames(stream, lines())
    const told = record(framed)
    framed.on('frame', (line) => {
      if (line.startsWith('stop')) framed.pause()
    })
    say(reactor, peer, 'a\nstop 1\nb\nstop 2\nc\nd')
    expect(told).toEqual(['a', 'stop 1'])
    say(reactor, peer, 'e\n')
    framed.resume()
    expect(told).toHaveLength(2) // not within the call
    run(reactor)
    expect(told).toEqual(['a', 'stop 1', 'b', 'stop 2'])
    framed.pause().resume()
    run(reactor)
    expect(told.slice(4)).toEqual(['c', 'de'])
  })

  test('a handler that pauses and resumes at once keeps the order', () => {
    const { reactor, stream, peer } = manualPair()
    const framed = frames(stream, lines())
    const told = record(framed)
    framed.on('frame', () => framed.pause().resume())
    say(reactor, peer, 'a\nb\nc\n')
    expect(told).toEqual(['a', 'b', 'c'])
  })

  test('a handler that closes gets nothing more', () => {
    for (const close of [
      (framed: FrameStream<string, string>) => {
        framed.close()
      },
      ({ stream }: FrameStream<string, string>) => void stream.destroy(),
    ]) {
      const { reactor, stream, peer } = manualPair()
      const framed = frames(stream, lines())
      const told = record(framed)
      framed.once('frame', () => {
        close(framed)
      })
      say(reactor, peer, 'a\nb\nc\n')
      expect(told).toEqual(['a', '<close>'])
      expect([framed.closed, stream.closed]).toEqual([true, true])
      framed.close()
      expect(thrownBy(() => framed.send('x'))).toMatchObject({ code: 'ERR_CLOSED' })
    }
  })

  test('a handler that throws costs none of the others, whose turn comes soon', () => {
    const { reactor, stream, peer, errors } = manualPair()
    const framed = frames(stream, lines())
    const told = record(framed)
    framed.on('frame', (line) => {
      if (line.startsWith('bad')) throw new Error(line)
    })
    say(reactor, peer, 'a\nbad 1\nbad 2\nb\n')
    expect(told).toEqual(['a', 'bad 1', 'bad 2', 'b'])
    expect(errors.map(String)).toEqual(['Error: bad 1', 'Error: bad 2'])
    say(reactor, peer, 'c\n')
    expect(told.at(-1)).toBe('c')
  })

  test('a last line that was held back comes before the end and the close', () => {
    const { reactor, stream, peer } = manualPair()
    const framed = frames(stream, lines())
    const told = record(framed)
    framed.on('frame', () => framed.pause())
    writeAll(peer, 'a\nb')
    peer.close()
    run(reactor)
    expect(told).toEqual(['a'])
    framed.resume()
    run(reactor)
    // Its handler paused once more: the end waits, although the stream has closed.
    expect(told).toEqual(['a', 'b'])
    expect([stream.closed, framed.closed]).toEqual([true, false])
    framed.resume()
    run(reactor)
    expect(told).toEqual(['a', 'b', '<end>', '<close>'])
  })

  test('what was held back after the end is dropped by close()', () => {
    const { reactor, stream, peer } = manualPair()
    const framed = frames(stream, lines())
    const told = record(framed)
    framed.on('frame', () => framed.pause())
    writeAll(peer, 'a')
    peer.close()
    run(reactor)
    framed.close()
    framed.resume()
    run(reactor)
    expect(told).toEqual(['a', '<close>'])
  })

  test('a handler of the last line that closes the stream hears of no end', () => {
    const { reactor, stream, peer } = manualPair()
    const framed = frames(stream, lines())
    const told = record(framed)
    framed.on('frame', () => {
      stream.close()
    })
    writeAll(peer, 'a')
    peer.close()
    run(reactor)
    expect(told).toEqual(['a', '<close>'])
  })

  test('who resumes the stream behind our back is given one chunk, and nothing is lost', () => {
    const { reactor, stream, peer } = manualPair()
    const framed = frames(stream, lines())
    const told = record(framed)
    framed.pause()
    stream.resume()
    say(reactor, peer, 'a\nb')
    expect([told, stream.paused]).toEqual([[], true])
    stream.resume()
    say(reactor, peer, '\nc\n')
    expect([told, stream.paused]).toEqual([[], true])
    framed.resume()
    run(reactor)
    expect(told).toEqual(['a', 'b', 'c'])
  })

  test('send() is false beyond the mark, and drain follows', async () => {
    const reactor = openManual()
    const [server, client] = await streamPair(reactor)
    const framed = frames(client, fixed(1 << 20))
    let drained = 0
    framed.on('drain', () => drained++)
    expect(framed.send(Buffer.alloc(1 << 20))).toBe(false)
    run(reactor)
    expect(drained).toBe(0)
    server.on('data', () => undefined)
    run(reactor)
    expect(drained).toBe(1)
  })
})

describe('a stream that borrows', () => {
  test.each([true, 'offsets'] as const)(
    '(%j) loses nothing to what overwrites its memory',
    async (borrow) => {
      const { reactor, stream, peer } = manualPair({ borrow })
      const framed = frames(stream, delimited(';'))
      const told = record(framed)
      framed.on('frame', (frame) => {
        if (String(frame) === 'stop') framed.pause()
      })
      say(reactor, peer, 'a;stop;b;hal')
      // Another one's bytes take the place of ours in the slab.
      const [other, far] = await streamPair(reactor)
      other.on('data', () => undefined)
      far.write('#'.repeat(40))
      run(reactor)
      framed.resume()
      say(reactor, peer, 'f;')
      expect(told).toEqual(['a', 'stop', 'b', 'half'])
    },
  )

  test('gives a loop frames that may be kept', async () => {
    const reactor = openReactor()
    const [stream, peer] = await pair(reactor, { borrow: true })
    const framed = frames(stream, fixed(2))
    writeAll(peer, 'abcdefg')
    const kept: Buffer[] = []
    for await (const frame of framed) {
      kept.push(frame)
      if (kept.length === 1) writeAll(peer, 'hij')
      if (kept.length === 5) break
    }
    expect(kept.map(String)).toEqual(['ab', 'cd', 'ef', 'gh', 'ij'])
  })
})

test('a frame that lies in one chunk is a part of it', () => {
  const { reactor, stream, peer } = manualPair()
  const memory: ArrayBufferLike[] = []
  stream.on('data', (chunk) => memory.push(chunk.buffer))
  frames(stream, lengthPrefixed({ prefix: 1 })).on('frame', (frame) => memory.push(frame.buffer))
  say(reactor, peer, '\x03abc\x02de')
  expect(memory).toHaveLength(3)
  expect(new Set(memory).size).toBe(1)
})

describe('what is no frame', () => {
  test('too large: those before it come, then the error, which says what to do, and the stream is closed', () => {
    const { reactor, stream, peer } = manualPair()
    const framed = frames(stream, lines({ maxFrame: 10 }))
    const told = record(framed)
    let message = ''
    framed.on('error', (error) => {
      message = error.message
      framed.send('too long')
    })
    say(reactor, peer, 'one\ntwo\nthis is far too long\nthree\n')
    expect(told).toEqual(['one', 'two', '<ERR_FRAME_TOO_LARGE>', '<close>'])
    expect(message).toBe(
      'A frame has 20 bytes, and at most 10 are allowed. ' +
        'If such frames are right raise maxFrame; otherwise the two sides frame differently',
    )
    expect(stream.closed).toBe(true)
    expect(String(readNow(peer))).toBe('too long\n') // what an error handler says still leaves
  })

  test('an end in the middle of a frame is an error and no end', () => {
    const { reactor, stream, peer } = manualPair()
    const told = record(frames(stream, lengthPrefixed({ prefix: 1 })))
    writeAll(peer, '\x01a\x05bc')
    peer.close()
    run(reactor)
    expect(told).toEqual(['a', '<ERR_FRAME_INCOMPLETE>', '<close>'])
  })

  test('without a listener the error is thrown, and the stream is closed all the same', () => {
    const { reactor, stream, peer, errors } = manualPair()
    frames(stream, lines({ maxFrame: 3 })).on('frame', () => undefined)
    say(reactor, peer, 'long\n')
    expect(errors).toMatchObject([{ code: 'ERR_FRAME_TOO_LARGE' }])
    expect(stream.closed).toBe(true)
  })

  test('what cannot be sent is thrown by send(), and the stream goes on', async () => {
    const reactor = openManual()
    const [server, client] = await streamPair(reactor)
    const told = record(frames(server, lines()))
    const framed = frames(client, lines({ maxFrame: 5 }))
    expect(() => framed.send('toolong')).toThrow('A frame has 7 bytes, and at most 5 are allowed.')
    expect(() => framed.send('a\nb')).toThrow('A line with a newline in it would come as two')
    framed.send('short')
    run(reactor)
    expect(told).toEqual(['short'])
  })

  test('a peer that sends without end is held to maxFrame and a chunk', () => {
    const { reactor, stream, peer } = manualPair()
    const told = record(frames(stream, lines({ maxFrame: 1 << 20 })))
    const part = Buffer.alloc(64 << 10, 'x')
    while (!stream.closed) {
      writeAll(peer, part)
      reactor.dispatch()
    }
    expect(told).toEqual(['<ERR_FRAME_TOO_LARGE>', '<close>'])
    expect(stream.bytesRead).toBeLessThanOrEqual((1 << 20) + (256 << 10))
  })
})

test("the stream's errors come as errors of the frames", () => {
  const { reactor, stream, peer } = manualPair()
  const framed = frames(stream, lines())
  const told = record(framed)
  framed.pause()
  peer.close()
  framed.send('nobody reads this')
  run(reactor)
  expect(told).toEqual(['<EPIPE>', '<close>'])
})

test('a stream that is closed already gives nothing', async () => {
  const { stream } = manualPair()
  stream.close()
  const framed = frames(stream, lines())
  expect(framed.closed).toBe(true)
  for await (const line of framed) expect.unreachable(line)
})

describe('for await', () => {
  test('takes its time: while it does the stream is not read, and nothing is lost', async () => {
    const reactor = openReactor()
    const [stream, peer] = await pair(reactor)
    const much = Buffer.from(Array.from({ length: 100_000 }, (_, n) => `${n}\n`).join(''))
    let sent = writeAll(peer, much)
    let expected = 0
    let largest = 0
    for await (const line of frames(stream, lines())) {
      if (Number(line) !== expected++) expect.unreachable(`${line} came after ${expected - 2}`)
      if (expected % 1000 !== 0 || sent === much.length) continue
      const before = stream.bytesRead
      sent += writeAll(peer, much.subarray(sent))
      if (sent === much.length) peer.close()
      await quiet()
      // At most one chunk: when this line was the last of the one before.
      largest = Math.max(largest, stream.bytesRead - before)
    }
    expect([expected, sent, stream.closed]).toEqual([100_000, much.length, true])
    expect(largest).toBeLessThanOrEqual(64 << 10)
  })

  test('what is left when it is left goes to the next loop, and then to listeners', async () => {
    const reactor = openReactor()
    const [stream, peer] = await pair(reactor)
    const framed = frames(stream, lines())
    writeAll(peer, 'a\nb\nc\nd\ne\n')
    const seen: string[] = []
    for await (const line of framed) {
      seen.push(line)
      break
    }
    for await (const line of framed) {
      seen.push(line)
      if (line === 'c') break
    }
    await quiet()
    expect(seen).toEqual(['a', 'b', 'c'])
    framed.on('frame', (line) => seen.push(line))
    await until(() => seen.length === 5)
    expect(seen).toEqual(['a', 'b', 'c', 'd', 'e'])
  })

  test('ends with the stream, the last line included', async () => {
    const reactor = openReactor()
    const [stream, peer] = await pair(reactor)
    const framed = frames(stream, lines())
    const told: string[] = []
    framed.on('end', () => told.push('<end>'))
    framed.on('close', () => told.push('<close>'))
    writeAll(peer, 'a\nb\nc')
    peer.close()
    for await (const line of framed) {
      told.push(line)
      await quiet() // the stream has ended and closed long before the loop comes to it
    }
    expect(told).toEqual(['a', 'b', 'c', '<end>', '<close>'])
  })

  test('throws what is wrong with a frame after those before it', async () => {
    const reactor = openReactor()
    const [stream, peer] = await pair(reactor)
    const framed = frames(stream, fixed(2))
    const seen: string[] = []
    writeAll(peer, 'abcde')
    peer.close()
    const loop = async (): Promise<void> => {
      for await (const frame of framed) seen.push(String(frame))
    }
    await expect(within(loop())).rejects.toThrow('The stream ended after 1 of the 2 bytes of a frame.')
    expect(seen).toEqual(['ab', 'cd'])
    expect([framed.closed, stream.closed]).toEqual([true, true])
    await expect(loop()).rejects.toMatchObject({ code: 'ERR_FRAME_INCOMPLETE' })
  })

  test('ends when the stream is closed under it', async () => {
    const reactor = openReactor()
    const [stream] = await pair(reactor)
    const framed = frames(stream, lines())
    setImmediate(() => {
      stream.close()
    })
    for await (const line of framed) expect.unreachable(line)
    expect(framed.closed).toBe(true)
  })

  test('has the frames for itself; listeners get them again when it is left', async () => {
    const reactor = openReactor()
    const [stream, peer] = await pair(reactor)
    const framed = frames(stream, lines())
    const heard: string[] = []
    framed.on('frame', (line) => heard.push(line))
    writeAll(peer, 'a\nb\nc\n')
    for await (const line of framed) {
      expect(line).toBe('a')
      break
    }
    await until(() => heard.length === 2)
    expect(heard).toEqual(['b', 'c'])
  })
})

test('whatever handlers do between the frames, each comes once and in order', () => {
  const seed = Number(process.env['FD_REACTOR_SEED'] ?? 20_261_121)
  const sizes = fc.array(fc.nat(30), { minLength: 1, maxLength: 40 })
  const action = fc.constantFrom('go on', 'go on', 'pause', 'throw', 'pause and resume', 'stop listening')
  const actions = fc.array(action, { minLength: 1 })
  const cuts = fc.array(fc.integer({ min: 1, max: 60 }), { minLength: 1 })
  const borrowing = fc.constantFrom<Borrow>(false, true, 'offsets')
  const reactor = openManual({ onHandlerError: () => undefined })
  const listener = UnixListener.listen(reactor, socketPath())
  let accepted: FdHandle | undefined
  listener.on('connection', (stream) => (accepted = stream.detach().handle))
  fc.assert(
    fc.property(sizes, actions, cuts, borrowing, fc.boolean(), (lengths, does, cutAt, borrow, ends) => {
      const peer = rawClient(listener.path)
      settle(reactor)
      if (accepted === undefined) throw new Error('no connection was accepted')
      const framed = frames(UnixStream.from(reactor, accepted, { borrow }), lengthPrefixed({ prefix: 1 }))
      const meant = lengths.map((length, n) => Buffer.alloc(length, n))
      const came: Buffer[] = []
      let ended = 0
      const listen = (frame: Buffer): void => {
        came.push(Buffer.from(frame))
        const doing = does[came.length % does.length]
        if (doing?.startsWith('pause')) framed.pause()
        if (doing === 'pause and resume') framed.resume()
        if (doing === 'stop listening') framed.off('frame', listen)
        if (doing === 'throw') throw new Error('thrown on purpose')
      }
      /** What is left is taken one push at a time. */
      const goOn = (): void => {
        if (framed.listenerCount('frame') === 0) framed.on('frame', listen)
        framed.resume()
        run(reactor)
      }
      framed.on('end', () => ended++)
      framed.on('frame', listen)
      const encoded = Buffer.concat(meant.map((frame) => Buffer.concat([Buffer.of(frame.length), frame])))
      for (let at = 0, turn = 0; at < encoded.length; turn++) {
        const size = cutAt[turn % cutAt.length] ?? 1
        writeAll(peer, encoded.subarray(at, at + size))
        at += size
        run(reactor)
        if (turn % 3 === 0) goOn()
      }
      if (ends) peer.close()
      for (let turn = 0; turn < 2 * meant.length + 4; turn++) goOn()
      expect(came).toEqual(meant)
      expect([ended, framed.closed]).toEqual(ends ? [1, true] : [0, false])
      framed.close()
      peer.close()
    }),
    { seed, numRuns: 150 },
  )
})

test("streams of Node's are byte streams as well", async () => {
  const reactor = openReactor()
  const listener = UnixListener.listen(reactor, socketPath())
  listener.on('connection', (stream) => {
    const framed = frames(stream, lines())
    framed.on('frame', (line) => framed.send(line.toUpperCase()))
  })
  const socket = await netClient(listener.path)
  const framed = frames(socket, lines())
  framed.send('one')
  framed.send('two')
  framed.send('three')
  const seen: string[] = []
  framed.on('frame', (line) => {
    seen.push(line)
    framed.pause()
    setImmediate(() => framed.resume())
  })
  const closed = new Promise<void>((resolve) => framed.on('close', resolve))
  await until(() => seen.length === 3)
  framed.end()
  await within(closed, 'the close')
  expect(seen).toEqual(['ONE', 'TWO', 'THREE'])
})

describe('peers of other make', () => {
  function start(command: string, args: string[]): ChildProcess {
    const child = spawn(command, args, { stdio: ['pipe', 'pipe', 'inherit'] })
    onTestFinished(() => void child.kill('SIGKILL'))
    return child
  }

  const peers: [string, (path: string) => string[]][] = [
    ['socat', (path) => ['-', `UNIX-CONNECT:${path}`]],
    ['nc', (path) => ['-U', '-N', path]],
  ]
  test.for(peers)('%s is answered line by line', async ([command, args], context) => {
    needs(command)(context)
    const reactor = openReactor()
    const listener = UnixListener.listen(reactor, socketPath(), { allowHalfOpen: true })
    const seen: string[] = []
    listener.on('connection', (stream) => {
      const framed = frames(stream, lines())
      framed.on('frame', (line) => {
        seen.push(line)
        framed.send(`you said ${line}`)
      })
      framed.on('end', () => {
        framed.end()
      })
    })
    const child = start(command, args(listener.path))
    if (child.stdin === null || child.stdout === null) throw new Error('no pipes')
    const said = child.stdout.toArray()
    for (const part of ['hel', 'lo\r', '\ngrü', 'ße\n', 'the last one']) {
      child.stdin.write(part)
      await quiet()
    }
    child.stdin.end()
    expect((await within(said)).join('')).toBe('you said hello\nyou said grüße\nyou said the last one\n')
    expect(seen).toEqual(['hello', 'grüße', 'the last one'])
  })
})
