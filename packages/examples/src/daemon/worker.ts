/**
 * The worker thread: does one CPU-bound job after the other, and rings the reactor's eventfd when a result is there.
 *
 * It needs no reactor: the result goes through a MessagePort, and a write to the eventfd wakes the thread that waits for it.
 */
import { workerData, type MessagePort } from 'node:worker_threads'
import { EventFd } from '@fd-reactor/fd-events'
import { countPrimes } from './primes.js'

/** What a worker is started with. */
export interface WorkerStart {
  /** Jobs come from here, and results go there. */
  port: MessagePort
  /** The number of the eventfd to ring. */
  bell: number
}

/** A job. */
export interface Job {
  /** Primes are counted below this. */
  limit: number
}

/** Its result. */
export interface JobResult {
  primes: number
  /** How long it took. */
  ms: number
}

const { port, bell } = workerData as WorkerStart // nobody but the pool starts this file

port.on('message', ({ limit }: Job) => {
  const start = performance.now()
  const result: JobResult = { primes: countPrimes(limit), ms: performance.now() - start }
  port.postMessage(result)
  EventFd.write(bell)
})
