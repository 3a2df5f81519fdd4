// The parser of control messages by itself, with its input against a page that nobody may touch: a byte read
// too far is a crash.
#include <napi.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <vector>

#include "native/control.h"

namespace {

constexpr size_t kRoom = 64 * 1024;

uint8_t* BeforeGuard() {
  static uint8_t* const end = [] {
    const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    void* memory = mmap(nullptr, kRoom + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) abort();
    auto* guard = static_cast<uint8_t*>(memory) + kRoom;
    if (mprotect(guard, page, PROT_NONE) != 0) abort();
    return guard;
  }();
  return end;
}

std::vector<int> excess;

}  // namespace

// parseControl(bytes, maxFds) → [whether there were more, pidfd, pid or -1 without credentials, whether
// there is a time, how many fds, fds…, those in excess…]
Napi::Value ParseControl(const Napi::CallbackInfo& info) {
  const auto bytes = info[0].As<Napi::Buffer<uint8_t>>();
  if (bytes.Length() > kRoom) return info.Env().Undefined();
  uint8_t* const at = BeforeGuard() - bytes.Length();
  memcpy(at, bytes.Data(), bytes.Length());
  excess.clear();
  fdr::Control control;
  fdr::ParseControl(at, bytes.Length(), info[1].ToNumber().Uint32Value(), &control,
                    [](int fd) { excess.push_back(fd); });
  std::vector<int> found{control.more_fds ? 1 : 0, control.pidfd,
                         control.has_credentials ? control.credentials.pid : -1,
                         control.has_timestamp ? 1 : 0, static_cast<int>(control.fd_count)};
  found.insert(found.end(), control.fds.begin(), control.fds.begin() + static_cast<long>(control.fd_count));
  found.insert(found.end(), excess.begin(), excess.end());
  auto result = Napi::Int32Array::New(info.Env(), found.size());
  memcpy(result.Data(), found.data(), found.size() * sizeof(int));
  return result;
}
