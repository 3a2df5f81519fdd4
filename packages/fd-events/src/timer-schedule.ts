/**
 * The arithmetic of a timer: when expirations are due, how many have passed, how late the newest is.
 *
 * Everything is computed from the points of one grid, `anchor + n × interval`, so no error can add up. Nothing here reads a
 * clock or calls the kernel.
 */
export class Schedule {
  #anchorNs: bigint
  #intervalNs: bigint
  #nextNs: bigint
  #newestNs: bigint

  /** Due at `firstNs` and then every `intervalNs`; 0n: once. The anchor is where an interval before the first one is counted from. */
  constructor(firstNs: bigint, intervalNs: bigint, anchorNs = firstNs) {
    this.#anchorNs = anchorNs
    this.#intervalNs = intervalNs
    this.#nextNs = firstNs
    this.#newestNs = anchorNs
  }

  /** When the first expiration is due that was not counted yet. */
  get nextNs(): bigint {
    return this.#nextNs
  }

  /** The time between two expirations; 0n when there is one only. */
  get intervalNs(): bigint {
    return this.#intervalNs
  }

  /** How many expirations are due by `nowNs` and were not counted yet. */
  due(nowNs: bigint): number {
    if (nowNs < this.#nextNs) return 0
    return this.#intervalNs === 0n ? 1 : Number((nowNs - this.#nextNs) / this.#intervalNs) + 1
  }

  /** Takes note of `expirations` more. */
  count(expirations: number): void {
    if (expirations === 0) return
    this.#nextNs += BigInt(expirations) * this.#intervalNs
    this.#newestNs = this.#intervalNs === 0n ? this.#nextNs : this.#nextNs - this.#intervalNs
  }

  /** How long ago the expiration was due that `newer` counted ones came after. */
  latenessNs(nowNs: bigint, newer = 0): number {
    // A set clock may show less than it did when the expiration was due.
    return Math.max(0, Number(nowNs - this.#newestNs) + newer * Number(this.#intervalNs))
  }

  /** Goes on, without counting, at the first point of the grid after `nowNs`; a single expiration stays where it is. */
  follow(nowNs: bigint): void {
    if (this.#anchorNs > nowNs || this.#intervalNs === 0n) this.#nextNs = this.#anchorNs
    else this.#nextNs = nowNs + this.#intervalNs - ((nowNs - this.#anchorNs) % this.#intervalNs)
  }

  /** The grid goes through the newest expiration from now on, or through the anchor while there was none. */
  changeInterval(intervalNs: bigint, nowNs: bigint): void {
    this.#anchorNs = this.#newestNs
    this.#intervalNs = intervalNs
    this.follow(nowNs)
  }
}
