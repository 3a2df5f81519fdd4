#include "message.h"

#include <sys/epoll.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "arguments.h"
#include "control.h"
#include "environment.h"
#include "exports.h"
#include "syscall.h"

namespace fdr {

namespace {

constexpr size_t kAddress = 128;      // room for any sockaddr
constexpr size_t kFirstMessages = 2;  // one that is there mostly, and none
constexpr size_t kStagger = 64;       // keeps the starts of large strides out of one set of the cache

constexpr size_t Align(size_t size) { return (size + 7) & ~size_t{7}; }

// A slot's argument, as src/message-record.ts makes it.
struct Wanted {
  explicit Wanted(const Slot& slot)
      : bytes(std::min<size_t>(static_cast<uint32_t>(slot.argument), kMaxMessage)),
        address((slot.argument >> 40 & 1) != 0),
        packets((slot.argument >> 41 & 1) != 0) {
    control.fds = std::min<size_t>(static_cast<uint8_t>(slot.argument >> 32), kMaxFds);
    control.timestamp = packets;
    control.credentials = (slot.argument >> 42 & 1) != 0;
    control.pidfd = (slot.argument >> 43 & 1) != 0;
  }
  size_t HeadRoom() const {
    return sizeof(MessageHead) + (address ? kAddress : 0) + Align(control.fds * sizeof(int));
  }
  size_t Stride() const { return Align(bytes) + HeadRoom() + kStagger; }

