// A cell that programs in other languages can join: the layout of fd-events/src/cell-layout.ts, read and
// written with C11's atomics. The order of loads and stores is argued in core/native/cell.cc.
//
//   cell write SECONDS
//   cell read
//
// The cell is made by somebody else and lies at the beginning of the memory object that is descriptor 3. Its
// record is eight doubles, of which number i is the sequence times i + 1. `write` publishes as fast as it can
// for SECONDS, after a warm-up of a quarter of that, and prints one line of JSON. `read` prints `ready`,
// reads as fast as it can, looks at every sample that is new, and on SIGTERM prints what it saw.
#include <err.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <time.h>

enum { kFd = 3, kWords = 8, kMagic = 0x434c4446, kVersion = 1, kBatch = 1000 };

struct Sample {
  double word[kWords];
};

struct Cell {
  uint32_t magic, version, record_size, slots, stride, unused;
  uint64_t hash;
  _Alignas(64) _Atomic uint64_t sequence;
  _Alignas(64) unsigned char slot[];
};
_Static_assert(offsetof(struct Cell, hash) == 24, "the header");
_Static_assert(offsetof(struct Cell, sequence) == 64, "the sequence");
_Static_assert(offsetof(struct Cell, slot) == 128, "the first slot");

static struct Cell* cell;
static uint64_t mask, stride, slots;
static volatile sig_atomic_t ended;

static double Seconds(clockid_t clock) {
  struct timespec time;
  if (clock_gettime(clock, &time) != 0) err(1, "clock_gettime");
  return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static _Atomic uint64_t* Slot(uint64_t sample) {
  return (_Atomic uint64_t*)(cell->slot + (sample & mask) * stride);
}

// A call, as of a library: what is measured beside it is one, too.
__attribute__((noinline)) static void Publish(uint64_t sample, const struct Sample* record) {
  uint64_t words[kWords];
  memcpy(words, record, sizeof words);
  atomic_thread_fence(memory_order_release);
  _Atomic uint64_t* to = Slot(sample);
  for (int i = 0; i < kWords; i++) atomic_store_explicit(to + i, words[i], memory_order_relaxed);
  atomic_store_explicit(&cell->sequence, sample, memory_order_release);
}

// The number of the sample that was read; 0 before the first.
static uint64_t Read(uint64_t last, struct Sample* record, uint64_t* retries) {
  for (;;) {
    uint64_t sample = atomic_load_explicit(&cell->sequence, memory_order_acquire);
    if (sample == last) return last;
    uint64_t words[kWords];
    const _Atomic uint64_t* from = Slot(sample);
    for (int i = 0; i < kWords; i++) words[i] = atomic_load_explicit(from + i, memory_order_relaxed);
    atomic_thread_fence(memory_order_acquire);
    if (atomic_load_explicit(&cell->sequence, memory_order_relaxed) - sample <= slots - 2) {
      memcpy(record, words, sizeof words);
      return sample;
    }
    ++*retries;
  }
}

static void Write(double seconds) {
  uint64_t sample = atomic_load(&cell->sequence), first = 0;
  double begin = Seconds(CLOCK_MONOTONIC) + seconds / 4, end = 0, used = 0;
  for (;;) {
    double now = Seconds(CLOCK_MONOTONIC);
    if (end == 0 && now >= begin) {
      begin = now;
      end = now + seconds;
      used = Seconds(CLOCK_PROCESS_CPUTIME_ID);
      first = sample;
    }
    if (end != 0 && now >= end) {
      double count = (double)(sample - first);
      printf("{\"perSecond\":%.0f,\"perCpuSecond\":%.0f}\n", count / (now - begin),
             count / (Seconds(CLOCK_PROCESS_CPUTIME_ID) - used));
      return;
    }
    for (int i = 0; i < kBatch; i++) {
      struct Sample record;
      sample++;
      for (int word = 0; word < kWords; word++) record.word[word] = (double)sample * (word + 1);
      Publish(sample, &record);
    }
  }
}

static void End(int signal) {
  (void)signal;
  ended = 1;
}

static void ReadAll(void) {
  uint64_t last = 0, reads = 0, fresh = 0, retries = 0, torn = 0;
  signal(SIGTERM, End);
  puts("ready");
  fflush(stdout);
  double begin = Seconds(CLOCK_MONOTONIC);
  do {
    struct Sample record;
    uint64_t sample = Read(last, &record, &retries);
    reads++;
    if (sample == last) continue;
    fresh++;
    last = sample;
    for (int word = 0; word < kWords; word++) torn += record.word[word] != (double)sample * (word + 1);
  } while (!ended);
  double elapsed = Seconds(CLOCK_MONOTONIC) - begin;
  printf("{\"reads\":%.0f,\"fresh\":%.0f,\"retries\":%.0f,\"torn\":%.0f,\"seconds\":%.3f}\n", (double)reads,
         (double)fresh, (double)retries, (double)torn, elapsed);
}

int main(int argc, char** argv) {
  int writes = argc == 3 && strcmp(argv[1], "write") == 0;
  if (!writes && !(argc == 2 && strcmp(argv[1], "read") == 0))
    errx(2, "usage: cell write SECONDS | cell read");
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  struct stat about;
  if (fstat(kFd, &about) != 0) err(1, "descriptor 3");
  cell = mmap(NULL, (size_t)about.st_size, PROT_READ | (writes ? PROT_WRITE : 0), MAP_SHARED, kFd, 0);
  if (cell == MAP_FAILED) err(1, "mmap");
  slots = cell->slots;
  stride = cell->stride;
  mask = slots - 1;
  if (cell->magic != kMagic || cell->version != kVersion || cell->record_size != sizeof(struct Sample))
    errx(1, "no cell of this kind");
  if (slots < 2 || (slots & mask) != 0 || sizeof(struct Cell) + slots * stride > (uint64_t)about.st_size)
    errx(1, "the cell is not as it should be");
  if (writes)
    Write(atof(argv[2]));
  else
    ReadAll();
  return 0;
}
