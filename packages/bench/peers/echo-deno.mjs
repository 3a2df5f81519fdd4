/** An echo server in Deno: `deno run --allow-all echo-deno.mjs PATH`. */
const { Deno } = globalThis
const [path] = Deno.args
const listener = Deno.listen({ transport: 'unix', path })
console.log('ready')
for await (const connection of listener) void echo(connection)

async function echo(connection) {
  const buffer = new Uint8Array(65536)
  try {
    for (;;) {
      const length = await connection.read(buffer)
      if (length === null) return
      let written = await connection.write(buffer.subarray(0, length))
      while (written < length) written += await connection.write(buffer.subarray(written, length))
    }
  } finally {
    connection.close()
  }
}
