/**
 * @fd-reactor/fd-events: what the kernel offers as a descriptor, as typed event sources.
 * @module fd-events
 */
export { minutes, ms, seconds, us } from './durations.js'
export { inheritedListeners, type InheritedKind, type InheritedListener } from './activation.js'
export type { ByteStream, Deferring } from './byte-stream.js'
export {
  Channel,
  type ChannelCreateOptions,
  type ChannelEvents,
  type ChannelOptions,
  type ChannelStats,
} from './channel.js'
export type { ChannelCodec } from './channel-codec.js'
export type { ChannelEnd } from './channel-end.js'
export { delimited, type DelimitedOptions } from './delimited.js'
export { SocketDuplex, toDuplex } from './duplex.js'
export { EventFd, type EventFdEvents, type EventFdFromOptions, type EventFdOptions } from './event-fd.js'
export { fixed } from './fixed.js'
export {
  handOver,
  type HandedListener,
  type HandedStream,
  type HandOverOptions,
  type IdleConnection,
} from './hand-over.js'
export {
  takeOver,
  type ListenerMakers,
  type TakenConnection,
  type TakenOver,
  type TakeOverOptions,
} from './take-over.js'
export { frames, FrameStream, type FrameEvents } from './frames.js'
export type { Codec, Decoder } from './framing.js'
export { lengthPrefixed, type LengthPrefix, type LengthPrefixedOptions } from './length-prefixed.js'
export { lines, type Line, type LineEncoding, type LinesOptions } from './lines.js'
export { notify, watchdogInterval, type NotifyOptions, type NotifyState } from './notify.js'
export { SignalFd, type SignalFdEvents, type SignalFdOptions } from './signal-fd.js'
export type { SignalChild, SignalInfo, SignalIo, SignalTimer } from './signal-info.js'
export type { SignalName } from './signal-names.js'
export { TimerFd, type Tick, type TimerFdEvents, type TimerFdStats } from './timer-fd.js'
export type { CatchUp, TimerClock, TimerOptions, TimerStartOptions } from './timer-options.js'
export {
  SocketListener,
  type DetachedListener,
  type ListenerEvents,
  type ListenerOptions,
} from './socket-listener.js'
export type { Limit, LimitOptions } from './socket-limits.js'
export type { Borrow, DetachedStream, StreamEvents, StreamOptions } from './stream-options.js'
export { StreamSocket } from './stream-socket.js'
export {
  sendFile,
  type FileSource,
  type FileTarget,
  type HasDescriptor,
  type SendFileOptions,
} from './send-file.js'
export {
  proxy,
  pump,
  type Detachable,
  type ProxyBytes,
  type ProxyOptions,
  type PumpEnd,
  type PumpOptions,
} from './splice.js'
export { Ring, type RingOptions } from './ring.js'
export type { OfferLimits, OfferPeer } from './memory-offer.js'
export {
  accept,
  offer,
  RingLink,
  type AcceptOptions,
  type OfferOptions,
  type RingLinkEvents,
} from './ring-link.js'
export { RingPeer, type RingPeerEvents } from './ring-peer.js'
export {
  BroadcastReader,
  type BroadcastReaderEvents,
  type BroadcastReaderOptions,
} from './broadcast-reader.js'
export {
  BroadcastWriter,
  type BroadcastWriterOptions,
  type BroadcastWriterStats,
} from './broadcast-writer.js'
export {
  ManyWriter,
  type ManyWriterEvents,
  type ManyWriterOptions,
  type ManyWriterStats,
} from './many-writer.js'
export {
  ManyWriterRing,
  type ManyWriterRingEvents,
  type ManyWriterRingOptions,
  type ManyWriterRingStats,
} from './many-writer-ring.js'
export { RingReader, type RingReaderEvents, type RingReaderOptions } from './ring-reader.js'
export type { BacklogOptions, OnFull } from './ring-backlog.js'
export {
  RingWriter,
  type RingWriterEvents,
  type RingWriterOptions,
  type RingWriterStats,
} from './ring-writer.js'
export {
  SharedMemory,
  type MapOptions,
  type MemoryAccess,
  type MemorySeal,
  type SharedMemoryOpenOptions,
  type SharedMemoryOptions,
} from './shared-memory.js'
export { MappedFile } from './mapped-file.js'
export type { FileRange, FlushOptions, MappedFileOptions } from './mapped-file-options.js'
export { FileLock, type FileLockOptions, type LockKind, type LockOptions } from './file-lock.js'
export { record, RecordSchema, type RecordShape } from './record-schema.js'
export type { RecordValue } from './record-accessors.js'
export type { FieldArrays, FieldValues, RecordField, RecordFields } from './record-layout.js'
export {
  LatestCellReader,
  LatestCellWriter,
  type LatestCellOptions,
  type LatestCellSizeOptions,
  type LatestCellWriterOptions,
} from './latest-cell.js'
export { connect, listen, type ConnectOptions, type ListenOptions } from './listen.js'
export type { TcpAddress } from './tcp-address.js'
export { TcpConnectError } from './tcp-connect.js'
export {
  TcpListener,
  type TcpListenerEvents,
  type TcpListenerFromOptions,
  type TcpListenerOptions,
} from './tcp-listener.js'
export type { KeepAlive, TcpStreamOptions } from './tcp-options.js'
export { TcpStream, type TcpConnectOptions, type TcpStreamEvents } from './tcp-stream.js'
export type { AbstractName, UnixAddress } from './unix-address.js'
export type { Allow, AllowLists, UnixPeer } from './unix-peer.js'
export type { FileOwner } from './unix-path.js'
export {
  UnixSocketListener,
  type UnixSocketFromOptions,
  type UnixSocketListenerEvents,
  type UnixSocketListenOptions,
} from './unix-socket-listener.js'
export {
  UnixListener,
  type UnixListenerEvents,
  type UnixListenerFromOptions,
  type UnixListenerOptions,
} from './unix-listener.js'
export type {
  DetachedMessages,
  MessageEvents,
  MessageInfo,
  MessageOptions,
  MessageStats,
  OnCongestion,
  SendOptions,
  SendOutcome,
} from './message-options.js'
export { MessageSocket } from './message-socket.js'
export {
  UnixDatagram,
  type DatagramSendOptions,
  type UnixDatagramBindOptions,
  type UnixDatagramConnectOptions,
  type UnixDatagramEvents,
  type UnixDatagramFromOptions,
  type UnixDatagramOpenOptions,
  type UnixDatagramOptions,
} from './unix-datagram.js'
export {
  UnixSeqpacket,
  type UnixSeqpacketConnectOptions,
  type UnixSeqpacketEvents,
  type UnixSeqpacketOptions,
} from './unix-seqpacket.js'
export {
  UnixSeqpacketListener,
  type UnixSeqpacketFromOptions,
  type UnixSeqpacketListenerEvents,
  type UnixSeqpacketListenOptions,
} from './unix-seqpacket-listener.js'
export {
  UnixStream,
  type UnixConnectOptions,
  type UnixStreamEvents,
  type UnixSendOptions,
  type UnixStreamOptions,
} from './unix-stream.js'
