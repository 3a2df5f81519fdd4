import { createHash } from 'node:crypto'
import { once as onceEvent } from 'node:events'
import { existsSync, mkdirSync, writeFileSync } from 'node:fs'
import {
  Agent,
  createServer,
  request,
  type ClientRequest,
  type IncomingMessage,
  type RequestOptions,
} from 'node:http'
import { createServer as createNetServer } from 'node:net'
import { dirname, join } from 'node:path'
import { Readable, type Duplex } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import type { Reactor } from '@fd-reactor/core'
import { TcpListener, TcpStream, toDuplex, UnixListener, UnixStream } from '@fd-reactor/fd-events'
import { describe, expect, onTestFinished, test } from 'vitest'
import { assertNoLeakedFds } from '../../core/test/support/fds.js'
import { openReactor, socketPath } from '../../core/test/support/reactors.js'
import { until, within } from '../../core/test/support/wait.js'
import { ended, isMissing, pattern, run, serve, start } from './duplex-helpers.js'
import { errorCode, netClient } from './unix-helpers.js'

assertNoLeakedFds()

const MEGABYTES = pattern(8 << 20)
const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex')
const SUM = sha256(MEGABYTES)

/** Answers a body with its checksum, `/bytes` with megabytes, and the rest with the path. */
function sums() {
  return createServer((req, res) => {
    if (req.method === 'GET') return void res.end(req.url === '/bytes' ? MEGABYTES : req.url)
    const hash = createHash('sha256')
    pipeline(req, hash).then(
      () => res.end(hash.digest('hex')),
      () => res.destroy(),
    )
  })
}

/** An agent whose connections are ours; it counts them. */
class UnixAgent extends Agent {
  connections = 0

  constructor(
    readonly reactor: Reactor,
    readonly path: string,
  ) {
    super({ keepAlive: true })
    onTestFinished(() => this.destroy())
  }

  override createConnection(
    _options: object,
    done?: (error: Error | null, socket: Duplex) => void,
  ): undefined {
    this.connections++
    void UnixStream.connect(this.reactor, this.path).then((stream) => done?.(null, toDuplex(stream)))
  }
}

/** Sends a request, and gives the answer with its body. */
async function ask(
  options: RequestOptions,
  body?: Uint8Array,
): Promise<{ status: number | undefined; body: Buffer }> {
  const req = request(options)
  const answer = onceEvent(req, 'response')
  req.on('error', () => undefined) // it may fail to send a body that nobody wants, and has its answer all the same
  req.end(body)
  const [res]: IncomingMessage[] = await within(answer, 'the answer')
  return { status: res?.statusCode, body: Buffer.concat((await res?.toArray()) ?? []) }
}

