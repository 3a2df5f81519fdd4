// Locks on ranges of a file that belong to the open file, not to the process (open file description locks):
// two of them in one process exclude each other as those of two processes do.
#include <fcntl.h>

#include "arguments.h"
#include "exports.h"
#include "syscall.h"

namespace fdr {

namespace {

struct flock Range(const Napi::CallbackInfo& info, short type) {
  struct flock range {};  // l_pid must be 0
  range.l_type = type;
  range.l_whence = SEEK_SET;
  range.l_start = Int64(info, 2);
  range.l_len = Int64(info, 3);  // 0: to the end, wherever that will be
  return range;
}

// lockRange(fd, exclusive, offset, length) → 0 | -EAGAIN when somebody else has it | -errno
Napi::Value Lock(const Napi::CallbackInfo& info) {
  const int fd = Int(info, 0);
  struct flock range = Range(info, Flag(info, 1) ? F_WRLCK : F_RDLCK);
  const int64_t result = Syscall([&] { return fcntl(fd, F_OFD_SETLK, &range); });
  return Number(info, result == -EACCES ? -EAGAIN : result);  // POSIX allows both
}

// unlockRange(fd, _, offset, length) → 0 | -errno
Napi::Value Unlock(const Napi::CallbackInfo& info) {
  const int fd = Int(info, 0);
  struct flock range = Range(info, F_UNLCK);
  return Number(info, Syscall([&] { return fcntl(fd, F_OFD_SETLK, &range); }));
}

// lockHolder(fd, exclusive, offset, length) → the pid of one who is in the way | -1 when the kernel does not
// know it, as for locks of this kind | 0 when nobody is
Napi::Value Holder(const Napi::CallbackInfo& info) {
  const int fd = Int(info, 0);
  struct flock range = Range(info, Flag(info, 1) ? F_WRLCK : F_RDLCK);
  const int64_t failed = Syscall([&] { return fcntl(fd, F_OFD_GETLK, &range); });
  if (failed < 0) return Number(info, -1);
  return Number(info, range.l_type == F_UNLCK ? 0 : range.l_pid);
}

}  // namespace

void ExportFileLock(Napi::Env env, Napi::Object exports) {
  Export(env, exports, "lockRange", Lock);
  Export(env, exports, "unlockRange", Unlock);
  Export(env, exports, "lockHolder", Holder);
}

}  // namespace fdr
