// What one ready eventfd costs a bare epoll loop while others are watched and idle:
//
//   scale SECONDS READY IDLE
//
// A batch makes READY eventfds ready, then is timed from the last write to the last read, as in
// dispatch-batches.ts. After a warm-up of a quarter of SECONDS it measures for SECONDS and prints one line of
// JSON.
#define _GNU_SOURCE
#include <err.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

enum { kMaxEvents = 256 };

static uint64_t Nanoseconds(void) {
  struct timespec time;
  if (clock_gettime(CLOCK_MONOTONIC, &time) != 0) err(1, "clock_gettime");
  return (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
}

// As Node does when it starts.
static void RaiseFileLimit(void) {
  struct rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) err(1, "getrlimit");
  limit.rlim_cur = limit.rlim_max;
  if (setrlimit(RLIMIT_NOFILE, &limit) != 0) err(1, "setrlimit");
}

static int WatchEventFd(int epoll) {
  int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  if (fd < 0) err(1, "eventfd");
  struct epoll_event interest = {.events = EPOLLIN, .data.fd = fd};
  if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &interest) != 0) err(1, "epoll_ctl");
  return fd;
}

static void MakeReady(const int* fds, size_t count) {
  uint64_t one = 1;
  for (size_t i = 0; i < count; i++)
    if (write(fds[i], &one, sizeof one) != sizeof one) err(1, "write");
}

static void HandleBatch(int epoll, size_t count) {
  struct epoll_event events[kMaxEvents];
  uint64_t value;
  while (count > 0) {
    int ready = epoll_wait(epoll, events, kMaxEvents, -1);
    for (int i = 0; i < ready; i++, count--)
      if (read(events[i].data.fd, &value, sizeof value) != sizeof value) err(1, "read");
  }
}

int main(int argc, char** argv) {
  if (argc != 4) errx(2, "usage: scale SECONDS READY IDLE");
  double seconds = strtod(argv[1], NULL);
  size_t ready = strtoul(argv[2], NULL, 10), idle = strtoul(argv[3], NULL, 10);
  if (ready == 0 || !(seconds > 0)) errx(2, "SECONDS, READY: more than 0");
  RaiseFileLimit();
  int epoll = epoll_create1(EPOLL_CLOEXEC);
  int* active = calloc(ready, sizeof *active);
  if (epoll < 0 || active == NULL) err(1, "set-up");
  for (size_t i = 0; i < ready; i++) active[i] = WatchEventFd(epoll);
  for (size_t i = 0; i < idle; i++) WatchEventFd(epoll);

  uint64_t begin = Nanoseconds() + (uint64_t)(seconds * 0.25e9), end = begin + (uint64_t)(seconds * 1e9);
  uint64_t now = 0, spent = 0, events = 0;
  while (now < end) {
    MakeReady(active, ready);
    uint64_t ready_at = Nanoseconds();
    HandleBatch(epoll, ready);
    now = Nanoseconds();
    if (ready_at < begin) continue;
    spent += now - ready_at;
    events += ready;
  }
  printf("{\"nsPerEvent\":%.1f,\"events\":%lu}\n", (double)spent / (double)events, (unsigned long)events);
}
