#include "conv/blocks.hpp"

#include <algorithm>

#include "core/integers.hpp"

namespace pyinit {
namespace {

constexpr int64_t kBlockCost = 8;  // pixels whose time goes into the work that each block is

// How many of `count` units of so many pixels make the best block.
int64_t units_together(int64_t unit, int64_t count, int64_t most, int64_t align) {
  int64_t best = 1, least = INT64_MAX;
  for (int64_t units = 1; units <= std::max<int64_t>(1, std::min(count, most / unit)); ++units) {
    const auto cost = [&](int64_t pixels) { return pixels == 0 ? 0 : round_up(pixels, align) + kBlockCost; };
    const int64_t total = count / units * cost(units * unit) + cost(count % units * unit);
    if (total <= least) {
      least = total;
      best = units;
    }
  }
  return best;
}

}  // namespace

Blocks::Blocks(int64_t images, const Extents& size, int64_t most, int64_t align)
    : size_{images, size[0], size[1], size[2]}, each_{1, 1, 1, 1} {
  int64_t unit = 1;
  for (size_t i = 1 + kSpatial; i-- > 0;) {
    each_[i] = units_together(unit, size_[i], most, align);
    unit *= each_[i];
    if (each_[i] < size_[i]) break;
  }
  for (size_t i = 0; i < 1 + kSpatial; ++i) parts_[i] = divide_up(size_[i], each_[i]);
}

Block Blocks::operator[](int64_t i) const {
  std::array<int64_t, 1 + kSpatial> begin, length;
  for (size_t d = 1 + kSpatial; d-- > 0; i /= parts_[d]) {
    begin[d] = i % parts_[d] * each_[d];
    length[d] = std::min(each_[d], size_[d] - begin[d]);
  }
  return {begin[0], length[0], {begin[1], begin[2], begin[3]}, {length[1], length[2], length[3]}};
}

}  // namespace pyinit
