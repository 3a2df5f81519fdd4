/**
 * Typed system calls for the authors of sources: each returns the call's result or throws a SystemError.
 *
 * Descriptors that are made here are close-on-exec, non-blocking, and owned by the calling thread's environment, which
 * closes what is left when it ends. Wrap each in an FdHandle at once.
 * @module sys
 */
import { check, SystemError } from '../errors.js'
import { Clock, SocketOption } from './constants.js'
import { native, type PeerCredentials, type SignalHolder } from './native.js'

export {
  Clock,
  Domain,
  Drain,
  Interest,
  MessageFlag,
  Seal,
  SocketOption,
  SocketType,
  TimerFlag,
} from './constants.js'
export { check } from '../errors.js'
export { abortSignal, anyOf, boolean, checkOptions, func, integer, oneOf, string } from '../options.js'
export type { Check, OptionChecks } from '../options.js'
export type { PeerCredentials, SignalHolder } from './native.js'

function checked<T extends object | bigint>(result: T | number, syscall: string): T {
  if (typeof result === 'number') throw new SystemError(result, syscall)
  return result
}

const EAGAIN = -11

/** The result of a call that may find no room: false for EAGAIN. */
function checkAgain(result: number, syscall: string): boolean {
  if (result === EAGAIN) return false
  check(result, syscall)
  return true
}

/** eventfd(2). */
export const eventfd = {
  /** A new counter with a value from 0 to 2^64 − 2. */
  create: (initial: bigint, semaphore: boolean): number =>
    check(native().createEventFd(initial, semaphore), 'eventfd'),
  /** Adds to the counter; false when it has no room for `value`. */
  write: (fd: number, value: bigint): boolean => checkAgain(native().writeEventFd(fd, value), 'write'),
}

/** timerfd_create(2). */
export const timerfd = {
  /** A new timer, disarmed. */
  create: (clock: keyof typeof Clock): number => {
    const hint = clock.endsWith('-alarm')
      ? 'Alarm clocks wake the machine and need CAP_WAKE_ALARM'
      : undefined
    return check(native().createTimerFd(Clock[clock]), 'timerfd_create', { path: `clock ${clock}`, hint })
  },
  /** Arms the timer, or disarms it when `firstNs` is 0; `flags` are {@link TimerFlag}s. */
  set: (fd: number, flags: number, firstNs: bigint, intervalNs: bigint): void => {
    check(native().setTimerFd(fd, flags, firstNs, intervalNs), 'timerfd_settime')
  },
  /** Nanoseconds until the next expiration; 0 when the timer is disarmed. */
  get: (fd: number): bigint => checked(native().getTimerFd(fd), 'timerfd_gettime'),
  /** What a clock shows, in nanoseconds. */
  now: (clock: keyof typeof Clock): bigint => native().clockNow(Clock[clock]),
}

/** signalfd(2) and the process-wide state that makes it safe. Signals are sets: bit `signo − 1`. */
export const signalfd = {
  /** A new signalfd that reads `signals`. */
  create: (signals: bigint): number => check(native().openSignalFd(-1, signals), 'signalfd'),
  /** Changes what a signalfd reads. */
  update: (fd: number, signals: bigint): void => {
    check(native().openSignalFd(fd, signals), 'signalfd')
  },
  /** Blocks `signals` in every thread and makes `owner` their one owner; returns who has one of them instead. */
  acquire: (owner: bigint, name: string, netFd: number, signals: bigint): SignalHolder | undefined => {
    const result = native().acquireSignals(owner, name, netFd, signals)
    if (typeof result === 'object') return result
    check(result, 'pthread_sigmask')
    return undefined
  },
  /** Undoes `acquire`, and returns what was pending: `signalfd_siginfo` structures of 128 bytes. */
  release: (owner: bigint, signals: bigint): Buffer => native().releaseSignals(owner, signals),
  /** How many signals were lost to a full pipe since the owner's first `acquire`. */
  lost: (owner: bigint): number => native().lostSignals(owner),
}

