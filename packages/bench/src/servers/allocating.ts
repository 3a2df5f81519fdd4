/**
 * An echo server that says what its messages allocated: `allocating PATH copy|borrow|offsets SECONDS`.
 *
 * Its window begins a quarter of SECONDS after the first connection, for V8 to optimise, and ends before the load
 * does. `heapUsed` moves with each allocation, so its growth is exact as long as nothing was collected meanwhile. All
 * collections are counted from the first connection on.
 */
import { constants, PerformanceObserver } from 'node:perf_hooks'
import { setTimeout as delay } from 'node:timers/promises'
import { Reactor } from '@fd-reactor/core'
import { listenForEcho } from '../echo-listener.js'

const [path = '', bytes = 'copy', seconds = 'NaN'] = process.argv.slice(2)
const ms = Number(seconds) * 1000
const collections = { minor: 0, major: 0, longestMs: 0 }
const reactor = new Reactor()

interface Moment {
  at: number
  messages: number
  heapUsed: number
  external: number
}

function now(): Moment {
  const { heapUsed, external } = process.memoryUsage()
  return { at: performance.now(), messages: reactor.stats().events, heapUsed, external }
}

function observeCollections(): PerformanceObserver {
  const observer = new PerformanceObserver((list) => {
    for (const entry of list.getEntries()) {
      const kind = kindOf(entry)
      if (kind === constants.NODE_PERFORMANCE_GC_MAJOR) collections.major++
      if (kind === constants.NODE_PERFORMANCE_GC_MINOR) collections.minor++
      collections.longestMs = Math.max(collections.longestMs, entry.duration)
    }
  })
  observer.observe({ entryTypes: ['gc'] })
  return observer
}

/** Node's own types leave `detail` out. */
function kindOf(entry: object): unknown {
  const detail = 'detail' in entry ? entry.detail : undefined
  return typeof detail === 'object' && detail !== null && 'kind' in detail ? detail.kind : undefined
}

let opened = false
async function measure(): Promise<void> {
  if (opened) return
  opened = true
  const observer = observeCollections()
  await delay(0.25 * ms)
  const begin = now()
  await delay(0.9 * ms)
  const end = now()
  await delay(1) // the observer hears of a collection a turn later
  observer.disconnect()
  console.log(
    JSON.stringify({
      seconds: (end.at - begin.at) / 1000,
      messages: end.messages - begin.messages,
      heapBytes: end.heapUsed - begin.heapUsed,
      externalBytes: end.external - begin.external,
      ...collections,
    }),
  )
}

listenForEcho(reactor, path, bytes, () => void measure())
console.log('ready')
await reactor.run()
