/** Node and a module that imports nothing: says when it has started, in nanoseconds of CLOCK_MONOTONIC: `bare`. */
console.log(JSON.stringify({ started: Number(process.hrtime.bigint()) }))
