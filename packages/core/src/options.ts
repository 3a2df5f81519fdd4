/**
 * Checking options at the edge, once: misspelt names, wrong types and values out of range are refused, never ignored.
 */
import { inspect } from 'node:util'
import leven from 'leven'

/** Throws unless `value` will do; `name` is what the error calls it. */
export type Check = (value: unknown, name: string) => void

/** The check of each option by its name. */
export type OptionChecks = Readonly<Record<string, Check>>

function typeError(name: string, wanted: string, value: unknown): TypeError {
  const error = new TypeError(`${name} must be ${wanted}, not ${inspect(value, { depth: 0 })}`)
  return Object.assign(error, { code: 'ERR_INVALID_ARG_TYPE' })
}

/** A value must be an integer from `low` to `high`. */
export function integer(low: number, high: number): Check {
  return (value, name) => {
    if (typeof value !== 'number') throw typeError(name, 'a number', value)
    if (Number.isInteger(value) && value >= low && value <= high) return
    const error = new RangeError(`${name} must be an integer from ${low} to ${high}, not ${value}`)
    throw Object.assign(error, { code: 'ERR_OUT_OF_RANGE' })
  }
}

/** A value must be one of those listed. */
export function oneOf(...allowed: readonly unknown[]): Check {
  return (value, name) => {
    if (!allowed.includes(value))
      throw typeError(name, allowed.map((item) => JSON.stringify(item)).join(' or '), value)
  }
}

function ofType(type: string): Check {
  return (value, name) => {
    if (typeof value !== type) throw typeError(name, `a ${type}`, value)
  }
}

/** A value must be a boolean. */
export const boolean: Check = ofType('boolean')
/** A value must be a string. */
export const string: Check = ofType('string')
/** A value must be a function. */
export const func: Check = ofType('function')

/** A value must be an AbortSignal. */
export const abortSignal: Check = (value, name) => {
  if (!(value instanceof AbortSignal)) throw typeError(name, 'an AbortSignal', value)
}

/** A value must pass one of several checks. */
export function anyOf(...checks: readonly Check[]): Check {
  return (value, name) => {
    const errors: unknown[] = []
    for (const check of checks) {
      try {
        check(value, name)
        return
      } catch (error) {
        errors.push(error)
      }
    }
    throw errors.at(-1)
  }
}

/**
 * Refuses what is no options object, names that are not in `checks` (with the nearest known one), and values that fail
 * their check. `undefined` stands for an option that was not given.
 */
export function checkOptions(what: string, options: unknown, checks: OptionChecks): void {
  if (typeof options !== 'object' || options === null)
    throw typeError(`${what} options`, 'an object', options)
  for (const [name, value] of Object.entries(options)) {
    const check = checks[name]
    if (check === undefined || !Object.hasOwn(checks, name)) {
      const names = Object.keys(checks)
      const nearest = names.reduce(
        (best, next) => (leven(name, next) < leven(name, best) ? next : best),
        names[0] ?? '',
      )
      const error = new TypeError(`${what} has no option '${name}'; did you mean '${nearest}'?`)
      throw Object.assign(error, { code: 'ERR_UNKNOWN_OPTION' })
    }
    if (value !== undefined) check(value, `${what} option '${name}'`)
  }
}