describe('a server of node:http, asked by curl', () => {
  const curl = async (path: string, args: string[], input: Uint8Array | string = '') =>
    run('curl', ['-sS', '--unix-socket', path, ...args], input)

  test('keeps a connection for the next request', async ({ skip }) => {
    skip(isMissing('curl'), 'curl is not installed')
    const path = serve(openReactor(), sums())
    const { stdout, stderr } = await curl(path, [
      '-w',
      ' over %{num_connects} new\n',
      'http://x/one',
      'http://x/two',
    ])
    expect(stderr).toBe('')
    expect(String(stdout)).toBe('/one over 1 new\n/two over 0 new\n')
  })

  test('takes megabytes in chunks, and gives them', async ({ skip }) => {
    skip(isMissing('curl'), 'curl is not installed')
    const path = serve(openReactor(), sums())
    const up = await curl(path, ['-H', 'Transfer-Encoding: chunked', '-T', '-', 'http://x/'], MEGABYTES)
    expect(String(up.stdout)).toBe(SUM)
    const down = await curl(path, ['http://x/bytes'])
    expect(sha256(down.stdout)).toBe(SUM)
  })

  test('answers 100 requests in a row and 100 at a time', async ({ skip }) => {
    skip(isMissing('curl'), 'curl is not installed')
    const path = serve(openReactor(), sums())
    const row = await curl(path, ['http://x/[1-100]'])
    const paths = Array.from({ length: 100 }, (_, n) => `/${n + 1}`)
    expect(String(row.stdout)).toBe(paths.join(''))
    const crowd = await curl(path, ['-Z', '--parallel-max', '100', 'http://x/[1-100]'])
    expect(crowd.stderr).not.toMatch(/curl: \(/)
    expect(String(crowd.stdout).match(/\/\d+/g)?.sort()).toEqual(paths.sort())
  })

  test('hears of a client that goes, while it answers and while it is asked', async ({ skip }) => {
    skip(isMissing('curl'), 'curl is not installed')
    const server = createServer()
    const path = serve(openReactor(), server)
    const received = async (): Promise<[IncomingMessage, Duplex & { write: Duplex['write'] }]> => {
      const [req, res] = await within(onceEvent(server, 'request'))
      return [req, res]
    }
    const downloads = start('curl', ['-sS', '--unix-socket', path, 'http://x/'])
    const [, res] = await received()
    const endless = pipeline(new Readable({ read: (size) => void size, highWaterMark: 1 }), res).catch(
      errorCode,
    )
    res.write(MEGABYTES)
    await within(onceEvent(downloads.stdout, 'data'))
    downloads.kill('SIGKILL')
    expect(await within(endless)).toBe('ERR_STREAM_PREMATURE_CLOSE')

    const uploads = start('curl', ['-sS', '--unix-socket', path, '-H', 'Expect:', '-T', '-', 'http://x/'])
    uploads.stdin.write('the beginning')
    const [req] = await received()
    await within(onceEvent(req, 'data'))
    const error = onceEvent(req, 'error')
    uploads.kill('SIGKILL')
    expect(errorCode((await within(error))[0])).toBe('ECONNRESET')
  })
})

describe('over TCP', () => {
  test.each(['127.0.0.1', '::1'])('a client is answered, and known by its address, on %s', async (host) => {
    const reactor = openReactor()
    const listener = TcpListener.listen(reactor, { host })
    const server = createServer(({ socket }, res) => {
      const { remoteAddress, remotePort, localAddress, localPort } = socket
      res.end(JSON.stringify({ remoteAddress, remotePort, localAddress, localPort }))
    })
    listener.on('connection', (stream) => server.emit('connection', toDuplex(stream)))
    const { port } = listener.address
    const stream = await TcpStream.connect(reactor, { host, port })
    const { body } = await ask({ createConnection: () => toDuplex(stream) })
    expect(JSON.parse(String(body))).toEqual({
      remoteAddress: host,
      remotePort: expect.any(Number),
      localAddress: host,
      localPort: port,
    })
    listener.close()
  })
})

describe("Debian's nginx", () => {
  /** Starts nginx, which passes all on to `upstream` but `/files/`; returns where it listens. */
  async function startNginx(reactor: Reactor, upstream: string): Promise<string> {
    const path = socketPath()
    const folder = dirname(path)
    mkdirSync(join(folder, 'files'))
    writeFileSync(join(folder, 'files/bytes'), MEGABYTES)
    const kinds = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi']
    const config = `
      daemon off; master_process off; pid ${folder}/pid; error_log ${folder}/log;
      events { worker_connections 256; }
      http {
        access_log off; client_max_body_size 16m;
        ${kinds.map((kind) => `${kind}_temp_path ${folder}/${kind};`).join(' ')}
        upstream ours { server unix:${upstream}; keepalive 4; }
        server {
          listen unix:${path};
          location / {
            proxy_pass http://ours; proxy_http_version 1.1; proxy_set_header Connection "";
            proxy_request_buffering off; proxy_buffering off;
          }
          location /files/ { root ${folder}; }
          location /small { client_max_body_size 1k; proxy_pass http://ours; }
        }
      }`
    writeFileSync(join(folder, 'conf'), config)
    const nginx = start('nginx', ['-p', folder, '-c', join(folder, 'conf'), '-e', join(folder, 'log')])
    onTestFinished(async () => {
      nginx.kill('SIGTERM')
      await ended(nginx)
    })
    let listening = false
    while (!listening) {
      if (nginx.exitCode !== null) throw new Error(`nginx ended with ${nginx.exitCode}`)
      await within(until(() => existsSync(path) || nginx.exitCode !== null, 'the socket of nginx'))
      const probe = await UnixStream.connect(reactor, path).catch(() => undefined)
      listening = probe !== undefined
      probe?.destroy()
    }
    return path
  }

  test('asks us, over connections that it keeps', async ({ skip }) => {
    skip(isMissing('nginx'), 'nginx is not installed')
    skip(isMissing('curl'), 'curl is not installed')
    const reactor = openReactor()
    const server = sums()
    let connections = 0
    server.on('connection', () => connections++)
    const path = await startNginx(reactor, serve(reactor, server))
    const curl = async (args: string[], input: Uint8Array | string = '') =>
      run('curl', ['-sS', '--unix-socket', path, ...args], input)
    const row = await curl(['http://x/[1-100]'])
    expect(String(row.stdout)).toBe(Array.from({ length: 100 }, (_, n) => `/${n + 1}`).join(''))
    expect(connections).toBe(1)
    const crowd = await curl(['-Z', '--parallel-max', '20', 'http://x/[1-100]'])
    expect(String(crowd.stdout).match(/\/\d+/g)).toHaveLength(100)
    const up = await curl(['-H', 'Transfer-Encoding: chunked', '-T', '-', 'http://x/'], MEGABYTES)
    expect(String(up.stdout)).toBe(SUM)
    expect(sha256((await curl(['http://x/bytes'])).stdout)).toBe(SUM)
  })

  test('is asked by us: a kept connection, many at once, files, and what is too large for it', async ({
    skip,
  }) => {
    skip(isMissing('nginx'), 'nginx is not installed')
    const reactor = openReactor()
    const path = await startNginx(reactor, serve(reactor, sums()))
    const agent = new UnixAgent(reactor, path)
    for (let n = 0; n < 100; n++) expect(String((await ask({ agent, path: `/${n}` })).body)).toBe(`/${n}`)
    expect(agent.connections).toBe(1)
    const answers = await Promise.all(
      Array.from({ length: 100 }, async (_, n) => ask({ agent, path: `/${n}` })),
    )
    expect(answers.map(({ body }) => String(body))).toEqual(Array.from({ length: 100 }, (_, n) => `/${n}`))
    expect(sha256((await ask({ agent, path: '/files/bytes' })).body)).toBe(SUM)
    expect(String((await ask({ agent, method: 'POST' }, MEGABYTES)).body)).toBe(SUM)
    const refused = await ask({ agent, path: '/small', method: 'POST' }, MEGABYTES)
    expect([refused.status, String(refused.body)]).toEqual([413, expect.stringContaining('Too Large')])
  })
})

describe('node:http on both sides', () => {
  test('an answer comes through although the server closes without reading the question', async () => {
    const reactor = openReactor()
    const path = socketPath()
    const rude = createNetServer((socket) => {
      socket.on('error', () => undefined)
      socket.once('readable', () => {
        socket.read(1000)
        socket.write('HTTP/1.1 413 Content Too Large\r\nContent-Length: 8\r\n\r\ntoo much', () =>
          socket.destroy(),
        )
      })
    })
    rude.listen(path)
    await onceEvent(rude, 'listening')
    const socket = toDuplex(await UnixStream.connect(reactor, path))
    const answer = await ask({ method: 'POST', createConnection: () => socket }, MEGABYTES)
    expect([answer.status, String(answer.body)]).toEqual([413, 'too much'])
    await until(() => socket.closed)
    rude.close()
  })

  test('an upgrade hands both ends over, with what came along', async () => {
    const reactor = openReactor()
    const server = createServer()
    server.on('upgrade', (_req: IncomingMessage, socket: Duplex, head: Buffer) => {
      socket.write('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n')
      socket.write(head)
      socket.pipe(socket)
    })
    const agent = new UnixAgent(reactor, serve(reactor, server))
    const req = request({ agent, headers: { connection: 'Upgrade', upgrade: 'echo' } })
    req.end()
    const [, socket, head]: [IncomingMessage, Duplex, Buffer] = await within(upgradeOf(req))
    if (head.length > 0) socket.unshift(head)
    socket.end('hello')
    expect(Buffer.concat(await within(socket.toArray())).toString()).toBe('hello')
  })

  test("the server's own limits for one connection work: keepAliveTimeout, timeout", async () => {
    const reactor = openReactor()
    const server = createServer((req, res) => (req.url === '/wait' ? undefined : res.end('ok')))
    const path = serve(reactor, server)
    server.keepAliveTimeout = 30
    const kept = await netClient(path)
    kept.write('GET / HTTP/1.1\r\nHost: x\r\n\r\n')
    expect(Buffer.concat(await within(kept.toArray())).toString()).toMatch(/ok$/)
    server.timeout = 30
    const slow = await netClient(path)
    slow.write('GET /wait HTTP/1.1\r\nHost: x\r\n\r\n')
    expect(await within(slow.toArray())).toEqual([])
  })

  test("what looks at all connections works from 'listening' on: headersTimeout, closeAllConnections()", async () => {
    const server = createServer({ headersTimeout: 50, connectionsCheckingInterval: 20 })
    const path = serve(openReactor(), server)
    server.emit('listening')
    const slow = await netClient(path)
    slow.write('GET / HT')
    expect(Buffer.concat(await within(slow.toArray())).toString()).toMatch(/^HTTP\/1\.1 408 Request Timeout/)
    const waiting = await netClient(path)
    const asked = onceEvent(server, 'request')
    waiting.write('GET / HTTP/1.1\r\nHost: x\r\n\r\n')
    await within(asked)
    server.closeAllConnections()
    expect(await within(waiting.toArray())).toEqual([])
  })

  test('an idle connection of an agent keeps no process going, one in use does', async () => {
    const reactor = openReactor()
    const listener = UnixListener.listen(reactor, socketPath())
    listener.unref()
    const server = sums()
    listener.on('connection', (stream) => server.emit('connection', toDuplex(stream).unref()))
    const agent = new UnixAgent(reactor, listener.path)
    const refs = (): number =>
      reactor.sources().filter(({ label, ref }) => ref && label.startsWith('UnixStream')).length
    await ask({ agent, path: '/' })
    await until(() => refs() === 0)
    const answer = ask({ agent, path: '/again' })
    expect(refs()).toBe(1)
    await answer
    expect(agent.connections).toBe(1)
    server.close()
  })
})

async function upgradeOf(req: ClientRequest): Promise<[IncomingMessage, Duplex, Buffer]> {
  return new Promise((resolve) => req.on('upgrade', (res, socket, head) => resolve([res, socket, head])))
}
