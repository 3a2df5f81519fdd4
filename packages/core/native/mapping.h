// A mapped range of a file or memory object, and the ArrayBuffer that JavaScript sees it through.
//
// Three hold the range: the ArrayBuffer object, its memory (V8's backing store, which a transfer moves to
// another ArrayBuffer), and the handle that JavaScript unmaps by. Unmapping detaches the buffer, so that
// every view of it becomes empty, and puts private zero pages in the place of the range: a job of the thread
// pool that still has the address, or a buffer that the memory was transferred to, then touches nobody's
// memory, and nobody else can be given the address. The range itself is given back when the last of the three
// is gone.
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
    bool lock = false;      // mlock
    bool losable = false;   // somebody can truncate it
    size_t page = 4096;
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
  bool Lost() const;
  void Unmap(Napi::Env env);

  // A job of the thread pool that must find the file's pages, not those that take their place: unmapping
  // empties the range after the last of them. Both on the thread that made the mapping.
  void BeginJob();
  void EndJob();

 private:
  Mapping(void* address, size_t length, int place) : address_(address), length_(length), place_(place) {}
  ~Mapping();
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;

  void Empty();
  void Release();
  static void OnReleased(napi_env env, void* data, void* hint);
  static void OnHandleCollected(napi_env env, void* data, void* hint);

  void* const address_;
  const size_t length_;
  int place_;  // among LostPages, or -1
  bool mapped_ = true;
  bool was_lost_ = false;
  int holders_ = 0;
  int jobs_ = 0;
  napi_ref buffer_ = nullptr;
  static std::atomic<int64_t> live_;
};

}  // namespace fdr
