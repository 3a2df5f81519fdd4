/**
 * The frames of shm-stream: both transports, either side killed, a picture, and wrong arguments.
 */
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import process from 'node:process'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { decode } from 'fast-png'
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest'
import { assertNoLeakedFds } from '../../core/test/support/fds.js'
import { within } from '../../core/test/support/wait.js'
import { Output } from './support/daemon.js'

assertNoLeakedFds()

const MAIN = fileURLToPath(new URL('../dist/shm-stream/main.js', import.meta.url))
const SMALL = ['--width', '160', '--height', '90']
const LONG = 20_000

let folder = ''
let leftBefore: string[] = []
const left = (): string[] =>
  ['/dev/shm', tmpdir()].flatMap((place) =>
    readdirSync(place).filter((name) => /^shm-stream|^fd-reactor$/.test(name)),
  )

beforeAll(() => {
  leftBefore = left()
  folder = mkdtempSync(join(tmpdir(), 'fd-reactor-frames-'))
})
afterAll(() => {
  expect(readdirSync(folder).filter((name) => !name.endsWith('.png'))).toEqual([]) // no socket is left
  rmSync(folder, { recursive: true })
  expect(left()).toEqual(leftBefore)
})

/** A run of the program; what a test leaves running is ended. */
class Run {
  readonly out: Output
  readonly err: Output
  readonly child: ChildProcess
  readonly #exit: Promise<unknown[]>

  constructor(...args: readonly string[]) {
    const child = spawn(process.execPath, [MAIN, ...args], { stdio: ['ignore', 'pipe', 'pipe'] })
    this.child = child
    this.out = new Output(createInterface(child.stdout))
    this.err = new Output(createInterface(child.stderr))
    this.#exit = once(child, 'close')
    onTestFinished(async () => {
      child.kill('SIGTERM')
      await this.#exit
    })
  }

