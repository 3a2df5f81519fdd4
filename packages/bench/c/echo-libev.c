// An echo server on libev, for the comparison with `echo-epoll` and ours.
//
//   echo-libev PATH
//
// Prints `ready` once it listens on the Unix socket PATH. libev tells readiness and leaves the bytes to the
// program: one read and one write per message. What finds no room in the socket is copied, and the connection
// waits until it can be written again instead of reading on.
#define _GNU_SOURCE
#include <err.h>
#include <errno.h>
#include <ev.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { kBacklog = 4096 };

typedef struct {
  ev_io watcher;      // first: libev's pointers to it are ours
  char* rest;         // what found no room, else NULL
  size_t at, length;  // of what is left of it
} Client;

static char buffer[65536];

static int Listen(const char* path) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  if (strlen(path) >= sizeof address.sun_path) errx(1, "path too long: %s", path);
  strcpy(address.sun_path, path);
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) err(1, "socket");
  if (bind(fd, (const struct sockaddr*)&address, sizeof address) != 0) err(1, "bind %s", path);
  if (listen(fd, kBacklog) != 0) err(1, "listen");
  return fd;
}

static void Close(struct ev_loop* loop, Client* client) {
  ev_io_stop(loop, &client->watcher);
  close(client->watcher.fd);
  free(client->rest);
  free(client);
}

static void WaitFor(struct ev_loop* loop, Client* client, int events) {
  ev_io_stop(loop, &client->watcher);
  ev_io_modify(&client->watcher, events);
  ev_io_start(loop, &client->watcher);
}

static void WriteRest(struct ev_loop* loop, Client* client) {
  ssize_t written = write(client->watcher.fd, client->rest + client->at, client->length - client->at);
  if (written < 0 && errno == EAGAIN) return;
  if (written < 0) {
    Close(loop, client);
    return;
  }
  client->at += (size_t)written;
  if (client->at < client->length) return;
  free(client->rest);
  client->rest = NULL;
  WaitFor(loop, client, EV_READ);
}

static void KeepRest(struct ev_loop* loop, Client* client, const char* bytes, size_t length) {
  client->rest = malloc(length);
  if (client->rest == NULL) err(1, "malloc");
  memcpy(client->rest, bytes, length);
  client->at = 0;
  client->length = length;
  WaitFor(loop, client, EV_WRITE);
}

static void OnReady(struct ev_loop* loop, ev_io* watcher, int events) {
  Client* client = (Client*)watcher;
  if (events & EV_WRITE) {
    WriteRest(loop, client);
    return;
  }
  ssize_t length = read(watcher->fd, buffer, sizeof buffer);
  if (length < 0 && errno == EAGAIN) return;
  if (length <= 0) {
    Close(loop, client);
    return;
  }
  ssize_t written = write(watcher->fd, buffer, (size_t)length);
  if (written == length) return;
  if (written < 0 && errno == EAGAIN) written = 0;
  if (written < 0)
    Close(loop, client);
  else
    KeepRest(loop, client, buffer + written, (size_t)(length - written));
}

static void OnConnection(struct ev_loop* loop, ev_io* watcher, int events) {
  (void)events;
  int fd = accept4(watcher->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
  if (fd < 0) err(1, "accept4");
  Client* client = calloc(1, sizeof *client);
  if (client == NULL) err(1, "calloc");
  ev_io_init(&client->watcher, OnReady, fd, EV_READ);
  ev_io_start(loop, &client->watcher);
}

int main(int argc, char** argv) {
  if (argc != 2) errx(2, "usage: echo-libev PATH");
  prctl(PR_SET_PDEATHSIG, SIGKILL);  // not outlive a bench that was killed
  signal(SIGPIPE, SIG_IGN);          // a client may leave at any time

  struct ev_loop* loop = ev_default_loop(EVBACKEND_EPOLL);
  if (loop == NULL) errx(1, "no epoll");
  ev_io listener;
  ev_io_init(&listener, OnConnection, Listen(argv[1]), EV_READ);
  ev_io_start(loop, &listener);
  puts("ready");
  fflush(stdout);
  return ev_run(loop, 0);
}
