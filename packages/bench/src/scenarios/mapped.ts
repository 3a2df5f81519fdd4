/**
 * Random reads of 4 KiB from a warm file: MappedFile beside fs.readSync, in one thread, in interleaved rounds.
 */
import { closeSync, mkdtempSync, openSync, readSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { MappedFile } from '@fd-reactor/fd-events'
import {
  atLeast,
  barsPlot,
  formatSpread,
  progress,
  ratios,
  spread,
  type Effort,
  type Report,
} from '../report.js'
import { eachRound, inTurn } from '../rounds.js'

const PAGE = 4096
const SIZE = 256 * 2 ** 20
const PLACES = 4096
const READ = 'fs.readSync'
const COPY = 'MappedFile, copied'
const VIEW = 'MappedFile, a view'

export async function benchMapped({ rounds, seconds }: Effort): Promise<Report> {
  const folder = mkdtempSync(join(tmpdir(), 'fd-reactor-bench-'))
  const path = join(folder, 'file')
  try {
    writeFileSync(path, Buffer.alloc(SIZE, 'mapped'))
    return await Promise.resolve(measureAll(path, rounds, seconds))
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

function measureAll(path: string, rounds: number, seconds: number): Report {
  using file = MappedFile.open(path, { access: 'read', populate: true })
  const fd = openSync(path, 'r')
  const target = Buffer.alloc(PAGE)
  // Anywhere in the file, not at pages only; the same places for everybody.
  const places = Array.from({ length: PLACES }, (_, index) => (index * 2_654_435_761) % (SIZE - PAGE))
  // Each looks at a word of what it read, so that nothing is left out as unused.
  const candidates: Record<string, (offset: number) => number> = {
    [READ]: (offset) => {
      readSync(fd, target, 0, PAGE, offset)
      return target.readUInt32LE(PAGE - 4)
    },
    [COPY]: (offset) => {
      file.bytes.copy(target, 0, offset, offset + PAGE)
      return target.readUInt32LE(PAGE - 4)
    },
    [VIEW]: (offset) => {
      const view = file.bytes.subarray(offset, offset + PAGE)
      return view.readUInt32LE(PAGE - 4)
    },
  }
  const names = Object.keys(candidates)
  const samples: { round: number; name: string; perSecond: number }[] = []
  let sink = 0
  const perSecond = (read: (offset: number) => number, time: number): number => {
    const begun = performance.now()
    let reads = 0
    for (; performance.now() < begun + time * 1000; reads += PLACES)
      for (const place of places) sink ^= read(place)
    return (reads / (performance.now() - begun)) * 1000
  }
  for (const read of Object.values(candidates)) perSecond(read, seconds / 4) // to warm up
  for (const round of eachRound(rounds)) {
    for (const [name, read] of inTurn(Object.entries(candidates), round))
      samples.push({ round, name, perSecond: perSecond(read, seconds) })
  }
  closeSync(fd)
  if (sink === 1) progress('by chance the words of all reads cancelled out but for one bit') // it is used
  const of = (name: string): number[] =>
    samples.filter((sample) => sample.name === name).map((sample) => sample.perSecond)
  const row = (name: string): string[] => {
    const { median } = spread(of(name))
    return [
      name,
      (median / 1e6).toFixed(2),
      (1e9 / median).toFixed(0),
      formatSpread(ratios(of(name), of(READ))),
    ]
  }
  return {
    title: `mapped: random reads of 4 KiB from a warm file of 256 MiB, ${rounds} rounds of ${seconds} s`,
    tables: [
      {
        caption: 'medians of the rounds; ratios are taken round by round, median (min–max)',
        rows: [['', 'million/s', 'ns/read', 'of fs.readSync'], ...names.map(row)],
      },
    ],
    bars: [atLeast(1, 'MappedFile, copied, rate of fs.readSync', ratios(of(COPY), of(READ)))],
    plots: [barsPlot('reads of 4 KiB', 'per second', names, of)],
    samples,
  }
}
