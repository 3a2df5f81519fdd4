// What a message brings besides its bytes: who sent it, and descriptors. Pure: it reads what recvmsg(2)
// filled in, so that a fuzzer can feed it anything.
#pragma once

#include <sys/socket.h>

#include <array>
#include <cstddef>
#include <cstdint>

namespace fdr {

constexpr size_t kMaxFds = 253;  // SCM_MAX_FD, what the kernel passes with one message

struct Control {
  std::array<int, kMaxFds> fds;
  size_t fd_count = 0;
  bool more_fds = false;  // than were wanted
  int pidfd = -1;
  bool has_credentials = false;
  bool has_timestamp = false;
  ucred credentials{};
};

// What a receiver asks for.
struct ControlWanted {
  size_t fds = 0;
  bool credentials = false;
  bool pidfd = false;
  bool timestamp = false;

  // Room for exactly this: the kernel fills what others leave with descriptors. But a pidfd comes behind
  // them, and a sender must not be able to crowd it out, so with one there is room for all that can come.
  constexpr size_t Space() const {
    const size_t room = pidfd ? kMaxFds : fds;
    return (room > 0 ? CMSG_SPACE(room * sizeof(int)) : 0) + (credentials ? CMSG_SPACE(sizeof(ucred)) : 0) +
           (pidfd ? CMSG_SPACE(sizeof(int)) : 0) + (timestamp ? CMSG_SPACE(2 * sizeof(int64_t)) : 0);
  }
};

// Reads `size` bytes of control messages. What is malformed ends it; what came before counts. Descriptors
// beyond `max_fds` are handed to `excess`, which closes them.
void ParseControl(const uint8_t* bytes, size_t size, size_t max_fds, Control* control,
                  void (*excess)(int fd));

}  // namespace fdr
