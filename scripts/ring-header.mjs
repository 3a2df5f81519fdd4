/**
 * `npm run ring-header`: writes packages/fd-events/include/fd-reactor-ring.h, for programs in other languages, from the numbers of
 * src/ring-layout.ts (built). With `--print` it only prints it.
 */
import { mkdirSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import * as layout from '../packages/fd-events/dist/ring-layout.js'

const path = join(dirname(fileURLToPath(import.meta.url)), '../packages/fd-events/include/fd-reactor-ring.h')
const { RingOffset: offset } = layout
const hex = (word) => `0x${(word >>> 0).toString(16)}u`

const header = `// The rings of fd-reactor in C11: one writer, one reader, in memory that two processes share.
// Written by scripts/ring-header.mjs from packages/fd-events/src/ring-layout.ts; do not edit.
//
// The layout
//
// A ring comes as three descriptors: its memory, and two eventfds: \`filled\`, on which the reader sleeps, and
// \`drained\`, on which the writer sleeps. The memory is a page of control words and then \`capacity\` bytes of
// data, a power of two. All words have 32 bits, are little-endian and aligned; each party writes to cache
// lines of its own.
//
//   byte ${pad(offset.Magic)}  magic           "FDRR"
//        ${pad(offset.Version)}  version         ${layout.RING_VERSION}
//        ${pad(offset.Kind)}  kind            ${layout.RingKind.Single}: one writer, one reader
//        ${pad(offset.Capacity)}  capacity        bytes of data: ${layout.MIN_CAPACITY} to ${layout.MAX_CAPACITY}
//        ${pad(offset.Head)}  head            writer: everything before it is committed
//        ${pad(offset.Mark0Position)}  marks           writer: twice a position and the sequence number of the record there
//        ${pad(offset.WriterEnded)}  writer_ended    writer: odd after its end; the next one makes it even again
//        ${pad(offset.Tail)}  tail            reader: everything before it is acknowledged, and its room is free
//        ${pad(offset.ReaderWaiting)}  reader_waiting  1 while the reader sleeps
//        ${pad(offset.WriterWaiting)}  writer_waiting  how many bytes must be free to wake the writer; 0 while it is awake
//        ${pad(offset.Data)}  data
//
// A position counts bytes written since the ring was made, modulo 2^32; position mod capacity is its place in
// the data. A record is a header of two words, the message's length and its sequence number, and then the
// message, filled up to a multiple of 8. A record never wraps: what is left before the end of the data is
// skipped by a header of length ${layout.PAD}, of which only the length counts. The longest message has capacity / 2 - ${layout.RECORD_HEADER}
// bytes, so that it fits into an empty ring wherever it begins.
//
// The writer puts records behind head and then moves head (store, release), which commits them. Before that
// it fills the mark whose position is not head with the new head and the next sequence number; the mark whose
// position is head tells a new writer where the last one stopped. The reader loads head (acquire), and moves
// tail when it has done with the messages (store, release). Nothing else says what a ring holds, so who is
// killed leaves it whole: what was not committed never was, and what was not acknowledged comes again, with
// the same sequence number.
//
// Who goes to sleep sets its waiting word, looks once more, and sleeps on its eventfd. Who moved head (or
// tail) looks at the other one's waiting word; if it is fulfilled, and it is the one that takes the value
// out, it adds 1 to that eventfd. Store and load are sequentially consistent on both sides, so at least one
// of them sees the other. Who takes the place of one that was killed rings the other side once: the dead one
// may have taken a waiting word out and not rung.
//
// A value that the other side can change is read once, then checked, then used.
#ifndef FD_REACTOR_RING_H
#define FD_REACTOR_RING_H

#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define FDR_RING_MAGIC ${hex(layout.RING_MAGIC)}
#define FDR_RING_VERSION ${layout.RING_VERSION}u
#define FDR_RING_KIND_SINGLE ${layout.RingKind.Single}u
#define FDR_RING_DATA ${offset.Data}u
#define FDR_RING_MIN_CAPACITY ${layout.MIN_CAPACITY}u
#define FDR_RING_MAX_CAPACITY ${layout.MAX_CAPACITY}u
#define FDR_RECORD_HEADER ${layout.RECORD_HEADER}u
#define FDR_PAD ${hex(layout.PAD)}

struct fdr_control {
  _Atomic uint32_t magic;
  uint32_t version;
  uint32_t kind;
  uint32_t capacity;
  _Alignas(${offset.Head}) _Atomic uint32_t head;
  struct {
    uint32_t position;
    uint32_t sequence;
  } marks[2];
  _Atomic uint32_t writer_ended;
  _Alignas(128) _Atomic uint32_t tail;
  _Alignas(128) _Atomic uint32_t reader_waiting;
  _Alignas(128) _Atomic uint32_t writer_waiting;
};

${[
  ['magic', offset.Magic],
  ['version', offset.Version],
  ['kind', offset.Kind],
  ['capacity', offset.Capacity],
  ['head', offset.Head],
  ['marks[0].position', offset.Mark0Position],
  ['marks[0].sequence', offset.Mark0Sequence],
  ['marks[1].position', offset.Mark1Position],
  ['marks[1].sequence', offset.Mark1Sequence],
  ['writer_ended', offset.WriterEnded],
  ['tail', offset.Tail],
  ['reader_waiting', offset.ReaderWaiting],
  ['writer_waiting', offset.WriterWaiting],
]
  .map(([name, at]) => `_Static_assert(offsetof(struct fdr_control, ${name}) == ${at}, "${name}");`)
  .join('\n')}
_Static_assert(sizeof(struct fdr_control) <= FDR_RING_DATA, "the control words fit before the data");

// One side's view of a ring. The descriptors stay the caller's.
struct fdr_ring {
  struct fdr_control* control;
  unsigned char* data;
  uint32_t capacity;
  int filled;
  int drained;
  size_t mapped;
};

// Maps a ring and checks it. 0, or -1 with errno: EPROTO for what is no ring of this version, or as fstat(2),
// mmap(2).
static inline int fdr_open(struct fdr_ring* ring, int memory, int filled, int drained) {
  struct stat info;
  if (fstat(memory, &info) != 0) return -1;
  const size_t size = (size_t)info.st_size;
  if (info.st_size < (off_t)(FDR_RING_DATA + FDR_RING_MIN_CAPACITY)) return errno = EPROTO, -1;
  void* mapped = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
  if (mapped == MAP_FAILED) return -1;
  struct fdr_control* control = (struct fdr_control*)mapped;
  const uint32_t capacity = *(volatile uint32_t*)&control->capacity;
  if (atomic_load(&control->magic) != FDR_RING_MAGIC || control->version != FDR_RING_VERSION ||
      control->kind != FDR_RING_KIND_SINGLE || capacity < FDR_RING_MIN_CAPACITY ||
      capacity > FDR_RING_MAX_CAPACITY || capacity > size - FDR_RING_DATA ||
      (capacity & (capacity - 1)) != 0) {
    munmap(mapped, size);
    return errno = EPROTO, -1;
  }
  *ring = (struct fdr_ring){control, (unsigned char*)mapped + FDR_RING_DATA, capacity, filled, drained, size};
  return 0;
}

// Unmaps it. The descriptors stay open.
static inline void fdr_close(struct fdr_ring* ring) { munmap(ring->control, ring->mapped); }

// Rings a doorbell. If its counter is full it rings already.
static inline void fdr_ring_bell(int bell) {
  const uint64_t one = 1;
  while (write(bell, &one, sizeof one) < 0 && errno == EINTR) {
  }
}

// Sleeps until a doorbell rings. 0, or -1 with errno, EINTR among others.
static inline int fdr_sleep(int bell) {
  struct pollfd ready = {bell, POLLIN, 0};
  if (poll(&ready, 1, -1) < 0) return -1;
  uint64_t count;
  return read(bell, &count, sizeof count) < 0 && errno != EAGAIN ? -1 : 0;
}

static inline uint32_t fdr_record_bytes(uint32_t length) { return (length + FDR_RECORD_HEADER + 7u) & ~7u; }

static inline uint32_t fdr_max_message(const struct fdr_ring* ring) {
  return ring->capacity / 2 - FDR_RECORD_HEADER;
}

static inline uint32_t* fdr_word(const struct fdr_ring* ring, uint32_t place) {
  return (uint32_t*)(void*)(ring->data + place);
}

// The writer of a ring. There is one at a time.
struct fdr_writer {
  struct fdr_ring ring;
  uint32_t committed, claimed, sequence, tail, wanted;
  unsigned mark;  // which of the two is filled next
};

// Goes on where the last writer committed. 0, or -1 with errno EPROTO when the words contradict each other.
static inline int fdr_writer_attach(struct fdr_writer* writer, const struct fdr_ring* ring) {
  struct fdr_control* control = ring->control;
  const uint32_t head = atomic_load(&control->head), tail = atomic_load(&control->tail);
  const unsigned current = control->marks[0].position == head ? 0 : 1;
  if (control->marks[current].position != head || head - tail > ring->capacity || ((head | tail) & 7) != 0)
    return errno = EPROTO, -1;
  *writer = (struct fdr_writer){*ring, head, head, control->marks[current].sequence, tail, 0, 1 - current};
  atomic_store(&control->writer_waiting, 0);
  atomic_store(&control->writer_ended, (atomic_load(&control->writer_ended) | 1u) + 1u);
  fdr_ring_bell(ring->filled);
  return 0;
}

// Room for a message, aligned to 8 bytes; it is in the ring after fdr_commit(). NULL with errno: EAGAIN when
// there is none now, EMSGSIZE when there never is, EPROTO when the reader has damaged the ring.
static inline void* fdr_claim(struct fdr_writer* writer, uint32_t length) {
  const uint32_t capacity = writer->ring.capacity;
  if (length > fdr_max_message(&writer->ring)) return errno = EMSGSIZE, (void*)NULL;
  const uint32_t size = fdr_record_bytes(length);
  uint32_t position = writer->claimed, place = position & (capacity - 1);
  const uint32_t padding = size > capacity - place ? capacity - place : 0;
  if (position - writer->tail + padding + size > capacity) {
    const uint32_t tail = atomic_load(&writer->ring.control->tail);
    if (position - tail > capacity || (tail & 7) != 0) return errno = EPROTO, (void*)NULL;
    writer->tail = tail;
    if (position - tail + padding + size > capacity) {
      const uint32_t space = padding + size;
      writer->wanted = space > capacity / 2 ? space : capacity / 2;
      return errno = EAGAIN, (void*)NULL;
    }
  }
  if (padding != 0) {
    *fdr_word(&writer->ring, place) = FDR_PAD;
    position += padding;
    place = 0;
  }
  uint32_t* record = fdr_word(&writer->ring, place);
  record[0] = length;
  record[1] = writer->sequence++;
  writer->claimed = position + size;
  return record + 2;
}

// The reader sees all that was claimed, and is woken if it sleeps.
static inline void fdr_commit(struct fdr_writer* writer) {
  struct fdr_control* control = writer->ring.control;
  if (writer->claimed == writer->committed) return;
  control->marks[writer->mark].position = writer->claimed;
  control->marks[writer->mark].sequence = writer->sequence;
  writer->mark = 1 - writer->mark;
  writer->committed = writer->claimed;
  atomic_store(&control->head, writer->claimed);
  if (atomic_load(&control->reader_waiting) != 0 && atomic_exchange(&control->reader_waiting, 0) == 1)
    fdr_ring_bell(writer->ring.filled);
}

// After a claim that found no room, with everything committed: true when the caller is to sleep on \`drained\`;
// false when there is room by now.
static inline bool fdr_writer_sleeps(struct fdr_writer* writer) {
  struct fdr_control* control = writer->ring.control;
  atomic_store(&control->writer_waiting, writer->wanted);
  const uint32_t used = writer->claimed - atomic_load(&control->tail);
  if (used > writer->ring.capacity - writer->wanted) return true;
  atomic_store(&control->writer_waiting, 0);
  return false;
}

// No message follows.
static inline void fdr_writer_end(struct fdr_writer* writer) {
  struct fdr_control* control = writer->ring.control;
  atomic_store(&control->writer_ended, atomic_load(&control->writer_ended) | 1u);
  if (atomic_exchange(&control->reader_waiting, 0) == 1) fdr_ring_bell(writer->ring.filled);
}

// The reader of a ring. There is one at a time.
struct fdr_reader {
  struct fdr_ring ring;
  uint32_t position, head, released, next;
  bool numbered;  // \`next\` is known
  bool ended;     // the writer has ended, and everything was read
};

// Begins with the first message that was not acknowledged. 0, or -1 with errno EPROTO when the words
// contradict each other.
static inline int fdr_reader_attach(struct fdr_reader* reader, const struct fdr_ring* ring) {
  struct fdr_control* control = ring->control;
  const uint32_t tail = atomic_load(&control->tail);
  if ((tail & 7) != 0 || atomic_load(&control->head) - tail > ring->capacity) return errno = EPROTO, -1;
  *reader = (struct fdr_reader){*ring, tail, tail, tail, 0, false, false};
  atomic_store(&control->reader_waiting, 0);
  fdr_ring_bell(ring->drained);
  return 0;
}

// The next message, which stays there until fdr_release(), its length, and, with \`sequence\`, its number. NULL
// with errno: EAGAIN when there is none now, EPROTO when the writer has damaged the ring.
static inline const void* fdr_next(struct fdr_reader* reader, uint32_t* length, uint32_t* sequence) {
  const uint32_t capacity = reader->ring.capacity;
  uint32_t position = reader->position;
  if (position == reader->head) {
    const uint32_t head = atomic_load(&reader->ring.control->head);
    if (head - position > capacity || (head & 7) != 0) return errno = EPROTO, (const void*)NULL;
    reader->head = head;
    if (head == position) return errno = EAGAIN, (const void*)NULL;
  }
  const volatile uint32_t* record = fdr_word(&reader->ring, position & (capacity - 1));
  uint32_t bytes = record[0];
  if (bytes == FDR_PAD) {
    position += capacity - (position & (capacity - 1));
    record = fdr_word(&reader->ring, 0);
    bytes = record[0];
  }
  const uint32_t number = record[1];
  if (bytes > fdr_max_message(&reader->ring) || (reader->numbered && number != reader->next))
    return errno = EPROTO, (const void*)NULL;
  const uint32_t size = fdr_record_bytes(bytes), left = reader->head - position;
  if (left > capacity || size > left || (position & (capacity - 1)) + size > capacity)
    return errno = EPROTO, (const void*)NULL;
  reader->next = number + 1;
  reader->numbered = true;
  reader->position = position + size;
  *length = bytes;
  if (sequence != NULL) *sequence = number;
  return (const void*)(record + 2);
}

// Acknowledges all that was found: its room is the writer's again, which is woken if that is enough for it.
static inline void fdr_release(struct fdr_reader* reader) {
  struct fdr_control* control = reader->ring.control;
  if (reader->position == reader->released) return;
  reader->released = reader->position;
  atomic_store(&control->tail, reader->position);
  uint32_t wanted = atomic_load(&control->writer_waiting);
  if (wanted == 0 || reader->head - reader->position > reader->ring.capacity - wanted) return;
  if (atomic_compare_exchange_strong(&control->writer_waiting, &wanted, 0))
    fdr_ring_bell(reader->ring.drained);
}

// After a look that found nothing, with everything released: true when the caller is to sleep on \`filled\`;
// false when there is something by now, or when \`ended\` is set.
static inline bool fdr_reader_sleeps(struct fdr_reader* reader) {
  struct fdr_control* control = reader->ring.control;
  atomic_store(&control->reader_waiting, 1);
  // Before the last look, so that what was committed before the end is seen.
  const bool ended = (atomic_load(&control->writer_ended) & 1u) != 0;
  const bool empty = atomic_load(&control->head) == reader->position;
  reader->ended = ended && empty;
  if (empty && !ended) return true;
  atomic_store(&control->reader_waiting, 0);
  return false;
}

#endif
`

function pad(at) {
  return String(at).padStart(4)
}

if (process.argv.includes('--print')) {
  process.stdout.write(header)
} else {
  mkdirSync(dirname(path), { recursive: true })
  writeFileSync(path, header)
}
