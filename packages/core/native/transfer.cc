// Bytes that go from one descriptor to another without coming here: sendfile(2) and splice(2).
//
// Neither has flags like MSG_DONTWAIT and MSG_NOSIGNAL. So before a socket is touched it is looked at whether
// it would block, which another holder of it decides, and SIGPIPE is kept from this thread while the call
// runs.
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sys/sendfile.h>
#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <csignal>

#include "arguments.h"
#include "environment.h"
#include "exports.h"
#include "syscall.h"

namespace fdr {

namespace {

constexpr size_t kStep = 128 * 1024;      // of a file, looked at and sent before the next is looked at
constexpr size_t kProbe = 16 * 1024;      // the kernel reads ahead by no less
constexpr size_t kCopy = 64 * 1024;       // at a time to a socket that blocks
constexpr int64_t kCold = -EINPROGRESS;   // the next bytes of the file must come from the disk
constexpr int64_t kBlocks = -EOPNOTSUPP;  // the socket would block

// Takes the SIGPIPE that a call in its scope may cause. The mask is changed by one signal and never set as a
// whole: another thread may add signals to it meanwhile (thread-masks.cc).
class NoSigPipe {
 public:
  NoSigPipe() {
    sigemptyset(&set_);
    sigaddset(&set_, SIGPIPE);
    sigset_t before;
    pthread_sigmask(SIG_BLOCK, &set_, &before);
    blocked_before_ = sigismember(&before, SIGPIPE) == 1;
  }
  ~NoSigPipe() {
    if (blocked_before_) return;  // a SignalFd has it: one more is an event, never a death
    if (raised_) {
      const timespec now{};
      Syscall([&] { return sigtimedwait(&set_, nullptr, &now); });  // EAGAIN: it was not raised for this
    }
    pthread_sigmask(SIG_UNBLOCK, &set_, nullptr);
  }
  NoSigPipe(const NoSigPipe&) = delete;
  NoSigPipe& operator=(const NoSigPipe&) = delete;

  int64_t Watch(int64_t result) {
    raised_ = raised_ || result == -EPIPE;
    return result;
  }

 private:
  sigset_t set_;
  bool blocked_before_ = false;
  bool raised_ = false;
};

bool Ready(int fd, int16_t events) {
  pollfd ready{fd, events, 0};
  return Syscall([&] { return poll(&ready, 1, 0); }) > 0;
}

bool Blocks(int fd) {
  const int64_t flags = Syscall([&] { return fcntl(fd, F_GETFL); });
  return flags >= 0 && (flags & O_NONBLOCK) == 0;
}

// How many of `length` bytes from `offset` on are in memory: `length`, or up to the first place that is not.
// It asks for one byte every 16 KiB: a byte of each page would cost more than sending them. A single page
// that is missing in between is read by sendfile itself.
int64_t Resident(int file, int64_t offset, size_t length) {
  size_t known = 0;
  while (known < length) {
    char byte;
    iovec part{&byte, 1};
    const off_t at = offset + static_cast<off_t>(known);
    const int64_t result = Syscall([&] { return preadv2(file, &part, 1, at, RWF_NOWAIT); });
    if (result == 0) return static_cast<int64_t>(length);  // the end: sendfile tells
    if (result == -EAGAIN) break;
    if (result < 0) return known > 0 ? static_cast<int64_t>(known) : result;
    known += kProbe - static_cast<size_t>(at) % kProbe;
  }
  return static_cast<int64_t>(std::min(known, length));
}

// To a socket that blocks: read and sent, because send has a flag for it.
int64_t CopyFile(int socket, int file, int64_t offset, size_t length) {
  std::array<uint8_t, kCopy> bytes;
  const size_t size = std::min(length, bytes.size());
  const int64_t read = Syscall([&] { return pread(file, bytes.data(), size, offset); });
  return read <= 0 ? read : SendNow(socket, bytes.data(), static_cast<size_t>(read));
}

int64_t SendStep(int socket, int file, int64_t offset, size_t length) {
  if (Blocks(socket)) return CopyFile(socket, file, offset, length);
  off_t at = offset;
  return Syscall([&] { return sendfile(socket, file, &at, length); });
}

// sendFile(socket, serial, file, offset, length, probe) → bytes | 0 at the end of the file | -EAGAIN: no room
// | -EINPROGRESS: what comes next is not in memory | -EOPNOTSUPP: the filesystem cannot say whether it is, as
// tmpfs and FUSE (both only with `probe`) | -errno. What was sent counts first.
Napi::Value SendFile(const Napi::CallbackInfo& info) {
  const int socket = Int(info, 0);
  if (Environment::Of(info.Env()).SerialOf(socket) != Uint(info, 1)) return Number(info, -EBADF);
  const int file = Int(info, 2);
  const int64_t offset = Int64(info, 3);
  const int64_t length = Int64(info, 4);
  const bool probe = Flag(info, 5);
  if (!Ready(socket, POLLOUT)) return Number(info, -EAGAIN);  // before the probes, which cost more
  NoSigPipe no_sig_pipe;
  int64_t sent = 0;
  while (sent < length) {
    int64_t step = std::min<int64_t>(length - sent, kStep);
    if (probe) step = Resident(file, offset + sent, static_cast<size_t>(step));
    int64_t result = step == 0 ? kCold : step;
    if (step > 0) {
      result = no_sig_pipe.Watch(SendStep(socket, file, offset + sent, static_cast<size_t>(step)));
    }
    if (result <= 0) return Number(info, sent > 0 ? sent : result);
    sent += result;
    if (result < step) break;
  }
  return Number(info, sent);
}

// spliceBytes(from, to, length) → bytes | 0: the end | -EAGAIN: one of them is not ready | -EOPNOTSUPP: `to`
// is a socket that blocks | -errno. One of them is a pipe, and `socket` says what the other one is: 0 a pipe
// as well, 1 `from` is a socket, 2 `to` is one.
Napi::Value Splice(const Napi::CallbackInfo& info) {
  const int from = Int(info, 0);
  const int to = Int(info, 1);
  const auto length = static_cast<size_t>(Uint(info, 2));
  const int socket = Int(info, 3);
  // SPLICE_F_NONBLOCK is for the pipes. A Unix socket heeds it when it is read, a TCP socket never does.
  if (socket == 2 && Blocks(to)) return Number(info, kBlocks);
  if (socket == 1 && Blocks(from) && !Ready(from, POLLIN)) return Number(info, -EAGAIN);
  NoSigPipe no_sig_pipe;
  return Number(info, no_sig_pipe.Watch(Syscall([&] {
    return splice(from, nullptr, to, nullptr, length, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
  })));
}

}  // namespace

void ExportTransfer(Napi::Env env, Napi::Object exports) {
  Export(env, exports, "sendFile", SendFile);
  Export(env, exports, "spliceBytes", Splice);
}

}  // namespace fdr
