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
  /** Receives up to 32 datagrams or packets; the argument is a `messageArgument`. */
  Messages: 6,
  /** As `Stream`, with the descriptors that come along; the argument is a `messageArgument`. */
  StreamControl: 7,
} as const
/** One of {@link Drain}'s numbers. */
export type Drain = (typeof Drain)[keyof typeof Drain]

/** Bits of `BatchRecord.messageFlags`. */
export const MessageFlag = {
  /** MSG_CTRUNC: descriptors or credentials came that there was no room for; the kernel closed them. */
  ControlTruncated: 0x08,
  /** MSG_TRUNC: the message was longer than what is kept of it. */
  Truncated: 0x20,
  /** There is a head. */
  Head: 0x4000_0000,
  /** It is no message but the end of the connection. */
  End: 0x8000_0000,
} as const

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

/** Address families, `AF_*`. @see socket(2) */
export const Domain = {
  /** AF_UNIX. */
  Unix: 1,
  /** AF_INET. */
  Ipv4: 2,
  /** AF_INET6. */
  Ipv6: 10,
} as const

/** Types of sockets, `SOCK_*`. @see socket(2) */
export const SocketType = {
  /** SOCK_STREAM: bytes, connected. */
  Stream: 1,
  /** SOCK_DGRAM: messages. */
  Datagram: 2,
  /** SOCK_SEQPACKET: messages, connected. */
  Seqpacket: 5,
} as const

/** Socket options whose value is an int: level, option, and what the errors call it. @see socket(7), ipv6(7), tcp(7) */
export const SocketOption = {
  /** SO_REUSEADDR. */
  ReuseAddress: [1, 2, 'SO_REUSEADDR'],
  /** SO_TYPE. */
  Type: [1, 3, 'SO_TYPE'],
  /** SO_ERROR. */
  Error: [1, 4, 'SO_ERROR'],
  /** SO_SNDBUF. */
  SendBuffer: [1, 7, 'SO_SNDBUF'],
  /** SO_RCVBUF. */
  ReceiveBuffer: [1, 8, 'SO_RCVBUF'],
  /** SO_KEEPALIVE. */
  KeepAlive: [1, 9, 'SO_KEEPALIVE'],
  /** SO_REUSEPORT. */
  ReusePort: [1, 15, 'SO_REUSEPORT'],
  /** SO_PASSCRED. */
  PassCredentials: [1, 16, 'SO_PASSCRED'],
  /** SO_TIMESTAMP. */
  Timestamp: [1, 29, 'SO_TIMESTAMP'],
  /** SO_ACCEPTCONN. */
  Listening: [1, 30, 'SO_ACCEPTCONN'],
  /** SO_DOMAIN. */
  Domain: [1, 39, 'SO_DOMAIN'],
  /** SO_PASSPIDFD. */
  PassPidFd: [1, 76, 'SO_PASSPIDFD'],
  /** TCP_NODELAY. */
  NoDelay: [6, 1, 'TCP_NODELAY'],
  /** TCP_KEEPIDLE. */
  KeepIdle: [6, 4, 'TCP_KEEPIDLE'],
  /** TCP_KEEPINTVL. */
  KeepInterval: [6, 5, 'TCP_KEEPINTVL'],
  /** TCP_KEEPCNT. */
  KeepCount: [6, 6, 'TCP_KEEPCNT'],
  /** TCP_USER_TIMEOUT. */
  UserTimeout: [6, 18, 'TCP_USER_TIMEOUT'],
  /** TCP_FASTOPEN. */
  FastOpen: [6, 23, 'TCP_FASTOPEN'],
  /** TCP_FASTOPEN_CONNECT. */
  FastOpenConnect: [6, 30, 'TCP_FASTOPEN_CONNECT'],
  /** IPV6_V6ONLY. */
  Ipv6Only: [41, 26, 'IPV6_V6ONLY'],
} as const
/** One of {@link SocketOption}. */
export type SocketOption = (typeof SocketOption)[keyof typeof SocketOption]

/** Seals of memory objects, `F_SEAL_*`. @see fcntl(2) */
export const Seal = {
  /** F_SEAL_SEAL: no more seals. */
  Seal: 1,
  /** F_SEAL_SHRINK: it never gets shorter, so no page that is mapped can be lost. */
  Shrink: 2,
  /** F_SEAL_GROW: it never gets longer. */
  Grow: 4,
  /** F_SEAL_WRITE: nobody writes any more. */
  Write: 8,
  /** F_SEAL_FUTURE_WRITE: nobody writes but through mappings that exist. */
  FutureWrite: 16,
} as const
