/**
 * @fd-reactor/fd-events: what the kernel offers as a descriptor, as typed event sources.
 * @module fd-events
 */
export { minutes, ms, seconds, us } from './durations.js'
export { EventFd, type EventFdEvents, type EventFdOptions } from './event-fd.js'
export { SignalFd, type SignalFdEvents, type SignalFdOptions } from './signal-fd.js'
export type { SignalChild, SignalInfo, SignalIo, SignalTimer } from './signal-info.js'
export type { SignalName } from './signal-names.js'
export { TimerFd, type Tick, type TimerFdEvents, type TimerFdStats } from './timer-fd.js'
export type { CatchUp, TimerClock, TimerOptions, TimerStartOptions } from './timer-options.js'
export type { FileOwner } from './unix-path.js'
export { UnixListener, type UnixListenerEvents, type UnixListenerOptions } from './unix-listener.js'
export {
  UnixStream,
  type Borrow,
  type DetachedStream,
  type UnixConnectOptions,
  type UnixStreamEvents,
  type UnixStreamOptions,
} from './unix-stream.js'
