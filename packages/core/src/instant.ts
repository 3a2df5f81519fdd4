/**
 * A point on one of the kernel's clocks, for arithmetic that happens at each tick.
 *
 * As a bigint it would be allocated for each tick, and after a millisecond of sleep bigint arithmetic costs more than all else
 * between the kernel and the handler.
 */
export class Instant {
  /** The upper 32 bits of its nanoseconds, signed. */
  readonly #high: number
  /** The lower 32 bits, unsigned. */
  readonly #low: number

  constructor(ns: bigint) {
    this.#high = Number(ns >> 32n)
    this.#low = Number(ns & 0xffffffffn)
  }

  /** Nanoseconds from `earlier` to here: exact below 2^53, which is 104 days. */
  since(earlier: Instant): number {
    return earlier.until(this.#high, this.#low)
  }

  /** Nanoseconds from here to what is given in two halves. */
  until(high: number, low: number): number {
    return (high - this.#high) * 2 ** 32 + (low - this.#low)
  }
}
