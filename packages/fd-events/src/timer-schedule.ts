/**
 * The arithmetic of a timer: when expirations are due, how many have passed, how late the newest is.
 *
 * Everything is computed from the points of one grid, `anchor + n × interval`, so no error can add up: a tick only counts, in
 * numbers, and instants are made from the count when somebody asks for one. Nothing here reads a clock or calls the kernel.
 */
import { Instant } from '@fd-reactor/core'

/** Something that was read from the timer's clock. */
export interface Reading {
  since(earlier: Instant): number
}

export class Schedule {
  #anchorNs: bigint
  #intervalNs: number
  /** The first expiration that `#counted` counts. */
  #firstNs: bigint
  #first: Instant
  #counted = 0
  /** The newest one before that, or the anchor. */
  #beforeNs: bigint

  /** Due at `firstNs` and then every `intervalNs`; 0: once. The anchor is where an interval before the first one is counted from. */
  constructor(firstNs: bigint, intervalNs: number, anchorNs = firstNs) {
    this.#anchorNs = anchorNs
    this.#intervalNs = intervalNs
    this.#firstNs = firstNs
    this.#first = new Instant(firstNs)
    this.#beforeNs = anchorNs
  }

  /** When the first expiration is due that was not counted yet. */
  get nextNs(): bigint {
    return this.#firstNs + BigInt(this.#counted) * BigInt(this.#intervalNs)
  }

  /** The time between two expirations; 0 when there is one only. */
  get intervalNs(): number {
    return this.#intervalNs
  }

  /** How many expirations are due by `nowNs` and were not counted yet. */
  due(nowNs: bigint): number {
    const { nextNs } = this
    if (nowNs < nextNs) return 0
    return this.#intervalNs === 0 ? 1 : Number((nowNs - nextNs) / BigInt(this.#intervalNs)) + 1
  }

  /** Takes note of `expirations` more. */
  count(expirations: number): void {
    this.#counted += expirations
  }

  /**
   * How long ago the expiration was due that `newer` counted ones came after: exact for 104 days after the first one, then some
   * nanoseconds off.
   */
  latenessNs(now: Reading, newer = 0): number {
    // A set clock may show less than it did when the expiration was due.
    return Math.max(0, now.since(this.#first) - this.#newestAfterFirst + newer * this.#intervalNs)
  }

  /** Goes on, without counting, at the first point of the grid after `nowNs`; a single expiration stays where it is. */
  follow(nowNs: bigint): void {
    this.#restart(this.#newestNs, nowNs)
  }

  /** The grid goes through the newest expiration from now on, or through the anchor while there was none. */
  changeInterval(intervalNs: number, nowNs: bigint): void {
    const newestNs = this.#newestNs
    this.#anchorNs = newestNs
    this.#intervalNs = intervalNs
    this.#restart(newestNs, nowNs)
  }

  /** When the newest counted expiration was due, or the anchor. */
  get #newestNs(): bigint {
    if (this.#counted === 0) return this.#beforeNs
    return this.#firstNs + BigInt(this.#counted - 1) * BigInt(this.#intervalNs)
  }

  get #newestAfterFirst(): number {
    if (this.#counted === 0) return Number(this.#beforeNs - this.#firstNs)
    return (this.#counted - 1) * this.#intervalNs
  }

  #restart(newestNs: bigint, nowNs: bigint): void {
    const intervalNs = BigInt(this.#intervalNs)
    if (this.#anchorNs > nowNs || intervalNs === 0n) this.#firstNs = this.#anchorNs
    else this.#firstNs = nowNs + intervalNs - ((nowNs - this.#anchorNs) % intervalNs)
    this.#first = new Instant(this.#firstNs)
    this.#beforeNs = newestNs
    this.#counted = 0
  }
}
