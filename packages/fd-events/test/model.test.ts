/**
 * A model of the world around a reactor: sequences of random steps, outside of handlers and in the middle of them, and at each
 * step the rules that must hold. What goes through a descriptor is recognisable: bytes are a running sequence behind the number
 * of the client that sent them, and the counts of bells are summed, so that nothing can be lost, doubled or misdirected
 * without being seen.
 */
import { closeSync, mkdtempSync, readdirSync, readSync, rmSync, writeSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { FdHandle, FdWatcher, Reactor, type Priority, type ReactorOptions } from '@fd-reactor/core'
import { Domain, socket, SocketType } from '@fd-reactor/core/sys'
import { EventFd, UnixListener, UnixStream } from '@fd-reactor/fd-events'
import fc from 'fast-check'
import { afterAll, beforeAll, test } from 'vitest'
import { native } from '../../core/src/sys/native.js'
import { assertNoLeakedFds } from '../../core/test/support/fds.js'
import { turn } from '../../core/test/support/wait.js'
import { encodeUnixAddress } from '../src/unix-address.js'
import { errorCode } from './unix-helpers.js'

assertNoLeakedFds()

const SEED = Number(process.env['FD_REACTOR_SEED'] ?? 20_261_121)
const CLIENTS = 16
const MOST_SOURCES = 20
const MOST_TURNS = 600
/** Sequences are modulo 251, so this never is in one: it is what a source writes whose descriptor is no longer its own. */
const FOREIGN = 255

const STEPS = {
  turn: 14,
  burst: 6,
  bell: 4,
  ring: 9,
  listen: 2,
  connect: 6,
  peerWrite: 9,
  peerRead: 4,
  peerEnd: 1,
  peerClose: 2,
  watch: 2,
  write: 6,
  end: 1,
  pause: 6,
  resume: 4,
  listenersOff: 3,
  listenersOn: 3,
  close: 4,
  destroy: 1,
  detach: 6,
  duplicate: 3,
  closeBehind: 4,
  useAfterwards: 3,
  defer: 2,
  fail: 1,
} as const
type StepName = keyof typeof STEPS

interface Step {
  name: StepName
  /** Chooses what it is done to. */
  pick: number
  size: number
  /** Done by the next handler that runs, instead of now. */
  inside: boolean
}

class Violation extends Error {}

function must(rule: boolean, what: string): void {
  if (!rule) throw new Violation(what)
}

/** What every kind of source in the model has. */
interface Member {
  readonly source: EventFd | UnixListener | UnixStream | FdWatcher
  /** It was closed, detached, or said that it had closed: from now on it must be silent. */
  over: boolean
  /** Its descriptor was closed behind its back. */
  robbed: boolean
  /** Adds or removes the listeners that consume. */
  listen(on: boolean): void
}

interface Bell extends Member {
  readonly kind: 'bell'
  readonly source: EventFd
  written: bigint
  told: bigint
}

interface Port extends Member {
  readonly kind: 'port'
  readonly source: UnixListener
  readonly path: string
  readonly clients: Client[]
  seen: number
}

interface Line extends Member {
  readonly kind: 'line'
  readonly source: UnixStream
  readonly flow: Flow
}

interface Watch extends Member {
  readonly kind: 'watch'
  readonly source: FdWatcher
}

type AnyMember = Bell | Port | Line | Watch

/** The serving end of a connection, through all the streams that have it in turn. */
interface Flow {
  header: number[]
  client: Client | undefined
  got: number
  written: number
  ended: boolean
  /** It told an error, or closed without waiting: not everything needs to have arrived. */
  cut: boolean
}

interface Client {
  readonly id: number
  readonly handle: FdHandle
  state: 'new' | 'open' | 'closed'
  shut: boolean
  sawEnd: boolean
  sent: number
  got: number
  flow: Flow | undefined
}

class World {
  readonly reactor: Reactor
  readonly #manual: boolean
  readonly #observer = new Reactor({ wakeup: 'manual' })
  #watcher: FdWatcher
  readonly #folder: string
  readonly #members: AnyMember[] = []
  readonly #clients: Client[]
  readonly #flows: Flow[] = []
  readonly #handles: FdHandle[] = []
  readonly #inside: Step[] = []
  readonly #robbedNumbers = new Set<number>()
  #paths = 0
  #depth = 0
  #violation: Error | undefined

  constructor(options: ReactorOptions, folder: string) {
    this.#folder = folder
    this.#manual = options.wakeup === 'manual'
    // Made beforehand: a descriptor of nobody's must not get the number of one that was closed behind the reactor's back.
    this.#clients = Array.from({ length: CLIENTS }, (_, id) => {
      const handle = new FdHandle(socket.create(Domain.Unix, SocketType.Stream))
      return { id, handle, state: 'new', shut: false, sawEnd: false, sent: 0, got: 0, flow: undefined }
    })
    this.reactor = new Reactor({
      ...options,
      onRebuild: () => {
        this.#reobserve()
      },
      onHandlerError: (error) => {
        const ours = error instanceof Error && error.message === 'deliberate'
        const robbed =
          this.#members.some((member) => member.robbed) &&
          ['EBADF', 'ENOENT'].includes(String(errorCode(error)))
        if (!ours && !robbed) this.#violation ??= error instanceof Error ? error : new Error(String(error))
      },
    })
    this.#watcher = this.#observe()
    // What the reactor opens for itself it has now: that is in no handle, so who writes to a number cannot know of it.
    this.reactor.defer(() => undefined)
    for (const priority of ['high', 'low'] as const) new EventFd(this.reactor, { priority }).close()
    this.#listen({ name: 'listen', pick: 0, size: 0, inside: false })
  }

  #observe(): FdWatcher {
    return new FdWatcher(this.#observer, this.reactor.fd).on('ready', () => undefined)
  }

  #reobserve(): void {
    this.#watcher.close()
    this.#watcher = this.#observe()
  }

  async run(steps: readonly Step[]): Promise<void> {
    for (const step of steps) {
      if (step.inside) this.#inside.push(step)
      else await this.#do(step)
      if (this.#violation !== undefined) throw this.#violation
    }
    await this.#finish()
  }

  async #do(step: Step): Promise<void> {
    if (step.name === 'turn') await this.#turn()
    else this.#step(step)
  }

  async #turn(): Promise<void> {
    if (this.reactor.dispatching) return
    if (this.#manual) this.reactor.dispatch()
    else await turn()
  }

  /** Turns until nothing is ready. A loop that spins never gets there. */
  async #settle(): Promise<void> {
    let calm = 0
    for (let turns = 0; calm < 2; turns++) {
      if (turns === MOST_TURNS)
        throw new Violation(`the loop spins: ${JSON.stringify(this.reactor.sources())}`)
      if (!this.#manual) this.#reobserve() // in libuv's loop nobody is told of a set that was made anew
      calm = this.#observer.dispatch() > 0 ? 0 : calm + 1
      await this.#turn()
      if (this.#violation !== undefined) throw this.#violation
    }
  }

  /** Every handler of every source begins here. */
  #handler(member: Member | undefined, what: string): void {
    this.#check(() => {
      must(member?.over !== true, `${what} after the end`)
    })
    this.#depth++
    let fails = false
    for (let done = 0; done < 2; done++) {
      const step = this.#inside.shift()
      if (step?.name === 'fail') fails = true
      else if (step !== undefined && step.name !== 'turn') this.#check(() => this.#step(step))
    }
    this.#depth--
    // What a 'close' listener throws comes out of close(), wherever that was called.
    if (fails && this.#depth === 0 && this.reactor.dispatching && what !== 'close')
      throw new Error('deliberate')
  }

  /** A violation inside a handler must reach the test, not the reactor's error policy. */
  #check(action: () => void): void {
    try {
      action()
    } catch (error) {
      if (errorCode(error) !== 'EBADF')
        this.#violation ??= error instanceof Error ? error : new Error(String(error))
    }
  }

  #pick<T>(list: readonly T[], { pick }: Step): T | undefined {
    return list[pick % Math.max(list.length, 1)]
  }

  #live<K extends AnyMember['kind']>(...kinds: K[]): Extract<AnyMember, { kind: K }>[] {
    return this.#members.filter((member): member is Extract<AnyMember, { kind: K }> => {
      return !member.over && !member.robbed && kinds.some((kind) => kind === member.kind)
    })
  }

  #step(step: Step): void {
    const { size } = step
    const any = this.#pick(this.#live('bell', 'port', 'line', 'watch'), step)
    const line = this.#pick(this.#live('line'), step)
    const client = this.#pick(
      this.#clients.filter(({ state }) => state === 'open'),
      step,
    )
    switch (step.name) {
      case 'bell':
        return this.#bell(step)
      case 'ring':
        return this.#ring(step)
      case 'listen':
        return this.#listen(step)
      case 'connect':
        return this.#connect(step)
      case 'burst':
        return this.#burst()
      case 'peerWrite':
        if (client !== undefined && !client.shut) this.#send(client, 1 + size * 7)
        return
      case 'peerRead':
        if (client !== undefined) this.#read(client)
        return
      case 'peerEnd':
        if (client !== undefined && !client.shut) socket.shutdownWrite(client.handle.fd)
        if (client !== undefined) client.shut = true
        return
      case 'peerClose':
        if (client !== undefined) this.#closeClient(client)
        return
      case 'watch':
        return this.#watch(client)
      case 'write':
        if (line === undefined || line.flow.ended) return
        line.source.write(sequence(line.flow.written, size * 11))
        line.flow.written += size * 11
        return
      case 'end':
        if (line === undefined) return
        line.flow.ended = true
        return line.source.end()
      case 'pause':
        any?.source.pause()
        return
      case 'resume':
        any?.source.resume()
        return
      case 'listenersOff':
        return any?.listen(false)
      case 'listenersOn':
        return any?.listen(true)
      case 'close':
        if (any === undefined) return
        any.over = true
        if (any.kind === 'line') any.flow.cut = true
        return any.source.close()
      case 'destroy':
        if (line === undefined) return
        line.over = line.flow.cut = true
        return line.source.destroy()
      case 'detach':
        return this.#detach(step)
      case 'duplicate':
        return this.#duplicate(any)
      case 'closeBehind':
        return this.#closeBehind(any)
      case 'useAfterwards':
        return this.#useAfterwards(step)
      case 'defer':
        return this.reactor.defer(() => {
          this.#handler(undefined, 'defer')
        })
      case 'fail':
      case 'turn':
        return
    }
  }

  /** Something happens everywhere, so that the next batch is a full one. */
  #burst(): void {
    for (const client of this.#clients) if (client.state === 'open' && !client.shut) this.#send(client, 3)
    for (const bell of this.#live('bell')) {
      must(bell.source.write(2n), 'a bell was full')
      bell.written += 2n
    }
    for (const port of this.#live('port')) this.#dial(port)
  }

  #priority({ pick }: Step): Priority {
    return pick % 5 === 0 ? 'high' : pick % 5 === 1 ? 'low' : 'normal'
  }

  #bell(step: Step): void {
    if (this.#live('bell', 'port', 'line').length >= MOST_SOURCES) return
    const semaphore = step.size % 3 === 0
    const source = new EventFd(this.reactor, { semaphore, priority: this.#priority(step) })
    const onEvent = (count: bigint): void => {
      bell.told += count
      this.#check(() => {
        must(bell.told <= bell.written, `a bell told ${bell.told} of ${bell.written}`)
        must(!semaphore || count === 1n, 'a semaphore told more than 1')
      })
      this.#handler(bell, 'event')
    }
    const bell: Bell = {
      kind: 'bell',
      source,
      over: false,
      robbed: false,
      written: 0n,
      told: 0n,
      listen: toggle(
        () => source.on('event', onEvent),
        () => source.off('event', onEvent),
      ),
    }
    this.#join(bell)
  }

  #ring(step: Step): void {
    const bell = this.#pick(this.#live('bell'), step)
    if (bell === undefined) return
    const count = BigInt(1 + (step.size % 5))
    must(bell.source.write(count), 'a bell was full')
    bell.written += count
  }

  #listen(step: Step): void {
    if (this.#live('port').length >= 3) return
    const path = join(this.#folder, `${this.#paths++}`)
    const limit = step.size % 3 === 1 ? { maxConnections: 1 + (step.pick % 3) } : {}
    const source = UnixListener.listen(this.reactor, path, { ...limit, priority: this.#priority(step) })
    const onConnection = (stream: UnixStream): void => {
      port.seen++
      const flow: Flow = { header: [], client: undefined, got: 0, written: 0, ended: false, cut: false }
      this.#flows.push(flow)
      this.#line(stream, flow)
      this.#check(() => {
        must(port.seen <= port.clients.length, 'more connections than clients')
        must(
          limit.maxConnections === undefined || source.closed || source.connections <= limit.maxConnections,
          'maxConnections was exceeded',
        )
      })
      this.#handler(port, 'connection')
    }
    const port: Port = {
      kind: 'port',
      source,
      path,
      clients: [],
      over: false,
      robbed: false,
      seen: 0,
      listen: toggle(
        () => source.on('connection', onConnection),
        () => source.off('connection', onConnection),
      ),
    }
    this.#join(port)
  }

  #line(source: UnixStream, flow: Flow): void {
    const onData = (bytes: Buffer): void => {
      this.#check(() => {
        this.#receive(flow, bytes)
      })
      this.#handler(line, 'data')
    }
    const line: Line = {
      kind: 'line',
      source,
      flow,
      over: false,
      robbed: false,
      listen: toggle(
        () => source.on('data', onData),
        () => source.off('data', onData),
      ),
    }
    source.on('end', () => {
      this.#check(() => {
        must(
          flow.client === undefined || flow.got === flow.client.sent,
          `the end came after ${flow.got} of ${flow.client?.sent} bytes`,
        )
      })
      flow.ended = true
      this.#handler(line, 'end')
    })
    source.on('error', (error) => {
      flow.cut = flow.ended = true
      const code = String(errorCode(error))
      this.#check(() => {
        must(
          code === 'ECONNRESET' || code === 'EPIPE' || (line.robbed && code === 'EBADF'),
          `${source.label} failed: ${error.message}`,
        )
      })
      this.#handler(line, 'error')
    })
    this.#join(line)
  }

  #watch(client: Client | undefined): void {
    if (client === undefined || this.#live('watch').some(({ source }) => source.fd === client.handle.fd))
      return
    const source = new FdWatcher(this.reactor, client.handle.fd)
    const onReady = (): void => {
      if (client.state === 'open') this.#check(() => this.#read(client))
      if (client.sawEnd)
        source.close() // or it would be ready for ever
      else this.#handler(watch, 'ready')
    }
    const watch: Watch = {
      kind: 'watch',
      source,
      over: false,
      robbed: false,
      listen: toggle(
        () => source.on('ready', onReady),
        () => source.off('ready', onReady),
      ),
    }
    this.#join(watch)
  }

  #join(member: AnyMember): void {
    this.#robbedNumbers.delete(member.source.fd)
    this.#members.push(member)
    const onClose = (): void => {
      if (member.kind === 'line') member.flow.ended = true
      member.over = true
      this.#handler(undefined, 'close')
    }
    if (member.kind === 'bell') member.source.on('close', onClose)
    else if (member.kind === 'line') member.source.on('close', onClose)
    else if (member.kind === 'port') member.source.on('close', onClose)
    else member.source.on('close', onClose)
    member.listen(true)
  }

  #connect(step: Step): void {
    const port = this.#pick(this.#live('port'), step)
    if (port !== undefined) this.#dial(port, step.size)
  }

  #dial(port: Port, size = 0): void {
    const client = this.#clients.find(({ state }) => state === 'new')
    if (client === undefined) return
    must(
      socket.connect(client.handle.fd, encodeUnixAddress(port.path, 'connect')) === 0,
      'a client could not connect',
    )
    client.state = 'open'
    port.clients.push(client)
    writeSync(client.handle.fd, Buffer.from([client.id]))
    this.#send(client, size)
  }

  #send(client: Client, length: number): void {
    try {
      client.sent += writeSync(client.handle.fd, sequence(client.sent, length))
    } catch (error) {
      must(
        ['EAGAIN', 'EPIPE', 'ECONNRESET'].includes(String(errorCode(error))),
        `a client could not write: ${String(error)}`,
      )
    }
  }

  /** The serving end got bytes: they must go on where its own client's sequence was. */
  #receive(flow: Flow, bytes: Buffer): void {
    let at = 0
    if (flow.client === undefined && bytes.length > 0) {
      const client = this.#clients[bytes[at++] ?? CLIENTS]
      must(client !== undefined && client.flow === undefined, 'bytes came to a stream that nobody sent')
      if (client !== undefined) client.flow = flow
      flow.client = client
    }
    for (; at < bytes.length; at++, flow.got++)
      must(bytes[at] === flow.got % 251, `byte ${flow.got} of a client is wrong`)
    must(flow.got <= (flow.client?.sent ?? 0), 'more came than was sent')
  }

  /** A client reads what there is: it must go on where its server's sequence was. */
  #read(client: Client): boolean {
    const bytes = Buffer.alloc(65_536)
    try {
      const length = readSync(client.handle.fd, bytes, 0, bytes.length, null)
      if (length === 0) client.sawEnd = true
      for (const byte of bytes.subarray(0, length))
        must(byte === client.got++ % 251, 'a client got a wrong byte')
      return length > 0
    } catch (error) {
      if (error instanceof Violation) throw error
      if (errorCode(error) === 'ECONNRESET') client.sawEnd = true
      return false
    }
  }

  #closeClient(client: Client): void {
    client.state = 'closed'
    // Usually the watcher goes first, as its contract says.
    for (const watch of this.#live('watch')) {
      if (watch.source.fd !== client.handle.fd) continue
      if (client.id % 4 === 0) this.#rob(watch)
      else watch.source.close()
    }
    client.handle.close()
  }

  #detach(step: Step): void {
    const member = this.#pick(this.#live('line', 'bell'), step)
    if (member === undefined) return
    member.over = true
    if (member.kind === 'bell') {
      const handle = member.source.detach()
      this.#handles.push(handle)
      member.told += count(handle.fd)
      must(member.told === member.written, `a detached bell told ${member.told} of ${member.written}`)
      return
    }
    const { flow, source } = member
    const waiting = source.writableLength
    const { handle, unread } = source.detach()
    // What its peer had no room for is gone with the source.
    if (waiting > 0 || flow.ended) flow.cut = flow.ended = true
    this.#receive(flow, unread)
    if (step.size % 4 > 0)
      return this.#line(UnixStream.from(this.reactor, handle, { priority: this.#priority(step) }), flow)
    const rest = Buffer.alloc(65_536)
    try {
      this.#receive(flow, rest.subarray(0, readSync(handle.fd, rest, 0, rest.length, null)))
    } catch (error) {
      if (error instanceof Violation) throw error
    }
    flow.cut = true
    handle.close()
  }

  #duplicate(member: AnyMember | undefined): void {
    if (member === undefined || member.kind === 'watch') return
    const handle = new FdHandle(native().duplicateFd(member.source.fd))
    if (this.#robbedNumbers.has(handle.fd)) return handle.close()
    this.#handles.push(handle)
  }

  #closeBehind(member: AnyMember | undefined): void {
    if (member === undefined || member.kind === 'watch') return
    const { fd } = member.source
    this.#rob(member)
    closeSync(fd)
    this.#robbedNumbers.add(fd)
  }

  #rob(member: AnyMember): void {
    member.robbed = true
    if (member.kind === 'line') member.flow.cut = member.flow.ended = true
  }

  /** Whoever lost its descriptor must not touch the one that has its number now. */
  #useAfterwards(step: Step): void {
    const member = this.#pick(
      this.#members.filter(({ robbed, over }) => robbed && !over),
      step,
    )
    if (member === undefined) return
    try {
      if (step.size % 5 === 0) member.source.pause()
      else if (step.size % 5 === 1) member.source.resume()
      else if (step.size % 5 === 2) member.source.close()
      else if (member.kind === 'bell') member.source.write(1000n)
      else if (member.kind === 'line') member.source.write(Buffer.alloc(3, FOREIGN))
    } catch (error) {
      const code = String(errorCode(error))
      must(
        ['EBADF', 'ENOENT', 'ERR_CLOSED', 'ERR_STREAM_ENDED'].includes(code),
        `a robbed source threw ${String(error)}`,
      )
    }
  }

  async #finish(): Promise<void> {
    this.#inside.length = 0
    for (const member of this.#live('bell', 'port', 'line', 'watch')) {
      member.listen(true)
      member.source.resume()
    }
    const open = (): Client[] => this.#clients.filter(({ state }) => state === 'open')
    const flush = async (): Promise<void> => {
      do await this.#settle()
      while (open().filter((client) => this.#read(client)).length > 0)
    }
    await flush()
    for (const { told, written, source } of this.#live('bell'))
      must(told === written, `${source.label} told ${told} of ${written}`)
    for (const { flow, source } of this.#live('line')) {
      const { client } = flow
      if (client === undefined) continue
      must(flow.got === client.sent, `${source.label} got ${flow.got} of ${client.sent} bytes`)
      must(source.writableLength === 0 || client.state === 'closed', `${source.label} keeps bytes back`)
    }
    for (const { client, written, cut } of this.#flows) {
      if (client?.state === 'open' && !cut)
        must(client.got === written, `a client got ${client.got} of ${written} bytes`)
    }
    // Who waits because of maxConnections comes in as others go.
    for (let round = 0; round <= CLIENTS; round++) {
      for (const member of this.#members) if (member.kind === 'line') member.source.close()
      await flush()
    }
    for (const { clients, seen, source } of this.#live('port')) {
      must(seen === clients.length, `${source.label} saw ${seen} of ${clients.length} connections`)
      must(source.connections === 0, `${source.label} still counts ${source.connections} connections`)
    }
    for (const handle of this.#handles) handle.close()
    for (const member of this.#members) member.source.close()
    await flush()
    // Nobody is left to serve them: every client must have been let go.
    for (const client of open()) must(client.sawEnd, `client ${client.id} was left hanging`)
    must(
      this.reactor.sources().every(({ label }) => label.startsWith('Deadlines')),
      'a source stayed registered',
    )
  }

  close(): void {
    for (const client of this.#clients) client.handle.close()
    for (const handle of this.#handles) handle.close()
    this.reactor.close()
    this.#observer.close()
  }
}

/** `length` bytes of the running sequence, from number `from` on. */
function sequence(from: number, length: number): Buffer {
  return Buffer.from(Array.from({ length }, (_, n) => (from + n) % 251))
}

/** What an eventfd holds, semaphore or not. */
function count(fd: number): bigint {
  const bytes = Buffer.alloc(8)
  let sum = 0n
  for (;;) {
    try {
      readSync(fd, bytes)
    } catch {
      return sum
    }
    sum += bytes.readBigUInt64LE()
  }
}

/** Adds and removes a listener, each only when that changes anything. */
function toggle(add: () => unknown, remove: () => unknown): (on: boolean) => void {
  let listening = false
  return (on) => {
    if (on === listening) return
    listening = on
    if (on) add()
    else remove()
  }
}

const openDescriptors = (): number => readdirSync('/proc/self/fd').length

let folder = ''
let warnings: NodeJS.WarningListener[] = []
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'fd-reactor-model-'))
  // Sets are made anew on purpose here, thousands of times.
  warnings = process.listeners('warning')
  process.removeAllListeners('warning')
})
afterAll(() => {
  rmSync(folder, { recursive: true, force: true })
  for (const listener of warnings) process.on('warning', listener)
})

const step = fc.record({
  name: fc.oneof(
    ...Object.entries(STEPS).map(([name, weight]) => ({ arbitrary: fc.constant(name as StepName), weight })),
  ),
  pick: fc.nat(999),
  size: fc.nat(60),
  inside: fc.boolean(),
})
const options = fc.record({
  maxEventsPerBatch: fc.constantFrom(256, 8, 3, 2, 1),
  chunkRecords: fc.constantFrom(1, 2, 64),
  chunkMicros: fc.constantFrom(1, 1_000_000),
})

async function sequences(wakeup: 'manual' | 'uv', numRuns: number): Promise<void> {
  console.log(
    `model (${wakeup}): seed ${SEED} (FD_REACTOR_SEED repeats it, FD_REACTOR_PATH goes to one sequence)`,
  )
  let steps = 0
  const property = fc.asyncProperty(
    options,
    fc.array(step, { minLength: 10, maxLength: 90, size: 'max' }),
    async (sizes, list) => {
      steps += list.length
      const place = mkdtempSync(join(folder, 'world-'))
      const before = openDescriptors()
      const world = new World({ ...sizes, wakeup }, place)
      try {
        await world.run(list)
      } finally {
        world.close()
      }
      const files = readdirSync(place)
      must(files.length === 0, `the files ${files.join()} stayed`)
      const after = openDescriptors()
      must(after === before, `${after - before} descriptors leaked`)
    },
  )
  await fc.assert(property, { seed: SEED, numRuns, path: process.env['FD_REACTOR_PATH'] ?? '' })
  console.log(`model (${wakeup}): ${numRuns} sequences, ${steps} steps`)
}

test('2,000 sequences, moved by hand', { timeout: 120_000 }, async () => sequences('manual', 2000))

test("200 sequences in Node's own loop", { timeout: 120_000 }, async () => sequences('uv', 200))
