// The vector kernels of linear algebra, on panels: matrices as wide as a register tile, row after row,
// so that a row is `panel` elements side by side. Matrix products on them are all that GEMM and the
// orthogonal matrices are made of.
#pragma once

#include <cstdint>
#include <type_traits>

#include "core/dtype.hpp"
#include "core/isa.hpp"

namespace pyinit {

// A matrix to be read element by element: (i, k) stands at data[i * row + k * step].
template <class T> struct Factor {
  const T* data;
  int64_t row, step;
};

// What becomes of the elements that are there: nothing of them is left, the sum of products goes on from them, or they
// gain or lose the sum of products.
enum class Product : int { set, extend, add, subtract };
constexpr int kProducts = 4;

constexpr int kMaxPanel = 32;  // elements of a panel's row, on any instruction set: it divides this
constexpr int kStrip = 32;     // columns that are factorized together, side by side

template <class T> struct PanelKernels {
  int rows, panel;  // of a register tile

  // C (m x panel, rows at a distance) and AB, with B's k rows of a panel at a distance of `b_step`. Each sum is one
  // chain of multiply-adds, k = 0, 1, 2, ...
  void (*multiply[kProducts])(int64_t m, int64_t k, Factor<T> a, const T* b, int64_t b_step, T* c, int64_t c_row);

  // X (k x panel, rows at a distance of `x_step`) becomes L^-1 X, with L lower triangular and 1 / L(i, i) on its
  // diagonal. Sums run over k = 0, 1, 2, ... An upper triangular matrix is a lower one read from its end.
  void (*solve)(int64_t k, Factor<T> l, T* x, int64_t x_step);

  // out(i, j) = x(i, j), and out(j, i) = x(i, j), with rows of `columns` elements side by side.
  void (*copy)(int64_t rows, int64_t columns, const T* x, int64_t row, T* out, int64_t out_row);
  void (*transpose)(int64_t rows, int64_t columns, const T* x, int64_t row, T* out, int64_t out_row);

  // out[i] = gain * x[i], rounded to the element type; to float64 from float64 only, and to all others from float32.
  void (*scale[kDTypes])(int64_t count, const T* x, T gain, void* out);

  // sums[j] += the squares of column j of rows x columns elements.
  void (*add_squares)(int64_t rows, int64_t columns, const T* x, int64_t row, double* sums);

  // In the columns of a strip from 8 times the array's index on: every row loses its element of `column` times w, and
  // then sums = the column `next` times the rows.
  void (*reflect_strip[kStrip / 8])(int64_t rows, T* strip, int64_t column, const T* w, int64_t next, double* sums);

  // As many multiply-adds as it returns, in `rounds` rounds: what the processor can do at most.
  int64_t (*multiply_adds)(int64_t rounds);
};

struct LinalgKernels {
  PanelKernels<float> f32;
  PanelKernels<double> f64;
};

PYINIT_KERNEL_TABLE(LinalgKernels, linalg_kernels)

template <class T> const PanelKernels<T>& panel_kernels() {
  if constexpr (std::is_same_v<T, float>) {
    return linalg_kernels().f32;
  } else {
    return linalg_kernels().f64;
  }
}

}  // namespace pyinit
