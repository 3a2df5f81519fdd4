/**
 * Where frames lie: a pool of slots in shared memory, or in a process's own.
 *
 * A pool and not a ring of bytes: frames have one size, so a slot for each needs no padding and no headers, each begins on a page, and the
 * consumer can keep one while the next ones come. A ring would need twice its longest message, rounded up to a power of two: 32 MiB to hold
 * one 8 MiB frame. Who may touch a slot follows from the messages: from `ready` to `done` it is the consumer's, otherwise the
 * producer's. Sending and receiving on the socket orders the stores before the loads.
 */
import type { FdHandle } from '@fd-reactor/core'
import { SharedMemory } from '@fd-reactor/fd-events'
import { frameBytes, type FrameSize } from './frame.js'

const PAGE = 4096

/** Frames by their numbers. */
export interface Slots extends Disposable {
  /** Where the pixels of frame `number` lie. */
  pixels(number: number): Uint32Array
  /** What the other process maps; undefined for a process's own memory. */
  readonly handle: FdHandle | undefined
}

/** One frame in memory of this process's own, for the transport that copies. */
export function ownSlot(size: FrameSize): Slots {
  const pixels = new Uint32Array(frameBytes(size) / 4)
  return { pixels: () => pixels, handle: undefined, [Symbol.dispose]: () => undefined }
}

/** New shared memory of `count` slots, all of its pages there. */
export function createSlots(size: FrameSize, count: number): Slots {
  return mapped(SharedMemory.create(count * slotBytes(size)), size, count, 'write')
}

/** The slots that the other process has made, to look at only. @throws Error when they are not what it says. */
export function openSlots(handle: FdHandle, size: FrameSize, count: number): Slots {
  const memory = SharedMemory.from(handle)
  if (memory.size >= count * slotBytes(size) && memory.seals.includes('shrink'))
    return mapped(memory, size, count, 'read')
  memory.close()
  throw new Error(`The producer's memory has ${memory.size} bytes, which is too few, or it may shrink`)
}

function mapped(memory: SharedMemory, size: FrameSize, count: number, access: 'read' | 'write'): Slots {
  const mapping = memory.map({ access, populate: true })
  const slots = Array.from(
    { length: count },
    (_, index) => new Uint32Array(mapping.buffer, index * slotBytes(size), frameBytes(size) / 4),
  )
  return {
    pixels: (number) => slots[number % count] ?? new Uint32Array(),
    handle: memory.handle,
    [Symbol.dispose]: () => {
      mapping.unmap()
      memory.close()
    },
  }
}

function slotBytes(size: FrameSize): number {
  return Math.ceil(frameBytes(size) / PAGE) * PAGE
}
