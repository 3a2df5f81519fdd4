/**
 * Worker threads for CPU-bound jobs, and the eventfd with which they wake the reactor.
 *
 * Jobs wait here, in order, and each worker has one at a time; so a worker that dies costs the one job that it had, and the next job
 * starts a new worker. Results are taken from the message ports when the eventfd rings, in the reactor's turn.
 */
import { MessageChannel, receiveMessageOnPort, Worker, type MessagePort } from 'node:worker_threads'
import type { Reactor } from '@fd-reactor/core'
import { EventFd } from '@fd-reactor/fd-events'
import type { Job, JobResult, WorkerStart } from './worker.js'

/** Who asked for a job. */
export interface JobOwner {
  /** When the owner has gone, a job that has not begun is not done. */
  readonly closed: boolean
  onResult(result: JobResult): void
  /** The worker died over it. */
  onFailure(error: Error): void
}

interface Waiting {
  job: Job
  owner: JobOwner
}

/** A fixed number of workers, each started when there is something to do for it. */
export class WorkerPool implements AsyncDisposable {
  readonly #bell: EventFd
  readonly #script: URL
  readonly #slots: Slot[]
  readonly #waiting: Waiting[] = []
  #done = 0
  #failed = 0

  /** `script` is what the workers run. */
  constructor(reactor: Reactor, size: number, script = new URL('worker.js', import.meta.url)) {
    this.#script = script
    this.#slots = Array.from({ length: size }, () => new Slot())
    // Not ref'd: whoever waits for a result keeps the reactor running, the bell alone does not.
    this.#bell = new EventFd(reactor, { ref: false, label: 'WorkerBell' })
    this.#bell.on('event', () => this.#collect())
  }

  /** How many jobs wait for a worker. */
  get waiting(): number {
    return this.#waiting.length
  }

  get stats(): { done: number; failed: number; waiting: number; running: number } {
    const running = this.#slots.filter((slot) => slot.owner !== undefined).length
    return { done: this.#done, failed: this.#failed, waiting: this.waiting, running }
  }

  /** Has a job done; the owner hears of it in a later turn. */
  run(job: Job, owner: JobOwner): void {
    this.#waiting.push({ job, owner })
    this.#assign()
  }

  /** Ends the workers, whatever they are doing. The bell goes last: its number must not be another file's while one may ring it. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#waiting.length = 0
    await Promise.all(this.#slots.map((slot) => slot.stop()))
    this.#bell.close()
  }

  /** Gives waiting jobs to workers that have none. */
  #assign(): void {
    for (const slot of this.#slots) {
      if (slot.owner !== undefined) continue
      const next = this.#next()
      if (next === undefined) return
      if (!slot.started) slot.start(this.#script, this.#bell.fd, (error) => this.#onDeath(slot, error))
      slot.give(next)
    }
  }

  #next(): Waiting | undefined {
    let next = this.#waiting.shift()
    while (next?.owner.closed) next = this.#waiting.shift()
    return next
  }

  #collect(): void {
    for (const slot of this.#slots) this.#take(slot)
    this.#assign()
  }

  #take(slot: Slot): void {
    const taken = slot.take()
    if (taken === undefined) return
    this.#done++
    taken.owner.onResult(taken.result)
  }

  #onDeath(slot: Slot, error: Error): void {
    this.#take(slot) // what it finished before counts
    const owner = slot.clear()
    if (owner !== undefined) {
      this.#failed++
      owner.onFailure(error)
    }
    this.#assign()
  }
}

/** A place for one worker, and the job that it has. */
class Slot {
  #worker: Worker | undefined
  #port: MessagePort | undefined
  owner: JobOwner | undefined

  get started(): boolean {
    return this.#worker !== undefined
  }

  start(script: URL, bell: number, onDeath: (error: Error) => void): void {
    const { port1, port2 } = new MessageChannel()
    const workerData: WorkerStart = { port: port2, bell }
    const worker = new Worker(script, { workerData, transferList: [port2] })
    let reason: Error | undefined
    worker.on('error', (error) => (reason = error))
    worker.on('exit', (code) => {
      if (this.#worker === worker) onDeath(reason ?? new Error(`The worker exited with code ${code}`))
    })
    this.#worker = worker
    this.#port = port1
  }

  give({ job, owner }: Waiting): void {
    this.owner = owner
    this.#port?.postMessage(job)
  }

  /** The result of the job, if it is there. */
  take(): { result: JobResult; owner: JobOwner } | undefined {
    const owner = this.owner
    const received: { message: JobResult } | undefined = this.#port && receiveMessageOnPort(this.#port)
    if (received === undefined || owner === undefined) return undefined
    this.owner = undefined
    return { result: received.message, owner }
  }

  /** Forgets a worker that has died; returns whose job it had. */
  clear(): JobOwner | undefined {
    const owner = this.owner
    this.#port?.close()
    this.#worker = this.#port = this.owner = undefined
    return owner
  }

  async stop(): Promise<void> {
    const worker = this.#worker
    this.clear()
    await worker?.terminate()
  }
}
