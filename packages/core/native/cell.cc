// One end of a cell: the newest sample of a fixed-size record in shared memory, between one writer and any
// number of readers in other processes. What lies where is written down in fd-events/src/cell-layout.ts; here
// is only the order of the stores and loads.
//
// The cell has N slots (a power of two) and one word, the sequence: how many samples were published. Sample n
// lies in slot n mod N. The writer fills the slot of the next sample, and then stores its number:
//
//   W1  sequence = n − 1            (the publication before)
//   W2  fence(release)
//   W3  slot[n mod N] = sample n    relaxed words
//   W4  sequence = n                release
//
//   R1  n = sequence                acquire
//   R2  copy = slot[n mod N]        relaxed words
//   R3  fence(acquire)
//   R4  m = sequence                relaxed; the copy is whole when m − n ≤ N − 2, else again from R1
//
// Not too early: R1 sees n only by W4, which is a release, so R2 sees sample n or something later.
// Not too late: the only later thing in the slot is sample n + N and those after it. If one word of R2 came
// from there, then its W2 and our R3 synchronise (fence to fence, through that relaxed word), everything
// before W2 happened before R4, and that is the publication n + N − 1: R4 sees m ≥ n + N − 1 and refuses.
//
// On x86-64 stores are seen in their order and loads are done in theirs (TSO): both fences are orders to the
// compiler and no instruction. On arm64 the fences are `dmb ish` and `dmb ishld`, W4 is `stlr`, R1 `ldar`: W2
// keeps the words of W3 behind the sequence before, R3 keeps R4 behind the words of R2. Neither side needs
// the full fence of a sequence lock, for no store is ever waited for by a load of the same side.
//
// JavaScript, which has no such fences, can be the writer, too (`commit()` in fd-events/src/latest-cell.ts).
// On x86-64 W3 and W4 are then plain stores, which V8 emits in the order of the program (they are on one
// chain of effects, off which it takes no store to a typed array) and the processor performs in it. Elsewhere
// W4 is `Atomics.store`, and W2 an `Atomics.load` of the sequence after it: on arm64 `stlr`, behind which no
// earlier store is seen missing, and `ldar`, which does not pass it and which no later store passes. W4
// stores the lower half of the sequence alone while the upper one stays; a load of the whole sees it either
// before or after that.
//
// The writer waits for nobody, and a writer that dies anywhere leaves the last N − 1 samples untouched: there
// is no mark to be cleared. A reader repeats only when N − 1 samples were published while it copied one, and
// not for ever: whoever scribbles over the sequence gets an error.
#include <atomic>
#include <memory>

#include "arguments.h"
#include "exports.h"
#include "mapping.h"
#include "shared-copy.h"

namespace fdr {

namespace {

// What the last call did, in the first number of the staging buffer; decoded by fd-events/src/latest-cell.ts.
enum class Outcome : uint8_t {
  kNothingNew = 0,
  kDone = 1,
  kClosed = 2,
  kLost = 3,
  kLapped = 4,
  kCorrupt = 5
};

constexpr int kAttempts = 1000;
constexpr uint64_t kMaxSequence = (uint64_t{1} << 53) - 1;  // what a number of JavaScript counts to

// As wide as a cache line, and aligned for every field that a record can have.
struct alignas(64) Line {
  uint8_t bytes[64];
};

class Cell {
 public:
  struct Place {
    size_t sequence = 0;  // from the beginning of the mapping, as the next
    size_t slots = 0;
    size_t count = 0;
    size_t stride = 0;
    size_t size = 0;  // whole words
  };

  Cell(Mapping* mapping, const Place& place, uint64_t sequence)
      : mapping_(mapping),
        place_(place),
        sequence_(sequence),
        staging_(new Line[1 + (place.size + sizeof(Line) - 1) / sizeof(Line)]()) {
    mapping_->Hold();
  }
  ~Cell() { mapping_->Release(); }
  Cell(const Cell&) = delete;
  Cell& operator=(const Cell&) = delete;

  uint8_t* staging() const { return staging_[0].bytes; }
  size_t staging_size() const { return sizeof(Line) + place_.size; }

  void Publish() { Say(Write()); }
  void Read() {
    Say(Load());
    said()[2] = static_cast<double>(retries_);
  }

 private:
  double* said() const { return reinterpret_cast<double*>(staging()); }
  uint8_t* record() const { return staging_[1].bytes; }
  uint64_t* SequenceIn(uint8_t* base) const { return reinterpret_cast<uint64_t*>(base + place_.sequence); }
  uint8_t* SlotIn(uint8_t* base, uint64_t sample) const {
    return base + place_.slots + (sample & (place_.count - 1)) * place_.stride;
  }

  Outcome Write() {
    uint8_t* base = mapping_->data();
    if (base == nullptr) return Outcome::kClosed;
    if (mapping_->Lost()) return Outcome::kLost;
    const uint64_t next = Count() + 1;
    std::atomic_thread_fence(std::memory_order_release);
    CopyRelaxed(record(), SlotIn(base, next), place_.size);
    __atomic_store_n(SequenceIn(base), next, __ATOMIC_RELEASE);
    sequence_ = next;
    return Outcome::kDone;
  }

