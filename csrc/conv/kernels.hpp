// The vector kernels of convolution: panels gathered from images, and products that read images in place. Panels
// are those of linalg/kernels.hpp.
#pragma once

#include <cstdint>
#include <type_traits>

#include "core/isa.hpp"
#include "linalg/kernels.hpp"

namespace pyinit {

// The taps of a product that reads rows of A in place: `length` elements side by side at each of `count` offsets, and
// which rows of B they take, from which on.
struct Runs {
  int64_t count, length;
  const int64_t* offsets;
  const int64_t* b_offsets;
};

// Element (i, l) of A stands at data[i * row + columns[l]], with rows counted from the first of a register tile, and
// such tiles `tile` apart. `step` is the distance of columns, or 0 if these are not equal.
template <class T> struct TileRows {
  const T* data;
  int64_t row, tile, step;
  const int64_t* columns;
};

// Elements side by side in two places.
struct PixelRun {
  int64_t at, place, length;
};

// Columns of B: `width` of them, row after row, at a distance.
template <class T> struct Columns {
  const T* data;
  int64_t row, width;
};

// Where vectors of B and of C begin, in each of their rows.
struct TileVectors {
  int64_t count;
  const int64_t* b;
  const int64_t* c;
};

// What becomes of whole sums: max(floor, sum + bias).
template <class T> struct Ending {
  const T* bias;
  T floor;
};

template <class T> struct ConvKernels {
  int lanes;             // elements of a vector, a part of a panel
  int rows, wide_panel;  // of the widest register tile of multiply_rows, a multiple of a panel

  // out[l * panel + j] = source[columns[j] + rows[l]] for j < panel, l < k. For every row, memory up to `end` + rows[l]
  // may be read.
  void (*gather)(int64_t k, const int64_t* rows, const T* source, const int64_t* columns, const T* end, T* out);

  // out[i] = x[2 i].
  void (*every_second)(int64_t count, const T* x, T* out);

  // out(i, runs[r].place + j) = x(i, runs[r].at + j), with distances between rows.
  void (*spread)(int64_t rows, const T* x, int64_t row, const PixelRun* runs, int64_t count, T* out, int64_t out_row);

  // C, or C +=, AB for m rows of A and one panel or two of C side by side: vector j of B's row l stands at
  // b + b_rows[l] + b_vectors[j].
  void (*multiply[2])(int64_t m, int64_t k, const TileRows<T>& a, const T* b, const int64_t* b_rows,
                      const int64_t* b_vectors, int64_t panels, T* c, int64_t c_row);

  // The same with B a panel, of which at least `width` columns are computed, in whole vectors.
  void (*multiply_panel[2])(int64_t m, int64_t k, const TileRows<T>& a, const T* b, int64_t width, T* c, int64_t c_row);

  // What becomes of the whole sums AB of m rows of A and up to a panel of B's vectors. There is a bias for each row of
  // C. Element (i, l) of A stands at a.data[i * a.row + a.columns[l]], vectors of B as in `multiply`, and those of row
  // i of C at c + i * c_row.
  void (*multiply_whole)(int64_t m, int64_t k, const TileRows<T>& a, const T* b, const int64_t* b_rows,
                         const TileVectors& vectors, const Ending<T>& ending, T* c, int64_t c_row);

  // The same with B of at most a wide panel's width, and a bias for each column of C: A's rows are `a_row` apart.
  void (*multiply_whole_rows)(int64_t m, const T* a, int64_t a_row, const Runs& runs, const Columns<T>& b,
                              const Ending<T>& ending, T* c, int64_t c_row);

  // C, or C +=, AB for m rows of A at a + a_rows[i] and of C at c + c_rows[i], B at most as wide as a wide panel, of
  // which whole vectors are computed. The processor is asked for rows of A that are `ahead` further on, unless it is 0.
  void (*multiply_rows[2])(int64_t m, const T* a, const int64_t* a_rows, const Runs& runs, int64_t ahead,
                           const Columns<T>& b, T* c, const int64_t* c_rows);
};

struct AllConvKernels {
  ConvKernels<float> f32;
  ConvKernels<double> f64;
};

PYINIT_KERNEL_TABLE(AllConvKernels, all_conv_kernels)

template <class T> const ConvKernels<T>& conv_kernels() {
  if constexpr (std::is_same_v<T, float>) {
    return all_conv_kernels().f32;
  } else {
    return all_conv_kernels().f64;
  }
}

}  // namespace pyinit
