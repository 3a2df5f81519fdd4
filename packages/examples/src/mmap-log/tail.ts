/**
 * `tail`: the last records, and with `-f` those that come.
 *
 * A store into a mapping tells nobody: inotify does not see it, and an eventfd has no name by which a stranger could find it. So a
 * timer looks at one word of the log, `commit`, every few milliseconds: a record is seen that much later at most, and a look that finds nothing
 * costs a microsecond. Writers know nothing of their readers.
 */
import { Reactor } from '@fd-reactor/core'
import { ms, SignalFd, TimerFd } from '@fd-reactor/fd-events'
import { LogReader } from './reader.js'
import type { LogRecord } from './record.js'

/** What `tail` prints to. */
export interface Printer {
  /** Prints text; false when whoever reads it does not keep up. */
  print(text: string): boolean
  /** Calls back once it does. */
  onDrain(resume: () => void): void
}

/** Prints the last `count` records; with `pollMs` goes on until SIGINT or SIGTERM. Resolves to the exit code. */
export async function tail(
  path: string,
  { count, pollMs }: { count: number; pollMs: number | undefined },
  printer: Printer,
): Promise<number> {
  using reader = new LogReader(path)
  const last: string[] = []
  const end = reader.read((record) => {
    if (count === 0) return
    if (last.length === count) last.shift()
    last.push(line(record))
  })
  printer.print(last.join(''))
  if (end?.bad !== undefined) throw damaged(path, end.end, end.bad)
  if (pollMs === undefined) return 0

  const reactor = new Reactor()
  const signals = new SignalFd(reactor, ['SIGINT', 'SIGTERM'])
  signals.on('SIGINT', () => reactor.stop(0))
  signals.on('SIGTERM', () => reactor.stop(0))
  const timer = TimerFd.every(reactor, ms(pollMs))
  timer.on('tick', () => {
    let text = ''
    const now = reader.read((record) => (text += line(record)))
    if (text !== '' && !printer.print(text)) {
      timer.pause()
      printer.onDrain(() => timer.resume())
    }
    if (now?.bad !== undefined) throw damaged(path, now.end, now.bad)
  })
  return await reactor.run() // the reader is needed until then
}

function line({ sequence, timeNs, payload }: LogRecord): string {
  return `${sequence} ${new Date(Number(timeNs / 1_000_000n)).toISOString()} ${payload.toString()}\n`
}

function damaged(path: string, offset: number, reason: string): Error {
  return new Error(
    `${path}: the record at ${offset} is damaged: ${reason}. \`verify\` looks at the whole log`,
  )
}
