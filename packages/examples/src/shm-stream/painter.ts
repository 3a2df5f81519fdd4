/**
 * The pattern: a colour field that rolls upwards, colour bars, a ball that bounces, and the frame's number.
 *
 * The field is made once and copied into each frame, one row lower, so a frame costs what copying its memory costs: about what a camera's
 * driver would store. A frame depends on its number and size only, and can be painted again after its painter was killed.
 */
import type { FrameSize } from './frame.js'

const ROWS_PER_FRAME = 3
/** 5 × 7 dots each, a row to a number. */
const FONT: Readonly<Record<string, readonly number[]>> = {
  '0': [14, 17, 19, 21, 25, 17, 14],
  '1': [4, 12, 4, 4, 4, 4, 14],
  '2': [14, 17, 1, 2, 4, 8, 31],
  '3': [31, 2, 4, 2, 1, 17, 14],
  '4': [2, 6, 10, 18, 31, 2, 2],
  '5': [31, 16, 30, 1, 1, 17, 14],
  '6': [6, 8, 16, 30, 17, 17, 14],
  '7': [31, 1, 2, 4, 8, 8, 8],
  '8': [14, 17, 17, 14, 17, 17, 14],
  '9': [14, 17, 17, 15, 1, 2, 12],
}
const GLYPH_WIDTH = 6
const GLYPH_HEIGHT = 7
const DIGITS = 6
const BARS = [0xbfbfbf, 0xbfbf00, 0x00bfbf, 0x00bf00, 0xbf00bf, 0xbf0000, 0x0000bf].map((hex) =>
  colour(hex >> 16, (hex >> 8) & 255, hex & 255),
)
const WHITE = colour(255, 255, 255)
const INK = colour(18, 18, 28)

/** A pixel as a word: its bytes are red, green, blue, alpha. */
function colour(red: number, green: number, blue: number): number {
  return ((255 << 24) | (blue << 16) | (green << 8) | red) >>> 0
}

/** Paints frames of one size. */
export class Painter {
  readonly #size: FrameSize
  readonly #field: Uint32Array

  constructor(size: FrameSize) {
    this.#size = size
    this.#field = field(size)
  }

  /** Paints frame `number` over whatever is there. */
  paint(pixels: Uint32Array, number: number): void {
    const { width, height } = this.#size
    const first = ((number * ROWS_PER_FRAME) % height) * width
    pixels.set(this.#field.subarray(first))
    pixels.set(this.#field.subarray(0, first), pixels.length - first)
    this.#bars(pixels)
    this.#ball(pixels, number)
    this.#number(pixels, number)
  }

  #bars(pixels: Uint32Array): void {
    const { height } = this.#size
    for (let row = Math.floor(height * 0.9); row < height; row++) {
      for (const [index, bar] of BARS.entries())
        this.#span(pixels, row, index / BARS.length, (index + 1) / BARS.length, bar)
    }
  }

  #ball(pixels: Uint32Array, number: number): void {
    const { width, height } = this.#size
    const radius = height / 9
    const x = bounce(number * 11, width - 2 * radius) + radius
    const y = bounce(number * 7, height * 0.9 - 2 * radius) + radius
    this.#disc(pixels, x, y, radius, WHITE)
    this.#disc(pixels, x, y, radius * 0.88, BARS[Math.floor(number / 30) % BARS.length] ?? WHITE)
  }

  #disc(pixels: Uint32Array, x: number, y: number, radius: number, fill: number): void {
    const { width } = this.#size
    for (let row = Math.ceil(y - radius); row < y + radius; row++) {
      const half = Math.sqrt(Math.max(0, radius ** 2 - (row - y) ** 2))
      this.#span(pixels, row, (x - half) / width, (x + half) / width, fill)
    }
  }

  /** In the upper left corner, on a dark plate. */
  #number(pixels: Uint32Array, number: number): void {
    const { width, height } = this.#size
    const dot = Math.max(1, Math.floor(Math.min(width / 80, height / 30)))
    const text = String(number).padStart(DIGITS, '0')
    const columns = text.length * GLYPH_WIDTH + 3
    for (let row = dot; row < dot * (GLYPH_HEIGHT + 5); row++)
      this.#span(pixels, row, dot / width, (dot * (columns + 1)) / width, INK)
    for (const [index, digit] of Array.from(text).entries()) {
      for (const [line, dots] of (FONT[digit] ?? []).entries()) {
        for (let column = 0; column < 5; column++) {
          if ((dots & (16 >> column)) === 0) continue
          const left = dot * (3 + index * GLYPH_WIDTH + column)
          for (let row = dot * (3 + line); row < dot * (4 + line); row++)
            this.#span(pixels, row, left / width, (left + dot) / width, WHITE)
        }
      }
    }
  }

  /** A piece of a row, from and to a part of its width; what lies outside of the frame is left out. */
  #span(pixels: Uint32Array, row: number, from: number, to: number, fill: number): void {
    const { width, height } = this.#size
    if (row < 0 || row >= height) return
    const column = (part: number): number => Math.min(width, Math.max(0, Math.round(part * width)))
    pixels.fill(fill, row * width + column(from), row * width + column(to))
  }
}

/** Back and forth between 0 and `range`. */
function bounce(way: number, range: number): number {
  const place = way % (2 * range)
  return place < range ? place : 2 * range - place
}

/** Waves whose lower edge meets the upper one, because it rolls. */
function field({ width, height }: FrameSize): Uint32Array {
  const pixels = new Uint32Array(width * height)
  const turn = 2 * Math.PI
  for (let y = 0; y < height; y++) {
    const v = y / height
    for (let x = 0; x < width; x++) {
      const u = x / height
      const wave =
        Math.sin(turn * (u * 0.9 + 0.35 * Math.sin(turn * v))) +
        Math.sin(turn * (v * 2 + 0.3 * Math.sin(turn * u * 0.7))) +
        Math.cos(turn * (Math.hypot(u - 0.9, Math.sin(Math.PI * v) * 0.6) * 1.7))
      const shade = (phase: number): number => 128 + 110 * Math.sin(wave * 1.3 + phase)
      pixels[y * width + x] = colour(shade(0), shade(2.1) * 0.8, shade(4.2))
    }
  }
  return pixels
}
