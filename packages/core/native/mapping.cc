#include "mapping.h"

#include <sys/mman.h>

#include <cerrno>

#include "lost-pages.h"
#include "syscall.h"

namespace fdr {

namespace {
constexpr napi_type_tag kMappingTag = {0x6664722d6d617070, 0x696e672d68616e64};

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#endif

// What brings the pages of a private mapping in for it, as MAP_POPULATE and mlock do, brings them in for
// writing: it gets copies, and never again sees what others store. So private pages are locked as they come,
// and brought in for reading.
int64_t Lock(void* address, const Mapping::Request& request) {
  return Syscall([&] { return mlock2(address, request.length, request.write ? 0 : MLOCK_ONFAULT); });
}
}  // namespace

// A counter only: what it counts hangs off the handles.
std::atomic<int64_t> Mapping::live_{0};

Mapping::~Mapping() {
  munmap(address_, length_);  // cannot fail for a range that mmap gave
  if (place_ >= 0) LostPages::Forget(place_);
  live_.fetch_sub(1, std::memory_order_relaxed);
}

Napi::Value Mapping::Map(Napi::Env env, const Request& request) {
  // Read-only memory would make a stray store into the buffer a SIGSEGV. A private mapping keeps such a store
  // on a page of its own, so that neither the process nor the memory is harmed.
  const int sharing = request.write ? MAP_SHARED : MAP_PRIVATE | MAP_NORESERVE;
  const int populate = request.write && request.populate ? MAP_POPULATE : 0;
  void* address =
      mmap(nullptr, request.length, PROT_READ | PROT_WRITE, sharing | populate, request.fd, request.offset);
  if (address == MAP_FAILED) return Napi::Number::New(env, -errno);
  int place = -1;
  int64_t failed = 0;
  if (request.lock) failed = Lock(address, request);
  // Before Linux 5.14 there is no such advice, and pages come when they are touched.
  if (!request.write && (request.populate || request.lock))
    madvise(address, request.length, MADV_POPULATE_READ);
  if (failed == 0 && request.losable)
    failed = place = LostPages::Watch(address, request.length, request.page);
  if (failed < 0) {
    munmap(address, request.length);
    return Napi::Number::New(env, static_cast<double>(failed));
  }
  auto* mapping = new Mapping(address, request.length, place);
  live_.fetch_add(1, std::memory_order_relaxed);

  napi_value handle = nullptr;
  napi_value buffer = nullptr;
  mapping->holders_ = 1;
  if (napi_create_object(env, &handle) != napi_ok ||
      napi_type_tag_object(env, handle, &kMappingTag) != napi_ok ||
      napi_wrap(env, handle, mapping, OnHandleCollected, nullptr, nullptr) != napi_ok) {
    mapping->Release();
    return env.Undefined();
  }
  // From here on a failure leaves an exception, and the collector finds the handle.
  if (napi_create_external_arraybuffer(env, address, request.length, OnReleased, mapping, &buffer) != napi_ok)
    return env.Undefined();
  mapping->holders_++;
  if (napi_add_finalizer(env, buffer, mapping, OnReleased, mapping, nullptr) != napi_ok)
    return env.Undefined();
  mapping->holders_++;
  napi_create_reference(env, buffer, 0, &mapping->buffer_);
  napi_set_named_property(env, handle, "buffer", buffer);
  return {env, handle};
}

Mapping* Mapping::Of(const Napi::Value& handle) {
  bool ours = false;
  void* data = nullptr;
  const napi_env env = handle.Env();
  if (!handle.IsObject() || napi_check_object_type_tag(env, handle, &kMappingTag, &ours) != napi_ok ||
      !ours || napi_unwrap(env, handle, &data) != napi_ok)
    return nullptr;
  return static_cast<Mapping*>(data);
}

uint8_t* Mapping::Part(int64_t offset, int64_t length) const {
  const bool within = offset >= 0 && length >= 0 && static_cast<uint64_t>(offset) <= length_ &&
                      static_cast<uint64_t>(length) <= length_ - static_cast<uint64_t>(offset);
  return mapped_ && within ? data() + offset : nullptr;
}

bool Mapping::Lost() const { return mapped_ && place_ >= 0 ? LostPages::Lost(place_) : was_lost_; }

void Mapping::Unmap(Napi::Env env) {
  if (!mapped_) return;
  was_lost_ = Lost();
  napi_value buffer = nullptr;
  if (buffer_ != nullptr && napi_get_reference_value(env, buffer_, &buffer) == napi_ok && buffer != nullptr) {
    bool detached = false;
    // One that was transferred is detached already.
    if (napi_is_detached_arraybuffer(env, buffer, &detached) == napi_ok && !detached)
      napi_detach_arraybuffer(env, buffer);
  }
  mapped_ = false;
  if (jobs_ == 0) Empty();
}

void Mapping::Empty() {
  const void* emptied = mmap(address_, length_, PROT_READ | PROT_WRITE,
                             MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0);
  // Refused only when the process has too many mappings. The memory then stays until the last holder is gone.
  if (emptied == MAP_FAILED || place_ < 0) return;
  LostPages::Forget(place_);
  place_ = -1;
}

void Mapping::BeginJob() {
  jobs_++;
  holders_++;
}

void Mapping::EndJob() {
  if (--jobs_ == 0 && !mapped_) Empty();
  Release();
}

void Mapping::Release() {
  if (--holders_ == 0) delete this;
}

void Mapping::OnReleased(napi_env, void*, void* mapping) { static_cast<Mapping*>(mapping)->Release(); }

void Mapping::OnHandleCollected(napi_env env, void* mapping, void*) {
  auto* self = static_cast<Mapping*>(mapping);
  if (self->buffer_ != nullptr) napi_delete_reference(env, self->buffer_);
  self->buffer_ = nullptr;
  self->Release();
}

}  // namespace fdr
