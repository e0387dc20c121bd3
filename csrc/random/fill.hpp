// Fills of whole tensors: any dtype, any strides, any number of threads, the same values.
#pragma once

#include <vector>

#include "core/view.hpp"
#include "random/distributions.hpp"
#include "random/moments.hpp"
#include "random/philox.hpp"

namespace pyinit {

void fill_uniform(const View& view, const Stream& stream, double low, double high, int threads);
void fill_normal(const View& view, const Stream& stream, double mean, double std, int threads);
void fill_trunc_normal(const View& view, const Stream& stream, double mean, double std, double low, double high,
                       int threads);
void fill_trunc_normal_v1(const View& view, const Stream& stream, double mean, double std, double low, double high,
                          int threads);
void fill_bernoulli(const View& view, const Stream& stream, double probability, int threads);

// A tensor and what it is to be filled with.
struct Fill {
  View view;
  Stream stream;
  Distribution distribution;
  Numbers numbers;
};

// All of them, small ones together, large ones by all threads; returns what each one's elements are. The same values as
// one after the other, if no two share an element.
std::vector<Moments> fill_many(const std::vector<Fill>& fills, int threads);

}  // namespace pyinit
