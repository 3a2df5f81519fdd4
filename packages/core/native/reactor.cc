#include "reactor.h"

#include <sys/eventfd.h>

#include <algorithm>

#include "environment.h"
#include "syscall.h"

namespace fdr {

namespace {

constexpr size_t kMainSlab = 1 << 20;
constexpr size_t kHighSlab = 256 * 1024;
constexpr int64_t kSliceNs = 20'000;  // how long busy polling keeps libuv waiting at a time
constexpr int kTurns = 4;             // how many turns libuv waits for, when each of them
constexpr int kBusy = 2;              // delivers this much

// Tokens of what is in the main set and is no source. Slots are counted from 0 and never get that far.
constexpr uint32_t kHighToken = 0xffffffff;
constexpr uint32_t kLowToken = 0xfffffffe;
constexpr uint32_t kWakeToken = 0xfffffffd;

constexpr uint64_t Token(uint32_t index, uint32_t generation) { return uint64_t{generation} << 32 | index; }
constexpr uint32_t IndexOf(uint64_t token) { return static_cast<uint32_t>(token); }
constexpr uint32_t GenerationOf(uint64_t token) { return static_cast<uint32_t>(token >> 32); }

Batch MakeBatch(const std::shared_ptr<SharedMemory>& memory, const std::shared_ptr<SharedMemory>& slab) {
  Batch batch;
  batch.header = reinterpret_cast<BatchHeader*>(memory->bytes.get());
  batch.records = reinterpret_cast<Record*>(memory->bytes.get()) + 1;
  batch.capacity = memory->size / sizeof(Record) - 1;
  batch.slab = slab->bytes.get();
  batch.slab_size = slab->size;
  return batch;
}

int AddTo(int set, int fd, uint32_t events, uint64_t token) {
  epoll_event event{};
  event.events = events;
  event.data.u64 = token;
  return static_cast<int>(Syscall([&] { return epoll_ctl(set, EPOLL_CTL_ADD, fd, &event); }));
}

}  // namespace

Reactor::Reactor(Environment& environment, napi_env env, const ReactorOptions& options)
    : environment_(environment), env_(env), options_(options), id_(environment.NextId()) {}

int64_t Reactor::Create(napi_env env, Napi::Function dispatch, Napi::Function rebuilt,
                        const ReactorOptions& options, std::shared_ptr<Reactor>* created) {
  Environment& environment = Environment::Of(env);
  std::shared_ptr<Reactor> reactor(new Reactor(environment, env, options));
  const int opened = reactor->OpenSet(kNormal);
  if (opened < 0) return opened;
  // One more drain may begin while a chunk has any room left, so a chunk can overshoot by one listener's
  // accepts.
  const size_t records = sizeof(Record) * (1 + options.max_events + kAccepts);
  reactor->main_memory_ = std::make_shared<SharedMemory>(records);
  reactor->high_memory_ = std::make_shared<SharedMemory>(records);
  reactor->main_slab_ = std::make_shared<SharedMemory>(kMainSlab);
  reactor->high_slab_ = std::make_shared<SharedMemory>(kHighSlab);
  reactor->main_ = MakeBatch(reactor->main_memory_, reactor->main_slab_);
  reactor->high_ = MakeBatch(reactor->high_memory_, reactor->high_slab_);
  reactor->dispatch_ = Napi::Persistent(dispatch);
  reactor->rebuilt_ = Napi::Persistent(rebuilt);
  reactor->resource_ = Napi::Persistent(Napi::Object::New(env));
  napi_async_init(env, reactor->resource_.Value(), Napi::String::New(env, "FdReactor"), &reactor->context_);
  environment.Add(reactor);
  *created = std::move(reactor);
  return 0;
}

Reactor::~Reactor() {
  // After Close() there is nothing left here. Without it, creation failed, or the environment went: it closed
  // everything.
  dispatch_.SuppressDestruct();
  rebuilt_.SuppressDestruct();
  resource_.SuppressDestruct();
}

int Reactor::OpenSet(uint8_t priority) {
  Set& set = sets_[priority];
  if (set.fd >= 0) return 0;
  if (environment_.Forked()) return -ECHILD;
  const int64_t fd = environment_.Own(Syscall([] { return epoll_create1(EPOLL_CLOEXEC); }));
  if (fd < 0) return static_cast<int>(fd);
  if (priority != kNormal) {
    const int added = AddTo(sets_[kNormal].fd, static_cast<int>(fd), EPOLLIN,
                            Token(priority == kHigh ? kHighToken : kLowToken, 0));
    if (added < 0) {
      environment_.Close(static_cast<int>(fd));
      return added;
    }
  }
  set.fd = static_cast<int>(fd);
  set.events.resize(options_.max_events);
  return 0;
}

int Reactor::Control(int operation, uint32_t index) {
  if (environment_.Forked()) return operation == EPOLL_CTL_DEL ? 0 : -ECHILD;
  const Slot& slot = slots_[index];
  epoll_event event{};
  event.events = slot.interest;
  event.data.u64 = Token(index, slot.generation);
  return static_cast<int>(
      Syscall([&] { return epoll_ctl(sets_[slot.priority].fd, operation, slot.fd, &event); }));
}

int Reactor::Add(uint32_t index, const Slot& wanted) {
  const int opened = OpenSet(wanted.priority);
  if (opened < 0) return opened;
  if (index >= slots_.size()) slots_.resize(index + 64);
  if (static_cast<size_t>(wanted.fd) >= registrant_.size())
    registrant_.resize(static_cast<size_t>(wanted.fd) + 64, -1);
  Slot& slot = slots_[index];
  const uint64_t left_in =
      slot.left_in;  // its former owner may have left in the batch that is still being delivered
  slot = wanted;
  slot.left_in = left_in;
  if (slot.interest != 0 || slot.drain == Drain::kNone) {
    const int added = Control(EPOLL_CTL_ADD, index);
    if (added < 0) return added;
    slot.in_set = slot.interest != 0;
    // Somebody else's descriptor may be one that epoll refuses: better to hear of it now than with the first
    // listener.
    if (!slot.in_set) Control(EPOLL_CTL_DEL, index);
  }
  slot.used = true;
  NumberTaken(wanted.fd);
  registrant_[static_cast<size_t>(wanted.fd)] = static_cast<int32_t>(index);
  return 0;
}

int Reactor::Modify(uint32_t index, uint32_t interest) {
  Slot& slot = slots_[index];
  slot.interest = interest;
  if (registrant_[static_cast<size_t>(slot.fd)] != static_cast<int32_t>(index))
    return interest == 0 ? 0 : -EBADF;
  if (interest == 0) {
    // Out of the set altogether: with an interest of 0 epoll still reports EPOLLHUP, without end.
    if (slot.in_set)
      Control(EPOLL_CTL_DEL, index);  // EBADF, ENOENT: closed behind our back, which is gone as well
    slot.in_set = false;
    slot.left_in = batch_;
    return 0;
  }
  const int result = Control(slot.in_set ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, index);
  slot.in_set = result == 0;
  return result;
}

void Reactor::Remove(uint32_t index) {
  Slot& slot = slots_[index];
  int32_t& registrant = registrant_[static_cast<size_t>(slot.fd)];
  if (registrant == static_cast<int32_t>(index)) {
    Modify(index, 0);
    registrant = -1;
  }
  slot.used = false;
  slot.left_in = batch_;
}

// The kernel took the old file out of the set then, or it is a ghost there if a duplicate of it is open.
void Reactor::NumberTaken(int fd) {
  if (static_cast<size_t>(fd) >= registrant_.size()) return;
  int32_t& registrant = registrant_[static_cast<size_t>(fd)];
  if (registrant >= 0) slots_[static_cast<size_t>(registrant)].in_set = false;
  registrant = -1;
}

// Whether a token that the kernel reported belongs to somebody who still wants it.
bool Reactor::Live(uint8_t priority, uint64_t token) {
  const uint32_t index = IndexOf(token);
  if (index < slots_.size()) {
    const Slot& slot = slots_[index];
    const bool same = slot.generation == GenerationOf(token);
    if (same && slot.used && slot.in_set) return true;
    // A handler of this very batch removed or paused it after epoll_wait had reported it. That is no ghost.
    if (slot.left_in == batch_) return false;
  }
  sets_[priority].stale = true;
  return false;
}

// A registration outlives its descriptor while a duplicate of it is open somewhere, and then no epoll_ctl can
// reach it. Such a ghost would keep a level-triggered set ready for ever, so the set is made anew from what
// we know to be registered.
void Reactor::Rebuild(uint8_t priority) {
  Set& set = sets_[priority];
  set.stale = false;
  const int64_t fresh = Syscall([] { return epoll_create1(EPOLL_CLOEXEC); });
  if (fresh < 0) return;  // no descriptor left: the ghost stays for now and is met again in the next turn
  const int fresh_fd = static_cast<int>(fresh);
  if (priority == kNormal) {
    if (uv_started_) uv_poll_stop(&poll_);
    if (sets_[kHigh].fd >= 0) AddTo(fresh_fd, sets_[kHigh].fd, EPOLLIN, Token(kHighToken, 0));
    if (sets_[kLow].fd >= 0) AddTo(fresh_fd, sets_[kLow].fd, EPOLLIN, Token(kLowToken, 0));
    if (wake_fd_ >= 0) AddTo(fresh_fd, wake_fd_, EPOLLIN, Token(kWakeToken, 0));
  } else {
    epoll_ctl(sets_[kNormal].fd, EPOLL_CTL_DEL, set.fd, nullptr);
  }
  // The number stays, so that whoever watches it by number need not learn a new one.
  Syscall([&] { return dup3(fresh_fd, set.fd, O_CLOEXEC); });
  CloseFd(fresh_fd);
  for (uint32_t index = 0; index < slots_.size(); index++) {
    Slot& slot = slots_[index];
    if (slot.used && slot.in_set && slot.priority == priority)
      slot.in_set = Control(EPOLL_CTL_ADD, index) == 0;
  }
  if (priority != kNormal) {
    AddTo(sets_[kNormal].fd, set.fd, EPOLLIN, Token(priority == kHigh ? kHighToken : kLowToken, 0));
  } else if (uv_started_) {
    uv_poll_start(&poll_, UV_READABLE, OnReadable);
  }
  Call(rebuilt_, {priority});
}

int Reactor::Wait(uint8_t priority, uint32_t limit, Batch& stamp) {
  Set& set = sets_[priority];
  const int64_t ready = PollSet(set.fd, set.events.data(), static_cast<int>(limit));
  if (options_.measure && ready > 0) stamp.header->returned = MonotonicNow();
  return ready < 0 ? 0 : static_cast<int>(ready);
}

int Reactor::Turn() {
  if (closed_ || turning_ || environment_.Forked()) return 0;
  const auto keep = shared_from_this();  // a handler may close the reactor
  turning_ = true;
  batch_++;
  delivered_ = 0;
  RunHigh();
  if (!closed_) Run(kNormal, options_.max_events, main_);
  if (!closed_ && sets_[kLow].fd >= 0)
    Run(kLow, std::min(options_.chunk_records, options_.max_events), main_);
  for (const uint8_t priority : {kHigh, kNormal, kLow}) {
    if (!closed_ && sets_[priority].stale) Rebuild(priority);
  }
  turning_ = false;
  if (closed_) LetGo();
  return delivered_;
}

void Reactor::RunHigh() {
  if (!closed_ && sets_[kHigh].fd >= 0) Run(kHigh, options_.max_events, high_);
}

void Reactor::Run(uint8_t priority, uint32_t limit, Batch& batch) {
  const int ready = Wait(priority, limit, batch);
  const bool high = priority == kHigh;
  const size_t chunk = high || sets_[kHigh].fd < 0 ? options_.max_events : options_.chunk_records;
  bool woken = false;
  int next = 0;
  while (next < ready && !closed_) {
    batch.count = batch.slab_used = 0;
    for (; next < ready && batch.count < chunk; next++) {
      const epoll_event& event = sets_[priority].events[static_cast<size_t>(next)];
      const uint64_t token = event.data.u64;
      const uint32_t index = IndexOf(token);
      if (index == kHighToken || index == kLowToken) continue;
      if (index == kWakeToken) {
        eventfd_t count;
        Syscall([&] { return eventfd_read(wake_fd_, &count); });
        woken = true;
      } else if (Live(priority, token)) {
        if (!HasRoom(batch, slots_[index])) break;
        DrainInto(batch, slots_[index], index, event.events, environment_);
      }
    }
    if ((batch.count > 0 || woken) && !Deliver(batch, high)) return;
    woken = false;
    if (!high && next < ready) RunHigh();
  }
}

// False when JavaScript is being ended (a worker was terminated). What the rest of the batch took is then in
// the environment's books, and is closed with it.
bool Reactor::Deliver(Batch& batch, bool high) {
  delivered_ += static_cast<int>(batch.count);
  const auto count = static_cast<uint32_t>(batch.count);
  uint32_t from = 0;
  do {
    batch.header->reached = -1;
    Call(dispatch_, {high ? 1u : 0u, from, count});
    if (batch.header->reached < 0) return false;
    from = static_cast<uint32_t>(batch.header->reached);
    if (from < count) RunHigh();
  } while (from < count && !closed_);
  return true;
}

// Through napi_make_callback, so that ticks and microtasks run when it returns and the async context is the
// reactor's.
bool Reactor::Call(const Napi::FunctionReference& function, std::initializer_list<uint32_t> arguments) {
  std::array<napi_value, 3> values;
  size_t count = 0;
  for (const uint32_t argument : arguments) napi_create_uint32(env_, argument, &values[count++]);
  napi_value result = nullptr;
  const napi_status status =
      napi_make_callback(env_, context_, resource_.Value(), function.Value(), count, values.data(), &result);
  if (status == napi_ok) return true;
  bool pending = false;
  napi_is_exception_pending(env_, &pending);
  if (pending) {
    // The functions themselves never throw: a tick or a microtask did. It gets what Node gives every such
    // error.
    napi_value error;
    if (napi_get_and_clear_last_exception(env_, &error) == napi_ok) napi_fatal_exception(env_, error);
  }
  return false;
}

void Reactor::Send(const uint8_t* bytes, size_t size) {
  BatchHeader& mail = *main_.header;
  if (bytes == nullptr) {
    const Batch& batch = mail.send_slab == 0 ? main_ : high_;
    bytes = batch.slab;
    size = batch.slab_size;
  }
  if (environment_.SerialOf(mail.send_fd) != mail.send_serial) {
    mail.send_result = -EBADF;  // closed behind our back, and the number was given to another
  } else if (mail.send_offset > size || mail.send_length > size - mail.send_offset) {
    mail.send_result = -EINVAL;
  } else {
    const int64_t sent = SendNow(mail.send_fd, bytes + mail.send_offset, mail.send_length);
    mail.send_result = static_cast<int32_t>(sent);
  }
}

int Reactor::Wake() {
  if (environment_.Forked()) return -ECHILD;
  if (wake_fd_ < 0) {
    const int64_t fd = environment_.Own(Syscall([] { return eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK); }));
    if (fd < 0) return static_cast<int>(fd);
    const int added = AddTo(sets_[kNormal].fd, static_cast<int>(fd), EPOLLIN, Token(kWakeToken, 0));
    if (added < 0) {
      environment_.Close(static_cast<int>(fd));
      return added;
    }
    wake_fd_ = static_cast<int>(fd);
  }
  return static_cast<int>(Syscall([&] { return eventfd_write(wake_fd_, 1); }));
}

