/** Batches of ready eventfds with ours, beside idle ones: `dispatch-fd-reactor SECONDS READY IDLE`. */
import { Reactor } from '@fd-reactor/core'
import { EventFd } from '@fd-reactor/fd-events'
import { batchesFromArguments, timeBatches } from '../dispatch-batches.js'

const batches = batchesFromArguments()
const reactor = new Reactor()
const eventFds = Array.from({ length: batches.ready + batches.idle }, () => new EventFd(reactor))
const active = eventFds.slice(0, batches.ready)
const handled = timeBatches(batches, () => {
  for (const eventFd of active) eventFd.write(1n)
})
for (const eventFd of eventFds) eventFd.on('event', handled)
await reactor.run()
