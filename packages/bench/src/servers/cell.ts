/** One end of a cell with ours: `cell write SECONDS publish|commit`, or `cell read` until SIGTERM; the memory is descriptor 3, as for c/cell.c. */
import { setImmediate } from 'node:timers/promises'
import { FdHandle } from '@fd-reactor/core'
import { LatestCellReader, LatestCellWriter, SharedMemory } from '@fd-reactor/fd-events'
import { Sample } from '../cell-sample.js'

type Writer = LatestCellWriter<(typeof Sample)['declared']>

const BATCH = 1000
const [role = '', seconds = '1', how = 'publish'] = process.argv.slice(2)
const memory = SharedMemory.from(FdHandle.adopt(3))
const mapping = memory.map()
memory.close()

if (role === 'write') write(Number(seconds))
else await readAll()

function write(seconds: number): void {
  const writer = new LatestCellWriter(mapping, Sample)
  const until = how === 'commit' ? commitUntil : publishUntil
  until(writer, performance.now() + seconds * 250)
  const [begin, first, cpu] = [performance.now(), writer.sequence, process.cpuUsage()]
  until(writer, begin + seconds * 1000)
  const count = writer.sequence - first
  const used = process.cpuUsage(cpu)
  const perSecond = (count / (performance.now() - begin)) * 1e3
  console.log(JSON.stringify({ perSecond, perCpuSecond: (count / (used.user + used.system)) * 1e6 }))
}

function publishUntil(writer: Writer, end: number): void {
  const { value } = writer
  let sample = writer.sequence
  while (performance.now() < end) {
    for (let i = 0; i < BATCH; i++) {
      store(value, ++sample)
      writer.publish()
    }
  }
}

function commitUntil(writer: Writer, end: number): void {
  let sample = writer.sequence
  while (performance.now() < end) {
    for (let i = 0; i < BATCH; i++) {
      store(writer.claim(), ++sample)
      writer.commit()
    }
  }
}

function store(value: Writer['value'], sample: number): void {
  value.a = sample
  value.b = sample * 2
  value.c = sample * 3
  value.d = sample * 4
  value.e = sample * 5
  value.f = sample * 6
  value.g = sample * 7
  value.h = sample * 8
}

async function readAll(): Promise<void> {
  const reader = new LatestCellReader(mapping, Sample)
  const { value } = reader
  let [reads, fresh, torn, ended] = [0, 0, 0, false]
  process.once('SIGTERM', () => (ended = true))
  console.log('ready')
  const begin = performance.now()
  while (!ended) {
    for (let i = 0; i < BATCH; i++) {
      reads++
      if (!reader.read()) continue
      fresh++
      const sample = reader.sequence
      const whole =
        value.a === sample &&
        value.b === sample * 2 &&
        value.c === sample * 3 &&
        value.d === sample * 4 &&
        value.e === sample * 5 &&
        value.f === sample * 6 &&
        value.g === sample * 7 &&
        value.h === sample * 8
      if (!whole) torn++
    }
    await setImmediate()
  }
  const seconds = (performance.now() - begin) / 1000
  console.log(JSON.stringify({ reads, fresh, retries: reader.retries, torn, seconds }))
}
