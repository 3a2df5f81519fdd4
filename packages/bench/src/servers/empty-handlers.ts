/**
 * Delivers EVENTS events of eventfds to handlers that do nothing, and ends: `empty-handlers EVENTS`. To be counted, not timed.
 *
 * Nothing has to make the eventfds ready, which would be counted, too: in the kernel they are semaphores that never run
 * out, taken for plain counters here, so that each read takes 1 and the usual way of an event is gone.
 */
import { Reactor } from '@fd-reactor/core'
import { EventFd } from '@fd-reactor/fd-events'

const READY = 200

const batches = Number(process.argv[2]) / READY
const reactor = new Reactor()
let delivered = 0
const countBatch = (): void => {
  if (++delivered === batches) reactor.stop()
}
const handler = (): void => {}
for (let index = 0; index < READY; index++) {
  const endless = new EventFd(reactor, { semaphore: true, initial: 2n ** 62n }).detach()
  EventFd.from(reactor, endless, { semaphore: false }).on('event', index === 0 ? countBatch : handler)
}
await reactor.run()
