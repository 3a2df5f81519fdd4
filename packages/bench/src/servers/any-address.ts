/** One echo server for any address: `any-address PATH unix|tcp`. */
import { Reactor } from '@fd-reactor/core'
import { listen } from '@fd-reactor/fd-events'

const [path = '', kind = ''] = process.argv.slice(2)
const reactor = new Reactor()
const address = kind === 'tcp' ? 'tcp://127.0.0.1:0' : `unix:${path}`
const listener = listen(reactor, address, { backlog: 4096, borrow: true })
listener.on('connection', (stream) => stream.on('data', (view) => stream.write(view)))
console.log(kind === 'tcp' ? `ready ${listener.uri}` : 'ready')
await reactor.run()
