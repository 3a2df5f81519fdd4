/**
 * `npm run client`: asks the daemon one thing and prints what it says, a line for each answer or event.
 */
import process from 'node:process'
import { Command, InvalidArgumentError } from 'commander'
import { Reactor } from '@fd-reactor/core'
import { UnixStream } from '@fd-reactor/fd-events'
import { LineSplitter } from './line-splitter.js'
import { isObject } from './protocol.js'
import { defaultSocketPath } from './socket-path.js'

const MAX_LINE_BYTES = 64 * 1024 * 1024

const program = new Command('npm run client --').description('Talks to the telemetry daemon.')
program.option('--socket <path>', 'where it listens', defaultSocketPath())
program
  .command('echo <json>')
  .description('have a JSON value given back')
  .action((payload: string) => ask({ op: 'echo', payload: json(payload) }))
program
  .command('time')
  .description("what the daemon's clock shows")
  .action(() => ask({ op: 'time' }))
program
  .command('stats')
  .description('its statistics')
  .action(() => ask({ op: 'stats' }))
program
  .command('work <limit>')
  .description('count the primes below a limit, in a worker thread')
  .action((limit: string) => ask({ op: 'work', limit: json(limit) }))
program
  .command('subscribe')
  .description('print ticks')
  .option('--count <n>', 'how many', json, Infinity)
  .action(({ count }: { count: number }) => ask({ op: 'subscribe' }, 1 + count))

try {
  await program.parseAsync()
} catch (error) {
  console.error(error instanceof Error ? error.message : String(error))
  process.exitCode = 1
}

/** Sends one request and prints `count` lines; the exit code is 1 if one of them is an error, or if too few come. */
async function ask(request: object, count = 1): Promise<void> {
  using reactor = new Reactor()
  const stream = await UnixStream.connect(reactor, program.opts<{ socket: string }>().socket)
  stream.write(`${JSON.stringify({ id: 1, ...request })}\n`)
  const lines = new LineSplitter()
  let left = count
  for await (const bytes of stream) {
    lines.push(bytes, MAX_LINE_BYTES, (line) => {
      if (left-- > 0) print(String(line))
    })
    if (left <= 0) return
  }
  console.error('The daemon has ended the connection')
  process.exitCode = 1
}

function print(line: string): void {
  const message: unknown = JSON.parse(line)
  console.log(JSON.stringify(message, null, isObject(message) && 'event' in message ? 0 : 2))
  if (isObject(message) && 'error' in message) process.exitCode = 1
}

function json(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    throw new InvalidArgumentError('It must be JSON.')
  }
}
