/**
 * A source for any pollable descriptor that somebody else owns: a GPIO line, a serial port, an inotify instance.
 *
 * Nothing is drained and nothing is closed: it says what is ready, and the owner reads or writes.
 */
import type { BatchRecord } from './batch.js'
import { checkOptions, integer, oneOf } from './options.js'
import type { Reactor } from './reactor.js'
import { Source, sourceOptionChecks, type SourceEvents, type SourceOptions } from './source.js'
import { Drain, Interest } from './sys/constants.js'

/** The events of an {@link FdWatcher}. */
export interface FdWatcherEvents extends SourceEvents {
  /** What the descriptor is ready for, as {@link Interest} bits; `Interest.Err` and `Interest.Hup` may come unasked. */
  ready: [events: number]
}

/** Options of an {@link FdWatcher}. */
export interface FdWatcherOptions extends SourceOptions {
  /** What to watch for, as {@link Interest} bits. Default `Interest.In`. */
  interest?: number
  /**
   * `'level'` (default) reports as long as it lasts: what the handler leaves undone is reported again at once. `'edge'` reports changes
   * only: read until EAGAIN. `'oneshot'` reports once, until `rearm()`.
   */
  mode?: 'level' | 'edge' | 'oneshot'
}

const MODES = { level: 0, edge: Interest.Edge, oneshot: Interest.OneShot } as const
const ASKABLE = Interest.In | Interest.Pri | Interest.Out | Interest.RdHup

/**
 * Watches a descriptor without owning it: `close()` ends the watching and leaves the descriptor open.
 *
 * Close the watcher before the descriptor. Guaranteed: no event after `close()`. Not guaranteed: that a read will not block, when
 * somebody else reads the same file.
 *
 * @throws SystemError `EPERM` for a regular file or directory, which epoll refuses; `EBADF`; `EEXIST` when the reactor watches it already.
 * @throws TypeError, RangeError for options that do not exist or are out of range.
 * @example
 * import { openSync, readSync, writeSync, closeSync } from 'node:fs'
 * import { FdWatcher, Interest, Reactor } from '@fd-reactor/core'
 * const reactor = new Reactor()
 * const fd = openSync('/dev/ptmx', 'r+')
 * const watcher = new FdWatcher(reactor, fd, { interest: Interest.Out, mode: 'oneshot' })
 * watcher.on('ready', (events) => {
 *   console.log((events & Interest.Out) !== 0) // true
 *   watcher.close()
 * })
 * await reactor.run()
 * closeSync(fd)
 * @see epoll_ctl(2)
 */
export class FdWatcher extends Source<FdWatcherEvents> {
  #missed = 0

  constructor(reactor: Reactor, fd: number, options: FdWatcherOptions = {}) {
    checkOptions('FdWatcher', options, {
      ...sourceOptionChecks,
      interest: integer(1, ASKABLE),
      mode: oneOf('level', 'edge', 'oneshot'),
    })
    integer(0, 2 ** 31 - 1)(fd, 'fd')
    const { interest = Interest.In, mode = 'level' } = options
    super(reactor, fd, { drain: Drain.None, interest: (interest & ASKABLE) | MODES[mode] }, options)
  }

  /** Asks for the next event of a `'oneshot'` watcher, and for an edge that may have been missed of an `'edge'` one. */
  rearm(): this {
    this.rearmInterest()
    return this
  }

  protected get consumerEvents(): readonly string[] {
    return ['ready']
  }

  protected override get keepsSomething(): boolean {
    return this.#missed !== 0
  }

  onRecord(record: BatchRecord): void {
    this.#missed |= record.revents
    if (this.flowing) this.emitKept()
  }

  protected override emitKept(): void {
    const events = this.#missed
    this.#missed = 0
    if (events !== 0) this.emit('ready', events)
  }

  /** `for await (const events of watcher)`: the argument of each `'ready'`. */
  async *[Symbol.asyncIterator](): AsyncGenerator<number, undefined, undefined> {
    for await (const [events] of this.events('ready')) yield events
  }
}
