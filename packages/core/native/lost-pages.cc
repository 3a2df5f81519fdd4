#include "lost-pages.h"

#include <signal.h>
#include <sys/mman.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <mutex>

namespace fdr {

namespace {

struct Range {
  std::atomic<uintptr_t> begin{0};  // 0: the place is free
  std::atomic<uintptr_t> end{0};
  std::atomic<size_t> page{0};
  std::atomic<bool> lost{false};
};

constexpr size_t kPlaces = 4096;
std::array<Range, kPlaces> ranges;
std::atomic<size_t> used{0};  // places from here on were never taken
std::mutex lock;
bool installed = false;
struct sigaction before;

static_assert(std::atomic<uintptr_t>::is_always_lock_free, "the handler must not wait");

bool Replace(uintptr_t at) {
  const size_t count = used.load(std::memory_order_acquire);
  for (size_t place = 0; place < count; place++) {
    Range& range = ranges[place];
    const uintptr_t begin = range.begin.load(std::memory_order_acquire);
    if (begin == 0 || at < begin || at >= range.end.load(std::memory_order_relaxed)) continue;
    const size_t page = range.page.load(std::memory_order_relaxed);
    void* start = reinterpret_cast<void*>(at - at % page);
    // mmap(2) is not on the list of async-signal-safe functions, but on Linux it is a bare system call.
    const void* made = mmap(start, page, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0);
    if (made == MAP_FAILED) return false;
    range.lost.store(true, std::memory_order_release);
    return true;
  }
  return false;
}

void OnBusError(int signal, siginfo_t* info, void* context) {
  const int saved = errno;
  const bool replaced = Replace(reinterpret_cast<uintptr_t>(info->si_addr));
  errno = saved;
  if (replaced) return;
  if ((before.sa_flags & SA_SIGINFO) != 0 && before.sa_sigaction != nullptr) {
    before.sa_sigaction(signal, info, context);
  } else if (before.sa_handler != SIG_DFL && before.sa_handler != SIG_IGN) {
    before.sa_handler(signal);
  } else {
    // The instruction runs again, and the default action ends the process with the core where it belongs. A
    // signal that somebody sent (no fault behind it) is sent once more for the same end.
    sigaction(signal, &before, nullptr);
    if (info->si_code <= 0 && before.sa_handler == SIG_DFL) raise(signal);
  }
}

// Once for the process, and for good: whoever came after us may have kept our handler as the one before.
int Install() {
  if (installed) return 0;
  struct sigaction action {};
  action.sa_sigaction = OnBusError;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART;
  sigemptyset(&action.sa_mask);
  if (sigaction(SIGBUS, &action, &before) != 0) return -errno;
  installed = true;
  return 0;
}

}  // namespace

int LostPages::Watch(const void* address, size_t length, size_t page) {
  const std::lock_guard<std::mutex> held(lock);
  if (const int failed = Install(); failed < 0) return failed;
  for (size_t place = 0; place < kPlaces; place++) {
    Range& range = ranges[place];
    if (range.begin.load(std::memory_order_relaxed) != 0) continue;
    const auto begin = reinterpret_cast<uintptr_t>(address);
    range.end.store(begin + length, std::memory_order_relaxed);
    range.page.store(page, std::memory_order_relaxed);
    range.lost.store(false, std::memory_order_relaxed);
    range.begin.store(begin, std::memory_order_release);
    if (place >= used.load(std::memory_order_relaxed)) used.store(place + 1, std::memory_order_release);
    return static_cast<int>(place);
  }
  return -ENOMEM;
}

void LostPages::Forget(int place) {
  const std::lock_guard<std::mutex> held(lock);
  ranges[static_cast<size_t>(place)].begin.store(0, std::memory_order_release);
}

bool LostPages::Lost(int place) {
  return ranges[static_cast<size_t>(place)].lost.load(std::memory_order_acquire);
}

}  // namespace fdr
