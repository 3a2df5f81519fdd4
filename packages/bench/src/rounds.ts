/** Rounds, in which contenders take turns: what drifts on the machine meets all of them. */
import { progress } from './report.js'

/** The rounds' numbers, from 1; each is told as it begins. */
export function* eachRound(rounds: number): Generator<number> {
  for (let round = 1; round <= rounds; round++) {
    progress(`round ${round}/${rounds}`)
    yield round
  }
}

/** All contenders, beginning with another one in each round. */
export function inTurn<Contender>(contenders: readonly Contender[], round: number): Contender[] {
  const first = round % contenders.length
  return [...contenders.slice(first), ...contenders.slice(0, first)]
}
