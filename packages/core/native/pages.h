// The pages that a range of memory lies in: what msync(2) and madvise(2) want to be told.
#pragma once

#include <unistd.h>

#include <cstddef>
#include <cstdint>

namespace fdr {

struct Pages {
  uint8_t* start = nullptr;  // null where the range is
  size_t size = 0;
};

inline Pages PagesOf(uint8_t* range, int64_t length) {
  static const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  const size_t before = reinterpret_cast<uintptr_t>(range) % page;
  return {range == nullptr ? nullptr : range - before, static_cast<size_t>(length) + before};
}

}  // namespace fdr
