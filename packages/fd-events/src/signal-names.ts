/**
 * Signals by name: their numbers, and which of them a descriptor cannot or should not have.
 *
 * Real-time signals are counted from SIGRTMIN or back from SIGRTMAX, as everywhere else; what libc keeps for itself lies below.
 */
import { readFileSync } from 'node:fs'
import { constants } from 'node:os'
import process from 'node:process'

type Standard =
  | 'SIGHUP'
  | 'SIGINT'
  | 'SIGQUIT'
  | 'SIGILL'
  | 'SIGTRAP'
  | 'SIGABRT'
  | 'SIGIOT'
  | 'SIGBUS'
  | 'SIGFPE'
  | 'SIGKILL'
  | 'SIGUSR1'
  | 'SIGSEGV'
  | 'SIGUSR2'
  | 'SIGPIPE'
  | 'SIGALRM'
  | 'SIGTERM'
  | 'SIGCHLD'
  | 'SIGSTKFLT'
  | 'SIGCONT'
  | 'SIGSTOP'
  | 'SIGTSTP'
  | 'SIGTTIN'
  | 'SIGTTOU'
  | 'SIGURG'
  | 'SIGXCPU'
  | 'SIGXFSZ'
  | 'SIGVTALRM'
  | 'SIGPROF'
  | 'SIGWINCH'
  | 'SIGIO'
  | 'SIGPOLL'
  | 'SIGPWR'
  | 'SIGSYS'
type Digit = 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8 | 9
type Step = Digit | 10 | `1${Digit}` | 20 | `2${Digit}` | 30

/** A signal's name: `'SIGTERM'`, or a real-time signal such as `'SIGRTMIN'`, `'SIGRTMIN+2'` or `'SIGRTMAX-1'`. */
export type SignalName = Standard | 'SIGRTMIN' | `SIGRTMIN+${Step}` | 'SIGRTMAX' | `SIGRTMAX-${Step}`

const synchronous =
  'the kernel raises it for a fault of the thread itself, which cannot go on while it is blocked'
const REFUSED: Readonly<Record<string, string>> = {
  SIGKILL: 'the kernel lets nobody block it',
  SIGSTOP: 'the kernel lets nobody block it',
  SIGSEGV: synchronous,
  SIGBUS: synchronous,
  SIGILL: synchronous,
  SIGFPE: synchronous,
  SIGTRAP: synchronous,
  SIGSYS: synchronous,
}
const WARNED: Readonly<Record<string, string>> = {
  SIGUSR1: "While a SignalFd has SIGUSR1, it does not start Node's inspector",
  SIGPROF: "While a SignalFd has SIGPROF, V8's CPU profiler takes no samples",
}

const RTMAX = 64
const numbers = new Map<string, number>()
const names = new Map<number, SignalName>()

function isStandard(name: string): name is Standard {
  return Object.hasOwn(constants.signals, name)
}

/** Fills both tables at the first use; the first name of a number is the one that it is shown by. */
function table(): Map<string, number> {
  if (numbers.size > 0) return numbers
  const add = (name: SignalName, signo: number): void => {
    numbers.set(name, signo)
    if (!names.has(signo)) names.set(signo, name)
  }
  for (const [name, signo] of Object.entries(constants.signals)) if (isStandard(name)) add(name, signo)
  // musl keeps three real-time signals for itself, glibc two.
  const min = readFileSync('/proc/self/maps', 'latin1').includes('/ld-musl-') ? 35 : 34
  add('SIGRTMIN', min)
  for (let signo = min + 1; signo <= RTMAX; signo++) add(`SIGRTMIN+${signo - min}` as SignalName, signo)
  add('SIGRTMAX', RTMAX)
  for (let signo = RTMAX - 1; signo >= min; signo--) add(`SIGRTMAX-${RTMAX - signo}` as SignalName, signo)
  return numbers
}

/** The name that a signal is shown by. */
export function signalName(signo: number): SignalName | undefined {
  table()
  return names.get(signo)
}

/** How many letters must change to make `a` into `b`. */
function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, index) => index)
  for (let i = 0; i < a.length; i++) {
    const next = [i + 1]
    for (let j = 0; j < b.length; j++) {
      const replaced = (row[j] ?? 0) + (a[i] === b[j] ? 0 : 1)
      next.push(Math.min(replaced, (row[j + 1] ?? 0) + 1, (next[j] ?? 0) + 1))
    }
    row = next
  }
  return row[b.length] ?? 0
}

function refusal(message: string, code: string): TypeError {
  return Object.assign(new TypeError(message), { code })
}

function unknown(name: unknown): TypeError {
  const asked = String(name).toUpperCase()
  const [nearest] = [...table().keys()].sort((a, b) => distance(asked, a) - distance(asked, b))
  return refusal(`There is no signal '${String(name)}'; did you mean '${nearest}'?`, 'ERR_UNKNOWN_SIGNAL')
}

/**
 * The numbers of the signals in a list, each with the name that it was asked for by.
 *
 * @throws TypeError for an empty list, an unknown or repeated name, and for signals that a descriptor cannot have, with the reason.
 */
export function parseSignals<Name extends SignalName>(
  list: readonly Name[],
  allowChild: boolean,
): Map<number, Name> {
  const isArray: boolean = Array.isArray(list) // annotated, so that it does not make an any[] of the list
  if (!isArray || list.length === 0) {
    throw refusal("SignalFd needs an array of signal names, such as ['SIGTERM']", 'ERR_INVALID_ARG_TYPE')
  }
  const parsed = new Map<number, Name>()
  for (const name of list) {
    const signo = table().get(name)
    if (signo === undefined) throw unknown(name)
    const reason = REFUSED[name]
    if (reason !== undefined) throw refusal(`SignalFd cannot have ${name}: ${reason}`, 'ERR_REFUSED_SIGNAL')
    if (name === 'SIGCHLD' && !allowChild) {
      const message =
        'SignalFd refuses SIGCHLD: child_process would not hear any more that a child has ended. Watch a pidfd instead, or ' +
        'pass { allowChild: true } in a process that does not use child_process'
      throw refusal(message, 'ERR_REFUSED_SIGNAL')
    }
    const other = parsed.get(signo)
    if (other !== undefined)
      throw refusal(`'${name}' is the same signal as '${other}'`, 'ERR_REPEATED_SIGNAL')
    parsed.set(signo, name)
  }
  for (const name of list) {
    const warning = WARNED[name]
    if (warning !== undefined) process.emitWarning(warning, { code: 'FD_REACTOR_SIGNAL' })
  }
  return parsed
}
