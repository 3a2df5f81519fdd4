/**
 * Tables of bad inputs: each row is one, with all of what a user would see.
 */
import { dirname } from 'node:path'
import { inspect } from 'node:util'
import type { FdHandle, Reactor } from '@fd-reactor/core'
import { describe, expect, onTestFinished, test } from 'vitest'
import { openReactor, socketPath } from '../../core/test/support/reactors.js'
import { within } from '../../core/test/support/wait.js'

/** A name that is one byte too long. */
export const LONG = 'x'.repeat(108)

const BRIEF = { breakLength: Infinity, maxArrayLength: 3, maxStringLength: 30 }

/** What a bad input is given to. */
export interface Kit {
  reactor: Reactor
  /** A path where nothing is, in a folder that goes with the test. */
  path: string
}

/** An input that no compiler would let through is passed all the same; `ask` throws, rejects, or gives the error. */
export type Ask = (kit: Kit, input: never) => unknown

/** An input, and the error as text: the folder as DIR, {@link LONG} as such, numbers that the kernel chose as N. */
export type Row = [input: unknown, message: string]

/** One test for each row. */
export function describeBad(what: string, ask: Ask, rows: readonly Row[]): void {
  describe(what, () => {
    const named = rows.map(([input, message]) => [inspect(input, BRIEF), input, message] as const)
    test.each(named)('%s', async (_, input, message) => {
      const kit = { reactor: openReactor(), path: socketPath() }
      expect(shown(await errorOf((): unknown => Reflect.apply(ask, undefined, [kit, input])), kit)).toBe(
        message,
      )
    })
  })
}

/** A handle that is closed after the test. */
export function closedLater(handle: FdHandle): FdHandle {
  onTestFinished(() => {
    handle.close()
  })
  return handle
}

async function errorOf(action: () => unknown): Promise<unknown> {
  try {
    const given = await within(Promise.resolve(action()), 'the error')
    return given instanceof Error ? given : `no error, but ${String(given)}`
  } catch (error) {
    return error
  }
}

function shown(error: unknown, { path }: Kit): string {
  return String(error)
    .replaceAll(dirname(path), 'DIR')
    .replace(LONG, 'LONG')
    .replace(/(?<='fd )\d+|(?<=\b(Unix|Tcp)[A-Z][a-z]+ )\d+|(?<='(127.0.0.1|\[::1\]):)\d{5}(?=')/, 'N')
}
