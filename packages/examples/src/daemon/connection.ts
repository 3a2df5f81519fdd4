/**
 * One client: its bytes become requests, answers become its bytes.
 *
 * It stays as long as something holds it: the client's writing side is open, or an answer or a subscription is due. A client that does
 * not read its answers is not read from either, so what waits for it is limited.
 */
import type { UnixStream } from '@fd-reactor/fd-events'
import type { Config } from './config.js'
import { LineSplitter } from './line-splitter.js'
import { encode, parseRequest, RequestError, type Message, type Request, type RequestId } from './protocol.js'

/** Who answers. */
export interface RequestHandler {
  /** Answers now or later, with `client.reply` or `client.fail`. What it throws becomes the answer. */
  onRequest(request: Request, client: Connection): void
  /** The connection is over. */
  onClose(client: Connection): void
}

/** A connected client. */
export class Connection {
  readonly #stream: UnixStream
  readonly #handler: RequestHandler
  readonly #config: () => Config
  readonly #lines = new LineSplitter()
  /** Why it may not be ended yet, besides that the client may send more. */
  #holds = 0
  /** Requests are answered up to this many bytes; infinite until the client has ended or the daemon stops. */
  #lastByte = Infinity
  #bytesRead = 0
  #late = false
  #ended = false
  #patience: NodeJS.Timeout | undefined

  /** `stream` must allow half-open connections: a client may send its requests, end, and then read the answers. */
  constructor(stream: UnixStream, handler: RequestHandler, config: () => Config) {
    this.#stream = stream
    this.#handler = handler
    this.#config = config
    stream.on('data', this.#onData)
    stream.on('end', this.#onEnd)
    stream.on('drain', () => stream.resume())
    // ECONNRESET, EPIPE: the client has gone without its answers. That is its business, and 'close' follows.
    stream.on('error', () => undefined)
    stream.on('close', this.#onClose)
  }

  get closed(): boolean {
    return this.#stream.closed
  }

  /** How many bytes the client has not taken yet. */
  get backlog(): number {
    return this.#stream.writableLength
  }

  /** Answers a request. */
  reply(id: RequestId, ok: unknown): void {
    this.send({ id, ok })
    this.release()
  }

  /** Answers a request that cannot be done. */
  fail(id: RequestId, error: unknown): void {
    this.#sendError(id, error)
    this.release()
  }

  /** Sends what is no answer. */
  send(message: Message): void {
    if (this.closed || this.#ended) return
    if (!this.#stream.write(encode(message))) this.#stream.pause()
  }

  /** Keeps the connection although nothing more may be asked, until `release()`. */
  hold(): void {
    this.#holds++
  }

  release(): void {
    this.#holds--
    this.#endIfDone()
  }

  /**
   * Answers what the client has sent up to now, and ends. What it sends afterwards is read, so that its answers are not lost to a
   * reset, and not done. Not to be called in a handler: bytes that the batch has drained already would not be counted.
   */
  finish(): void {
    if (this.closed) return
    this.#lastByte = Math.min(this.#lastByte, this.#bytesRead + this.#stream.readableLength)
    this.#endIfDone()
  }

  /** Cuts the client off. */
  drop(): void {
    this.#stream.destroy()
  }

  readonly #onData = (bytes: Buffer): void => {
    if (this.#ended) return
    // Of a chunk that has bytes from before and after the last byte all is done: where exactly it falls matters to nobody.
    this.#late = this.#bytesRead >= this.#lastByte
    this.#bytesRead += bytes.length
    this.hold() // until the last line of the chunk has its answer
    this.#lines.push(bytes, this.#config().maxLineBytes, this.#onLine)
    if (this.#lines.unfinished)
      this.#patience ??= setTimeout(this.#onTimeout, this.#config().requestTimeoutMs)
    this.release()
  }

  readonly #onLine = (line: Buffer | undefined): void => {
    this.#stopWaiting()
    if (line?.length === 0) return // a blank line, from someone who types
    this.hold()
    let id: RequestId | null = null
    try {
      if (line === undefined) {
        throw new RequestError('too_long', `A request may have ${this.#config().maxLineBytes} bytes`)
      }
      const request = parseRequest(line)
      id = request.id
      if (this.#late) throw new RequestError('stopping', 'The daemon is stopping')
      this.#handler.onRequest(request, this)
    } catch (error) {
      this.#sendError(id, error)
      this.release()
    }
  }

  readonly #onEnd = (): void => {
    this.#stopWaiting()
    if (this.#lines.unfinished)
      this.#sendError(null, new RequestError('incomplete', 'The last line did not end'))
    this.#lastByte = this.#bytesRead
    this.#endIfDone()
  }

  readonly #onTimeout = (): void => {
    this.#sendError(null, new RequestError('incomplete', 'The line did not end in time'))
    this.#stream.close()
  }

  readonly #onClose = (): void => {
    this.#stopWaiting()
    this.#handler.onClose(this)
  }

  #stopWaiting(): void {
    clearTimeout(this.#patience)
    this.#patience = undefined
  }

  #sendError(id: RequestId | null, error: unknown): void {
    const code = error instanceof RequestError ? error.code : 'internal'
    const message = error instanceof Error ? error.message : String(error)
    this.send({ id: id ?? (error instanceof RequestError ? error.id : null), error: { code, message } })
  }

  #endIfDone(): void {
    if (this.#ended || this.#holds > 0 || this.#bytesRead < this.#lastByte) return
    this.#ended = true
    this.#stream.end()
  }
}
