// Opens COUNT connections to the Unix socket PATH, says `connected`, and holds them until its standard input
// ends.
//
//   connect PATH COUNT
#define _GNU_SOURCE
#include <err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

int main(int argc, char** argv) {
  if (argc != 3) errx(2, "usage: connect PATH COUNT");
  struct rlimit files;
  if (getrlimit(RLIMIT_NOFILE, &files) != 0) err(1, "getrlimit");
  files.rlim_cur = files.rlim_max;
  if (setrlimit(RLIMIT_NOFILE, &files) != 0) err(1, "setrlimit");
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  if (strlen(argv[1]) >= sizeof address.sun_path) errx(1, "path too long: %s", argv[1]);
  strcpy(address.sun_path, argv[1]);
  for (long i = strtol(argv[2], NULL, 10); i > 0; i--) {
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) err(1, "socket");
    if (connect(fd, (const struct sockaddr*)&address, sizeof address) != 0) err(1, "connect %s", argv[1]);
  }
  puts("connected");
  fflush(stdout);
  char byte;
  return read(STDIN_FILENO, &byte, 1) < 0;
}
