/**
 * The smallest source there is, written against the public seam: a counter whose handle can be had, duplicated and shared.
 */
import {
  Drain,
  FdHandle,
  Interest,
  Source,
  type BatchRecord,
  type Reactor,
  type SourceEvents,
  type SourceOptions,
} from '@fd-reactor/core'
import { eventfd } from '@fd-reactor/core/sys'

/** The events of a {@link Counter}. */
export interface CounterEvents extends SourceEvents {
  count: [value: bigint]
}

/** Reads an eventfd; whoever made it keeps a handle to play tricks with. */
export class Counter extends Source<CounterEvents> {
  /** What was drained and never delivered, in the order of settling. */
  readonly settled: bigint[] = []

  constructor(
    reactor: Reactor,
    readonly handle: FdHandle = new FdHandle(eventfd.create(0n, false)),
    options: SourceOptions = {},
  ) {
    super(reactor, handle, { drain: Drain.Counter, interest: Interest.In }, options)
  }

  write(value = 1n): this {
    eventfd.write(this.fd, value)
    return this
  }

  protected get consumerEvents(): readonly string[] {
    return ['count']
  }

  onRecord(record: BatchRecord): void {
    this.fire('count', record.value)
  }

  override onSettle(record: BatchRecord): void {
    this.settled.push(record.value)
  }
}
