// The pixels of a convolution's output in equal blocks, for sums over all of them.
#pragma once

#include <algorithm>

#include "conv/strip.hpp"
#include "core/integers.hpp"

namespace pyinit {

// The size of equal blocks of at most `most`.
inline int64_t block_size(int64_t size, int64_t most) {
  return divide_up(size, divide_up(size, std::max<int64_t>(most, 1)));
}

// Blocks of at most so many pixels are whole rows, planes and images where these fit in. Equal blocks are faster here
// than as few as possible.
class PixelBlocks {
 public:
  PixelBlocks(int64_t images, const Extents& size, int64_t most) : images_(images), size_(size) {
    int64_t left = most;
    for (size_t i = kSpatial; i-- > 0;) {
      largest_.size[i] = block_size(size[i], left);
      counts_[i] = divide_up(size[i], largest_.size[i]);
      left /= largest_.size[i];
    }
    largest_.image = 0;
    largest_.begin = {0, 0, 0};
    largest_.images = block_size(images, left);
  }

  const Block& largest() const { return largest_; }
  int64_t count() const { return divide_up(images_, largest_.images) * counts_[0] * counts_[1] * counts_[2]; }
  Block operator[](int64_t index) const {
    Block block;
    for (size_t i = kSpatial; i-- > 0;) {
      block.begin[i] = index % counts_[i] * largest_.size[i];
      block.size[i] = std::min(largest_.size[i], size_[i] - block.begin[i]);
      index /= counts_[i];
    }
    block.image = index * largest_.images;
    block.images = std::min(largest_.images, images_ - block.image);
    return block;
  }

 private:
  int64_t images_;
  Extents size_, counts_;
  Block largest_;
};

}  // namespace pyinit
