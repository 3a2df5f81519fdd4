#include "signal-mask.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <ucontext.h>

#include <algorithm>
#include <atomic>
#include <cstring>

#include "signal-net.h"
#include "syscall.h"

namespace fdr {

namespace {

// One mask signal on its way to a thread. A thread has at most one, and the next one only after its answer:
// it may hide from signals for long, and its handler acts on what is wanted when it runs, not on what was
// wanted when the signal was sent.
struct Ticket {
  enum State { kFree, kSent, kAnswered };
  std::atomic<int> state{kFree};
  std::atomic<SignalSet> undo{0};     // to be unblocked unless they are wanted
  std::atomic<SignalSet> found{0};    // answer: the mask before
  std::atomic<SignalSet> applied{0};  // answer: what was wanted
};

// What the handler of the mask signal reads; it has no way to an object.
std::array<Ticket, 4096> tickets;
std::atomic<SignalSet> wanted{0};  // managed signals, to be blocked in every thread

// Tells our own mask signals from those that somebody else sends by mistake: no sigqueue(3) makes this code.
constexpr int kTicketCode = -0x6664;

constexpr int kNetBytes =
    1024 * 1024;  // 8,192 signals; the most that a process without privileges may have by default

constexpr int64_t kMillisecond = 1'000'000;
constexpr timespec kPause = {0, kMillisecond / 5}, kLongPause = {0, kMillisecond};
constexpr int64_t kPatience = 1000 * kMillisecond;       // for a thread that does not get to run
constexpr int64_t kPatienceHidden = 100 * kMillisecond;  // for one that blocks the mask signal
constexpr int64_t kPatienceAsleep =
    10 * kMillisecond;  // for one that sleeps meanwhile: pthread_create and fork do not

void OnMaskSignal(int, siginfo_t* info, void* context) {
  // The kernel's mask is one word; what follows it in sigset_t is not the kernel's.
  void* const place = &static_cast<ucontext_t*>(context)->uc_sigmask;
  SignalSet found;
  memcpy(&found, place, sizeof(found));
  const SignalSet want = wanted;
  Ticket* ticket = nullptr;
  if (info->si_code == kTicketCode) {
    const auto index = static_cast<size_t>(info->si_value.sival_int);
    if (index < tickets.size() && tickets[index].state == Ticket::kSent) ticket = &tickets[index];
  }
  const SignalSet undo = ticket ? ticket->undo.load() : 0;
  const SignalSet mask = (found & ~(undo & ~want)) | want;
  memcpy(place, &mask, sizeof(mask));
  if (!ticket) return;
  ticket->found = found;
  ticket->applied = want;
  ticket->state = Ticket::kAnswered;
}

void TakePending(SignalSet set, const SignalMask::Take& take) {
  const timespec at_once = {};
  siginfo_t info;
  const int64_t end = MonotonicNow() + kPatienceHidden;  // somebody may be sending without pause
  while (MonotonicNow() < end) {
    // Not sigtimedwait(3): glibc changes the code of tgkill(2) on the way.
    if (Syscall([&] { return syscall(SYS_rt_sigtimedwait, &set, &info, &at_once, sizeof(set)); }) < 0)
      return;  // EAGAIN
    take(Describe(info));
  }
}

void ReadNet(int fd, const SignalMask::Take& take) {
  signalfd_siginfo caught[32];
  for (int64_t length = sizeof(caught); length == sizeof(caught);) {
    length = Syscall([&] { return read(fd, caught, sizeof(caught)); });
    for (int64_t offset = 0; offset < length; offset += sizeof(*caught))
      take(caught[offset / sizeof(*caught)]);
  }
}

// To this process again, as if it had just come.
void Resend(const signalfd_siginfo& signal) {
  siginfo_t info = {};
  info.si_signo = static_cast<int>(signal.ssi_signo);
  info.si_code = signal.ssi_code;
  info.si_pid = static_cast<pid_t>(signal.ssi_pid);
  info.si_uid = signal.ssi_uid;
  info.si_value.sival_ptr = reinterpret_cast<void*>(signal.ssi_ptr);
  // EAGAIN: no room; it had some a moment ago. To this thread, because only to itself may a thread send codes
  // of the kernel's.
  syscall(SYS_rt_tgsigqueueinfo, getpid(), syscall(SYS_gettid), info.si_signo, &info);
}

}  // namespace

SignalMask& SignalMask::Instance() {
  // Never destroyed: another thread may be in here while the process exits.
  static SignalMask& instance = *new SignalMask;
  return instance;
}

int SignalMask::Acquire(const SignalOwner& owner, SignalSet set, std::string* busy_owner, int* busy_signal) {
  const std::lock_guard<std::mutex> lock(mutex_);
  SignalSet fresh = 0;
  *busy_signal = 0;
  ForEachSignal(set, [&](int signo) {
    const Claim& claim = claims_[static_cast<size_t>(signo)];
    if (claim.count == 0) fresh |= SetOf(signo);
    if (claim.count > 0 && claim.owner != owner.id && *busy_signal == 0) {
      *busy_signal = signo;
      *busy_owner = owners_[claim.owner].name;
    }
    if (signo == mask_signal_ && *busy_signal == 0) {
      *busy_signal = signo;
      *busy_owner = "fd-reactor itself, for masking threads";
    }
  });
  if (*busy_signal != 0) return -EBUSY;

  if (fresh != 0) {
    int result = Prepare(set);
    // Before anything is changed: if there is no descriptor left, this says so.
    if (result == 0) result = list_.Read(&states_);
    if (result < 0) return result;
    // Room for what meets the net while masks change under a flood. Where it may not grow, more is counted as
    // lost.
    if (owners_.count(owner.id) == 0) fcntl(owner.net_fd, F_SETPIPE_SZ, kNetBytes);
    SignalSet spread = 0;
    ForEachSignal(fresh, [&](int signo) {
      if (result == 0) result = SpreadNet(signo, owner.net_fd);
      if (result == 0) spread |= SetOf(signo);
    });
    if (result < 0) {
      ForEachSignal(spread, RemoveNet);
      return result;
    }
    wanted |= fresh;
    const SignalSet own = ChangeMask(SIG_BLOCK, fresh) & fresh & ~owed_;
    if (own != 0) threads_[static_cast<pid_t>(syscall(SYS_gettid))].own |= own;
    result = Settle(fresh, true, [] {});
    if (result < 0) {
      std::vector<signalfd_siginfo> came;
      Undo(fresh, owner, [&came](const signalfd_siginfo& signal) { came.push_back(signal); });
      for (const signalfd_siginfo& signal : came) Resend(signal);
      return result;
    }
    owed_ &= ~fresh;
  }
  ForEachSignal(set, [&](int signo) {
    Claim& claim = claims_[static_cast<size_t>(signo)];
    claim.owner = owner.id;
    claim.count++;
  });
  owners_[owner.id] = owner;
  return 0;
}

void SignalMask::Release(uint64_t owner, SignalSet set, const Take& take) {
  Release(owner, set, false, take);
}

void SignalMask::ReleaseAll(uint64_t owner, const Take& take) { Release(owner, ~SignalSet{0}, true, take); }

void SignalMask::Release(uint64_t owner, SignalSet set, bool all, const Take& take) {
  const std::lock_guard<std::mutex> lock(mutex_);
  SignalSet gone = 0;
  bool has_more = false;
  for (int signo = 1; signo <= kLastSignal; signo++) {
    Claim& claim = claims_[static_cast<size_t>(signo)];
    if (claim.count == 0 || claim.owner != owner) continue;
    if ((set & SetOf(signo)) != 0) claim.count = all ? 0 : claim.count - 1;
    if (claim.count == 0) gone |= SetOf(signo);
    if (claim.count > 0) has_more = true;
  }
  if (gone != 0) Undo(gone, owners_[owner], take);
  if (!has_more) owners_.erase(owner);
}

SignalSet SignalMask::OwnedBy(uint64_t owner) {
  const std::lock_guard<std::mutex> lock(mutex_);
  SignalSet owned = 0;
  for (int signo = 1; signo <= kLastSignal; signo++) {
    const Claim& claim = claims_[static_cast<size_t>(signo)];
    if (claim.count > 0 && claim.owner == owner) owned |= SetOf(signo);
  }
  return owned;
}

uint64_t SignalMask::LostCount(uint64_t owner) {
  const SignalSet owned = OwnedBy(owner);
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto before = lost_.find(owner);
  uint64_t lost = before == lost_.end() ? 0 : before->second;
  ForEachSignal(owned, [&lost](int signo) { lost += LostInNet(signo); });
  return lost;
}

// Once: finds a spare real-time signal and installs its handler, for the life of the process, because mask
// signals may be on their way for as long.
int SignalMask::Prepare(SignalSet set) {
  if (mask_signal_ != 0) return 0;
  for (int signo = SIGRTMAX - 3; signo >= SIGRTMIN; signo--) {
    struct sigaction now;
    if ((set & SetOf(signo)) != 0 || sigaction(signo, nullptr, &now) != 0) continue;
    if ((now.sa_flags & SA_SIGINFO) != 0 || now.sa_handler != SIG_DFL) continue;
    struct sigaction action = {};
    action.sa_sigaction = OnMaskSignal;
    action.sa_flags = SA_SIGINFO | SA_RESTART | SA_ONSTACK;
    sigfillset(&action.sa_mask);
    if (sigaction(signo, &action, nullptr) != 0) return -errno;
    mask_signal_ = signo;
    break;
  }
  if (mask_signal_ == 0) return -EAGAIN;

  // The handler must not be unmapped with the last worker thread that loaded this library.
  Dl_info library;
  if (dladdr(reinterpret_cast<void*>(OnMaskSignal), &library) != 0) {
    dlopen(library.dli_fname, RTLD_LAZY | RTLD_NOLOAD | RTLD_NODELETE);
  }
  // A child made by fork() has the lock free, and does not write to its parent's pipes. Its one thread stays
  // masked until it releases its signals, or calls exec: a new program starts with the mask that its caller
  // sets (libuv clears it).
  pthread_atfork([] { Instance().mutex_.lock(); }, [] { Instance().mutex_.unlock(); },
                 [] {
                   for (int signo = 1; signo <= kLastSignal; signo++) DetachNet(signo);
                   for (auto& [id, owner] : Instance().owners_) owner.net_fd = owner.net_read_fd = -1;
                   Instance().mutex_.unlock();
                 });
  return 0;
}

// Brings the masks of all other threads to what is wanted, as far as the signals in `changed` are concerned.
//
// A thread inside pthread_create or fork blocks everything for a moment, and afterwards gives itself and its
// child the mask that it had before. So a thread is settled when its mask is right and it can take the mask
// signal, or when it has answered one; from then on all threads that it makes are right as well. One that it
// made just before may be missing in this list and is found by the next: two calm scans in a row prove that
// there is none left.
int SignalMask::Settle(SignalSet changed, bool census, const std::function<void()>& meanwhile) {
  ForgetTheDead();
  TakeAnswers();
  for (auto& [tid, thread] : threads_) thread.answered = false;
  const int64_t begin = MonotonicNow();
  int result = 0;
  for (int calm = 0, scan = 0; calm < 2; scan++) {
    TakeAnswers();
    const bool first = census && scan == 0;  // has been read already, before anything was changed
    result = first ? 0 : list_.Read(&states_);
    const int64_t waited = MonotonicNow() - begin;
    bool settled = result == 0;
    unreached_ = 0;
    if (result == 0) {
      for (const ThreadState& state : states_) settled &= Settled(state, changed, first, waited);
      result = unreached_;
    }
    calm = settled ? calm + 1 : 0;
    if (waited > (result < 0 ? kPatienceHidden : kPatience)) break;
    meanwhile();
    if (calm < 2)
      nanosleep(scan < 10 ? &kPause : &kLongPause, nullptr);  // a signal that ends it early does no harm
  }
  ForgetTheOrdinary();
  return result;
}

bool SignalMask::Settled(const ThreadState& state, SignalSet changed, bool census, int64_t waited) {
  const SignalSet want = wanted;
  const bool hidden = (state.blocked & SetOf(mask_signal_)) != 0;
  const SignalSet missing = changed & want & ~state.blocked;
  if (census) {
    if (!hidden && !missing) {
      threads_[state.tid].own |= changed & ~owed_;
      return true;
    }
    threads_[state.tid].undecided |= changed & ~owed_;
  }
  const auto entry = threads_.find(state.tid);
  const Thread known = entry == threads_.end() ? Thread{} : entry->second;
  const SignalSet own = known.own | known.undecided;
  const SignalSet surplus = changed & ~want & state.blocked & ~own;
  // Blocked until a moment ago, and about to be delivered: the net has to stay.
  const SignalSet transit = changed & ~want & state.pending & ~own;
  if (hidden ? known.given_up || (known.answered && !transit)
             : !missing && !transit && (!surplus || known.answered)) {
    return true;
  }
  Thread& thread = threads_[state.tid];
  // What it unblocks again was not blocked by itself: the census found it in a handler of that signal.
  thread.own &= ~missing;
  if (thread.ticket < 0) SendTicket(state.tid, &thread, (want | changed) & ~own);
  // Its ticket stays with it: should it ever unblock, the handler brings it to what is wanted then.
  if (hidden && thread.ticket >= 0 && waited > (state.asleep ? kPatienceAsleep : kPatienceHidden)) {
    thread.given_up = true;
    return true;
  }
  return false;
}

void SignalMask::SendTicket(pid_t tid, Thread* thread, SignalSet undo) {
  for (size_t index = 0; index < tickets.size(); index++) {
    Ticket& ticket = tickets[index];
    if (ticket.state != Ticket::kFree) continue;
    ticket.undo = undo;
    ticket.state = Ticket::kSent;
    siginfo_t info = {};
    info.si_signo = mask_signal_;
    info.si_code = kTicketCode;
    info.si_pid = getpid();
    info.si_uid = getuid();
    info.si_value.sival_int = static_cast<int>(index);
    if (syscall(SYS_rt_tgsigqueueinfo, getpid(), tid, mask_signal_, &info) == 0) {
      thread->ticket = static_cast<int>(index);
    } else {
      ticket.state = Ticket::kFree;
      if (errno != ESRCH)
        unreached_ =
            -errno;  // EAGAIN: too many signals are queued. Has the thread died, the next scan sees it
    }
    return;
  }
  unreached_ = -EAGAIN;
}

void SignalMask::TakeAnswers() {
  const SignalSet want = wanted;
  for (auto& [tid, thread] : threads_) {
    if (thread.ticket < 0) continue;
    Ticket& ticket = tickets[static_cast<size_t>(thread.ticket)];
    if (ticket.state != Ticket::kAnswered) continue;
    thread.own = (thread.own & ~thread.undecided) | (ticket.found & thread.undecided);
    thread.undecided = 0;
    thread.answered = ticket.applied == want;
    thread.given_up = false;
    thread.ticket = -1;
    ticket.state = Ticket::kFree;
  }
}

void SignalMask::ForgetTheDead() {
  for (auto entry = threads_.begin(); entry != threads_.end();) {
    const auto& [tid, thread] = *entry;
    const int64_t start = list_.StartTime(tid);
    // A start that could not be read, for want of a descriptor, is believed to be the same.
    const bool same = start < 0 || (start > 0 && (thread.start <= 0 || thread.start == start));
    if (!same && thread.ticket >= 0) tickets[static_cast<size_t>(thread.ticket)].state = Ticket::kFree;
    entry = same ? std::next(entry) : threads_.erase(entry);
  }
}

// Of most threads nothing needs to be remembered: they block because we made them.
void SignalMask::ForgetTheOrdinary() {
  for (auto entry = threads_.begin(); entry != threads_.end();) {
    auto& [tid, thread] = *entry;
    const bool ordinary = thread.own == 0 && thread.ticket < 0;
    if (!ordinary && thread.start == 0) thread.start = list_.StartTime(tid);
    entry = ordinary ? threads_.erase(entry) : std::next(entry);
  }
}

// A thread may still be inside the net's handler, or on its way there, with the pipe's descriptor in its
// hand. The handler blocks the mask signal; so whoever answers one is out, and as the net is gone, nobody
// goes in again.
void SignalMask::LeaveNet(const std::function<void()>& meanwhile) {
  if (list_.Read(&states_) < 0) return;  // no descriptor left: then no thread was unmasked either
  for (const ThreadState& state : states_) threads_[state.tid].answered = false;
  unreached_ = 0;
  const int64_t begin = MonotonicNow();
  for (bool left = false; !left && MonotonicNow() - begin < (unreached_ ? kPatienceHidden : kPatience);) {
    left = true;
    unreached_ = 0;
    TakeAnswers();
    for (const ThreadState& state : states_) {
      Thread& thread = threads_[state.tid];
      if (thread.answered || thread.given_up || !ThreadExists(state.tid)) continue;
      left = false;
      if (thread.ticket < 0) SendTicket(state.tid, &thread, wanted & ~(thread.own | thread.undecided));
    }
    meanwhile();
    if (!left) nanosleep(&kPause, nullptr);
  }
  ForgetTheOrdinary();
}

void SignalMask::Undo(SignalSet gone, const SignalOwner& owner, const Take& take) {
  // The net first, should somebody have replaced it: nothing that is pending may meet another disposition.
  ForEachSignal(gone, [&owner](int signo) { SpreadNet(signo, owner.net_fd); });
  ChangeMask(SIG_BLOCK, gone);
  TakePending(gone, take);
  wanted &= ~gone;
  const auto drain = [&] {
    TakePending(gone, take);
    ReadNet(owner.net_read_fd, take);
  };
  const SignalSet changed = gone | owed_;
  owed_ = Settle(changed, false, drain) == 0 ? 0 : changed;
  // This thread is still masked, so that it can take what is pending for the process up to the last moment.
  ForEachSignal(gone, [&take](int signo) {
    TakePending(SetOf(signo), take);
    RemoveNet(signo);
  });
  const auto self = threads_.find(static_cast<pid_t>(syscall(SYS_gettid)));
  ChangeMask(SIG_UNBLOCK, gone & ~(self == threads_.end() ? 0 : self->second.own));
  LeaveNet(drain);
  drain();
  ForEachSignal(gone, [&](int signo) {
    if (const uint64_t lost = DetachNet(signo)) lost_[owner.id] += lost;
  });
  for (auto& [tid, thread] : threads_) {
    thread.own &= ~gone | owed_;
    thread.undecided &= ~gone | owed_;
  }
}

}  // namespace fdr
