// torch's CPU generator, as `torch.Generator.get_state()` lays it out.
#pragma once

#include <cstdint>

#include "random/mt19937.hpp"

namespace pyinit {

struct TorchGenerator {
  mt19937::State mt;
  bool has_cached_normal;  // the second of a pair of normals, left over by the serial path
  double cached_normal;
};

constexpr int64_t kTorchStateBytes = 5056;

// Reads a state of that many bytes; false where they are not a state of this layout.
bool read_state(const unsigned char* bytes, TorchGenerator& generator);
// Writes it back over the bytes that it was read from.
void write_state(const TorchGenerator& generator, unsigned char* bytes);

}  // namespace pyinit
