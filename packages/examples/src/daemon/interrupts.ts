/**
 * Tells a second Ctrl-C from the copy of the first.
 *
 * A terminal sends SIGINT to everybody in the foreground, npm among them, and npm passes it on to the daemon that it runs: one key
 * press, two signals. The kernel says who sent each.
 */
import process from 'node:process'
import type { SignalInfo } from '@fd-reactor/fd-events'

/** Looks at each SIGINT, in order. */
export class Interrupts {
  #fromTerminal = false

  /** Whether our parent has only passed on what the terminal has just sent to us, too. */
  isCopy({ code, pid }: SignalInfo): boolean {
    const copy = this.#fromTerminal && pid === process.ppid
    this.#fromTerminal = code === 'SI_KERNEL'
    return copy
  }
}
