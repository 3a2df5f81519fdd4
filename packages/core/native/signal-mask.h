// Signals that nobody but a signalfd receives, in a process full of threads that this addon did not make
// (DESIGN section 5).
//
// A signal is blocked in every thread: a spare real-time signal, the mask signal, is sent to the threads that
// need it, and its handler changes the mask that the kernel installs when the handler returns. Under the mask
// lies a net (signal-net.h) for a thread that unmasks by itself. Masks and dispositions belong to the
// process; so do this state and its lock.
#pragma once

#include <sys/signalfd.h>

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "signal-set.h"
#include "thread-list.h"

namespace fdr {

// A reactor as the owner of signals. What the net catches is written to `net_fd`, the write end of a pipe
// that is O_NONBLOCK at both ends and that the owner reads, as it reads its signalfd. Release also reads it,
// from `net_read_fd`, so that nothing stays in it; with -1 the owner has to read the rest itself afterwards.
// Both stay open until Release has given up the last signal.
struct SignalOwner {
  uint64_t id;
  std::string name;
  int net_fd;
  int net_read_fd = -1;
};

class SignalMask {
 public:
  using Take = std::function<void(const signalfd_siginfo&)>;

  static SignalMask& Instance();

  // Blocks `set` in every thread, under a net: all of it or, with a negative result, nothing. -EBUSY: another
  // owner has
  // `*busy_signal`. What an owner has already is counted and must be released as often.
  int Acquire(const SignalOwner& owner, SignalSet set, std::string* busy_owner, int* busy_signal);

  // Gives up `set`. What nobody has any more is undone: dispositions, and masks but for signals that a thread
  // blocked before. Everything that was sent before this call has by its end reached the owner's pipe or
  // `take`, or is counted as lost; nothing sent before it ever meets the old disposition. `take` must not
  // call back.
  void Release(uint64_t owner, SignalSet set, const Take& take);

  // The same for all that `owner` has, however often; when the owner itself goes.
  void ReleaseAll(uint64_t owner, const Take& take);

  SignalSet OwnedBy(uint64_t owner);

  // How many signals of this owner found its pipe full.
  uint64_t LostCount(uint64_t owner);

 private:
  struct Claim {
    uint64_t owner = 0;
    int count = 0;
  };

  // What is known of a thread beyond its being one of many.
  struct Thread {
    int64_t start = 0;        // with its number, its identity: numbers are given out again
    SignalSet own = 0;        // of the managed signals: those that it blocked before they were managed
    SignalSet undecided = 0;  // own or not: the mask that its handler finds will tell
    int ticket = -1;          // of the mask signal that it has not answered yet
    bool answered = false;    // in this pass
    bool given_up = false;    // it hides from the mask signal, and did so for a whole pass
  };

  SignalMask() = default;

  int Prepare(SignalSet set);
  int Settle(SignalSet changed, bool census, const std::function<void()>& meanwhile);
  void LeaveNet(const std::function<void()>& meanwhile);
  bool Settled(const ThreadState& state, SignalSet changed, bool census, int64_t waited);
  void SendTicket(pid_t tid, Thread* thread, SignalSet undo);
  void TakeAnswers();
  void ForgetTheDead();
  void ForgetTheOrdinary();
  void Undo(SignalSet gone, const SignalOwner& owner, const Take& take);
  void Release(uint64_t owner, SignalSet set, bool all, const Take& take);

  std::mutex mutex_;
  int mask_signal_ = 0;
  std::array<Claim, kLastSignal + 1> claims_;  // by signal number
  std::map<uint64_t, SignalOwner> owners_;
  std::map<uint64_t, uint64_t> lost_;  // of owners that lost any
  std::unordered_map<pid_t, Thread> threads_;
  std::vector<ThreadState> states_;
  ThreadList list_;
  int unreached_ = 0;   // why a thread could not be sent the mask signal in this scan, or 0
  SignalSet owed_ = 0;  // given up, but threads could not be read to unmask them: the next pass does
};

}  // namespace fdr
