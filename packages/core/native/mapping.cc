#include "mapping.h"

#include <sys/mman.h>

#include <cerrno>

#include "lost-pages.h"
#include "syscall.h"

namespace fdr {

namespace {
constexpr napi_type_tag kMappingTag = {0x6664722d6d617070, 0x696e672d68616e64};
constexpr size_t kMaxLength = size_t{1} << 32;  // of an ArrayBuffer in Node 20

// Whether JavaScript cannot run any more: then such a call is refused.
bool Ending(napi_env env) {
  napi_value value = nullptr;
  return napi_get_boolean(env, true, &value) != napi_ok || napi_coerce_to_bool(env, value, &value) != napi_ok;
}
}  // namespace

// A counter only: what it counts hangs off the handles.
std::atomic<int64_t> Mapping::live_{0};

Mapping::~Mapping() {
  if (buffer_ != nullptr) napi_delete_reference(env_, buffer_);
  // Nobody can touch it any more, but somebody may be given the address as soon as it is free.
  if (place_ >= 0) LostPages::Forget(place_);
  if (kept_) return;
  munmap(address_, span_);  // cannot fail for a range that mmap gave
  live_.fetch_sub(1, std::memory_order_relaxed);
}

Napi::Value Mapping::Map(Napi::Env env, const Request& request) {
  if (request.length == 0 || request.length > kMaxLength || request.page == 0)
    return Napi::Number::New(env, -EINVAL);
  const size_t span = (request.length + request.page - 1) / request.page * request.page;
  // Read-only memory would make a stray store into the buffer a SIGSEGV. A private mapping keeps such a store
  // on a page of its own, so that neither the process nor the memory is harmed. It becomes writable when its
  // pages are there: populating a writable private mapping copies them all, and no store of others would
  // show.
  const int sharing = request.write ? MAP_SHARED : MAP_PRIVATE | MAP_NORESERVE;
  void* address = mmap(nullptr, request.length, request.write ? PROT_READ | PROT_WRITE : PROT_READ,
                       sharing | (request.populate ? MAP_POPULATE : 0), request.fd, request.offset);
  if (address == MAP_FAILED) return Napi::Number::New(env, -errno);
  if (!request.write && mprotect(address, span, PROT_READ | PROT_WRITE) != 0) {
    const int failed = -errno;
    munmap(address, span);
    return Napi::Number::New(env, failed);
  }
  auto* mapping = new Mapping(env, address, span, request);
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
  if (napi_create_external_arraybuffer(env, address, request.length, OnMemoryFreed, mapping, &buffer) !=
      napi_ok)
    return env.Undefined();
  mapping->holders_++;
  if (napi_add_finalizer(env, buffer, mapping, OnBufferCollected, nullptr, nullptr) != napi_ok)
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

int64_t Mapping::Lock() {
  // Locking what is private and writable copies every page, unless only pages that are there are meant.
  const unsigned flags = write_ ? 0 : MLOCK_ONFAULT;
  return Syscall([&] { return mlock2(address_, span_, flags); });
}

int64_t Mapping::Watch() {
  const int place = LostPages::Watch(address_, span_, page_);
  if (place < 0) return place;
  place_ = place;
  return 0;
}

uint8_t* Mapping::Part(int64_t offset, int64_t length) const {
  const bool within = offset >= 0 && length >= 0 && static_cast<uint64_t>(offset) <= length_ &&
                      static_cast<uint64_t>(length) <= length_ - static_cast<uint64_t>(offset);
  return mapped_ && within ? data() + offset : nullptr;
}

bool Mapping::LostPlace() const { return mapped_ ? LostPages::Lost(place_) : was_lost_; }

void Mapping::Unmap() {
  if (!mapped_) return;
  napi_value buffer = nullptr;
  bool detached = false;
  // One that was transferred is detached already.
  if (napi_get_reference_value(env_, buffer_, &buffer) == napi_ok && buffer != nullptr &&
      napi_is_detached_arraybuffer(env_, buffer, &detached) == napi_ok && !detached)
    napi_detach_arraybuffer(env_, buffer);
  was_lost_ = Lost();
  mapped_ = false;
  if (jobs_ == 0) Empty();
}

void Mapping::Empty() {
  const void* emptied = mmap(address_, span_, PROT_READ | PROT_WRITE,
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

void Mapping::OnHandleCollected(napi_env, void* mapping, void*) { static_cast<Mapping*>(mapping)->Release(); }

void Mapping::OnBufferCollected(napi_env, void* mapping, void*) { static_cast<Mapping*>(mapping)->Release(); }

void Mapping::OnMemoryFreed(napi_env env, void*, void* mapping) {
  auto* self = static_cast<Mapping*>(mapping);
  // While the environment ends Node says so of every buffer's memory, whoever has it.
  if (self->moved_ && Ending(env)) {
    if (self->mapped_) self->Empty();
    self->mapped_ = false;
    self->kept_ = true;
  }
  self->Release();
}

}  // namespace fdr
