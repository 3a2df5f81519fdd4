// The net under memory that somebody else can take away. Touching a page of a file or memory object that was
// truncated raises SIGBUS, whose default action kills the process. For ranges in this table a handler puts
// zero pages in the place of that page and of all behind it, which lets the code that was interrupted run on,
// and marks the range: its next call says what happened. (All behind it: they are lost too when a file is cut
// short, and one page each would soon be more mappings than a process may have.) A SIGBUS anywhere else goes
// to whoever had the signal before, as does one that was sent by kill(2).
//
// The table belongs to the process, as the disposition does; it is the second exception to "no mutable state
// at file scope". Ranges are added and removed under a lock. The handler takes none: each place has a
// version, odd while it changes, and one that changes is not the one that the handler looks for, since
// whoever touches a range keeps it. A range is removed when nobody touches it any more, or when its pages
// were replaced.
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
