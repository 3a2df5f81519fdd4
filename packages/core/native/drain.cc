#include "drain.h"

#include <poll.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>

#include "environment.h"
#include "message.h"
#include "syscall.h"

namespace fdr {

Record& Append(Batch& batch, const Slot& slot, uint32_t index, uint32_t revents) {
  Record& record = batch.records[batch.count++];
  record = {};
  record.slot = index;
  record.generation = slot.generation;
  record.revents = revents;
  return record;
}

bool HasRoom(const Batch& batch, const Slot& slot) {
  const bool messages = slot.drain == Drain::kMessages || slot.drain == Drain::kStreamControl;
  return batch.capacity - batch.count >= kAccepts &&
         batch.SlabRoom() >= (messages ? MessageRoom(slot) : kStreamBytes);
}

namespace {

// A read that cannot block, even when another holder of the description has cleared O_NONBLOCK.
int64_t ReadNow(int fd, void* bytes, size_t size) {
  iovec part{bytes, size};
  // Past libc as in syscall.h; an offset of -1 (in two halves) means the file's own position.
  const int64_t result = Syscall([&] { return syscall(SYS_preadv2, fd, &part, 1, -1L, -1L, RWF_NOWAIT); });
  if (result != -EOPNOTSUPP) return result;
  // Older kernels know RWF_NOWAIT for fewer kinds of file. There a reader in another process can still come
  // between.
  pollfd ready{fd, POLLIN, 0};
  if (Syscall([&] { return poll(&ready, 1, 0); }) <= 0) return -EAGAIN;
  return Syscall([&] { return read(fd, bytes, size); });
}

void DrainCounter(Batch& batch, const Slot& slot, uint32_t index, uint32_t revents) {
  uint64_t value = 0;
  const int64_t result = ReadNow(slot.fd, &value, sizeof value);
  if (result == -EAGAIN) return;  // another holder was faster
  Record& record = Append(batch, slot, index, revents);
  record.result = static_cast<int32_t>(result);
  record.value = value;
  if (slot.drain == Drain::kTimer) record.time = ClockNow(static_cast<clockid_t>(slot.argument));
}

void DrainStream(Batch& batch, const Slot& slot, uint32_t index, uint32_t revents) {
  // Hang-up and error are read too: what came before them is still in the queue, and recv tells which error
  // it was.
  if ((revents & (EPOLLIN | EPOLLHUP | EPOLLERR | EPOLLRDHUP)) == 0) {
    Append(batch, slot, index, revents).result = -EAGAIN;
    return;
  }
  uint8_t* bytes = batch.slab + batch.slab_used;
  const int64_t result = ReceiveNow(slot.fd, bytes, kStreamBytes);
  if (result == -EAGAIN && (revents & EPOLLOUT) == 0) return;
  Record& record = Append(batch, slot, index, revents);
  record.result = static_cast<int32_t>(result);
  if (result <= 0) return;
  record.offset = static_cast<uint32_t>(batch.slab_used);
  record.length = static_cast<uint32_t>(result);
  batch.slab_used += (static_cast<size_t>(result) + 7) & ~size_t{7};
}

void DrainAccept(Batch& batch, Slot& slot, uint32_t index, uint32_t revents, Environment& environment) {
  const auto waiting = [&] {
    pollfd ready{slot.fd, POLLIN, 0};
    return Syscall([&] { return poll(&ready, 1, 0); }) > 0;
  };
  for (size_t accepted = 0; accepted < kAccepts && slot.argument > 0; accepted++) {
    // accept4 has no flag for "do not block", and a process that inherited the listener may have cleared
    // O_NONBLOCK.
    if (!waiting()) return;
    const int64_t fd = environment.Own(
        Syscall([&] { return accept4(slot.fd, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC); }));
    if (fd == -EAGAIN) return;
    if (fd == -ECONNABORTED)
      continue;  // the peer gave up while it waited in the queue: nobody is there to be told
    Append(batch, slot, index, revents).result = static_cast<int32_t>(fd);
    if (fd < 0) return;
    slot.argument--;
  }
}

void DrainSignals(Batch& batch, const Slot& slot, uint32_t index, uint32_t revents) {
  uint8_t* bytes = batch.slab + batch.slab_used;
  const int64_t result = ReadNow(slot.fd, bytes, kSignals * sizeof(signalfd_siginfo));
  if (result == -EAGAIN) return;
  Record& record = Append(batch, slot, index, revents);
  record.result = static_cast<int32_t>(result);
  if (result <= 0) return;
  record.offset = static_cast<uint32_t>(batch.slab_used);
  record.length = static_cast<uint32_t>(result);
  batch.slab_used += static_cast<size_t>(result);
}

}  // namespace

void DrainInto(Batch& batch, Slot& slot, uint32_t index, uint32_t revents, Environment& environment) {
  switch (slot.drain) {
    case Drain::kNone:
      Append(batch, slot, index, revents);
      return;
    case Drain::kCounter:
    case Drain::kTimer:
      return DrainCounter(batch, slot, index, revents);
    case Drain::kStream:
      return DrainStream(batch, slot, index, revents);
    case Drain::kAccept:
      return DrainAccept(batch, slot, index, revents, environment);
    case Drain::kSignal:
      return DrainSignals(batch, slot, index, revents);
    case Drain::kMessages:
      return DrainMessages(batch, slot, index, revents, environment);
    case Drain::kStreamControl:
      return DrainStreamControl(batch, slot, index, revents, environment);
  }
}

}  // namespace fdr
