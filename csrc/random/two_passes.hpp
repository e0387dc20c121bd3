// How the statistics of a block follow from its sums, and from the sums of powers of what those made of its values.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "random/moments.hpp"

namespace pyinit {

// Powers are taken of (x - centre) scale, which is at most 1: none overflows, and only those are lost that nobody
// would miss.
struct Frame {
  double centre, scale;
  bool is_needed;  // for the mean and the squares, too: their sums overflowed, or lost digits
};

// The mean, squares and range that the sums tell, and what the next pass is to do. nonfinite() counts such values.
template <class Nonfinite>
std::pair<Moments, Frame> begin_statistics(const Sums& sums, DType dtype, int64_t count, Nonfinite&& nonfinite) {
  const bool is_double = dtype == DType::f64;
  const double n = static_cast<double>(count), squares = sums.squares - sums.sum * sums.sum / n;
  Moments m{count, sums.first + sums.sum / n, std::max(0.0, squares), sums.min, sums.max};
  const bool is_sound = std::isfinite(squares);
  if (!is_sound) m.nonfinite = nonfinite();
  if (m.nonfinite > 0) return {m, {0, 1, true}};
  // Rounded, so that the kernels subtract the same.
  const double centre = is_sound ? m.mean : m.min / 2 + m.max / 2;
  Frame frame{is_double ? centre : static_cast<double>(static_cast<float>(centre)), 1, !is_sound};
  const double range = m.max - m.min, farthest = std::max(m.max - frame.centre, frame.centre - m.min);
  // Squares of such distances have begun to lose their last digits.
  frame.is_needed |= range > 0 && range < (is_double ? 0x1p-480 : 0x1p-45);
  if (farthest > 0) {
    const int most = is_double ? 1022 : 126;
    frame.scale = std::ldexp(1.0, std::clamp(-(std::ilogb(farthest) + 1), -most, most));
  }
  return {m, frame};
}

inline void finish_statistics(const Powers& powers, const Frame& frame, Moments& m) {
  m.zeros = powers.zeros;
  m.low = powers.low;
  m.high = powers.high;
  const double n = static_cast<double>(m.count), shift = powers.first / n, shift2 = shift * shift;
  const double unit = 1 / frame.scale, unit2 = unit * unit;
  if (frame.is_needed) {
    m.mean = frame.centre + shift * unit;
    m.squares = std::max(0.0, powers.second - n * shift2) * unit2;
  }
  m.cubes = (powers.third - 3 * shift * powers.second + 2 * n * shift2 * shift) * unit2 * unit;
  m.fourths =
      std::max(0.0, powers.fourth - 4 * shift * powers.third + 6 * shift2 * powers.second - 3 * n * shift2 * shift2) *
      unit2 * unit2;
  // What min and max of a NaN are depends on the instruction set.
  if (m.nonfinite > 0 || !std::isfinite(m.squares)) {
    m.mean = m.squares = m.min = m.max = m.cubes = m.fourths = std::numeric_limits<double>::quiet_NaN();
  }
}

}  // namespace pyinit
