/**
 * The log as people run it: writers and readers as processes of their own, some of which are killed; torn ends; a full disk.
 *
 * Commands that are neither killed nor fed by hand run in this process, which spares most of the time.
 *
 * FD_REACTOR_KILLS is how many writers are killed (default 12), and how many power losses are imitated; FD_REACTOR_SEED repeats a run.
 */
import { spawn, type ChildProcessWithoutNullStreams } from 'node:child_process'
import { once } from 'node:events'
import {
  closeSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import process from 'node:process'
import { fileURLToPath } from 'node:url'
import { describe, expect, onTestFinished, test } from 'vitest'
import { randomNumbers } from '../../core/test/support/random.js'
import { childEnded, within } from '../../core/test/support/wait.js'
import { assertNothingLeft, onSmallDisk } from '../../fd-events/test/mapped-helpers.js'
import { append } from '../src/mmap-log/append.js'
import { tail } from '../src/mmap-log/tail.js'
import { verify } from '../src/mmap-log/verify.js'

assertNothingLeft()

const KILLS = Number(process.env['FD_REACTOR_KILLS'] ?? 12)
const SEED = Number(process.env['FD_REACTOR_SEED'] ?? Date.now() % 2 ** 31)
const MAIN = fileURLToPath(new URL('../dist/mmap-log/main.js', import.meta.url))
const PAGE = 4096

function logPath(): string {
  const folder = mkdtempSync(join(tmpdir(), 'fd-reactor-log-'))
  onTestFinished(() => {
    rmSync(folder, { recursive: true, force: true })
  })
  return join(folder, 'log')
}

interface Ended {
  code: number | null
  stdout: string
  stderr: string
}

/** A running command, and what it has printed so far. It is killed after the test. */
class Running {
  readonly process: ChildProcessWithoutNullStreams
  stdout = ''
  lines = 0
  stderr = ''
  readonly #closed: Promise<unknown>

  constructor(args: string[], under: string[] = []) {
    const [command = '', ...rest] = [...under, process.execPath, MAIN, ...args]
    const child = spawn(command, rest, { stdio: 'pipe' })
    this.process = child
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      this.stdout += text
      this.lines += text.split('\n').length - 1
    })
    child.stderr.setEncoding('utf8').on('data', (text: string) => (this.stderr += text))
    child.stdin.on('error', () => undefined) // of those that are killed
    this.#closed = new Promise((resolve) => child.once('close', resolve))
    onTestFinished(async () => {
      child.kill('SIGKILL')
      await childEnded(child)
    })
  }

  /** Waits until it has printed so many lines; `meanwhile` is called whenever some came. */
  async printed(lines: number, meanwhile: () => void = () => undefined): Promise<void> {
    const wait = async (): Promise<void> => {
      while (this.lines < lines) {
        await once(this.process.stdout, 'data')
        meanwhile()
      }
    }
    await within(wait(), `${lines} lines of ${this.process.spawnargs.slice(2).join(' ')}`, 20_000)
  }

  async ended(): Promise<Ended> {
    await within(this.#closed, `the end of ${this.process.spawnargs.slice(2).join(' ')}`, 25_000)
    return { code: this.process.exitCode, stdout: this.stdout, stderr: this.stderr }
  }

  kill(signal: NodeJS.Signals): void {
    this.process.kill(signal)
  }
}

async function run(args: string[], input = '', under: string[] = []): Promise<Ended> {
  const running = new Running(args, under)
  running.process.stdin.end(input)
  return running.ended()
}

/** Runs a command in this process, with the result that its own would have had. */
async function here(
  command: 'append' | 'append-sync' | 'tail' | 'verify',
  path: string,
  ...texts: string[]
): Promise<Ended> {
  let [stdout, stderr] = ['', '']
  const print = (text: string): boolean => (stdout += text) !== ''
  const onRepaired = (bytes: number, reason: string): void => {
    stderr += `repaired: the last ${bytes} bytes were cut off: ${reason}\n`
  }
  const run = async (): Promise<number> => {
    if (command === 'verify') return verify(path, (line) => print(`${line}\n`)) ? 0 : 1
    if (command === 'tail')
      return tail(path, { count: 1_000_000, pollMs: undefined }, { print, onDrain: () => undefined })
    const durability = command === 'append' ? 'none' : 'sync'
    await append(path, texts, { durability, growBytes: 2 ** 20 }, { onAppended: () => undefined, onRepaired })
    return 0
  }
  const code = await run().catch((error: unknown) => {
    stderr += `mmap-log: ${error instanceof Error ? error.message : String(error)}\n`
    return 1
  })
  return { code, stdout, stderr }
}

/** The records of a log, as `tail` prints them. */
async function recordsOf(path: string): Promise<{ sequence: number; text: string }[]> {
  const { code, stdout, stderr } = await here('tail', path)
  expect([code, stderr]).toEqual([0, ''])
  return parse(stdout)
}

