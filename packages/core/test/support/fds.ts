/**
 * Counts this process's descriptors by kind, to show that none leaked.
 */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { isMainThread } from 'node:worker_threads'
import { Reactor } from '@fd-reactor/core'
import { afterAll, beforeAll, expect } from 'vitest'
import { until } from './wait.js'

const KINDS = ['eventpoll', 'eventfd', 'timerfd', 'signalfd', 'socket', 'pipe'] as const

/** How many descriptors of each kind are open. */
export type FdCounts = Record<(typeof KINDS)[number], number>

/** How many descriptors of each kind are open in this process. */
export function countFds(): FdCounts {
  const counts: FdCounts = { eventpoll: 0, eventfd: 0, timerfd: 0, signalfd: 0, socket: 0, pipe: 0 }
  for (const fd of readdirSync('/proc/self/fd')) {
    const link = linkOf(Number(fd))
    const kind = KINDS.find((name) => link === `anon_inode:[${name}]` || link?.startsWith(`${name}:[`))
    if (kind !== undefined) counts[kind]++
  }
  return counts
}

/** What /proc says that a descriptor refers to; undefined when it is not open. */
export function linkOf(fd: number): string | undefined {
  try {
    return readlinkSync(`/proc/self/fd/${fd}`)
  } catch {
    return undefined // the one that the listing itself was read through, for instance
  }
}

/** The `flags` of an open file, as fcntl(F_GETFL) would give them. */
export function flagsOf(fd: number): number {
  return parseInt(/flags:\s*(\d+)/.exec(readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8'))?.[1] ?? '', 8)
}

/** The descriptors that are registered in an epoll set. */
export function watchedBy(epollFd: number): number[] {
  const info = readFileSync(`/proc/self/fdinfo/${epollFd}`, 'utf8')
  return [...info.matchAll(/tfd:\s*(\d+)/g)].map(([, fd]) => Number(fd))
}

/**
 * One line for each test file: after its last test, as many descriptors of each kind must be open as before its first. What
 * closes a turn later, such as a peer made with node:net, is waited for.
 */
export function assertNoLeakedFds(): void {
  let before: FdCounts | undefined
  beforeAll(() => {
    // What is opened once for the process (npm epoll's own set) must not count.
    new Reactor().close()
    if (isMainThread) new Reactor({ wakeup: 'epoll' }).close()
    before = countFds()
  })
  afterAll(async () => {
    const same = (): boolean => JSON.stringify(countFds()) === JSON.stringify(before)
    await until(same, '', 3000).catch(() => undefined)
    expect(countFds()).toEqual(before)
  })
}
