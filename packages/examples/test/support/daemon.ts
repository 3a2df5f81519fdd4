/**
 * Runs the built daemon as a process of its own, and talks to it with clients that share no code with it.
 */
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { connect, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import process from 'node:process'
import { createInterface, type Interface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { within } from '../../../core/test/support/wait.js'

/** The built file of that name. */
export function built(name: string): string {
  return fileURLToPath(new URL(`../../dist/daemon/${name}.js`, import.meta.url))
}

/** A file in test/fixtures. */
export function fixture(name: string): string {
  return fileURLToPath(new URL(`../fixtures/${name}`, import.meta.url))
}

/** A folder that other users may look into, removed with `using`. */
export class Folder implements Disposable {
  readonly path = mkdtempSync(join(tmpdir(), 'fd-reactor-daemon-'))

  constructor() {
    chmodSync(this.path, 0o755)
  }

  file(name: string): string {
    return join(this.path, name)
  }

  write(name: string, content: string | object): string {
    writeFileSync(this.file(name), typeof content === 'string' ? content : JSON.stringify(content))
    return this.file(name)
  }

  [Symbol.dispose](): void {
    rmSync(this.path, { recursive: true, force: true })
  }
}

/** How a process ended. */
export interface Exit {
  code: number | null
  signal: NodeJS.Signals | null
}

/** Lines that a process writes, each of which can be waited for. */
export class Output {
  readonly lines: string[] = []
  #seen = 0
  #wake: (() => void) | undefined

  constructor(lines: Interface) {
    lines.on('line', (line) => {
      this.lines.push(line)
      this.#wake?.()
    })
  }

  /** The next line, after those that were found before, that matches. */
  async find(pattern: RegExp): Promise<string> {
    const search = async (): Promise<string> => {
      for (;;) {
        while (this.#seen < this.lines.length) {
          const line = this.lines[this.#seen++] ?? ''
          if (pattern.test(line)) return line
        }
        await new Promise<void>((resolve) => (this.#wake = resolve))
      }
    }
    return within(search(), `a line like ${pattern.source}; there are:\n${this.lines.join('\n')}\n`, 10_000)
  }
}

/** How to start it. */
export interface DaemonSetup {
  config?: object
  args?: string[]
  /** What to run instead of the built main file. */
  main?: string
}

/** A running daemon. What a test leaves running is killed. */
export class Daemon implements AsyncDisposable {
  readonly folder = new Folder()
  readonly socketPath = this.folder.file('daemon.sock')
  readonly configPath = this.folder.file('config.json')
  readonly process: ChildProcess
  readonly stdout: Output
  /** Its log. */
  readonly log: Output
  readonly #exit: Promise<Exit>

  private constructor({ config = {}, args = [], main = built('main') }: DaemonSetup) {
    this.configure(config)
    const all = [main, '--socket', this.socketPath, '--config', this.configPath, ...args]
    const child = spawn(process.execPath, all, { stdio: ['ignore', 'pipe', 'pipe'] })
    this.process = child
    this.stdout = new Output(createInterface(child.stdout))
    this.log = new Output(createInterface(child.stderr))
    this.#exit = once(child, 'close').then(([code, signal]) => ({ code, signal }))
  }

  /** Starts one, and waits until it listens. */
  static async start(setup: DaemonSetup = {}): Promise<Daemon> {
    const daemon = new Daemon(setup)
    await daemon.stdout.find(/^listening on unix:/)
    return daemon
  }

  /** Writes its configuration file. */
  configure(config: string | object): void {
    this.folder.write('config.json', config)
  }

  kill(signal: NodeJS.Signals): void {
    this.process.kill(signal)
  }

  /** A client of it. */
  async client(): Promise<Client> {
    return Client.connect(this.socketPath)
  }

  /** How it ended. */
  async exited(): Promise<Exit> {
    return within(this.#exit, `the daemon's exit (log:\n${this.log.lines.join('\n')}\n)`, 20_000)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.process.kill('SIGKILL')
    await this.exited()
    this.folder[Symbol.dispose]()
  }
}

/** A message from the daemon. */
export interface Message {
  id: string | number | null
  ok?: unknown
  error?: { code: string; message: string }
  event?: string
  expirations?: number
  latenessNs?: number
}

/** A client that reads what comes at once, unless it is told not to. */
export class Client implements Disposable {
  readonly messages: Message[] = []
  /** How many of them are no events. */
  answers = 0
  /** Whether the daemon has shut its side. */
  ended = false
  closed = false
  error: Error | undefined
  readonly socket: Socket
  #text = ''
  #next = 0
  #wake: (() => void) | undefined

  private constructor(path: string) {
    this.socket = connect({ path, allowHalfOpen: true })
    this.socket.setEncoding('utf8')
    this.socket.on('data', (text: string) => this.#onText(text))
    this.socket.on('end', () => {
      this.ended = true
      this.#wake?.()
    })
    this.socket.on('error', (error) => (this.error = error))
    this.socket.on('close', () => {
      this.closed = true
      this.#wake?.()
    })
  }

  static async connect(path: string): Promise<Client> {
    const client = new Client(path)
    await within(once(client.socket, 'connect'), 'the connection')
    return client
  }

  /** Writes requests as lines, or text as it is; settles when the kernel has taken it. */
  async write(...requests: (object | string)[]): Promise<void> {
    const text = requests
      .map((item) => (typeof item === 'string' ? item : `${JSON.stringify(item)}\n`))
      .join('')
    await within(new Promise<void>((resolve) => this.socket.write(text, () => resolve())), 'the write')
  }

  /** The next message. */
  async read(what = 'a message'): Promise<Message> {
    await this.#until(() => this.messages.length > this.#next || this.ended || this.closed, what)
    const message = this.messages[this.#next++]
    if (message === undefined)
      throw new Error(`The connection ended before ${what} came`, { cause: this.error })
    return message
  }

  /** Sends one request and reads one message. */
  async ask(request: object): Promise<Message> {
    await this.write(request)
    return this.read(`the answer to ${JSON.stringify(request)}`)
  }

  /** Waits for the daemon's end of stream. */
  async end(): Promise<void> {
    await this.#until(() => this.ended || this.closed, 'the end of the stream')
  }

  /** Waits until it is closed, by whomever. */
  async gone(): Promise<void> {
    await this.#until(() => this.closed, 'the close')
  }

  [Symbol.dispose](): void {
    this.socket.destroy()
  }

  #onText(text: string): void {
    const lines = (this.#text + text).split('\n')
    this.#text = lines.pop() ?? ''
    for (const line of lines) {
      const message = JSON.parse(line) as Message
      this.messages.push(message)
      if (message.event === undefined) this.answers++
    }
    this.#wake?.()
  }

  async #until(condition: () => boolean, what: string): Promise<void> {
    const wait = async (): Promise<void> => {
      while (!condition()) await new Promise<void>((resolve) => (this.#wake = resolve))
    }
    await within(wait(), what, 15_000)
  }
}
