/**
 * Waiting for one event.
 */
import { ReactorError } from './errors.js'
import type { EventMap, EventName, Source } from './source.js'

/** Options of {@link once}. */
export interface OnceOptions {
  /** Rejects with the signal's reason when it is aborted. */
  signal?: AbortSignal
}

/**
 * The arguments of the source's next `name` event.
 *
 * @throws what the source reports as an error meanwhile; ReactorError `ERR_CLOSED` when it closes first; the signal's reason.
 * @example
 * import { once, Reactor } from '@fd-reactor/core'
 * import { EventFd } from '@fd-reactor/fd-events'
 * using reactor = new Reactor()
 * const bell = new EventFd(reactor)
 * bell.write(3n)
 * const [count] = await once(bell, 'event', { signal: AbortSignal.timeout(1000) })
 * console.log(count) // 3n
 */
export async function once<Events extends EventMap<Events>, Name extends EventName<Events>>(
  source: Source<Events>,
  name: Name,
  options: OnceOptions = {},
): Promise<Events[Name]> {
  const { signal } = options
  signal?.throwIfAborted()
  const closed = (): ReactorError => new ReactorError('ERR_CLOSED', `${source.label} closed before '${name}'`)
  if (source.closed) throw closed()
  return new Promise((resolve, reject) => {
    const stop = (): void => {
      source.off(name, onEvent)
      if (name !== 'error') source.off('error', onError)
      if (name !== 'close') source.off('close', onClose)
      signal?.removeEventListener('abort', onAbort)
    }
    const onEvent = (...args: Events[Name]): void => {
      stop()
      resolve(args)
    }
    const onError = (error: Error): void => {
      stop()
      reject(error)
    }
    const onClose = (): void => {
      stop()
      reject(closed())
    }
    const onAbort = (): void => {
      stop()
      reject(signal?.reason instanceof Error ? signal.reason : new Error(String(signal?.reason)))
    }
    source.on(name, onEvent)
    if (name !== 'error') source.on('error', onError)
    if (name !== 'close') source.on('close', onClose)
    signal?.addEventListener('abort', onAbort)
  })
}
