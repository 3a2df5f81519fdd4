/**
 * `verify`: reads the whole log.
 */
import { LogReader } from './reader.js'

/** Says what it finds; returns whether all is well. */
export function verify(path: string, print: (line: string) => void): boolean {
  using reader = new LogReader(path)
  let bytes = 0
  const { tail, durable } = reader.state
  const end = reader.read(({ payload }) => (bytes += payload.length))
  if (end === undefined) return true // it cannot be: the first read always reads
  print(`records: ${end.records}`)
  print(`bytes: ${bytes}`)
  print(`tail: ${tail}, on the disk up to: ${durable}`)
  if (end.bad === undefined) return true
  const what =
    end.end < durable
      ? 'It was on the disk: this is damage, which nothing here repairs'
      : 'No flush has confirmed it: the next append cuts the log there'
  print(`first bad offset: ${end.end}: ${end.bad}. ${what}`)
  return false
}
