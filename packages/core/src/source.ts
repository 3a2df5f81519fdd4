/**
 * What every source has in common: an owned descriptor, its registration, typed events, pausing, ref, iteration and the end.
 *
 * A source is watched only while somebody wants its events: a listener is there, it is not paused, and no iterator is full.
 * That is decided in one place (`#interest`), and applied at once, or once after the handler that is running.
 */
import { EventEmitter } from 'eventemitter3'
import type { BatchRecord } from './batch.js'
import { closedError, SystemError } from './errors.js'
import process from 'node:process'
import { FdHandle } from './fd-handle.js'
import { abortSignal, boolean, integer, oneOf, string, type OptionChecks } from './options.js'
import type { Reactor } from './reactor.js'
import type { Registrant, Token } from './registry.js'
import type { Drain, Priority } from './sys/constants.js'
import type { SourceInfo } from './stats.js'

const EBADF = -9

/** The events that every source has. */
export interface SourceEvents {
  /** It was closed; the last event. */
  close: []
  /** Something failed. Without a listener it is thrown, and goes the way of errors in handlers. */
  error: [error: Error]
}

/** What an event map must look like: each event's arguments as a tuple. */
export type EventMap<Events> = SourceEvents & { [Name in keyof Events]: unknown[] }

/** The names in an event map. */
export type EventName<Events> = keyof Events & string

/** Options that every source takes. */
export interface SourceOptions {
  /** Default `'normal'`. */
  priority?: Priority
  /** Whether it keeps `run()` and the process going. Default true. */
  ref?: boolean
  /** Closes the source when it is aborted; one that is aborted already is thrown before anything is opened. */
  signal?: AbortSignal
  /** Names it in errors and statistics. Default: its class. */
  label?: string
}

/** The checks of {@link SourceOptions}, for sources to add their own to. */
export const sourceOptionChecks: OptionChecks = {
  priority: oneOf('high', 'normal', 'low'),
  ref: boolean,
  signal: abortSignal,
  label: string,
}

/** How a source wants its descriptor treated. */
export interface SourceRegistration {
  /** What native code does when it is ready. */
  drain: Drain
  /** What to watch for while somebody wants events. */
  interest: number
  /** What the drain needs to know. */
  argument?: number
}

/** Options of {@link Source.events}. */
export interface EventsOptions {
  /** How many events may wait before the source is paused. Default 16. */
  limit?: number
}

/** A source's statistics. */
export type SourceStats = SourceInfo

/** What we build on of eventemitter3. Its own types cannot be narrowed by a subclass; ours are on {@link Source}. */
interface UntypedEmitter {
  on(event: string, listener: object): this
  once(event: string, listener: object): this
  removeListener(event: string, listener?: object, context?: unknown, once?: boolean): this
  removeAllListeners(event?: string): this
  emit(event: string, ...args: unknown[]): boolean
  /** How many listeners an event has. */
  listenerCount(event: string): number
  /** The listeners of an event. */
  listeners(event: string): ((...args: unknown[]) => void)[]
}
const Emitter: new () => UntypedEmitter = EventEmitter

// What is so or not about a source. All of it is one field, since a daemon holds thousands of sources that are idle.
/** Somebody listens to what is drained. */
const CONSUMED = 1 << 0
/** `once()` was used, so a listener need not be there to stay. */
const ONCE_USED = 1 << 1
const PAUSED = 1 << 2
/** An iterator of it is full. */
const HELD = 1 << 3
/** `onFlush()` was asked for, to apply a change of what is wanted. */
const FLUSHING = 1 << 4
const CLOSED = 1 << 5

/** What few sources have; it is made for those. */
class Extras {
  /** The `label` option. */
  name: string | undefined
  forgetSignal: (() => void) | undefined
  /** How many of its iterators are full. */
  holds = 0
  /** Of the iterators: each gives back what it has buffered. */
  recalls: Set<() => void> | undefined
}

/**
 * The base of all sources.
 *
 * A subclass names its descriptor, drain and interest, says which events mean that somebody wants what is drained
 * (`consumerEvents`), and turns records into events (`onRecord`). A record may still come when nobody wants it any more, because
 * it was drained before: what it carries must be kept.
 */
