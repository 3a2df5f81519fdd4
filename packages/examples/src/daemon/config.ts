/**
 * The daemon's configuration: a JSON file that is read at the start and again on SIGHUP.
 *
 * A file that cannot be read, or has a wrong or misspelt member, is refused as a whole, and what was in force stays. What cannot be
 * changed while the daemon runs (its socket, the number of workers) is on the command line instead.
 */
import { readFileSync } from 'node:fs'
import process from 'node:process'
import { checkOptions, integer } from '@fd-reactor/core/sys'
import { isObject } from './protocol.js'

/** What can be set. Durations are milliseconds, as people write them. */
export interface Config {
  /** From one tick to the next. Default 1000. */
  tickMs: number
  /** The users that may connect from now on. Default: the daemon's own and root. */
  allowedUids: readonly number[]
  /** How long a request may be, without its newline. Default 64 KiB. */
  maxLineBytes: number
  /** How long a request may take from its first byte to its newline. Default 10,000. */
  requestTimeoutMs: number
  /** How many bytes may wait for a subscriber; one that has not read them by then is dropped. Default 1 MiB. */
  maxSubscriberBacklogBytes: number
  /** How many jobs may wait for the workers. Default 1000. */
  maxJobs: number
  /** How long a stop may take before connections are cut off. Default 5000. */
  stopDeadlineMs: number
}

const DAY_MS = 86_400_000

const CHECKS = {
  tickMs: integer(1, DAY_MS),
  allowedUids: (value: unknown, name: string) => {
    if (!Array.isArray(value)) throw new TypeError(`${name} must be a list of user ids`)
    for (const uid of value) integer(0, 2 ** 32 - 2)(uid, `each of ${name}`)
  },
  maxLineBytes: integer(16, 2 ** 28),
  requestTimeoutMs: integer(1, DAY_MS),
  maxSubscriberBacklogBytes: integer(1, 2 ** 30),
  maxJobs: integer(1, 1_000_000),
  stopDeadlineMs: integer(1, DAY_MS),
}

/** What is in force when the file says nothing else. */
function defaultConfig(): Config {
  return {
    tickMs: 1000,
    allowedUids: [...new Set([0, process.geteuid?.() ?? 0])],
    maxLineBytes: 64 * 1024,
    requestTimeoutMs: 10_000,
    maxSubscriberBacklogBytes: 1024 * 1024,
    maxJobs: 1000,
    stopDeadlineMs: 5000,
  }
}

/** A configuration file, and what of it is in force. */
export class ConfigFile {
  #current: Config

  /** Without a path everything is at its default. @throws Error that says what is wrong. */
  constructor(readonly path: string | undefined) {
    this.#current = path === undefined ? defaultConfig() : load(path)
  }

  get current(): Config {
    return this.#current
  }

  /** Reads the file again. @throws Error that says what is wrong; what was in force stays. */
  reload(): Config {
    if (this.path === undefined) throw new Error('the daemon was started without --config')
    return (this.#current = load(this.path))
  }
}

function load(path: string): Config {
  try {
    const members: unknown = JSON.parse(readFileSync(path, 'utf8'))
    if (!isObject(members)) throw new TypeError('it is not a JSON object')
    checkOptions('The configuration', members, CHECKS)
    return { ...defaultConfig(), ...members }
  } catch (error) {
    throw new Error(`${path}: ${error instanceof Error ? error.message : String(error)}`, { cause: error })
  }
}
