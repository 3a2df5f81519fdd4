/**
 * A stream socket as a Duplex of Node's, for what is written against `net.Socket`: http, https, tls, pipelines, Web Streams.
 *
 * Reading: what the stream delivers is pushed, and the stream is paused once Node has enough. Writing: one write is under way at a
 * time and is called back when the kernel has taken its bytes; what is written meanwhile leaves joined. From the moment in which
 * the peer's end was pushed, the stream's error or close waits until that end was read, so that last words are heard.
 */
import { Buffer } from 'node:buffer'
import { ReactorError, SystemError } from '@fd-reactor/core'
import { Duplex } from 'node:stream'
import type { StreamSocket } from './stream-socket.js'
import type { TcpAddress } from './tcp-address.js'
import { TcpStream } from './tcp-stream.js'

const EPIPE = -32
const HIGH_WATER_MARK = 64 * 1024
type Callback = (error?: Error | null) => void

/**
 * What {@link toDuplex} returns: a Duplex with what http, https and tls use of a `net.Socket` besides. An http server or client
 * treats it as it would treat a socket of `node:net`.
 * @see https://nodejs.org/api/net.html#class-netsocket
 */
export class SocketDuplex extends Duplex {
  /** Always false: it is connected from the beginning. */
  readonly connecting = false
  /** The milliseconds of `setTimeout()`. */
  timeout: number | undefined
  readonly #stream: StreamSocket
  #writing: Callback | undefined
  #timer: NodeJS.Timeout | undefined
  #bytesSeen = 0

