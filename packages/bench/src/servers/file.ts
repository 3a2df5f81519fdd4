/** Sends FILE to whoever connects: `file PATH ours|net FILE`. */
import { createReadStream } from 'node:fs'
import { createServer } from 'node:net'
import { Reactor } from '@fd-reactor/core'
import { sendFile, UnixListener } from '@fd-reactor/fd-events'

const [path = '', kind = '', file = ''] = process.argv.slice(2)

if (kind === 'ours') {
  const reactor = new Reactor()
  UnixListener.listen(reactor, path).on('connection', (stream) => {
    void sendFile(stream, file)
    stream.end()
  })
  console.log('ready')
} else {
  const server = createServer((socket) => createReadStream(file).pipe(socket))
  server.listen(path, () => console.log('ready'))
}