function parse(printed: string): { sequence: number; text: string }[] {
  return printed
    .split('\n')
    .filter(Boolean)
    .map((line) => {
      const [, sequence, text = ''] =
        /^(\d+) \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (.*)$/.exec(line) ?? expect.unreachable(line)
      return { sequence: Number(sequence), text }
    })
}

async function verified(path: string): Promise<Record<string, number>> {
  const { code, stdout, stderr } = await here('verify', path)
  expect([code, stderr], stdout).toEqual([0, ''])
  const [, records, bytes, tail, durable] =
    /^records: (\d+)\nbytes: (\d+)\ntail: (\d+), on the disk up to: (\d+)\n$/.exec(stdout) ??
    expect.unreachable(stdout)
  return { records: Number(records), bytes: Number(bytes), tail: Number(tail), durable: Number(durable) }
}

const texts = (from: number, count: number): string[] =>
  Array.from({ length: count }, (_, index) => `record ${from + index} ${'x'.repeat((from + index) % 50)}`)

const linesOf = (from: number, count: number): string => `${texts(from, count).join('\n')}\n`

describe('the commands', () => {
  test('append, tail and verify', async () => {
    const path = logPath()
    expect(await run(['append', path, 'first', 'second one'])).toEqual({
      code: 0,
      stdout: '2 records appended\n',
      stderr: '',
    })
    expect(await run(['append', path, '--ack'], 'third\n\nfünfte')).toEqual({
      code: 0,
      stdout: 'appended 3 to 4\nappended 5 to 5\n',
      stderr: '',
    })
    expect(await recordsOf(path)).toEqual([
      { sequence: 1, text: 'first' },
      { sequence: 2, text: 'second one' },
      { sequence: 3, text: 'third' },
      { sequence: 4, text: '' },
      { sequence: 5, text: 'fünfte' },
    ])
    expect(parse((await run(['tail', path, '-n', '2'])).stdout).map(({ sequence }) => sequence)).toEqual([
      4, 5,
    ])
    expect((await run(['tail', path, '-n', '0'])).stdout).toBe('')
    expect(await verified(path)).toMatchObject({ records: 5, bytes: 27, durable: PAGE })
    expect(statSync(path).mode & 0o777).toBe(0o644)
    expect(statSync(path).size).toBe(2 ** 20)
  })

  test('with --durability sync everything is on the disk, with async by the end', async () => {
    for (const durability of ['sync', 'async']) {
      const path = logPath()
      const { code, stderr } = await run(['append', path, '--durability', durability], linesOf(1, 20_000))
      expect([code, stderr]).toEqual([0, ''])
      const { records, tail, durable } = await verified(path)
      expect([records, durable]).toEqual([20_000, tail])
    }
  })

  test('what is no log is refused', async () => {
    const path = logPath()
    const refused = async (...args: string[]): Promise<string> => {
      const { code, stdout, stderr } = await run(args)
      expect([code, stdout]).toEqual([1, ''])
      return stderr
    }
    expect(await refused('tail', path)).toBe(`mmap-log: ENOENT: no such file or directory, open '${path}'\n`)
    writeFileSync(path, '')
    expect(await refused('verify', path)).toBe(`mmap-log: ${path}: nobody has begun a log in it yet\n`)
    writeFileSync(path, Buffer.alloc(2 * PAGE, 'text'))
    expect(await refused('verify', path)).toBe(`mmap-log: ${path}: it is no log of mmap-log\n`)
    expect(await refused('append', path, 'x')).toBe(`mmap-log: ${path}: it is no log of mmap-log\n`)
    expect(await refused('append', path, '--durability', 'much')).toContain(
      'Allowed choices are none, async, sync',
    )
    expect(await refused('tail', path, '-n', '-1')).toContain('It must be an integer from 0 to 1000000000.')
    expect((await run(['--help'])).stdout).toMatch(/append.*tail.*verify/s)
  })
})

describe('tail -f', () => {
  test('prints everything in order, also while the file grows, and ends with SIGTERM', async () => {
    const path = logPath()
    await here('append', path, ...texts(0, 3))
    const follower = new Running(['tail', '-f', '-n', '1', path])
    await follower.printed(1)
    const [one, two] = await Promise.all([
      run(['append', path, '--grow', '65536'], linesOf(10_000, 30_000)),
      run(['append', path, '--grow', '65536'], linesOf(50_000, 30_000)),
    ])
    expect([one.code, two.code]).toEqual([0, 0])
    await follower.printed(60_001)
    follower.kill('SIGTERM')
    expect(await follower.ended()).toMatchObject({ code: 0, stderr: '' })
    const seen = parse(follower.stdout)
    expect(seen).toEqual((await recordsOf(path)).slice(2))
    expect(seen.map(({ sequence }) => sequence)).toEqual(
      Array.from({ length: 60_001 }, (_, index) => index + 3),
    )
  })
})

