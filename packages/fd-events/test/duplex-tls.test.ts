import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once as onceEvent } from 'node:events'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { createServer } from 'node:https'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import type { Readable } from 'node:stream'
import { connect, createServer as createTlsServer, TLSSocket } from 'node:tls'
import { once } from '@fd-reactor/core'
import { listen, toDuplex, UnixStream } from '@fd-reactor/fd-events'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { assertNoLeakedFds } from '../../core/test/support/fds.js'
import { openReactor, socketPath } from '../../core/test/support/reactors.js'
import { until, within } from '../../core/test/support/wait.js'
import { duplexPair, isMissing, pattern, run, serve, start } from './duplex-helpers.js'
import { errorCode } from './unix-helpers.js'

assertNoLeakedFds()

const MEGABYTES = pattern(4 << 20)
let folder = ''
let keyFile = ''
let certFile = ''
let key: Buffer
let cert: Buffer

const missing = isMissing('openssl')

beforeAll(() => {
  if (missing) return
  folder = mkdtempSync(join(tmpdir(), 'fd-reactor-'))
  keyFile = join(folder, 'key.pem')
  certFile = join(folder, 'cert.pem')
  const subject = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost']
  const kind = ['-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2']
  execFileSync('openssl', ['req', ...kind, '-keyout', keyFile, '-out', certFile, ...subject], {
    stdio: 'pipe',
  })
  key = readFileSync(keyFile)
  cert = readFileSync(certFile)
})

afterAll(() => {
  if (folder !== '') rmSync(folder, { recursive: true })
})

describe('TLS over our streams', () => {
  beforeEach(({ skip }) => {
    skip(missing, 'openssl is not installed')
  })

  test.each([
    { how: 'a Unix socket', address: () => `unix:${socketPath()}`, option: '-unix' },
    { how: 'TCP', address: () => 'tcp://127.0.0.1:0', option: '-connect' },
  ])(
    'openssl s_client talks to a TLSSocket over $how, and both ends say goodbye',
    async ({ address, option }) => {
      const reactor = openReactor()
      const listener = listen(reactor, address(), { allowHalfOpen: true })
      const connection = once(listener, 'connection')
      const client = start('openssl', [
        ...['s_client', option, listener.uri.replace(/^(unix:|tcp:\/\/)/, ''), '-CAfile', certFile],
        ...[
          '-servername',
          'localhost',
          '-verify_hostname',
          'localhost',
          '-verify_return_error',
          '-quiet',
          '-no_ign_eof',
        ],
      ])
      const duplex = toDuplex((await within(connection))[0])
      const secure = new TLSSocket(duplex, { isServer: true, key, cert })
      client.stdin.write('hello\n')
      expect(String((await within(onceEvent(secure, 'data')))[0])).toBe('hello\n')
      expect(secure.getProtocol()).toBe('TLSv1.3')
      secure.write('hello yourself\n')
      expect(String((await within(onceEvent(client.stdout, 'data')))[0])).toBe('hello yourself\n')
      const end = onceEvent(secure.resume(), 'end')
      client.stdin.end()
      await within(end)
      secure.end()
      await within(onceEvent(client, 'close'))
      expect(client.exitCode).toBe(0)
      await until(() => duplex.closed && secure.closed)
      listener.close()
    },
  )

  test('curl asks a server of node:https', async ({ skip }) => {
    skip(isMissing('curl'), 'curl is not installed')
    const server = createServer({ key, cert }, (req, res) => {
      if (req.method === 'GET') return void res.end(MEGABYTES)
      const hash = createHash('sha256')
      req.pipe(hash).on('finish', () => res.end(hash.digest('hex')))
    })
    const path = serve(openReactor(), server)
    const curl = async (args: string[], input: Uint8Array | string = '') =>
      run('curl', ['-sS', '--unix-socket', path, '--cacert', certFile, ...args, 'https://localhost/'], input)
    const up = await curl(['-H', 'Transfer-Encoding: chunked', '-T', '-'], MEGABYTES)
    expect(up.stderr).toBe('')
    expect(String(up.stdout)).toBe(createHash('sha256').update(MEGABYTES).digest('hex'))
    expect((await curl([])).stdout.equals(MEGABYTES)).toBe(true)
  })

  test('tls.connect() reaches openssl s_server', async () => {
    const reactor = openReactor()
    const path = socketPath()
    const server = start('openssl', ['s_server', '-unix', path, '-key', keyFile, '-cert', certFile, '-rev'])
    await within(saysAccept(server.stdout))
    const duplex = toDuplex(await UnixStream.connect(reactor, path))
    const secure = connect({ socket: duplex, ca: cert, servername: 'localhost' })
    await within(onceEvent(secure, 'secureConnect'))
    expect(secure.authorized).toBe(true)
    secure.write('stressed\n')
    expect(String((await within(onceEvent(secure, 'data')))[0])).toBe('desserts\n')
    secure.end()
    await until(() => duplex.closed)
    server.kill()
    await within(onceEvent(server, 'close'))
  })

  test('megabytes in both directions at once', async () => {
    const [one, other] = await duplexPair(openReactor(), { allowHalfOpen: true })
    const server = new TLSSocket(one, { isServer: true, key, cert })
    const client = connect({ socket: other, ca: cert, servername: 'localhost' })
    server.end(MEGABYTES)
    client.end(MEGABYTES)
    const [there, back] = await within(Promise.all([server.toArray(), client.toArray()]))
    expect(Buffer.concat(there).equals(MEGABYTES)).toBe(true)
    expect(Buffer.concat(back).equals(MEGABYTES)).toBe(true)
    await until(() => one.closed && other.closed)
  })

  test('a peer that does not speak TLS, and one that goes in the middle, are errors', async () => {
    const reactor = openReactor()
    const [one, other] = await duplexPair(reactor)
    const server = createTlsServer({ key, cert })
    const failed = onceEvent(server, 'tlsClientError')
    server.emit('connection', one)
    other.on('error', () => undefined)
    other.end('GET / HTTP/1.1\r\n\r\n')
    expect(errorCode((await within(failed))[0])).toBe('ERR_SSL_HTTP_REQUEST')
    await until(() => one.closed)

    const [silent, hasty] = await duplexPair(reactor)
    const client = connect({ socket: hasty, ca: cert, servername: 'localhost' })
    const error = onceEvent(client, 'error')
    silent.destroy()
    expect(errorCode((await within(error))[0])).toBe('ECONNRESET')
    other.destroy()
  })
})

/** s_server says so once it listens. */
async function saysAccept(output: Readable): Promise<void> {
  for await (const line of createInterface(output)) {
    if (line.startsWith('ACCEPT')) return
  }
}