  /** Its exit code or signal. */
  async exit(): Promise<unknown> {
    const [code, signal] = await within(this.#exit, `the exit; so far:\n${this.text}\n`, LONG)
    return code ?? signal
  }

  get text(): string {
    return [...this.out.lines, ...this.err.lines].join('\n')
  }

  /** The pid of a side that the parent started last. */
  async pid(role: string): Promise<number> {
    return Number(/\d+$/.exec(await this.out.find(new RegExp(`^shm-stream: ${role} is pid`)))?.[0])
  }
}

const checked = (text: string): string[] =>
  text.split('\n').filter((line) => line.includes('every frame was checked'))

test.each(['shm', 'uds'])('frames over %s are checked, and acknowledged', async (transport) => {
  const run = new Run('--transport', transport, '--frames', '50', '--check', 'full', ...SMALL)
  expect(await run.exit()).toBe(0)
  expect(run.text).toMatch(
    new RegExp(
      String.raw`consumer: 50 frames \(0 to 49\) in [\d.]+ s over ${transport}: [\d.]+ frames/s, [\d.]+ GB/s; CPU \d+ %`,
    ),
  )
  expect(run.text).toMatch(
    /consumer: every frame was checked \(full\): 0 bad, 0 missed; from ready to checked: p50 [\d.]+, p90 [\d.]+, p99 [\d.]+, max [\d.]+ ms/,
  )
  expect(run.text).toMatch(
    /producer: 50 frames acknowledged to this process, 0 sent again to another consumer/,
  )
})

test.each([
  ['shm', 'consumer'],
  ['shm', 'producer'],
  ['uds', 'consumer'],
  ['uds', 'producer'],
])('over %s, a %s that is killed is replaced, and no frame is missed', async (transport, victim) => {
  const run = new Run('--transport', transport, '--frames', '200', '--fps', '300', ...SMALL)
  const pid = await run.pid(victim)
  await run.out.find(/producer: sending from frame 0$/)
  process.kill(pid, 'SIGKILL')
  await run.out.find(new RegExp(`^shm-stream: the ${victim} was ended by SIGKILL: starting another one$`))
  const [, from = ''] =
    /from frame (\d+)$/.exec(await run.out.find(/^producer: sending from frame \d+$/)) ?? []
  expect(await run.exit()).toBe(0)
  expect(checked(run.text)).toEqual([expect.stringContaining('0 bad, 0 missed')])
  // A consumer that lives on has seen all; its successor, those from where the dead one was.
  const first = victim === 'consumer' ? from : '0'
  expect(run.text).toContain(`${200 - Number(first)} frames (${first} to 199)`)
})

test('the sides are started by themselves, the consumer first, and the producer is killed', async () => {
  const socket = join(folder, 'alone.sock')
  const consumer = new Run('--role', 'consumer', '--socket', socket)
  const args = ['--role', 'producer', '--socket', socket, '--frames', '100', '--fps', '200', ...SMALL]
  const first = new Run(...args)
  await first.out.find(/sending from frame 0$/)
  first.child.kill('SIGKILL')
  await consumer.out.find(
    /^consumer: the producer is gone: (\d+|any) is the next frame, waiting for another one$/,
  )
  const second = new Run(...args) // takes the place of the dead one's file
  expect([await second.exit(), await consumer.exit()]).toEqual([0, 0])
  expect(consumer.text).toContain('100 frames (0 to 99)')
  expect(existsSync(socket)).toBe(false)
})

test('a producer that is asked to stop removes its socket', async () => {
  const socket = join(folder, 'stopped.sock')
  const producer = new Run('--role', 'producer', '--socket', socket, ...SMALL)
  const consumer = new Run('--role', 'consumer', '--socket', socket)
  await producer.out.find(/sending from frame 0$/)
  producer.child.kill('SIGTERM')
  expect(await producer.exit()).toBe(1)
  consumer.child.kill('SIGINT')
  expect(await consumer.exit()).toBe(1)
  expect(existsSync(socket)).toBe(false)
})

test('the parent that is killed takes its children along', async () => {
  const socket = join(folder, 'parent.sock')
  const run = new Run('--seconds', '60', '--socket', socket, ...SMALL)
  await run.out.find(/sending from frame 0$/)
  run.child.kill('SIGKILL')
  await run.exit() // its output is closed when all that have it have ended
  expect(existsSync(socket)).toBe(false)
})

test('a frame becomes a picture', async () => {
  const file = join(folder, 'frame.png')
  const run = new Run('--frames', '20', '--png', file, '--width', '320', '--height', '200')
  expect(await run.exit()).toBe(0)
  expect(run.text).toContain(`consumer: frame 16 is in ${file}`)
  const { width, height, channels, data } = decode(readFileSync(file))
  expect([width, height, channels]).toEqual([320, 200, 4])
  const pixel = (x: number, y: number): number[] => [
    ...data.subarray((y * width + x) * 4, (y * width + x + 1) * 4),
  ]
  expect(pixel(5, 195)).toEqual([0xbf, 0xbf, 0xbf, 255]) // the first of the colour bars
  expect(pixel(315, 195)).toEqual([0, 0, 0xbf, 255]) // the last one
  expect(pixel(5, 5)).toEqual([18, 18, 28, 255]) // the number's plate
})

test.each([
  [
    ['--transport', 'tcp'],
    "error: option '--transport <how>' argument 'tcp' is invalid. Allowed choices are shm, uds.",
  ],
  [
    ['--frames', '0'],
    "error: option '--frames <n>' argument '0' is invalid. It must be an integer from 1 to 4294967294.",
  ],
  [
    ['--width', '1e9'],
    "error: option '--width <pixels>' argument '1e9' is invalid. It must be an integer from 16 to 8192.",
  ],
  [
    ['--seconds', '-1'],
    "error: option '--seconds <time>' argument '-1' is invalid. It must be a number above 0.",
  ],
  [['--role', 'consumer'], "error: option '--role <side>' needs '--socket <path>'"],
  [['--fraems', '1'], "error: unknown option '--fraems'\n(Did you mean --frames?)"],
])('wrong arguments are refused: %j', async (args, message) => {
  const run = new Run(...args)
  expect(await run.exit()).toBe(1)
  expect(run.text).toBe(message)
})

test('a socket that cannot be made is an error, and the end of both', async () => {
  const run = new Run('--socket', join(folder, 'missing', 'socket'), ...SMALL)
  expect(await run.exit()).toBe(1)
  expect(run.text).toMatch(/^producer: ENOENT: no such file or directory, /m)
})
