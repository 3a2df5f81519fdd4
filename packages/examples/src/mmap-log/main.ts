/**
 * `npm run mmap-log`: the command line of the log.
 */
import process from 'node:process'
import { InvalidArgumentError, Option, program } from 'commander'
import { append } from './append.js'
import { tail } from './tail.js'
import { verify } from './verify.js'
import type { Durability } from './writer.js'

interface AppendFlags {
  durability: Durability
  grow: number
  ack?: true
}

interface TailFlags {
  follow?: true
  lines: number
  poll: number
}

program
  .name('npm run mmap-log --')
  .description('An append-only log in a mapped file, for several writers and readers at the same time.')

program
  .command('append')
  .description('Appends the texts, or each line of stdin, as a record; makes the log when there is none.')
  .argument('<log>', 'the file')
  .argument('[texts...]', 'records; without any, stdin is read')
  .addOption(
    new Option(
      '--durability <how>',
      'none: as the kernel likes; async: flushed behind it; sync: on the disk before it counts',
    )
      .choices(['none', 'async', 'sync'])
      .default('none'),
  )
  .option('--grow <bytes>', 'by how much the file grows at least', number(4096, 2 ** 30), 2 ** 20)
  .option('--ack', 'print the sequence numbers of each batch once it is appended')
  .action(async (log: string, texts: string[], { durability, grow, ack }: AppendFlags) => {
    const settings = { durability, growBytes: Math.ceil(grow / 4096) * 4096 }
    const records = await append(log, texts, settings, {
      onAppended: (first, last) => {
        if (ack) process.stdout.write(`appended ${first} to ${last}\n`)
      },
      onRepaired: (bytes, reason) =>
        console.error(`repaired: the last ${bytes} bytes were cut off, for of the record there ${reason}`),
    })
    if (!ack) console.log(`${records} records appended`)
  })

program
  .command('tail')
  .description('Prints the last records: sequence number, time, text.')
  .argument('<log>', 'the file')
  .option('-f, --follow', 'go on with those that come, until SIGINT or SIGTERM')
  .option('-n, --lines <count>', 'how many', number(0, 1_000_000_000), 10)
  .option(
    '--poll <ms>',
    'how often to look for more: records are seen that much later at most',
    number(1, 60_000),
    5,
  )
  .action(async (log: string, { follow, lines, poll }: TailFlags) => {
    process.exitCode = await tail(
      log,
      { count: lines, pollMs: follow ? poll : undefined },
      {
        print: (text) => process.stdout.write(text),
        onDrain: (resume) => process.stdout.once('drain', resume),
      },
    )
  })

program
  .command('verify')
  .description(
    'Reads the whole log: records, bytes, and the first bad offset. Exit code 1 when there is one.',
  )
  .argument('<log>', 'the file')
  .action((log: string) => {
    process.exitCode = verify(log, (line) => console.log(line)) ? 0 : 1
  })

function number(low: number, high: number): (text: string) => number {
  return (text) => {
    const value = Number(text)
    if (Number.isInteger(value) && value >= low && value <= high) return value
    throw new InvalidArgumentError(`It must be an integer from ${low} to ${high}.`)
  }
}

// As `tail` does: who stops reading, such as head(1), has seen enough.
process.stdout.on('error', (error: NodeJS.ErrnoException) => process.exit(error.code === 'EPIPE' ? 0 : 1))
const fail = (error: unknown): void => {
  console.error(`mmap-log: ${error instanceof Error ? error.message : String(error)}`)
  process.exit(1)
}
process.on('uncaughtException', fail) // what a handler throws
try {
  await program.parseAsync()
} catch (error) {
  fail(error)
}
