/**
 * The C header: it is what the script writes, it compiles without a warning, and a program in C joins with it on either side.
 */
import { execFileSync, spawn } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { once, type Reactor } from '@fd-reactor/core'
import { offer, UnixSeqpacketListener, type RingLink } from '@fd-reactor/fd-events'
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import { openReactor, socketPath } from '../../core/test/support/reactors.js'
import { childEnded, until, within } from '../../core/test/support/wait.js'
import { check, fill, lengthOf } from './fixtures/ring-crash-kit.mjs'
import { assertNothingLeft, message } from './ring-helpers.js'

assertNothingLeft()

const at = (path: string): string => fileURLToPath(new URL(path, import.meta.url))
const HEADER = at('../include/fd-reactor-ring.h')
const COUNT = 20_000

test('it is what scripts/ring-header.mjs writes: run `npm run ring-header` after a change of the layout', () => {
  const script = at('../../../scripts/ring-header.mjs')
  expect(execFileSync(process.execPath, [script, '--print'], { encoding: 'utf8' })).toBe(
    readFileSync(HEADER, 'utf8'),
  )
})

describe('a program in C', () => {
  let folder = ''
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'fd-reactor-'))
    const flags = ['-std=c11', '-O2', '-Wall', '-Wextra', '-Wpedantic', '-Werror', '-I', at('../include')]
    execFileSync('cc', [...flags, at('fixtures/ring-peer.c'), '-o', join(folder, 'ring-peer')])
  })
  afterAll(() => {
    rmSync(folder, { recursive: true })
  })

  /** Starts it, and offers it a pair of rings. */
  async function linked(
    reactor: Reactor,
    mode: string,
    count = 0,
  ): Promise<{ link: RingLink; output: () => Record<string, unknown>; ended: () => Promise<void> }> {
    const listener = UnixSeqpacketListener.listen(reactor, socketPath(), { backlog: 1 })
    const child = spawn(join(folder, 'ring-peer'), [listener.path, mode, String(count)], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    let text = ''
    child.stdout.setEncoding('utf8').on('data', (part: string) => (text += part))
    onTestFinished(async () => {
      child.kill('SIGKILL')
      await childEnded(child)
    })
    const [connection] = await within(once(listener, 'connection'))
    listener.close()
    const link = await within(offer(reactor, connection, { capacity: 4096 }))
    onTestFinished(() => {
      link.close()
    })
    return {
      link,
      output: () => JSON.parse(text) as Record<string, unknown>,
      ended: async () => {
        await until(() => text.endsWith('\n'), 'its line', 20_000)
        link.close()
        await childEnded(child)
        expect(child.exitCode).toBe(0)
      },
    }
  }

  test('sends back each message, of every size, and sleeps in between', async () => {
    const { link, output, ended } = await linked(openReactor(), 'echo')
    for (let length = 0; length <= 2040; length += 17) {
      link.writer.write(message(length, length))
      const [bytes] = await within(once(link.reader, 'message'))
      expect(bytes.equals(message(length, length))).toBe(true)
    }
    link.writer.close()
    await ended()
    expect(output()).toMatchObject({ count: 121, wrong: 0 })
    expect(Number(output()['readerSlept'])).toBeGreaterThan(0)
  })

  test('writes: this side reads it all, in order, then its end', async () => {
    const { link, output, ended } = await linked(openReactor(), 'send', COUNT)
    let count = 0
    let wrong = 0
    let ends = 0
    link.reader.on('end', () => ends++)
    link.reader.on('message', (bytes, sequence) => {
      if (sequence !== count++ || !check(bytes, sequence)) wrong++
      if (count % 1000 !== 0) return
      link.reader.pause()
      setImmediate(() => link.reader.resume())
    })
    await until(() => ends === 1, "'end'", 20_000)
    expect([count, wrong]).toEqual([COUNT, 0])
    await ended()
    expect(output()).toMatchObject({ count: COUNT, wrong: 0 })
    expect(Number(output()['writerSlept'])).toBeGreaterThan(0)
  })

  test('reads what this side writes, until its end', async () => {
    const { link, output, ended } = await linked(openReactor(), 'receive')
    const { writer } = link
    const pump = (): void => {
      while (writer.sequence < COUNT) {
        const { sequence } = writer
        const place = writer.claim(lengthOf(sequence))
        if (place >= 0) fill(writer.bytes.subarray(place, place + lengthOf(sequence)), sequence)
        writer.commit()
        if (place < 0) return
        if (sequence % 777 === 0) return void setImmediate(pump)
      }
      writer.close()
    }
    writer.on('drain', pump)
    pump()
    await ended()
    expect(output()).toMatchObject({ count: COUNT, wrong: 0 })
    expect(Number(output()['readerSlept'])).toBeGreaterThan(0)
  })
})
