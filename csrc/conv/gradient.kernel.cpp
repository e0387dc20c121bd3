// Products of pixels, and sums of them. Compiled once per instruction set.
#include <utility>  // integer_sequence: types only

#include "conv/gradient_kernels.hpp"
#include "simd/vec.hpp"

namespace pyinit::PYINIT_NS {
namespace {

template <class T> using Vec = decltype(vec(T{}));
template <class T> constexpr int kLanes = std::is_same_v<T, float> ? kLanes32 : kLanes64;

// A register tile. Each of its rows has a pointer of its own, and there must be registers for these, too.
#if defined(PYINIT_NS_avx512)
constexpr int kRows = 8, kVectors = 2;
#elif defined(PYINIT_NS_neon)
constexpr int kRows = 6, kVectors = 4;
#else
constexpr int kRows = 6, kVectors = 2;
#endif
// One vector wide: more rows, since it takes eight sums or so at a time to keep a processor busy.
constexpr int kTallRows = 9;
template <class T> constexpr int kPanel = kVectors * kLanes<T>;

// Without hardware for it a fused multiply-add takes ten times as long; its bits are promised only with.
template <class V> PYINIT_INLINE V multiply_add(V a, V b, V c) {
  if constexpr (kHasFma) {
    return fma(a, b, c);
  } else {
    return c + a * b;
  }
}

template <class T, int rows, int vectors, bool add>
void multiply_tile(int64_t k, const T* a, const int64_t* a_rows, const int64_t* steps, const T* b, T* c,
                   int64_t c_row) {
  constexpr int L = kLanes<T>;
  Vec<T> sums[rows][vectors];
  const T* row[rows];
#pragma GCC unroll 9
  for (int i = 0; i < rows; ++i) {
    row[i] = a + a_rows[i];
#pragma GCC unroll 4
    for (int j = 0; j < vectors; ++j) sums[i][j] = vec(T{0});
  }
  for (int64_t l = 0; l < k; ++l, b += kPanel<T>) {
    const int64_t step = steps[l];
    Vec<T> b_row[vectors];
#pragma GCC unroll 4
    for (int j = 0; j < vectors; ++j) b_row[j] = load(b + j * L);
#pragma GCC unroll 9
    for (int i = 0; i < rows; ++i) {
      const Vec<T> x = vec(row[i][step]);
#pragma GCC unroll 4
      for (int j = 0; j < vectors; ++j) sums[i][j] = multiply_add(x, b_row[j], sums[i][j]);
    }
  }
#pragma GCC unroll 9
  for (int i = 0; i < rows; ++i) {
#pragma GCC unroll 4
    for (int j = 0; j < vectors; ++j) {
      T* const to = c + i * c_row + j * L;
      store(to, add ? load(to) + sums[i][j] : sums[i][j]);
    }
  }
}

// The functions for tiles of 1, 2, ... rows.
template <class T, int vectors, bool add, class Rows> struct Tiles;
template <class T, int vectors, bool add, int... i> struct Tiles<T, vectors, add, std::integer_sequence<int, i...>> {
  static constexpr void (*multiply[])(int64_t, const T*, const int64_t*, const int64_t*, const T*, T*,
                                      int64_t) = {multiply_tile<T, i + 1, vectors, add>...};
};

// All tiles have as many rows as any other, or one more: a last one of few rows would take as long as a full one.
template <class T, int vectors, bool add, int most>
void multiply_tiles(int64_t m, int64_t k, const T* a, const int64_t* rows, const int64_t* steps, const T* b, T* c,
                    int64_t c_row) {
  using All = Tiles<T, vectors, add, std::make_integer_sequence<int, most>>;
  for (int64_t tiles = (m + most - 1) / most; tiles > 0; --tiles) {
    const int64_t count = (m + tiles - 1) / tiles;
    All::multiply[count - 1](k, a, rows, steps, b, c, c_row);
    m -= count;
    rows += count;
    c += count * c_row;
  }
}

template <class T, bool add>
void multiply(int64_t m, int64_t columns, int64_t k, const T* a, const int64_t* rows, const int64_t* steps, const T* b,
              T* c, int64_t c_row) {
  if (columns <= kLanes<T>) {
    multiply_tiles<T, 1, add, kTallRows>(m, k, a, rows, steps, b, c, c_row);
  } else {
    multiply_tiles<T, kVectors, add, kRows>(m, k, a, rows, steps, b, c, c_row);
  }
}

template <class T> void accumulate(int64_t count, const T* x, T* sums) {
  int64_t i = 0;
  for (; i + kLanes<T> <= count; i += kLanes<T>) store(sums + i, load(sums + i) + load(x + i));
  for (; i < count; ++i) sums[i] += x[i];
}

// Sums of 32 elements at a time, on any instruction set: element i of a run goes to sum i mod 32, and then sum i takes
// sum i + 16, the sum of both sum i + 8 more, and so on.
constexpr int kSums = 32;

template <class T> double sum(int64_t count, const T* x) {
  constexpr int L = kLanes<T>;
  Vec<T> sums[kSums / L];
  for (int j = 0; j < kSums / L; ++j) sums[j] = vec(T{0});
  int64_t i = 0;
  for (; i + kSums <= count; i += kSums) {
#pragma GCC unroll 16
    for (int j = 0; j < kSums / L; ++j) sums[j] = sums[j] + load(x + i + j * L);
  }
#pragma GCC unroll 16
  for (int j = 0; j < kSums / L; ++j, i += L) {
    if (i + L <= count) {
      sums[j] = sums[j] + load(x + i);
    } else if (i < count) {
      T rest[L] = {};
      for (int64_t l = i; l < count; ++l) rest[l - i] = x[l];
      sums[j] = sums[j] + load(rest);
    }
  }
#pragma GCC unroll 5
  for (int half = kSums / L / 2; half > 0; half /= 2) {
#pragma GCC unroll 8
    for (int j = 0; j < half; ++j) sums[j] = sums[j] + sums[j + half];
  }
  T lanes[L];
  store(lanes, sums[0]);
#pragma GCC unroll 4
  for (int half = L / 2; half > 0; half /= 2) {
#pragma GCC unroll 8
    for (int j = 0; j < half; ++j) lanes[j] += lanes[j + half];
  }
  return static_cast<double>(lanes[0]);
}

template <class T, int vectors> PYINIT_INLINE void sum_columns(int64_t rows, const T* x, int64_t row, double* sums) {
  constexpr int L = kLanes<T>;
  Vec<T> totals[vectors];
  for (int j = 0; j < vectors; ++j) totals[j] = vec(T{0});
  for (int64_t i = 0; i < rows; ++i, x += row) {
#pragma GCC unroll 16
    for (int j = 0; j < vectors; ++j) totals[j] = totals[j] + load(x + j * L);
  }
  T lanes[vectors * L];
  for (int j = 0; j < vectors; ++j) store(lanes + j * L, totals[j]);
  for (int j = 0; j < vectors * L; ++j) sums[j] += static_cast<double>(lanes[j]);
}

template <class T> void sum_rows(int64_t rows, int64_t columns, const T* x, int64_t row, double* sums) {
  constexpr int L = kLanes<T>;
  int64_t j = 0;
  for (; j + kSums <= columns; j += kSums) sum_columns<T, kSums / L>(rows, x + j, row, sums + j);
  for (; j + L <= columns; j += L) sum_columns<T, 1>(rows, x + j, row, sums + j);
  for (; j < columns; ++j) {
    T total = 0;
    for (int64_t i = 0; i < rows; ++i) total += x[i * row + j];
    sums[j] += static_cast<double>(total);
  }
}

template <class T>
constexpr GradientKernels<T> kKernels = {kPanel<T>,     kLanes<T>, multiply<T, false>, multiply<T, true>,
                                         accumulate<T>, sum<T>,    sum_rows<T>};

}  // namespace

const AllGradientKernels all_gradient_kernels = {kKernels<float>, kKernels<double>};

}  // namespace pyinit::PYINIT_NS
