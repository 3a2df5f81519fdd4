// A closed-loop load generator for echo servers on a Unix socket, or on a TCP port of the loopback interface.
//
//   load PATH|seqpacket:PATH|tcp://127.0.0.1:PORT SIZE CLIENTS PIPELINE SECONDS block|spin SERVER_PID [RATE]
//
// Every client sends PIPELINE messages of SIZE bytes in one write, waits until all of them have come back,
// and goes on at once; a round trip is the time from that write to the last byte. What finds no room in the
// socket follows when there is some, so that no client holds up the others. After a warm-up of a
// quarter of SECONDS it measures for SECONDS and prints one line of JSON. The server's CPU time is read from
// its process clock at both ends of the same window, so it covers exactly the messages counted, in
// nanoseconds and over all of its threads. `spin` polls without sleeping, so that the figures hold the
// server's wake-up only. With a RATE it sends so many messages per second instead of as many as it can: the
// writes are due at equal distances, each by a client that is free, and a round trip is counted from when its
// write was due. One that finds no client free is late, not left out.
#define _GNU_SOURCE
#include <err.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { kMaxEvents = 256, kSubBits = 7, kSubBuckets = 1 << kSubBits, kBuckets = 64 * kSubBuckets };

static const uint64_t kPatience = 10ull * 1000000000;  // ns to wait for a first round trip

typedef struct {
  int fd;
  size_t sent;       // bytes of the current burst that have left
  size_t received;   // and that have come back
  uint64_t sent_at;  // when its write began, or was due
} Client;

// Round-trip times, in buckets that are exact below 256 ns and at most 0.8 % wide above: a few kilobytes
// whatever the length of the run, so that recording does not evict the data under test from the cache.
static uint32_t histogram[kBuckets];
static uint64_t recorded, slowest;

static uint64_t Nanoseconds(clockid_t clock) {
  struct timespec time;
  if (clock_gettime(clock, &time) != 0) err(1, "clock_gettime");
  return (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
}

static void Record(uint64_t nanoseconds) {
  int shift = nanoseconds < kSubBuckets ? 0 : 63 - kSubBits - __builtin_clzll(nanoseconds);
  histogram[(uint64_t)shift * kSubBuckets + (nanoseconds >> shift)]++;
  recorded++;
  if (nanoseconds > slowest) slowest = nanoseconds;
}

// The smallest time, in microseconds, that `share` of all round trips did not exceed.
static double Percentile(double share) {
  uint64_t rank = (uint64_t)(share * (double)recorded), seen = 0;
  int index = 0;
  while (index < kBuckets - 1 && (seen += histogram[index]) <= rank) index++;
  int shift = index < 2 * kSubBuckets ? 0 : index / kSubBuckets - 1;
  return (double)((uint64_t)(index - shift * kSubBuckets) << shift) / 1e3;
}

static int ConnectTcp(const char* port) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  int on = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) err(1, "socket");
  if (connect(fd, (const struct sockaddr*)&address, sizeof address) != 0) err(1, "connect to port %s", port);
  if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) != 0) err(1, "TCP_NODELAY");
  return fd;
}

static int Connect(const char* path) {
  static const char kTcp[] = "tcp://127.0.0.1:";
  if (strncmp(path, kTcp, strlen(kTcp)) == 0) return ConnectTcp(path + strlen(kTcp));
  static const char kPackets[] = "seqpacket:";  // one message in flight: each comes back by itself
  int packets = strncmp(path, kPackets, strlen(kPackets)) == 0;
  if (packets) path += strlen(kPackets);
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  if (strlen(path) >= sizeof address.sun_path) errx(1, "path too long: %s", path);
  strcpy(address.sun_path, path);
  int fd = socket(AF_UNIX, (packets ? SOCK_SEQPACKET : SOCK_STREAM) | SOCK_CLOEXEC, 0);
  if (fd < 0) err(1, "socket");
  if (connect(fd, (const struct sockaddr*)&address, sizeof address) != 0) err(1, "connect %s", path);
  return fd;
}

