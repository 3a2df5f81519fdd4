/**
 * The reactor: what is registered, the delivery of each batch, and the life of the loop around it.
 *
 * Native code drains what is ready and calls `#deliver` once for a chunk of records. Each record finds its token by slot and
 * generation, so a late one never reaches the wrong source; what it carried was settled when its source was removed.
 */
import process from 'node:process'
import { Batch } from './batch.js'
import { check, closedError, ReactorError, SystemError } from './errors.js'
import type { FdHandle } from './fd-handle.js'
import { closeGuarded, handleError, type HandlerErrorPolicy } from './handler-errors.js'
import { boolean, checkOptions } from './options.js'
import { reactorOptionChecks, type ReactorOptions, type RunOptions } from './reactor-options.js'
import { Registry, type Registrant, type Registration, type Token } from './registry.js'
import { Measurements, type ReactorStats, type SourceInfo } from './stats.js'
import { Drain, priorityNumber } from './sys/constants.js'
import { native, type NativeReactor } from './sys/native.js'
import { wakeups, type Wakeup } from './wakeup.js'

/**
 * One epoll-driven loop inside Node's own, for any number of typed sources.
 *
 * Guaranteed: an event is delivered to the source that owned the descriptor when it was drained, or settled, never to another;
 * closing a source takes effect at once, for the rest of the same batch too; a handler that throws costs no other source its
 * event; an event of high priority waits for at most one chunk of others. Not guaranteed: any order between sources of equal
 * priority; one event per change (levels are reported, not edges); anything while a handler runs. `process.nextTick` callbacks
 * and microtasks run after each chunk, not after each handler (with the `epoll` and `manual` wakeups after each turn), and handlers see the AsyncLocalStorage store of the moment in
 * which the reactor was made.
 *
 * A reactor belongs to the thread that made it.
 *
 * @throws ReactorError `ERR_UNSUPPORTED_PLATFORM` on anything but Linux; `ERR_ADDON_MISSING` when the addon was not built.
 * @throws SystemError `EMFILE` when no descriptor is left.
 * @throws TypeError, RangeError for options that do not exist or are out of range.
 * @example
 * import { Reactor } from '@fd-reactor/core'
 * using reactor = new Reactor({ name: 'example' })
 * reactor.defer(() => reactor.stop(0))
 * const code = await reactor.run()
 * console.log(code) // 0
 * @see epoll(7)
 */
export class Reactor implements Disposable {
  /** Names it in errors. */
  readonly name: string
  readonly #native: NativeReactor
  readonly #registry = new Registry()
  readonly #main: Batch
  readonly #high: Batch
  readonly #wakeup: Wakeup
  readonly #chunkMs: number
  readonly #onHandlerError: HandlerErrorPolicy
  readonly #measurements: Measurements | undefined
  readonly #flushes: (Registrant | undefined)[] = []
  #flushCount = 0
  #deferred: (() => void)[] = []
  #depth = 0
  #batches = 0
  #events = 0
  #rebuilds = 0
  #wanted = true
  #alive = false
  #closed = false
  #stopCode: number | undefined
  #run: { settle: (code: number) => void; keepOpen: boolean } | undefined

