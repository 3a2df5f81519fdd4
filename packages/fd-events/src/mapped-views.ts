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

  /** Whether a page of any of them was lost. A plain loop: it runs whenever somebody asks a file for its bytes. */
  get lost(): boolean {
    for (const reference of this.#buffers) if (this.#mappingOf(reference)?.lost === true) return true
    return false
  }

  /** Unmaps them all. */
  close(): void {
    for (const reference of this.#buffers) this.#mappingOf(reference)?.unmap()
    this.#buffers.clear()
  }

  #mappingOf(reference: WeakRef<ArrayBuffer>): Mapping | undefined {
    const buffer = reference.deref()
    return buffer && this.#mappings.get(buffer)
  }
}
