// One end of a flow of datagrams, for the ends that are compared, and as the C program that they are compared
// with.
//
//   dgram receive PATH
//   dgram send PATH SIZE SECONDS [RECEIVER_PID]
//
// `receive` prints `ready` and takes up to 32 datagrams with each recvmmsg(2), for ever. `send` sends with
// sendmmsg(2) as fast as the receiver takes them; after a warm-up of a quarter of SECONDS it counts for
// SECONDS and prints one line of JSON. CPU time is that of the receiver, or without one its own.
#define _GNU_SOURCE
#include <err.h>
#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>

enum { kMessages = 32, kBytes = 65536 };

static struct mmsghdr messages[kMessages];
static struct iovec parts[kMessages];
static char bytes[kMessages][kBytes];

static uint64_t Nanoseconds(clockid_t clock) {
  struct timespec time;
  if (clock_gettime(clock, &time) != 0) err(1, "clock_gettime");
  return (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
}

static void Receive(int fd, const struct sockaddr_un* address) {
  if (bind(fd, (const struct sockaddr*)address, sizeof *address) != 0) err(1, "bind");
  puts("ready");
  fflush(stdout);
  for (;;) {
    if (recvmmsg(fd, messages, kMessages, MSG_WAITFORONE, NULL) < 0) err(1, "recvmmsg");
  }
}

static void Send(int fd, const struct sockaddr_un* address, double seconds, clockid_t cpu) {
  if (connect(fd, (const struct sockaddr*)address, sizeof *address) != 0) err(1, "connect");
  uint64_t begin = Nanoseconds(CLOCK_MONOTONIC) + (uint64_t)(seconds * 0.25e9), end = 0, used = 0, sent = 0;
  for (;;) {
    uint64_t now = Nanoseconds(CLOCK_MONOTONIC);
    if (end == 0 && now >= begin) {
      begin = now;
      end = begin + (uint64_t)(seconds * 1e9);
      used = Nanoseconds(cpu);
      sent = 0;
    }
    if (end != 0 && now >= end) {
      double elapsed = (double)(now - begin) / 1e9;
      printf("{\"messagesPerSecond\":%.0f,\"cpuNsPerMessage\":%.1f}\n", (double)sent / elapsed,
             (double)(Nanoseconds(cpu) - used) / (double)sent);
      return;
    }
    int taken = sendmmsg(fd, messages, kMessages, 0);
    if (taken < 0) err(1, "sendmmsg");
    sent += (uint64_t)taken;
  }
}

int main(int argc, char** argv) {
  int sends = argc >= 5 && strcmp(argv[1], "send") == 0;
  if (!sends && !(argc == 3 && strcmp(argv[1], "receive") == 0))
    errx(2, "usage: dgram receive PATH | dgram send PATH SIZE SECONDS [RECEIVER_PID]");
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  if (strlen(argv[2]) >= sizeof address.sun_path) errx(1, "path too long: %s", argv[2]);
  strcpy(address.sun_path, argv[2]);
  size_t size = sends ? strtoul(argv[3], NULL, 10) : kBytes;
  if (size > kBytes) errx(2, "SIZE: at most %d", kBytes);
  for (int i = 0; i < kMessages; i++) {
    parts[i] = (struct iovec){bytes[i], size};
    messages[i].msg_hdr = (struct msghdr){.msg_iov = &parts[i], .msg_iovlen = 1};
  }
  int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) err(1, "socket");
  if (!sends) Receive(fd, &address);
  clockid_t cpu = CLOCK_PROCESS_CPUTIME_ID;
  if (argc == 6 && (errno = clock_getcpuclockid(atoi(argv[5]), &cpu)) != 0) err(1, "pid %s", argv[5]);
  Send(fd, &address, strtod(argv[4], NULL), cpu);
}
