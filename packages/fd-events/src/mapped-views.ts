/**
 * The mappings that a file has, as long as somebody holds their memory.
 *
 * A view that JavaScript keeps must stay what it is when the file is mapped anew (a detached one would swallow stores without a word), and
 * must end when the file is closed. So each buffer is remembered weakly, and carries its mapping along: what nobody holds
 * any more is collected and unmapped.
 */
import type { Mapping } from '@fd-reactor/core'

/** Every mapping of one file whose memory is in use. */
export class MappedViews {
  readonly #buffers = new Set<WeakRef<ArrayBuffer>>()
  readonly #mappings = new WeakMap<ArrayBuffer, Mapping>()

  /** Takes one in. */
  add(mapping: Mapping): void {
    for (const reference of this.#buffers)
      if (reference.deref() === undefined) this.#buffers.delete(reference)
    this.#buffers.add(new WeakRef(mapping.buffer))
    this.#mappings.set(mapping.buffer, mapping)
  }

  /** Whether a page of any of them was lost. */
  get lost(): boolean {
    for (const mapping of this.#alive()) if (mapping.lost) return true
    return false
  }

  /** Unmaps them all. */
  close(): void {
    for (const mapping of this.#alive()) mapping.unmap()
    this.#buffers.clear()
  }

  *#alive(): Generator<Mapping, undefined> {
    for (const reference of this.#buffers) {
      const buffer = reference.deref()
      const mapping = buffer && this.#mappings.get(buffer)
      if (mapping !== undefined) yield mapping
    }
  }
}
