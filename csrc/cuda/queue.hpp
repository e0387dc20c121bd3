// Where a kernel runs.
#pragma once

#include <cstdint>

namespace pyinit {

// A device, and the handle of a stream of it.
struct Queue {
  int device;
  uint64_t stream;
};

}  // namespace pyinit
