/**
 * How the values of a channel become bytes and values again.
 */
import { deserialize, serialize } from 'node:v8'
import { oneOf } from '@fd-reactor/core/sys'

/** A codec of one's own for a {@link Channel}; both ends use the same. */
export interface ChannelCodec<Send, Receive> {
  /** The bytes of a value. They are copied before the next value is encoded, so their memory may be used again. */
  encode(value: Send): Uint8Array
  /** The value of bytes, which are a copy of their own. */
  decode(bytes: Buffer): Receive
}

/** What each codec is once its types are forgotten. */
export type AnyCodec = ChannelCodec<unknown, unknown>

const STRUCTURED: AnyCodec = {
  encode: serialize,
  decode: (bytes): unknown => deserialize(bytes),
}

const BYTES: AnyCodec = {
  encode: (value) => {
    if (value instanceof Uint8Array) return value
    throw new TypeError('a channel of bytes takes a Uint8Array')
  },
  decode: (bytes) => bytes,
}

/** The codec that the option means. */
export function codecOf(option: unknown): AnyCodec {
  if (isCodec(option)) return option
  return option === 'bytes' ? BYTES : STRUCTURED
}

/** The check of the option `codec`. */
export function checkCodec(value: unknown, name: string): void {
  if (isCodec(value)) return
  if (typeof value === 'object' && value !== null)
    throw new TypeError(`${name} must have the functions encode and decode`)
  oneOf('structured', 'bytes')(value, name)
}

function isCodec(value: unknown): value is AnyCodec {
  if (typeof value !== 'object' || value === null) return false
  return (
    'encode' in value &&
    typeof value.encode === 'function' &&
    'decode' in value &&
    typeof value.decode === 'function'
  )
}
