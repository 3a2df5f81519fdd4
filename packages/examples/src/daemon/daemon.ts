/**
 * The daemon: a Unix socket server, a timerfd, signals and an eventfd that workers ring, in one reactor.
 *
 * This file only wires them together; what each does stands in its own file.
 */
import process from 'node:process'
import { Reactor } from '@fd-reactor/core'
import { ms, SignalFd, TimerFd, UnixListener, UnixStream, type SignalInfo } from '@fd-reactor/fd-events'
import { ConfigFile } from './config.js'
import { Connection, type RequestHandler } from './connection.js'
import { Interrupts } from './interrupts.js'
import { perform } from './operations.js'
import { encode } from './protocol.js'
import { Shutdown } from './shutdown.js'
import { Statistics } from './statistics.js'
import { Subscribers } from './subscribers.js'
import { WorkerPool } from './worker-pool.js'

/** What cannot be changed while it runs. */
export interface DaemonOptions {
  socketPath: string
  configPath?: string | undefined
  /** How many worker threads. Default 1. */
  workers?: number
  /** How many clients at the same time; more wait in the backlog. Default 1000. */
  maxConnections?: number
  /** What the workers run. Default: worker.js. */
  workerScript?: URL
  /** Takes what there is to report, a line at a time. */
  log: (line: string) => void
  /** It can be connected to now. */
  onListening: () => void
}

/** Runs until a signal stops it; gives the exit code. @throws when it cannot start. */
export async function runDaemon(options: DaemonOptions): Promise<number> {
  const { socketPath, configPath, workers = 1, maxConnections = 1000, workerScript, log } = options
  const config = new ConfigFile(configPath)

  using reactor = new Reactor({
    name: 'daemon',
    measure: true,
    onHandlerError(error, source) {
      log(
        `error in a handler of ${source?.label ?? 'the daemon'}: ${error instanceof Error ? error.stack : String(error)}`,
      )
      if (source instanceof UnixStream) source.destroy() // a mistake of ours costs the client that met it, and nobody else
    },
  })
  await using pool = new WorkerPool(reactor, workers, workerScript)
  const statistics = new Statistics()
  const subscribers = new Subscribers()
  const connections = new Set<Connection>()

  // Before the socket appears, so that there is no moment in which a signal could kill what a client sees running.
  const signals = new SignalFd(reactor, ['SIGHUP', 'SIGUSR2', 'SIGTERM', 'SIGINT'], { priority: 'high' })
  const ticker = TimerFd.every(reactor, ms(config.current.tickMs), { priority: 'high' })
  const listener = UnixListener.listen(reactor, socketPath, {
    mode: 0o666, // anybody may connect; the kernel says who it is, and the configuration who may stay
    backlog: 4096,
    maxConnections,
    allowHalfOpen: true,
  })
  const shutdown = new Shutdown({ reactor, listener, connections, subscribers })

  const context = { reactor, pool, subscribers, config, statistics }
  const handler: RequestHandler = {
    onRequest(request, client) {
      perform(request, client, context)
    },
    onClose(client) {
      statistics.connections.open--
      connections.delete(client)
      subscribers.remove(client)
      shutdown.proceed()
    },
  }

  listener.on('connection', (stream) => {
    const { uid } = stream.peer
    if (!config.current.allowedUids.includes(uid)) {
      statistics.connections.refused++
      stream.write(
        encode({ id: null, error: { code: 'forbidden', message: `User ${uid} may not use this daemon` } }),
      )
      return stream.close()
    }
    statistics.connections.accepted++
    statistics.connections.open++
    const client = new Connection(stream, handler, () => config.current)
    connections.add(client)
    if (shutdown.begun) setImmediate(() => client.finish()) // it comes out of the backlog
  })

  ticker.on('tick', (expirations, latenessNs) => {
    statistics.tick(expirations, latenessNs)
    const dropped = subscribers.publish({ expirations, latenessNs }, config.current.maxSubscriberBacklogBytes)
    if (dropped > 0) log(`subscribers dropped, because they do not read: ${dropped}`)
  })

  signals.on('SIGHUP', () => {
    try {
      const { tickMs } = config.reload()
      if (ticker.intervalNs !== ms(tickMs)) ticker.setInterval(ms(tickMs))
      statistics.reloads.done++
      log(`configuration reloaded: ${JSON.stringify(config.current)}`)
    } catch (error) {
      statistics.reloads.refused++
      log(
        `configuration refused, the old one stays: ${error instanceof Error ? error.message : String(error)}`,
      )
    }
  })
  signals.on('SIGUSR2', () => {
    log(`statistics: ${JSON.stringify(statistics.report(context))}`)
  })
  const stop = ({ signal, pid }: SignalInfo): void => {
    log(`${signal} from ${pid > 0 ? `process ${pid}` : 'the terminal'}: stopping`)
    shutdown.begin(config.current.stopDeadlineMs, (count) =>
      log(`deadline: ${count} connections are cut off`),
    )
  }
  signals.on('SIGTERM', stop)
  const interrupts = new Interrupts()
  signals.on('SIGINT', (info) => {
    if (interrupts.isCopy(info)) return
    if (shutdown.begun) process.exit(130) // 128 + SIGINT, as a shell has it
    stop(info)
  })

  options.onListening()
  // The workers end before the eventfd that they ring: so the sources stay open until `pool` is disposed of.
  return await reactor.run({ keepOpen: true })
}
