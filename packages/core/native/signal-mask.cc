#include "signal-mask.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>

#include <atomic>
#include <vector>

#include "signal-net.h"
#include "syscall.h"

namespace fdr {

namespace {

constexpr int kNetBytes =
    1024 * 1024;  // 8,192 signals; by default the most that a process without privileges may have
constexpr int64_t kDrainNs = 100'000'000;

// True in a child that fork() made: another thread of its parent may have held the lock, and never releases
// it there.
std::atomic<bool> forked{false};

// The child inherits the net and its pipe; what it catches is none of its parent's business.
void OnFork() {
  forked = true;
  for (int signo = 1; signo <= kLastSignal; signo++) DetachNet(signo);
}

// Takes what is pending for the process, or for the calling thread, which blocks `set`.
void TakePending(SignalSet set, const SignalMask::Take& take) {
  const timespec at_once = {};
  siginfo_t info;
  const int64_t end =
      MonotonicNow() + kDrainNs;  // somebody may be sending without pause; the net takes the rest
  while (MonotonicNow() < end) {
    // Not sigtimedwait(3): glibc changes the code of what tgkill(2) sent.
    if (Syscall([&] { return syscall(SYS_rt_sigtimedwait, &set, &info, &at_once, sizeof(set)); }) < 0)
      break;  // EAGAIN
    take(Describe(info));
  }
}

// Sends it again, as if it had just come: to this thread, because only to itself may a thread send the
// kernel's own codes.
void Resend(const signalfd_siginfo& signal) {
  siginfo_t info = {};
  info.si_signo = static_cast<int>(signal.ssi_signo);
  info.si_code = signal.ssi_code;
  info.si_pid = static_cast<pid_t>(signal.ssi_pid);
  info.si_uid = signal.ssi_uid;
  info.si_value.sival_ptr = reinterpret_cast<void*>(signal.ssi_ptr);
  syscall(SYS_rt_tgsigqueueinfo, getpid(), syscall(SYS_gettid), info.si_signo,
          &info);  // it just was queued: there is room
}

}  // namespace

SignalMask& SignalMask::Instance() {
  // Never destroyed: another thread may be in here while the process exits.
  static SignalMask& instance = *[] {
    pthread_atfork(nullptr, nullptr, OnFork);
    return new SignalMask;
  }();
  return instance;
}

int SignalMask::Acquire(const SignalOwner& owner, SignalSet set, std::string* busy_owner, int* busy_signal) {
  if (forked) return -ENOTSUP;
  const std::lock_guard<std::mutex> lock(mutex_);
  SignalSet fresh = 0;
  *busy_signal = 0;
  ForEachSignal(set, [&](int signo) {
    const Claim& claim = claims_[static_cast<size_t>(signo)];
    if (claim.count == 0) fresh |= SetOf(signo);
    if (*busy_signal != 0) return;
    if (claim.count > 0 && claim.owner != owner.id) {
      *busy_signal = signo;
      *busy_owner = owners_[claim.owner].name;
    } else if (signo == masks_.mask_signal()) {
      *busy_signal = signo;
      *busy_owner = "fd-reactor itself, which masks threads with it";
    }
  });
  if (*busy_signal != 0) return -EBUSY;
  if (fresh != 0) {
    const int result = Install(fresh, owner);
    if (result < 0) return result;
  }
  ForEachSignal(set, [&](int signo) {
    Claim& claim = claims_[static_cast<size_t>(signo)];
    claim.owner = owner.id;
    claim.count++;
  });
  owners_[owner.id] = owner;
  return 0;
}

int SignalMask::Install(SignalSet set, const SignalOwner& owner) {
  int result = masks_.Prepare(set);
  if (result == 0) result = masks_.TakeCensus();
  if (result < 0) return result;
  // Room for what falls into the net while masks change under a flood. Where the pipe may not grow, more is
  // counted as lost.
  if (owners_.count(owner.id) == 0) fcntl(owner.net_fd, F_SETPIPE_SZ, kNetBytes);
  SignalSet spread = 0;
  ForEachSignal(set, [&](int signo) {
    if (result == 0) result = SpreadNet(signo, owner.net_fd);
    if (result == 0) spread |= SetOf(signo);
  });
  if (result < 0) {
    ForEachSignal(spread, RemoveNet);
    return result;
  }
  result = masks_.Block(set);
  if (result < 0) {
    std::vector<signalfd_siginfo> came;
    Undo(set, owner, [&came](const signalfd_siginfo& signal) { came.push_back(signal); });
    for (const signalfd_siginfo& signal : came) Resend(signal);
  }
  return result;
}

void SignalMask::Release(uint64_t owner, SignalSet set, const Take& take) {
  Release(owner, set, false, take);
}

void SignalMask::ReleaseAll(uint64_t owner, const Take& take) { Release(owner, ~SignalSet{0}, true, take); }

void SignalMask::Release(uint64_t owner, SignalSet set, bool all, const Take& take) {
  if (forked) return;
  const std::lock_guard<std::mutex> lock(mutex_);
  SignalSet gone = 0;
  ForEachSignal(set & Held(owner), [&](int signo) {
    int& count = claims_[static_cast<size_t>(signo)].count;
    count = all ? 0 : count - 1;
    if (count == 0) gone |= SetOf(signo);
  });
  if (gone != 0) Undo(gone, owners_[owner], take);
  if (Held(owner) == 0) owners_.erase(owner);
}

void SignalMask::Undo(SignalSet set, const SignalOwner& owner, const Take& take) {
  // The net first, should somebody have replaced it: nothing that is pending may meet another disposition.
  ForEachSignal(set, [&owner](int signo) { SpreadNet(signo, owner.net_fd); });
  // What is pending for the process is taken here, in order, until the last moment; what is pending for
  // another thread falls into the net when that is unmasked.
  ChangeMask(SIG_BLOCK, set);
  TakePending(set, take);
  masks_.UnblockElsewhere(set, [&] { TakePending(set, take); });
  ForEachSignal(set, [&take](int signo) {
    TakePending(SetOf(signo), take);
    RemoveNet(signo);
  });
  masks_.UnblockHere(set);
  // Now nobody falls into the net any more, but somebody may still be in there, with the pipe's descriptor in
  // its hand.
  masks_.AwaitHandlers();
  ForEachSignal(set, [&](int signo) {
    const uint64_t lost = DetachNet(signo);
    if (lost > 0) lost_[owner.id] += lost;
  });
}

SignalSet SignalMask::Held(uint64_t owner) const {
  SignalSet held = 0;
  for (int signo = 1; signo <= kLastSignal; signo++) {
    const Claim& claim = claims_[static_cast<size_t>(signo)];
    if (claim.count > 0 && claim.owner == owner) held |= SetOf(signo);
  }
  return held;
}

SignalSet SignalMask::OwnedBy(uint64_t owner) {
  if (forked) return 0;
  const std::lock_guard<std::mutex> lock(mutex_);
  return Held(owner);
}

uint64_t SignalMask::LostCount(uint64_t owner) {
  if (forked) return 0;
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto before = lost_.find(owner);
  uint64_t lost = before == lost_.end() ? 0 : before->second;
  ForEachSignal(Held(owner), [&lost](int signo) { lost += LostInNet(signo); });
  return lost;
}

}  // namespace fdr
