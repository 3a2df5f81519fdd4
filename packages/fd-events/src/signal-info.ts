/**
 * What the kernel tells about a signal: a `signalfd_siginfo` structure of 128 bytes, as an object.
 *
 * Which fields mean something depends on who sent it, and that is what `code` says; groups that do not apply are undefined.
 */
import { signalName, type SignalName } from './signal-names.js'

/** How big a `signalfd_siginfo` is. */
export const SIGINFO_BYTES = 128

/** Which timer of timer_create(2) expired (`SI_TIMER`). */
export interface SignalTimer {
  /** The kernel's number of the timer. */
  readonly id: number
  /** How many more times it has expired since. */
  readonly overrun: number
}

/** What happened to a child (`CLD_…`). */
export interface SignalChild {
  /** The exit code of a child that ended by itself (`CLD_EXITED`). */
  readonly exitCode: number | undefined
  /** The signal that killed, stopped or continued it. */
  readonly signal: SignalName | undefined
  /** CPU time that it spent itself, in nanoseconds, as exact as a clock tick of 10 ms. */
  readonly userTimeNs: number
  /** CPU time that the kernel spent for it, likewise. */
  readonly systemTimeNs: number
}

/** Which descriptor is ready (`POLL_…`, see F_SETSIG in fcntl(2)). */
export interface SignalIo {
  /** The descriptor. */
  readonly fd: number
  /** What poll(2) would say of it. */
  readonly band: number
}

/** One signal, and who sent it. */
export interface SignalInfo<Name extends SignalName = SignalName> {
  /** Its name, as it was asked for. */
  readonly signal: Name
  /** Its number. */
  readonly signo: number
  /** How it was sent: `'SI_USER'` by kill(2), `'SI_QUEUE'` by sigqueue(3), `'SI_TKILL'` to a thread, `'SI_KERNEL'`, `'SI_TIMER'`, `'CLD_EXITED'` … */
  readonly code: string
  /** The kernel's number for `code`. */
  readonly codeNumber: number
  /** The process that sent it, or the child; 0 for the kernel. */
  readonly pid: number
  /** The real user id of that process. */
  readonly uid: number
  /** The integer that sigqueue(3) or timer_create(2) sent along, the lower half of a pointer; 0 for others. */
  readonly value: number
  /** Set for `'SI_TIMER'`. */
  readonly timer: SignalTimer | undefined
  /** Set for SIGCHLD. */
  readonly child: SignalChild | undefined
  /** Set for SIGIO and other signals about a descriptor. */
  readonly io: SignalIo | undefined
}

const CODES: Readonly<Record<number, string>> = {
  [0]: 'SI_USER',
  [0x80]: 'SI_KERNEL',
  [-1]: 'SI_QUEUE',
  [-2]: 'SI_TIMER',
  [-3]: 'SI_MESGQ',
  [-4]: 'SI_ASYNCIO',
  [-5]: 'SI_SIGIO',
  [-6]: 'SI_TKILL',
  [-60]: 'SI_ASYNCNL',
}
const CHILD_CODES = [
  '',
  'CLD_EXITED',
  'CLD_KILLED',
  'CLD_DUMPED',
  'CLD_TRAPPED',
  'CLD_STOPPED',
  'CLD_CONTINUED',
]
const IO_CODES = ['', 'POLL_IN', 'POLL_OUT', 'POLL_MSG', 'POLL_ERR', 'POLL_PRI', 'POLL_HUP']
const SI_KERNEL = 0x80
const SI_TIMER = -2
const SI_SIGIO = -5
const CLD_EXITED = 1
const TICK_NS = 10_000_000 // the kernel counts in USER_HZ, 100 a second

/** Decodes the structure at `at`. Nothing of `bytes` is kept. */
export function decodeSignal(bytes: Buffer, at: number): SignalInfo {
  const signo = bytes.readUInt32LE(at)
  const codeNumber = bytes.readInt32LE(at + 8)
  const signal = signalName(signo) ?? 'SIGRTMAX' // unreachable: nobody can ask for a number without a name
  // The kernel's own codes of 1 and more are numbered anew for each signal.
  const own = codeNumber > 0 && codeNumber !== SI_KERNEL
  const child = own && signal === 'SIGCHLD'
  const io = (own && !child) || codeNumber === SI_SIGIO
  const names = child ? CHILD_CODES : own ? IO_CODES : CODES
  return {
    signal,
    signo,
    code: names[codeNumber] ?? `code ${codeNumber}`,
    codeNumber,
    pid: bytes.readUInt32LE(at + 12),
    uid: bytes.readUInt32LE(at + 16),
    value: bytes.readInt32LE(at + 44),
    timer:
      codeNumber === SI_TIMER
        ? { id: bytes.readUInt32LE(at + 24), overrun: bytes.readUInt32LE(at + 32) }
        : undefined,
    child: child ? decodeChild(bytes, at, codeNumber) : undefined,
    io: io ? { fd: bytes.readInt32LE(at + 20), band: bytes.readUInt32LE(at + 28) } : undefined,
  }
}

function decodeChild(bytes: Buffer, at: number, code: number): SignalChild {
  const status = bytes.readInt32LE(at + 40)
  const exited = code === CLD_EXITED
  return {
    exitCode: exited ? status : undefined,
    signal: exited ? undefined : signalName(status),
    userTimeNs: Number(bytes.readBigUInt64LE(at + 56)) * TICK_NS,
    systemTimeNs: Number(bytes.readBigUInt64LE(at + 64)) * TICK_NS,
  }
}
