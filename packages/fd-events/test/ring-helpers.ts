/**
 * What the tests of rings share: rings and ends that go with the test, messages that check themselves, and the end of each file, which looks for
 * what was left behind.
 */
import { readdirSync } from 'node:fs'
import { runInNewContext } from 'node:vm'
import { setFlagsFromString } from 'node:v8'
import { Mapping, type Reactor } from '@fd-reactor/core'
import {
  Ring,
  RingReader,
  RingWriter,
  type RingOptions,
  type RingReaderOptions,
  type RingWriterOptions,
} from '@fd-reactor/fd-events'
import { afterAll, beforeAll, expect, onTestFinished } from 'vitest'
import { assertNoLeakedFds } from '../../core/test/support/fds.js'
import { turn, until } from '../../core/test/support/wait.js'

setFlagsFromString('--expose-gc')
const collect = runInNewContext('gc') as () => void

/** One line for each test file: no descriptor, no mapping and nothing in /dev/shm is left after its last test. */
export function assertNothingLeft(): void {
  assertNoLeakedFds()
  let mappings = 0
  beforeAll(() => {
    mappings = Mapping.live
  })
  afterAll(async () => {
    await until(() => {
      collect()
      return Mapping.live <= mappings
    }, 'the unmapping of every ring').catch(() => undefined)
    expect(Mapping.live).toBe(mappings)
    expect(readdirSync('/dev/shm').filter((name) => name.startsWith(shmName('')))).toEqual([])
  })
}

/** A name in /dev/shm that belongs to this test file. */
export function shmName(what: string): string {
  return `fd-reactor-ring-${process.pid}-${what}`
}

/** The messages of what handlers throw out of the reactor meanwhile. */
export async function uncaughtIn(action: () => unknown): Promise<string[]> {
  const errors: string[] = []
  const onError = (error: Error): void => void errors.push(error.message)
  const others = process.listeners('uncaughtException')
  process.removeAllListeners('uncaughtException').on('uncaughtException', onError)
  try {
    await action()
    for (let i = 0; i < 3; i++) await turn()
  } finally {
    process.removeListener('uncaughtException', onError)
    for (const other of others) process.on('uncaughtException', other)
  }
  return errors
}

/** A ring that is closed after the test. */
export function openRing(options: RingOptions = { capacity: 4096 }): Ring {
  const ring = Ring.create(options)
  onTestFinished(() => {
    ring.close()
  })
  return ring
}

/** Both ends of a ring. */
export function openEnds(
  reactor: Reactor,
  ring: Ring = openRing(),
  writing: RingWriterOptions = {},
  reading: RingReaderOptions = {},
): { ring: Ring; reader: RingReader; writer: RingWriter } {
  return {
    ring,
    writer: new RingWriter(reactor, ring, writing),
    reader: new RingReader(reactor, ring, reading),
  }
}

/** Message number `index` with `length` bytes, each of which says which one it is. */
export function message(index: number, length: number): Buffer {
  const bytes = Buffer.allocUnsafe(length)
  for (let at = 0; at < length; at++) bytes[at] = (index * 31 + at * 7) & 255
  return bytes
}

/** Where a ring begins that has never been used. */
export function beginAt(ring: Ring, position: number, sequence = 0): void {
  const { control } = ring
  control[32] = control[33] = control[64] = position // head, the mark that counts, tail
  control[34] = sequence
  control[35] = position - 8 // the other mark
}
