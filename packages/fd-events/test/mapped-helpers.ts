/**
 * What the tests of mapped files share: folders that go with a test, children on a small disk, and the look for what was left behind.
 */
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Mapping } from '@fd-reactor/core'
import { afterAll, beforeAll, expect, onTestFinished } from 'vitest'
import { assertNoLeakedFds, linkOf } from '../../core/test/support/fds.js'
import { until } from '../../core/test/support/wait.js'

/** A path in a folder that goes with the test, on a real filesystem. */
export function tempFile(name = 'file'): string {
  const folder = mkdtempSync(join(tmpdir(), 'fd-reactor-mapped-'))
  onTestFinished(() => {
    rmSync(folder, { recursive: true, force: true })
  })
  return join(folder, name)
}

/** One line for each test file: no descriptor and no mapping is left after its last test. */
export function assertNothingLeft(): void {
  assertNoLeakedFds()
  let before = 0
  beforeAll(() => {
    before = Mapping.live
  })
  afterAll(async () => {
    const collected = (): boolean => {
      globalThis.gc?.()
      return Mapping.live <= before
    }
    await until(collected, 'the end of all mappings', 5000).catch(() => undefined)
    expect(Mapping.live).toBe(before)
    expect(openFiles()).toEqual([])
  })
}

/** The files of these tests that this process has open. */
export function openFiles(): string[] {
  const links = readdirSync('/proc/self/fd').map((fd) => linkOf(Number(fd)) ?? '')
  return links.filter((link) => link.includes('fd-reactor-mapped-'))
}

/** What runs a command on a tmpfs of that size, mounted at `folder` for it alone; undefined where that is not permitted. */
export function onSmallDisk(folder: string, size: string): string[] | undefined {
  const mount = `mount -t tmpfs -o size=${size} tmpfs '${folder}' && exec "$0" "$@"`
  const under = ['unshare', '--mount', '--propagation', 'private', 'sh', '-c', mount]
  const [command = '', ...args] = under
  return spawnSync(command, [...args, 'true']).status === 0 ? under : undefined
}
