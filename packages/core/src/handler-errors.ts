/**
 * What happens to an error that a handler throws: never before the rest of its batch is delivered, never to another source.
 */
import process from 'node:process'
import type { Registrant } from './registry.js'

/** What happens to an error that a handler throws. */
export type HandlerErrorPolicy =
  'throw' | 'close' | ((error: unknown, source: Registrant | undefined) => void)

/** Does with `error` what the policy says; `owner` is the source whose handler threw, if it was a source's. */
export function handleError(policy: HandlerErrorPolicy, error: unknown, owner: Registrant | undefined): void {
  if (typeof policy === 'function') {
    try {
      policy(error, owner)
    } catch (second) {
      rethrowLater(second, owner)
    }
  } else if (policy === 'close' && owner !== undefined) {
    const message = `A handler of ${owner.label} threw, and its source was closed: ${String(error)}`
    process.emitWarning(message, { code: 'FD_REACTOR_HANDLER_ERROR' })
    closeGuarded(owner)
  } else {
    rethrowLater(error, owner)
  }
}

/** Closes a source; a handler of its that throws meanwhile must not keep others from being closed. */
export function closeGuarded(owner: Registrant): void {
  try {
    owner.close()
  } catch (error) {
    rethrowLater(error, owner)
  }
}

/** As an uncaught exception, once the batch is delivered, with the source's name on it. */
function rethrowLater(error: unknown, owner: Registrant | undefined): void {
  if (owner !== undefined && error instanceof Error && Object.isExtensible(error)) {
    Object.defineProperty(error, 'source', {
      value: owner.label,
      enumerable: true,
      configurable: true,
      writable: true,
    })
  }
  process.nextTick(() => {
    throw error
  })
}
