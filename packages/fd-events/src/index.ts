/**
 * @fd-reactor/fd-events: what the kernel offers as a descriptor, as typed event sources.
 * @module fd-events
 */
export { EventFd, type EventFdEvents, type EventFdOptions } from './event-fd.js'
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
