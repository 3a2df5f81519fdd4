/**
 * Messages from one thread to another: `threads channel|port object|json|bytes SECONDS` prints how many a second.
 *
 * The receiver tells each time that it has taken another thousand, and the sender keeps a few thousand on the way: a MessagePort has no
 * limit of its own.
 */
import { isMainThread, MessageChannel, MessagePort, Worker, workerData } from 'node:worker_threads'
import { Reactor } from '@fd-reactor/core'
import { Channel, type ChannelEnd } from '@fd-reactor/fd-events'

const STEP = 1000
const AHEAD = 8 * STEP
const OBJECT = { id: 1, name: 'temperature', value: 21.5, tags: ['a', 'b'] }
const BYTES = new Uint8Array(64)

const CODECS = {
  object: 'structured',
  json: {
    encode: (value: unknown): Uint8Array => Buffer.from(JSON.stringify(value)),
    decode: (bytes: Buffer): unknown => JSON.parse(bytes.toString()),
  },
  bytes: 'bytes',
} as const
type Kind = keyof typeof CODECS

/** What both have in common. */
interface Lane {
  send(value: unknown): void
  listen(heard: () => void): void
}

const laneOf = (end: MessagePort | Channel): Lane =>
  end instanceof MessagePort
    ? { send: (value) => end.postMessage(value), listen: (heard) => void end.on('message', heard) }
    : { send: (value) => end.send(value), listen: (heard) => void end.on('message', heard) }

/** Sends without end, and prints how many a second were taken after a quarter of the time. */
function send(lane: Lane, value: unknown, seconds: number): void {
  let sent = 0
  let taken = 0
  const go = (): void => {
    for (; sent < taken + AHEAD; sent++) lane.send(value)
  }
  lane.listen(() => {
    taken += STEP
    go()
  })
  go()
  setTimeout(() => {
    const before = { taken, at: performance.now() }
    setTimeout(() => {
      const messagesPerSecond = ((taken - before.taken) / (performance.now() - before.at)) * 1000
      console.log(JSON.stringify({ messagesPerSecond }))
      process.exit()
    }, seconds * 1000)
  }, seconds * 250)
}

function receive(lane: Lane, value: unknown): void {
  let taken = 0
  lane.listen(() => {
    if (++taken % STEP === 0) lane.send(value)
  })
}

if (isMainThread) {
  const [how, kind, seconds] = process.argv.slice(2) as [string, Kind, string]
  const value = kind === 'bytes' ? BYTES : OBJECT
  const ports = new MessageChannel()
  const channel = how === 'channel' ? Channel.create(new Reactor(), { codec: CODECS[kind] }) : undefined
  const end = channel?.there ?? ports.port2
  const transferList = [end instanceof MessagePort ? end : end.port]
  new Worker(new URL(import.meta.url), { workerData: { end, kind, value }, transferList })
  send(laneOf(channel ?? ports.port1), value, Number(seconds))
} else {
  const { end, kind, value } = workerData as { end: MessagePort | ChannelEnd; kind: Kind; value: unknown }
  const codec = CODECS[kind]
  receive(laneOf(end instanceof MessagePort ? end : Channel.open(new Reactor(), end, { codec })), value)
}
