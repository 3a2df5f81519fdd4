// Latencies kept one by one, and printed as src/latencies.ts prints them: percentiles are exact.
#ifndef FD_REACTOR_BENCH_LATENCY_H
#define FD_REACTOR_BENCH_LATENCY_H
#include <err.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef struct {
  uint64_t* values;  // nanoseconds
  size_t count, capacity;
} Latencies;

static inline uint64_t Now(void) {
  struct timespec time;
  if (clock_gettime(CLOCK_MONOTONIC, &time) != 0) err(1, "clock_gettime");
  return (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
}

// Written once, so that recording causes no page faults.
static inline Latencies LatenciesOf(size_t capacity) {
  Latencies all = {.values = malloc(capacity * sizeof(uint64_t)), .capacity = capacity};
  if (all.values == NULL) err(1, "malloc");
  memset(all.values, 1, capacity * sizeof(uint64_t));
  return all;
}

// At least 1 ns, which a logarithmic axis can show.
static inline void LatencyRecord(Latencies* all, int64_t nanoseconds) {
  if (all->count < all->capacity) all->values[all->count++] = nanoseconds < 1 ? 1 : (uint64_t)nanoseconds;
}

static inline int LatencyCompare(const void* a, const void* b) {
  uint64_t x = *(const uint64_t*)a, y = *(const uint64_t*)b;
  return (x > y) - (x < y);
}

static inline double LatencyAt(const Latencies* all, double percentile) {
  size_t rank = (size_t)(percentile / 100 * (double)all->count);
  return (double)all->values[rank < all->count ? rank : all->count - 1] / 1e3;
}

// Members of a JSON object, in microseconds; sorts.
static inline void LatenciesPrint(Latencies* all) {
  static const double kPercentiles[] = {0, 10, 25, 50, 75, 90, 95, 99, 99.5, 99.9, 99.95, 99.99, 99.999, 100};
  if (all->count == 0) errx(1, "nothing was measured: it needs more seconds");
  qsort(all->values, all->count, sizeof(uint64_t), LatencyCompare);
  printf("\"p50Micros\":%.3f,\"p90Micros\":%.3f,\"p99Micros\":%.3f,\"p999Micros\":%.3f,\"maxMicros\":%.3f,",
         LatencyAt(all, 50), LatencyAt(all, 90), LatencyAt(all, 99), LatencyAt(all, 99.9),
         LatencyAt(all, 100));
  printf("\"distribution\":[");
  for (size_t i = 0; i < sizeof kPercentiles / sizeof *kPercentiles; i++)
    printf("%s[%g,%.3f]", i == 0 ? "" : ",", kPercentiles[i], LatencyAt(all, kPercentiles[i]));
  printf("]");
}

#endif
