#include "control.h"

#include <algorithm>
#include <cstring>

namespace fdr {

namespace {

constexpr int kScmPidFd = 4;  // SCM_PIDFD (Linux 6.5); older headers lack it

template <typename Value>
bool Read(const uint8_t* data, size_t size, Value* value) {
  if (size < sizeof *value) return false;
  memcpy(value, data, sizeof *value);
  return true;
}

}  // namespace

// Not by CMSG_NXTHDR, which versions of libc check differently, and which trusts the alignment.
void ParseControl(const uint8_t* bytes, size_t size, size_t max_fds, Control* control,
                  void (*excess)(int fd)) {
  const size_t limit = std::min(max_fds, kMaxFds);
  size_t at = 0;
  cmsghdr header;
  while (size - at >= sizeof header) {
    memcpy(&header, bytes + at, sizeof header);
    if (header.cmsg_len < sizeof header || header.cmsg_len > size - at) return;
    const uint8_t* data = bytes + at + CMSG_LEN(0);
    const size_t length = header.cmsg_len - CMSG_LEN(0);
    if (header.cmsg_level == SOL_SOCKET) {
      switch (header.cmsg_type) {
        case SCM_RIGHTS:
          for (size_t offset = 0; offset + sizeof(int) <= length; offset += sizeof(int)) {
            int fd;
            memcpy(&fd, data + offset, sizeof fd);
            if (control->fd_count < limit) {
              control->fds[control->fd_count++] = fd;
            } else {
              control->more_fds = true;
              excess(fd);
            }
          }
          break;
        case SCM_CREDENTIALS:
          control->has_credentials = Read(data, length, &control->credentials);
          break;
        case kScmPidFd:
          if (control->pidfd >= 0) excess(control->pidfd);
          if (!Read(data, length, &control->pidfd)) control->pidfd = -1;
          break;
        case SCM_TIMESTAMP:
          control->has_timestamp = true;
          break;
        default:
          break;
      }
    }
    const size_t step = CMSG_ALIGN(header.cmsg_len);
    if (step > size - at) return;
    at += step;
  }
}

}  // namespace fdr
