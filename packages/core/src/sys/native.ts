/**
 * The addon: what it exports, and how it is found.
 *
 * A function returns what its system call returns, or -errno; `sys/index.ts` makes errors of the negative ones. Nothing is
 * loaded before it is needed, so that the package can be imported anywhere and only its use needs Linux.
 */
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import process from 'node:process'
import { ReactorError } from '../errors.js'

/** A native reactor, opaque to JavaScript. */
export interface ReactorHandle {
  readonly __reactor: unique symbol
}

/** A native mapping, opaque to JavaScript but for the buffer that shows it. */
export interface MappingHandle {
  readonly __mapping: unique symbol
  readonly buffer: ArrayBuffer
}

/** One end of a cell (`native/cell.cc`). */
export interface NativeCell {
  /** Publishes what lies in the staging buffer, or reads the newest sample into it. */
  readonly move: () => void
  /** 64 bytes in which `move` tells what it did, and the record. */
  readonly buffer: ArrayBuffer
}

export interface NativeReactor {
  handle: ReactorHandle
  fd: number
  id: bigint
  /** Records and slab of the main batches, then of the high ones. */
  buffers: [ArrayBuffer, ArrayBuffer, ArrayBuffer, ArrayBuffer]
  /** Sends what the main header names, from a slab or from `bytes`, and writes the result there. */
  sendSlab(): void
  sendBytes(bytes: Uint8Array): void
}

/** A connected process, as the kernel saw it when it connected (SO_PEERCRED). */
export interface PeerCredentials {
  /** Its process id, which may have been given to another process since. */
  pid: number
  /** Its effective user id. */
  uid: number
  /** Its effective group id. */
  gid: number
}

/** Who has a signal already. */
export interface SignalHolder {
  /** The name of its reactor. */
  owner: string
  /** The signal. */
  signo: number
}

export interface Native {
  createReactor(
    dispatch: (high: number, from: number, count: number) => void,
    rebuilt: (priority: number) => void,
    maxEvents: number,
    chunkRecords: number,
    busyPollMicros: number,
    measure: boolean,
  ): NativeReactor | number
  reactorAdd(
    reactor: ReactorHandle,
    slot: number,
    generation: number,
    fd: number,
    interest: number,
    drain: number,
    priority: number,
    argument: number,
  ): number
  reactorModify(reactor: ReactorHandle, slot: number, interest: number): number
  reactorRemove(reactor: ReactorHandle, slot: number): void
  reactorAddArgument(reactor: ReactorHandle, slot: number, delta: number): void
  reactorTurn(reactor: ReactorHandle): number
  reactorWake(reactor: ReactorHandle): number
  reactorStartUv(reactor: ReactorHandle): number
  reactorSetRef(reactor: ReactorHandle, ref: boolean): void
  reactorClose(reactor: ReactorHandle): void

  closeFd(fd: number, serial: number): number
  fdSerial(fd: number): number
  ownFd(fd: number): number
  disownFd(fd: number): void
  duplicateFd(fd: number): number
  openFile(path: string, flags: number, mode: number): number
  flock(fd: number): number
  fchmod(fd: number, mode: number): number

  createEventFd(initial: bigint, semaphore: boolean): number
  writeEventFd(fd: number, value: bigint): number

  createTimerFd(clock: number): number
  setTimerFd(fd: number, flags: number, firstNs: bigint, intervalNs: bigint): number
  getTimerFd(fd: number): bigint | number
  clockNow(clock: number): bigint

  openSignalFd(fd: number, signals: bigint): number
  openPipe(): [readEnd: number, writeEnd: number] | number
  acquireSignals(owner: bigint, name: string, netFd: number, signals: bigint): number | SignalHolder
  releaseSignals(owner: bigint, signals: bigint): Buffer
  lostSignals(owner: bigint): number

