/**
 * A flooded echo server with ours: `priority-fd-reactor PATH SECONDS high|normal [CHUNK_MICROS]`.
 *
 * Bytes are borrowed, so that hardly anything has to be collected. The flood comes to PATH with low priority, the time to PATH.ping with high one; or both come with normal priority. When the connection of the latter
 * ends it prints how long those messages waited.
 */
import { Reactor } from '@fd-reactor/core'
import { UnixListener } from '@fd-reactor/fd-events'
import { Flood } from '../flood.js'

const [path = '', seconds, priority, chunkMicros] = process.argv.slice(2)
const high = priority === 'high'
const flood = new Flood(Number(seconds))
const reactor = new Reactor(chunkMicros === undefined ? {} : { chunkMicros: Number(chunkMicros) })

UnixListener.listen(reactor, path, { backlog: 4096, borrow: true, priority: high ? 'low' : 'normal' }).on(
  'connection',
  (stream) => {
    stream.on('data', (chunk) => {
      flood.work()
      stream.write(chunk)
    })
  },
)
UnixListener.listen(reactor, `${path}.ping`, { borrow: true, priority: high ? 'high' : 'normal' }).on(
  'connection',
  (stream) => {
    stream.on('data', (chunk) => flood.ping(chunk))
    stream.on('end', () => console.log(JSON.stringify(flood.figures())))
  },
)
console.log('ready')
await reactor.run()
