// What belongs to one Node environment (the main thread, or one worker): the descriptors that it owns, its
// reactors, and their end. When the environment goes, whatever is still open is closed, newest first.
#pragma once

#include <napi.h>
#include <uv.h>

#include <memory>
#include <vector>

#include "message.h"

namespace fdr {

class Reactor;

class Environment {
 public:
  static Environment& Create(Napi::Env env);
  static Environment& Of(napi_env env);

  Environment(const Environment&) = delete;
  Environment& operator=(const Environment&) = delete;

  // Makes the environment the owner of `fd`; passes a negative result through, so that calls can be nested.
  int64_t Own(int64_t fd);
  // Takes over a descriptor that was open before: whoever watches it goes on doing so.
  int Adopt(int fd);
  // Gives up ownership; the descriptor stays open.
  void Disown(int fd);
  int Close(int fd);
  // Which descriptor of all that had this number it is; 0 when the environment does not own it. Numbers come
  // back, serials never.
  uint32_t SerialOf(int fd) const {
    return fd >= 0 && static_cast<size_t>(fd) < owned_.size() ? owned_[static_cast<size_t>(fd)].serial : 0;
  }

  void Add(std::shared_ptr<Reactor> reactor);
  void Remove(const Reactor* reactor);
  uint64_t NextId() { return next_id_++; }

  // True in a child that fork() made without exec: the epoll sets that it sees are its parent's.
  bool Forked() const { return *alive_ == 0; }
  uv_loop_t* loop() const { return loop_; }
  MessageScratchPointer& message_scratch() { return message_scratch_; }

  // Counts a uv handle that is being closed; the environment ends after the last one.
  void HandleClosing() { closing_handles_++; }
  void HandleClosed();

 private:
  struct Link {
    int older = kEnd;
    int newer = kEnd;
    bool owned = false;
    uint32_t serial = 0;
  };
  static constexpr int kEnd = -1;

  explicit Environment(Napi::Env env);
  ~Environment();
  static void OnCleanup(napi_async_cleanup_hook_handle hook, void* self);
  void FinishWhenIdle();

  uv_loop_t* loop_ = nullptr;
  napi_async_cleanup_hook_handle hook_ = nullptr;
  std::vector<Link> owned_;  // by descriptor; a list in order of age runs through it
  int newest_ = kEnd;
  uint32_t serials_ = 0;
  std::vector<std::shared_ptr<Reactor>> reactors_;
  uint64_t next_id_;
  MessageScratchPointer message_scratch_;
  int closing_handles_ = 0;
  bool ending_ = false;
  volatile uint8_t* alive_ = nullptr;  // a page that the kernel wipes in a forked child
};

}  // namespace fdr