  createSocket(domain: number, type: number): number
  bindSocket(fd: number, address: Uint8Array): number
  connectSocket(fd: number, address: Uint8Array): number
  socketName(fd: number): Buffer | number
  peerName(fd: number): Buffer | number
  listenSocket(fd: number, backlog: number): number
  acceptSocket(fd: number): number
  shutdownSocket(fd: number, how: number): number
  readableBytes(fd: number): number
  unsentBytes(fd: number): number
  getSocketOption(fd: number, level: number, option: number): number
  setSocketOption(fd: number, level: number, option: number, value: number): number
  sendMessages(fd: number, serial: number, packed: Uint8Array, offset: number, count: number): number
  sendWithFds(
    fd: number,
    serial: number,
    bytes: Uint8Array,
    offset: number,
    length: number,
    fds: Int32Array,
  ): number
  peerCredentials(fd: number): PeerCredentials | number
  peerGroups(fd: number): number[] | number
  peerPidFd(fd: number): number

  sendFile(
    socket: number,
    serial: number,
    file: number,
    offset: number,
    length: number,
    probe: boolean,
  ): number
  spliceBytes(from: number, to: number, length: number, socket: number): number

  createMemory(name: string, hugePages: boolean): number
  addSeals(fd: number, seals: number): number
  seals(fd: number): number
  allocateFile(fd: number, offset: number, length: number): number
  nameFile(fd: number, path: string): number
  pageSize(fd: number): number
  mapMemory(
    fd: number,
    offset: number,
    length: number,
    write: boolean,
    populate: boolean,
    page: number,
  ): MappingHandle | number
  memoryMoves(mapping: MappingHandle): void
  lockMemory(mapping: MappingHandle): number
  watchMemory(mapping: MappingHandle): number
  unmapMemory(mapping: MappingHandle): void
  memoryLost(mapping: MappingHandle): boolean
  liveMappings(): number
  syncMemory(mapping: MappingHandle, offset: number, length: number, flags: number): number
  flushMapped(
    mapping: MappingHandle,
    offset: number,
    length: number,
    fd: number,
    fileOffset: number,
  ): Promise<number> | number
  lockRange(fd: number, exclusive: boolean, offset: number, length: number): number
  unlockRange(fd: number, exclusive: boolean, offset: number, length: number): number
  lockHolder(fd: number, exclusive: boolean, offset: number, length: number): number
  adviseMemory(mapping: MappingHandle, offset: number, length: number, advice: number): number
  loadShared(mapping: MappingHandle, offset: number, target: Uint8Array): boolean
  storeShared(mapping: MappingHandle, offset: number, source: Uint8Array): boolean
  openCell(
    mapping: MappingHandle,
    sequenceAt: number,
    slotsAt: number,
    slots: number,
    stride: number,
    size: number,
    writes: boolean,
    sequence: number,
  ): NativeCell | undefined
}

const require = createRequire(import.meta.url)
let loaded: Native | undefined

function load(): Native {
  if (process.platform !== 'linux') {
    const message = `fd-reactor needs Linux: epoll, eventfd, timerfd and signalfd do not exist on ${process.platform}`
    throw new ReactorError('ERR_UNSUPPORTED_PLATFORM', message)
  }
  try {
    return require(process.env['FD_REACTOR_ADDON'] ?? built()) as Native
  } catch (cause) {
    throw new ReactorError(
      'ERR_ADDON_MISSING',
      'The native part of @fd-reactor/core could not be loaded. It is compiled when the package is installed: install python3, ' +
        'make and g++, then run `npm rebuild @fd-reactor/core`. pnpm skips build scripts until they are allowed: ' +
        '`pnpm add --allow-build=@fd-reactor/core @fd-reactor/core`.',
      { cause },
    )
  }
}

/** Where the package's installation put it. */
function built(): string {
  return join(dirname(require.resolve('@fd-reactor/core/package.json')), 'build/Release/fd_reactor.node')
}

/** The addon, loaded at the first call. */
export function native(): Native {
  return (loaded ??= load())
}
