/** A frame as a PNG file. */
import { writeFileSync } from 'node:fs'
import { encode } from 'fast-png'
import type { FrameSize } from './frame.js'

/** Writes the pixels of a frame; the header in its first four pixels is seen as four dots. */
export function writePng(path: string, pixels: Uint32Array, { width, height }: FrameSize): void {
  const data = new Uint8Array(pixels.buffer, pixels.byteOffset, pixels.byteLength)
  writeFileSync(path, encode({ width, height, channels: 4, depth: 8, data }))
}