  Outcome Load() {
    uint8_t* base = mapping_->data();
    if (base == nullptr) return Outcome::kClosed;
    for (int attempt = 0; attempt < kAttempts; attempt++) {
      const uint64_t sample = __atomic_load_n(SequenceIn(base), __ATOMIC_ACQUIRE);
      if (sample == sequence_) return mapping_->Lost() ? Outcome::kLost : Outcome::kNothingNew;
      if (sample < sequence_ || sample > kMaxSequence)
        return mapping_->Lost() ? Outcome::kLost : Outcome::kCorrupt;
      CopyRelaxed(SlotIn(base, sample), record(), place_.size);
      std::atomic_thread_fence(std::memory_order_acquire);
      const uint64_t now = __atomic_load_n(SequenceIn(base), __ATOMIC_RELAXED);
      if (now - sample <= place_.count - 2) {
        if (mapping_->Lost()) return Outcome::kLost;
        sequence_ = sample;
        return Outcome::kDone;
      }
      retries_++;
    }
    return Outcome::kLapped;
  }

  // The writer's own count, whatever a peer made of the shared one. JavaScript counts on when it has written
  // in place, and whoever has the staging buffer can store any number there.
  uint64_t Count() const {
    const double count = said()[1];
    return count >= 0 && count < static_cast<double>(kMaxSequence) ? static_cast<uint64_t>(count) : sequence_;
  }

  void Say(Outcome outcome) {
    said()[0] = static_cast<double>(outcome);
    said()[1] = static_cast<double>(sequence_);
  }

  Mapping* const mapping_;
  const Place place_;
  uint64_t sequence_;
  uint64_t retries_ = 0;
  const std::unique_ptr<Line[]> staging_;
};

using Handle = std::shared_ptr<Cell>;

// The hot path: no argument, no result, plain Node-API.
template <void (Cell::*Move)()>
napi_value Call(napi_env env, napi_callback_info info) {
  void* cell = nullptr;
  napi_get_cb_info(env, info, nullptr, nullptr, nullptr, &cell);
  (static_cast<Cell*>(cell)->*Move)();
  return nullptr;
}

void Release(napi_env, void* held, void*) { delete static_cast<Handle*>(held); }

bool Fits(const Cell::Place& place, size_t length) {
  constexpr size_t kLimit = size_t{1} << 40;  // keeps the sums below from wrapping
  const bool sane = place.sequence < kLimit && place.slots < kLimit && place.stride < kLimit &&
                    place.count >= 2 && place.count <= 65536 && (place.count & (place.count - 1)) == 0 &&
                    place.size > 0 && place.size <= place.stride;
  const bool aligned = ((place.sequence | place.slots | place.stride | place.size) & 7) == 0;
  return sane && aligned && place.sequence + sizeof(uint64_t) <= length &&
         place.slots + place.count * place.stride <= length;
}

// openCell(mapping, sequenceAt, slotsAt, slots, stride, size, writes, sequence) → { move, buffer } |
// undefined: what the cell is moved by, and its staging buffer, whose first 64 bytes tell what was done
Napi::Value Open(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Mapping* mapping = Mapping::Of(info[0]);
  Cell::Place place;
  place.sequence = static_cast<size_t>(Int64(info, 1));
  place.slots = static_cast<size_t>(Int64(info, 2));
  place.count = static_cast<size_t>(Int64(info, 3));
  place.stride = static_cast<size_t>(Int64(info, 4));
  place.size = static_cast<size_t>(Int64(info, 5));
  if (mapping == nullptr || mapping->data() == nullptr || !Fits(place, mapping->length()))
    return env.Undefined();
  const auto cell = std::make_shared<Cell>(mapping, place, static_cast<uint64_t>(Int64(info, 7)));

  // Each holds the cell, so that neither the function nor a view of the buffer can outlive it.
  auto* by_function = new Handle(cell);
  napi_value move = nullptr;
  // The cell itself, which is a step less than its handle.
  if (napi_create_function(env, "moveCell", NAPI_AUTO_LENGTH,
                           Flag(info, 6) ? Call<&Cell::Publish> : Call<&Cell::Read>, cell.get(),
                           &move) != napi_ok ||
      napi_add_finalizer(env, move, by_function, Release, nullptr, nullptr) != napi_ok) {
    delete by_function;
    return env.Undefined();
  }
  auto* by_buffer = new Handle(cell);
  auto made = Napi::Object::New(env);
  made["move"] = move;
  made["buffer"] = Napi::ArrayBuffer::New(
      env, cell->staging(), cell->staging_size(), [](Napi::Env, void*, Handle* held) { delete held; },
      by_buffer);
  return made;
}

}  // namespace

void ExportCell(Napi::Env env, Napi::Object exports) { Export(env, exports, "openCell", Open); }

}  // namespace fdr
