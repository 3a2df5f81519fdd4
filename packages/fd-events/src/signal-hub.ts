/**
 * Who reads which signal: several SignalFds of one reactor share signals through its hub.
 *
 * A signal that two signalfds ask for goes to either of them, so only one asks for it at a time: the subscriber of highest
 * priority, the oldest of these, among those that want it now. What it reads goes to all. A signal that nobody wants waits in the
 * kernel. What slips past the mask (a thread that unblocks a signal by itself) comes through one pipe, the net, and goes the
 * same way.
 */
import { Buffer } from 'node:buffer'
import { readSync } from 'node:fs'
import { Drain, FdHandle, Interest, SystemError } from '@fd-reactor/core'
import type { BatchRecord, Priority, Reactor, Registrant, Token } from '@fd-reactor/core'
import { signalfd, transfer } from '@fd-reactor/core/sys'
import { decodeSignal, SIGINFO_BYTES, type SignalInfo } from './signal-info.js'
import { signalName } from './signal-names.js'

/** Whom the hub serves. */
export interface Subscriber {
  /** Whether it would emit this signal now. */
  wants(signo: number): boolean
  /** Emits a signal as soon as it may. */
  take(info: SignalInfo): void
  /** So many signals were lost before they could be read. */
  lose(count: number): void
  /** It has left, and takes nothing any more. */
  left(): void
}

interface Channel {
  /** In the order in which they are to read it. */
  readonly subscriptions: Subscription[]
  /** Whose descriptor asks for it. */
  reader: Subscription | undefined
  /** Who read it last, while records of that may wait in a batch: another reader would overtake them. */
  former: Subscription | undefined
}

const RANKS: Readonly<Record<Priority, number>> = { high: 0, normal: 1, low: 2 }
const EBUSY = 16
const hubs = new WeakMap<Reactor, SignalHub>()

function setOf(signals: Iterable<number>): bigint {
  let set = 0n
  for (const signo of signals) set |= 1n << BigInt(signo - 1)
  return set
}

/** A signalfd together with the share in its signals; closing it gives both back. */
export class Subscription extends FdHandle {
  readonly #hub: SignalHub
  readonly signals: readonly number[]
  readonly rank: number
  /** What the signalfd asks for. */
  asked = 0n
  subscriber: Subscriber | undefined

  constructor(hub: SignalHub, signals: readonly number[], priority: Priority) {
    super(signalfd.create(0n))
    this.#hub = hub
    this.signals = signals
    this.rank = RANKS[priority]
  }

  /** Tells the hub that `wants()` may have changed. */
  changed(): void {
    this.#hub.assign()
  }

  /** Hands what the signalfd read to all who subscribe to it. */
  fanOut(record: BatchRecord): void {
    this.#hub.fanOut(record.slab, record.offset, record.length)
  }

  override close(): void {
    if (this.closed) return
    super.close()
    this.#hub.leave(this)
  }
}

/** The signals of one reactor, and its net. It lives while anybody subscribes. */
export class SignalHub implements Registrant {
  readonly label = 'SignalFd net'
  readonly #reactor: Reactor
  readonly #channels = new Map<number, Channel>()
  readonly #members = new Set<Subscription>()
  readonly #net: FdHandle
  readonly #netEntry: FdHandle
  readonly #token: Token
  #lost: number
  #handingOver = false

  /** Subscribes to signals that no other reactor has. @throws SystemError `EBUSY` with the owner's name; `EMFILE`. */
  static subscribe(reactor: Reactor, signals: readonly number[], priority: Priority): Subscription {
    const hub = hubs.get(reactor) ?? new SignalHub(reactor)
    try {
      return hub.#join(new Subscription(hub, signals, priority))
    } finally {
      hub.#endWhenEmpty()
    }
  }

