// Memory that several processes see: memory objects and their seals, room in files, mappings of both, and
// copies that are whole although somebody else writes.
#include <fcntl.h>
#include <linux/memfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include <cstdio>

#include "arguments.h"
#include "environment.h"
#include "exports.h"
#include "mapping.h"
#include "pages.h"
#include "shared-copy.h"
#include "syscall.h"

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U
#endif

namespace fdr {

namespace {

// createMemory(name, hugePages) → fd | -errno
Napi::Value Create(const Napi::CallbackInfo& info) {
  const std::string name = Text(info, 0);
  const unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING | (Flag(info, 1) ? MFD_HUGETLB : 0U);
  // Since Linux 6.3 the kernel warns of objects that do not say whether they may be executed; before, it
  // refuses.
  int64_t fd = Syscall([&] { return memfd_create(name.c_str(), flags | MFD_NOEXEC_SEAL); });
  if (fd == -EINVAL) fd = Syscall([&] { return memfd_create(name.c_str(), flags); });
  return Number(info, Environment::Of(info.Env()).Own(fd));
}

// addSeals(fd, seals) → 0 | -errno
Napi::Value AddSeals(const Napi::CallbackInfo& info) {
  const int fd = Int(info, 0);
  const int seals = Int(info, 1);
  return Number(info, Syscall([&] { return fcntl(fd, F_ADD_SEALS, seals); }));
}

// seals(fd) → bits | -EINVAL for what cannot be sealed | -errno
Napi::Value Seals(const Napi::CallbackInfo& info) {
  const int fd = Int(info, 0);
  return Number(info, Syscall([&] { return fcntl(fd, F_GET_SEALS); }));
}

// allocateFile(fd, offset, length) → 0 | -errno: room on the disk, and a file that is long enough
Napi::Value Allocate(const Napi::CallbackInfo& info) {
  const int fd = Int(info, 0);
  const int64_t offset = Int64(info, 1);
  const int64_t length = Int64(info, 2);
  return Number(info, Syscall([&] { return fallocate(fd, 0, offset, length); }));
}

// nameFile(fd, path) → 0 | -errno: gives a file that was opened without a name (O_TMPFILE) its first
Napi::Value Name(const Napi::CallbackInfo& info) {
  char from[64];
  snprintf(from, sizeof from, "/proc/self/fd/%d", Int(info, 0));
  const std::string to = Text(info, 1);
  return Number(info,
                Syscall([&] { return linkat(AT_FDCWD, from, AT_FDCWD, to.c_str(), AT_SYMLINK_FOLLOW); }));
}

// pageSize(fd) → bytes: of a huge page where the object is made of them
Napi::Value PageSize(const Napi::CallbackInfo& info) {
  constexpr int64_t kHugetlbfs = 0x958458f6;
  const int fd = Int(info, 0);
  struct statfs about {};
  const int64_t failed = Syscall([&] { return fstatfs(fd, &about); });
  if (failed < 0) return Number(info, failed);
  return Number(info, about.f_type == kHugetlbfs ? about.f_bsize : sysconf(_SC_PAGESIZE));
}

// mapMemory(fd, offset, length, write, populate, page) → handle with `buffer` | -errno
Napi::Value Map(const Napi::CallbackInfo& info) {
  Mapping::Request request;
  request.fd = Int(info, 0);
  request.offset = Int64(info, 1);
  request.length = static_cast<size_t>(Int64(info, 2));
  request.write = Flag(info, 3);
  request.populate = Flag(info, 4);
  request.page = static_cast<size_t>(Int64(info, 5));
  return Mapping::Map(info.Env(), request);
}

Napi::Value Unmap(const Napi::CallbackInfo& info) {
  Mapping* mapping = Mapping::Of(info[0]);
  if (mapping != nullptr) mapping->Unmap();
  return info.Env().Undefined();
}

Napi::Value Moves(const Napi::CallbackInfo& info) {
  Mapping* mapping = Mapping::Of(info[0]);
  if (mapping != nullptr) mapping->Moves();
  return info.Env().Undefined();
}

// lockMemory(handle) → 0 | -errno
Napi::Value Lock(const Napi::CallbackInfo& info) {
  Mapping* mapping = Mapping::Of(info[0]);
  return Number(info, mapping != nullptr ? mapping->Lock() : -EINVAL);
}

// watchMemory(handle) → 0 | -ENOMEM; see lost-pages.h
Napi::Value Watch(const Napi::CallbackInfo& info) {
  Mapping* mapping = Mapping::Of(info[0]);
  return Number(info, mapping != nullptr ? mapping->Watch() : -EINVAL);
}

Napi::Value Lost(const Napi::CallbackInfo& info) {
  const Mapping* mapping = Mapping::Of(info[0]);
  return Napi::Boolean::New(info.Env(), mapping != nullptr && mapping->Lost());
}

Napi::Value Live(const Napi::CallbackInfo& info) { return Number(info, Mapping::Live()); }

// The part of a mapping that a call is about; null when it is unmapped, or not within it.
uint8_t* Part(const Napi::CallbackInfo& info, size_t index, int64_t length) {
  const Mapping* mapping = Mapping::Of(info[index]);
  return mapping == nullptr ? nullptr : mapping->Part(Int64(info, index + 1), length);
}

// syncMemory(handle, offset, length, flags) → 0 | -errno
Napi::Value Sync(const Napi::CallbackInfo& info) {
  const Pages pages = PagesOf(Part(info, 0, Int64(info, 2)), Int64(info, 2));
  const int flags = Int(info, 3);
  if (pages.start == nullptr) return Number(info, -EINVAL);
  return Number(info, Syscall([&] { return msync(pages.start, pages.size, flags); }));
}

// adviseMemory(handle, offset, length, advice) → 0 | -errno
Napi::Value Advise(const Napi::CallbackInfo& info) {
  const Pages pages = PagesOf(Part(info, 0, Int64(info, 2)), Int64(info, 2));
  const int advice = Int(info, 3);
  if (pages.start == nullptr) return Number(info, -EINVAL);
  return Number(info, Syscall([&] { return madvise(pages.start, pages.size, advice); }));
}

bool IsBytes(const Napi::CallbackInfo& info, size_t index) {
  return info[index].IsTypedArray() &&
         info[index].As<Napi::TypedArray>().TypedArrayType() == napi_uint8_array;
}

// loadShared(handle, offset, target: Uint8Array) → false when it is not within the mapping, or no Uint8Array;
// see shared-copy.h
Napi::Value Load(const Napi::CallbackInfo& info) {
  if (!IsBytes(info, 2)) return Napi::Boolean::New(info.Env(), false);
  const Bytes target = BytesOf(info.Env(), info[2]);
  const uint8_t* part = Part(info, 0, static_cast<int64_t>(target.size));
  if (part == nullptr) return Napi::Boolean::New(info.Env(), false);
  LoadShared(part, target.data, target.size);
  return Napi::Boolean::New(info.Env(), true);
}

// storeShared(handle, offset, source: Uint8Array) → false when it is not within the mapping, or no
// Uint8Array; see shared-copy.h
Napi::Value Store(const Napi::CallbackInfo& info) {
  if (!IsBytes(info, 2)) return Napi::Boolean::New(info.Env(), false);
  const Bytes source = BytesOf(info.Env(), info[2]);
  uint8_t* part = Part(info, 0, static_cast<int64_t>(source.size));
  if (part == nullptr) return Napi::Boolean::New(info.Env(), false);
  StoreShared(source.data, part, source.size);
  return Napi::Boolean::New(info.Env(), true);
}

}  // namespace

void ExportMemory(Napi::Env env, Napi::Object exports) {
  Export(env, exports, "createMemory", Create);
  Export(env, exports, "addSeals", AddSeals);
  Export(env, exports, "seals", Seals);
  Export(env, exports, "allocateFile", Allocate);
  Export(env, exports, "nameFile", Name);
  Export(env, exports, "pageSize", PageSize);
  Export(env, exports, "mapMemory", Map);
  Export(env, exports, "unmapMemory", Unmap);
  Export(env, exports, "memoryMoves", Moves);
  Export(env, exports, "lockMemory", Lock);
  Export(env, exports, "watchMemory", Watch);
  Export(env, exports, "memoryLost", Lost);
  Export(env, exports, "liveMappings", Live);
  Export(env, exports, "syncMemory", Sync);
  Export(env, exports, "adviseMemory", Advise);
  Export(env, exports, "loadShared", Load);
  Export(env, exports, "storeShared", Store);
}

}  // namespace fdr