test(
  `${KILLS} writers are killed: what was acknowledged is there once and in order, and nothing is torn`,
  async () => {
    const random = randomNumbers(SEED)
    const path = logPath()
    await here('append', path, 'begin')
    const follower = new Running(['tail', '-f', '-n', '1', path])
    await follower.printed(1)
    const acknowledged = new Map<string, number[]>()
    let runs = 0

    /** Appends until so many batches are acknowledged, and is killed then. */
    const writer = async (): Promise<void> => {
      while (runs < KILLS) {
        const name = `run${runs++}`
        const durability = (['none', 'none', 'async', 'sync'] as const)[random(4)] ?? 'none'
        const child = new Running(['append', path, '--ack', '--durability', durability, '--grow', '16384'])
        const batches = 1 + random(40)
        let next = 0
        const feed = (count: number): void => {
          for (; count > 0; count--) {
            const length = 1 + random(30)
            const batch = Array.from({ length }, () => `${name} ${next++} ${'y'.repeat(random(200))}`)
            child.process.stdin.write(`${batch.join('\n')}\n`)
          }
        }
        feed(5) // there is always more on its way than was acknowledged
        await child.printed(batches, () => feed(2))
        child.kill('SIGKILL')
        const { stdout, stderr } = await child.ended()
        expect(stderr).toBe('')
        const sequences = [...stdout.matchAll(/^appended (\d+) to (\d+)\n/gm)].flatMap(([, first, last]) =>
          Array.from({ length: Number(last) - Number(first) + 1 }, (_, index) => Number(first) + index),
        )
        acknowledged.set(name, sequences)
      }
    }
    await Promise.all([writer(), writer(), writer()])

    const { records } = await verified(path)
    const log = await recordsOf(path)
    expect(log.length, `seed ${SEED}`).toBe(records)
    expect(log.map(({ sequence }) => sequence)).toEqual(log.map((_, index) => index + 1))
    for (const [name, sequences] of acknowledged) {
      const mine = log.filter(({ text }) => text.startsWith(`${name} `))
      // In the order in which they were sent, none missing, none twice; beyond those acknowledged there may be some more.
      expect(mine.map(({ text }) => Number(text.split(' ')[1]))).toEqual(mine.map((_, index) => index))
      expect(mine.slice(0, sequences.length).map(({ sequence }) => sequence)).toEqual(sequences)
    }
    await follower.printed(log.length)
    expect(parse(follower.stdout)).toEqual(log)
  },
  60_000 + KILLS * 2000,
)

