#include "environment.h"

#include <sys/mman.h>

#include <algorithm>

#include "reactor.h"
#include "signal-mask.h"
#include "syscall.h"

namespace fdr {

namespace {
constexpr size_t kPage = 4096;
}

Environment& Environment::Create(Napi::Env env) {
  auto* self = new Environment(env);
  // No finalizer: the cleanup hook below deletes it, after the last uv handle is closed.
  napi_set_instance_data(env, self, nullptr, nullptr);
  napi_add_async_cleanup_hook(env, OnCleanup, self, &self->hook_);
  return *self;
}

Environment& Environment::Of(napi_env env) {
  void* data = nullptr;
  napi_get_instance_data(env, &data);
  return *static_cast<Environment*>(data);
}

Environment::Environment(Napi::Env env) {
  napi_get_uv_event_loop(env, &loop_);
  void* page = mmap(nullptr, kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (page == MAP_FAILED || madvise(page, kPage, MADV_WIPEONFORK) != 0) {
    Napi::Error::Fatal("fd-reactor", "no page for the fork mark");
  }
  alive_ = static_cast<uint8_t*>(page);
  *alive_ = 1;
  // Ids are unique in the process, because signals have one owner per process; a page has one address at a
  // time.
  next_id_ = static_cast<uint64_t>(reinterpret_cast<uintptr_t>(page)) << 16;
}

Environment::~Environment() { munmap(const_cast<uint8_t*>(alive_), kPage); }

int64_t Environment::Own(int64_t fd) {
  if (fd < 0) return fd;
  for (const auto& reactor : reactors_) reactor->NumberTaken(static_cast<int>(fd));
  return Adopt(static_cast<int>(fd));
}

int Environment::Adopt(int fd) {
  if (static_cast<size_t>(fd) >= owned_.size()) owned_.resize(static_cast<size_t>(fd) + 64);
  // Owned already: it was closed behind our back and the kernel gave the number out again. It is the newest
  // now.
  Disown(fd);
  Link& link = owned_[static_cast<size_t>(fd)];
  link = {newest_, kEnd, true, ++serials_};
  if (newest_ != kEnd) owned_[static_cast<size_t>(newest_)].newer = fd;
  newest_ = fd;
  return fd;
}

void Environment::Disown(int fd) {
  if (fd < 0 || static_cast<size_t>(fd) >= owned_.size()) return;
  Link& link = owned_[static_cast<size_t>(fd)];
  if (!link.owned) return;
  if (link.older != kEnd) owned_[static_cast<size_t>(link.older)].newer = link.newer;
  if (link.newer != kEnd) owned_[static_cast<size_t>(link.newer)].older = link.older;
  if (newest_ == fd) newest_ = link.older;
  link = {};
}

int Environment::Close(int fd) {
  Disown(fd);
  return CloseFd(fd);
}

void Environment::Add(std::shared_ptr<Reactor> reactor) { reactors_.push_back(std::move(reactor)); }

void Environment::Remove(const Reactor* reactor) {
  reactors_.erase(std::remove_if(reactors_.begin(), reactors_.end(),
                                 [reactor](const auto& held) { return held.get() == reactor; }),
                  reactors_.end());
}

void Environment::HandleClosed() {
  closing_handles_--;
  FinishWhenIdle();
}

void Environment::OnCleanup(napi_async_cleanup_hook_handle, void* data) {
  auto* self = static_cast<Environment*>(data);
  self->ending_ = true;
  // A reactor takes itself out of the list; the copy keeps the last reference until this function ends.
  const auto reactors = self->reactors_;
  for (auto reactor = reactors.rbegin(); reactor != reactors.rend(); ++reactor) {
    // Nobody is left to hear what is pending. Signals that come later have their old disposition again.
    SignalMask::Instance().ReleaseAll((*reactor)->id(), [](const signalfd_siginfo&) {});
    (*reactor)->Close();
  }
  if (!self->Forked()) {
    while (self->newest_ != kEnd) self->Close(self->newest_);
  }
  self->FinishWhenIdle();
}

void Environment::FinishWhenIdle() {
  if (!ending_ || closing_handles_ > 0) return;
  napi_remove_async_cleanup_hook(hook_);
  delete this;
}

}  // namespace fdr
