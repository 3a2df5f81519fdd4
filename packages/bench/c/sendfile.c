// The least that can be done: sends a file to whoever connects, one after the other, with sendfile(2).
//
//   sendfile PATH FILE
#define _GNU_SOURCE
#include <err.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

int main(int argc, char** argv) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  if (argc != 3 || strlen(argv[1]) >= sizeof address.sun_path) errx(2, "usage: sendfile PATH FILE");
  strcpy(address.sun_path, argv[1]);
  signal(SIGPIPE, SIG_IGN);
  int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (bind(listener, (const struct sockaddr*)&address, sizeof address) != 0) err(1, "bind");
  if (listen(listener, 128) != 0) err(1, "listen");
  puts("ready");
  fflush(stdout);
  for (;;) {
    struct stat status;
    int client = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    int file = open(argv[2], O_RDONLY | O_CLOEXEC);
    if (client < 0 || file < 0 || fstat(file, &status) != 0) err(1, "accept, open");
    off_t at = 0;
    while (at < status.st_size && sendfile(client, file, &at, (size_t)(status.st_size - at)) > 0) continue;
    close(file);
    close(client);
  }
}
