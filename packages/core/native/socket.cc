// Sockets: making, binding, connecting. Receiving and accepting are drains (drain.cc); sending is the
// reactor's.
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cstddef>
#include <cstring>

#include "arguments.h"
#include "environment.h"
#include "exports.h"
#include "syscall.h"

namespace fdr {

namespace {

struct UnixAddress {
  sockaddr_un address{};
  socklen_t size = 0;
};

// The path comes as bytes, checked in TypeScript to fit; longer ones would be cut here and so are refused
// again.
bool AddressOf(const Napi::CallbackInfo& info, size_t index, UnixAddress* address) {
  const Bytes path = BytesOf(info.Env(), info[index]);
  if (path.data == nullptr || path.size == 0 || path.size >= sizeof address->address.sun_path) return false;
  address->address.sun_family = AF_UNIX;
  memcpy(address->address.sun_path, path.data, path.size);
  address->size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path.size + 1);
  return true;
}

Napi::Value Create(const Napi::CallbackInfo& info) {
  return Number(info, Environment::Of(info.Env()).Own(Syscall([] {
    return socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  })));
}

Napi::Value Bind(const Napi::CallbackInfo& info) {
  UnixAddress target;
  if (!AddressOf(info, 1, &target)) return Number(info, -ENAMETOOLONG);
  const int fd = Int(info, 0);
  return Number(info,
                Syscall([&] { return bind(fd, reinterpret_cast<sockaddr*>(&target.address), target.size); }));
}

Napi::Value Connect(const Napi::CallbackInfo& info) {
  UnixAddress target;
  if (!AddressOf(info, 1, &target)) return Number(info, -ENAMETOOLONG);
  const int fd = Int(info, 0);
  return Number(
      info, Syscall([&] { return connect(fd, reinterpret_cast<sockaddr*>(&target.address), target.size); }));
}

Napi::Value Listen(const Napi::CallbackInfo& info) {
  const int fd = Int(info, 0);
  const int backlog = Int(info, 1);
  return Number(info, Syscall([&] { return listen(fd, backlog); }));
}

// accept(fd) → fd | -EAGAIN | -errno. Only for a listener that is ending; others accept in the drain.
Napi::Value Accept(const Napi::CallbackInfo& info) {
  const int fd = Int(info, 0);
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

// readableBytes(fd) → how many bytes wait in the socket
Napi::Value Readable(const Napi::CallbackInfo& info) {
  const int fd = Int(info, 0);
  int bytes = 0;
  const int64_t result = Syscall([&] { return ioctl(fd, FIONREAD, &bytes); });
  return Number(info, result < 0 ? result : bytes);
}

// getSocketOption(fd, option) and setSocketOption(fd, option, value), at SOL_SOCKET, of type int.
Napi::Value GetOption(const Napi::CallbackInfo& info) {
  const int fd = Int(info, 0);
  const int option = Int(info, 1);
  int value = 0;
  socklen_t size = sizeof value;
  const int64_t result = Syscall([&] { return getsockopt(fd, SOL_SOCKET, option, &value, &size); });
  return Number(info, result < 0 ? result : value);
}

Napi::Value SetOption(const Napi::CallbackInfo& info) {
  const int fd = Int(info, 0);
  const int option = Int(info, 1);
  const int value = Int(info, 2);
  return Number(info, Syscall([&] { return setsockopt(fd, SOL_SOCKET, option, &value, sizeof value); }));
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

}  // namespace

void ExportSocket(Napi::Env env, Napi::Object exports) {
  Export(env, exports, "createUnixSocket", Create);
  Export(env, exports, "bindUnixSocket", Bind);
  Export(env, exports, "connectUnixSocket", Connect);
  Export(env, exports, "listenSocket", Listen);
  Export(env, exports, "acceptSocket", Accept);
  Export(env, exports, "shutdownSocket", Shutdown);
  Export(env, exports, "readableBytes", Readable);
  Export(env, exports, "getSocketOption", GetOption);
  Export(env, exports, "setSocketOption", SetOption);
  Export(env, exports, "peerCredentials", PeerCredentials);
}

}  // namespace fdr
