// What the tests need and Node has not: signals with a value or to one thread, native threads that come and
// go or unmask signals by themselves, fork without exec, clock steps, and raw calls on descriptors behind a
// source's back. A call returns what the system call returns, or -errno. State is process-wide: only one test
// at a time uses it.
#include <dirent.h>
#include <fcntl.h>
#include <napi.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <fstream>
#include <future>
#include <string>
#include <thread>
#include <vector>

Napi::Value ParseControl(const Napi::CallbackInfo& info);    // parse-control.cc
Napi::Value CatchBusErrors(const Napi::CallbackInfo& info);  // bus-errors.cc
Napi::Value BusErrors(const Napi::CallbackInfo& info);
Napi::Value TouchLostPage(const Napi::CallbackInfo& info);

namespace {

using Info = const Napi::CallbackInfo&;

int Int(Info info, size_t index) { return info[index].ToNumber().Int32Value(); }

Napi::Value Result(Info info, int64_t result) {
  return Napi::Number::New(info.Env(), static_cast<double>(result < 0 ? -errno : result));
}

std::vector<int> Ints(const Napi::Value& value) {
  const auto array = value.As<Napi::Array>();
  std::vector<int> ints;
  for (uint32_t i = 0; i < array.Length(); i++) ints.push_back(array.Get(i).ToNumber().Int32Value());
  return ints;
}

void Unblock(const std::vector<int>& signos) {
  sigset_t set;
  sigemptyset(&set);
  for (const int signo : signos) sigaddset(&set, signo);
  pthread_sigmask(SIG_UNBLOCK, &set, nullptr);
}

// --- sending ---

int Queue(pid_t pid, int signo, int value) {
  sigval payload;
  payload.sival_ptr = nullptr;
  payload.sival_int = value;
  return sigqueue(pid, signo, payload);
}

// sigqueue(pid, signo, value)
Napi::Value SigQueue(Info info) { return Result(info, Queue(Int(info, 0), Int(info, 1), Int(info, 2))); }

// sigqueueMany(pid, signo, count) → Promise of the number sent, with the values 0 … count - 1, from a thread
// of its own
Napi::Value SigQueueMany(Info info) {
  const pid_t pid = Int(info, 0);
  const int signo = Int(info, 1), count = Int(info, 2);
  const auto deferred = Napi::Promise::Deferred::New(info.Env());
  auto* sender = new std::thread;
  const auto nothing = Napi::Function::New(info.Env(), [](Info) {});
  auto done = Napi::ThreadSafeFunction::New(info.Env(), nothing, "sigqueueMany", 0, 1, [sender](Napi::Env) {
    sender->join();
    delete sender;
  });
  *sender = std::thread([=]() mutable {
    int sent = 0;
    while (sent < count) {
      if (Queue(pid, signo, sent) == 0) {
        sent++;
      } else if (errno == EAGAIN) {  // the receiver's queue is full
        const timespec pause = {0, 200'000};
        nanosleep(&pause, nullptr);
      } else {
        break;
      }
    }
    done.BlockingCall(
        [deferred, sent](Napi::Env env, Napi::Function) { deferred.Resolve(Napi::Number::New(env, sent)); });
    done.Release();
  });
  return deferred.Promise();
}

// tgkill(tid, signo): to one thread of this process
Napi::Value TgKill(Info info) {
  return Result(info, syscall(SYS_tgkill, getpid(), Int(info, 0), Int(info, 1)));
}

// --- receiving without signalfd ---

// Signals that met the counting handler, in the order of their arrival.
struct Counted {
  std::atomic<uint32_t> count{0};
  std::array<int, 1 << 16> values;
};
std::array<Counted, 65> counted;

void OnCounted(int signo, siginfo_t* info, void*) {
  Counted& all = counted[static_cast<size_t>(signo)];
  const uint32_t place = all.count++;
  if (place < all.values.size()) all.values[place] = info->si_code == SI_QUEUE ? info->si_value.sival_int : 0;
}

// countSignals(signos): makes a handler that counts their disposition
Napi::Value CountSignals(Info info) {
  struct sigaction action = {};
  action.sa_sigaction = OnCounted;
  action.sa_flags = SA_SIGINFO | SA_RESTART;
  for (const int signo : Ints(info[0])) {
    if (sigaction(signo, &action, nullptr) != 0) return Result(info, -1);
  }
  return Result(info, 0);
}

// countedSignals(signo) → the values that came with them, 0 for those without, at most 65,536
Napi::Value CountedSignals(Info info) {
  const Counted& all = counted[static_cast<size_t>(Int(info, 0))];
  const auto length = std::min<size_t>(all.count, all.values.size());
  auto values = Napi::Int32Array::New(info.Env(), length);
  for (size_t i = 0; i < length; i++) values[i] = all.values[i];
  return values;
}

// disposition(signo) → 'default' | 'ignore' | the handler's address
Napi::Value Disposition(Info info) {
  struct sigaction action;
  if (sigaction(Int(info, 0), nullptr, &action) != 0) return Result(info, -1);
  const bool simple = (action.sa_flags & SA_SIGINFO) == 0;
  if (simple && action.sa_handler == SIG_DFL) return Napi::String::New(info.Env(), "default");
  if (simple && action.sa_handler == SIG_IGN) return Napi::String::New(info.Env(), "ignore");
  char address[32];
  snprintf(address, sizeof(address), "%p", reinterpret_cast<void*>(action.sa_sigaction));
  return Napi::String::New(info.Env(), address);
}

// --- threads ---

std::vector<std::thread> spawners;
std::atomic<bool> spawning{false};

// startSpawners(n): n threads that each create and join four short threads, without pause
void StartSpawners(Info info) {
  spawning = true;
  for (int n = Int(info, 0); n > 0; n--) {
    spawners.emplace_back([] {
      const auto nap = [](void*) -> void* {
        const timespec pause = {0, 200'000};
        nanosleep(&pause, nullptr);
        return nullptr;
      };
      while (spawning) {
        std::vector<pthread_t> threads;
        for (int i = 0; i < 4; i++) {
          pthread_t thread;
          if (pthread_create(&thread, nullptr, nap, nullptr) == 0) threads.push_back(thread);
        }
        for (const pthread_t thread : threads) pthread_join(thread, nullptr);
      }
    });
  }
}

void StopSpawners(Info) {
  spawning = false;
  for (std::thread& spawner : spawners) spawner.join();
  spawners.clear();
}

std::thread unmasker;
std::promise<void> stop_unmasker;

// startUnmasker(signos) → the id of a thread that has unmasked them by itself, and waits
Napi::Value StartUnmasker(Info info) {
  std::promise<int> ready;
  stop_unmasker = {};
  unmasker = std::thread([&ready, signos = Ints(info[0])] {
    Unblock(signos);
    ready.set_value(static_cast<int>(syscall(SYS_gettid)));
    stop_unmasker.get_future().wait();
  });
  return Result(info, ready.get_future().get());
}

void StopUnmasker(Info) {
  stop_unmasker.set_value();
  unmasker.join();
}

// threadMasks() → [{ tid, name, sigBlk }] of every thread that is not dying
Napi::Value ThreadMasks(Info info) {
  auto threads = Napi::Array::New(info.Env());
  DIR* directory = opendir("/proc/self/task");
  if (directory == nullptr) return Result(info, -1);
  while (const dirent* entry = readdir(directory)) {
    std::ifstream status(std::string("/proc/self/task/") + entry->d_name + "/status");
    std::string name, blocked, caught, line;
    while (std::getline(status, line)) {
      const auto value = line.substr(std::min(line.find('\t') + 1, line.size()));
      if (line.rfind("Name:", 0) == 0) name = value;
      if (line.rfind("SigBlk:", 0) == 0) blocked = value;
      if (line.rfind("SigCgt:", 0) == 0) caught = value;
    }
    if (blocked.empty() || std::stoull(caught, nullptr, 16) == 0) continue;
    auto thread = Napi::Object::New(info.Env());
    thread["tid"] = Napi::Number::New(info.Env(), atoi(entry->d_name));
    thread["name"] = Napi::String::New(info.Env(), name);
    thread["sigBlk"] =
        Napi::BigInt::New(info.Env(), static_cast<uint64_t>(std::stoull(blocked, nullptr, 16)));
    threads[threads.Length()] = thread;
  }
  closedir(directory);
  return threads;
}

// Waits for a child; its wait status.
Napi::Value Await(Info info, pid_t child) {
  int status = 0;
  while (waitpid(child, &status, 0) < 0) {
    if (errno != EINTR) return Result(info, -1);
  }
  return Result(info, status);
}

// A child made by fork() without exec that hangs is ended by SIGALRM.
pid_t Fork() {
  const pid_t child = fork();
  if (child == 0) {
    signal(SIGALRM, SIG_DFL);
    alarm(20);
  }
  return child;
}

// forkAndRun(fn) → the wait status of a child that ran fn without exec: 0, 1 << 8 when it threw. V8 keeps its
// heap from such a child (MADV_DONTFORK): with Node 20 to 24 that is SIGSEGV before fn begins.
Napi::Value ForkAndRun(Info info) {
  const pid_t child = Fork();
  if (child < 0) return Result(info, -1);
  if (child == 0) {
    info[0].As<Napi::Function>().Call({});
    _exit(info.Env().IsExceptionPending() ? 1 : 0);
  }
  return Await(info, child);
}

// forkAndRaise(signos) → the wait status of a child that unblocked and raised them without exec: 0 when it
// outlived them
Napi::Value ForkAndRaise(Info info) {
  const std::vector<int> signos = Ints(info[0]);
  const pid_t child = Fork();
  if (child < 0) return Result(info, -1);
  if (child == 0) {
    Unblock(signos);
    for (const int signo : signos) raise(signo);
    _exit(0);
  }
  return Await(info, child);
}

// --- clocks and descriptors ---

// clockStep(ns): moves CLOCK_REALTIME by so much
Napi::Value ClockStep(Info info) {
  const int64_t step = info[0].ToNumber().Int64Value();
  timespec time;
  clock_gettime(CLOCK_REALTIME, &time);
  const int64_t ns = time.tv_sec * 1'000'000'000 + time.tv_nsec + step;
  time = {ns / 1'000'000'000, ns % 1'000'000'000};
  return Result(info, clock_settime(CLOCK_REALTIME, &time));
}

// setNonblock(fd, on)
Napi::Value SetNonblock(Info info) {
  const int flags = fcntl(Int(info, 0), F_GETFL);
  if (flags < 0) return Result(info, -1);
  const bool on = info[1].ToBoolean();
  return Result(info, fcntl(Int(info, 0), F_SETFL, on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK));
}

Napi::Value Dup(Info info) { return Result(info, fcntl(Int(info, 0), F_DUPFD_CLOEXEC, 0)); }

Napi::Value Dup2(Info info) { return Result(info, dup3(Int(info, 0), Int(info, 1), O_CLOEXEC)); }

Napi::Value Close(Info info) { return Result(info, close(Int(info, 0))); }

// eventfdRead(fd) → bigint | -errno
Napi::Value EventFdRead(Info info) {
  eventfd_t value = 0;
  if (eventfd_read(Int(info, 0), &value) != 0) return Result(info, -1);
  return Napi::BigInt::New(info.Env(), static_cast<uint64_t>(value));
}

// eventfdWrite(fd, value: bigint)
Napi::Value EventFdWrite(Info info) {
  bool lossless = false;
  return Result(info, eventfd_write(Int(info, 0), info[1].As<Napi::BigInt>().Uint64Value(&lossless)));
}

Napi::Object Init(Napi::Env env, Napi::Object exports) {
  const auto add = [&](const char* name, auto function) {
    exports.Set(name, Napi::Function::New(env, function, name));
  };
  add("sigqueue", SigQueue);
  add("sigqueueMany", SigQueueMany);
  add("tgkill", TgKill);
  add("countSignals", CountSignals);
  add("countedSignals", CountedSignals);
  add("disposition", Disposition);
  add("startSpawners", StartSpawners);
  add("stopSpawners", StopSpawners);
  add("startUnmasker", StartUnmasker);
  add("stopUnmasker", StopUnmasker);
  add("threadMasks", ThreadMasks);
  add("forkAndRun", ForkAndRun);
  add("forkAndRaise", ForkAndRaise);
  add("clockStep", ClockStep);
  add("setNonblock", SetNonblock);
  add("dup", Dup);
  add("dup2", Dup2);
  add("close", Close);
  add("eventfdRead", EventFdRead);
  add("eventfdWrite", EventFdWrite);
  add("parseControl", ParseControl);
  add("catchBusErrors", CatchBusErrors);
  add("busErrors", BusErrors);
  add("touchLostPage", TouchLostPage);
  return exports;
}

}  // namespace

NODE_API_MODULE(test_addon, Init)
