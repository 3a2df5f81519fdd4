/**
 * Files on their way to a stream socket: sendfile(2), in the order of the stream's writes.
 *
 * The file has a place in the stream's queue from the moment of the call; it is opened and looked at on the thread pool. When its turn has
 * come the kernel sends what is in memory. What is not is read on the thread pool first, a window at a time, into a buffer that nobody
 * looks at: by then it is in the page cache, and the loop never waits for a disk.
 */
import { Buffer } from 'node:buffer'
import { closeSync, constants, fstat, open, read, type PathLike, type Stats } from 'node:fs'
import { FdHandle, ReactorError, SystemError } from '@fd-reactor/core'
import { abortSignal, checkOptions, func, integer, transfer } from '@fd-reactor/core/sys'
import { LATER } from './stream-queue.js'

/** What has a file to send: a path, which is opened and closed, or a descriptor, an {@link FdHandle} or a `FileHandle` of `fs.promises`. */
export type FileSource = PathLike | number | HasDescriptor

/** Whatever has a descriptor. */
export interface HasDescriptor {
  /** Its number. */
  readonly fd: number
}

/** Where a file can be sent to: a Unix or TCP stream. */
export interface FileTarget {
  /** Names it in errors. */
  readonly label: string
  /** Puts what is sent by a function of its own behind what waits. */
  enqueue(send: (to: FdHandle) => number, drop: (reason?: Error) => void): void
  /** Lets what was enqueued go on. */
  proceed(): void
  /** Closes it. */
  destroy(): void
}

/** Options of {@link sendFile}. */
export interface SendFileOptions {
  /** The first byte. Default 0. */
  offset?: number
  /** How many bytes. Default: to the end that the file has when it is opened. */
  length?: number
  /** Stops it; the promise is rejected with the reason. */
  signal?: AbortSignal
  /** Called with how many bytes have left so far, whenever some have. */
  onProgress?: (bytes: number) => void
}

const SIZE = integer(0, Number.MAX_SAFE_INTEGER)
const OPTION_CHECKS = { offset: SIZE, length: SIZE, signal: abortSignal, onProgress: func }

const WINDOW = 1024 * 1024 // sent before others have their turn, and read from the disk at a time
const EAGAIN = -11
const COLD = -115
const UNKNOWN = -95
const EINVAL = -22
const EISDIR = -21
/** EPIPE, ENETDOWN, ENETUNREACH, ECONNABORTED, ECONNRESET, ENOTCONN, ETIMEDOUT, EHOSTDOWN, EHOSTUNREACH: what a socket says, and a file never. */
const SOCKET_ERRORS = new Set([-32, -100, -101, -103, -104, -107, -110, -112, -113])
// A FIFO without a writer would hold up one of the thread pool's few threads.
const OPEN_FLAGS = constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY

/**
 * Sends a file, or a part of it, and resolves to how many bytes that were once the kernel has taken them.
 *
 * It keeps its place among the writes: what was written before leaves before, what is written after leaves after, also while the
 * file is still being opened. Memory stays free: at most the socket's buffer is on its way, and `highWaterMark` does not count a file.
 * Guaranteed: the descriptor's own offset is not moved; a descriptor may be closed as soon as the call has returned; a file that grows is
 * sent up to the size that it had. The loop waits for no disk, except for a single page that the kernel has dropped out of a run of others,
 * and where the filesystem cannot say what is in memory (FUSE, NFS; a tmpfs always is) for what is dropped again before a slow peer takes it.
 * Not guaranteed: what the peer gets of a file that is written to meanwhile.
 *
 * When it fails with nothing sent the stream goes on, and what was written after it leaves. When it fails in the middle the
 * stream is destroyed: nothing that follows could be told from the rest of the file.
 *
 * @throws ReactorError `ERR_CLOSED`, `ERR_STREAM_ENDED`; `ERR_SHORT_FILE` when the file is cut off while it is sent, or was shorter than asked
 * for. SystemError `EINVAL` for what is no regular file, `EISDIR`, `EPIPE` and `ECONNRESET` when the peer goes away. Node's errors of opening
 * and reading. The signal's reason. TypeError, RangeError for options that do not exist or are out of range.
 * @example
 * import { Reactor } from '@fd-reactor/core'
 * import { sendFile, UnixListener, UnixStream } from '@fd-reactor/fd-events'
 * using reactor = new Reactor()
 * const listener = UnixListener.listen(reactor, '/tmp/example-send-file.sock')
 * listener.on('connection', async (stream) => {
 *   stream.write('The first user is ')
 *   await sendFile(stream, '/etc/passwd', { length: 4 })
 *   stream.end()
 * })
 * const client = await UnixStream.connect(reactor, listener.path)
 * let text = ''
 * for await (const bytes of client) text += String(bytes)
 * console.log(text) // The first user is root
 * @see sendfile(2)
 */
