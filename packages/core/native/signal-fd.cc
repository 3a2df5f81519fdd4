// signalfd(2), the mask that makes it safe (signal-mask.cc), and the pipe that catches what slips past the
// mask.
#include <fcntl.h>
#include <sys/signalfd.h>

#include <string>
#include <vector>

#include "arguments.h"
#include "environment.h"
#include "exports.h"
#include "signal-mask.h"
#include "syscall.h"

namespace fdr {

namespace {

sigset_t ToSigset(SignalSet set) {
  sigset_t signals;
  sigemptyset(&signals);
  for (int signo = 1; signo <= 64; signo++) {
    if (set >> (signo - 1) & 1) sigaddset(&signals, signo);
  }
  return signals;
}

// openSignalFd(fd or -1, set: bigint) → fd; with a descriptor, changes what it reads.
Napi::Value Open(const Napi::CallbackInfo& info) {
  const int fd = Int(info, 0);
  const sigset_t signals = ToSigset(Uint64(info, 1));
  const int64_t opened = Syscall([&] { return signalfd(fd, &signals, SFD_CLOEXEC | SFD_NONBLOCK); });
  return Number(info, fd >= 0 ? opened : Environment::Of(info.Env()).Own(opened));
}

// openPipe() → [read end, write end] | -errno
Napi::Value OpenPipe(const Napi::CallbackInfo& info) {
  int ends[2];
  const int64_t result = Syscall([&] { return pipe2(ends, O_CLOEXEC | O_NONBLOCK); });
  if (result < 0) return Number(info, result);
  auto pair = Napi::Array::New(info.Env(), 2);
  for (uint32_t end = 0; end < 2; end++) pair[end] = Number(info, Environment::Of(info.Env()).Own(ends[end]));
  return pair;
}

// acquireSignals(owner: bigint, name, netFd, set: bigint) → 0 | -errno | { owner, signo } when another
// reactor has one of them
Napi::Value Acquire(const Napi::CallbackInfo& info) {
  const SignalOwner owner{Uint64(info, 0), Text(info, 1), Int(info, 2)};
  std::string busy_owner;
  int busy_signal = 0;
  const int result = SignalMask::Instance().Acquire(owner, Uint64(info, 3), &busy_owner, &busy_signal);
  if (result != -EBUSY) return Number(info, result);
  auto busy = Napi::Object::New(info.Env());
  busy["owner"] = Napi::String::New(info.Env(), busy_owner);
  busy["signo"] = Napi::Number::New(info.Env(), busy_signal);
  return busy;
}

// releaseSignals(owner: bigint, set: bigint) → the signals that were still pending, as signalfd_siginfo
// structures
Napi::Value Release(const Napi::CallbackInfo& info) {
  std::vector<signalfd_siginfo> pending;
  SignalMask::Instance().Release(Uint64(info, 0), Uint64(info, 1),
                                 [&pending](const signalfd_siginfo& signal) { pending.push_back(signal); });
  return Napi::Buffer<uint8_t>::Copy(info.Env(), reinterpret_cast<const uint8_t*>(pending.data()),
                                     pending.size() * sizeof(signalfd_siginfo));
}

// lostSignals(owner: bigint) → how many found the pipe full
Napi::Value Lost(const Napi::CallbackInfo& info) {
  return Number(info, static_cast<int64_t>(SignalMask::Instance().LostCount(Uint64(info, 0))));
}

}  // namespace

void ExportSignalFd(Napi::Env env, Napi::Object exports) {
  Export(env, exports, "openSignalFd", Open);
  Export(env, exports, "openPipe", OpenPipe);
  Export(env, exports, "acquireSignals", Acquire);
  Export(env, exports, "releaseSignals", Release);
  Export(env, exports, "lostSignals", Lost);
}

}  // namespace fdr
