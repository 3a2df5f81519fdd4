/**
 * The job of this example: something that keeps a processor busy.
 */

/** How many primes there are below `limit`, by trial division. */
export function countPrimes(limit: number): number {
  let count = limit > 2 ? 1 : 0
  for (let candidate = 3; candidate < limit; candidate += 2) {
    if (isOddPrime(candidate)) count++
  }
  return count
}

function isOddPrime(odd: number): boolean {
  for (let divisor = 3; divisor * divisor <= odd; divisor += 2) {
    if (odd % divisor === 0) return false
  }
  return true
}
