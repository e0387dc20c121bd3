// Statistics of tensors: moments, range, and counts of values of a kind.
#pragma once

#include <limits>
#include <vector>

#include "core/isa.hpp"
#include "core/view.hpp"

namespace pyinit {

// Statistics of `count` values: their mean, the sums of the second, third and fourth powers of their distances from it,
// and their range. All of these are NaN where a value is not finite; a power is NaN where its sum overflows. `cubes`,
// `fourths` and the counts are left out by what measures means and deviations alone.
struct Moments {
  int64_t count = 0;
  double mean = 0, squares = 0, min = 0, max = 0, cubes = 0, fourths = 0;
  int64_t zeros = 0, nonfinite = 0, low = 0, high = 0;

  double std() const;
};

// The statistics of both together (Chan, Golub & LeVeque 1979, "Updating formulae and a pairwise algorithm for
// computing sample variances"; third and fourth powers: Pébay 2008, "Formulas for robust, one-pass parallel computation
// of covariances and arbitrary-order statistical moments").
Moments operator+(const Moments& a, const Moments& b);

// Where an activation saturates: values at or below `low`, and at or above `high`, are counted.
struct Bounds {
  double low = -std::numeric_limits<double>::infinity(), high = std::numeric_limits<double>::infinity();
};

constexpr int64_t kWhole = 32;       // elements that kernels take at a time
constexpr int64_t kMeasured = 4096;  // elements that are measured at a time
constexpr int64_t kPart = 1 << 16;   // elements whose statistics are combined before those of all

// Mean, squares and range of at most kMeasured elements side by side.
Moments measure(const void* values, DType dtype, int64_t count);

// All statistics of at most kMeasured elements side by side. What `measure` tells has the same bits.
Moments describe(const void* values, DType dtype, int64_t count, const Bounds& bounds);

// Those of each tensor. The same bits for any number of threads and any instruction set that has a fused multiply-add.
std::vector<Moments> measure_many(const std::vector<View>& views, int threads);
std::vector<Moments> describe_many(const std::vector<View>& views, const std::vector<Bounds>& bounds, int threads);

// Statistics of each channel, and the sum over the units of the variance over the samples.
struct Channels {
  std::vector<Moments> channels;
  double total_variance = 0;
};

// The first `samples` dims of the view tell the samples, dim `channel` the channel, and all but the former the unit.
// The same bits for any number of threads, any layout, and any instruction set that has a fused multiply-add.
Channels describe_channels(const View& view, size_t samples, size_t channel, const Bounds& bounds, int threads);

// Sums of distances from the first value, by 16 lanes, element i in lane i % 16, and a tree over these.
struct Sums {
  double first, sum, squares, min, max;
};

// Sums of powers of z = (x - centre) scale, in the same lanes, and counts of the values x.
struct Powers {
  double first, second, third, fourth;
  int64_t zeros, low, high;
};

constexpr int kColumns = 16;

// The same of columns: sums of rows one after the other, a lane for each column.
struct ColumnSums {
  double first[kColumns], sum[kColumns], squares[kColumns], min[kColumns], max[kColumns];
};
struct ColumnPowers {
  double first[kColumns], second[kColumns], third[kColumns], fourth[kColumns];
  int64_t zeros[kColumns], low[kColumns], high[kColumns];
};

struct MomentsKernels {
  // In both, `count` is a multiple of 32, at most kMeasured, and not 0. Without bounds no value is at them.
  void (*sums[kDTypes])(const void* values, int64_t count, Sums& out);
  void (*powers[kDTypes])(const void* values, int64_t count, double centre, double scale, const Bounds* bounds,
                          Powers& out);
  // Of kColumns columns: row i begins offsets[i] elements from `values`. The first is for floats, the second for
  // doubles. At least one row.
  void (*column_sums[2])(const void* values, const int64_t* offsets, int64_t rows, ColumnSums& out);
  void (*column_powers[2])(const void* values, const int64_t* offsets, int64_t rows, const double* centres,
                           const double* scales, const Bounds* bounds, ColumnPowers& out);
  // Of `count` units side by side: adds the distances of their values from `first`, and the squares of these, to those
  // sums, sample by sample; sample s begins offsets[s] elements from `values`.
  void (*add_samples[2])(const void* values, const int64_t* offsets, int64_t samples, int64_t count,
                         const double* first, double* sum, double* squares);
  // Adds the variances of `count` units to kColumns lanes in turn: squares - sum^2 share, or 0 if it is less.
  void (*add_variances)(const double* sum, const double* squares, int64_t count, double share, double* lanes);
};

PYINIT_KERNEL_TABLE(MomentsKernels, moments_kernels)

}  // namespace pyinit
