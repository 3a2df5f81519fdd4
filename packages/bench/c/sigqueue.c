// Sends signals to a program that it starts, and measures what becomes of them.
//
//   sigqueue latency|burst|flood rt|usr2 SECONDS COMMAND…
//
// The program tells on its standard output, in pairs of doubles, when it handled the newest signal
// (CLOCK_MONOTONIC, nanoseconds) and how many it has handled: once when it is ready, then after each signal
// (`latency`) or after each SIGHUP. Real-time signals carry a number, counted from 0.
//
// `latency` sends one signal at a time and waits until it was handled, `burst` queues real-time signals while
// the program is stopped and then lets it go on, `flood` sends without a pause to a program that runs, so
// that signals which do not queue are merged. Prints one line of JSON.
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "latency.h"

// The limit is shared by all processes of the user, so that a burst leaves room. After a pause of kPauseNs
// the program sleeps again. kAskNs: how often it is asked how far it has come.
enum { kMostSignals = 32768, kPauseNs = 50000, kAskNs = 10000000, kPatienceNs = 2000000000 };

typedef struct {
  double clock, count;
} Told;

static pid_t program;
static int told_fd, number;
static uint32_t sent;

static void Start(char** command) {
  int ends[2];
  if (pipe(ends) != 0) err(1, "pipe");
  program = fork();
  if (program < 0) err(1, "fork");
  if (program == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    dup2(ends[1], 1);
    close(ends[0]);
    close(ends[1]);
    execvp(command[0], command);
    err(1, "%s", command[0]);
  }
  close(ends[1]);
  told_fd = ends[0];
}

static Told Await(void) {
  Told told;
  ssize_t length = read(told_fd, &told, sizeof told);
  if (length != sizeof told) errx(1, "the program ended, or told %zd bytes", length);
  return told;
}

static int Send(void) {
  union sigval value = {.sival_int = (int)sent};
  if (sigqueue(program, number, value) != 0) {
    if (errno != EAGAIN) err(1, "sigqueue");
    return 0;
  }
  sent++;
  return 1;
}

static void Wait(uint64_t nanoseconds) {
  struct timespec pause = {.tv_nsec = (long)nanoseconds};
  nanosleep(&pause, NULL);
}

// What it has handled when all signals are, or when no more come.
static Told Settled(void) {
  Told told = {-1, -1}, before;
  uint64_t progress = Now();
  do {
    Wait(kAskNs);
    before = told;
    if (kill(program, SIGHUP) != 0) err(1, "kill");
    told = Await();
    if (told.count > before.count) progress = Now();
  } while (told.count < sent && Now() - progress < (number == SIGUSR2 ? 5 * kAskNs : kPatienceNs));
  return told;
}

static void MeasureLatency(double seconds) {
  Latencies latencies = LatenciesOf((size_t)(seconds * 1e9 / kPauseNs) + 1);
  uint64_t begin = Now() + (uint64_t)(seconds * 0.25e9), end = begin + (uint64_t)(seconds * 1e9), now;
  do {
    uint64_t start = Now();
    if (!Send()) errx(1, "no signal can be queued");
    Told told = Await();
    if (start >= begin) LatencyRecord(&latencies, (int64_t)told.clock - (int64_t)start);
    uint64_t next = Now() + kPauseNs;
    do now = Now();
    while (now < next);
  } while (now < end);
  printf("{");
  LatenciesPrint(&latencies);
  printf("}\n");
}

// Queues as much as is allowed while the program stands still; how long it took to handle that.
static uint64_t Burst(void) {
  struct rlimit limit;
  int status;
  if (getrlimit(RLIMIT_SIGPENDING, &limit) != 0) err(1, "getrlimit");
  rlim_t most = limit.rlim_cur / 2 < kMostSignals ? limit.rlim_cur / 2 : kMostSignals;
  if (kill(program, SIGSTOP) != 0 || waitpid(program, &status, WUNTRACED) != program) err(1, "stop");
  for (rlim_t i = 0; i < most && Send(); i++) continue;
  uint64_t start = Now();
  if (kill(program, SIGCONT) != 0) err(1, "continue");
  Told told = Settled();
  if (told.count != sent) errx(1, "%u signals sent, %.0f handled", sent, told.count);
  return (uint64_t)told.clock - start;
}

static void PrintRate(double handled, uint32_t of, uint64_t nanoseconds) {
  double seconds = (double)nanoseconds / 1e9;
  printf("{\"perSecond\":%.0f,\"sentPerSecond\":%.0f,\"signals\":%u}\n", handled / seconds, of / seconds, of);
}

static void MeasureBursts(double seconds) {
  Burst();  // warms up
  uint32_t before = sent;
  uint64_t elapsed = 0, end = Now() + (uint64_t)(seconds * 1e9);
  do elapsed += Burst();
  while (Now() < end);
  PrintRate(sent - before, sent - before, elapsed);
}

static void MeasureFlood(double seconds) {
  uint64_t start = Now(), end = start + (uint64_t)(seconds * 1e9);
  do Send();
  while (Now() < end);
  uint64_t elapsed = Now() - start;
  PrintRate(Settled().count, sent, elapsed);
}

int main(int argc, char** argv) {
  if (argc < 5) errx(2, "usage: sigqueue latency|burst|flood rt|usr2 SECONDS COMMAND…");
  double seconds = strtod(argv[3], NULL);
  number = strcmp(argv[2], "rt") == 0 ? SIGRTMIN + 2 : SIGUSR2;
  if (!(seconds > 0)) errx(2, "SECONDS: more than 0");
  Start(argv + 4);
  Await();
  if (strcmp(argv[1], "latency") == 0)
    MeasureLatency(seconds);
  else if (strcmp(argv[1], "burst") == 0)
    MeasureBursts(seconds);
  else
    MeasureFlood(seconds);
  kill(program, SIGKILL);
}
