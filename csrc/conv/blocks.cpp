#include "conv/blocks.hpp"

#include <algorithm>

#include "core/integers.hpp"

namespace pyinit {
namespace {

constexpr int64_t kPartCost = 4;  // pixels whose time goes into each part of the outputs, if a block's are divided

// How long the threads take, in pixels, for blocks of `cost` each that make `total`, in whichever parts are best.
int64_t time_of(int64_t blocks, int64_t cost, int64_t total, int64_t threads) {
  int64_t least = INT64_MAX;
  for (const int64_t parts : {1, 2, 4}) {
    const int64_t tasks = blocks * parts, rounds = divide_up(tasks, threads), task = divide_up(cost, parts);
    const int64_t idle = (rounds * threads - tasks) * task;
    const int64_t time = rounds <= 2 ? rounds * task : divide_up(total + idle, threads);
    least = std::min(least, time + (parts - 1) * kPartCost);
  }
  return least;
}

// How many of `count` units of so many pixels make the best block; there are `outer` times as many.
int64_t units_together(int64_t unit, int64_t count, int64_t outer, int64_t most, const BlockCosts& costs,
                       int64_t threads) {
  int64_t best = 1, least = INT64_MAX;
  for (int64_t units = 1; units <= std::max<int64_t>(1, std::min(count, most / unit)); ++units) {
    const auto cost = [&](int64_t pixels) { return pixels == 0 ? 0 : round_up(pixels, costs.align) + costs.block; };
    const int64_t total = outer * (count / units * cost(units * unit) + cost(count % units * unit));
    const int64_t time = time_of(outer * divide_up(count, units), cost(units * unit), total, threads);
    if (time <= least) {
      least = time;
      best = units;
    }
  }
  return best;
}

}  // namespace

Blocks::Blocks(int64_t images, const Extents& size, int64_t most, const BlockCosts& costs, int threads)
    : size_{images, size[0], size[1], size[2]}, each_{1, 1, 1, 1} {
  int64_t unit = 1, outer = images * size[0] * size[1] * size[2];
  for (size_t i = 1 + kSpatial; i-- > 0;) {
    outer /= size_[i];
    each_[i] = units_together(unit, size_[i], outer, most, costs, threads);
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
