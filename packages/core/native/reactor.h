// A reactor's native half: three epoll sets (one for each priority), the table of what is registered in them,
// and the turn that drains what is ready and crosses into JavaScript once for each chunk.
#pragma once

#include <napi.h>
#include <sys/epoll.h>
#include <uv.h>

#include <array>
#include <initializer_list>
#include <memory>
#include <vector>

#include "drain.h"

namespace fdr {

class Environment;

struct ReactorOptions {
  uint32_t max_events = 256;
  uint32_t chunk_records = 32;
  int64_t busy_poll_ns = 0;
  bool measure = false;
};

// Memory that native code writes to and JavaScript sees: it lives until both have let go of it.
struct SharedMemory {
  explicit SharedMemory(size_t size) : bytes(new uint8_t[size]()), size(size) {}
  std::unique_ptr<uint8_t[]> bytes;
  size_t size;
};

class Reactor : public std::enable_shared_from_this<Reactor> {
 public:
  // `dispatch(high, from, count)` delivers records; `rebuilt(priority)` hears that a set was made anew.
  static int64_t Create(napi_env env, Napi::Function dispatch, Napi::Function rebuilt,
                        const ReactorOptions& options, std::shared_ptr<Reactor>* created);
  ~Reactor();

  int Add(uint32_t index, const Slot& wanted);
  int Modify(uint32_t index, uint32_t interest);
  void Remove(uint32_t index);
  // The kernel gave the number to a new file: if it was closed behind its source's back, the source has
  // nothing any more.
  void NumberTaken(int fd);
  void AddArgument(uint32_t index, int64_t delta) { slots_[index].argument += delta; }
  bool Has(uint32_t index) const { return !closed_ && index < slots_.size() && slots_[index].used; }

  // Drains and delivers what is ready now; returns how many records that were.
  int Turn();
  // Makes the reactor's descriptor readable, so that the next turn calls JavaScript even when nothing else is
  // ready.
  int Wake();

  // Sends what the main batch's header names: a part of `bytes`, or of a slab when `bytes` is empty.
  void Send(const uint8_t* bytes, size_t size);

  // The uv wakeup.
  int StartUv();
  void SetRef(bool ref);

  void Close();
  bool closed() const { return closed_; }
  int fd() const { return sets_[kNormal].fd; }
  uint64_t id() const { return id_; }
  // [records, slab] of the main batches and of the high ones.
  std::array<std::shared_ptr<SharedMemory>, 4> Memory() const {
    return {main_memory_, main_slab_, high_memory_, high_slab_};
  }

 private:
  enum Priority : uint8_t { kHigh = 0, kNormal = 1, kLow = 2 };
  struct Set {
    int fd = -1;
    bool stale = false;  // it holds a registration that no descriptor of ours can delete
    std::vector<epoll_event> events;
  };

  Reactor(Environment& environment, napi_env env, const ReactorOptions& options);
  int Control(int operation, uint32_t index);
  int OpenSet(uint8_t priority);
  void Rebuild(uint8_t priority);
  int Wait(uint8_t priority, uint32_t limit, Batch& stamp);
  void Run(uint8_t priority, uint32_t limit, Batch& batch);
  bool Deliver(Batch& batch, bool high);
  void RunHigh();
  bool Live(uint8_t priority, uint64_t token);
  bool Call(const Napi::FunctionReference& function, std::initializer_list<uint32_t> arguments);
  void LetGo();

  static void OnReadable(uv_poll_t* handle, int status, int events);
  static void OnSlice(uv_idle_t* handle);
  static void OnHandleClosed(uv_handle_t* handle);

  Environment& environment_;
  napi_env env_;
  ReactorOptions options_;
  uint64_t id_;
  Napi::FunctionReference dispatch_, rebuilt_;
  Napi::ObjectReference resource_;
  napi_async_context context_ = nullptr;
  std::array<Set, 3> sets_;
  std::vector<Slot> slots_;
  std::vector<int32_t> registrant_;  // by descriptor: the slot that registered the number last, or -1
  std::shared_ptr<SharedMemory> main_memory_, main_slab_, high_memory_, high_slab_;
  Batch main_, high_;
  uint64_t batch_ = 1;
  int wake_fd_ = -1;
  int delivered_ = 0;
  int64_t last_activity_ = 0;
  bool turning_ = false;
  bool closed_ = false;
  bool uv_started_ = false;
  uv_poll_t poll_{};
  uv_idle_t idle_{};
  int open_handles_ = 0;
  std::shared_ptr<Reactor> self_;  // held while uv knows our handles
};

}  // namespace fdr
