// Sets of signals in the kernel's own form: one word, as /proc prints it and as its system calls take it.
#pragma once

#include <sys/syscall.h>
#include <unistd.h>

#include <cstdint>

namespace fdr {

using SignalSet = uint64_t;  // bit (signo - 1)

constexpr int kLastSignal = 64;

constexpr SignalSet SetOf(int signo) { return SignalSet{1} << (signo - 1); }

// Calls `function(signo)` for each member, lowest first.
template <typename Function>
void ForEachSignal(SignalSet set, Function function) {
  for (; set != 0; set &= set - 1) function(__builtin_ctzll(set) + 1);
}

// Changes the calling thread's mask; `how` as for sigprocmask(2). Returns the mask before.
inline SignalSet ChangeMask(int how, SignalSet set) {
  SignalSet before = 0;
  syscall(SYS_rt_sigprocmask, how, &set, &before, sizeof(set));  // fails only for arguments that are wrong
  return before;
}

}  // namespace fdr