  private constructor(reactor: Reactor) {
    this.#reactor = reactor
    const [net, entry] = transfer.pipe()
    this.#net = new FdHandle(net)
    this.#netEntry = new FdHandle(entry)
    try {
      // Not of high priority: that would make the reactor look at its clock after every record, for what hardly ever comes.
      this.#token = reactor.register(this, {
        fd: net,
        interest: Interest.In,
        drain: Drain.Signal,
        ref: false,
      })
    } catch (error) {
      this.#net.close()
      this.#netEntry.close()
      throw error
    }
    this.#lost = signalfd.lost(reactor.id)
    hubs.set(reactor, this)
  }

  #join(subscription: Subscription): Subscription {
    const { id, name } = this.#reactor
    try {
      const busy = signalfd.acquire(id, name, this.#netEntry.fd, setOf(subscription.signals))
      if (busy !== undefined) {
        const hint = `It belongs to '${busy.owner}': one reactor has a signal at a time, and only SignalFds of that one can share it`
        throw new SystemError(-EBUSY, 'pthread_sigmask', { path: signalName(busy.signo), hint })
      }
    } catch (error) {
      subscription.close()
      throw error
    }
    this.#members.add(subscription)
    for (const signo of subscription.signals) {
      let channel = this.#channels.get(signo)
      if (channel === undefined) {
        this.#channels.set(signo, (channel = { subscriptions: [], reader: undefined, former: undefined }))
      }
      const place = channel.subscriptions.findIndex(({ rank }) => rank > subscription.rank)
      channel.subscriptions.splice(place < 0 ? channel.subscriptions.length : place, 0, subscription)
    }
    return subscription
  }

  /** Takes a closed subscription out; what was pending of signals that nobody has any more goes to it first. */
  leave(subscription: Subscription): void {
    if (!this.#members.has(subscription)) return
    // First what is in a batch already, then what waits in the kernel, last what fell into the net meanwhile.
    if (this.#members.size === 1) this.#reactor.remove(this.#token)
    const pending = signalfd.release(this.#reactor.id, setOf(subscription.signals))
    this.fanOut(pending, 0, pending.length)
    this.#emptyNet()
    this.#countLost()
    this.#members.delete(subscription)
    for (const signo of subscription.signals) {
      const channel = this.#channels.get(signo)
      channel?.subscriptions.splice(channel.subscriptions.indexOf(subscription), 1)
      if (channel?.subscriptions.length === 0) this.#channels.delete(signo)
    }
    this.#endWhenEmpty()
    this.assign()
    subscription.subscriber?.left()
  }

  /** Decides anew who reads what. */
  assign(): void {
    for (const [signo, channel] of this.#channels) this.#choose(signo, channel)
    for (const subscription of this.#members) {
      const asked = setOf(
        subscription.signals.filter((signo) => this.#channels.get(signo)?.reader === subscription),
      )
      if (asked === subscription.asked) continue
      subscription.asked = asked
      signalfd.update(subscription.fd, asked)
    }
  }

  #choose(signo: number, channel: Channel): void {
    const best = channel.subscriptions.find(({ subscriber }) => subscriber?.wants(signo))
    if (best === channel.reader) return
    // A closed reader's records were settled when it closed.
    if (best !== undefined && channel.former !== best && channel.former?.closed === false) {
      channel.reader = undefined
      this.#handOverLater()
    } else {
      channel.reader = best
      channel.former = best ?? channel.former
    }
  }

  /** In Node's next turn no batch is under way, so what the former readers took has been delivered. */
  #handOverLater(): void {
    if (this.#handingOver) return
    this.#handingOver = true
    setImmediate(() => {
      this.#handingOver = false
      for (const channel of this.#channels.values()) {
        if (channel.reader === undefined) channel.former = undefined
      }
      this.assign()
    })
  }

  /** Gives each structure in `bytes` to all who subscribe to its signal. They only take it: no handler runs in here. */
  fanOut(bytes: Buffer, offset: number, length: number): void {
    for (let at = offset; at < offset + length; at += SIGINFO_BYTES) {
      const info = decodeSignal(bytes, at)
      const channel = this.#channels.get(info.signo)
      if (channel === undefined) this.#lose(1)
      else for (const { subscriber } of channel.subscriptions) subscriber?.take(info)
    }
  }

  #lose(count: number): void {
    for (const { subscriber } of this.#members) subscriber?.lose(count)
  }

  #countLost(): void {
    const lost = signalfd.lost(this.#reactor.id)
    if (lost > this.#lost) this.#lose(lost - this.#lost)
    this.#lost = lost
  }

  /** What fell into the net and was not read when the handlers that fill it were taken away. */
  #emptyNet(): void {
    const bytes = Buffer.allocUnsafe(64 * SIGINFO_BYTES)
    try {
      for (;;) this.fanOut(bytes, 0, readSync(this.#net.fd, bytes))
    } catch (error) {
      if (!(error instanceof Error && 'code' in error && error.code === 'EAGAIN')) throw error
    }
  }

  #endWhenEmpty(): void {
    if (this.#members.size > 0) return
    hubs.delete(this.#reactor)
    this.#reactor.remove(this.#token)
    this.#net.close()
    this.#netEntry.close()
  }

  onRecord(record: BatchRecord): void {
    if (record.result > 0) this.fanOut(record.slab, record.offset, record.length)
    this.#countLost() // losses need a full pipe, so there is always a record after them
  }

  onSettle(record: BatchRecord): void {
    if (record.result > 0) this.fanOut(record.slab, record.offset, record.length)
  }

  onFlush(): void {
    // It never asks for one.
  }

  close(): void {
    // Nothing to do: it ends with its last subscriber, and those are newer, so the reactor has closed them.
  }
}
