// The net under the mask: while a signal is managed, its disposition is a handler that passes its whole
// description on to the owner's pipe. So a delivery to a thread that unmasked the signal by itself is an
// event, never a death. Everything here belongs to the process; callers hold the lock of SignalMask.
#pragma once

#include <signal.h>
#include <sys/signalfd.h>

#include <cstdint>

namespace fdr {

// What signalfd(2) would have told of this signal.
signalfd_siginfo Describe(const siginfo_t& info);

// Makes the net the disposition of `signo`, and remembers the one that it takes the place of. Called again,
// it puts back a net that somebody has replaced meanwhile, and remembers theirs. 0 or -errno.
int SpreadNet(int signo, int fd);

// Puts back the disposition that was remembered, unless somebody has replaced the net: theirs then stays.
void RemoveNet(int signo);

// From now on the handler writes nowhere. Returns how many signals were lost, and begins to count anew.
uint64_t DetachNet(int signo);

// How many found the pipe full.
uint64_t LostInNet(int signo);

}  // namespace fdr
