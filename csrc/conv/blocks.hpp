// Outputs in blocks of about equal size.
#pragma once

#include "conv/strip.hpp"

namespace pyinit {

// A block is computed as a multiple of `align` pixels, and its own work takes as long as `block` pixels do.
struct BlockCosts {
  int64_t align, block;
};

class Blocks {
 public:
  // Blocks have at most about `most` pixels, so that threads end at about the same time.
  Blocks(int64_t images, const Extents& size, int64_t most, const BlockCosts& costs, int threads);

  int64_t count() const { return parts_[0] * parts_[1] * parts_[2] * parts_[3]; }
  Block operator[](int64_t i) const;
  Block largest() const { return {0, each_[0], {0, 0, 0}, {each_[1], each_[2], each_[3]}}; }

 private:
  std::array<int64_t, 1 + kSpatial> size_, each_, parts_;  // images first
};

}  // namespace pyinit