export abstract class Source<Events extends EventMap<Events>>
  extends Emitter
  implements Registrant, Disposable
{
  /** Never set: it lets the compiler find the event map of a source in `once()`. */
  declare readonly eventTypes?: Events
  /** Where it is registered. */
  readonly reactor: Reactor
  /** What it owns; undefined when its descriptor is somebody else's. */
  protected readonly ownedHandle: FdHandle | undefined
  readonly #fd: number
  readonly #interest: number
  #token: Token
  #state = 0
  #extras: Extras | undefined
  /** The only listener that wants what is drained, if it is there to stay: calling it spares the search for it. */
  #sole: ((...args: unknown[]) => void) | undefined
  #soleEvent = ''

  /**
   * Registers `descriptor`: a handle is owned and closed with the source, a number is somebody else's and stays open.
   * What the kernel refuses closes the handle again.
   */
  protected constructor(
    reactor: Reactor,
    descriptor: FdHandle | number,
    registration: SourceRegistration,
    options: SourceOptions = {},
  ) {
    super()
    const { priority = 'normal', ref = true, signal } = options
    this.reactor = reactor
    this.ownedHandle = typeof descriptor === 'number' ? undefined : descriptor
    this.#fd = typeof descriptor === 'number' ? descriptor : descriptor.fd
    if (options.label !== undefined) this.#ownExtras.name = options.label
    this.#interest = registration.interest
    try {
      signal?.throwIfAborted()
      const { drain, argument = 0 } = registration
      this.#token = reactor.register(this, { fd: this.#fd, interest: 0, drain, argument, priority, ref })
    } catch (error) {
      this.ownedHandle?.close()
      throw error
    }
    if (signal !== undefined) this.#closeOn(signal)
  }

  /** The events whose listeners want what is drained. */
  protected abstract get consumerEvents(): readonly string[]
  /** Turns a record into events, or keeps it when nobody wants it now (see `flowing`). */
  abstract onRecord(record: BatchRecord): void

  /** Its class, or the `label` option, and its descriptor. */
  get label(): string {
    return `${this.#extras?.name ?? this.constructor.name} ${this.#fd}`
  }

  /** Its descriptor. @throws ReactorError `ERR_CLOSED`; SystemError `EBADF` when the number was given to another. */
  get fd(): number {
    this.assertOpen()
    if (this.owned) return this.#fd
    const hint = 'The descriptor was closed without its source, and its number was given to another'
    throw new SystemError(EBADF, 'fcntl', { path: this.label, hint })
  }

  /** Whether it was closed or detached. */
  get closed(): boolean {
    return (this.#state & CLOSED) !== 0
  }

  /** Whether `pause()` was called last. */
  get paused(): boolean {
    return (this.#state & PAUSED) !== 0
  }

  /** Its statistics. */
  get stats(): SourceStats {
    const { fd, priority, interest, ref, events } = this.#token
    return { label: this.label, fd, priority, interest, ref, events }
  }

  /** Stops events from the next one on; what happens meanwhile waits in the kernel. */
  pause(): this {
    this.#state |= PAUSED
    this.update()
    return this
  }

  /** Lets events come again; what was drained before `pause()` comes first. */
  resume(): this {
    this.#state &= ~PAUSED
    this.#wake()
    return this
  }

  /** Lets it keep `run()` and the process going. */
  ref(): this {
    this.reactor.setRef(this.#token, true)
    return this
  }

  /** It no longer keeps `run()` and the process going. */
  unref(): this {
    this.reactor.setRef(this.#token, false)
    return this
  }

  /** Ends it: no event comes any more, not even from the batch that is being delivered. Idempotent. */
  close(): void {
    if (this.closed) return
    this.#end()
    this.ownedHandle?.close()
    super.emit('close')
  }

  /** `close()`, for `using`. */
  [Symbol.dispose](): void {
    this.close()
  }

  /** Calls `listener` for each `event`. The first one that wants what is drained starts the watching. */
  override on<Name extends EventName<Events>>(event: Name, listener: (...args: Events[Name]) => void): this {
    super.on(event, listener)
    return this.#listenersChanged()
  }

  /** The same as `on`. */
  addListener<Name extends EventName<Events>>(event: Name, listener: (...args: Events[Name]) => void): this {
    return this.on(event, listener)
  }

  /** Calls `listener` for the next `event` only. */
  override once<Name extends EventName<Events>>(
    event: Name,
    listener: (...args: Events[Name]) => void,
  ): this {
    this.#state |= ONCE_USED
    super.once(event, listener)
    return this.#listenersChanged()
  }

  /** The same as `removeListener`. */
  off<Name extends EventName<Events>>(event: Name, listener?: (...args: Events[Name]) => void): this {
    return this.removeListener(event, listener)
  }

  /** Takes a listener away, or all of an event. Without any that wants what is drained the watching ends. */
  override removeListener<Name extends EventName<Events>>(
    event: Name,
    listener?: (...args: Events[Name]) => void,
    context?: unknown,
    once?: boolean,
  ): this {
    super.removeListener(event, listener, context, once)
    return this.#listenersChanged()
  }

  /** Takes all listeners away, of one event or of all. */
  override removeAllListeners(event?: EventName<Events>): this {
    super.removeAllListeners(event)
    return this.#listenersChanged()
  }

  /** Calls the listeners; an `'error'` that nobody listens to is thrown. */
  override emit<Name extends EventName<Events>>(event: Name, ...args: Events[Name]): boolean {
    if (event === 'error' && this.listenerCount('error') === 0) throw args[0]
    return super.emit(event, ...args)
  }

  /**
   * The arguments of each `name` event, for `for await`. It buffers `limit` events and then pauses the source, ends when the source
   * closes, throws what the source reports as an error, and stops listening when the loop is left.
   */
  async *events<Name extends EventName<Events>>(
    name: Name,
    options: EventsOptions = {},
  ): AsyncGenerator<Events[Name], undefined, undefined> {
    const { limit = 16 } = options
    integer(1, 1_000_000)(limit, "events() option 'limit'")
    // What it had kept when it ended. The subclass knows which arguments belong to which event.
    const waiting = this.takeKept(name) as Events[Name][]
    const extras = this.#ownExtras
    let held = false
    let ended = this.closed || this.hasEnded
    let failure: Error | undefined
    let wake: (() => void) | undefined
    const hold = (full: boolean): void => {
      if (full === held) return
      held = full
      extras.holds += full ? 1 : -1
      if (extras.holds > 0) this.#state |= HELD
      else this.#state &= ~HELD
      if (full) this.update()
      else this.#wake()
    }
    const onEvent = (...args: Events[Name]): void => {
      waiting.push(args)
      if (waiting.length >= limit) hold(true)
      wake?.()
    }
    const onClose = (): void => {
      ended = true
      wake?.()
    }
    const onError = (error: Error): void => {
      failure ??= error
      wake?.()
    }
    this.on(name, onEvent)
    super.on('close', onClose)
    super.on('error', onError)
    const endings = this.endEvents
    for (const ending of endings) super.on(ending, onClose)
    // What others have heard, too, is not to come again.
    const recall = (): void => {
      const unheard = waiting.splice(0)
      if (unheard.length > 0 && this.listeners(name).every((each) => each === onEvent))
        this.takeBack(name, unheard)
    }
    const recalls = (extras.recalls ??= new Set())
    recalls.add(recall)
    try {
      for (;;) {
        const args = waiting.shift()
        if (args !== undefined) {
          if (waiting.length === 0) hold(false)
          yield args
        } else if (failure !== undefined) {
          throw failure
        } else if (ended) {
          return undefined
        } else {
          await new Promise<void>((resolve) => (wake = resolve))
          wake = undefined
        }
      }
    } finally {
      super.removeListener('close', onClose)
      super.removeListener('error', onError)
      for (const ending of endings) super.removeListener(ending, onClose)
      this.removeListener(name, onEvent)
      recalls.delete(recall)
      recall()
      hold(false)
    }
  }

  /** Events after which no other ones come, besides `'close'`. */
  protected get endEvents(): readonly string[] {
    return []
  }

  /** Whether events may be emitted now: somebody listens, nothing pauses it, and it is open. */
  protected get flowing(): boolean {
    return (this.#state & (CONSUMED | PAUSED | HELD | CLOSED)) === CONSUMED
  }

  /** What to watch for, while it is open. Overridden by sources that watch for more than their events. */
  protected wantedInterest(): number {
    return this.flowing ? this.#interest : 0
  }

  /** True while something that was drained waits for `emitKept()`. */
  protected get keepsSomething(): boolean {
    return false
  }

  /** Emits what was kept while it was not flowing, as long as it flows. */
  protected emitKept(): void {}

  /** For sources to which it matters what exactly is listened to. */
  protected listenersChanged(): void {}

  /** Its descriptor is of no more use: tells, and closes, since it would be reported again without end. */
  protected fail(error: Error): void {
    try {
      if (this.listenerCount('error') === 0) throw error
      super.emit('error', error)
    } finally {
      this.close()
    }
  }

  /** Whether one of `endEvents` was told already. */
  protected get hasEnded(): boolean {
    return false
  }

  /** Takes the arguments of `name` events that were kept when the source had ended, for an iterator that begins late. */
  protected takeKept(_name: string): unknown[][] {
    return []
  }

  /** Events that an iterator had buffered when its loop was left: what they carry must not be lost. */
  protected takeBack(_name: string, _events: readonly unknown[][]): void {}

  /** Calls listeners without looking at types or errors: for what comes often, and for types that depend on type parameters. */
  protected fire(event: string, ...args: unknown[]): void {
    if (this.#sole !== undefined && event === this.#soleEvent) this.#sole.call(this, ...args)
    else super.emit(event, ...args)
  }

  /** Applies a change of what is wanted: after the handler that is running, or now. */
  protected update(): void {
    if (this.closed) return
    if (!this.reactor.dispatching) return this.#apply()
    if ((this.#state & FLUSHING) !== 0) return
    this.#state |= FLUSHING
    this.reactor.afterHandler(this)
  }

  /** Adds to what the drain needs to know. */
  protected addArgument(delta: number): void {
    this.reactor.addArgument(this.#token, delta)
  }

  /** Tells the kernel its interest once more, which wakes a spent `OneShot` and repeats an edge that still lasts. */
  protected rearmInterest(): void {
    this.assertOpen()
    if (this.#token.interest !== 0) this.reactor.modify(this.#token, this.#token.interest)
  }

  /** False once its descriptor was closed behind its back and the number was given to another handle. */
  protected get owned(): boolean {
    return this.ownedHandle?.owned ?? true
  }

  /** @throws ReactorError `ERR_CLOSED`. */
  protected assertOpen(): void {
    if (this.closed) throw closedError(this.label)
  }

  /** Ends the source without closing its descriptor, which goes to the caller. */
  protected detachHandle(): FdHandle {
    this.assertOpen()
    for (const recall of this.#extras?.recalls ?? []) recall()
    this.#end()
    const handle = this.ownedHandle ?? FdHandle.adopt(this.#fd)
    try {
      super.emit('close')
    } catch (error) {
      this.throwLater(error) // the handle must reach who asked for it
    }
    return handle
  }

  /** For what a listener throws where others must still be told: it goes the way of errors in handlers, once they have been. */
  protected throwLater(error: unknown): void {
    const rethrow = (): never => {
      throw error
    }
    if (this.reactor.closed) process.nextTick(rethrow)
    else this.reactor.defer(rethrow)
  }

  onFlush(): void {
    if ((this.#state & FLUSHING) === 0) return
    this.#state &= ~FLUSHING
    if (!this.closed) this.#apply()
  }

  onSettle(_record: BatchRecord): void {
    // Most drains take nothing that could be lost by closing; the others override this.
  }

  #apply(): void {
    const interest = this.wantedInterest()
    if (interest !== this.#token.interest) this.reactor.modify(this.#token, interest)
  }

  #listenersChanged(): this {
    let count = 0
    for (const event of this.consumerEvents) {
      const listeners = this.listenerCount(event)
      if (listeners > 0) this.#soleEvent = event
      count += listeners
    }
    const sole = count === 1 && (this.#state & ONCE_USED) === 0
    this.#sole = sole ? this.listeners(this.#soleEvent)[0] : undefined
    const consumed = count > 0
    const changed = consumed !== ((this.#state & CONSUMED) !== 0)
    if (changed) this.#state ^= CONSUMED
    if (consumed && (changed || this.keepsSomething)) this.#wake()
    else if (changed) this.update()
    this.listenersChanged()
    return this
  }

  #wake(): void {
    this.update()
    if (!this.keepsSomething || this.closed) return
    this.reactor.defer(() => {
      try {
        if (this.flowing) this.emitKept()
      } catch (error) {
        this.#wake() // what a listener left by throwing must not wait for the next record
        throw error
      }
    })
  }

  /** No part of the constructor, for which V8 would then allocate a context each time. */
  #closeOn(signal: AbortSignal): void {
    const onAbort = (): void => this.close()
    signal.addEventListener('abort', onAbort)
    this.#ownExtras.forgetSignal = () => signal.removeEventListener('abort', onAbort)
  }

  #end(): void {
    this.#state |= CLOSED
    this.#extras?.forgetSignal?.()
    this.reactor.remove(this.#token)
  }

  get #ownExtras(): Extras {
    return (this.#extras ??= new Extras())
  }
}