/** Sockets of any family; addresses are sockaddrs as bytes. */
export const socket = {
  /** A new socket of a {@link Domain} and a {@link SocketType}. */
  create: (domain: number, type: number): number => check(native().createSocket(domain, type), 'socket'),
  /** bind(2); the result is 0 or -errno, for callers that know what to do about EADDRINUSE. */
  bind: (fd: number, address: Uint8Array): number => native().bindSocket(fd, address),
  /** connect(2); the result is 0 or -errno, for callers that know what to do about EAGAIN and EINPROGRESS. */
  connect: (fd: number, address: Uint8Array): number => native().connectSocket(fd, address),
  /** getsockname(2). */
  name: (fd: number): Buffer => checked(native().socketName(fd), 'getsockname'),
  /** getpeername(2). */
  peerName: (fd: number): Buffer => checked(native().peerName(fd), 'getpeername'),
  /** listen(2). */
  listen: (fd: number, backlog: number): void => void check(native().listenSocket(fd, backlog), 'listen'),
  /** accept4(2); the result is a descriptor or -errno. For a listener that ends; the drain accepts for all others. */
  accept: (fd: number): number => native().acceptSocket(fd),
  /** Shuts the reading side; the result is 0 or -errno. A listener refuses from then on, and can still accept what waits. */
  shutdownRead: (fd: number): number => native().shutdownSocket(fd, 0),
  /** Shuts the writing side; the result is 0 or -errno. */
  shutdownWrite: (fd: number): number => native().shutdownSocket(fd, 1),
  /** SIOCINQ: how many bytes wait in a stream socket. */
  readable: (fd: number): number => check(native().readableBytes(fd), 'ioctl'),
  /** SIOCOUTQ: how many bytes of a stream socket the peer has not taken; of a Unix socket, the memory that they take. Or -errno. */
  unsent: (fd: number): number => native().unsentBytes(fd),
  /** SO_PEERCRED: the process that connected, or that listens. */
  peer: (fd: number): PeerCredentials => checked(native().peerCredentials(fd), 'getsockopt'),
  /** SO_PEERGROUPS: its supplementary groups. */
  peerGroups: (fd: number): number[] => checked(native().peerGroups(fd), 'getsockopt'),
  /** SO_PEERPIDFD: the process itself, which its pid may not be any more. @throws SystemError `ENOPROTOOPT` before Linux 6.5. */
  peerPidFd: (fd: number): number => {
    const result = native().peerPidFd(fd)
    const hint = PIDFD_HINTS[result]
    return check(result, 'getsockopt', { path: 'SO_PEERPIDFD', hint })
  },
  /** SO_ERROR: takes the pending error, as a positive errno, or 0. */
  takeError: (fd: number): number => socket.get(fd, SocketOption.Error),
  /** getsockopt(2), of type int. */
  get: (fd: number, [level, option, path]: SocketOption): number =>
    check(native().getSocketOption(fd, level, option), 'getsockopt', { path }),
  /** setsockopt(2), of type int. The kernel doubles the sizes of buffers for its own bookkeeping. */
  set: (fd: number, [level, option, path]: SocketOption, value: number): void => {
    check(native().setSocketOption(fd, level, option, value), 'setsockopt', { path })
  },
}

const PIDFD_HINTS: Readonly<Record<number, string>> = {
  [-92]:
    'The kernel cannot tell before Linux 6.5: use the pid of the peer, which may have been given to another process',
  [-3]: 'The process has ended',
}

/** An FdHandle, which stands below. */
interface Owned {
  readonly fd: number
  readonly serial: number
}

