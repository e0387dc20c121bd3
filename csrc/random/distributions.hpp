// The parameters of the distributions, prepared once per call in double precision and rounded to the
// precision of the lanes (float for 16-bit types) by the kernels.
//
// A draw starts from a word: 32 bits for float lanes, 64 for double. "Steps" are its leading bits as a
// number: 31 of 32, or 53 of 64, so that k steps stand for the fraction (k + 1/2) 2^-31 or 2^-53.
#pragma once

#include <array>
#include <cstdint>

#include "core/dtype.hpp"

namespace pyinit {

// low + width * fraction, at most `top`, the largest value of the dtype below high. The lanes hold half of any width:
// all of it may be beyond their range, and a step of it below.
struct Uniform {
  double low, half_width, top;
};

struct Normal {
  double mean, std;
};

// One where the word, compared unsigned, is below the threshold.
struct Bernoulli {
  uint64_t threshold;
};

// x = quantile of a probability that grows linearly with the word's fraction. With the interval
// mirrored if it lies right of the mean, x comes from its lower end for words up to `last_lower` and
// from its upper end for the others: q = base + k mass, v = centre + 2 k mass, with k the steps from
// that end; then mean + scale x, kept in [low, high].
struct TruncNormal {
  double low, high;     // the outermost values of the dtype inside [a, b]
  double unit;          // of mean and scale, a power of two: 1 unless one of them is beyond the lanes' range
  double mean, scale;   // scale: the standard deviation, negative if mirrored
  uint64_t flip;        // all ones if mirrored
  uint64_t last_lower;  // the last word below the median of the whole normal
  double mass;          // probability of the interval, per step
  double base_lower, base_upper, centre_lower, centre_upper;
};

// An interval far from the mean, where probabilities would underflow: near end - scale delta, kept in
// [low, high], with delta from the tail's own expansion.
struct NormalTail {
  double low, high;
  double unit;  // of near_end and scale
  double near_end, scale;
  uint64_t flip;
  double rest;      // Q(far end) / Q(near end)
  double mass;      // 1 - rest, per step
  double distance;  // of the near end from the mean, in standard deviations, or what does for a larger one
};

// A normal, where it is in the interval; where it is not, what TruncNormal makes of a further word of the element. Both
// have the same distribution, so that the mixture has it, too.
struct RedrawnNormal {
  double least, most;   // in standard deviations from the mean, the outermost values of the lanes inside [a, b]
  TruncNormal outside;  // which is neither mirrored nor in units
};

// Distance in standard deviations from which on an interval is far.
constexpr double tail_begins(DType dtype) { return dtype == DType::f64 ? 25 : 8; }

// The words as they come.
struct RawWords {};

Uniform make_uniform(DType dtype, double low, double high);
Normal make_normal(double mean, double std);
Bernoulli make_bernoulli(DType dtype, double probability);
RedrawnNormal make_redrawn_normal(DType dtype, const TruncNormal& outside, double mean, double std, double low,
                                  double high);
TruncNormal make_trunc_normal(DType dtype, double mean, double std, double low, double high);
NormalTail make_normal_tail(DType dtype, double mean, double std, double low, double high);

// Whether the interval is far from the mean.
bool is_far_tail(DType dtype, double mean, double std, double low, double high);

// Whether so few normals lie outside of the interval that it is worth drawing them. Part of the stream's definition.
bool is_redrawn(DType dtype, const TruncNormal& p);

// Whether no normal lies outside, so that Normal makes the same values.
bool is_whole(DType dtype, const RedrawnNormal& p);

// Whether the density is as good as the same everywhere in the interval, and what is uniform there.
bool is_flat(DType dtype, const TruncNormal& p);
bool is_flat(DType dtype, const NormalTail& p);
Uniform make_flat(DType dtype, double low, double high);

// Distributions as callers name them, by codes that Python and both fill_many share, and their numbers: constant
// (value), uniform (low, high), normal (mean, std), trunc_normal (mean, std, low, high), bernoulli (probability), and
// the truncated normal of stream version 1.
enum class Distribution : int { constant, uniform, normal, trunc_normal, bernoulli, trunc_normal_v1 };
constexpr int kDistributions = 6;
using Numbers = std::array<double, 4>;

// use(parameters) for one that is drawn.
template <class Use> void with_parameters(Distribution distribution, DType dtype, const Numbers& n, Use&& use) {
  switch (distribution) {
    case Distribution::constant: return;
    case Distribution::uniform: return use(make_uniform(dtype, n[0], n[1]));
    case Distribution::normal: return use(make_normal(n[0], n[1]));
    case Distribution::bernoulli: return use(make_bernoulli(dtype, n[0]));
    case Distribution::trunc_normal:
    case Distribution::trunc_normal_v1: break;
  }
  const auto use_or_flat = [&](const auto& p) { is_flat(dtype, p) ? use(make_flat(dtype, n[2], n[3])) : use(p); };
  if (is_far_tail(dtype, n[0], n[1], n[2], n[3])) {
    use_or_flat(make_normal_tail(dtype, n[0], n[1], n[2], n[3]));
    return;
  }
  const TruncNormal by_quantile = make_trunc_normal(dtype, n[0], n[1], n[2], n[3]);
  if (distribution == Distribution::trunc_normal_v1 || !is_redrawn(dtype, by_quantile)) {
    use_or_flat(by_quantile);
    return;
  }
  const RedrawnNormal redrawn = make_redrawn_normal(dtype, by_quantile, n[0], n[1], n[2], n[3]);
  if (is_whole(dtype, redrawn)) {
    use(make_normal(n[0], n[1]));
  } else {
    use(redrawn);
  }
}

}  // namespace pyinit
