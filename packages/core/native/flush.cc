// Writing the pages of a mapped file back on the thread pool: a disk may take seconds, which the loop must
// not wait for.
#include <fcntl.h>
#include <sys/mman.h>

#include <memory>

#include "arguments.h"
#include "exports.h"
#include "mapping.h"
#include "pages.h"
#include "syscall.h"

namespace fdr {

namespace {

struct Flush {
  Mapping* mapping;
  Pages pages;
  int fd;          // -1: writes and waits, otherwise only begins
  int64_t offset;  // of the part in the file
  int64_t length;
  int64_t result = 0;
  napi_async_work work = nullptr;
  napi_deferred deferred = nullptr;

  void Run() {
    // MS_ASYNC does nothing on Linux; what begins the writing is sync_file_range.
    result = fd < 0 ? Syscall([&] { return msync(pages.start, pages.size, MS_SYNC); })
                    : Syscall([&] { return sync_file_range(fd, offset, length, SYNC_FILE_RANGE_WRITE); });
  }
};

void OnWork(napi_env, void* data) { static_cast<Flush*>(data)->Run(); }

// In an environment that ends nobody can be told: what fails here is left.
void OnDone(napi_env env, napi_status, void* data) {
  const std::unique_ptr<Flush> flush(static_cast<Flush*>(data));
  flush->mapping->EndJob();
  napi_handle_scope scope = nullptr;
  if (napi_open_handle_scope(env, &scope) == napi_ok) {
    napi_value result = nullptr;
    if (napi_create_double(env, static_cast<double>(flush->result), &result) == napi_ok)
      napi_resolve_deferred(env, flush->deferred, result);
    napi_close_handle_scope(env, scope);
  }
  napi_delete_async_work(env, flush->work);
}

// flushMapped(handle, offset, length, fd, offset in the file, wait) → a promise of 0 | -errno; -EINVAL at
// once for what is not within the mapping
Napi::Value FlushMapped(const Napi::CallbackInfo& info) {
  const napi_env env = info.Env();
  Mapping* mapping = Mapping::Of(info[0]);
  const int64_t length = Int64(info, 2);
  uint8_t* part = mapping == nullptr ? nullptr : mapping->Part(Int64(info, 1), length);
  if (part == nullptr) return Number(info, -EINVAL);
  auto flush =
      std::make_unique<Flush>(Flush{mapping, PagesOf(part, length), Int(info, 3), Int64(info, 4), length});
  napi_value name = nullptr;
  napi_value promise = nullptr;
  if (napi_create_string_utf8(env, "fd-reactor flush", NAPI_AUTO_LENGTH, &name) != napi_ok ||
      napi_create_promise(env, &flush->deferred, &promise) != napi_ok ||
      napi_create_async_work(env, nullptr, name, OnWork, OnDone, flush.get(), &flush->work) != napi_ok ||
      napi_queue_async_work(env, flush->work) != napi_ok)
    return Number(info, -ENOMEM);
  mapping->BeginJob();
  flush.release();  // OnDone's
  return {env, promise};
}

}  // namespace

void ExportFlush(Napi::Env env, Napi::Object exports) { Export(env, exports, "flushMapped", FlushMapped); }

}  // namespace fdr
