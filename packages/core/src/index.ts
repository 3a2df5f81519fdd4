/**
 * @fd-reactor/core: the reactor, the seam that sources are written against, and the descriptors that they own.
 * @module core
 */
export type { BatchRecord } from './batch.js'
export { ReactorError, SystemError, type ReactorErrorCode, type SystemErrorContext } from './errors.js'
export { FdHandle } from './fd-handle.js'
export { FdWatcher, type FdWatcherEvents, type FdWatcherOptions } from './fd-watcher.js'
export {
  closeMessageHead,
  MAX_FDS,
  MAX_MESSAGE_BYTES,
  messageArgument,
  PackedMessages,
  sendWithFds,
  takeMessageHead,
  type MessageHead,
} from './message-record.js'
export { Instant } from './instant.js'
export { Mapping, type CellPlace, type MappingRequest, type MemoryAdvice } from './mapping.js'
export type { NativeCell } from './sys/native.js'
export { once, type OnceOptions } from './once.js'
export type { HandlerErrorPolicy } from './handler-errors.js'
export { Reactor } from './reactor.js'
export type { ReactorOptions, RunOptions } from './reactor-options.js'
export { Token, type Registrant, type Registration } from './registry.js'
export {
  Source,
  sourceOptionChecks,
  type EventMap,
  type EventName,
  type EventsOptions,
  type SourceEvents,
  type SourceOptions,
  type SourceRegistration,
  type SourceStats,
} from './source.js'
export type { ReactorStats, SourceInfo } from './stats.js'
export { Drain, Interest, type Priority } from './sys/constants.js'
export type { WakeupName } from './wakeup.js'