int Reactor::StartUv() {
  const int status = uv_poll_init(environment_.loop(), &poll_, fd());
  if (status < 0) return status;
  uv_idle_init(environment_.loop(), &idle_);
  open_handles_ = 2;
  self_ = shared_from_this();
  poll_.data = idle_.data = this;
  uv_poll_start(&poll_, UV_READABLE, OnReadable);
  uv_unref(reinterpret_cast<uv_handle_t*>(&idle_));
  uv_started_ = true;
  return 0;
}

void Reactor::SetRef(bool ref) {
  if (!uv_started_) return;
  auto* handle = reinterpret_cast<uv_handle_t*>(&poll_);
  ref ? uv_ref(handle) : uv_unref(handle);
}

void Reactor::OnReadable(uv_poll_t* handle, int, int) {
  auto* self = static_cast<Reactor*>(handle->data);
  if (self->closed_) return;
  const auto keep = self->shared_from_this();
  const Napi::HandleScope scope(self->env_);
  int delivered = 0;
  // While several sources are busy at a time, more will be ready by now; looking is cheaper than a round
  // through libuv.
  for (int turn = 0; turn < kTurns; turn++) {
    const int now = self->Turn();
    delivered += now;
    if (now < kBusy || self->closed_) break;
  }
  if (delivered > 0 && self->options_.busy_poll_ns > 0 && !self->closed_) {
    self->last_activity_ = MonotonicNow();
    uv_idle_start(&self->idle_, OnSlice);
  }
}