  constructor(options: ReactorOptions = {}) {
    checkOptions('Reactor', options, reactorOptionChecks)
    const {
      wakeup = 'uv',
      busyPollMicros = 0,
      maxEventsPerBatch = 256,
      chunkRecords = 32,
      measure = false,
    } = options
    this.name = options.name ?? 'reactor'
    this.#chunkMs = (options.chunkMicros ?? 50) / 1000
    this.#onHandlerError = options.onHandlerError ?? 'throw'
    this.#measurements = measure ? new Measurements() : undefined
    const made = native().createReactor(
      this.#deliver,
      this.#rebuilt,
      maxEventsPerBatch,
      chunkRecords,
      busyPollMicros,
      measure,
    )
    if (typeof made === 'number') throw new SystemError(made, 'epoll_create1')
    this.#native = made
    const [mainRecords, mainSlab, highRecords, highSlab] = made.buffers
    this.#main = new Batch(mainRecords, mainSlab)
    this.#high = new Batch(highRecords, highSlab)
    try {
      this.#wakeup = wakeups[wakeup]({
        fd: made.fd,
        handle: made.handle,
        turn: () => void native().reactorTurn(made.handle),
        onRebuild: options.onRebuild,
      })
    } catch (error) {
      native().reactorClose(made.handle)
      throw error
    }
    this.#wakeup.setRef(false)
  }

  /** The epoll descriptor, for embedders: readable while something is ready. Only to be watched, never to be changed. */
  get fd(): number {
    return this.#open().fd
  }

  /** Identifies the reactor in this process. */
  get id(): bigint {
    return this.#native.id
  }

  /** Whether `close()` was called. */
  get closed(): boolean {
    return this.#closed
  }

  /** Whether a handler is running now. */
  get dispatching(): boolean {
    return this.#depth > 0
  }

  /**
   * Watches a descriptor on behalf of `owner`. Sources do this for themselves; it is there for those who write sources.
   * @throws SystemError `EPERM` for what is always ready, such as a regular file; `EEXIST` when the descriptor is registered;
   * `ENOSPC` at the limit of /proc/sys/fs/epoll/max_user_watches; `ELOOP` when epoll sets nest too deep.
   */
  register(owner: Registrant, registration: Registration): Token {
    const { handle } = this.#open()
    const { fd, interest, drain = Drain.None, argument = 0, priority = 'normal' } = registration
    const token = this.#registry.add(owner, registration)
    const number = priorityNumber[priority]
    const result = native().reactorAdd(
      handle,
      token.slot,
      token.generation,
      fd,
      interest,
      drain,
      number,
      argument,
    )
    if (result < 0) {
      this.#registry.remove(token)
      throw new SystemError(result, 'epoll_ctl', { path: owner.label, hint: REGISTER_HINTS[result] })
    }
    this.#updateRef()
    return token
  }

  /** Changes what a registration is watched for; 0 takes it out of the set until it is changed again. */
  modify(token: Token, interest: number): void {
    if (!token.active) throw closedError(token.owner.label)
    token.interest = interest
    const result = native().reactorModify(this.#native.handle, token.slot, interest)
    if (result < 0)
      throw new SystemError(result, 'epoll_ctl', { path: token.owner.label, hint: MODIFY_HINTS[result] })
  }

  /** Adds to what the drain needs to know, see {@link Drain}. A sum, because the drain counts it down ahead of the delivery. */
  addArgument(token: Token, delta: number): void {
    if (token.active) native().reactorAddArgument(this.#native.handle, token.slot, delta)
  }

  /** Changes whether a registration keeps `run()` and the process going. */
  setRef(token: Token, ref: boolean): void {
    if (!token.active || token.ref === ref) return
    token.ref = ref
    this.#registry.refs += ref ? 1 : -1
    this.#updateRef()
  }

  /** Ends a registration. What was drained for it and not delivered goes to `onSettle` first. */
  remove(token: Token): void {
    if (!token.active) return
    this.#settle(token, this.#high)
    this.#settle(token, this.#main)
    this.#registry.remove(token)
    if (!this.#closed) native().reactorRemove(this.#native.handle, token.slot)
    if (this.#depth === 0 && this.#main.next === this.#main.count) this.#registry.recycle()
    this.#updateRef()
  }

  /**
   * send(2) without blocking: how many bytes the kernel took, or -errno. From the slab of the batch that is being delivered it is
   * cheapest.
   */
  send(handle: FdHandle, bytes: Uint8Array, offset: number, length: number): number {
    const source = bytes === this.#main.slab ? 0 : bytes === this.#high.slab ? 1 : bytes
    return this.#main.send(this.#native, handle, source, offset, length)
  }

  /** Calls `owner.onFlush()` once, after the handler that is running. Returns false, and does nothing, when none is. */
  afterHandler(owner: Registrant): boolean {
    if (this.#depth === 0) return false
    this.#flushes[this.#flushCount++] = owner
    return true
  }

  /**
   * Runs `callback` once: after the chunk that is being delivered (a high one may lie within a batch of others), or else in the next
   * turn of the loop. It keeps `run()` going.
   * @throws ReactorError `ERR_CLOSED`.
   */
  defer(callback: () => void): void {
    const { handle } = this.#open()
    this.#deferred.push(callback)
    if (this.#depth > 0) return
    check(native().reactorWake(handle), 'eventfd')
    this.#updateRef()
  }

  /** Lets the reactor keep the process going again. */
  ref(): this {
    this.#wanted = true
    this.#updateRef()
    return this
  }

  /** No source of the reactor keeps the process going any more, and `run()` settles with 0. */
  unref(): this {
    this.#wanted = false
    this.#updateRef()
    return this
  }

  /**
   * Delivers what is ready now, for embedders that poll `fd` in a loop of their own; returns how many records that were.
   * Ticks and microtasks run when the caller's own callback returns.
   * @throws ReactorError `ERR_REENTRANT` inside a handler; `ERR_CLOSED`.
   */
  dispatch(): number {
    const { handle } = this.#open()
    if (this.#depth > 0) {
      throw new ReactorError(
        'ERR_REENTRANT',
        'dispatch() inside a handler would deliver events out of order: use defer()',
      )
    }
    return native().reactorTurn(handle)
  }

  /**
   * Settles with the code of `stop(code)`, with 0 on `close()`, or with 0 once no ref'd source is left. Settling closes the
   * reactor and its sources, unless `keepOpen`.
   * @throws ReactorError `ERR_RUNNING` when it runs already; `ERR_CLOSED`.
   */
  async run(options: RunOptions = {}): Promise<number> {
    checkOptions('Reactor.run', options, { keepOpen: boolean })
    this.#open()
    if (this.#run !== undefined) throw new ReactorError('ERR_RUNNING', 'The reactor is running already')
    return new Promise((resolve) => {
      this.#run = { settle: resolve, keepOpen: options.keepOpen ?? false }
      this.#settleRun()
      this.#settleWhenIdle()
    })
  }

  /** Makes `run()` settle with `code`: after the chunk that is being delivered, or at once; a run that begins later, as it begins. */
  stop(code = 0): void {
    this.#stopCode ??= code
    if (this.#depth === 0) this.#settleRun()
  }

  /** Counts, and histograms if the reactor measures. */
  stats(): ReactorStats {
    return {
      batches: this.#batches,
      events: this.#events,
      rebuilds: this.#rebuilds,
      sources: this.sources(),
      ...(this.#measurements && {
        handlerTimeNs: this.#measurements.handlerTimeNs,
        deliveryDelayNs: this.#measurements.deliveryDelayNs,
      }),
    }
  }

  /** What is registered. */
  sources(): SourceInfo[] {
    return this.#registry.tokens().map(({ owner: { label }, fd, priority, interest, ref, events }) => {
      return { label, fd, priority, interest, ref, events }
    })
  }

  /** Closes every source, newest first, then the reactor; `run()` settles with 0, or with the code of `stop()`. Idempotent. */
  close(): void {
    if (this.#closed) return
    // Sources are closed while the reactor can still take their registrations out.
    for (const token of this.#registry.tokens().sort((a, b) => b.serial - a.serial)) closeGuarded(token.owner)
    this.#closed = true
    this.#deferred = []
    this.#wakeup.stop()
    native().reactorClose(this.#native.handle)
    this.#stopCode ??= 0
    this.#settleRun()
  }

  /** `close()`, for `using`. */
  [Symbol.dispose](): void {
    this.close()
  }

  #open(): NativeReactor {
    if (this.#closed) throw closedError(`The reactor '${this.name}'`)
    return this.#native
  }

  /** Called by native code: delivers records from `from` on, until the end or until the time for one chunk is over. */
  readonly #deliver = (high: number, from: number, count: number): void => {
    const batch = high === 1 ? this.#high : this.#main
    const bounded = high === 0 && this.#registry.high > 0
    const deadline = bounded ? performance.now() + this.#chunkMs : 0
    batch.count = count
    batch.next = from
    this.#batches++
    this.#depth++
    let index = from
    while (index < count) {
      batch.seek(index++)
      batch.next = index
      const token = this.#registry.find(batch.slot, batch.generation)
      if (token === undefined) continue // removed since; settled then
      token.events++
      this.#events++
      this.#measurements?.begin(batch.returnedNs)
      try {
        token.owner.onRecord(batch)
      } catch (error) {
        this.#fail(error, token.owner)
      }
      if (this.#flushCount > 0) this.#flush()
      this.#measurements?.end()
      if (bounded && performance.now() > deadline) break
    }
    if (this.#deferred.length > 0) this.#runDeferred()
    this.#depth--
    if (this.#depth === 0 && this.#main.next === this.#main.count) this.#registry.recycle()
    if (this.#stopCode !== undefined) this.#settleRun()
    batch.settle(index)
  }

  readonly #rebuilt = (priority: number): void => {
    this.#rebuilds++
    // The sets of the other priorities hang in the one that the outer loop watches.
    if (priority === priorityNumber.normal) this.#wakeup.rebuilt()
    process.emitWarning(
      `The reactor '${this.name}' made its epoll set anew: a descriptor was closed without its source while a duplicate of it ` +
        'stayed open, and the kernel went on reporting it. Close the source, not its descriptor',
      { code: 'FD_REACTOR_REBUILT' },
    )
  }

  #flush(): void {
    // A flush may ask for another one, so the count is read anew. The list keeps its size: shrinking it would cost more.
    for (let index = 0; index < this.#flushCount; index++) {
      const owner = this.#flushes[index]
      this.#flushes[index] = undefined
      try {
        owner?.onFlush()
      } catch (error) {
        this.#fail(error, owner)
      }
    }
    this.#flushCount = 0
  }

  #runDeferred(): void {
    const callbacks = this.#deferred
    this.#deferred = []
    for (const callback of callbacks) {
      try {
        callback()
      } catch (error) {
        this.#fail(error, undefined)
      }
      if (this.#flushCount > 0) this.#flush()
    }
    // What they deferred in turn waits for the next turn, so that a chain of them cannot keep the loop here.
    if (this.#deferred.length > 0) native().reactorWake(this.#native.handle)
    this.#updateRef()
  }

  /** Hands what was drained for a source, and not delivered yet, to the source that is being removed. */
  #settle(token: Token, batch: Batch): void {
    const current = batch.index
    for (let index = batch.next; index < batch.count; index++) {
      batch.seek(index)
      if (batch.slot === token.slot && batch.generation === token.generation) token.owner.onSettle(batch)
    }
    batch.seek(current)
  }

  #fail(error: unknown, owner: Registrant | undefined): void {
    handleError(this.#onHandlerError, error, owner)
  }

  #updateRef(): void {
    const alive = !this.#closed && this.#wanted && (this.#registry.refs > 0 || this.#deferred.length > 0)
    if (alive === this.#alive) return
    this.#alive = alive
    if (!this.#closed) this.#wakeup.setRef(alive)
    if (!alive) this.#settleWhenIdle()
  }

  /** Looked at again a turn later: a handler may be about to replace the last source that it closed. */
  #settleWhenIdle(): void {
    if (this.#run === undefined || this.#alive) return
    setImmediate(() => {
      if (this.#run === undefined || this.#alive) return
      this.#stopCode ??= 0
      this.#settleRun()
    })
  }

  #settleRun(): void {
    const run = this.#run
    if (run === undefined || this.#stopCode === undefined || this.#depth > 0) return
    const code = this.#stopCode
    this.#run = undefined
    this.#stopCode = undefined
    run.settle(code)
    if (!run.keepOpen) this.close()
  }
}

const REGISTER_HINTS: Readonly<Record<number, string>> = {
  [-1]: 'epoll refuses what is always ready: regular files and directories. Read them with node:fs',
  [-17]: 'The descriptor is registered with this reactor already',
}

const MODIFY_HINTS: Readonly<Record<number, string>> = {
  [-9]: 'The descriptor was closed without its source',
  [-2]: 'The descriptor was closed without its source, and its number was given to another file',
}
