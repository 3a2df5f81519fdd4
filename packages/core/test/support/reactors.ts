/**
 * Reactors that end with their test, in each of their homes.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { isMainThread } from 'node:worker_threads'
import { Reactor, type ReactorOptions, type WakeupName } from '@fd-reactor/core'
import { UnixListener, UnixStream, type UnixStreamOptions } from '@fd-reactor/fd-events'
import { onTestFinished } from 'vitest'

/** The homes that a reactor can have in this thread. */
export const wakeups: readonly WakeupName[] = isMainThread ? ['uv', 'epoll', 'manual'] : ['uv', 'manual']

/** A reactor that is closed after the test. A `manual` one is driven by Node's loop. */
export function openReactor(options: ReactorOptions = {}): Reactor {
  const reactor = openManual({ wakeup: 'uv', ...options })
  if (options.wakeup === 'manual') drive(reactor)
  return reactor
}

/** A reactor that is closed after the test; a manual one moves only when the test calls `dispatch()`. */
export function openManual(options: ReactorOptions = {}): Reactor {
  const reactor = new Reactor({ wakeup: 'manual', ...options })
  onTestFinished(() => {
    reactor.close()
  })
  return reactor
}

function drive(reactor: Reactor): void {
  const turn = (): void => {
    if (reactor.closed) return
    reactor.dispatch()
    setImmediate(turn)
  }
  setImmediate(turn)
}

/** Dispatches until nothing is ready, and returns how many turns that took. It fails where the loop would spin. */
export function settle(reactor: Reactor, limit = 1000): number {
  for (let turns = 0; turns < limit; turns++) {
    if (reactor.dispatch() === 0) return turns
  }
  throw new Error(`the reactor was still busy after ${limit} turns`)
}

/** A path for a socket, in a folder that goes with the test. */
export function socketPath(): string {
  const folder = mkdtempSync(join(tmpdir(), 'fd-reactor-'))
  onTestFinished(() => {
    rmSync(folder, { recursive: true, force: true })
  })
  return join(folder, 'socket')
}

/** Two connected streams of a manual reactor. */
export async function streamPair(
  reactor: Reactor,
  options: UnixStreamOptions = {},
): Promise<[server: UnixStream, client: UnixStream]> {
  const listener = UnixListener.listen(reactor, socketPath(), options)
  let server: UnixStream | undefined
  listener.on('connection', (stream) => (server = stream))
  const client = await UnixStream.connect(reactor, listener.path, options)
  settle(reactor)
  listener.close()
  if (server === undefined) throw new Error('no connection was accepted')
  return [server, client]
}