// Keeps looking for a slice of time, then lets libuv have its turn; an active idle handle keeps libuv from
// sleeping.
void Reactor::OnSlice(uv_idle_t* handle) {
  auto* self = static_cast<Reactor*>(handle->data);
  if (self->closed_) return;
  const auto keep = self->shared_from_this();
  const Napi::HandleScope scope(self->env_);
  const int64_t end = MonotonicNow() + kSliceNs;
  int64_t now;
  do {
    if (self->Turn() > 0) {
      if (!self->closed_) self->last_activity_ = MonotonicNow();
      return;
    }
    now = MonotonicNow();
  } while (now < end);
  if (!self->closed_ && now - self->last_activity_ > self->options_.busy_poll_ns) uv_idle_stop(handle);
}

void Reactor::OnHandleClosed(uv_handle_t* handle) {
  auto* self = static_cast<Reactor*>(handle->data);
  Environment& environment = self->environment_;
  if (--self->open_handles_ == 0) self->self_.reset();
  environment.HandleClosed();
}

void Reactor::Close() {
  if (closed_) return;
  closed_ = true;
  const auto keep = shared_from_this();
  // A forked child shares libuv's epoll set with its parent too, so there the handles are left as they are.
  if (uv_started_ && !environment_.Forked()) {
    uv_poll_stop(&poll_);
    environment_.HandleClosing();
    uv_close(reinterpret_cast<uv_handle_t*>(&poll_), OnHandleClosed);
    environment_.HandleClosing();
    uv_close(reinterpret_cast<uv_handle_t*>(&idle_), OnHandleClosed);
  }
  if (wake_fd_ >= 0) environment_.Close(wake_fd_);
  for (const uint8_t priority : {kLow, kHigh, kNormal}) {
    if (sets_[priority].fd >= 0) environment_.Close(sets_[priority].fd);
    sets_[priority].fd = -1;
  }
  if (!turning_) LetGo();
  environment_.Remove(this);
}

// What a call into JavaScript needs; kept until the turn that closed the reactor is over.
void Reactor::LetGo() {
  dispatch_.Reset();
  rebuilt_.Reset();
  resource_.Reset();
  if (context_ != nullptr) napi_async_destroy(env_, context_);
  context_ = nullptr;
}

}  // namespace fdr