export async function sendFile(
  stream: FileTarget,
  source: FileSource,
  options: SendFileOptions = {},
): Promise<number> {
  checkOptions('sendFile', options, OPTION_CHECKS)
  options.signal?.throwIfAborted()
  const open = opener(source)
  return new Promise((resolve, reject) => {
    open(new Sending(stream, nameOf(source), options, resolve, reject))
  })
}

/** An open file. What Node has opened only Node may close: it keeps books of it in worker threads. */
interface OpenFile {
  readonly fd: number
  close(): void
}

/** One file in the queue of a stream. */
class Sending {
  readonly #stream: FileTarget
  readonly #name: string
  readonly #signal: AbortSignal | undefined
  readonly #onProgress: ((bytes: number) => void) | undefined
  readonly #resolve: (bytes: number) => void
  readonly #reject: (error: unknown) => void
  #file: OpenFile | undefined
  #offset: number
  #length: number | undefined
  #sent = 0
  /** Up to where the file was read from the disk just now. */
  #fetched = 0
  /** Whether its filesystem cannot say what is in memory. */
  #blind = false
  /** Whether the thread pool has it. */
  #working = true
  #settled = false

  constructor(
    stream: FileTarget,
    name: string,
    { offset = 0, length, signal, onProgress }: SendFileOptions,
    resolve: (bytes: number) => void,
    reject: (error: unknown) => void,
  ) {
    this.#stream = stream
    this.#name = name
    this.#offset = offset
    this.#length = length
    this.#signal = signal
    this.#onProgress = onProgress
    this.#resolve = resolve
    this.#reject = reject
    stream.enqueue(this.#send, this.#drop)
    signal?.addEventListener('abort', this.#onAbort)
  }

  open(path: PathLike): void {
    try {
      open(path, OPEN_FLAGS, (error, fd) => {
        if (error === null) this.#take({ fd, close: () => closeSync(fd) })
        else this.#fail(error)
      })
    } catch (error) {
      this.#fail(error) // a path with a NUL in it, for example
    }
  }

  duplicate(fd: number): void {
    try {
      this.#take(new FdHandle(transfer.duplicate(fd)))
    } catch (error) {
      this.#fail(error)
    }
  }

  #take(file: OpenFile): void {
    this.#file = file
    if (this.#settled) return file.close()
    fstat(file.fd, (error, stats) => {
      this.#working = false
      if (this.#settled) return file.close()
      const refusal = error ?? this.#look(stats)
      if (refusal !== undefined) return this.#fail(refusal)
      this.#stream.proceed()
    })
  }

  #look(stats: Stats): Error | undefined {
    if (!stats.isFile()) {
      const hint = 'It is no regular file: pump() moves what sockets, pipes and FIFOs have'
      const directory = stats.isDirectory()
      return new SystemError(directory ? EISDIR : EINVAL, 'sendfile', {
        path: this.#name,
        hint: directory ? undefined : hint,
      })
    }
    const end = this.#offset + (this.#length ??= Math.max(0, stats.size - this.#offset))
    return end > stats.size ? this.#short(stats.size) : undefined
  }

  #short(size: number): ReactorError {
    const asked = `${this.#left} bytes from ${this.#offset} on were to be sent`
    return new ReactorError(
      'ERR_SHORT_FILE',
      `'${this.#name}' has ${size} bytes only, and ${asked}${this.#soFar}`,
    )
  }

  #systemError(errno: number): SystemError {
    return new SystemError(errno, 'sendfile', { path: this.#name, hint: this.#soFar.slice(2) || undefined })
  }

  get #left(): number {
    return (this.#length ?? 0) - this.#sent
  }

  get #soFar(): string {
    return this.#length === undefined ? '' : `; ${this.#sent} of ${this.#length} bytes have left`
  }

  readonly #send = (to: FdHandle): number => {
    if (this.#settled) return 0 // its place in the queue is all that is left of it
    if (this.#working || this.#file === undefined) return LATER
    const left = this.#left
    if (left === 0) return this.#finish()
    const probe = this.#offset >= this.#fetched
    const most = Math.min(left, WINDOW, probe ? WINDOW : this.#fetched - this.#offset)
    const sent = transfer.sendFile(to, this.#file.fd, this.#offset, most, probe)
    if (sent > 0) return this.#advance(sent)
    if (sent === COLD || sent === UNKNOWN) {
      this.#blind = sent === UNKNOWN
      return this.#fetch(this.#file)
    }
    if (sent === EAGAIN) {
      if (!this.#blind) this.#fetched = 0 // by the time there is room it may have been dropped again
      return EAGAIN
    }
    if (sent === 0) {
      this.#fail(this.#short(this.#offset))
      return 0
    }
    const error = this.#systemError(sent)
    if (to.owned && !SOCKET_ERRORS.has(sent)) {
      this.#fail(error)
      return 0
    }
    this.#settle(error)
    return sent
  }

  #advance(sent: number): number {
    this.#offset += sent
    this.#sent += sent
    try {
      this.#onProgress?.(this.#sent)
    } catch (error) {
      this.#fail(error)
    }
    return sent
  }

  #fetch(file: OpenFile): number {
    this.#working = true
    scratch ??= Buffer.allocUnsafeSlow(WINDOW)
    read(file.fd, scratch, 0, Math.min(this.#left, WINDOW), this.#offset, (error, bytes) => {
      this.#working = false
      if (this.#settled) return file.close()
      if (error !== null) return this.#fail(error)
      if (bytes === 0) return this.#fail(this.#short(this.#offset)) // a filesystem that cannot say what is in memory would never say so
      this.#fetched = this.#offset + bytes
      this.#stream.proceed()
    })
    return LATER
  }

  #finish(): number {
    this.#settle()
    return 0
  }

  /** It cannot be sent, or not any more. */
  #fail(error: unknown): void {
    if (this.#settled) return
    this.#settle(error)
    if (this.#sent > 0) this.#stream.destroy()
    else this.#stream.proceed()
  }

  readonly #drop = (reason?: Error): void => {
    const closed = `${this.#stream.label} was closed before '${this.#name}' was sent${this.#soFar}`
    if (reason instanceof SystemError) this.#settle(this.#systemError(reason.errno))
    else this.#settle(reason ?? new ReactorError('ERR_CLOSED', closed))
  }

  readonly #onAbort = (): void => {
    this.#fail(this.#signal?.reason)
  }

  #settle(...failure: [error?: unknown]): void {
    if (this.#settled) return
    this.#settled = true
    this.#signal?.removeEventListener('abort', this.#onAbort)
    if (!this.#working) this.#file?.close() // the thread pool's work ends with it otherwise
    if (failure.length > 0) this.#reject(failure[0])
    else this.#resolve(this.#sent)
  }
}

/** What brings pages in must read them into something; nobody looks at it, so all share it, and the threads may write over each other. */
let scratch: Buffer | undefined

/** Brings the file in. A descriptor is duplicated at once, so that its owner may close it. */
function opener(source: FileSource): (sending: Sending) => void {
  if (typeof source === 'string' || source instanceof URL || Buffer.isBuffer(source)) {
    return (sending) => sending.open(source)
  }
  const fd = descriptorIn(source)
  if (fd === undefined) {
    throw new TypeError('sendFile() takes a path, a descriptor, an FdHandle or a FileHandle')
  }
  return (sending) => sending.duplicate(fd)
}

/** The number of what is or has a descriptor; JavaScript may pass anything. */
function descriptorIn(source: unknown): number | undefined {
  const fd = typeof source === 'object' && source !== null && 'fd' in source ? source.fd : source
  return typeof fd === 'number' ? fd : undefined
}

function nameOf(source: FileSource): string {
  if (typeof source === 'object' && 'fd' in source) return `fd ${source.fd}`
  return typeof source === 'number' ? `fd ${source}` : source.toString()
}
