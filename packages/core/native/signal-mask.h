// Who has which signal, and what that means for the process: a signal that somebody has is
// blocked in every thread (thread-masks.h), under a net for a thread that unblocks it by itself
// (signal-net.h), so that a signalfd receives it and nobody else does. Masks and dispositions belong to the
// process; so do this state and its lock.
#pragma once

#include <sys/signalfd.h>

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <string>

#include "signal-set.h"
#include "thread-masks.h"

namespace fdr {

// A reactor as the owner of signals. What the net catches is written to `net_fd`, the write end of a pipe
// that is O_NONBLOCK and stays open until Release has given up the owner's last signal.
struct SignalOwner {
  uint64_t id;
  std::string name;
  int net_fd;
};

// In a child that fork() made without exec nothing here does anything: what it would undo is its parent's.
class SignalMask {
 public:
  using Take = std::function<void(const signalfd_siginfo&)>;

  static SignalMask& Instance();

  // All of `set` or, with a negative result, nothing. -EBUSY: another owner, who is named, has
  // `*busy_signal`; -EMFILE: no descriptor is left to read the threads' masks; -EAGAIN: too many signals are
  // queued to send one more. What an owner has already is counted, and must be released as often.
  int Acquire(const SignalOwner& owner, SignalSet set, std::string* busy_owner, int* busy_signal);

  // Gives up `set`. What has been released as often as acquired is undone: the dispositions, and the masks
  // but for signals that a thread blocked before. Whatever was sent before this call has by its end gone to
  // the signalfd, to `take` or into the pipe, or is counted as lost; none of it meets the old disposition,
  // which may be to die. From then on nobody writes to the pipe on account of these signals; what is in it is
  // the owner's to read. `take` must not call back.
  //
  // Two things cannot be told: a thread that began to block a signal by itself meanwhile is unmasked, and so
  // is one that was made meanwhile by a thread that blocked it before.
  void Release(uint64_t owner, SignalSet set, const Take& take);

  // The same for all that `owner` has, however often it acquired it; when the owner itself goes.
  void ReleaseAll(uint64_t owner, const Take& take);

  SignalSet OwnedBy(uint64_t owner);

  // How many signals of this owner found its pipe full, ever.
  uint64_t LostCount(uint64_t owner);

 private:
  struct Claim {
    uint64_t owner = 0;
    int count = 0;
  };

  SignalMask() = default;

  SignalSet Held(uint64_t owner) const;
  int Install(SignalSet set, const SignalOwner& owner);
  void Undo(SignalSet set, const SignalOwner& owner, const Take& take);
  void Release(uint64_t owner, SignalSet set, bool all, const Take& take);

  std::mutex mutex_;
  ThreadMasks masks_;
  std::array<Claim, kLastSignal + 1> claims_;  // by signal number
  std::map<uint64_t, SignalOwner> owners_;
  std::map<uint64_t, uint64_t> lost_;  // of owners that lost any of what they have released
};

}  // namespace fdr