describe('torn ends', () => {
  /** 300 records, those up to `durable` flushed. */
  async function madeLog(flushed = 0): Promise<{ path: string; tail: number; durable: number }> {
    const path = logPath()
    if (flushed > 0) await here('append-sync', path, ...texts(1, flushed))
    await here('append', path, ...texts(flushed + 1, 300 - flushed))
    const { tail = 0, durable = 0 } = await verified(path)
    return { path, tail, durable }
  }

  function overwrite(path: string, offset: number, bytes: Uint8Array): void {
    const fd = openSync(path, 'r+')
    writeSync(fd, bytes, 0, bytes.length, offset)
    closeSync(fd)
  }

  /** verify finds it, append repairs it, and what is left is a beginning of what was there, with the new record behind it. */
  async function repaired(path: string, least: number): Promise<void> {
    const found = await here('verify', path)
    expect(found.code, found.stdout).toBe(1)
    expect(found.stdout).toMatch(
      /first bad offset: \d+: .*No flush has confirmed it: the next append cuts the log there\n$/s,
    )
    expect((await here('tail', path)).code).toBe(1)
    const appended = await here('append', path, 'after it')
    expect(appended.code, appended.stderr).toBe(0)
    expect(appended.stderr).toMatch(/^repaired: the last \d+ bytes were cut off/)
    await verified(path)
    const left = await recordsOf(path)
    expect(left.pop()).toEqual({ sequence: left.length + 1, text: 'after it' })
    expect(left.length).toBeGreaterThanOrEqual(least)
    expect(left.map(({ text }) => text)).toEqual(texts(1, left.length))
    expect((await here('append', path, 'and on')).stderr).toBe('')
  }

  test('one wrong bit in the last record costs that record', async () => {
    const { path, tail } = await madeLog()
    const bytes = readFileSync(path)
    overwrite(path, tail - 20, Buffer.from([(bytes[tail - 20] ?? 0) ^ 1]))
    await repaired(path, 299)
  })

  test('pages of zeros or garbage, a file that ends too early', async () => {
    for (const damage of [
      (path: string, tail: number) => overwrite(path, tail - 5000, Buffer.alloc(5000)),
      (path: string, tail: number) => overwrite(path, tail - 5000, Buffer.alloc(9000, 0xa5)),
      (path: string, tail: number) => truncateSync(path, tail - 100),
    ]) {
      const { path, tail } = await madeLog()
      damage(path, tail)
      await repaired(path, 200)
    }
  })

  test('a first page that lost both states is made from the records', async () => {
    const { path } = await madeLog()
    overwrite(path, 64, Buffer.alloc(512))
    expect(await here('verify', path)).toMatchObject({
      code: 1,
      stderr: `mmap-log: ${path}: its first page is damaged, which the next append repairs\n`,
    })
    expect((await here('append', path, 'after it')).stderr).toMatch(/^repaired: the last 0 bytes/)
    expect((await recordsOf(path)).map(({ text }) => text)).toEqual([...texts(1, 300), 'after it'])
  })

  test('one torn state is no loss beyond its own commit', async () => {
    const { path } = await madeLog()
    const version = readFileSync(path).readInt32LE(64)
    overwrite(path, (version & 1) === 0 ? 130 : 194, Buffer.alloc(4, 0xff))
    const { code, stderr } = await here('append', path, 'after it')
    expect([code, stderr]).toEqual([0, ''])
    await verified(path)
  })

  test('damage before what was flushed is no torn end: it is told, and nothing is cut off', async () => {
    const { path, durable } = await madeLog(200)
    overwrite(path, durable - 1000, Buffer.alloc(8, 0xee))
    expect((await here('append', path, 'goes on')).stderr).toBe('')
    const { code, stdout } = await here('verify', path)
    expect(code).toBe(1)
    expect(stdout).toMatch(
      /first bad offset: \d+: its .*\. It was on the disk: this is damage, which nothing here repairs\n$/,
    )
  })

  test(
    `${KILLS} power losses: any page since the last flush may be old, new or garbage, and what was flushed is there`,
    async () => {
      const random = randomNumbers(SEED)
      const { path, durable } = await madeLog(150)
      const now = readFileSync(path)
      for (let round = 0; round < KILLS; round++) {
        const disk = Buffer.from(now)
        for (let at = durable; at < disk.length; at = (Math.floor(at / PAGE) + 1) * PAGE) {
          const end = Math.min(disk.length, (Math.floor(at / PAGE) + 1) * PAGE)
          const fate = random(4)
          if (fate === 0) disk.fill(0, at, end)
          if (fate === 1) for (let byte = at; byte < end; byte++) disk[byte] = random(256)
          if (fate === 2) disk.fill(0, at + ((random(PAGE / 512) * 512) % (end - at)), end) // torn at a sector
        }
        writeFileSync(path, disk)
        const { code, stderr } = await here('append', path, 'after it')
        expect(code, `${stderr} (seed ${SEED}, round ${round})`).toBe(0)
        await verified(path)
        const left = (await recordsOf(path)).map(({ text }) => text)
        expect(left.pop()).toBe('after it')
        expect(left.length).toBeGreaterThanOrEqual(150)
        expect(left).toEqual(texts(1, left.length))
      }
    },
    60_000 + KILLS * 2000,
  )
})

test('a full disk is an error that says so, and the log stays whole', async (ctx) => {
  const folder = dirname(logPath())
  const path = join(folder, 'log')
  if (onSmallDisk(folder, '64k') === undefined)
    return ctx.skip('mounting in a namespace of its own is not permitted here')
  // All in one namespace: the disk goes with its last process.
  const script = `
    set -e
    mount -t tmpfs -o size=64k tmpfs "$FOLDER"
    seq 1 100 | "$NODE" "$MAIN" append "$LOG" --grow 4096
    seq 1 10000 | "$NODE" "$MAIN" append "$LOG" --grow 4096 && exit 9 || echo "code $?"
    "$NODE" "$MAIN" verify "$LOG"
  `
  const env = { ...process.env, FOLDER: folder, LOG: path, NODE: process.execPath, MAIN }
  const child = spawn('unshare', ['--mount', '--propagation', 'private', 'sh', '-c', script], {
    env,
    stdio: 'pipe',
  })
  let output = ''
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding('utf8').on('data', (text: string) => (output += text))
  await within(new Promise((resolve) => child.once('close', resolve)), 'the script', 20_000)
  expect(output).toMatch(
    new RegExp(
      `^100 records appended\nmmap-log: ENOSPC: no space left on device, fallocate '${path}'. The disk is full; what is mapped is as usable as ` +
        `before\ncode 1\nrecords: 100\nbytes: 192\ntail: \\d+, on the disk up to: 4096\n$`,
    ),
  )
  expect(child.exitCode).toBe(0)
})