  /** See {@link toDuplex}. */
  constructor(stream: StreamSocket) {
    super({ allowHalfOpen: stream.allowHalfOpen, highWaterMark: HIGH_WATER_MARK })
    this.#stream = stream
    stream.allowHalfOpen = true // this side is ended by Node's rules from now on
    stream.pause()
    stream.on('data', (bytes) => {
      this.#timer?.refresh()
      if (!this.push(bytes)) stream.pause()
    })
    stream.on('end', () => this.push(null))
    stream.on('drain', this.#settle)
    stream.on('timeout', () => void (this.emit('timeout') || this.destroy()))
    stream.on('error', (error) => this.#afterReading(error))
    stream.on('close', () => {
      // A regular close, both sides shut, is noticed by Node itself: it follows 'end' and 'finish'.
      if (!stream.readableEnded || this.#writing !== undefined) this.#afterReading()
    })
    if (stream.readableEnded) this.push(null)
    if (stream.writableEnded) this.end()
  }

  /** How many bytes were received. */
  get bytesRead(): number {
    return this.#stream.bytesRead
  }

  /** How many bytes the kernel has taken. */
  get bytesWritten(): number {
    return this.#stream.bytesWritten
  }

  /** The peer's IP address; undefined on a Unix socket. */
  get remoteAddress(): string | undefined {
    return this.#address('remoteAddress')?.host
  }

  /** The peer's port; undefined on a Unix socket. */
  get remotePort(): number | undefined {
    return this.#address('remoteAddress')?.port
  }

  /** Our IP address; undefined on a Unix socket. */
  get localAddress(): string | undefined {
    return this.#address('localAddress')?.host
  }

  /** Our port; undefined on a Unix socket. */
  get localPort(): number | undefined {
    return this.#address('localAddress')?.port
  }

  /** Emits `'timeout'` after `ms` milliseconds without a byte in either direction; 0 for never. It closes nothing. */
  setTimeout(ms: number, listener?: () => void): this {
    clearTimeout(this.#timer)
    this.timeout = ms
    this.#timer = ms === 0 || this.destroyed ? undefined : setTimeout(this.#onIdle, ms).unref()
    if (listener === undefined) return this
    return ms === 0 ? this.off('timeout', listener) : this.once('timeout', listener)
  }

  /** Does nothing: it is an option of the stream. */
  setNoDelay(): this {
    return this
  }

  /** Does nothing: it is an option of the stream. */
  setKeepAlive(): this {
    return this
  }

  /** Lets it keep the process going. */
  ref(): this {
    if (!this.#stream.closed) this.#stream.ref()
    return this
  }

  /** It no longer keeps the process going. */
  unref(): this {
    if (!this.#stream.closed) this.#stream.unref()
    return this
  }

  /** Ends, and destroys once everything was written. */
  destroySoon(): void {
    if (this.writable) this.end()
    if (this.writableFinished) this.destroy()
    else this.once('finish', () => this.destroy())
  }

  /** @internal */
  override _read(): void {
    if (this.#stream.paused) this.#stream.resume()
  }

  /** @internal */
  override _write(chunk: Buffer, _encoding: BufferEncoding, callback: Callback): void {
    const stream = this.#stream
    if (stream.closed) return callback(new SystemError(EPIPE, 'send', { path: stream.label }))
    this.#timer?.refresh()
    this.#bytesSeen = stream.bytesWritten
    this.#writing = callback // before it is written: a stream that fails at once destroys us, and that calls back
    try {
      stream.write(chunk)
    } catch (error) {
      return void this.destroy(error instanceof Error ? error : new Error(String(error))) // somebody has ended the stream itself
    }
    // Within a handler the bytes leave when it returns, and ticks come after that.
    if (stream.reactor.dispatching) process.nextTick(this.#settle)
    else this.#settle()
  }

  /** @internal */
  override _writev(chunks: { chunk: Buffer }[], callback: Callback): void {
    this._write(Buffer.concat(chunks.map(({ chunk }) => chunk)), 'utf8', callback)
  }

  /** @internal */
  override _final(callback: Callback): void {
    this.#stream.end()
    callback()
  }

  /** @internal */
  override _destroy(error: Error | null, callback: Callback): void {
    clearTimeout(this.#timer)
    this.#timer = undefined // refreshing it would bring it back
    this.#stream.destroy()
    this.#writing?.(
      error ?? new ReactorError('ERR_CLOSED', `${this.#stream.label} was closed before all was sent`),
    )
    this.#writing = undefined
    callback(error)
  }

  /** Calls the write that is under way back, if the kernel has taken it. */
  readonly #settle = (): void => {
    const callback = this.#writing
    if (callback === undefined || this.#stream.closed || !this.#stream.flushed()) return
    this.#timer?.refresh()
    this.#writing = undefined
    callback()
  }

  readonly #onIdle = (): void => {
    const { bytesWritten } = this.#stream
    const moved = this.#writing !== undefined && bytesWritten !== this.#bytesSeen
    this.#bytesSeen = bytesWritten
    if (moved)
      this.#timer?.refresh() // a long write goes on, of which nothing is told
    else this.emit('timeout')
  }

  #address(which: 'remoteAddress' | 'localAddress'): TcpAddress | undefined {
    const stream: unknown = this.#stream
    return stream instanceof TcpStream && !stream.closed ? stream[which] : undefined
  }

  #afterReading(error?: Error): void {
    if (this.#stream.readableEnded && !this.readableEnded) this.once('end', () => this.destroy(error))
    else this.destroy(error)
  }
}

/**
 * Makes a Duplex of Node's out of a stream, for `http`, `https`, `tls`, `stream.pipeline`, Web Streams and protocol libraries.
 *
 * Bytes that were drained before and not delivered come first. The stream belongs to the duplex then: whoever goes on to read, write,
 * pause or end the stream itself mixes up both. An http server is given each duplex by `emit('connection', duplex)`; what looks at
 * all its connections (`headersTimeout`, `requestTimeout`, `closeAllConnections()`) works after `emit('listening')`.
 *
 * Guaranteed: a write is called back when the kernel has taken its bytes, not before, or with an error; nothing is read from
 * the kernel beyond 64 KiB and one chunk that nobody asks for; `'end'` ends the reading side only, `end()` the writing side only, and with
 * the stream's `allowHalfOpen: false`, the default, `'end'` is followed by `end()` after what was written by then; one `'error'` at most, then
 * one `'close'`; `destroy()` destroys the stream. Not guaranteed: that a peer's going is noticed while nobody reads or writes.
 *
 * @throws TypeError for a stream that has a `'data'` listener, an earlier duplex included, or that borrows; ReactorError `ERR_CLOSED`.
 * @example
 * import { Reactor } from '@fd-reactor/core'
 * import { toDuplex, UnixListener, UnixStream } from '@fd-reactor/fd-events'
 * import { createServer, request } from 'node:http'
 * const path = '/tmp/example-duplex.sock'
 * const reactor = new Reactor()
 * const server = createServer((req, res) => res.end(`you asked for ${req.url}`))
 * UnixListener.listen(reactor, path).on('connection', (stream) => server.emit('connection', toDuplex(stream)))
 * const socket = toDuplex(await UnixStream.connect(reactor, path))
 * request({ path: '/news', createConnection: () => socket }, async (res) => {
 *   console.log(String(await res.toArray())) // you asked for /news
 *   reactor.close()
 * }).end()
 * @see https://nodejs.org/api/stream.html#class-streamduplex
 */
export function toDuplex(stream: StreamSocket): SocketDuplex {
  if (stream.closed) throw new ReactorError('ERR_CLOSED', `${stream.label} is closed`)
  if (stream.borrow !== false) {
    throw new TypeError(
      `toDuplex(): ${stream.label} lends its bytes, and Node keeps them. Make it without the option 'borrow'`,
    )
  }
  if (stream.listenerCount('data') > 0) {
    throw new TypeError(
      `toDuplex(): ${stream.label} has a 'data' listener, so its bytes would go two ways. Remove it first; a stream has one duplex`,
    )
  }
  return new SocketDuplex(stream)
}
