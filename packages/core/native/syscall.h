// The one way from this addon into the kernel: a call that fails gives -errno, a call that was interrupted is
// repeated. Results travel to JavaScript as plain numbers; src/errors.ts turns a negative one into a
// SystemError.
#pragma once

#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <ctime>

namespace fdr {

// `call` returns -1 and sets errno, as libc's wrappers do. close(2) must not come here: Linux has closed the
// descriptor even when it says EINTR, and by the repetition its number may belong to another thread.
template <typename Call>
inline int64_t Syscall(Call call) {
  for (;;) {
    const int64_t result = call();
    if (result >= 0) return result;
    if (errno != EINTR) return -errno;
  }
}

inline int CloseFd(int fd) { return ::close(fd) == 0 || errno == EINTR ? 0 : -errno; }

// The hot calls go straight to the kernel. In a process with several threads libc makes each of them a point
// at which the thread can be cancelled, with two atomic operations around it: 6 % of an echo server's time,
// for what Node never uses.
inline int64_t ReceiveNow(int fd, void* bytes, size_t size) {
  return Syscall([&] { return syscall(SYS_recvfrom, fd, bytes, size, MSG_DONTWAIT, nullptr, nullptr); });
}

inline int64_t SendNow(int fd, const void* bytes, size_t size) {
  return Syscall(
      [&] { return syscall(SYS_sendto, fd, bytes, size, MSG_DONTWAIT | MSG_NOSIGNAL, nullptr, 0); });
}

inline int64_t PollSet(int set, epoll_event* events, int limit) {
  return Syscall([&] { return syscall(SYS_epoll_pwait, set, events, limit, 0, nullptr, 0); });
}

constexpr int64_t kNanosPerSecond = 1'000'000'000;

inline timespec ToTimespec(int64_t ns) { return {ns / kNanosPerSecond, ns % kNanosPerSecond}; }

inline int64_t FromTimespec(const timespec& time) { return time.tv_sec * kNanosPerSecond + time.tv_nsec; }

inline int64_t ClockNow(clockid_t clock) {
  timespec now{};
  clock_gettime(
      clock,
      &now);  // fails for the alarm clocks on some machines: callers pass the clock that those count on
  return FromTimespec(now);
}

inline int64_t MonotonicNow() { return ClockNow(CLOCK_MONOTONIC); }

}  // namespace fdr
