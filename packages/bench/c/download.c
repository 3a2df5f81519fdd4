// A client that downloads again and again: connects, reads to the end, and goes on at once.
//
//   download PATH SIZE SECONDS SERVER_PID
//
// After a warm-up of a quarter of SECONDS it measures whole downloads of SIZE bytes for at least SECONDS, and
// prints one line of JSON. The server's CPU time is read from its process clock at both ends of the same
// window, over all of its threads.
#define _GNU_SOURCE
#include <err.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { kBuffer = 256 * 1024 };

static uint64_t Nanoseconds(clockid_t clock) {
  struct timespec time;
  if (clock_gettime(clock, &time) != 0) err(1, "clock_gettime");
  return (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
}

static void Download(const struct sockaddr_un* address, char* buffer, size_t size) {
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) err(1, "socket");
  if (connect(fd, (const struct sockaddr*)address, sizeof *address) != 0) err(1, "connect");
  size_t read = 0;
  ssize_t received;
  while ((received = recv(fd, buffer, kBuffer, 0)) > 0) read += (size_t)received;
  if (received < 0 || read != size) err(1, "got %zu of %zu bytes", read, size);
  close(fd);
}

int main(int argc, char** argv) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  if (argc != 5 || strlen(argv[1]) >= sizeof address.sun_path)
    errx(2, "usage: download PATH SIZE SECONDS SERVER_PID");
  strcpy(address.sun_path, argv[1]);
  size_t size = strtoul(argv[2], NULL, 10);
  double seconds = strtod(argv[3], NULL);
  clockid_t server_clock;
  if ((errno = clock_getcpuclockid(atoi(argv[4]), &server_clock)) != 0) err(1, "pid %s", argv[4]);
  char* buffer = malloc(kBuffer);
  if (buffer == NULL) err(1, "malloc");

  uint64_t now, begin = Nanoseconds(CLOCK_MONOTONIC) + (uint64_t)(seconds * 0.25e9);
  do Download(&address, buffer, size);
  while (Nanoseconds(CLOCK_MONOTONIC) < begin);
  uint64_t server_cpu = Nanoseconds(server_clock), downloads = 0;
  begin = Nanoseconds(CLOCK_MONOTONIC);
  do {
    Download(&address, buffer, size);
    downloads++;
    now = Nanoseconds(CLOCK_MONOTONIC);
  } while ((double)(now - begin) < seconds * 1e9);
  server_cpu = Nanoseconds(server_clock) - server_cpu;
  double mebibytes = (double)downloads * (double)size / (1 << 20), wall = (double)(now - begin);
  printf("{\"mebibytesPerSecond\":%.1f,\"serverCpuMicrosPerMebibyte\":%.1f,\"microsPerDownload\":%.1f}\n",
         mebibytes / wall * 1e9, (double)server_cpu / mebibytes / 1e3, wall / (double)downloads / 1e3);
}
