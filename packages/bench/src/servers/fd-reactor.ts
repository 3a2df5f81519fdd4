/** An echo server with ours: `fd-reactor PATH copy|borrow|offsets BUSY_POLL_MICROS`. */
import { Reactor } from '@fd-reactor/core'
import { UnixListener } from '@fd-reactor/fd-events'

const [path = '', bytes = 'copy', busyPollMicros = '0'] = process.argv.slice(2)
const reactor = new Reactor({ busyPollMicros: Number(busyPollMicros) })
const backlog = 4096

if (bytes === 'offsets') {
  const listener = UnixListener.listen(reactor, path, { backlog, borrow: 'offsets' })
  listener.on('connection', (stream) => {
    stream.on('data', (slab, offset, length) => stream.write(slab, offset, length))
  })
} else if (bytes === 'borrow') {
  const listener = UnixListener.listen(reactor, path, { backlog, borrow: true })
  listener.on('connection', (stream) => stream.on('data', (view) => stream.write(view)))
} else {
  const listener = UnixListener.listen(reactor, path, { backlog })
  listener.on('connection', (stream) => stream.on('data', (chunk) => stream.write(chunk)))
}
console.log('ready')
await reactor.run()
