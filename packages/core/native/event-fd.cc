// eventfd(2).
#include <fcntl.h>
#include <sys/eventfd.h>

#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "arguments.h"
#include "environment.h"
#include "exports.h"
#include "syscall.h"

namespace fdr {

namespace {

constexpr uint64_t kMaxCount = UINT64_MAX - 1;

// The counter of an eventfd, as its fdinfo tells it without changing it.
bool ReadCount(int fd, uint64_t* count) {
  char path[64];
  snprintf(path, sizeof path, "/proc/self/fdinfo/%d", fd);
  const int64_t info = Syscall([&] { return open(path, O_RDONLY | O_CLOEXEC); });
  if (info < 0) return false;
  char text[512];
  const int64_t size = Syscall([&] { return read(static_cast<int>(info), text, sizeof text - 1); });
  CloseFd(static_cast<int>(info));
  if (size < 0) return false;
  text[size] = '\0';
  const char* found = strstr(text, "eventfd-count:");
  return found != nullptr && sscanf(found, "eventfd-count: %" SCNx64, count) == 1;
}

// createEventFd(initial: bigint, semaphore) → fd. eventfd(2) takes 32 bits; more is written afterwards.
Napi::Value Create(const Napi::CallbackInfo& info) {
  const uint64_t initial = Uint64(info, 0);
  const int flags = EFD_CLOEXEC | EFD_NONBLOCK | (Flag(info, 1) ? EFD_SEMAPHORE : 0);
  const int64_t fd = Environment::Of(info.Env()).Own(Syscall([&] { return eventfd(0, flags); }));
  if (fd >= 0 && initial > 0)
    Syscall([&] { return eventfd_write(static_cast<int>(fd), initial); });  // new: has room
  return Number(info, fd);
}

// writeEventFd(fd, value: bigint) → 0 | -EAGAIN when the counter has no room for it | -errno
Napi::Value Write(const Napi::CallbackInfo& info) {
  const int fd = Int(info, 0);
  const uint64_t value = Uint64(info, 1);
  // eventfd has no write that is told not to block; if another holder cleared O_NONBLOCK, we look before we
  // leap.
  const int64_t flags = Syscall([&] { return fcntl(fd, F_GETFL); });
  if (flags < 0) return Number(info, flags);
  uint64_t count = 0;
  if ((flags & O_NONBLOCK) == 0 && ReadCount(fd, &count) && value > kMaxCount - count)
    return Number(info, -EAGAIN);
  return Number(info, Syscall([&] { return eventfd_write(fd, value); }));
}

}  // namespace

void ExportEventFd(Napi::Env env, Napi::Object exports) {
  Export(env, exports, "createEventFd", Create);
  Export(env, exports, "writeEventFd", Write);
}

}  // namespace fdr
