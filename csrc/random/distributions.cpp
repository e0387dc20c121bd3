#include "random/distributions.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

#include "core/rounding.hpp"
#include "random/normal_cdf.hpp"

namespace pyinit {

Uniform make_uniform(DType dtype, double low, double high) {
  const DType lanes = dtype == DType::f64 ? DType::f64 : DType::f32;
  const double first = round_to(lanes, low);
  const double width = round_to(lanes, round_to(lanes, high) - first);
  const double top = std::max(round_to(dtype, low), next_below(dtype, round_to(dtype, high)));
  return {first, std::ldexp(width, lanes == DType::f64 ? -53 : -24), top};
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

Interval standardize(double mean, double std, double low, double high) {
  const double alpha = (low - mean) / std, beta = (high - mean) / std;
  return alpha < 0 ? Interval{alpha, beta, false} : Interval{-beta, -alpha, true};
}

// The outermost values of the dtype in [low, high], or the nearest ones where there are none.
std::pair<double, double> values_inside(DType dtype, double low, double high) {
  const double first = round_up(dtype, low), last = round_down(dtype, high);
  return first <= last ? std::pair(first, last) : std::pair(round_to(dtype, low), round_to(dtype, high));
}

int word_bits(DType dtype) { return dtype == DType::f64 ? 64 : 32; }
double step(DType dtype) { return dtype == DType::f64 ? 0x1p-53 : 0x1p-31; }

}  // namespace

TruncNormal make_trunc_normal(DType dtype, double mean, double std, double low, double high) {
  const auto [alpha, beta, is_mirrored] = standardize(mean, std, low, high);
  const double centre_alpha = normal_centre(alpha), centre_beta = normal_centre(beta);
  const double below = normal_upper_tail(-alpha);
  const double inside = alpha > -1 || beta > 0 ? centre_beta - centre_alpha : normal_upper_tail(-beta) - below;
  const double mass = inside * step(dtype);
  const double median_at = -centre_alpha / inside;
  const auto [first, last] = values_inside(dtype, low, high);
  return {.low = first,
          .high = last,
          .mean = mean,
          .scale = is_mirrored ? -std : std,
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
  const double distance = -interval.beta;
  const double gap = far_tail_gap(distance, (high - low) / std);
  const auto [first, last] = values_inside(dtype, low, high);
  return {.low = first,
          .high = last,
          .near_end = interval.is_mirrored ? low : high,
          .scale = interval.is_mirrored ? -std : std,
          .flip = interval.is_mirrored ? ~uint64_t{0} : 0,
          .rest = exp_negative(gap),
          .mass = one_minus_exp(gap) * step(dtype),
          .distance = distance};
}

bool is_far_tail(DType dtype, double mean, double std, double low, double high) {
  return standardize(mean, std, low, high).beta <= -tail_begins(dtype);
}

}  // namespace pyinit
