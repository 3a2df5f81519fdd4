/** Somebody else on the machine: a program that burns another processor (`c/spin.c`). */
import { spawn } from 'node:child_process'
import { cProgram } from './c-program.js'
import { pinned } from './machine.js'

/** Burns a processor until it is disposed of; it ends with this process, too. */
export function busyNeighbour(processor: number): Disposable {
  const [file = '', ...args] = pinned(processor, [cProgram('spin')])
  const child = spawn(file, args, { stdio: 'ignore' })
  return { [Symbol.dispose]: () => void child.kill('SIGKILL') }
}