static int epoll;
static char *burst, *echo;
static size_t length;  // of a burst

static void Watch(Client* client, int operation, uint32_t events) {
  struct epoll_event interest = {.events = events, .data.ptr = client};
  if (epoll_ctl(epoll, operation, client->fd, &interest) != 0) err(1, "epoll_ctl");
}

// Sends what the socket takes of what is left.
static void SendSome(Client* client) {
  ssize_t sent = send(client->fd, burst + client->sent, length - client->sent, MSG_NOSIGNAL | MSG_DONTWAIT);
  if (sent < 0 && errno != EAGAIN) err(1, "send");
  if (sent > 0) client->sent += (size_t)sent;
}

static void Begin(Client* client, uint64_t due) {
  client->sent = client->received = 0;
  client->sent_at = due;
  SendSome(client);
}

static void BeginWatched(Client* client, uint64_t due) {
  Begin(client, due);
  if (client->sent < length) Watch(client, EPOLL_CTL_MOD, EPOLLIN | EPOLLOUT);
}

static uint64_t interval;  // between two writes; 0: each client goes on at once
static Client** idle;      // a ring of those that wait for their turn
static size_t clients, first_idle, idlers;

static void GoOn(Client* client, uint64_t now) {
  if (interval > 0) {
    idle[(first_idle + idlers++) % clients] = client;
  } else {
    BeginWatched(client, now);
  }
}

static void Continue(Client* client) {
  SendSome(client);
  if (client->sent == length) Watch(client, EPOLL_CTL_MOD, EPOLLIN);
}

// Takes what has come back; whether that was the rest of the burst.
static int Receive(Client* client, char* into) {
  ssize_t received = recv(client->fd, into, length - client->received, MSG_DONTWAIT);
  if (received < 0 && errno == EAGAIN) return 0;
  if (received < 0) err(1, "recv");
  if (received == 0) errx(1, "the server closed a connection");
  client->received += (size_t)received;
  return client->received == length;
}

// Sleeps until the whole burst is back.
static void Await(Client* client) {
  while (client->received < length) {
    struct pollfd wanted = {.fd = client->fd, .events = POLLIN};
    if (client->sent < length) wanted.events |= POLLOUT;
    if (poll(&wanted, 1, -1) < 0) err(1, "poll");
    if (client->sent < length) SendSome(client);
    Receive(client, echo + client->received);
  }
}

// Before anything is timed: one burst, compared byte by byte, proves that the other side accepted us and
// echoes.
static void CheckEcho(Client* client) {
  memset(echo, 0, length);
  Begin(client, 0);
  Await(client);
  if (memcmp(burst, echo, length) != 0) errx(1, "the server does not echo");
}

