/**
 * The graceful stop: nothing that a client has sent by then goes unanswered, and nobody is reset.
 *
 * The order matters. The listener takes nothing new, and what waits in its backlog is accepted; each client's requests that have
 * come by then are read and answered; its writing side is shut; and the connection is closed when the client has ended too, since
 * closing with unread input would reset it. A deadline bounds all of this.
 */
import type { Reactor } from '@fd-reactor/core'
import { ms, TimerFd, type UnixListener } from '@fd-reactor/fd-events'
import type { Connection } from './connection.js'
import type { Subscribers } from './subscribers.js'

/** What is to be stopped. */
export interface ShutdownTargets {
  reactor: Reactor
  listener: UnixListener
  connections: ReadonlySet<Connection>
  subscribers: Subscribers
}

/** Runs once, at the end. */
export class Shutdown {
  readonly #targets: ShutdownTargets
  #begun = false

  constructor(targets: ShutdownTargets) {
    this.#targets = targets
  }

  get begun(): boolean {
    return this.#begun
  }

  /** Stops the reactor with 0 once all clients are served, at the deadline at the latest; calls `onCut` if some had to be cut off. */
  begin(deadlineMs: number, onCut: (connections: number) => void): void {
    if (this.#begun) return
    this.#begun = true
    const { reactor, listener, connections, subscribers } = this.#targets
    TimerFd.after(reactor, ms(deadlineMs)).on('tick', () => {
      onCut(connections.size)
      reactor.stop(0)
    })
    // Outside of the batch that brought the signal: what it has accepted and read besides is then delivered, and counted.
    setImmediate(() => {
      listener.on('close', () => this.proceed())
      listener.end()
      subscribers.clear()
      for (const connection of connections) connection.finish()
    })
  }

  /** To be called for each connection that comes or goes. */
  proceed(): void {
    if (!this.#begun) return
    const { reactor, listener, connections } = this.#targets
    if (listener.closed && connections.size === 0) reactor.stop(0)
  }
}
