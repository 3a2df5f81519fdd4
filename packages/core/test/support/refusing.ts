/**
 * A kernel that refuses a system call, as an older one or one that was built otherwise would: by a seccomp filter, for a command and its children.
 */
import { spawnSync } from 'node:child_process'
import type { TestContext } from 'vitest'

const FILTER = `
import ctypes, os, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
numbers = {'x86_64': {'socket': 41, 'setsockopt': 54, 'getsockopt': 55}, 'aarch64': {'socket': 198, 'setsockopt': 208, 'getsockopt': 209}}
number = numbers[os.uname().machine][sys.argv[1]]
argument, value, errno = map(int, sys.argv[2:5])
one = lambda code, true, false, value: struct.pack('HBBI', code, true, false, value)
program = b''.join([
    one(0x20, 0, 0, 0), one(0x15, 0, 3, number),  # which call
    one(0x20, 0, 0, 16 + 8 * argument), one(0x15, 0, 1, value),
    one(6, 0, 0, 0x00050000 | errno), one(6, 0, 0, 0x7fff0000)])  # refused, or let through
code = ctypes.create_string_buffer(program)
filter = ctypes.create_string_buffer(struct.pack('HP', 6, ctypes.addressof(code)))
if libc.prctl(38, 1, 0, 0, 0) != 0 or libc.prctl(22, 2, filter, 0, 0) != 0: sys.exit(1)
os.execvp(sys.argv[5], sys.argv[5:])`

/** What runs a command for which `call` fails with `errno` when its `argument` is `value`; skips the test where that cannot be. */
export function refusing(
  { skip }: TestContext,
  call: 'socket' | 'setsockopt' | 'getsockopt',
  argument: number,
  value: number,
  errno: number,
): string[] {
  const under = ['-c', FILTER, call, ...[argument, value, errno].map(String)]
  skip(
    spawnSync('python3', [...under, 'true']).status !== 0,
    'python3, which lets the kernel refuse the call by seccomp, is missing or may not',
  )
  return ['python3', ...under]
}
