// What is taken out of a ready descriptor before JavaScript hears of it. Each drain is bounded for a source
// and batch; what it leaves is reported again, because the sets are level-triggered.
#pragma once

#include <cstddef>
#include <cstdint>

#include "record.h"

namespace fdr {

class Environment;

// The numbers are known to src/sys/constants.ts.
enum class Drain : uint8_t {
  kNone = 0,
  kCounter = 1,
  kTimer = 2,
  kStream = 3,
  kAccept = 4,
  kSignal = 5,
  kMessages = 6,
  kStreamControl = 7
};

struct Slot {
  int fd = -1;
  uint32_t generation = 0;
  uint32_t interest = 0;
  Drain drain = Drain::kNone;
  uint8_t priority = 1;
  bool used = false;
  bool in_set = false;
  uint64_t left_in = 0;  // the batch in which it last left the set
  // kTimer: the clock; kAccept: how many connections may still be accepted; kMessages, kStreamControl: what
  // message.cc unpacks
  int64_t argument = 0;
};

// One crossing's worth of records, and the slab that their bytes lie in.
struct Batch {
  BatchHeader* header = nullptr;
  Record* records = nullptr;
  uint8_t* slab = nullptr;
  size_t capacity = 0;  // in records
  size_t slab_size = 0;
  size_t count = 0;
  size_t slab_used = 0;

  size_t SlabRoom() const { return slab_size - slab_used; }
};

constexpr size_t kStreamBytes = 64 * 1024;  // of one stream in one batch
constexpr size_t kAccepts = 64;             // of one listener in one batch
constexpr size_t kSignals = 32;             // of one signalfd in one batch

// True when the drain of `slot` fits into what is left of the batch.
bool HasRoom(const Batch& batch, const Slot& slot);

Record& Append(Batch& batch, const Slot& slot, uint32_t index, uint32_t revents);

// Appends what `slot` had to give: usually one record, for a listener one for each connection, none when
// there was nothing.
void DrainInto(Batch& batch, Slot& slot, uint32_t index, uint32_t revents, Environment& environment);

}  // namespace fdr
