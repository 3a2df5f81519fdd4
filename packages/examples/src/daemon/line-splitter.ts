/**
 * Cuts a stream of bytes into lines, holding no more than one unfinished line of limited length.
 *
 * Of a line that exceeds the limit nothing is kept: it is told once, and skipped up to its end, so that the next line is found.
 */

const NEWLINE = 0x0a

/** Takes a line without its newline, or undefined for one that is too long. */
export type OnLine = (line: Buffer | undefined) => void

/** One stream's lines. */
export class LineSplitter {
  #parts: Buffer[] = []
  #length = 0
  #skipping = false

  /** Whether a line has begun and not ended. */
  get unfinished(): boolean {
    return this.#length > 0 || this.#skipping
  }

  /** Calls back for each line that `bytes` end; a line may have `limit` bytes. */
  push(bytes: Buffer, limit: number, onLine: OnLine): void {
    let start = 0
    for (;;) {
      const newline = bytes.indexOf(NEWLINE, start)
      this.#add(bytes.subarray(start, newline < 0 ? undefined : newline), limit, onLine)
      if (newline < 0) return
      start = newline + 1
      if (this.#skipping) this.#skipping = false
      else onLine(this.#take())
    }
  }

  #add(part: Buffer, limit: number, onLine: OnLine): void {
    if (this.#skipping || part.length === 0) return
    this.#parts.push(part)
    this.#length += part.length
    if (this.#length <= limit) return
    this.#skipping = true
    this.#take()
    onLine(undefined)
  }

  #take(): Buffer {
    const parts = this.#parts
    const line = parts.length === 1 && parts[0] !== undefined ? parts[0] : Buffer.concat(parts, this.#length)
    this.#parts = []
    this.#length = 0
    return line
  }
}
