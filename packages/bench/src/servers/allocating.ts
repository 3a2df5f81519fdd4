/**
 * An echo server that says what its messages allocated: `allocating PATH copy|borrow|offsets WARM_UP SECONDS`.
 *
 * Its window begins WARM_UP seconds after the first connection and lasts for SECONDS. `heapUsed` moves with each
 * allocation, so its growth is exact as long as nothing was collected meanwhile.
 */
import { constants, PerformanceObserver } from 'node:perf_hooks'
import { setTimeout as delay } from 'node:timers/promises'
import { Reactor } from '@fd-reactor/core'
import { listenForEcho } from '../echo-listener.js'

const [path = '', bytes = 'copy', warmUp = 'NaN', seconds = 'NaN'] = process.argv.slice(2)
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

/** Counts collections from its making to `end()`. */
class Collections {
  minor = 0
  major = 0
  longestMs = 0
  readonly #observer = new PerformanceObserver((list) => {
    for (const entry of list.getEntries()) {
      const kind = kindOf(entry)
      if (kind === constants.NODE_PERFORMANCE_GC_MAJOR) this.major++
      if (kind === constants.NODE_PERFORMANCE_GC_MINOR) this.minor++
      this.longestMs = Math.max(this.longestMs, entry.duration)
    }
  })

  constructor() {
    this.#observer.observe({ entryTypes: ['gc'] })
  }

  async end(): Promise<this> {
    await delay(1) // it hears of a collection a turn later
    this.#observer.disconnect()
    return this
  }
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
  const warmingUp = new Collections()
  await delay(Number(warmUp) * 1000)
  const { major: majorBefore } = await warmingUp.end()
  const collections = new Collections()
  const begin = now()
  await delay(Number(seconds) * 1000)
  const end = now()
  const { minor, major, longestMs } = await collections.end()
  console.log(
    JSON.stringify({
      seconds: (end.at - begin.at) / 1000,
      messages: end.messages - begin.messages,
      heapBytes: end.heapUsed - begin.heapUsed,
      externalBytes: end.external - begin.external,
      minor,
      major,
      longestMs,
      majorBefore,
    }),
  )
}

listenForEcho(reactor, path, bytes, () => void measure())
console.log('ready')
await reactor.run()
