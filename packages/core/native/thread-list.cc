#include "thread-list.h"

#include <fcntl.h>
#include <signal.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "syscall.h"

namespace fdr {

namespace {

// What getdents64(2) writes; libc's own structure differs between libcs.
struct DirectoryEntry {
  uint64_t inode;
  int64_t offset;
  unsigned short length;
  unsigned char type;
  char name[];
};

constexpr int kListings = 1000;

uint64_t HexField(const char* status, const char* name) {
  const char* field = strstr(status, name);
  return field ? strtoull(field + strlen(name), nullptr, 16) : 0;
}

}  // namespace

bool ThreadExists(pid_t tid) { return syscall(SYS_tgkill, getpid(), tid, 0) == 0; }

int ThreadList::Read(std::vector<ThreadState>* states) {
  const int result = List(states);
  if (result < 0) return result;
  const auto self = static_cast<pid_t>(syscall(SYS_gettid));
  size_t kept = 0;
  for (ThreadState state : *states) {
    if (state.tid == self) continue;
    const int64_t length = ReadFile(state.tid, "status");
    if (length == -ENOENT || length == -ESRCH) continue;
    if (length < 0) return static_cast<int>(length);
    // A dying thread shows zeros. No thread of ours can have no handler at all: the mask signal has one.
    if (HexField(buffer_, "\nSigCgt:\t") == 0) continue;
    state.blocked = HexField(buffer_, "\nSigBlk:\t");
    state.pending = HexField(buffer_, "\nSigPnd:\t");
    state.asleep = strstr(buffer_, "\nState:\tS") != nullptr;
    (*states)[kept++] = state;
  }
  states->resize(kept);
  return 0;
}

// The kernel walks a linked list and stops where a thread has just died; those after it are missing, and the
// next call goes on by counting from the front. So a listing counts only if the last thread of each call
// outlived the call.
int ThreadList::List(std::vector<ThreadState>* states) {
  const int64_t directory =
      Syscall([] { return open("/proc/self/task", O_RDONLY | O_DIRECTORY | O_CLOEXEC); });
  if (directory < 0) return static_cast<int>(directory);
  const int fd = static_cast<int>(directory);
  int64_t result = -EAGAIN;
  for (int listing = 0; result == -EAGAIN && listing < kListings; listing++) {
    states->clear();
    lseek(fd, 0, SEEK_SET);  // cannot fail on a directory of procfs
    while ((result = Syscall([&] { return syscall(SYS_getdents64, fd, buffer_, sizeof(buffer_)); })) > 0) {
      const DirectoryEntry* entry = nullptr;
      for (int64_t offset = 0; offset < result; offset += entry->length) {
        entry = reinterpret_cast<const DirectoryEntry*>(buffer_ + offset);
        const pid_t tid = atoi(entry->name);  // 0 for "." and ".."
        if (tid > 0) states->push_back({tid, 0, 0, false});
      }
      if (!states->empty() && !ThreadExists(states->back().tid)) {
        result = -EAGAIN;
        break;
      }
    }
  }
  CloseFd(fd);
  return static_cast<int>(result);
}

// Fills the buffer and ends it with a zero. Its length or -errno; -EMSGSIZE when the file is longer.
int64_t ThreadList::ReadFile(pid_t tid, const char* name) {
  char path[64];
  snprintf(path, sizeof(path), "/proc/self/task/%d/%s", tid, name);
  const int64_t fd = Syscall([&] { return open(path, O_RDONLY | O_CLOEXEC); });
  if (fd < 0) return fd;
  const int64_t length = Syscall([&] { return read(static_cast<int>(fd), buffer_, sizeof(buffer_)); });
  CloseFd(static_cast<int>(fd));
  if (length < 0) return length;
  if (length == sizeof(buffer_)) return -EMSGSIZE;
  buffer_[length] = '\0';
  return length;
}

int64_t ThreadList::StartTime(pid_t tid) {
  const int64_t length = ReadFile(tid, "stat");
  if (length == -ENOENT || length == -ESRCH) return 0;
  if (length < 0) return length;
  // Field 22. The second is the name, in brackets; it may hold spaces and brackets itself, so count from the
  // last bracket.
  const char* field = strrchr(buffer_, ')');
  for (int number = 2; field != nullptr && number < 22; number++) field = strchr(field + 1, ' ');
  return field ? strtoll(field, nullptr, 10) : 0;
}

}  // namespace fdr
