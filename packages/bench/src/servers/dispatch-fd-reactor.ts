/** Batches of ready eventfds with ours: `dispatch-fd-reactor SECONDS`. */
import { Reactor } from '@fd-reactor/core'
import { EventFd } from '@fd-reactor/fd-events'
import { EVENTFDS, timeBatches } from '../dispatch-batches.js'

const reactor = new Reactor()
const eventFds = Array.from({ length: EVENTFDS }, () => new EventFd(reactor))
const handled = timeBatches(Number(process.argv[2]), () => {
  for (const eventFd of eventFds) eventFd.write(1n)
})
for (const eventFd of eventFds) eventFd.on('event', handled)
await reactor.run()
