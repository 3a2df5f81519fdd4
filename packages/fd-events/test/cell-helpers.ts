/** Cells for the tests: their memory, and the processes at their ends. */
import { execFileSync, spawn, type ChildProcess } from 'node:child_process'
import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { Mapping } from '@fd-reactor/core'
import {
  LatestCellReader,
  LatestCellWriter,
  record,
  SharedMemory,
  type LatestCellWriterOptions,
} from '@fd-reactor/fd-events'
import { afterAll, beforeAll, expect, onTestFinished } from 'vitest'
import { until, within } from '../../core/test/support/wait.js'

/** Number i is the sequence times i + 1. */
export const Sample = record({ word: ['f64', 8] })

const packageFolder = fileURLToPath(new URL('..', import.meta.url))
const script = fileURLToPath(new URL('fixtures/cell-end.mjs', import.meta.url))

/** One line for each test file: what its tests mapped is given back, and no name of theirs is left. */
export function assertNoMappings(): void {
  let before = 0
  beforeAll(() => {
    before = Mapping.live
  })
  afterAll(async () => {
    const same = (): boolean => {
      globalThis.gc?.()
      return Mapping.live === before
    }
    await until(same, '', 5000).catch(() => undefined)
    expect(Mapping.live).toBe(before)
    expect(readdirSync('/dev/shm').filter((name) => name.endsWith(`-${process.pid}`))).toEqual([])
  })
}

/** Memory for a cell of samples, which ends with the test. */
export function cellMemory(size = LatestCellWriter.size(Sample)): { memory: SharedMemory; mapping: Mapping } {
  const memory = SharedMemory.create(size)
  const mapping = memory.map()
  onTestFinished(() => {
    mapping.unmap()
    memory.close()
  })
  return { memory, mapping }
}

/** Both ends in this process. */
export function cellPair(options: LatestCellWriterOptions = {}) {
  const { memory, mapping } = cellMemory(LatestCellWriter.size(Sample, { slots: options.slots ?? 16 }))
  const writer = new LatestCellWriter(mapping, Sample, options)
  const theirs = memory.map({ access: 'read' })
  onTestFinished(() => {
    theirs.unmap()
  })
  return { memory, mapping, writer, theirs, reader: new LatestCellReader(theirs, Sample) }
}

/** Publishes the next sample. */
export function publish(writer: LatestCellWriter<(typeof Sample)['declared']>): void {
  for (let at = 0; at < 8; at++) writer.value.word[at] = (writer.sequence + 1) * (at + 1)
  writer.publish()
}

/** The same in place. */
export function commit(writer: LatestCellWriter<(typeof Sample)['declared']>): void {
  const { word } = writer.claim()
  for (let at = 0; at < 8; at++) word[at] = (writer.sequence + 1) * (at + 1)
  writer.commit()
}

/** What a reader has is the sample that its sequence says. */
export function expectWhole(reader: LatestCellReader<(typeof Sample)['declared']>): void {
  expect([...reader.value.word]).toEqual(Array.from({ length: 8 }, (_, at) => reader.sequence * (at + 1)))
}

/** A process at one end: it has said that it is ready. */
export class CellProcess {
  readonly child: ChildProcess
  readonly #lines: AsyncIterator<string>

  constructor(memory: SharedMemory, command: readonly string[]) {
    const [file = '', ...args] = command
    this.child = spawn(file, args, {
      cwd: packageFolder,
      stdio: ['ignore', 'pipe', 'inherit', memory.handle.fd],
    })
    if (this.child.stdout === null) throw new Error('it was started without a pipe')
    this.#lines = createInterface(this.child.stdout)[Symbol.asyncIterator]()
    onTestFinished(() => void this.child.kill('SIGKILL'))
  }

  static async node(memory: SharedMemory, ...args: string[]): Promise<CellProcess> {
    const made = new CellProcess(memory, [process.execPath, script, ...args])
    expect(await made.line()).toBe('ready')
    return made
  }

  async line(ms = 10_000): Promise<string> {
    const { value, done } = await within(this.#lines.next(), 'a line of a process', ms)
    if (done === true) throw new Error('it ended')
    return value
  }

  async figures(ms?: number): Promise<unknown> {
    return JSON.parse(await this.line(ms))
  }
}

/** Compiles a program in C, in a folder that goes with the test. */
export function compiled(...args: string[]): string {
  const folder = mkdtempSync(join(tmpdir(), 'fd-reactor-'))
  onTestFinished(() => {
    rmSync(folder, { recursive: true })
  })
  const binary = join(folder, 'program')
  execFileSync('cc', ['-std=gnu11', '-O2', '-Wall', '-Wextra', '-Werror', '-o', binary, ...args])
  return binary
}
