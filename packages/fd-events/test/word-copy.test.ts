/**
 * Copies that are handed to users share memory: each must be a Buffer like any other, and none may reach its neighbours.
 */
import { deepStrictEqual } from 'node:assert/strict'
import { expect, test } from 'vitest'
import { copyOut } from '../src/word-copy.js'

const memory = new ArrayBuffer(4096)
const source = Buffer.from(memory)
const words = new Int32Array(memory)
for (let index = 0; index < source.length; index++) source[index] = index * 31 + (index >> 8)

test('copies of each length, several times over the pool, are what was copied, and stay so', () => {
  const copies: { copy: Buffer; at: number }[] = []
  for (let length = 0; length <= 1200; length++) {
    const at = (length % 64) * 4
    copies.push({ copy: copyOut(source, words, at, length), at })
  }
  for (const [length, { copy, at }] of copies.entries())
    expect(copy.equals(source.subarray(at, at + length)), `${length} bytes`).toBe(true)
  for (const { copy } of copies) copy.fill(0)
  const again = copyOut(source, words, 0, 64)
  for (const { copy } of copies) copy.fill(0xff)
  expect(again.equals(source.subarray(0, 64))).toBe(true)
})

test('a copy is a Buffer like any other', () => {
  const copy = copyOut(source, words, 0, 5)
  expect(Buffer.isBuffer(copy)).toBe(true)
  deepStrictEqual(copy, Buffer.from(source.subarray(0, 5)))
  deepStrictEqual(copy.subarray(1, 3), Buffer.from(source.subarray(1, 3)))
})

test('who transfers one does not take its neighbours along', () => {
  const kept = copyOut(source, words, 0, 64)
  const sent = copyOut(source, words, 64, 64)
  const { buffer } = sent
  if (!(buffer instanceof ArrayBuffer)) throw new Error('shared memory')
  try {
    structuredClone(sent, { transfer: [buffer] })
  } catch (error) {
    expect(error).toMatchObject({ name: 'DataCloneError' }) // from Node 22 on; before, it copies
  }
  expect(kept.equals(source.subarray(0, 64))).toBe(true)
  expect(copyOut(source, words, 128, 64).equals(source.subarray(128, 192))).toBe(true)
})
