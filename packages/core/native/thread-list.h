// The threads of this process and their signal masks, as /proc/self/task tells them.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <vector>

#include "signal-set.h"

namespace fdr {

struct ThreadState {
  pid_t tid;
  SignalSet blocked;
  SignalSet pending;  // sent to this thread and not delivered yet
  bool asleep;
};

// Whether this process has such a thread.
bool ThreadExists(pid_t tid);

class ThreadList {
 public:
  // Reads every thread but the calling one and those that are dying. 0 or -errno.
  int Read(std::vector<ThreadState>* states);

  // When a thread started, in clock ticks since boot: with its number, its identity. 0 when it is gone, or
  // -errno.
  int64_t StartTime(pid_t tid);

 private:
  int List(std::vector<ThreadState>* states);
  int64_t ReadFile(pid_t tid, const char* name);

  // Room for some 2,000 directory entries, or for a status file with some 6,000 groups.
  alignas(8) char buffer_[64 * 1024];
};

}  // namespace fdr
