/**
 * Variables by which a service manager talks to the process that it starts.
 */
import { ReactorError } from '@fd-reactor/core'

/** An error for a variable that makes no sense. */
export function environmentError(message: string): ReactorError {
  return new ReactorError('ERR_ENVIRONMENT', message)
}

/** A number from `low` to `high`, in decimal digits. @throws ReactorError `ERR_ENVIRONMENT`. */
export function environmentNumber(name: string, text: string, low: number, high: number): number {
  const value = Number(text)
  if (/^\d+$/.test(text) && value >= low && value <= high) return value
  throw environmentError(`${name} is '${text}', and must be a number from ${low} to ${high}`)
}