/** What moves bytes without bringing them here. */
export const transfer = {
  /**
   * sendfile(2), at `offset` and without moving the file's own: how many bytes the socket took; 0 at the end of the file; -EAGAIN when
   * there is no room; -EINPROGRESS when `probe` finds that the next bytes are not in memory, or -EOPNOTSUPP when it cannot find out; -errno.
   */
  sendFile: (to: Owned, file: number, offset: number, length: number, probe: boolean): number =>
    native().sendFile(to.fd, to.serial, file, offset, length, probe),
  /**
   * splice(2) without blocking, between two pipes, from a socket, or to one: how many bytes; 0 at the end; -EAGAIN; -EOPNOTSUPP when `to` is
   * a socket in blocking mode; -errno.
   */
  splice: (from: number, to: number, length: number, socket: 'none' | 'from' | 'to'): number =>
    native().spliceBytes(from, to, length, SPLICED_SOCKET[socket]),
  /** pipe2(2): `[read end, write end]`. */
  pipe: (): [readEnd: number, writeEnd: number] => checked(native().openPipe(), 'pipe2'),
  /** A second descriptor of the same open file, of whoever owns the first. */
  duplicate: (fd: number): number => check(native().duplicateFd(fd), 'fcntl', { path: `fd ${fd}` }),
}

const SPLICED_SOCKET = { none: 0, from: 1, to: 2 } as const

/** Files as descriptors. */
export const file = {
  /**
   * open(2), with `flags` of `fs.constants` and `mode` less the umask. In worker threads what Node's fs opens is Node's to close; this is not.
   * @throws SystemError `ENOENT`, `EACCES`, `EISDIR`, `EMFILE`.
   */
  open: (path: string, flags: number, mode = 0): number => {
    if (path.includes('\0')) throw new TypeError(`A path has no NUL in it, unlike ${JSON.stringify(path)}`)
    return check(native().openFile(path, flags, mode), 'open', { path })
  },
  /** fchmod(2). */
  chmod: (fd: number, mode: number): void => void check(native().fchmod(fd, mode), 'fchmod'),
  /** Takes an exclusive flock(2) without waiting; false when somebody else has it. */
  lock: (fd: number): boolean => checkAgain(native().flock(fd), 'flock'),
  /** Takes a lock of the open file on a range (F_OFD_SETLK) without waiting, to its end for length 0; false when it is in somebody's way. */
  lockRange: (fd: number, exclusive: boolean, offset: number, length: number): boolean =>
    checkAgain(native().lockRange(fd, exclusive, offset, length), 'fcntl'),
  /** Gives it up. */
  unlockRange: (fd: number, offset: number, length: number): void =>
    void check(native().unlockRange(fd, false, offset, length), 'fcntl'),
  /** F_OFD_GETLK: the pid of one whose lock is in the way; -1 when it is a lock of an open file, of which the kernel tells none; 0 when none is. */
  lockHolder: (fd: number, exclusive: boolean, offset: number, length: number): number =>
    native().lockHolder(fd, exclusive, offset, length),
}

/** Memory objects and room in files; `Mapping` maps them. */
export const memory = {
  /** memfd_create(2): a new object of size 0. @throws SystemError `ENOSYS`, `EMFILE`; `EINVAL`, `ENODEV` where there are no huge pages. */
  create: (name: string, hugePages: boolean): number =>
    check(native().createMemory(name, hugePages), 'memfd_create', { path: name }),
  /** F_ADD_SEALS, of {@link Seal}. */
  addSeals: (fd: number, seals: number): void => {
    const result = native().addSeals(fd, seals)
    check(result, 'fcntl', { path: 'F_ADD_SEALS', hint: SEAL_HINTS[result] })
  },
  /** F_GET_SEALS; 0 for what cannot be sealed. */
  seals: (fd: number): number => Math.max(0, native().seals(fd)),
  /** fallocate(2): room on the disk from `offset` on, and a file that is that long; the result is 0 or -errno. */
  allocate: (fd: number, offset: number, length: number): number => native().allocateFile(fd, offset, length),
  /** linkat(2): gives a file that was opened without a name (O_TMPFILE) its first; the result is 0 or -errno. */
  name: (fd: number, path: string): number => native().nameFile(fd, path),
  /** The size of its pages, huge ones included. */
  pageSize: (fd: number): number => check(native().pageSize(fd), 'fstatfs'),
}

const SEAL_HINTS: Readonly<Record<number, string>> = {
  [-1]: 'Its seals are final, as it was made with `sealed`, or has a name; or it is not open for writing',
  [-16]: "It is mapped with access 'write': unmap it first, or use 'future-write'",
  [-22]: 'Only memory objects without a name can be sealed',
}
