/**
 * Shows that a test file left nothing mapped and no name behind.
 */
import { readdirSync } from 'node:fs'
import { setImmediate as turn } from 'node:timers/promises'
import { Mapping } from '@fd-reactor/core'
import { afterAll, beforeAll, expect } from 'vitest'

const PREFIX = `fd-reactor-test-${process.pid}-`

/** Collects until no more than `count` ranges are mapped, or not given back yet; the result is how many are. */
export async function liveMappings(count = 0): Promise<number> {
  for (let rounds = 0; rounds < 50 && Mapping.live > count; rounds++) {
    globalThis.gc?.()
    await turn()
  }
  return Mapping.live
}

/** One line for each test file: after its last test as much is mapped and named as before its first. */
export function assertNoLeakedMemory(): void {
  const names = (): string[] => readdirSync('/dev/shm').filter((name) => name.startsWith(PREFIX))
  let live = 0
  beforeAll(() => {
    live = Mapping.live
  })
  afterAll(async () => {
    expect(await liveMappings(live)).toBe(live)
    expect(names()).toEqual([])
  })
}

let serial = 0

/** A name in /dev/shm that nobody else has. */
export function memoryName(): string {
  return `${PREFIX}${serial++}`
}
