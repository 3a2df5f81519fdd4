/**
 * Numbers that the kernel, the addon and TypeScript agree on.
 */

/** What an epoll set reports, and what one asks it for: the kernel's `EPOLL*` bits, to be or-ed. @see epoll_ctl(2) */
export const Interest = {
  /** EPOLLIN: there is something to read, or to accept. */
  In: 0x001,
  /** EPOLLPRI: an exceptional condition, such as a GPIO edge or out-of-band data. */
  Pri: 0x002,
  /** EPOLLOUT: there is room to write. */
  Out: 0x004,
  /** EPOLLERR: an error is pending. Always reported, never asked for. */
  Err: 0x008,
  /** EPOLLHUP: both directions are shut. Always reported, never asked for. */
  Hup: 0x010,
  /** EPOLLRDHUP: the peer has shut its writing side. */
  RdHup: 0x2000,
  /** EPOLLONESHOT: reported once, then silent until it is asked for again. */
  OneShot: 0x4000_0000,
  /** EPOLLET: reported when it changes rather than while it lasts. */
  Edge: 0x8000_0000,
} as const

/** What native code does for a ready descriptor before JavaScript hears of it. The numbers are those of native/drain.h. */
export const Drain = {
  /** Nothing; the record says what is ready. */
  None: 0,
  /** Reads an 8-byte counter. */
  Counter: 1,
  /** Reads an 8-byte counter, then the clock that the registration's argument names. */
  Timer: 2,
  /** Receives up to 64 KiB from a stream socket. */
  Stream: 3,
  /** Accepts up to 64 connections, and never more than the registration's argument allows. */
  Accept: 4,
  /** Reads up to 32 `signalfd_siginfo` structures, from a signalfd or a pipe. */
  Signal: 5,
} as const
/** One of {@link Drain}'s numbers. */
export type Drain = (typeof Drain)[keyof typeof Drain]

/** Which records are delivered first. */
export type Priority = 'high' | 'normal' | 'low'

/** The addon's numbers of the priorities. */
export const priorityNumber: Readonly<Record<Priority, number>> = { high: 0, normal: 1, low: 2 }

/** The clocks of timerfd_create(2), by their numbers. */
export const Clock = {
  /** CLOCK_REALTIME: the time of day, which can be set. */
  realtime: 0,
  /** CLOCK_MONOTONIC: since some start; stands still while the machine is suspended. */
  monotonic: 1,
  /** CLOCK_BOOTTIME: since boot, suspension included. */
  boottime: 7,
  /** CLOCK_REALTIME_ALARM: wakes the machine. */
  'realtime-alarm': 8,
  /** CLOCK_BOOTTIME_ALARM: wakes the machine. */
  'boottime-alarm': 9,
} as const

/** `TFD_TIMER_*` flags of timerfd_settime(2). */
export const TimerFlag = {
  /** TFD_TIMER_ABSTIME: the first expiration is an instant. */
  Absolute: 1,
  /** TFD_TIMER_CANCEL_ON_SET: reading fails with ECANCELED when the time of day was set. */
  CancelOnSet: 2,
} as const

/** Options at `SOL_SOCKET`, see socket(7). */
export const SocketOption = { Error: 4, SendBuffer: 7, ReceiveBuffer: 8 } as const
