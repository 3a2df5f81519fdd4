// The reference for timers: how late a periodic timer is told, and whether expirations are lost.
//
//   timer block|poll|clock PERIOD_NS SECONDS
//
// `block` sleeps in epoll_wait on a timerfd, `poll` calls it without ever sleeping, `clock` looks at the
// clock without a pause and has no timer. After a quarter of SECONDS to warm up it measures for SECONDS and
// prints one line of JSON. Each expiration counts, also those that are told together: a wake-up that is ten
// periods late was late for ten of them.
#define _GNU_SOURCE
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "latency.h"

enum { kStartNs = 20000000, kMoreTicks = 100 };

static int Timer(uint64_t first, uint64_t period) {
  struct itimerspec schedule = {
      .it_interval = {(time_t)(period / 1000000000), (long)(period % 1000000000)},
      .it_value = {(time_t)(first / 1000000000), (long)(first % 1000000000)},
  };
  int fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
  if (fd < 0 || timerfd_settime(fd, TFD_TIMER_ABSTIME, &schedule, NULL) != 0) err(1, "timerfd");
  return fd;
}

// Waits until the timer has expired; how often it has.
static uint64_t Expirations(int epoll, int timer, int timeout) {
  struct epoll_event event;
  uint64_t expirations = 0;
  do {
    if (epoll_wait(epoll, &event, 1, timeout) < 0) err(1, "epoll_wait");
  } while (read(timer, &expirations, sizeof expirations) != sizeof expirations);
  return expirations;
}

int main(int argc, char** argv) {
  if (argc != 4) errx(2, "usage: timer block|poll|clock PERIOD_NS SECONDS");
  int spins = strcmp(argv[1], "clock") == 0, timeout = strcmp(argv[1], "poll") == 0 ? 0 : -1;
  uint64_t period = strtoull(argv[2], NULL, 10), told = 0;
  double seconds = strtod(argv[3], NULL);
  if (period == 0 || !(seconds > 0)) errx(2, "PERIOD_NS and SECONDS: more than 0");
  uint64_t warm = (uint64_t)(seconds * 0.25e9) / period, last = warm + (uint64_t)(seconds * 1e9) / period;
  Latencies latencies = LatenciesOf(last - warm);

  uint64_t first = Now() + kStartNs;
  int timer = spins ? -1 : Timer(first, period), epoll = epoll_create1(EPOLL_CLOEXEC);
  struct epoll_event interest = {.events = EPOLLIN};
  if (epoll < 0) err(1, "epoll_create1");
  if (!spins && epoll_ctl(epoll, EPOLL_CTL_ADD, timer, &interest) != 0) err(1, "epoll_ctl");

  long long drift = 0;
  while (told < last + kMoreTicks) {
    uint64_t now, expirations;
    if (spins) {
      uint64_t due = first + told * period;
      do now = Now();
      while (now < due);
      expirations = (now - due) / period + 1;
    } else {
      expirations = Expirations(epoll, timer, timeout);
      now = Now();
    }
    for (; expirations > 0; expirations--) {
      uint64_t due = first + told++ * period;
      if (told > warm) LatencyRecord(&latencies, (int64_t)(now - due));
    }
    // More than a period after what was told last: either this tick was late, which the next shows, or some
    // are lost.
    drift = ((long long)(now - first) - (long long)((told - 1) * period)) / (long long)period;
    if (told >= last && drift == 0) break;
  }
  printf("{");
  LatenciesPrint(&latencies);
  printf(",\"expirations\":%llu,\"driftPeriods\":%lld}\n", (unsigned long long)told, drift);
}
