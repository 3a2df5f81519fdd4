// Descriptors as such: opening files, closing, duplicating, giving and taking ownership, and flock for the
// lock that guards a directory.
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "arguments.h"
#include "environment.h"
#include "exports.h"
#include "syscall.h"

namespace fdr {

namespace {

// closeFd(fd, serial) → 0 | -errno; nothing happens when the number has been given to another descriptor
// since
Napi::Value Close(const Napi::CallbackInfo& info) {
  Environment& environment = Environment::Of(info.Env());
  const int fd = Int(info, 0);
  return Number(info, environment.SerialOf(fd) == Uint(info, 1) ? environment.Close(fd) : 0);
}

Napi::Value Serial(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), Environment::Of(info.Env()).SerialOf(Int(info, 0)));
}

Napi::Value Own(const Napi::CallbackInfo& info) {
  const int fd = Int(info, 0);
  const int64_t flags = Syscall([&] { return fcntl(fd, F_GETFD); });
  return Number(info, flags < 0 ? flags : Environment::Of(info.Env()).Adopt(fd));
}

Napi::Value Disown(const Napi::CallbackInfo& info) {
  Environment::Of(info.Env()).Disown(Int(info, 0));
  return info.Env().Undefined();
}

Napi::Value Duplicate(const Napi::CallbackInfo& info) {
  const int fd = Int(info, 0);
  return Number(info,
                Environment::Of(info.Env()).Own(Syscall([&] { return fcntl(fd, F_DUPFD_CLOEXEC, 0); })));
}

// openFile(path, flags, mode) → fd | -errno. Node's own fs.open would not do: in a worker it keeps books of
// what it opened, and closes that number in the end, whoever has it by then.
Napi::Value Open(const Napi::CallbackInfo& info) {
  const std::string path = Text(info, 0);
  const int flags = Int(info, 1) | O_CLOEXEC | O_NOCTTY | O_NONBLOCK;
  const auto mode = static_cast<mode_t>(Uint(info, 2));
  return Number(info,
                Environment::Of(info.Env()).Own(Syscall([&] { return open(path.c_str(), flags, mode); })));
}

Napi::Value Flock(const Napi::CallbackInfo& info) {
  const int fd = Int(info, 0);
  return Number(info, Syscall([&] { return flock(fd, LOCK_EX | LOCK_NB); }));
}

Napi::Value Fchmod(const Napi::CallbackInfo& info) {
  const int fd = Int(info, 0);
  const auto mode = static_cast<mode_t>(Uint(info, 1));
  return Number(info, Syscall([&] { return fchmod(fd, mode); }));
}

}  // namespace

void ExportFd(Napi::Env env, Napi::Object exports) {
  Export(env, exports, "closeFd", Close);
  Export(env, exports, "fdSerial", Serial);
  Export(env, exports, "ownFd", Own);
  Export(env, exports, "disownFd", Disown);
  Export(env, exports, "duplicateFd", Duplicate);
  Export(env, exports, "openFile", Open);
  Export(env, exports, "flock", Flock);
  Export(env, exports, "fchmod", Fchmod);
}

}  // namespace fdr
