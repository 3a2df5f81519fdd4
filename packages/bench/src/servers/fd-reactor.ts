/** An echo server with ours: `fd-reactor PATH copy|borrow|offsets BUSY_POLL_MICROS`. */
import { Reactor } from '@fd-reactor/core'
import { listenForEcho } from '../echo-listener.js'

const [path = '', bytes = 'copy', busyPollMicros = '0'] = process.argv.slice(2)
const reactor = new Reactor({ busyPollMicros: Number(busyPollMicros) })
listenForEcho(reactor, path, bytes)
console.log('ready')
await reactor.run()
