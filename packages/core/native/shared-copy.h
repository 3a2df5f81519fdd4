// Copies of memory that somebody else reads or writes at the same time: word by word with relaxed atomics,
// which no compiler may tear, repeat or merge into others, and with the fence that a sequence lock needs on
// the side where an acquire load or a release store would not hold the copy in its place:
//
//   the writer says "I am changing this" first,          the reader copies first,
//   then StoreShared: fence, copy;                       LoadShared: copy, fence;
//   then it says which version is there (release).       then it looks again whether the version still is.
//
// Words of 8 bytes are copied where both sides are aligned to them, and otherwise bytes, which is as right
// and slower.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace fdr {

template <typename Word>
inline void CopyRelaxed(const uint8_t* from, uint8_t* to, size_t count) {
  for (size_t at = 0; at < count; at += sizeof(Word)) {
    const Word word = __atomic_load_n(reinterpret_cast<const Word*>(from + at), __ATOMIC_RELAXED);
    __atomic_store_n(reinterpret_cast<Word*>(to + at), word, __ATOMIC_RELAXED);
  }
}

inline void CopyRelaxed(const uint8_t* from, uint8_t* to, size_t size) {
  const auto both = reinterpret_cast<uintptr_t>(from) | reinterpret_cast<uintptr_t>(to);
  const size_t words = both % sizeof(uint64_t) == 0 ? size - size % sizeof(uint64_t) : 0;
  CopyRelaxed<uint64_t>(from, to, words);
  CopyRelaxed<uint8_t>(from + words, to + words, size - words);
}

inline void LoadShared(const uint8_t* shared, uint8_t* target, size_t size) {
  CopyRelaxed(shared, target, size);
  std::atomic_thread_fence(std::memory_order_seq_cst);
}

inline void StoreShared(const uint8_t* source, uint8_t* shared, size_t size) {
  std::atomic_thread_fence(std::memory_order_seq_cst);
  CopyRelaxed(source, shared, size);
}

}  // namespace fdr
