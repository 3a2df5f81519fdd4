/** Whether our timers lose periods in a minute, which is longer than anything else is measured. */
import { output } from './child.js'
import { pinned, processors } from './machine.js'
import {
  absolute,
  atMost,
  DEFAULT_EFFORT,
  parseFigures,
  progress,
  spread,
  type Bar,
  type Table,
} from './report.js'
import { serverFile } from './server.js'

const MINUTE = 60

/** A rate of ticks. */
export interface Rate {
  name: string
  periodNs: number
}

interface Drift {
  rate: string
  driftSeconds: number
  expirations: number
  driftPeriods: number
}

/** A minute, unless the rounds are shorter than by default, as tests have them: then no longer than those. */
export function driftSeconds(seconds: number): number {
  return seconds < DEFAULT_EFFORT.seconds ? seconds : MINUTE
}

/** Both rates at the same time, on a processor each: only lost periods count. */
export async function timerDrift(
  rates: readonly [Rate, Rate],
  seconds: number,
): Promise<{ table: Table; bar: Bar; samples: Drift[] }> {
  const time = driftSeconds(seconds)
  progress(`drift, ${time} s`)
  const { server, load } = processors()
  const samples = await Promise.all([measure(rates[0], time, server), measure(rates[1], time, load)])
  const claim = `ours, periods lost in ${time} s, ${rates.map(({ name }) => name).join(' and ')}`
  const lost = samples.reduce((sum, { driftPeriods }) => sum + Math.abs(driftPeriods), 0)
  return {
    table: {
      caption: `Drift: one run of ${time} s of ours, blocking, after a quarter of that to warm up, which counts as well`,
      rows: [
        ['', 'expirations told', 'periods lost'],
        ...samples.map(({ rate, expirations, driftPeriods }) => [rate, `${expirations}`, `${driftPeriods}`]),
      ],
    },
    bar: absolute(atMost(0, claim, spread([lost]))),
    samples,
  }
}

async function measure({ name, periodNs }: Rate, seconds: number, processor: number): Promise<Drift> {
  const program = [process.execPath, serverFile('timer'), 'block', ...[periodNs, seconds, 0].map(String)]
  const line = await output(pinned(processor, program))
  return { rate: name, driftSeconds: seconds, ...parseFigures(line, ['expirations', 'driftPeriods']) }
}
