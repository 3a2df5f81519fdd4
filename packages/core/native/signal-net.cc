#include "signal-net.h"

#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>

#include "signal-set.h"

namespace fdr {

namespace {

struct Net {
  std::atomic<int> fd{-1};
  std::atomic<uint64_t> lost{0};
  struct sigaction before = {};
};

// File-scope, because a handler has nothing else.
std::array<Net, kLastSignal + 1> nets;  // by signal number

static_assert(std::atomic<uint64_t>::is_always_lock_free, "a signal handler must not take a lock");
static_assert(sizeof(signalfd_siginfo) == 128, "one write to a pipe is all or nothing up to PIPE_BUF");

void OnCaught(int signo, siginfo_t* info, void*) {
  const int saved_errno = errno;
  Net& net = nets[static_cast<size_t>(signo)];
  const signalfd_siginfo caught = Describe(*info);
  const int fd = net.fd.load();
  if (fd < 0 || write(fd, &caught, sizeof(caught)) != sizeof(caught)) net.lost++;
  errno = saved_errno;
}

bool IsNet(const struct sigaction& action) {
  return (action.sa_flags & SA_SIGINFO) != 0 && action.sa_sigaction == OnCaught;
}

}  // namespace

signalfd_siginfo Describe(const siginfo_t& info) {
  signalfd_siginfo out = {};
  out.ssi_signo = static_cast<uint32_t>(info.si_signo);
  out.ssi_errno = info.si_errno;
  out.ssi_code = info.si_code;
  // Which fields mean anything follows from the code, as in the kernel's siginfo_layout(). Synchronous faults
  // are not managed.
  const bool by_kernel = info.si_code > SI_USER && info.si_code < SI_KERNEL;
  if (by_kernel && info.si_signo == SIGCHLD) {
    out.ssi_pid = static_cast<uint32_t>(info.si_pid);
    out.ssi_uid = info.si_uid;
    out.ssi_status = info.si_status;
    out.ssi_utime = static_cast<uint64_t>(info.si_utime);
    out.ssi_stime = static_cast<uint64_t>(info.si_stime);
  } else if (by_kernel || info.si_code == SI_SIGIO) {
    out.ssi_band = static_cast<uint32_t>(info.si_band);
    out.ssi_fd = info.si_fd;
  } else if (info.si_code == SI_TIMER) {
    out.ssi_tid = static_cast<uint32_t>(info.si_timerid);
    out.ssi_overrun = static_cast<uint32_t>(info.si_overrun);
    out.ssi_ptr = reinterpret_cast<uintptr_t>(info.si_value.sival_ptr);
    out.ssi_int = info.si_value.sival_int;
  } else {
    out.ssi_pid = static_cast<uint32_t>(info.si_pid);
    out.ssi_uid = info.si_uid;
    if (info.si_code < 0) {
      out.ssi_ptr = reinterpret_cast<uintptr_t>(info.si_value.sival_ptr);
      out.ssi_int = info.si_value.sival_int;
    }
  }
  return out;
}

int SpreadNet(int signo, int fd) {
  Net& net = nets[static_cast<size_t>(signo)];
  struct sigaction action = {}, before;
  action.sa_sigaction = OnCaught;
  action.sa_flags = SA_SIGINFO | SA_RESTART | SA_ONSTACK;
  // Everything: a thread in this handler then shows itself as one that blocks the mask signal (signal-mask.cc
  // relies on it).
  sigfillset(&action.sa_mask);
  net.fd = fd;
  if (sigaction(signo, &action, &before) != 0) return -errno;
  if (!IsNet(before)) net.before = before;
  return 0;
}

void RemoveNet(int signo) {
  struct sigaction now;
  if (sigaction(signo, nullptr, &now) == 0 && IsNet(now)) {
    sigaction(signo, &nets[static_cast<size_t>(signo)].before,
              nullptr);  // was accepted once, by whoever set it
  }
}

uint64_t DetachNet(int signo) {
  Net& net = nets[static_cast<size_t>(signo)];
  net.fd = -1;
  return net.lost.exchange(0);
}

uint64_t LostInNet(int signo) { return nets[static_cast<size_t>(signo)].lost; }

}  // namespace fdr
