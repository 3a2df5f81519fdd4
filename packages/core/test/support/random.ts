/**
 * Random numbers that can be repeated, for tests that draw too many for fast-check.
 */

/** Numbers from 0 to `limit` − 1, always the same for the same seed: xorshift. */
export function randomNumbers(from: number): (limit: number) => number {
  let state = from >>> 0 || 1
  return (limit) => {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    return (state >>> 0) % limit
  }
}
