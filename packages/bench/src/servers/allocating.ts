/**
 * An echo server that says what its messages allocated: `allocating PATH copy|borrow|offsets WARM_UP SECONDS`.
 *
 * Its window begins WARM_UP seconds after the first connection and lasts for SECONDS. `heapUsed` moves with each
 * allocation, so its growth is exact as long as nothing was collected meanwhile.
 */
import { setTimeout as delay } from 'node:timers/promises'
import { GCProfiler } from 'node:v8'
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

/**
 * Counts collections from its making to `end()`. In C++, by `GCProfiler`: the entries of a `PerformanceObserver` live until the
 * next collection, so each of them left 3 KB in the old generation, and after a minute V8 collected that.
 */
class Collections {
  readonly #profiler = new GCProfiler()

  constructor() {
    this.#profiler.start()
  }

  end(): { minor: number; major: number; longestMs: number } {
    const { statistics } = this.#profiler.stop()
    const count = (type: string): number => statistics.filter(({ gcType }) => gcType === type).length
    return {
      minor: count('Scavenge'),
      major: count('MarkSweepCompact'),
      longestMs: Math.max(0, ...statistics.map(({ cost }) => cost / 1000)),
    }
  }
}

let opened = false
async function measure(): Promise<void> {
  if (opened) return
  opened = true
  const warmingUp = new Collections()
  await delay(Number(warmUp) * 1000)
  const { major: majorBefore } = warmingUp.end()
  const collections = new Collections()
  const begin = now()
  await delay(Number(seconds) * 1000)
  const end = now()
  const { minor, major, longestMs } = collections.end()
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