int main(int argc, char** argv) {
  if (argc != 8 && argc != 9)
    errx(2,
         "usage: load PATH|tcp://127.0.0.1:PORT SIZE CLIENTS PIPELINE SECONDS block|spin SERVER_PID [RATE]");
  size_t size = strtoul(argv[2], NULL, 10);
  clients = strtoul(argv[3], NULL, 10);
  size_t pipeline = strtoul(argv[4], NULL, 10);
  length = size * pipeline;
  double seconds = strtod(argv[5], NULL);
  int timeout = strcmp(argv[6], "spin") == 0 ? 0 : 100;
  if (length == 0 || clients == 0 || !(seconds > 0)) errx(2, "SIZE, CLIENTS, PIPELINE, SECONDS: more than 0");
  double rate = argc > 8 ? strtod(argv[8], NULL) : 0;  // 0: as many as it can
  interval = rate > 0 ? (uint64_t)((double)pipeline * 1e9 / rate) : 0;
  if (interval > 0) timeout = 0;  // no sleep is as short as such an interval
  clockid_t server_clock;
  if ((errno = clock_getcpuclockid(atoi(argv[7]), &server_clock)) != 0) err(1, "pid %s", argv[7]);

  burst = malloc(length);
  echo = malloc(length);
  Client* table = calloc(clients, sizeof *table);
  epoll = epoll_create1(EPOLL_CLOEXEC);
  idle = calloc(clients, sizeof *idle);
  if (burst == NULL || echo == NULL || table == NULL || idle == NULL || epoll < 0) err(1, "set-up");
  for (size_t i = 0; i < length; i++) burst[i] = (char)(i * 31 + i / 251);
  for (size_t i = 0; i < clients; i++) {
    table[i].fd = Connect(argv[1]);
    CheckEcho(&table[i]);
    Watch(&table[i], EPOLL_CTL_ADD, EPOLLIN);
  }
  uint64_t now = Nanoseconds(CLOCK_MONOTONIC), due = now, begin = now + (uint64_t)(seconds * 0.25e9), end = 0;
  for (size_t i = 0; i < clients; i++) GoOn(&table[i], Nanoseconds(CLOCK_MONOTONIC));
  uint64_t server_cpu = 0, load_cpu = 0;
  int measuring = 0;
  struct epoll_event events[kMaxEvents];
  for (;;) {
    int count = epoll_wait(epoll, events, kMaxEvents, timeout);
    now = Nanoseconds(CLOCK_MONOTONIC);
    if (!measuring && now >= begin) {
      measuring = 1;
      begin = now;
      end = begin + (uint64_t)(seconds * 1e9);
      server_cpu = Nanoseconds(server_clock);
      load_cpu = Nanoseconds(CLOCK_PROCESS_CPUTIME_ID);
    }
    // A machine that had something else to do may have let no round trip through.
    if (measuring && now >= end && (recorded > 0 || now >= end + kPatience)) break;
    for (int i = 0; i < count; i++) {
      Client* client = events[i].data.ptr;
      if (events[i].events & EPOLLOUT) Continue(client);
      if (!(events[i].events & ~EPOLLOUT) || !Receive(client, echo)) continue;
      uint64_t back = Nanoseconds(CLOCK_MONOTONIC);
      if (measuring) Record(back - client->sent_at);
      GoOn(client, back);
    }
    for (; idlers > 0 && due <= now; idlers--, due += interval)
      BeginWatched(idle[first_idle++ % clients], due);
  }
  if (recorded == 0) errx(1, "no message came back in %.2f s", (double)(now - begin) / 1e9);
  server_cpu = Nanoseconds(server_clock) - server_cpu;
  load_cpu = Nanoseconds(CLOCK_PROCESS_CPUTIME_ID) - load_cpu;
  // Closing with unread replies would reset the connections, an error that the next run need not inherit.
  for (size_t i = 0; i < clients; i++) Await(&table[i]);

  double messages = (double)(recorded * pipeline), elapsed = (double)(now - begin) / 1e9;
  printf("{\"messagesPerSecond\":%.0f,\"serverCpuNsPerMessage\":%.1f,\"serverBusyShare\":%.4f,",
         messages / elapsed, (double)server_cpu / messages, (double)server_cpu / 1e9 / elapsed);
  printf("\"loadBusyShare\":%.4f,", (double)load_cpu / 1e9 / elapsed);
  printf("\"p50Micros\":%.2f,\"p90Micros\":%.2f,\"p99Micros\":%.2f,\"p999Micros\":%.2f,\"maxMicros\":%.2f,",
         Percentile(0.5), Percentile(0.9), Percentile(0.99), Percentile(0.999), (double)slowest / 1e3);
  static const double kShares[] = {0,    0.1,   0.25,  0.5,    0.75,   0.9,    0.95,
                                   0.99, 0.995, 0.999, 0.9995, 0.9999, 0.99999};
  printf("\"distribution\":[");
  for (size_t i = 0; i < sizeof kShares / sizeof *kShares; i++)
    printf("[%g,%.3f],", kShares[i] * 100, Percentile(kShares[i]));
  printf("[100,%.3f]]}\n", (double)slowest / 1e3);
}
