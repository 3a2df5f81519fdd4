// What shared memory can do without JavaScript: `shm MODE COUNT CPU_A CPU_B`.
//
//   pingpong  round trips through two words in shared memory, both sides spinning
//   eventfd   round trips through two eventfds, both sides sleeping
//   memcpy    1 MiB blocks copied into 16 MiB of shared memory, one after the other
//   ring      64-byte messages through our ring, claimed and committed 32 at a time, read 64 at a time
//
// Prints one line of JSON.
#define _GNU_SOURCE
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "fd-reactor-ring.h"

#define MIB (1u << 20)

static void pin(int cpu) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(cpu, &set);
  if (sched_setaffinity(0, sizeof set, &set) != 0) exit(3);
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static void *shared(size_t size) {
  void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
  if (memory == MAP_FAILED) exit(3);
  return memory;
}

static int ascending(const void *a, const void *b) {
  const double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

static void print_times(double *times, long count) {
  qsort(times, (size_t)count, sizeof *times, ascending);
  printf("{\"p50Nanos\": %.0f, \"p99Nanos\": %.0f}\n", times[count / 2], times[count * 99 / 100]);
}

static void pingpong(long count, int a, int b) {
  char *memory = shared(4096);
  _Atomic uint32_t *there = (void *)memory, *back = (void *)(memory + 256);
  if (fork() == 0) {
    pin(b);
    for (uint32_t i = 1; i <= count; i++) {
      while (atomic_load_explicit(there, memory_order_acquire) != i) {
      }
      atomic_store_explicit(back, i, memory_order_release);
    }
    _exit(0);
  }
  pin(a);
  double *times = malloc((size_t)count * sizeof *times);
  for (uint32_t i = 1; i <= count; i++) {
    const double begin = now();
    atomic_store_explicit(there, i, memory_order_release);
    while (atomic_load_explicit(back, memory_order_acquire) != i) {
    }
    times[i - 1] = now() - begin;
  }
  print_times(times, count);
}

static void bells(long count, int a, int b) {
  const int there = eventfd(0, 0), back = eventfd(0, 0);
  eventfd_t value;
  if (fork() == 0) {
    pin(b);
    for (long i = 0; i < count; i++)
      if (eventfd_read(there, &value) != 0 || eventfd_write(back, 1) != 0) _exit(3);
    _exit(0);
  }
  pin(a);
  double *times = malloc((size_t)count * sizeof *times);
  for (long i = 0; i < count; i++) {
    const double begin = now();
    if (eventfd_write(there, 1) != 0 || eventfd_read(back, &value) != 0) exit(3);
    times[i] = now() - begin;
  }
  print_times(times, count);
}

static void copies(long count, int a) {
  pin(a);
  char *target = shared(16 * MIB), *source = malloc(MIB);
  memset(source, 7, MIB);
  for (long i = 0; i < 32; i++) memcpy(target + (size_t)(i % 16) * MIB, source, MIB);
  const double begin = now();
  for (long i = 0; i < count; i++) {
    memcpy(target + (size_t)(i % 16) * MIB, source, MIB);
    __asm__ volatile("" ::: "memory");
  }
  printf("{\"bytesPerSecond\": %.0f}\n", (double)count * MIB / (now() - begin) * 1e9);
}

static void ring(long count, int a, int b) {
  const uint32_t capacity = 4 * MIB, length = 64;
  const int filled = eventfd(0, EFD_NONBLOCK), drained = eventfd(0, EFD_NONBLOCK);
  struct fdr_control *control = shared(FDR_RING_DATA + capacity);
  *control = (struct fdr_control){.magic = FDR_RING_MAGIC,
                                  .version = FDR_RING_VERSION,
                                  .kind = FDR_RING_KIND_SINGLE,
                                  .capacity = capacity};
  const struct fdr_ring both = {control, (unsigned char *)control + FDR_RING_DATA, capacity, filled, drained,
                                0};
  if (fork() == 0) {
    pin(b);
    struct fdr_writer writer;
    if (fdr_writer_attach(&writer, &both) != 0) _exit(3);
    for (long sent = 0; sent < count; sent++) {
      uint32_t *words;
      while ((words = fdr_claim(&writer, length)) == NULL) fdr_commit(&writer);
      for (uint32_t word = 0; word < length / 4; word++) words[word] = (uint32_t)sent + word;
      if ((sent & 31) == 31) fdr_commit(&writer);
    }
    fdr_commit(&writer);
    _exit(0);
  }
  pin(a);
  struct fdr_reader reader;
  if (fdr_reader_attach(&reader, &both) != 0) exit(3);
  long seen = 0, found = 0;
  double begin = 0;
  uint32_t size, sum = 0;
  while (seen < count) {
    const uint32_t *words = fdr_next(&reader, &size, NULL);
    if (words == NULL) {
      if (errno != EAGAIN) exit(3);
      fdr_release(&reader);
      continue;
    }
    if (seen++ == 0) begin = now();
    uint32_t check = 0;
    for (uint32_t word = 0; word < size / 4; word++) check ^= words[word];
    sum ^= check;
    if ((++found & 63) == 0) fdr_release(&reader);
  }
  fdr_release(&reader);
  printf("{\"messagesPerSecond\": %.0f, \"sum\": %u}\n", (double)(count - 1) / (now() - begin) * 1e9, sum);
}

int main(int count, char **arguments) {
  if (count != 5) return 2;
  const long n = atol(arguments[2]);
  const int a = atoi(arguments[3]), b = atoi(arguments[4]);
  if (strcmp(arguments[1], "pingpong") == 0)
    pingpong(n, a, b);
  else if (strcmp(arguments[1], "eventfd") == 0)
    bells(n, a, b);
  else if (strcmp(arguments[1], "memcpy") == 0)
    copies(n, a);
  else if (strcmp(arguments[1], "ring") == 0)
    ring(n, a, b);
  else
    return 2;
  while (wait(NULL) > 0) {
  }
  return 0;
}
