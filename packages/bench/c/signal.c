// The reference for signals: a signalfd in an epoll set. Started by `sigqueue`, whose header has the
// protocol.
//
//   signal latency|count SIGNAL
//
// SIGNAL is the number of a real-time signal. Reads as many signals at a time as there are, up to 64.
#define _GNU_SOURCE
#include <signal.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "latency.h"

enum { kSignals = 64 };

static void Tell(double clock, double count) {
  double words[] = {clock, count};
  if (write(1, words, sizeof words) != sizeof words) err(1, "write");
}

int main(int argc, char** argv) {
  if (argc != 3) errx(2, "usage: signal latency|count SIGNAL");
  int tells = strcmp(argv[1], "latency") == 0, number = atoi(argv[2]);
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, number);
  sigaddset(&signals, SIGHUP);
  if (sigprocmask(SIG_BLOCK, &signals, NULL) != 0) err(1, "sigprocmask");
  int fd = signalfd(-1, &signals, SFD_NONBLOCK | SFD_CLOEXEC), epoll = epoll_create1(EPOLL_CLOEXEC);
  struct epoll_event event = {.events = EPOLLIN};
  if (fd < 0 || epoll < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) != 0) err(1, "set-up");

  struct signalfd_siginfo infos[kSignals];
  uint64_t now = 0;
  uint32_t count = 0;
  Tell(0, 0);
  for (;;) {
    if (epoll_wait(epoll, &event, 1, -1) < 0) continue;  // stopped and continued
    ssize_t length = read(fd, infos, sizeof infos);
    for (ssize_t i = 0; i < length / (ssize_t)sizeof *infos; i++) {
      if (infos[i].ssi_signo == SIGHUP) {
        Tell((double)now, count);
        continue;
      }
      now = Now();
      if (infos[i].ssi_int != (int32_t)count) errx(1, "expected %u, got %d", count, infos[i].ssi_int);
      count++;
      if (tells) Tell((double)now, count);
    }
  }
}
