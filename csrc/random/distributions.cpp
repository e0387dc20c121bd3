#include "random/distributions.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

#include "core/rounding.hpp"
#include "random/normal_cdf.hpp"

namespace pyinit {

namespace {

DType lanes_of(DType dtype) { return dtype == DType::f64 ? DType::f64 : DType::f32; }

}  // namespace

Uniform make_uniform(DType dtype, double low, double high) {
  const DType lanes = lanes_of(dtype);
  const double first = round_to(lanes, low);
  const double half_width = round_to(lanes, (round_to(lanes, high) - first) / 2);
  const double top = std::max(round_to(dtype, low), next_below(dtype, round_to(dtype, high)));
  return {first, half_width, top};
}

Normal make_normal(double mean, double std) { return {mean, std}; }

Bernoulli make_bernoulli(DType dtype, double probability) {
  return {static_cast<uint64_t>(std::ldexp(probability, dtype == DType::f64 ? 64 : 32))};
}

namespace {

// [low, high] in standard deviations from the mean, mirrored if it lies right of it.
struct Interval {
  double alpha, beta;  // alpha < 0
  bool is_mirrored;
};

// (to - from) / std, where the difference alone may be beyond a double.
double deviations(double from, double to, double std) {
  const double distance = to - from;
  if (std::isfinite(distance) || !std::isfinite(to) || !std::isfinite(from)) return distance / std;
  return (to / 2 - from / 2) / std * 2;
}

Interval standardize(double mean, double std, double low, double high) {
  const double alpha = deviations(mean, low, std), beta = deviations(mean, high, std);
  return alpha < 0 ? Interval{alpha, beta, false} : Interval{-beta, -alpha, true};
}

// The outermost values of the dtype in [low, high], or the nearest ones where there are none.
std::pair<double, double> values_inside(DType dtype, double low, double high) {
  const double first = round_up(dtype, low), last = round_down(dtype, high);
  return first <= last ? std::pair(first, last) : std::pair(round_to(dtype, low), round_to(dtype, high));
}

int word_bits(DType dtype) { return dtype == DType::f64 ? 64 : 32; }
double step(DType dtype) { return dtype == DType::f64 ? 0x1p-53 : 0x1p-31; }

// In units of which the lanes hold numbers as large as `largest`.
double unit_of(DType dtype, double largest) {
  return dtype == DType::f64 || largest < 0x1p127 ? 1 : std::ldexp(1.0, std::ilogb(largest) - 64);
}

// The probability of the interval from which on drawing normals takes less time than inverting the distribution; with
// the float lanes of AVX-512, up to 8% more just above it.
constexpr double kLeastInside = 0.92;

// No normal is as far from the mean, in standard deviations.
double largest_normal(DType dtype) { return dtype == DType::f64 ? 9 : 7; }

// The distance from which on a tail is an exponential one, whose scale is std / distance. Its square fits the lanes.
double largest_distance(DType dtype) { return dtype == DType::f64 ? 0x1p500 : 0x1p60; }

}  // namespace

TruncNormal make_trunc_normal(DType dtype, double mean, double std, double low, double high) {
  const auto [alpha, beta, is_mirrored] = standardize(mean, std, low, high);
  const double centre_alpha = normal_centre(alpha), centre_beta = normal_centre(beta);
  const double below = normal_upper_tail(-alpha);
  const double inside =
      std::max(0.0, alpha > -1 || beta > 0 ? centre_beta - centre_alpha : normal_upper_tail(-beta) - below);
  const double mass = inside * step(dtype);
  const double median_at = -centre_alpha / inside;
  const auto [first, last] = values_inside(dtype, low, high);
  const double unit = unit_of(dtype, std::max(std::fabs(mean), std));
  return {.low = first,
          .high = last,
          .unit = unit,
          .mean = mean / unit,
          .scale = (is_mirrored ? -std : std) / unit,
          .flip = is_mirrored ? ~uint64_t{0} : 0,
          .last_lower = median_at < 1 ? static_cast<uint64_t>(std::ldexp(median_at, word_bits(dtype))) : ~uint64_t{0},
          .mass = mass,
          .base_lower = below + mass / 2,
          .base_upper = normal_upper_tail(beta) + mass / 2,
          .centre_lower = 2 * centre_alpha + mass,
          .centre_upper = -2 * centre_beta + mass};
}

NormalTail make_normal_tail(DType dtype, double mean, double std, double low, double high) {
  const Interval interval = standardize(mean, std, low, high);
  const double near_end = interval.is_mirrored ? low : high, most = largest_distance(dtype);
  const double gap = far_tail_gap(-interval.beta, deviations(low, high, std));
  double distance = -interval.beta, scale = std;
  if (distance > most) {
    // By quarters, since the distance may be beyond a double, in whatever unit.
    distance = most;
    scale *= most / 4 * std / std::fabs(near_end / 4 - mean / 4);
  }
  const auto [first, last] = values_inside(dtype, low, high);
  const double unit = unit_of(dtype, std::max(std::fabs(near_end), scale));
  return {.low = first,
          .high = last,
          .unit = unit,
          .near_end = near_end / unit,
          .scale = (interval.is_mirrored ? -scale : scale) / unit,
          .flip = interval.is_mirrored ? ~uint64_t{0} : 0,
          .rest = exp_negative(gap),
          .mass = one_minus_exp(gap) * step(dtype),
          .distance = distance};
}

bool is_far_tail(DType dtype, double mean, double std, double low, double high) {
  return standardize(mean, std, low, high).beta <= -tail_begins(dtype);
}

RedrawnNormal make_redrawn_normal(DType dtype, const TruncNormal& outside, double mean, double std, double low,
                                  double high) {
  const DType lanes = lanes_of(dtype);
  return {.least = round_up(lanes, deviations(mean, low, std)),
          .most = round_down(lanes, deviations(mean, high, std)),
          .outside = outside};
}

bool is_redrawn(DType dtype, const TruncNormal& p) {
  return p.unit == 1 && p.mass >= kLeastInside * step(dtype);  // exact, since the step is a power of two
}

bool is_whole(DType dtype, const RedrawnNormal& p) {
  const double largest = largest_normal(dtype);
  const DType lanes = lanes_of(dtype);
  const double mean = round_to(lanes, p.outside.mean), reach = largest * round_to(lanes, p.outside.scale);
  return p.least <= -largest && p.most >= largest && p.outside.low <= mean - reach && p.outside.high >= mean + reach;
}

bool is_flat(DType dtype, const TruncNormal& p) {
  return p.mass < (dtype == DType::f64 ? 0x1p-1022 : 0x1p-126);  // which the lanes hold with all bits
}

bool is_flat(DType dtype, const NormalTail& p) {
  // More exactly than the lanes would know delta, which is a difference from 1 there.
  return p.mass < step(dtype) * (dtype == DType::f64 ? 0x1p-26 : 0x1p-12);
}

Uniform make_flat(DType dtype, double low, double high) {
  const auto [first, last] = values_inside(dtype, low, high);
  Uniform p = make_uniform(dtype, first, last);
  p.top = last;
  return p;
}

}  // namespace pyinit
