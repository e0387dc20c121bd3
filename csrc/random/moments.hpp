// Mean, standard deviation and range of tensors.
#pragma once

#include <vector>

#include "core/isa.hpp"
#include "core/view.hpp"

namespace pyinit {

// Of `count` values: their mean, the sum of their squared distances from it, and their range. All are NaN where a value
// is not finite, or squares overflow.
struct Moments {
  int64_t count = 0;
  double mean = 0, squares = 0, min = 0, max = 0;

  double std() const;
};

// Of both together (Chan, Golub & LeVeque 1979, "Updating formulae and a pairwise algorithm for computing sample
// variances").
Moments operator+(const Moments& a, const Moments& b);

constexpr int64_t kMeasured = 4096;  // elements that are measured at a time

// Of at most kMeasured elements side by side.
Moments measure(const void* values, DType dtype, int64_t count);

// Of each tensor. The same bits for any number of threads and any instruction set that has a fused multiply-add.
std::vector<Moments> measure_many(const std::vector<View>& views, int threads);

// Of distances from the first value, by 16 lanes, element i in lane i % 16, and a tree over these.
struct Sums {
  double first, sum, squares, min, max;
};

struct MomentsKernels {
  // `count` is a multiple of 32, at most kMeasured, and not 0.
  void (*sums[kDTypes])(const void* values, int64_t count, Sums& out);
};

PYINIT_KERNEL_TABLE(MomentsKernels, moments_kernels)

}  // namespace pyinit
