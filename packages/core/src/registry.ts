/**
 * Who is registered: slots, who has them, and the rule that a slot is not reused before its batch is over.
 */
import type { BatchRecord } from './batch.js'
import type { Drain, Priority } from './sys/constants.js'

/** What the reactor asks of whoever registers a descriptor with it. {@link Source} implements it. */
export interface Registrant {
  /** Names it in warnings and errors, such as `EventFd 17`. */
  readonly label: string
  /** Something was drained. `record` is valid during the call only. */
  onRecord(record: BatchRecord): void
  /** It was removed when this had been drained for it already: nothing may be delivered, and nothing may leak. */
  onSettle(record: BatchRecord): void
  /** The handler that asked for it (see `Reactor.afterHandler`) has returned. */
  onFlush(): void
  /** The reactor is being closed, or a handler threw and the policy is to close. */
  close(): void
}

/** What is registered. */
export interface Registration {
  /** The descriptor. It must stay open until it is removed. */
  fd: number
  /** {@link Interest} bits; 0 registers it without watching it. */
  interest: number
  /** What native code does when it is ready. Default: nothing. */
  drain?: Drain
  /** What the drain needs to know, see {@link Drain}. */
  argument?: number
  /** Default `'normal'`. */
  priority?: Priority
  /** Whether it keeps `run()` and the process going. Default true. */
  ref?: boolean
}

let serials = 0

// What a token is, in bits: there is one for each source, and a daemon holds thousands. Neither high nor low is normal.
const ACTIVE = 1 << 0
const REF = 1 << 1
const HIGH = 1 << 2
const LOW = 1 << 3

/** One registration. Slot and generation travel through the kernel with each event. */
export class Token {
  /** How many records were delivered. */
  events = 0
  /** Grows with each registration: how new it is. */
  readonly serial = ++serials
  #state = ACTIVE

  /** Only the reactor makes these. */
  constructor(
    /** Who registered it. */
    readonly owner: Registrant,
    /** Its place in the table. */
    readonly slot: number,
    /** The descriptor. */
    readonly fd: number,
    priority: Priority,
    /** What it is watched for now. */
    public interest: number,
    ref: boolean,
  ) {
    if (ref) this.#state |= REF
    if (priority === 'high') this.#state |= HIGH
    if (priority === 'low') this.#state |= LOW
  }

  /** Tells it from those that had the slot before: its serial, as far as that goes into 32 bits. */
  get generation(): number {
    return this.serial >>> 0
  }

  /** Which records are delivered first. */
  get priority(): Priority {
    if ((this.#state & HIGH) !== 0) return 'high'
    return (this.#state & LOW) !== 0 ? 'low' : 'normal'
  }

  /** Whether it keeps the process going. */
  get ref(): boolean {
    return (this.#state & REF) !== 0
  }

  /** Only the reactor changes it. */
  set ref(ref: boolean) {
    if (ref) this.#state |= REF
    else this.#state &= ~REF
  }

  /** False once it was removed. */
  get active(): boolean {
    return (this.#state & ACTIVE) !== 0
  }

  /** Only the reactor changes it. */
  set active(active: boolean) {
    if (active) this.#state |= ACTIVE
    else this.#state &= ~ACTIVE
  }
}

/** The table of tokens by slot. */
export class Registry {
  readonly #tokens: (Token | undefined)[] = []
  readonly #free: number[] = []
  readonly #freed: number[] = []
  /** How many registrations keep the process going. */
  refs = 0
  /** How many are of high priority. */
  high = 0

  add(owner: Registrant, registration: Registration): Token {
    const { fd, interest, priority = 'normal', ref = true } = registration
    const slot = this.#free.pop() ?? this.#tokens.length
    const token = new Token(owner, slot, fd, priority, interest, ref)
    this.#tokens[slot] = token
    if (ref) this.refs++
    if (priority === 'high') this.high++
    return token
  }

  find(slot: number, generation: number): Token | undefined {
    const token = this.#tokens[slot]
    return token?.generation === generation ? token : undefined
  }

  remove(token: Token): void {
    token.active = false
    this.#tokens[token.slot] = undefined
    this.#freed.push(token.slot)
    if (token.ref) this.refs--
    if (token.priority === 'high') this.high--
  }

  /** No record of an earlier batch is left: what was freed may be used again. */
  recycle(): void {
    for (const slot of this.#freed) this.#free.push(slot)
    this.#freed.length = 0
  }

  /** What is registered, oldest slot first. */
  tokens(): Token[] {
    return this.#tokens.filter((token) => token !== undefined)
  }
}
