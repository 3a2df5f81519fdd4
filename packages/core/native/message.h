// Receiving messages (datagrams, packets), and bytes of a stream that bring descriptors along.
#pragma once

#include <memory>

#include "drain.h"

namespace fdr {

class Environment;

constexpr size_t kMessages = 32;            // of one socket in one batch
constexpr size_t kMaxMessage = 212 * 1024;  // what a receiver can ask for; a batch of high priority holds one

// What recvmmsg(2) fills in before it is packed into the slab. One for each environment, made when the first
// message comes.
struct MessageScratch;
struct MessageScratchDeleter {
  void operator()(MessageScratch* scratch) const;
};
using MessageScratchPointer = std::unique_ptr<MessageScratch, MessageScratchDeleter>;

// How much of the slab has to be free before a socket is drained.
size_t MessageRoom(const Slot& slot);

void DrainMessages(Batch& batch, const Slot& slot, uint32_t index, uint32_t revents,
                   Environment& environment);
void DrainStreamControl(Batch& batch, const Slot& slot, uint32_t index, uint32_t revents,
                        Environment& environment);

}  // namespace fdr
