// The net under memory that somebody else can take away. Touching a page of a file or memory object that was
// truncated raises SIGBUS, whose default action kills the process. For ranges in this table a handler puts a
// zero page in its place, which lets the code that was interrupted run on, and marks the range: its next call
// says what happened. A SIGBUS anywhere else goes to whoever had the signal before.
//
// The table belongs to the process, as the disposition does; it is the second exception to "no mutable state
// at file scope". Ranges are added and removed under a lock. The handler takes none: it reads atomics only,
// and a range is removed after its mapping is gone, so that no page of it can be missed in between.
#pragma once

#include <cstddef>
#include <cstdint>

namespace fdr {

class LostPages {
 public:
  // A place in the table, or -ENOMEM when all are taken. `page` is the size of the range's pages.
  static int Watch(const void* address, size_t length, size_t page);
  static void Forget(int place);
  // Whether a page of the range was lost since it is watched.
  static bool Lost(int place);
};

}  // namespace fdr
