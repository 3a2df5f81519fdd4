/** The load generator (`c/load.c`), run against a server from its own processor. */
import { cProgram } from './c-program.js'
import { output } from './child.js'
import { pinned, processors } from './machine.js'
import { parseDistribution, parseFigures, type Distribution } from './report.js'
import type { Server } from './server.js'

const SMALL_BYTES = 64

/** What clients do. */
export interface Load {
  clients: number
  /** Size of a message. Default 64. */
  bytes?: number
  /** Messages that each client has in flight. */
  pipeline: number
  seconds: number
  /** Whether the generator polls instead of sleeping. */
  spin?: boolean
  /** Messages per second. Default: as many as it can. */
  rate?: number
}

const FIGURES = [
  'messagesPerSecond',
  'serverCpuNsPerMessage',
  'serverBusyShare',
  'loadBusyShare',
  'p50Micros',
  'p90Micros',
  'p99Micros',
  'p999Micros',
  'maxMicros',
] as const

/** What one run of the load generator measured. */
export interface LoadFigures extends Record<(typeof FIGURES)[number], number> {
  /** Of round-trip times, in microseconds. */
  distribution: Distribution['points']
}

/** One of the numbers. */
export type LoadFigure = (typeof FIGURES)[number]

/** Loads `server` and measures. */
export async function runLoad(
  server: Server,
  { clients, bytes = SMALL_BYTES, pipeline, seconds, spin = false, rate = 0 }: Load,
): Promise<LoadFigures> {
  const numbers = [bytes, clients, pipeline, seconds].map(String)
  const command = [
    cProgram('load'),
    server.address,
    ...numbers,
    spin ? 'spin' : 'block',
    String(server.pid),
    String(rate),
  ]
  const line = await output(pinned(processors().load, command))
  return { ...parseFigures(line, FIGURES), distribution: parseDistribution(line) }
}
