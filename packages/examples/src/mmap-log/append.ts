/**
 * `append`: the arguments, or the lines of stdin, as records. Lines that come together are appended together.
 */
import process from 'node:process'
import { lines } from '@fd-reactor/fd-events'
import { LogWriter, type WriterSettings } from './writer.js'

/** Where reports go. */
export interface AppendOutput {
  /** After each batch, as durable as was asked for. */
  onAppended(first: number, last: number): void
  /** Once, if the end of the log had to be repaired. */
  onRepaired(bytes: number, reason: string): void
}

/** Appends `texts`, or stdin when there are none; resolves to how many records that were. */
export async function append(
  path: string,
  texts: readonly string[],
  settings: WriterSettings,
  output: AppendOutput,
): Promise<number> {
  await using writer = await LogWriter.open(path, settings)
  if (writer.repaired !== undefined) output.onRepaired(writer.repaired.bytes, writer.repaired.reason)
  let records = 0
  for await (const batch of texts.length > 0 ? [texts.map((text) => Buffer.from(text))] : stdinLines()) {
    if (batch.length === 0) continue
    const { first, last } = await writer.append(batch)
    records += batch.length
    output.onAppended(first, last)
  }
  return records
}

/** The lines of each chunk that comes. */
async function* stdinLines(): AsyncGenerator<Buffer[], undefined> {
  const decoder = lines({ encoding: 'buffer' }).decoder()
  for await (const chunk of process.stdin) yield [...decoder.push(bytesOf(chunk))]
  yield [...decoder.end()]
}

function bytesOf(chunk: unknown): Uint8Array {
  return chunk instanceof Uint8Array ? chunk : Buffer.from(String(chunk))
}
