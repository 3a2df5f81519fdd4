/** An echo server in Bun: `bun echo-bun.mjs PATH`. A connection is not read while what found no room in its socket waits. */
const [path] = process.argv.slice(2)

/** Writes what the socket takes; whether that was all. */
function flush(socket) {
  const [bytes] = socket.data
  const written = Math.max(socket.write(bytes), 0)
  if (written === bytes.length) return socket.data.shift() !== undefined
  socket.data[0] = bytes.subarray(written)
  return false
}

globalThis.Bun.listen({
  unix: path,
  socket: {
    open(socket) {
      socket.data = []
    },
    data(socket, bytes) {
      const waiting = socket.data
      if (waiting.length === 0) {
        const written = Math.max(socket.write(bytes), 0)
        if (written === bytes.length) return
        bytes = bytes.subarray(written)
      }
      waiting.push(Uint8Array.from(bytes))
      socket.pause()
    },
    drain(socket) {
      while (socket.data.length > 0) if (!flush(socket)) return
      socket.resume()
    },
  },
})
console.log('ready')
