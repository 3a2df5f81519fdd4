/** Child processes that measure something and print it: what they say on stderr goes to ours. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { text } from 'node:stream/consumers'

/** Runs a program to its end and returns what it printed. @throws Error when it failed. */
export async function output([file = '', ...args]: readonly string[]): Promise<string> {
  const child = spawn(file, args, { stdio: ['ignore', 'pipe', 'inherit'] })
  const closed = once(child, 'close')
  const printed = await text(child.stdout)
  await closed
  if (child.exitCode === 0) return printed
  throw new Error(`${[file, ...args].join(' ')} ended with ${child.exitCode ?? child.signalCode}`)
}
