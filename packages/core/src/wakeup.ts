/**
 * How the reactor's descriptor gets into an outer loop: one interface, three homes.
 */
import { createRequire } from 'node:module'
import { isMainThread } from 'node:worker_threads'
import { check, ReactorError } from './errors.js'
import { Interest } from './sys/constants.js'
import { native, type ReactorHandle } from './sys/native.js'

/** Where a reactor lives: in libuv's loop, on npm `epoll`'s thread, or wherever the embedder polls `reactor.fd`. */
export type WakeupName = 'uv' | 'epoll' | 'manual'

/** Watches one epoll descriptor, and calls `turn` when it is readable. */
export interface Wakeup {
  /** Whether watching keeps the process alive. */
  setRef(ref: boolean): void
  /** The descriptor has its old number and is a new file: watch it again. */
  rebuilt(): void
  /** Stops watching; called before the descriptor is closed. */
  stop(): void
}

/** What a wakeup watches and calls. */
export interface WakeupTarget {
  readonly fd: number
  readonly handle: ReactorHandle
  readonly turn: () => void
  readonly onRebuild: (() => void) | undefined
}

/** A `uv_poll_t` on the descriptor; the native side starts it, and stops it when the reactor is closed. */
function uv({ handle }: WakeupTarget): Wakeup {
  check(native().reactorStartUv(handle), 'uv_poll_init')
  return {
    setRef: (ref) => native().reactorSetRef(handle, ref),
    rebuilt: () => undefined,
    stop: () => undefined,
  }
}

/** npm epoll keeps the process alive while it watches anything, so without a ref the descriptor is not watched at all. */
function epoll({ fd, turn }: WakeupTarget): Wakeup {
  if (!isMainThread) {
    throw new ReactorError(
      'ERR_UNSUPPORTED_WAKEUP',
      "The npm package 'epoll' crashes in worker threads: use the 'uv' wakeup there",
    )
  }
  const { Epoll } = createRequire(import.meta.url)('epoll') as typeof import('epoll')
  const watcher = new Epoll(turn)
  let watching = false
  return {
    setRef: (ref) => {
      if (ref === watching) return
      watching = ref
      if (ref) watcher.add(fd, Interest.In)
      else watcher.remove(fd)
    },
    rebuilt: () => {
      if (watching) watcher.add(fd, Interest.In)
    },
    stop: () => {
      if (watching) watcher.remove(fd)
      // It must be closed, or its destructor crashes in the collector; and not now, for its callback may be running, which this frees.
      setImmediate(() => watcher.close())
    },
  }
}

/** Nobody watches: the embedder does, and calls `reactor.dispatch()`. */
function manual({ onRebuild }: WakeupTarget): Wakeup {
  return { setRef: () => undefined, rebuilt: () => onRebuild?.(), stop: () => undefined }
}

/** The three homes by name. */
export const wakeups: Readonly<Record<WakeupName, (target: WakeupTarget) => Wakeup>> = { uv, epoll, manual }
