#include "thread-masks.h"

#include <dlfcn.h>
#include <signal.h>
#include <ucontext.h>

#include <array>
#include <atomic>
#include <cstring>

#include "syscall.h"

namespace fdr {

namespace {

// One mask signal on its way to a thread. A thread has at most one, and the next one only after its answer:
// it may hide from signals for long, and its handler acts on what is wanted when it runs, not on what was
// wanted when it was sent.
struct Ticket {
  enum State { kFree, kSent, kAnswered };
  std::atomic<int> state{kFree};
  std::atomic<SignalSet> undo{0};     // to be unblocked unless they are wanted
  std::atomic<SignalSet> found{0};    // answer: the mask before
  std::atomic<SignalSet> applied{0};  // answer: what was wanted
};

// What the handler of the mask signal reads; it has no way to an object.
std::array<Ticket, 4096> tickets;
std::atomic<SignalSet> wanted{0};  // to be blocked in every thread

// Tells our own mask signals from those that somebody else sends by mistake: no sigqueue(3) makes this code.
constexpr int kTicketCode = -0x6664;

constexpr int64_t kMillisecond = 1'000'000;
constexpr timespec kPause = {0, kMillisecond / 5};
constexpr timespec kLongPause = {0, kMillisecond};
constexpr int64_t kPatience = 1000 * kMillisecond;       // for a thread that does not get to run
constexpr int64_t kPatienceHidden = 100 * kMillisecond;  // for one that blocks the mask signal
constexpr int64_t kPatienceAsleep =
    10 * kMillisecond;  // for one that sleeps: inside pthread_create nobody does

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

pid_t Self() { return static_cast<pid_t>(syscall(SYS_gettid)); }

}  // namespace

// The handler stays for the life of the process: mask signals may be on their way for as long, and their
// default action kills.
int ThreadMasks::Prepare(SignalSet avoid) {
  if (mask_signal_ != 0) return 0;
  for (int signo = SIGRTMAX - 3; signo >= SIGRTMIN && mask_signal_ == 0; signo--) {
    struct sigaction now;
    if ((avoid & SetOf(signo)) != 0 || sigaction(signo, nullptr, &now) != 0) continue;
    if ((now.sa_flags & SA_SIGINFO) != 0 || now.sa_handler != SIG_DFL) continue;
    struct sigaction action = {};
    action.sa_sigaction = OnMaskSignal;
    action.sa_flags = SA_SIGINFO | SA_RESTART | SA_ONSTACK;
    sigfillset(&action.sa_mask);
    if (sigaction(signo, &action, nullptr) != 0) return -errno;
    mask_signal_ = signo;
  }
  if (mask_signal_ == 0) return -EAGAIN;

  // Node unmaps an addon with the last worker thread that loaded it; the handler must stay. Where there is no
  // library to pin, as in a program that has this linked in, dlopen does nothing.
  Dl_info library;
  if (dladdr(reinterpret_cast<void*>(OnMaskSignal), &library) != 0) {
    dlopen(library.dli_fname, RTLD_LAZY | RTLD_NOLOAD | RTLD_NODELETE);
  }
  return 0;
}

int ThreadMasks::TakeCensus() { return list_.Read(&states_); }

int ThreadMasks::Block(SignalSet set) {
  wanted |= set;
  const SignalSet own = ChangeMask(SIG_BLOCK, set) & set & ~owed_ & ~known_;
  if (own != 0) threads_[Self()].own |= own;
  const int result = Settle(set, true, [] {});
  if (result < 0 && result != -ETIMEDOUT) return result;
  owed_ &= ~set;
  known_ |= set;
  return 0;  // who has not answered in time finds the net under it
}

void ThreadMasks::UnblockElsewhere(SignalSet set, const std::function<void()>& meanwhile) {
  wanted &= ~set;
  const SignalSet changed = set | owed_;
  owed_ = Settle(changed, false, meanwhile) == 0 ? 0 : changed;
}

void ThreadMasks::UnblockHere(SignalSet set) {
  const auto self = threads_.find(Self());
  ChangeMask(SIG_UNBLOCK, set & ~(self == threads_.end() ? 0 : self->second.own));
}

// A thread on its way into a handler looks like any other, in /proc too. But it does not answer a mask signal
// before it has left a handler that blocks it, as ours do.
void ThreadMasks::AwaitHandlers() {
  if (list_.Read(&states_) < 0) return;  // no descriptor left: then no thread was unmasked either
  for (const ThreadState& state : states_) threads_[state.tid].answered = false;
  unreached_ = 0;
  const int64_t begin = MonotonicNow();
  for (bool done = false; !done && MonotonicNow() - begin < (unreached_ ? kPatienceHidden : kPatience);) {
    done = true;
    unreached_ = 0;
    TakeAnswers();
    for (const ThreadState& state : states_) {
      Thread& thread = threads_[state.tid];
      if (thread.answered || thread.given_up || !ThreadExists(state.tid)) continue;
      done = false;
      if (thread.ticket < 0) SendTicket(state.tid, &thread, wanted & ~(thread.own | thread.undecided));
    }
    if (!done) nanosleep(&kPause, nullptr);
  }
  ForgetTheOrdinary();
}

// Brings the masks of all other threads to what is wanted, as far as the signals in `changed` are concerned.
//
// A thread inside pthread_create or fork blocks everything for a moment, and afterwards gives itself and its
// child the mask that it had before. So a thread is settled when its mask is right and it can take the mask
// signal, or when it has answered one; from then on all threads that it makes are right as well. One that it
// made just before may be missing in this list, and is found by the next: two calm scans in a row prove that
// there is none left.
int ThreadMasks::Settle(SignalSet changed, bool census, const std::function<void()>& meanwhile) {
  ForgetTheDead();
  TakeAnswers();
  for (auto& [tid, thread] : threads_) thread.answered = false;
  const int64_t begin = MonotonicNow();
  int result = 0;
  int calm = 0;
  for (int scan = 0; calm < 2; scan++) {
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
  return result == 0 && calm < 2 ? -ETIMEDOUT : result;
}

bool ThreadMasks::Settled(const ThreadState& state, SignalSet changed, bool census, int64_t waited) {
  const SignalSet want = wanted;
  const bool hidden = (state.blocked & SetOf(mask_signal_)) != 0;
  const SignalSet missing = changed & want & ~state.blocked;
  if (census) {
    Thread& thread = threads_[state.tid];
    // What an unanswered ticket of an earlier pass is to undo is blocked by us, still.
    const SignalSet owed =
        owed_ | (thread.ticket < 0 ? 0 : tickets[static_cast<size_t>(thread.ticket)].undo.load()) | known_;
    if (!hidden && !missing) {
      thread.own |= changed & ~owed;
      return true;
    }
    thread.undecided |= changed & ~owed;
  }
  const auto entry = threads_.find(state.tid);
  const Thread known = entry == threads_.end() ? Thread{} : entry->second;
  const SignalSet own = known.own | known.undecided;
  const SignalSet surplus = changed & ~want & state.blocked & ~own;
  // Blocked until a moment ago, and about to be delivered: the net has to stay.
  const SignalSet transit = changed & ~want & state.pending & ~own;
  const bool right = !missing && !transit && (!surplus || known.answered);
  if (hidden ? known.given_up || (known.answered && !transit) : right) return true;

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

void ThreadMasks::SendTicket(pid_t tid, Thread* thread, SignalSet undo) {
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
      return;
    }
    ticket.state = Ticket::kFree;
    // EAGAIN: too many signals are queued. A thread that has died (ESRCH) is not in the next list.
    if (errno != ESRCH) unreached_ = -errno;
    return;
  }
  unreached_ = -EAGAIN;
}

void ThreadMasks::TakeAnswers() {
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

void ThreadMasks::ForgetTheDead() {
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
void ThreadMasks::ForgetTheOrdinary() {
  for (auto entry = threads_.begin(); entry != threads_.end();) {
    auto& [tid, thread] = *entry;
    const bool ordinary = thread.own == 0 && thread.ticket < 0;
    if (!ordinary && thread.start == 0) thread.start = list_.StartTime(tid);
    entry = ordinary ? threads_.erase(entry) : std::next(entry);
  }
}

}  // namespace fdr
