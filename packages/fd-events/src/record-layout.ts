/**
 * Where the fields of a record lie: as in the same struct in C, each at a multiple of its own size.
 */
import { integer, oneOf } from '@fd-reactor/core/sys'

/** What a field holds: C's type in memory, and how JavaScript sees it. */
export interface FieldValues {
  /** `double` */
  f64: number
  /** `float` */
  f32: number
  /** `int32_t` */
  i32: number
  /** `uint32_t` */
  u32: number
  /** `int16_t` */
  i16: number
  /** `uint16_t` */
  u16: number
  /** `int8_t` */
  i8: number
  /** `uint8_t` */
  u8: number
  /** `uint64_t`, up to 2^53 − 1 */
  u64: number
  /** `int64_t`, from −2^53 + 1 to 2^53 − 1 */
  i64: number
  /** `uint64_t` */
  'u64-bigint': bigint
  /** `int64_t` */
  'i64-bigint': bigint
  /** `uint64_t`, as its low half and its high one */
  'u64-halves': Uint32Array
}

/** The view of an array of fields, by their type. */
export interface FieldArrays {
  /** `double[]` */
  f64: Float64Array
  /** `float[]` */
  f32: Float32Array
  /** `int32_t[]` */
  i32: Int32Array
  /** `uint32_t[]` */
  u32: Uint32Array
  /** `int16_t[]` */
  i16: Int16Array
  /** `uint16_t[]` */
  u16: Uint16Array
  /** `int8_t[]` */
  i8: Int8Array
  /** `uint8_t[]` */
  u8: Uint8Array
  /** `uint64_t[]` */
  'u64-bigint': BigUint64Array
  /** `int64_t[]` */
  'i64-bigint': BigInt64Array
  /** `uint64_t[]`, two elements for each: its low half and its high one */
  'u64-halves': Uint32Array
}

/** The fields of a record: a type, or a type and how many of it, by name. */
export type RecordFields = Readonly<
  Record<string, keyof FieldValues | readonly [type: keyof FieldArrays, length: number]>
>

/** Where a field lies. */
export interface RecordField {
  /** Its name. */
  readonly name: string
  /** Its type in memory, without how JavaScript sees it: `'u64'`, for instance. */
  readonly type: string
  /** In bytes from the beginning of the record. */
  readonly offset: number
  /** How many there are of it: 1 unless it is an array. */
  readonly length: number
  /** Whether it is an array. */
  readonly isArray: boolean
}

/** A field, and how JavaScript sees it. */
export interface Layout extends RecordField {
  readonly as: keyof FieldValues
}

/** The size of an element, and the typed array that reads it. */
export const TYPES: Readonly<Record<keyof FieldValues, readonly [size: number, array: string]>> = {
  f64: [8, 'Float64Array'],
  f32: [4, 'Float32Array'],
  i32: [4, 'Int32Array'],
  u32: [4, 'Uint32Array'],
  i16: [2, 'Int16Array'],
  u16: [2, 'Uint16Array'],
  i8: [1, 'Int8Array'],
  u8: [1, 'Uint8Array'],
  u64: [8, 'Uint32Array'],
  i64: [8, 'Uint32Array'],
  'u64-bigint': [8, 'BigUint64Array'],
  'i64-bigint': [8, 'BigInt64Array'],
  'u64-halves': [8, 'Uint32Array'],
}
/** Of a record. */
export const MAX_SIZE = 2 ** 20
const NAME = /^(?!__|constructor$)[A-Za-z_][A-Za-z0-9_]*$/
const fieldType = oneOf(...Object.keys(TYPES))
const arrayType = oneOf(...Object.keys(TYPES).filter((type) => type !== 'u64' && type !== 'i64'))

/** Puts the fields in order. @throws TypeError, RangeError for names, types and lengths that do not exist. */
export function layOut(fields: RecordFields): Layout[] {
  let end = 0
  return Object.entries(fields).map(([name, field]) => {
    if (!NAME.test(name))
      throw new TypeError(
        `A field's name is a C identifier, does not begin with '__' and is not 'constructor', unlike ${JSON.stringify(name)}`,
      )
    if (typeof field !== 'string' && !Array.isArray(field)) fieldType(field, `The type of field '${name}'`)
    const isArray = typeof field !== 'string'
    const [as, length] = isArray ? field : ([field, 1] as const)
    const check = isArray ? arrayType : fieldType
    check(as, `The type of field '${name}'`)
    integer(1, MAX_SIZE)(length, `The length of field '${name}'`)
    const [size] = TYPES[as]
    const offset = alignUp(end, size)
    end = offset + size * length
    return { name, type: as.replace(/-.*/, ''), as, offset, length, isArray }
  })
}

/** The size of one element, which is its alignment. */
export function sizeOf({ as }: Layout): number {
  return TYPES[as][0]
}

/** The next multiple. */
export function alignUp(value: number, alignment: number): number {
  return Math.ceil(value / alignment) * alignment
}

/** All that two sides have to agree on, as text. */
export function describe(layout: readonly Layout[], size: number): string {
  const fields = layout.map(
    ({ name, type, offset, length, isArray }) => `${name}:${type}${isArray ? `[${length}]` : ''}@${offset}`,
  )
  return `${fields.join(' ')} size:${size}`
}
