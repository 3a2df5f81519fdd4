/**
 * `npm run shm-stream`: video frames from one process to another, through shared memory or through a Unix socket.
 */
import process from 'node:process'
import { fileURLToPath } from 'node:url'
import { Command, InvalidArgumentError, Option } from 'commander'
import { Reactor } from '@fd-reactor/core'
import { SignalFd } from '@fd-reactor/fd-events'
import { Consumer } from './consumer.js'
import type { Check } from './frame.js'
import { Producer } from './producer.js'
import type { Transport } from './protocol.js'
import { supervise, type Role } from './supervisor.js'

interface Options {
  transport: Transport
  frames?: number
  seconds?: number
  width: number
  height: number
  slots: number
  fps?: number
  check: Check
  png?: string
  role?: Role
  socket?: string
}

const program = new Command('npm run shm-stream --')
  .description(
    'A producer process makes video frames, a consumer process checks and acknowledges every one. Without --role both are started, and ' +
      'one that is killed is replaced. Ends after --frames or --seconds; default: 5 seconds.',
  )
  .addOption(
    new Option('--transport <how>', 'how the pixels go; the messages always go through a Unix socket')
      .choices(['shm', 'uds'])
      .default('shm'),
  )
  .option('--frames <n>', 'how many', integer(1, 2 ** 32 - 2))
  .option('--seconds <time>', 'how long', positive)
  .option('--width <pixels>', 'of a frame', integer(16, 8192), 1920)
  .option('--height <pixels>', 'of a frame', integer(16, 8192), 1080)
  .option('--slots <n>', 'how many frames may be on their way', integer(1, 64), 4)
  .option('--fps <n>', 'frames a second; default: as many as are taken', positive)
  .addOption(
    new Option('--check <words>', 'what the checksum is made of')
      .choices(['sampled', 'full'])
      .default('sampled'),
  )
  .option('--png <file>', 'write a frame that was received')
  .addOption(
    new Option('--role <side>', 'one side only; the other one is started elsewhere').choices([
      'producer',
      'consumer',
    ]),
  )
  .option('--socket <path>', 'where the producer listens; needed with --role')
  .parse()
const options = program.opts<Options>()
const { role, socket, transport, slots, check, fps, frames, png } = options
const seconds = options.seconds ?? (frames === undefined && role === undefined ? 5 : undefined)
if (role !== undefined && socket === undefined)
  program.error("error: option '--role <side>' needs '--socket <path>'")

const log = (line: string): void => console.log(`${role ?? 'shm-stream'}: ${line}`)
try {
  process.exitCode = role === undefined || socket === undefined ? await both() : await one(role, socket)
} catch (error) {
  console.error(`${role ?? 'shm-stream'}: ${error instanceof Error ? error.message : String(error)}`)
  process.exitCode = 1
}

async function both(): Promise<number> {
  const args = process.argv.slice(2)
  return supervise({ main: fileURLToPath(import.meta.url), args, socket, seconds, log })
}

async function one(side: Role, path: string): Promise<number> {
  using reactor = new Reactor() // closed whatever happens: its signals would keep the process going
  const stop = (): void => reactor.stop(1)
  new SignalFd(reactor, ['SIGINT', 'SIGTERM']).on('SIGINT', stop).on('SIGTERM', stop)
  if (side === 'consumer') {
    const consumer = new Consumer(reactor, { socket: path, png, log })
    onDisconnect(() => consumer.stopWaiting())
    const code = reactor.run()
    await Promise.race([consumer.connect(), code])
    return await code
  }
  const size = { width: options.width, height: options.height }
  using _producer = new Producer(reactor, {
    socket: path,
    transport,
    size,
    slots,
    check,
    frames,
    seconds,
    fps,
    log,
  })
  onDisconnect(stop)
  return await reactor.run({ keepOpen: true })
}

/** When the parent, if there is one, has ended or needs this process no more. */
function onDisconnect(action: () => void): void {
  process.once('disconnect', action)
  process.channel?.unref()
}

function integer(low: number, high: number): (text: string) => number {
  return (text) => {
    const value = Number(text)
    if (Number.isInteger(value) && value >= low && value <= high) return value
    throw new InvalidArgumentError(`It must be an integer from ${low} to ${high}.`)
  }
}

function positive(text: string): number {
  const value = Number(text)
  if (value > 0 && Number.isFinite(value)) return value
  throw new InvalidArgumentError('It must be a number above 0.')
}
