/**
 * Handles signals in Node: `signal ours|process latency|count`; `c/sigqueue.c` starts it, and has the protocol.
 *
 * Ours handles real-time signals, whose numbers it checks; `process.on` knows the standard signals only, so there it is SIGUSR2.
 */
import { writeSync } from 'node:fs'
import { Reactor } from '@fd-reactor/core'
import { SignalFd } from '@fd-reactor/fd-events'
import { monotonicNs } from '../monotonic.js'

const [kind, mode] = process.argv.slice(2)
const tellsEach = mode === 'latency'
/** When the newest was handled, and how many were. */
const handled = new Float64Array(2)
let count = 0

function tell(): void {
  writeSync(1, handled)
}

function handle(): void {
  handled[0] = monotonicNs()
  handled[1] = ++count
  if (tellsEach) tell()
}

if (kind === 'process') {
  process.on('SIGHUP', tell)
  process.on('SIGUSR2', handle)
  setInterval(() => undefined, 2 ** 30)
  tell()
} else {
  const reactor = new Reactor()
  const signals = new SignalFd(reactor, ['SIGHUP', 'SIGRTMIN+2'])
  signals.on('SIGHUP', tell)
  signals.on('SIGRTMIN+2', ({ value }) => {
    if (value !== count) throw new Error(`expected signal ${count}, got ${value}`)
    handle()
  })
  tell()
  await reactor.run()
}
