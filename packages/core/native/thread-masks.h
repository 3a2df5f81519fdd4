// Signals blocked in every thread of a process full of threads that this addon did not make.
//
// A spare real-time signal, the mask signal, is sent to the threads that need it; its handler changes the
// mask that the kernel installs when the handler returns. Threads made later inherit. Callers hold the lock
// of SignalMask.
#pragma once

#include <functional>
#include <unordered_map>
#include <vector>

#include "signal-set.h"
#include "thread-list.h"

namespace fdr {

class ThreadMasks {
 public:
  // Chooses the mask signal and installs its handler, once. 0 or -errno; -EAGAIN: no real-time signal outside
  // `avoid` is free.
  int Prepare(SignalSet avoid);

  // The signal that is taken, 0 before Prepare.
  int mask_signal() const { return mask_signal_; }

  // Remembers which thread blocks what, before anything is changed. 0 or -errno; -EMFILE: no descriptor left
  // to read it.
  int TakeCensus();

  // Blocks `set` in all threads. After TakeCensus. 0 or -errno; with an error some threads may block it.
  int Block(SignalSet set);

  // Undoes it: first in all other threads, then in the calling one, which blocks `set` meanwhile. What a
  // thread blocked before the census stays blocked. Where threads cannot be read or sent to, the next call
  // makes up for it. `meanwhile` is called again and again while this waits.
  void UnblockElsewhere(SignalSet set, const std::function<void()>& meanwhile);
  void UnblockHere(SignalSet set);

  // Waits until every other thread has left the signal handlers that it was in or about to enter.
  void AwaitHandlers();

 private:
  // What is known of a thread beyond its being one of many.
  struct Thread {
    int64_t start = 0;        // with its number, its identity: numbers are given out again
    SignalSet own = 0;        // of the managed signals: those that it blocked before they were managed
    SignalSet undecided = 0;  // own or not: the mask that its handler finds will tell
    int ticket = -1;          // of the mask signal that it has not answered yet
    bool answered = false;    // in this pass
    bool given_up = false;    // it hides from the mask signal, and did so for a whole pass
  };

  int Settle(SignalSet changed, bool census, const std::function<void()>& meanwhile);
  bool Settled(const ThreadState& state, SignalSet changed, bool census, int64_t waited);
  void SendTicket(pid_t tid, Thread* thread, SignalSet undo);
  void TakeAnswers();
  void ForgetTheDead();
  void ForgetTheOrdinary();

  int mask_signal_ = 0;
  ThreadList list_;
  std::vector<ThreadState> states_;
  std::unordered_map<pid_t, Thread> threads_;
  int unreached_ = 0;  // why a thread could not be sent the mask signal in this scan, or 0
  // Signals that were blocked here before. Who blocked one by itself was found out then, and is not asked
  // again: a thread that blocks it now may do so because of us.
  SignalSet known_ = 0;
  SignalSet owed_ = 0;  // to be unblocked by the next call
};

}  // namespace fdr
