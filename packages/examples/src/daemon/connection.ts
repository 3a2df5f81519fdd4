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
  #bytesRead = 0
  /** Up to where requests are answered: to the end, until the daemon stops. */
  #lastByte = Infinity
  /** Too many answers wait for the client. */
  #full = false
  /** The client has shut its side, and we ours. */
  #clientEnded = false
  #ended = false
  #patience: NodeJS.Timeout | undefined

  /** `stream` must allow half-open connections: a client may send its requests, end, and then read the answers. */
  constructor(stream: UnixStream, handler: RequestHandler, config: () => Config) {
    this.#stream = stream
    this.#handler = handler
    this.#config = config
    stream.on('data', this.#onData)
    stream.on('end', this.#onEnd)
    stream.on('drain', () => {
      this.#full = false
      this.#steer()
    })
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
    this.#full = !this.#stream.write(encode(message))
    this.#steer()
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
   * Answers what the client has sent up to now, and ends. What it sends afterwards is read only then, so that it is not reset, and not
   * done. Not to be called in a handler: bytes that the batch has drained already would not be counted.
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
    const due = bytes.subarray(0, this.#lastByte - this.#bytesRead)
    if (due.length === 0) return
    this.#bytesRead += due.length
    this.hold() // until the last of these lines is done with
    this.#lines.push(due, this.#config().maxLineBytes, this.#onLine)
    if (this.#lines.unfinished) this.#patience ??= this.#wait()
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
      this.#handler.onRequest(request, this)
    } catch (error) {
      this.#sendError(id, error)
      this.release()
    }
  }

  readonly #onEnd = (): void => {
    this.#stopWaiting()
    if (this.#lines.unfinished) this.#sendError(null, new RequestError('incomplete', 'The line did not end'))
    this.#clientEnded = true
    this.#endIfDone()
  }

  readonly #onTimeout = (): void => {
    if (this.#stream.paused) return void (this.#patience = this.#wait()) // it is we who do not read
    this.#sendError(null, new RequestError('incomplete', 'The line did not end in time'))
    this.#stream.close()
  }

  readonly #onClose = (): void => {
    this.#stopWaiting()
    this.#handler.onClose(this)
  }

  #wait(): NodeJS.Timeout {
    return setTimeout(this.#onTimeout, this.#config().requestTimeoutMs)
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
    const all = this.#clientEnded || this.#bytesRead >= this.#lastByte
    if (all && this.#holds === 0 && !this.#ended) {
      this.#ended = true
      this.#stream.end()
    }
    this.#steer()
  }

  /** Reads on, unless too many answers wait for the client, or only the last ones are waited for. */
  #steer(): void {
    const pause = this.#full || (this.#bytesRead >= this.#lastByte && !this.#ended)
    if (pause === this.#stream.paused) return
    if (pause) this.#stream.pause()
    else this.#stream.resume()
  }
}
