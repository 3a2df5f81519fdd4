// SIGBUS as somebody else sees it: a handler that was there before fd-reactor's, and faults that are not its.
#include <napi.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <string>

namespace {

std::atomic<int> caught{0};
std::atomic<int> sent{0};

void Catch(int, siginfo_t* info, void*) {
  if (info->si_code <= 0) {
    sent++;
    return;
  }
  caught++;
  const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  const auto at = reinterpret_cast<uintptr_t>(info->si_addr);
  mmap(reinterpret_cast<void*>(at - at % page), page, PROT_READ | PROT_WRITE,
       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
}

}  // namespace

// catchBusErrors(how: 'always' | 'once' | 'ignore'): a handler that mends and counts faults, and counts what
// is sent
Napi::Value CatchBusErrors(const Napi::CallbackInfo& info) {
  const std::string how = info[0].ToString();
  struct sigaction action = {};
  action.sa_sigaction = Catch;
  action.sa_flags = SA_SIGINFO;
  if (how == "once") action.sa_flags |= static_cast<int>(SA_RESETHAND);
  if (how == "ignore") action.sa_handler = SIG_IGN;
  return Napi::Number::New(info.Env(), sigaction(SIGBUS, &action, nullptr));
}

// busErrors() → [faults, sent]
Napi::Value BusErrors(const Napi::CallbackInfo& info) {
  auto counts = Napi::Array::New(info.Env(), 2);
  counts[0U] = Napi::Number::New(info.Env(), caught.load());
  counts[1U] = Napi::Number::New(info.Env(), sent.load());
  return counts;
}

// touchLostPage() → the byte that was found in an empty file's first page
Napi::Value TouchLostPage(const Napi::CallbackInfo& info) {
  const int fd = memfd_create("empty", MFD_CLOEXEC);
  const size_t size = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  auto* page = static_cast<volatile uint8_t*>(mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
  close(fd);
  const int found = page[0];
  munmap(const_cast<uint8_t*>(page), size);
  return Napi::Number::New(info.Env(), found);
}
