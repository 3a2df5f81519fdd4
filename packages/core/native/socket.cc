// Sockets of any family: making, binding, connecting, naming. Addresses are sockaddrs as bytes, made and read
// in TypeScript. Receiving and accepting are drains (drain.cc, message.cc); sending is the reactor's.
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "arguments.h"
#include "environment.h"
#include "exports.h"
#include "syscall.h"

namespace fdr {

namespace {

// These are younger than some headers that this is compiled with.
constexpr int kSoPeerGroups = 59;  // Linux 4.13
constexpr int kSoPeerPidFd = 77;   // Linux 6.5

// createSocket(domain, type) → fd | -errno
Napi::Value Create(const Napi::CallbackInfo& info) {
  const int domain = Int(info, 0);
  const int type = Int(info, 1);
  return Number(info, Environment::Of(info.Env()).Own(Syscall([&] {
    return socket(domain, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  })));
}

// bindSocket(fd, address) and connectSocket(fd, address) → 0 | -errno; the address is a sockaddr as bytes.
template <typename Call>
Napi::Value WithAddress(const Napi::CallbackInfo& info, Call call) {
  const Bytes bytes = BytesOf(info.Env(), info[1]);
  sockaddr_storage address{};
  if (bytes.data == nullptr || bytes.size < sizeof(sa_family_t) || bytes.size > sizeof address)
    return Number(info, -EINVAL);
  memcpy(&address, bytes.data, bytes.size);
  const int fd = Int(info, 0);
  const auto size = static_cast<socklen_t>(bytes.size);
  return Number(info, Syscall([&] { return call(fd, reinterpret_cast<sockaddr*>(&address), size); }));
}

Napi::Value Bind(const Napi::CallbackInfo& info) { return WithAddress(info, ::bind); }

Napi::Value Connect(const Napi::CallbackInfo& info) { return WithAddress(info, ::connect); }

// socketName(fd) and peerName(fd) → a sockaddr as bytes | -errno
template <typename Call>
Napi::Value AddressOf(const Napi::CallbackInfo& info, Call call) {
  const int fd = Int(info, 0);
  sockaddr_storage address{};
  socklen_t size = sizeof address;
  const int64_t result = Syscall([&] { return call(fd, reinterpret_cast<sockaddr*>(&address), &size); });
  if (result < 0) return Number(info, result);
  const auto length = std::min<size_t>(size, sizeof address);
  return Napi::Buffer<uint8_t>::Copy(info.Env(), reinterpret_cast<uint8_t*>(&address), length);
}

Napi::Value Name(const Napi::CallbackInfo& info) { return AddressOf(info, ::getsockname); }

Napi::Value PeerName(const Napi::CallbackInfo& info) { return AddressOf(info, ::getpeername); }

Napi::Value Listen(const Napi::CallbackInfo& info) {
  const int fd = Int(info, 0);
  const int backlog = Int(info, 1);
  return Number(info, Syscall([&] { return listen(fd, backlog); }));
}

// accept(fd) → fd | -EAGAIN | -errno. Only for a listener that is ending; others accept in the drain. As
// there, O_NONBLOCK may have been cleared by another holder of the listener.
Napi::Value Accept(const Napi::CallbackInfo& info) {
  const int fd = Int(info, 0);
  pollfd ready{fd, POLLIN, 0};
  if (Syscall([&] { return poll(&ready, 1, 0); }) == 0) return Number(info, -EAGAIN);
  return Number(info, Environment::Of(info.Env()).Own(Syscall([&] {
    return accept4(fd, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
  })));
}

// shutdownSocket(fd, how): 0 SHUT_RD, 1 SHUT_WR
Napi::Value Shutdown(const Napi::CallbackInfo& info) {
  const int fd = Int(info, 0);
  const int how = Int(info, 1);
  return Number(info, Syscall([&] { return shutdown(fd, how); }));
}

// readableBytes(fd) → how many bytes wait in the socket; unsentBytes(fd) → how many wait for its peer
template <unsigned long kRequest>
Napi::Value QueueLength(const Napi::CallbackInfo& info) {
  const int fd = Int(info, 0);
  int bytes = 0;
  const int64_t result = Syscall([&] { return ioctl(fd, kRequest, &bytes); });
  return Number(info, result < 0 ? result : bytes);
}

// getSocketOption(fd, level, option) and setSocketOption(fd, level, option, value), of type int
Napi::Value GetOption(const Napi::CallbackInfo& info) {
  const int fd = Int(info, 0);
  const int level = Int(info, 1);
  const int option = Int(info, 2);
  int value = 0;
  socklen_t size = sizeof value;
  const int64_t result = Syscall([&] { return getsockopt(fd, level, option, &value, &size); });
  return Number(info, result < 0 ? result : value);
}

Napi::Value SetOption(const Napi::CallbackInfo& info) {
  const int fd = Int(info, 0);
  const int level = Int(info, 1);
  const int option = Int(info, 2);
  const int value = Int(info, 3);
  return Number(info, Syscall([&] { return setsockopt(fd, level, option, &value, sizeof value); }));
}

// peerCredentials(fd) → { pid, uid, gid } | -errno
Napi::Value PeerCredentials(const Napi::CallbackInfo& info) {
  const int fd = Int(info, 0);
  ucred peer{};
  socklen_t size = sizeof peer;
  const int64_t result = Syscall([&] { return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size); });
  if (result < 0) return Number(info, result);
  auto credentials = Napi::Object::New(info.Env());
  credentials["pid"] = Napi::Number::New(info.Env(), peer.pid);
  credentials["uid"] = Napi::Number::New(info.Env(), peer.uid);
  credentials["gid"] = Napi::Number::New(info.Env(), peer.gid);
  return credentials;
}

// peerGroups(fd) → the supplementary groups of who connected | -errno
Napi::Value PeerGroups(const Napi::CallbackInfo& info) {
  const int fd = Int(info, 0);
  std::vector<gid_t> groups(64);
  socklen_t size = 0;
  const auto read = [&] {
    size = static_cast<socklen_t>(groups.size() * sizeof(gid_t));
    return Syscall([&] { return getsockopt(fd, SOL_SOCKET, kSoPeerGroups, groups.data(), &size); });
  };
  int64_t result = read();
  if (result == -ERANGE) {  // now `size` says how much it takes
    groups.resize(size / sizeof(gid_t));
    result = read();
  }
  if (result < 0) return Number(info, result);
  const size_t count = size / sizeof(gid_t);
  auto list = Napi::Array::New(info.Env(), count);
  for (uint32_t index = 0; index < count; index++) list[index] = Napi::Number::New(info.Env(), groups[index]);
  return list;
}

// peerPidFd(fd) → a pidfd of who connected | -errno. The kernel makes it close-on-exec.
Napi::Value PeerPidFd(const Napi::CallbackInfo& info) {
  const int fd = Int(info, 0);
  int pidfd = -1;
  socklen_t size = sizeof pidfd;
  const int64_t result = Syscall([&] { return getsockopt(fd, SOL_SOCKET, kSoPeerPidFd, &pidfd, &size); });
  return Number(info, result < 0 ? result : Environment::Of(info.Env()).Own(pidfd));
}

}  // namespace

void ExportSocket(Napi::Env env, Napi::Object exports) {
  Export(env, exports, "createSocket", Create);
  Export(env, exports, "bindSocket", Bind);
  Export(env, exports, "connectSocket", Connect);
  Export(env, exports, "socketName", Name);
  Export(env, exports, "peerName", PeerName);
  Export(env, exports, "listenSocket", Listen);
  Export(env, exports, "acceptSocket", Accept);
  Export(env, exports, "shutdownSocket", Shutdown);
  Export(env, exports, "readableBytes", QueueLength<FIONREAD>);
  Export(env, exports, "unsentBytes", QueueLength<TIOCOUTQ>);
  Export(env, exports, "getSocketOption", GetOption);
  Export(env, exports, "setSocketOption", SetOption);
  Export(env, exports, "peerCredentials", PeerCredentials);
  Export(env, exports, "peerGroups", PeerGroups);
  Export(env, exports, "peerPidFd", PeerPidFd);
}

}  // namespace fdr
