// An echo server on libevent, for the comparison with `echo-epoll` and ours.
//
//   echo-libevent PATH
//
// Prints `ready` once it listens on the Unix socket PATH. It takes plain events and not bufferevents: those
// answer from the loop's next turn and change the epoll set twice for each message, which nearly doubles the
// processor time. What finds no room in the socket goes to an evbuffer, and the connection is not read until
// that has left.
#include <err.h>
#include <errno.h>
#include <event2/buffer.h>
#include <event2/event.h>
#include <event2/listener.h>
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
  struct event* readable;
  struct event* writable;
  struct evbuffer* rest;  // what found no room; made when it is first needed
} Client;

static char buffer[65536];

static void Close(Client* client, int fd) {
  event_free(client->readable);
  event_free(client->writable);
  if (client->rest != NULL) evbuffer_free(client->rest);
  free(client);
  close(fd);
}

static void OnWritable(int fd, short what, void* data) {
  (void)what;
  Client* client = data;
  if (evbuffer_write(client->rest, fd) < 0 && errno != EAGAIN) {
    Close(client, fd);
    return;
  }
  if (evbuffer_get_length(client->rest) > 0) return;
  event_del(client->writable);
  event_add(client->readable, NULL);
}

static void WriteRest(Client* client, const char* bytes, size_t length) {
  if (client->rest == NULL) client->rest = evbuffer_new();
  if (client->rest == NULL || evbuffer_add(client->rest, bytes, length) != 0) err(1, "evbuffer");
  event_del(client->readable);
  event_add(client->writable, NULL);
}

static void OnReadable(int fd, short what, void* data) {
  (void)what;
  ssize_t length = read(fd, buffer, sizeof buffer);
  if (length < 0 && errno == EAGAIN) return;
  if (length <= 0) {
    Close(data, fd);
    return;
  }
  ssize_t written = write(fd, buffer, (size_t)length);
  if (written == length) return;
  if (written < 0 && errno == EAGAIN) written = 0;
  if (written < 0)
    Close(data, fd);
  else
    WriteRest(data, buffer + written, (size_t)(length - written));
}

static void OnConnection(struct evconnlistener* listener, int fd, struct sockaddr* address, int size,
                         void* data) {
  (void)address, (void)size, (void)data;
  struct event_base* base = evconnlistener_get_base(listener);
  Client* client = calloc(1, sizeof *client);
  if (client == NULL) err(1, "calloc");
  client->readable = event_new(base, fd, EV_READ | EV_PERSIST, OnReadable, client);
  client->writable = event_new(base, fd, EV_WRITE | EV_PERSIST, OnWritable, client);
  if (client->readable == NULL || client->writable == NULL) err(1, "event_new");
  if (event_add(client->readable, NULL) != 0) err(1, "event_add");
}

int main(int argc, char** argv) {
  if (argc != 2) errx(2, "usage: echo-libevent PATH");
  prctl(PR_SET_PDEATHSIG, SIGKILL);  // not outlive a bench that was killed
  signal(SIGPIPE, SIG_IGN);          // a client may leave at any time

  struct sockaddr_un address = {.sun_family = AF_UNIX};
  if (strlen(argv[1]) >= sizeof address.sun_path) errx(1, "path too long: %s", argv[1]);
  strcpy(address.sun_path, argv[1]);
  struct event_base* base = event_base_new();
  if (base == NULL) errx(1, "event_base_new");
  if (evconnlistener_new_bind(base, OnConnection, NULL, LEV_OPT_CLOSE_ON_EXEC, kBacklog,
                              (const struct sockaddr*)&address, sizeof address) == NULL)
    err(1, "listen on %s", argv[1]);
  puts("ready");
  fflush(stdout);
  return event_base_dispatch(base);
}
