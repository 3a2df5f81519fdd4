/** Says when each step from its start to the first event of a reactor was done, in nanoseconds of CLOCK_MONOTONIC: `first-event`. */
const started = process.hrtime.bigint()
const { Reactor } = await import('@fd-reactor/core')
const coreImported = process.hrtime.bigint()
const { EventFd } = await import('@fd-reactor/fd-events')
const fdEventsImported = process.hrtime.bigint()
const reactor = new Reactor()
const reactorMade = process.hrtime.bigint()
const bell = new EventFd(reactor)
bell.on('event', () => {
  const firstEvent = process.hrtime.bigint()
  const moments = { started, coreImported, fdEventsImported, reactorMade, firstEvent }
  console.log(
    JSON.stringify(moments, (_name, value: unknown) => (typeof value === 'bigint' ? Number(value) : value)),
  )
  bell.close()
})
bell.write()
await reactor.run()
