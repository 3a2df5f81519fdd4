/**
 * The command line of the benches: `npm run bench -- echo|busypoll|dispatch [options]`.
 *
 * Every bench runs the candidates side by side in interleaved rounds, and judges ratios within a round: a
 * shared or virtual machine drifts by far more than the differences looked for. Exit code 1 means that a bar
 * was missed.
 */
import { constants } from 'node:os'
import { InvalidArgumentError, program } from 'commander'
import { benchBusyPoll } from './busypoll.js'
import { benchCell } from './cell.js'
import { benchChannel } from './channel.js'
import { benchConnections } from './connections.js'
import { benchDgram } from './dgram.js'
import { benchDispatch } from './dispatch.js'
import { benchEcho } from './echo.js'
import { machine, machineLine } from './machine.js'
import { benchMapped } from './mapped.js'
import { benchUdsVsTcp } from './uds-vs-tcp.js'
import { render, type Effort, type Report } from './report.js'
import { benchShm } from './shm.js'
import { benchSendFile } from './sendfile.js'
import { benchSeqpacket } from './seqpacket.js'

interface Options extends Effort {
  json?: true
}

function positive(text: string): number {
  const value = Number(text)
  if (value > 0 && Number.isFinite(value)) return value
  throw new InvalidArgumentError('Expected a number above 0.')
}

function positiveInteger(text: string): number {
  const value = positive(text)
  if (Number.isInteger(value)) return value
  throw new InvalidArgumentError('Expected a whole number above 0.')
}

program.name('bench').description('Measures fd-reactor beside what it competes with.')

function addBench(name: string, description: string, bench: (options: Options) => Promise<Report>): void {
  program
    .command(name)
    .description(description)
    .option('--rounds <count>', 'interleaved rounds', positiveInteger, 5)
    .option('--seconds <time>', 'measured time per run, after a quarter of it to warm up', positive, 1)
    .option('--json', 'print everything as JSON on stdout, and the tables on stderr')
    .action(async (options: Options) => {
      const measuredOn = machine()
      const report = await bench(options)
      const say = options.json ? console.error : console.log
      say(`${machineLine(measuredOn)}\n${render(report)}`)
      if (options.json) console.log(JSON.stringify({ machine: measuredOn, options, ...report }, null, 2))
      process.exitCode = report.bars.every((bar) => bar.met) ? 0 : 1
    })
}

addBench('echo', 'echo servers on a Unix socket: C epoll, Node net, and ours', benchEcho)
addBench('busypoll', 'one-client round trips while both ends poll', benchBusyPoll)
addBench('connections', '10,000 open connections: ours and Node net', benchConnections)
addBench('uds-vs-tcp', 'the same server on a Unix socket and on TCP loopback', benchUdsVsTcp)
addBench('sendfile', 'files over a Unix socket: sendFile(), createReadStream().pipe(), and C', benchSendFile)
addBench('dgram', 'datagrams one way: ours, npm unix-dgram, and C with recvmmsg and sendmmsg', benchDgram)
addBench('seqpacket', 'echo servers on a Unix socket of packets: ours and C epoll', benchSeqpacket)
addBench('shm', 'rings in shared memory: C, ours, MessagePort, process.send, a Unix socket', benchShm)
addBench('mapped', 'random reads of a warm file: MappedFile and fs.readSync', benchMapped)
addBench('cell', 'the newest sample in shared memory: our writer and C, beside 0, 1 and 4 readers', benchCell)
addBench('channel', 'messages between two threads: Channel and MessagePort', benchChannel)
addBench('dispatch', '200 ready eventfds per batch: ours and npm epoll', benchDispatch)

// Servers are killed by an `exit` listener, which a signal's default action would skip.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.once(signal, () => process.exit(128 + constants.signals[signal]))
}

try {
  await program.parseAsync()
} catch (error) {
  console.error(`bench: ${error instanceof Error ? error.message : String(error)}`)
  process.exitCode = 1
}
