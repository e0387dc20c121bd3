// How the statistics of a block follow from its sums and from sums of powers, and those of two blocks from each one's.
// On devices, too: Real is a double each of whose operations rounds by itself.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "core/inline.hpp"
#include "random/moments.hpp"

namespace pyinit {

// Powers are taken of (x - centre) scale, which is at most 1: none overflows, and only those are lost that nobody
// would miss.
struct Frame {
  double centre, scale;
  bool is_needed;  // for the mean and the squares, too: their sums overflowed, or lost digits
};

// The mean, squares and range that the sums tell, and what the next pass is to do. nonfinite() counts such values.
template <class Real = double, class Nonfinite>
PYINIT_METHOD std::pair<Moments, Frame> begin_statistics(const Sums& sums, DType dtype, int64_t count,
                                                         Nonfinite&& nonfinite) {
  const bool is_double = dtype == DType::f64;
  const Real n = static_cast<double>(count), sum = sums.sum, half = 0.5;
  const double squares = static_cast<double>(sums.squares - sum * sum / n);
  Moments m;
  m.count = count;
  m.mean = static_cast<double>(sums.first + sum / n);
  m.squares = std::max(0.0, squares);
  m.min = sums.min;
  m.max = sums.max;
  const bool is_sound = std::isfinite(squares);
  if (!is_sound) m.nonfinite = nonfinite();
  if (m.nonfinite > 0) return {m, {0, 1, true}};
  // Rounded, so that the kernels subtract the same.
  const double centre = is_sound ? m.mean : static_cast<double>(m.min * half + m.max * half);
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

template <class Real = double>
PYINIT_METHOD void finish_statistics(const Powers& powers, const Frame& frame, Moments& m) {
  m.zeros = powers.zeros;
  m.low = powers.low;
  m.high = powers.high;
  const Real first = powers.first, second = powers.second, third = powers.third, fourth = powers.fourth;
  const Real n = static_cast<double>(m.count), shift = first / n, shift2 = shift * shift;
  const Real unit = 1 / Real(frame.scale), unit2 = unit * unit;
  if (frame.is_needed) {
    m.mean = static_cast<double>(frame.centre + shift * unit);
    m.squares = static_cast<double>(Real(std::max(0.0, static_cast<double>(second - n * shift2))) * unit2);
  }
  m.cubes = static_cast<double>((third - 3 * shift * second + 2 * n * shift2 * shift) * unit2 * unit);
  const Real fourths = fourth - 4 * shift * third + 6 * shift2 * second - 3 * n * shift2 * shift2;
  m.fourths = static_cast<double>(Real(std::max(0.0, static_cast<double>(fourths))) * unit2 * unit2);
  // What min and max of a NaN are depends on the instruction set.
  if (m.nonfinite > 0 || !std::isfinite(m.squares)) {
    m.mean = m.squares = m.min = m.max = m.cubes = m.fourths = std::numeric_limits<double>::quiet_NaN();
  }
}

// Whether a value may be at the bounds.
inline bool reaches(const Moments& m, const Bounds& bounds) {
  return m.nonfinite > 0 || m.min <= bounds.low || bounds.high <= m.max;
}

// What a kernel for powers tells of value(0), value(1), ..., in double precision and for any number of them.
template <class Real = double, class Value>
PYINIT_METHOD Powers powers_of_few(const Value& value, int64_t count, const Frame& frame, const Bounds& bounds) {
  using T = decltype(value(0));
  Real first = 0, second = 0, third = 0, fourth = 0;
  int64_t zeros = 0, low = 0, high = 0;
  for (int64_t i = 0; i < count; ++i) {
    const T x = value(i);
    const Real z = (Real(static_cast<double>(x)) - frame.centre) * frame.scale, square = z * z;
    first = first + z;
    second = second + square;
    third = third + square * z;
    fourth = fourth + square * square;
    zeros += x == 0;
    low += x <= static_cast<T>(bounds.low);
    high += x >= static_cast<T>(bounds.high);
  }
  return {static_cast<double>(first),
          static_cast<double>(second),
          static_cast<double>(third),
          static_cast<double>(fourth),
          zeros,
          low,
          high};
}

template <class Real = double> PYINIT_METHOD Moments merged(const Moments& a, const Moments& b) {
  if (a.count == 0) return b;
  if (b.count == 0) return a;
  Moments m;
  m.count = a.count + b.count;
  const Real na = static_cast<double>(a.count), nb = static_cast<double>(b.count);
  const Real n = static_cast<double>(m.count), share = nb / n;
  const Real shift = Real(b.mean) - a.mean, step = shift / n;
  const Real squares_a = a.squares, squares_b = b.squares;
  const bool is_nan = std::isnan(a.min) || std::isnan(b.min);
  constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
  m.mean = static_cast<double>(a.mean + shift * share);
  m.squares = static_cast<double>(squares_a + squares_b + shift * shift * na * share);
  m.min = is_nan ? kNan : std::min(a.min, b.min);
  m.max = is_nan ? kNan : std::max(a.max, b.max);
  m.cubes = static_cast<double>(Real(a.cubes) + b.cubes + shift * step * step * na * nb * (na - nb) +
                                3 * step * (na * squares_b - nb * squares_a));
  m.fourths = static_cast<double>(
      Real(a.fourths) + b.fourths + shift * step * step * step * na * nb * (na * na - na * nb + nb * nb) +
      6 * step * step * (na * na * squares_b + nb * nb * squares_a) + 4 * step * (na * b.cubes - nb * a.cubes));
  m.zeros = a.zeros + b.zeros;
  m.nonfinite = a.nonfinite + b.nonfinite;
  m.low = a.low + b.low;
  m.high = a.high + b.high;
  return m;
}

}  // namespace pyinit
