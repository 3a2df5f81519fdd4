// timerfd_create(2) and the clocks that it counts on.
#include <sys/timerfd.h>

#include "arguments.h"
#include "environment.h"
#include "exports.h"
#include "syscall.h"

namespace fdr {

namespace {

Napi::Value Create(const Napi::CallbackInfo& info) {
  const int clock = Int(info, 0);
  return Number(info, Environment::Of(info.Env()).Own(Syscall([&] {
    return timerfd_create(clock, TFD_CLOEXEC | TFD_NONBLOCK);
  })));
}

// setTimerFd(fd, flags, first: bigint ns, interval: bigint ns) → 0 | -errno
Napi::Value SetTime(const Napi::CallbackInfo& info) {
  const int fd = Int(info, 0);
  const int flags = Int(info, 1);
  itimerspec timing{};
  timing.it_value = ToTimespec(Int64(info, 2));
  timing.it_interval = ToTimespec(Int64(info, 3));
  return Number(info, Syscall([&] { return timerfd_settime(fd, flags, &timing, nullptr); }));
}

// getTimerFd(fd) → bigint ns until the next expiration, 0n when disarmed | -errno
Napi::Value GetTime(const Napi::CallbackInfo& info) {
  const int fd = Int(info, 0);
  itimerspec timing{};
  const int64_t result = Syscall([&] { return timerfd_gettime(fd, &timing); });
  if (result < 0) return Number(info, result);
  return Napi::BigInt::New(info.Env(), FromTimespec(timing.it_value));
}

// clockNow(clock) → bigint ns
Napi::Value Now(const Napi::CallbackInfo& info) {
  return Napi::BigInt::New(info.Env(), ClockNow(Int(info, 0)));
}

}  // namespace

void ExportTimerFd(Napi::Env env, Napi::Object exports) {
  Export(env, exports, "createTimerFd", Create);
  Export(env, exports, "setTimerFd", SetTime);
  Export(env, exports, "getTimerFd", GetTime);
  Export(env, exports, "clockNow", Now);
}

}  // namespace fdr
