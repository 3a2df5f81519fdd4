// The layout of what one crossing hands to JavaScript. Its decoder is src/batch.ts; change both together.
#pragma once

#include <cstddef>
#include <cstdint>

namespace fdr {

struct Record {
  uint32_t slot;
  uint32_t generation;
  uint32_t revents;
  int32_t result;   // >= 0 as the drain defines it, or -errno
  uint32_t offset;  // of the drained bytes in the slab
  uint32_t length;  // of the drained bytes
  union {
    uint64_t value;  // a counter's value
    struct {
      uint32_t head;   // of a message: where its MessageHead lies in the slab, if kMessageHead is set
      uint32_t flags;  // MSG_TRUNC and MSG_CTRUNC as recvmsg(2) gave them, kMessageHead, kMessageEnd
    } message;
  };
  int64_t time;  // ns on a timer's own clock, read with its counter
};

constexpr uint32_t kMessageHead = 1u << 30;
constexpr uint32_t kMessageEnd = 1u << 31;  // no message but the end of the connection

// What a message brings besides its bytes. Behind it lie `fd_count` descriptors, then the sender's address,
// each filled up to 8 bytes. Its decoder is src/message-record.ts; change both together.
struct MessageHead {
  uint32_t full_length;  // more than the record's length when the message was cut
  uint32_t address_length;
  uint32_t fd_count;
  int32_t pidfd;  // of the sender, or -1
  uint32_t has_credentials;
  int32_t pid;
  uint32_t uid;
  uint32_t gid;
};
static_assert(sizeof(MessageHead) == 32);

// Precedes the records, in a room of the same size so that record i begins at (i + 1) * sizeof(Record).
struct BatchHeader {
  int64_t returned;  // CLOCK_MONOTONIC ns when epoll_wait returned; 0 unless measuring
  int32_t reached;   // written by JavaScript: the first record that it has not delivered yet; -1 until then
  // What a send is about. Reading it here costs a fraction of what passing arguments through Node-API does.
  int32_t send_fd;
  uint32_t send_offset;
  uint32_t send_length;
  int32_t send_result;
  uint32_t send_slab;    // 0: the main slab, 1: the high one
  uint32_t send_serial;  // which descriptor of all that had the number
  int32_t unused;
};

static_assert(sizeof(Record) == 40 && sizeof(BatchHeader) == sizeof(Record));
static_assert(offsetof(Record, slot) == 0 && offsetof(Record, generation) == 4 &&
              offsetof(Record, revents) == 8);
static_assert(offsetof(Record, result) == 12 && offsetof(Record, offset) == 16 &&
              offsetof(Record, length) == 20);
static_assert(offsetof(Record, message) == 24 && offsetof(Record, value) == 24 &&
              offsetof(Record, time) == 32);
static_assert(offsetof(BatchHeader, returned) == 0 && offsetof(BatchHeader, reached) == 8);
static_assert(offsetof(BatchHeader, send_fd) == 12 && offsetof(BatchHeader, send_serial) == 32);

}  // namespace fdr
