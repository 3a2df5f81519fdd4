// A mapped range of a file or memory object, and the ArrayBuffer that JavaScript sees it through.
//
// Three hold the range: the ArrayBuffer object, its memory (V8's backing store, which a transfer moves to
// another ArrayBuffer), and the handle that JavaScript unmaps by. Unmapping detaches the buffer, so that
// every view of it becomes empty, and puts private zero pages in the place of the range: a job of the thread
// pool that still has the address, or a buffer that the memory was transferred to, then touches nobody's
// memory, and nobody else can be given the address. The range itself is given back when the last of the three
// is gone.
//
// A buffer that the memory was transferred to can go on to another thread, and outlive the environment that
// mapped it; nobody tells us when it is gone. Such a range is emptied when the environment ends, and kept.
// That it was moved is told by JavaScript, which Mapping's buffers do by methods of their own.
#pragma once

#include <napi.h>

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace fdr {

class Mapping {
 public:
  struct Request {
    int fd = -1;
    int64_t offset = 0;
    size_t length = 0;
    bool write = false;     // otherwise stores stay private, see Map
    bool populate = false;  // MAP_POPULATE
    size_t page = 4096;     // the size of the object's pages
  };

  // The handle of a new mapping, with its `buffer`; or -errno.
  static Napi::Value Map(Napi::Env env, const Request& request);
  // The mapping of a handle; null for anything else.
  static Mapping* Of(const Napi::Value& handle);
  // How many ranges the process has not given back yet.
  static int64_t Live() { return live_.load(std::memory_order_relaxed); }

  // Null once it was unmapped.
  uint8_t* data() const { return mapped_ ? static_cast<uint8_t*>(address_) : nullptr; }
  size_t length() const { return length_; }
  // A part of it; null when that is not within it, or when it was unmapped.
  uint8_t* Part(int64_t offset, int64_t length) const;
  // mlock(2): 0 or -errno.
  int64_t Lock();
  // From now on a page that is missing does not kill the process: 0, or -ENOMEM when the table is full.
  int64_t Watch();
  bool Lost() const { return place_ < 0 ? was_lost_ : LostPlace(); }
  void Unmap();
  // Its memory is about to be transferred to another ArrayBuffer.
  void Moves() { moved_ = true; }

  // A job of the thread pool that must find the file's pages, not those that take their place: unmapping
  // empties the range after the last of them. Both on the thread that made the mapping.
  void BeginJob();
  void EndJob();
  // Native code that works on the range holds it; after an unmapping `data` is null.
  void Hold() { holders_++; }
  void Release();

 private:
  Mapping(napi_env env, void* address, size_t span, const Request& request)
      : env_(env),
        address_(address),
        span_(span),
        length_(request.length),
        page_(request.page),
        write_(request.write) {}
  ~Mapping();
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;

  void Empty();
  bool LostPlace() const;
  static void OnHandleCollected(napi_env env, void* data, void* hint);
  static void OnBufferCollected(napi_env env, void* data, void* hint);
  static void OnMemoryFreed(napi_env env, void* data, void* hint);

  const napi_env env_;
  void* const address_;
  const size_t span_;  // whole pages, as munmap(2) wants them
  const size_t length_;
  const size_t page_;
  const bool write_;
  int place_ = -1;  // among LostPages
  bool mapped_ = true;
  bool was_lost_ = false;
  bool moved_ = false;
  bool kept_ = false;
  int holders_ = 0;
  int jobs_ = 0;
  napi_ref buffer_ = nullptr;
  static std::atomic<int64_t> live_;
};

}  // namespace fdr
