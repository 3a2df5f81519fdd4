import { describe, expect, test } from 'vitest'
import { runScript } from './support/child.js'
import { assertNoLeakedFds } from './support/fds.js'

assertNoLeakedFds()

/**
 * Whoever borrows bytes holds the slab's buffer, and may try to move it away. Node may refuse or do it; what must not happen
 * is that memory which native code writes to is freed, or that the reactor stops delivering without a word.
 */
describe('moving the slab away under a borrowed view', () => {
  const moves: [name: string, move: string][] = [
    ['structuredClone', 'structuredClone(bytes.buffer, { transfer: [bytes.buffer] })'],
    ['postMessage to a port', 'new MessageChannel().port1.postMessage(bytes.buffer, [bytes.buffer])'],
    ['ArrayBuffer.prototype.transfer', 'bytes.buffer.transfer?.()'],
    ['postMessage to a worker', 'worker.postMessage(bytes.buffer, [bytes.buffer])'],
  ]
  test.each(moves)('%s', async (_, move) => {
    const { code, signal, stdout, stderr } = await runScript(
      `
      import { Worker } from 'node:worker_threads'
      const script = 'require("worker_threads").parentPort.on("message", (buffer) => new Uint8Array(buffer).fill(1))'
      const worker = new Worker(script, { eval: true, execArgv: [] })
      const reactor = new Reactor()
      const listener = UnixListener.listen(reactor, path, { borrow: true })
      let moved = 'refused'
      let rounds = 0
      listener.on('connection', (stream) => stream.on('data', (bytes) => {
        const text = String(bytes)
        try { let away = ${move}; moved = 'moved'; away = undefined } catch {}
        gc()
        stream.write(text)
      }))
      const client = await UnixStream.connect(reactor, path)
      const sent = 'x'.repeat(1000)
      client.on('data', (bytes) => {
        gc()
        if (String(bytes) !== sent) { console.log('damaged', moved, rounds); process.exit(1) }
        if (++rounds === 50) { console.log(moved, rounds); process.exit() }
        client.write(sent)
      })
      client.write(sent)
      setTimeout(() => { console.log('stalled', moved, rounds); process.exit(1) }, 5000)`,
      { execArgv: ['--expose-gc'] },
    )
    expect(signal).toBeNull()
    if (code === 0) expect(stdout.trim()).toMatch(/^(refused|moved) 50$/)
    else expect(stderr).toMatch(/detached ArrayBuffer[^]*source: 'UnixStream/) // told, not ignored (transfer() of Node 22)
  })
})
