// The reference for POSIX message queues: requests and replies of 64 bytes, one at a time.
//
//   mq SECONDS SERVER_PROCESSOR CLIENT_PROCESSOR
//
// A queue for each direction, and a process at each end that sleeps in epoll_wait until there is something to
// receive: on Linux a queue is a descriptor. After a quarter of SECONDS to warm up it measures for SECONDS
// and prints one line of JSON.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <mqueue.h>
#include <sched.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "latency.h"

enum { kBytes = 64, kMostPerSecond = 2000000, kPatienceMs = 10000 };

static char message[kBytes];

typedef struct {
  mqd_t in, out;
  int epoll;
} End;

// Both ends have it open by fork(2), so that its name is gone before anything can go wrong.
static mqd_t Queue(const char* direction) {
  char name[64];
  snprintf(name, sizeof name, "/fd-reactor-bench-%d-%s", getpid(), direction);
  struct mq_attr attributes = {.mq_maxmsg = 1, .mq_msgsize = kBytes};
  mqd_t queue = mq_open(name, O_RDWR | O_CREAT | O_EXCL | O_NONBLOCK, 0600, &attributes);
  if (queue < 0) err(1, "mq_open %s", name);
  if (mq_unlink(name) != 0) err(1, "mq_unlink %s", name);
  return queue;
}

static End EndOf(mqd_t in, mqd_t out, int processor) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(processor, &set);
  if (sched_setaffinity(0, sizeof set, &set) != 0) err(1, "processor %d", processor);
  End end = {in, out, epoll_create1(EPOLL_CLOEXEC)};
  struct epoll_event interest = {.events = EPOLLIN};
  if (end.epoll < 0 || epoll_ctl(end.epoll, EPOLL_CTL_ADD, in, &interest) != 0) err(1, "epoll");
  return end;
}

static void Send(const End* end) {
  if (mq_send(end->out, message, kBytes, 0) != 0) err(1, "mq_send");
}

static void Receive(const End* end) {
  struct epoll_event event;
  if (epoll_wait(end->epoll, &event, 1, kPatienceMs) != 1) errx(1, "nothing came");
  if (mq_receive(end->in, message, kBytes, NULL) != kBytes) err(1, "mq_receive");
}

static uint64_t CpuNs(clockid_t clock) {
  struct timespec time;
  if (clock_gettime(clock, &time) != 0) err(1, "clock_gettime");
  return (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
}

int main(int argc, char** argv) {
  double seconds = argc == 4 ? strtod(argv[1], NULL) : 0;
  if (!(seconds > 0)) errx(2, "usage: mq SECONDS SERVER_PROCESSOR CLIENT_PROCESSOR");
  mqd_t there = Queue("there"), back = Queue("back");
  pid_t parent = getpid(), server = fork();
  if (server < 0) err(1, "fork");
  if (server == 0) {
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != parent) _exit(1);
    End end = EndOf(there, back, atoi(argv[2]));
    for (;;) {
      Receive(&end);
      Send(&end);
    }
  }
  End end = EndOf(back, there, atoi(argv[3]));
  clockid_t cpu;
  if ((errno = clock_getcpuclockid(server, &cpu)) != 0) err(1, "clock_getcpuclockid");
  Latencies latencies = LatenciesOf((size_t)(seconds * kMostPerSecond) + 1);
  uint64_t warm = Now() + (uint64_t)(seconds * 0.25e9), begin = 0, used = 0, now = 0;
  while (begin == 0 || now < begin + (uint64_t)(seconds * 1e9)) {
    uint64_t sent = Now();
    Send(&end);
    Receive(&end);
    now = Now();
    if (begin > 0) {
      LatencyRecord(&latencies, (int64_t)(now - sent));
    } else if (now >= warm) {
      begin = now;
      used = CpuNs(cpu);
    }
  }
  double requests = (double)latencies.count;
  printf("{\"requestsPerSecond\":%.0f,\"serverCpuNs\":%.1f,", requests / ((double)(now - begin) / 1e9),
         (double)(CpuNs(cpu) - used) / requests);
  LatenciesPrint(&latencies);
  printf("}\n");
  kill(server, SIGKILL);
  waitpid(server, NULL, 0);
}
