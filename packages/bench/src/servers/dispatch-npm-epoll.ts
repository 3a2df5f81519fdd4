// eslint-disable-next-line @typescript-eslint/triple-slash-reference -- ambient: there is nothing to import
/// <reference path="../../../core/src/epoll.d.ts" />
/**
 * Batches of ready eventfds with npm `epoll` used directly, as its documentation shows: one Epoll,
 * level-triggered, and a callback that reads the descriptor: `dispatch-npm-epoll SECONDS READY IDLE`. Ours only
 * makes the eventfds here and never runs.
 */
import { readSync } from 'node:fs'
import { createRequire } from 'node:module'
import { Reactor } from '@fd-reactor/core'
import { EventFd } from '@fd-reactor/fd-events'
import { batchesFromArguments, timeBatches } from '../dispatch-batches.js'

// It exports from inside a function, where an import of names cannot see them.
const { Epoll } = createRequire(import.meta.url)('epoll') as typeof import('epoll')

const batches = batchesFromArguments()
const reactor = new Reactor({ wakeup: 'manual' })
const eventFds = Array.from({ length: batches.ready + batches.idle }, () => new EventFd(reactor))
const active = eventFds.slice(0, batches.ready)
const handled = timeBatches(batches, () => {
  for (const eventFd of active) eventFd.write(1n)
})
const count = new Uint8Array(8)
const epoll = new Epoll((error, fd) => {
  if (error !== null) throw error
  readSync(fd, count)
  handled()
})
for (const eventFd of eventFds) epoll.add(eventFd.fd, Epoll.EPOLLIN)
