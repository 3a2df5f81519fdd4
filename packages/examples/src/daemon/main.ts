/**
 * `npm start`: the daemon's command line.
 */
import process from 'node:process'
import { Command, InvalidArgumentError } from 'commander'
import { runDaemon } from './daemon.js'
import { defaultSocketPath } from './socket-path.js'

interface Options {
  socket: string
  config?: string
  workers: number
  maxConnections: number
}

const { socket, config, workers, maxConnections } = new Command('npm start --')
  .description('A telemetry daemon: JSON lines over a Unix socket, ticks, reload, and a graceful stop.')
  .option('--socket <path>', 'where to listen', defaultSocketPath())
  .option('--config <file>', 'a JSON file, read again on SIGHUP')
  .option('--workers <n>', 'worker threads', count, 1)
  .option('--max-connections <n>', 'clients at the same time', count, 1000)
  .parse()
  .opts<Options>()

try {
  process.exitCode = await runDaemon({
    socketPath: socket,
    configPath: config,
    workers,
    maxConnections,
    log: (line) => process.stderr.write(`${new Date().toISOString()} ${line}\n`),
    onListening: announce,
  })
} catch (error) {
  console.error(error instanceof Error ? error.message : String(error))
  process.exitCode = 1
}

function announce(): void {
  const where = socket === defaultSocketPath() ? '' : `--socket ${quote(socket)} `
  console.log(`listening on unix:${socket}`)
  console.log(`try: npm run client -- ${where}echo '{"a":1}'`)
  console.log(`try: echo '{"id":1,"op":"time"}' | socat -t 5 - ${quote(`UNIX-CONNECT:${socket}`)}`)
}

/** As a shell takes it back. */
function quote(text: string): string {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`
}

function count(text: string): number {
  const value = Number(text)
  if (!Number.isInteger(value) || value < 1 || value > 10_000) {
    throw new InvalidArgumentError('It must be an integer from 1 to 10000.')
  }
  return value
}
