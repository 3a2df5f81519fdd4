/**
 * What the sources that drain a ring in memory have in common: bounded batches, and when to sleep.
 *
 * The eventfd is rung only when the reader sleeps. Then it delivers a bounded number of messages, acknowledges them at once, and either
 * rings its own bell, so that other sources have their turn, or says that it sleeps and looks once more.
 */
import { Buffer } from 'node:buffer'
import {
  Drain,
  Interest,
  Source,
  type EventMap,
  type FdHandle,
  type Reactor,
  type SourceOptions,
} from '@fd-reactor/core'
import { eventfd } from '@fd-reactor/core/sys'

/** Of one batch, so that a flood does not keep other sources waiting. */
const BATCH_MESSAGES = 256
const BATCH_BYTES = 256 * 1024

/** What `deliverNext()` returns when it found nothing: it may sleep. */
export const NOTHING = -1
/** What it returns when it found nothing yet, but must not sleep. */
export const AGAIN = -2

/** A reader of a ring. Its `'message'` has a Buffer and a number. */
export abstract class RingSource<Events extends EventMap<Events>> extends Source<Events> {
  #armed = true
  /** While it delivers, what fails is an event; otherwise it is thrown. */
  #delivering = false
  #failure: unknown
  /** What an iterator had buffered when its loop was left; acknowledged already. */
  readonly #kept: [bytes: Buffer, number: number][] = []

  /** `bell` is the eventfd, its own from then on. It is rung, so that the first look has its turn by priority, as all others. */
  protected constructor(reactor: Reactor, bell: FdHandle, options: SourceOptions) {
    super(reactor, bell, { drain: Drain.Counter, interest: Interest.In }, options)
    this.ringItself()
  }

  /** Whether this is in a handler. */
  protected get delivering(): boolean {
    return this.#delivering
  }

  /** Delivers one message and returns its length, or `NOTHING` or `AGAIN`. */
  protected abstract deliverNext(): number
  /** Gives the room of what was delivered back. Not called once it is closed. */
  protected abstract acknowledge(): void
  /** Says that it sleeps, and looks once more. */
  protected abstract sleep(): void

  protected get consumerEvents(): readonly string[] {
    return ['message']
  }

  protected override get keepsSomething(): boolean {
    return !this.#armed || this.#kept.length > 0
  }

  /** For the reactor. */
  onRecord(): void {
    this.#armed = false
    this.emitKept()
  }

  /** For the reactor. */
  override onSettle(): void {
    this.#armed = false
  }

  /** Delivers one batch. */
  protected override emitKept(): void {
    if (!this.flowing) return
    this.#armed = this.#delivering = true // armed: either its bell is rung, or it is told to sleep
    let more = true // also after a handler that throws
    try {
      this.#deliverKept()
      more = this.#deliver()
    } catch (error) {
      if (error !== this.#failure) throw error
    } finally {
      this.#delivering = false
      this.#goOn(more)
    }
  }

  protected override takeKept(name: string): unknown[][] {
    return name === 'message' && (this.closed || this.hasEnded) ? this.#kept.splice(0) : []
  }

  protected override takeBack(name: string, events: readonly unknown[][]): void {
    if (name !== 'message') return
    const kept = events.filter(
      (each): each is [Buffer, number] => Buffer.isBuffer(each[0]) && each.length === 2,
    )
    this.#kept.unshift(...kept)
  }

  /** The oldest message that an iterator had buffered and not delivered, for the polling calls. */
  protected takeKeptMessage(): [bytes: Buffer, number: number] | undefined {
    return this.#kept.length > 0 ? this.#kept.shift() : undefined
  }

  /** Rings its own bell: it looks in a batch of its own. */
  protected ringItself(): void {
    if (!this.closed) eventfd.write(this.fd, 1n)
  }

  /** Ends it with an error, which is an event while it delivers, and thrown by the caller otherwise. */
  protected broken(error: unknown): unknown {
    this.#failure = error
    if (!this.#delivering) this.close()
    return error
  }

  #deliverKept(): void {
    while (this.flowing) {
      const kept = this.#kept.shift()
      if (kept === undefined) return
      this.fire('message', ...kept)
    }
  }

  /** True when there may be more. */
  #deliver(): boolean {
    let bytes = 0
    for (let count = 0; count < BATCH_MESSAGES && bytes < BATCH_BYTES; count++) {
      if (!this.flowing) return true
      const length = this.deliverNext()
      if (length < 0) return length === AGAIN
      bytes += length
    }
    return true
  }

  #goOn(more: boolean): void {
    if (!this.closed) this.acknowledge()
    if (this.#failure !== undefined) this.#tellFailure()
    else if (!this.flowing) this.#armed = false
    else if (more) this.ringItself()
    else this.sleep()
  }

  #tellFailure(): void {
    this.fail(this.#failure instanceof Error ? this.#failure : new Error(String(this.#failure)))
  }
}
