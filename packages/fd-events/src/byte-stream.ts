/**
 * What a byte stream is to those that sit on one: the part that our stream sockets and Node's streams have in common.
 */

/** A stream of bytes in both directions: any stream socket of ours, or a Duplex of Node's, such as a TLSSocket. */
export interface ByteStream {
  on(event: 'data', listener: (bytes: Buffer, offset?: number, length?: number) => void): unknown
  on(event: 'end' | 'drain' | 'close', listener: () => void): unknown
  on(event: 'error', listener: (error: Error) => void): unknown
  pause(): unknown
  resume(): unknown
  write(bytes: Uint8Array): boolean
  end(): unknown
  destroy(): unknown
  /** If it has one, it takes the place of `destroy()`. */
  close?(): void
  readonly closed: boolean
  /** Only where it is false chunks may be kept; otherwise what outlives a handler is copied. */
  readonly borrow?: boolean | 'offsets'
  /** Whose handlers a frame that waited is delivered among; without one it comes in a tick of its own. */
  readonly reactor?: { readonly closed: boolean; defer(callback: () => void): void }
}
