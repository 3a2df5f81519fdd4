// Sends the time to a Unix socket, at a steady pace and whatever the other side does.
//
//   ping PATH HZ SECONDS
//
// Each message is one double: CLOCK_MONOTONIC in nanoseconds, read just before it is sent, so that a late
// wake-up of this program is not part of anything.
#define _GNU_SOURCE
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "latency.h"

int main(int argc, char** argv) {
  if (argc != 4) errx(2, "usage: ping PATH HZ SECONDS");
  double hertz = strtod(argv[2], NULL), seconds = strtod(argv[3], NULL);
  if (!(hertz > 0) || !(seconds > 0)) errx(2, "HZ and SECONDS: more than 0");
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  if (strlen(argv[1]) >= sizeof address.sun_path) errx(1, "path too long: %s", argv[1]);
  strcpy(address.sun_path, argv[1]);
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) err(1, "socket");
  if (connect(fd, (const struct sockaddr*)&address, sizeof address) != 0) err(1, "connect %s", argv[1]);
  prctl(PR_SET_TIMERSLACK, 1);

  uint64_t period = (uint64_t)(1e9 / hertz), due = Now(), end = due + (uint64_t)(seconds * 1e9);
  while ((due += period) < end) {
    struct timespec until = {(time_t)(due / 1000000000), (long)(due % 1000000000)};
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
    double now = (double)Now();
    if (send(fd, &now, sizeof now, MSG_NOSIGNAL) != sizeof now) err(1, "send");
  }
}
