// An echo server on libuv, for the comparison with `echo-epoll` and ours.
//
//   echo-libuv PATH
//
// Prints `ready` once it listens on the Unix socket PATH. libuv reads right after it asked for a buffer, so
// one buffer serves all connections, and an answer leaves by uv_try_write() without a request. Only what
// finds no room in the socket is copied; the connection is not read until that has left.
#include <err.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <uv.h>

enum { kBacklog = 4096 };

typedef struct {
  uv_pipe_t pipe;      // first: libuv's pointers to it are ours
  uv_write_t writing;  // one at a time
  char* rest;          // being written
} Client;

static char buffer[65536];

static void OnRead(uv_stream_t* stream, ssize_t length, const uv_buf_t* bytes);

static void Check(int result, const char* call) {
  if (result < 0) errx(1, "%s: %s", call, uv_strerror(result));
}

static void OnClosed(uv_handle_t* handle) {
  free(((Client*)handle)->rest);
  free(handle);
}

static void Close(uv_stream_t* stream) {
  if (!uv_is_closing((uv_handle_t*)stream)) uv_close((uv_handle_t*)stream, OnClosed);
}

static void OnAllocate(uv_handle_t* handle, size_t suggested, uv_buf_t* bytes) {
  (void)handle, (void)suggested;
  *bytes = uv_buf_init(buffer, sizeof buffer);
}

static void OnWritten(uv_write_t* request, int status) {
  Client* client = (Client*)request->handle;
  free(client->rest);
  client->rest = NULL;
  if (status < 0) Close(request->handle);
  if (!uv_is_closing((uv_handle_t*)client)) Check(uv_read_start(request->handle, OnAllocate, OnRead), "read");
}

static void WriteRest(Client* client, const char* bytes, size_t length) {
  uv_stream_t* stream = (uv_stream_t*)&client->pipe;
  client->rest = malloc(length);
  if (client->rest == NULL) err(1, "malloc");
  memcpy(client->rest, bytes, length);
  uv_read_stop(stream);
  uv_buf_t rest = uv_buf_init(client->rest, (unsigned)length);
  Check(uv_write(&client->writing, stream, &rest, 1, OnWritten), "write");
}

static void OnRead(uv_stream_t* stream, ssize_t length, const uv_buf_t* bytes) {
  if (length == 0) return;  // EAGAIN
  if (length < 0) {
    Close(stream);
    return;
  }
  uv_buf_t answer = uv_buf_init(bytes->base, (unsigned)length);
  int written = uv_try_write(stream, &answer, 1);
  if (written == length) return;
  if (written == UV_EAGAIN) written = 0;
  if (written < 0)
    Close(stream);
  else
    WriteRest((Client*)stream, bytes->base + written, (size_t)(length - written));
}

static void OnConnection(uv_stream_t* listener, int status) {
  Check(status, "listen");
  Client* client = calloc(1, sizeof *client);
  if (client == NULL) err(1, "calloc");
  Check(uv_pipe_init(listener->loop, &client->pipe, 0), "pipe");
  Check(uv_accept(listener, (uv_stream_t*)&client->pipe), "accept");
  Check(uv_read_start((uv_stream_t*)&client->pipe, OnAllocate, OnRead), "read");
}

int main(int argc, char** argv) {
  if (argc != 2) errx(2, "usage: echo-libuv PATH");
  prctl(PR_SET_PDEATHSIG, SIGKILL);  // not outlive a bench that was killed
  signal(SIGPIPE, SIG_IGN);          // a client may leave at any time

  uv_pipe_t listener;
  Check(uv_pipe_init(uv_default_loop(), &listener, 0), "pipe");
  Check(uv_pipe_bind(&listener, argv[1]), "bind");
  Check(uv_listen((uv_stream_t*)&listener, kBacklog, OnConnection), "listen");
  puts("ready");
  fflush(stdout);
  return uv_run(uv_default_loop(), UV_RUN_DEFAULT);
}
