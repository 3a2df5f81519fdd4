// The reference that the other echo servers are compared with: one thread, one level-triggered epoll set, one
// read and one write per message, nothing else.
//
//   echo-epoll PATH|seqpacket:PATH block|spin
//
// Prints `ready` once it listens on the Unix socket PATH. `spin` never sleeps in the kernel. It is written
// for `load`, whose clients wait for what they sent before they send more, so a reply always fits into the
// socket's buffer and a short write is a bug.
#define _GNU_SOURCE
#include <err.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { kMaxEvents = 256, kBacklog = 4096 };

static char buffer[65536];

static void Watch(int epoll, int fd) {
  struct epoll_event interest = {.events = EPOLLIN, .data.fd = fd};
  if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &interest) != 0) err(1, "epoll_ctl");
}

static int Listen(const char* path) {
  static const char kPackets[] = "seqpacket:";
  int packets = strncmp(path, kPackets, strlen(kPackets)) == 0;
  if (packets) path += strlen(kPackets);
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  if (strlen(path) >= sizeof address.sun_path) errx(1, "path too long: %s", path);
  strcpy(address.sun_path, path);
  int fd = socket(AF_UNIX, (packets ? SOCK_SEQPACKET : SOCK_STREAM) | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) err(1, "socket");
  if (bind(fd, (const struct sockaddr*)&address, sizeof address) != 0) err(1, "bind %s", path);
  if (listen(fd, kBacklog) != 0) err(1, "listen");
  return fd;
}

static void Echo(int fd) {
  ssize_t length = read(fd, buffer, sizeof buffer);
  if (length <= 0) {
    close(fd);
    return;
  }
  ssize_t written = write(fd, buffer, length);
  if (written != length) err(1, "wrote %zd of %zd bytes", written, length);
}

static void* Idle(void* unused) {
  for (;;) pause();
  return unused;
}

int main(int argc, char** argv) {
  if (argc != 3) errx(2, "usage: echo-epoll PATH|seqpacket:PATH block|spin|threads");
  int timeout = strcmp(argv[2], "spin") == 0 ? 0 : -1;
  prctl(PR_SET_PDEATHSIG, SIGKILL);  // a spinning server must not outlive a bench that was killed
  signal(SIGPIPE, SIG_IGN);          // a client may leave at any time
  // Beside a second thread, as every Node process has some, the kernel counts each use of a descriptor.
  pthread_t idle;
  if (strcmp(argv[2], "threads") == 0 && pthread_create(&idle, NULL, Idle, NULL) != 0)
    errx(1, "pthread_create");

  int listener = Listen(argv[1]);
  int epoll = epoll_create1(EPOLL_CLOEXEC);
  if (epoll < 0) err(1, "epoll_create1");
  Watch(epoll, listener);
  puts("ready");
  fflush(stdout);

  struct epoll_event events[kMaxEvents];
  for (;;) {
    int count = epoll_wait(epoll, events, kMaxEvents, timeout);
    for (int i = 0; i < count; i++) {
      int fd = events[i].data.fd;
      if (fd != listener) {
        Echo(fd);
        continue;
      }
      int client = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
      if (client < 0) err(1, "accept4");
      Watch(epoll, client);
    }
  }
}
