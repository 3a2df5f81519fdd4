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
  std::atomic<uint32_t> version{0};  // odd while the rest changes
  std::atomic<uintptr_t> begin{0};   // 0: the place is free
  std::atomic<uintptr_t> end{0};
  std::atomic<size_t> page{0};
  // Where the range began that was lost. One that comes to this place later is another: its handler may be
  // late.
  std::atomic<uintptr_t> lost{0};
};

constexpr size_t kPlaces = 4096;
std::array<Range, kPlaces> ranges;
std::atomic<size_t> used{0};  // places from here on were never taken
std::mutex lock;
bool installed = false;
struct sigaction before;
std::atomic<bool> spent{false};  // a handler before ours that wanted to be called once, and was

static_assert(std::atomic<uintptr_t>::is_always_lock_free, "the handler must not wait");

// A range as one whole, or false.
bool Read(const Range& range, uintptr_t* begin, uintptr_t* end, size_t* page) {
  const uint32_t version = range.version.load(std::memory_order_acquire);
  *begin = range.begin.load(std::memory_order_relaxed);
  *end = range.end.load(std::memory_order_relaxed);
  *page = range.page.load(std::memory_order_relaxed);
  std::atomic_thread_fence(std::memory_order_acquire);
  return version % 2 == 0 && *begin != 0 && range.version.load(std::memory_order_relaxed) == version;
}

void Write(Range* range, uintptr_t begin, uintptr_t end, size_t page) {
  const uint32_t version = range->version.load(std::memory_order_relaxed);
  range->version.store(version + 1, std::memory_order_relaxed);
  std::atomic_thread_fence(std::memory_order_release);
  range->begin.store(begin, std::memory_order_relaxed);
  range->end.store(end, std::memory_order_relaxed);
  range->page.store(page, std::memory_order_relaxed);
  range->version.store(version + 2, std::memory_order_release);
}

bool Replace(uintptr_t at) {
  const size_t count = used.load(std::memory_order_acquire);
  for (size_t place = 0; place < count; place++) {
    uintptr_t begin = 0;
    uintptr_t end = 0;
    size_t page = 0;
    if (!Read(ranges[place], &begin, &end, &page) || at < begin || at >= end) continue;
    const uintptr_t start = at - at % page;
    // mmap(2) is not on the list of async-signal-safe functions, but on Linux it is a bare system call.
    const void* made = mmap(reinterpret_cast<void*>(start), end - start, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0);
    if (made == MAP_FAILED) return false;
    ranges[place].lost.store(begin, std::memory_order_release);
    return true;
  }
  return false;
}

void OnBusError(int signal, siginfo_t* info, void* context) {
  // One that was sent has its sender where a fault has its address.
  const bool fault = info->si_code > 0;
  const int saved = errno;
  const bool replaced = fault && Replace(reinterpret_cast<uintptr_t>(info->si_addr));
  errno = saved;
  if (replaced) return;
  const bool ignored = before.sa_handler == SIG_IGN;
  const bool once = (before.sa_flags & static_cast<int>(SA_RESETHAND)) != 0;
  if (!fault && ignored) return;
  if (!ignored && before.sa_handler != SIG_DFL && !(once && spent.exchange(true))) {
    if ((before.sa_flags & SA_SIGINFO) != 0) return before.sa_sigaction(signal, info, context);
    return before.sa_handler(signal);
  }
  // The instruction runs again, and the default action ends the process with the core where it belongs. What
  // has no instruction behind it is sent once more for the same end.
  struct sigaction standard {};
  standard.sa_handler = SIG_DFL;
  sigaction(signal, &standard, nullptr);
  if (!fault || info->si_code == BUS_MCEERR_AO) raise(signal);
}

// Once for the process, and for good: whoever came after us may have kept our handler as the one before.
int Install() {
  if (installed) return 0;
  // Asked first: another thread may be in our handler as soon as it is there.
  if (sigaction(SIGBUS, nullptr, &before) != 0) return -errno;
  struct sigaction action {};
  action.sa_sigaction = OnBusError;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART;
  sigemptyset(&action.sa_mask);
  if (sigaction(SIGBUS, &action, nullptr) != 0) return -errno;
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
    range.lost.store(0, std::memory_order_relaxed);
    Write(&range, begin, begin + length, page);
    if (place >= used.load(std::memory_order_relaxed)) used.store(place + 1, std::memory_order_release);
    return static_cast<int>(place);
  }
  return -ENOMEM;
}

void LostPages::Forget(int place) {
  const std::lock_guard<std::mutex> held(lock);
  Write(&ranges[static_cast<size_t>(place)], 0, 0, 0);
}

bool LostPages::Lost(int place) {
  const Range& range = ranges[static_cast<size_t>(place)];
  return range.lost.load(std::memory_order_acquire) == range.begin.load(std::memory_order_relaxed);
}

}  // namespace fdr
