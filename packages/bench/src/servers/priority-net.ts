/** A flooded echo server with Node's own `net`, as `priority-fd-reactor.ts` is with ours: `priority-net PATH SECONDS`. */
import { createServer } from 'node:net'
import { Flood } from '../flood.js'

const [path = '', seconds] = process.argv.slice(2)
const flood = new Flood(Number(seconds))
const flooded = createServer((socket) => {
  socket.on('data', (bytes) => {
    flood.work()
    socket.write(bytes)
  })
})
const pinged = createServer((socket) => {
  socket.on('data', (bytes: Buffer) => flood.ping(bytes))
  socket.on('end', () => console.log(JSON.stringify(flood.figures())))
})
pinged.listen(`${path}.ping`, () => {
  flooded.listen({ path, backlog: 4096 }, () => console.log('ready'))
})
