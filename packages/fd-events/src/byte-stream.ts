/**
 * What a byte stream is to those that sit on one: the part that our stream sockets and Node's streams have in common.
 */

/** What delivers later: a reactor. */
export interface Deferring {
  /** Whether it was closed. */
  readonly closed: boolean
  /** Calls `callback` when what it delivers now is delivered. */
  defer(callback: () => void): void
}

/** A stream of bytes in both directions: any stream socket of ours, or a Duplex of Node's, such as a TLSSocket. */
export interface ByteStream {
  /** Calls `listener` for bytes that came. */
  on(event: 'data', listener: (bytes: Buffer, offset?: number, length?: number) => void): unknown
  /** Calls `listener` when the peer has ended, when all was taken, when it is closed. */
  on(event: 'end' | 'drain' | 'close', listener: () => void): unknown
  /** Calls `listener` when it failed. */
  on(event: 'error', listener: (error: Error) => void): unknown
  /** Stops `'data'`. */
  pause(): unknown
  /** Lets `'data'` come again. */
  resume(): unknown
  /** Sends bytes; false when too many wait. */
  write(bytes: Uint8Array): boolean
  /** Shuts the writing side once everything is sent. */
  end(): unknown
  /** Closes it at once. */
  destroy(): unknown
  /** If it has one, it takes the place of `destroy()`. */
  close?(): void
  /** Whether it was closed. */
  readonly closed: boolean
  /** Whether `'end'` was told already. */
  readonly readableEnded?: boolean
  /** Only where it is false chunks may be kept; otherwise what outlives a handler is copied. */
  readonly borrow?: boolean | 'offsets'
  /** Whose handlers a frame that waited is delivered among; without one it comes in a tick of its own. */
  readonly reactor?: Deferring
}