  size_t bytes;
  bool address;
  bool packets;  // of a connection, which ends
  ControlWanted control;
};

constexpr size_t kControl = ControlWanted{kMaxFds, true, true, true}.Space();

}  // namespace

struct MessageScratch {
  std::array<mmsghdr, kMessages> headers;
  std::array<iovec, kMessages> parts;
  std::array<std::array<uint8_t, kAddress>, kMessages> addresses;
  alignas(cmsghdr) std::array<std::array<uint8_t, kControl>, kMessages> controls;
};

void MessageScratchDeleter::operator()(MessageScratch* scratch) const { delete scratch; }

namespace {

MessageScratch& ScratchOf(Environment& environment) {
  MessageScratchPointer& scratch = environment.message_scratch();
  if (!scratch) scratch.reset(new MessageScratch);
  return *scratch;
}

msghdr& Prepare(MessageScratch& scratch, size_t index, uint8_t* bytes, size_t size, const Wanted& wanted) {
  scratch.parts[index] = {bytes, size};
  msghdr& header = scratch.headers[index].msg_hdr;
  header = {};
  header.msg_iov = &scratch.parts[index];
  header.msg_iovlen = 1;
  if (wanted.address) {
    header.msg_name = scratch.addresses[index].data();
    header.msg_namelen = kAddress;
  }
  header.msg_control = scratch.controls[index].data();
  header.msg_controllen = wanted.control.Space();
  return header;
}

// Appends a record for `size` bytes that lie at `slab_used`, with a head after them when there is something
// to tell.
void AppendMessage(Batch& batch, const Slot& slot, uint32_t index, uint32_t revents, size_t size,
                   size_t full_size, const msghdr& header, const Wanted& wanted, Environment& environment) {
  Control control;
  ParseControl(static_cast<uint8_t*>(header.msg_control), header.msg_controllen, wanted.control.fds, &control,
               [](int fd) { CloseFd(fd); });
  for (size_t i = 0; i < control.fd_count; i++) environment.Own(control.fds[i]);
  environment.Own(control.pidfd);

  Record& record = Append(batch, slot, index, revents);
  record.result = static_cast<int32_t>(size);
  record.offset = static_cast<uint32_t>(batch.slab_used);
  record.length = static_cast<uint32_t>(size);
  record.message.flags = static_cast<uint32_t>(header.msg_flags) & (MSG_TRUNC | MSG_CTRUNC);
  if (control.more_fds) record.message.flags |= MSG_CTRUNC;
  if (wanted.packets && size == 0 && !control.has_timestamp) record.message.flags |= kMessageEnd;
  batch.slab_used += Align(size);

  const bool address = wanted.address && header.msg_namelen > 0;
  if (!address && control.fd_count == 0 && control.pidfd < 0 && !control.has_credentials &&
      (record.message.flags & MSG_TRUNC) == 0) {
    return;
  }
  record.message.flags |= kMessageHead;
  record.message.head = static_cast<uint32_t>(batch.slab_used);
  MessageHead head{};
  head.full_length = static_cast<uint32_t>(full_size);
  head.address_length = address ? std::min<uint32_t>(header.msg_namelen, kAddress) : 0;
  head.fd_count = static_cast<uint32_t>(control.fd_count);
  head.pidfd = control.pidfd;
  head.has_credentials = control.has_credentials ? 1 : 0;
  head.pid = control.credentials.pid;
  head.uid = control.credentials.uid;
  head.gid = control.credentials.gid;
  uint8_t* at = batch.slab + batch.slab_used;
  memcpy(at, &head, sizeof head);
  at += sizeof head;
  memcpy(at, control.fds.data(), control.fd_count * sizeof(int));
  at += Align(control.fd_count * sizeof(int));
  if (address) memcpy(at, header.msg_name, head.address_length);
  batch.slab_used += sizeof head + Align(control.fd_count * sizeof(int)) + Align(head.address_length);
}

}  // namespace

size_t MessageRoom(const Slot& slot) { return Wanted(slot).Stride(); }

void DrainMessages(Batch& batch, const Slot& slot, uint32_t index, uint32_t revents,
                   Environment& environment) {
  if ((revents & ~EPOLLOUT) == 0) {
    Append(batch, slot, index, revents).result = -EAGAIN;
    return;
  }
  const Wanted wanted(slot);
  MessageScratch& scratch = ScratchOf(environment);
  const size_t stride = wanted.Stride();
  size_t left = kMessages;
  size_t count = kFirstMessages;  // preparing for many costs more than receiving one
  for (;;) {
    count = std::min({count, left, batch.SlabRoom() / stride, batch.capacity - batch.count});
    if (count == 0) return;
    uint8_t* const base = batch.slab + batch.slab_used;
    for (size_t i = 0; i < count; i++) Prepare(scratch, i, base + i * stride, wanted.bytes, wanted);
    // MSG_TRUNC: the length that a message had, not what was kept of it.
    const int64_t received = Syscall([&] {
      return syscall(SYS_recvmmsg, slot.fd, scratch.headers.data(), count,
                     MSG_DONTWAIT | MSG_TRUNC | MSG_CMSG_CLOEXEC, nullptr);
    });
    if (received < 0) {
      const bool first = left == kMessages;
      // A datagram socket that somebody has shut for reading is ready for ever, and has nothing.
      const bool shut = first && received == -EAGAIN && (revents & EPOLLRDHUP) != 0;
      if (received == -EAGAIN && !shut && (!first || (revents & EPOLLOUT) == 0)) return;
      Record& record = Append(batch, slot, index, revents);
      record.result = shut ? 0 : static_cast<int32_t>(received);
      if (shut) record.message.flags = kMessageEnd;
      return;
    }
    for (size_t i = 0; i < static_cast<size_t>(received); i++) {
      const size_t full_size = scratch.headers[i].msg_len;
      const size_t size = std::min(full_size, wanted.bytes);
      // Packed together, so that the next socket finds room. What is behind this message has been packed or
      // is further away.
      if (i > 0) memmove(batch.slab + batch.slab_used, base + i * stride, size);
      AppendMessage(batch, slot, index, revents, size, full_size, scratch.headers[i].msg_hdr, wanted,
                    environment);
      if ((batch.records[batch.count - 1].message.flags & kMessageEnd) != 0)
        return;  // it would repeat itself
    }
    left -= static_cast<size_t>(received);
    if (static_cast<size_t>(received) < count) return;
    count = kMessages;
  }
}

void DrainStreamControl(Batch& batch, const Slot& slot, uint32_t index, uint32_t revents,
                        Environment& environment) {
  if ((revents & ~EPOLLOUT) == 0) {
    Append(batch, slot, index, revents).result = -EAGAIN;
    return;
  }
  const Wanted wanted(slot);
  MessageScratch& scratch = ScratchOf(environment);
  msghdr& header = Prepare(scratch, 0, batch.slab + batch.slab_used, wanted.bytes, wanted);
  const int64_t result =
      Syscall([&] { return syscall(SYS_recvmsg, slot.fd, &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC); });
  if (result > 0) {
    const auto size = static_cast<size_t>(result);
    AppendMessage(batch, slot, index, revents, size, size, header, wanted, environment);
  } else if (result != -EAGAIN || (revents & EPOLLOUT) != 0) {
    Append(batch, slot, index, revents).result = static_cast<int32_t>(result);
  }
}

namespace {

// The messages that sendMessages() sends, one behind the other; src/message-record.ts writes them.
struct PackedMessage {
  uint32_t length;
  uint32_t address_length;
  uint32_t fd_count;
  uint32_t unused;
};
static_assert(sizeof(PackedMessage) == 16);

// Points `header` at one packed message; returns how many bytes it takes, or 0 when it does not fit.
size_t Unpack(const uint8_t* bytes, size_t size, MessageScratch& scratch, size_t index) {
  PackedMessage packed;
  if (size < sizeof packed) return 0;
  memcpy(&packed, bytes, sizeof packed);
  const size_t fds = size_t{packed.fd_count} * sizeof(int);
  const size_t total = sizeof packed + Align(packed.address_length) + Align(fds) + Align(packed.length);
  if (packed.fd_count > kMaxFds || packed.address_length > kAddress || total > size) return 0;
  msghdr& header = scratch.headers[index].msg_hdr;
  header = {};
  auto* at = const_cast<uint8_t*>(bytes) + sizeof packed;
  if (packed.address_length > 0) {
    header.msg_name = at;
    header.msg_namelen = packed.address_length;
  }
  at += Align(packed.address_length);
  if (fds > 0) {
    auto* control = reinterpret_cast<cmsghdr*>(scratch.controls[index].data());
    *control = {};
    control->cmsg_level = SOL_SOCKET;
    control->cmsg_type = SCM_RIGHTS;
    control->cmsg_len = CMSG_LEN(fds);
    memcpy(CMSG_DATA(control), at, fds);
    header.msg_control = control;
    header.msg_controllen = CMSG_SPACE(fds);
  }
  at += Align(fds);
  scratch.parts[index] = {at, packed.length};
  header.msg_iov = &scratch.parts[index];
  header.msg_iovlen = 1;
  return total;
}

// sendMessages(fd, serial, packed, offset, count) → how many of the `count` messages at `offset` the kernel
// took, or -errno when it took none
Napi::Value SendMessages(const Napi::CallbackInfo& info) {
  Environment& environment = Environment::Of(info.Env());
  const int fd = Int(info, 0);
  if (environment.SerialOf(fd) != Uint(info, 1)) return Number(info, -EBADF);
  const Bytes packed = BytesOf(info.Env(), info[2]);
  MessageScratch& scratch = ScratchOf(environment);
  size_t at = Uint(info, 3);
  size_t left = Uint(info, 4);
  int64_t sent = 0;
  while (left > 0) {
    size_t count = 0;
    for (; count < std::min(left, kMessages) && at < packed.size; count++) {
      const size_t taken = Unpack(packed.data + at, packed.size - at, scratch, count);
      if (taken == 0) break;
      at += taken;
    }
    if (count == 0) return Number(info, sent > 0 ? sent : -EINVAL);
    const int64_t result = Syscall([&] {
      return syscall(SYS_sendmmsg, fd, scratch.headers.data(), count, MSG_DONTWAIT | MSG_NOSIGNAL);
    });
    if (result < 0) return Number(info, sent > 0 ? sent : result);
    sent += result;
    if (static_cast<size_t>(result) < count) break;
    left -= count;
  }
  return Number(info, sent);
}

// sendWithFds(fd, serial, bytes, offset, length, fds) → how many bytes the kernel took, the descriptors with
// the first of them, or -errno
Napi::Value SendWithFds(const Napi::CallbackInfo& info) {
  const int fd = Int(info, 0);
  if (Environment::Of(info.Env()).SerialOf(fd) != Uint(info, 1)) return Number(info, -EBADF);
  const Bytes bytes = BytesOf(info.Env(), info[2]);
  const size_t offset = Uint(info, 3);
  const size_t length = Uint(info, 4);
  if (!info[5].IsTypedArray() || info[5].As<Napi::TypedArray>().TypedArrayType() != napi_int32_array)
    return Number(info, -EINVAL);
  const auto fds = info[5].As<Napi::Int32Array>();
  const size_t size = fds.ElementLength() * sizeof(int);
  if (offset > bytes.size || length > bytes.size - offset || fds.ElementLength() > kMaxFds || size == 0)
    return Number(info, -EINVAL);
  alignas(cmsghdr) std::array<uint8_t, kControl> control{};
  auto* rights = reinterpret_cast<cmsghdr*>(control.data());
  rights->cmsg_level = SOL_SOCKET;
  rights->cmsg_type = SCM_RIGHTS;
  rights->cmsg_len = CMSG_LEN(size);
  memcpy(CMSG_DATA(rights), fds.Data(), size);
  iovec part{bytes.data + offset, length};
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  header.msg_control = rights;
  header.msg_controllen = CMSG_SPACE(size);
  return Number(info,
                Syscall([&] { return syscall(SYS_sendmsg, fd, &header, MSG_DONTWAIT | MSG_NOSIGNAL); }));
}

}  // namespace

void ExportMessage(Napi::Env env, Napi::Object exports) {
  Export(env, exports, "sendMessages", SendMessages);
  Export(env, exports, "sendWithFds", SendWithFds);
}

}  // namespace fdr
