/**
 * Reading a log while others append to it. A reader takes no lock, and nobody waits for it.
 */
import { MappedFile } from '@fd-reactor/fd-events'
import { FIRST, Header, type LogState } from './header.js'
import { scan, type LogRecord, type ScanEnd } from './record.js'

/** One reader of a log. */
export class LogReader implements Disposable {
  readonly #file: MappedFile
  readonly #header: Header
  #at = { offset: FIRST, next: 1 }
  #version: number | undefined

  /** Opens a log that exists. */
  constructor(path: string) {
    this.#file = MappedFile.open(path, { access: 'read' })
    try {
      const { bytes } = this.#file
      if (Header.missing(bytes)) throw new Error(`${path}: nobody has begun a log in it yet`)
      this.#header = new Header(bytes) // the view stays when the file grows
      const { damage } = this.#header
      if (damage !== undefined) throw new Error(`${path}: ${damage}`)
    } catch (error) {
      this.#file.close()
      throw error
    }
  }

  /** What the first page says. */
  get state(): LogState {
    const state = this.#header.read()
    if (state === undefined)
      throw new Error(`${this.#file.path}: its first page is damaged, which the next append repairs`)
    return state
  }

  /** Shows what was appended since the last call, and returns where that ended; undefined when nothing was committed since. */
  read(visit: (record: LogRecord) => void): ScanEnd | undefined {
    const version = this.#header.version
    if (version === this.#version) return undefined
    const { tail } = this.state
    if (tail < this.#at.offset)
      throw new Error(`${this.#file.path}: it was cut back to ${tail} while it was read`)
    if (tail > this.#file.bytes.length) this.#file.refresh()
    const log = this.#file.bytes
    const end = scan(log, this.#header.salt, this.#at, Math.min(tail, log.length), visit)
    if (end.bad === undefined && end.end < tail) end.bad = 'the file ends before it'
    this.#file.assertIntact()
    this.#at = { offset: end.end, next: end.next }
    if (end.bad === undefined) this.#version = version
    return end
  }

  [Symbol.dispose](): void {
    this.#file.close()
  }
}
