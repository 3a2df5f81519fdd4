/** An echo server with Node's own `net`: `net PATH`. */
import { createServer } from 'node:net'

const [path] = process.argv.slice(2)
const server = createServer((socket) => {
  socket.on('data', (bytes) => socket.write(bytes))
})
server.listen({ path, backlog: 4096 }, () => console.log('ready'))
