/**
 * Accessors of a record's fields: a class whose source is made from its layout and compiled once for each schema.
 *
 * Closures would need no compiler, but V8 shares what it learns of them among all schemas: with more than four, a field costs 14 ns
 * instead of 0.4.
 */
import { Script } from 'node:vm'
import { TYPES, type FieldArrays, type FieldValues, type Layout, type RecordFields } from './record-layout.js'

/** Accessors of a record. Arrays, and `u64-halves`, are views of its memory, and cannot be replaced. */
export type RecordValue<Fields extends RecordFields> = {
  -readonly [
    Name in keyof Fields as Fields[Name] extends NumberType ? Name : never
  ]: Fields[Name] extends NumberType ? FieldValues[Fields[Name]] : never
} & {
  readonly [Name in keyof Fields as Fields[Name] extends NumberType ? never : Name]: Fields[Name] extends
    (infer Type extends keyof FieldArrays) | readonly [infer Type extends keyof FieldArrays, number]
    ? FieldArrays[Type]
    : never
}

type NumberType = Exclude<keyof FieldValues, 'u64-halves'>

/** The class of a layout: `new (buffer, offset)`. */
export function compileAccessors(layout: readonly Layout[], size: number): unknown {
  return new Script(`(() => {\n${REFUSE}\nreturn ${sourceOf(layout, size)}\n})()`).runInThisContext()
}

/**
 * The names in it are identifiers, and everything else is ours. Scalars share a view for each kind of typed array, whose
 * names have a `$`, which no field's can have.
 */
function sourceOf(layout: readonly Layout[], size: number): string {
  const shared = [...new Set(layout.filter((field) => !isView(field)).map(({ as }) => TYPES[as][1]))]
  const own = layout.filter(isView)
  return `class Record {
  ${[...shared.map((array) => `$${array}`), ...own.map(({ name }) => name)].map((name) => `#${name}`).join('\n  ')}
  constructor(buffer, at) {
    ${shared.map((array) => `this.#$${array} = new ${array}(buffer, at, Math.floor(${size} / ${array}.BYTES_PER_ELEMENT))`).join('\n    ')}
    ${own.map((field) => `this.#${field.name} = ${viewSource(field)}`).join('\n    ')}
  }
  ${layout.map(accessorSource).join('\n  ')}
}`
}

function isView({ isArray, as }: Layout): boolean {
  return isArray || as === 'u64-halves'
}

function viewSource({ as, offset, length }: Layout): string {
  return `new ${TYPES[as][1]}(buffer, at + ${offset}, ${as === 'u64-halves' ? 2 * length : length})`
}

function accessorSource(field: Layout): string {
  const { name, as, offset } = field
  if (isView(field)) return `get ${name}() { return this.#${name} }`
  const [size, array] = TYPES[as]
  if (as === 'u64' || as === 'i64') return wideSource(name, as, offset / 4)
  const element = `this.#$${array}[${offset / size}]`
  return `get ${name}() { return ${element} }
  set ${name}(value) { ${element} = value }`
}

/** Apart, so that V8 inlines what calls it: a call would put the number on the heap. */
const REFUSE = `function refuse(name, type, lowest, value) {
  throw new RangeError(\`Field '\${name}' holds whole numbers from \${lowest} to \${Number.MAX_SAFE_INTEGER}, not \${String(value)}. \` +
    \`Declare it as '\${type}-bigint' for others\`)
}`

/**
 * Two halves, for a bigint would be allocated. Reading looks at the high one only (21 bits of it count, or −2^53 to 2^53 − 1), and
 * makes the number last: the less there is, the sooner it is inlined.
 */
function wideSource(name: string, as: 'u64' | 'i64', at: number): string {
  const [low, high] = [`this.#$Uint32Array[${at}]`, `this.#$Uint32Array[${at + 1}]`]
  const signed = as === 'i64'
  const lowest = signed ? -Number.MAX_SAFE_INTEGER : 0
  const refuse = (value: string): string => `refuse('${name}', '${as}', ${lowest}, ${value})`
  return `get ${name}() {
    const high = ${high}${signed ? ' | 0' : ''}
    if (${signed ? 'high > 2097151 || high < -2097152' : 'high > 2097151'}) ${refuse(`high * 4294967296 + ${low}`)}
    return high * 4294967296 + ${low}
  }
  set ${name}(value) {
    if (!(value >= ${lowest} && value <= ${Number.MAX_SAFE_INTEGER} && Math.floor(value) === value)) ${refuse('value')}
    ${low} = value
    ${high} = Math.floor(value / 4294967296)
  }`
}
