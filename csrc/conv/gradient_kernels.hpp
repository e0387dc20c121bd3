// The vector kernels of a convolution's gradients by weight and bias.
#pragma once

#include <cstdint>
#include <type_traits>

#include "core/isa.hpp"

namespace pyinit {

constexpr int64_t kSumBlock = 4096;  // elements of a line, and
constexpr int64_t kSumRows = 128;    // rows, that are summed in the elements' own precision

template <class T> constexpr int64_t kSumLanes = 64 / sizeof(T);  // on any instruction set

// Pieces of memory, of so many cache lines each, that are needed soon: products ask for one now and then.
constexpr int kPieceLines = 4;
struct Upcoming {
  const void* const* next;
  const void* const* end;
};

template <class T> struct GradientKernels {
  int panel, vector;  // a panel's columns; those that take half the time or less

  // C (m x columns, rows at a distance) becomes AB, or gains it: element (i, k) of A stands at a[rows[i] + steps[k]],
  // B has k rows at a distance of `b_step`. One vector's columns are read and written, or a panel's where these are
  // not enough. Each sum is one chain of multiply-adds from 0 on, k = 0, 1, 2, ...
  void (*set)(int64_t m, int64_t columns, int64_t k, const T* a, const int64_t* rows, const int64_t* steps, const T* b,
              int64_t b_step, T* c, int64_t c_row, Upcoming& upcoming);
  void (*add)(int64_t m, int64_t columns, int64_t k, const T* a, const int64_t* rows, const int64_t* steps, const T* b,
              int64_t b_step, T* c, int64_t c_row, Upcoming& upcoming);

  // Sum (i, j) has kSumLanes lanes, side by side, which gain x[offsets[j] + steps[k] + l] y[i * y_step + k * kSumLanes
  // + l] for k = 0, 1, 2, ...: rows of sums are `taps` sums long.
  void (*add_planes)(int64_t outputs, int64_t taps, int64_t count, const T* x, const int64_t* offsets,
                     const int64_t* steps, const T* y, int64_t y_step, T* sums);
  // The sums of lanes: halves are added until one is left.
  void (*add_lanes)(int64_t count, const T* sums, T* out);

  // sums[i] += x[i]; the count is that of whole vectors.
  void (*accumulate)(int64_t count, const T* x, T* sums);

  // sums[i] += line i, of at most kSumBlock elements, and sums[j] += column j of at most kSumRows rows.
  void (*sum_lines)(int64_t lines, int64_t count, const T* x, int64_t row, double* sums);
  void (*sum_rows)(int64_t rows, int64_t columns, const T* x, int64_t row, double* sums);
};

struct AllGradientKernels {
  GradientKernels<float> f32;
  GradientKernels<double> f64;
};

PYINIT_KERNEL_TABLE(AllGradientKernels, all_gradient_kernels)

template <class T> const GradientKernels<T>& gradient_kernels() {
  if constexpr (std::is_same_v<T, float>) {
    return all_gradient_kernels().f32;
  } else {
    return all_gradient_kernels().f64;
  }
}

}  // namespace pyinit
