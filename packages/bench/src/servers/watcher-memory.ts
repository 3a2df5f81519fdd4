/**
 * What one more watcher takes of the JavaScript heap: `watcher-memory COUNT`, under `node --expose-gc`.
 *
 * The difference between COUNT and twice as many, so that what the first one brings along is in neither. The
 * descriptors belong to nobody, and all watchers share one handler.
 */
import { FdWatcher, Reactor } from '@fd-reactor/core'
import { eventfd } from '@fd-reactor/core/sys'

const count = Number(process.argv[2])
const collect = globalThis.gc
if (collect === undefined) throw new Error('run with --expose-gc')

const reactor = new Reactor()
const fds = Int32Array.from({ length: 2 * count }, () => eventfd.create(0n, false))
const handler = (): void => {}

function heapWith(watched: Int32Array): number {
  for (const fd of watched) new FdWatcher(reactor, fd).on('ready', handler)
  // One collection may leave what another finds: feedback and code that the loop above no longer needs.
  for (let times = 0; times < 5; times++) collect?.()
  return process.memoryUsage().heapUsed
}

const before = heapWith(fds.subarray(0, count))
const after = heapWith(fds.subarray(count))
console.log(JSON.stringify({ heapBytes: (after - before) / count }))
process.exit()
