/**
 * Who is registered: slots, their generations, and the rule that a slot is not reused before its batch is over.
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

/** One registration. Slot and generation travel through the kernel with each event. */
export class Token {
  /** How many records were delivered. */
  events = 0
  /** False once it was removed. */
  active = true
  /** Grows with each registration: how new it is. */
  readonly serial = ++serials

  /** Only the reactor makes these. */
  constructor(
    /** Who registered it. */
    readonly owner: Registrant,
    /** Its place in the table. */
    readonly slot: number,
    /** The how-manieth use of the slot. */
    readonly generation: number,
    /** The descriptor. */
    readonly fd: number,
    /** Which records are delivered first. */
    readonly priority: Priority,
    /** What it is watched for now. */
    public interest: number,
    /** Whether it keeps the process going. */
    public ref: boolean,
  ) {}
}

/** The table of tokens by slot. */
export class Registry {
  readonly #tokens: (Token | undefined)[] = []
  readonly #generations: number[] = []
  readonly #free: number[] = []
  readonly #freed: number[] = []
  /** How many registrations keep the process going. */
  refs = 0
  /** How many are of high priority. */
  high = 0

  add(owner: Registrant, registration: Registration): Token {
    const { fd, interest, priority = 'normal', ref = true } = registration
    const slot = this.#free.pop() ?? this.#generations.push(0) - 1
    const generation = ((this.#generations[slot] ?? 0) + 1) >>> 0
    this.#generations[slot] = generation
    const token = new Token(owner, slot, generation, fd, priority, interest, ref)
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
