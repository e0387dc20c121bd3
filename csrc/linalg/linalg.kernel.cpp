// Products, triangular solves and reflections on panels. Compiled once per instruction set.
#include <utility>  // integer_sequence: types only

#include "linalg/tile.hpp"
#include "simd/square.hpp"

namespace pyinit::PYINIT_NS {
namespace {

// A factor's three numbers go to a tile in registers: copies of the struct by way of memory are a wait for each.
template <class T, int rows, Product product>
void multiply_tile(const T* a, int64_t a_row, int64_t a_step, int64_t k, const T* b, int64_t b_step, T* c,
                   int64_t c_row) {
  using Rows = Tile<T, rows>;
  Rows t;
  if constexpr (product == Product::extend) {
    Rows::load_from(t, c, c_row);
  } else {
    Rows::clear(t);
  }
  Rows::template accumulate<false>(t, k, {a, a_row, a_step}, b, b_step);
  if constexpr (product == Product::add) {
    Rows::add_to(t, c, c_row);
  } else if constexpr (product == Product::subtract) {
    Rows::subtract_from(t, c, c_row);
  } else {
    Rows::store_to(t, c, c_row);
  }
}

// Rows of the solution from those before it, then from one another.
template <class T, int rows>
void solve_tile(const T* l, int64_t l_row, int64_t l_step, int64_t before, const T* x, T* c, int64_t x_step) {
  using Rows = Tile<T, rows>;
  Rows t;
  Rows::load_from(t, c, x_step);
  Rows::template accumulate<true>(t, before, {l, l_row, l_step}, x, x_step);
  const T* triangle = l + before * l_step;
#pragma GCC unroll 14
  for (int i = 0; i < rows; ++i) {
    const Vec<T> reciprocal = vec(triangle[i * (l_row + l_step)]);
#pragma GCC unroll 4
    for (int j = 0; j < kVectors; ++j) t.sums[i][j] = t.sums[i][j] * reciprocal;
#pragma GCC unroll 14
    for (int below = i + 1; below < rows; ++below) {
      const Vec<T> factor = vec(triangle[below * l_row + i * l_step]);
#pragma GCC unroll 4
      for (int j = 0; j < kVectors; ++j) {
        t.sums[below][j] = multiply_subtract(factor, t.sums[i][j], t.sums[below][j]);
      }
    }
  }
  Rows::store_to(t, c, x_step);
}

// The functions for tiles of 1, 2, ..., kRows rows.
template <class T, class Rows> struct Tiles;
template <class T, int... i> struct Tiles<T, std::integer_sequence<int, i...>> {
  template <Product product>
  static constexpr void (*multiply[])(const T*, int64_t, int64_t, int64_t, const T*, int64_t, T*,
                                      int64_t) = {multiply_tile<T, i + 1, product>...};
  static constexpr void (*solve[])(const T*, int64_t, int64_t, int64_t, const T*, T*,
                                   int64_t) = {solve_tile<T, i + 1>...};
};
template <class T> using AllTiles = Tiles<T, std::make_integer_sequence<int, kRows>>;

template <class T, Product product>
void multiply(int64_t m, int64_t k, Factor<T> a, const T* b, int64_t b_step, T* c, int64_t c_row) {
  for_equal_parts<kRows>(m, [&](int64_t rows) {
    AllTiles<T>::template multiply<product>[rows - 1](a.data, a.row, a.step, k, b, b_step, c, c_row);
    a.data += rows * a.row;
    c += rows * c_row;
  });
}

template <class T> void solve(int64_t k, Factor<T> l, T* x, int64_t x_step) {
  for (int64_t i = 0; i < k; i += kRows) {
    AllTiles<T>::solve[(k - i < kRows ? k - i : kRows) - 1](l.data, l.row, l.step, i, x, x + i * x_step, x_step);
    l.data += kRows * l.row;
  }
}

template <class T, class U> void scale(int64_t count, const T* x, T gain, void* out) {
  U* const to = static_cast<U*>(out);
  const Vec<T> factor = vec(gain);
  int64_t i = 0;
  for (; i + kLanes<T> <= count; i += kLanes<T>) store_as(to + i, load(x + i) * factor);
  if (i == count) return;
  T rest[kLanes<T>] = {};
  U rounded[kLanes<T>];
  for (int64_t j = i; j < count; ++j) rest[j - i] = x[j];
  store_as(rounded, load(rest) * factor);
  for (int64_t j = i; j < count; ++j) to[j] = rounded[j - i];
}

// Four elements at a time, the last four up to the end, over some of those before.
template <class T>
PYINIT_INLINE void copy_rows(int64_t rows, int64_t columns, const T* x, int64_t row, T* out, int64_t out_row) {
  constexpr size_t kFour = 4 * sizeof(T);
  for (int64_t i = 0; i < rows; ++i, x += row, out += out_row) {
    if (columns < 4) {
      for (int64_t j = 0; j < columns; ++j) out[j] = x[j];
      continue;
    }
#pragma GCC unroll 8
    for (int64_t j = 0; j < columns - 4; j += 4) __builtin_memcpy(out + j, x + j, kFour);
    __builtin_memcpy(out + columns - 4, x + columns - 4, kFour);
  }
}

// In whole vectors.
template <class T> PYINIT_INLINE void copy_panel(int64_t rows, const T* x, int64_t row, T* out, int64_t out_row) {
  for (int64_t i = 0; i < rows; ++i, x += row, out += out_row) {
#pragma GCC unroll 4
    for (int j = 0; j < kPanel<T>; j += kLanes<T>) store(out + j, load(x + j));
  }
}

// A tile's widths are known beforehand, and need no loops.
template <class T>
void copy(int64_t rows, int64_t columns, const T* x, int64_t row, T* out, int64_t out_row) {
  switch (columns) {
    case kRows: return copy_rows(rows, kRows, x, row, out, out_row);
    case kPanel<T>: return copy_panel(rows, x, row, out, out_row);
    default: return copy_rows(rows, columns, x, row, out, out_row);
  }
}

#if __has_builtin(__builtin_shufflevector)
// In squares, the last ones over some of those before. A few columns at a time: rows of the output may share places of
// the first cache.
constexpr int64_t kColumns = 8;
template <class T, int side>
PYINIT_INLINE void transpose_squares(int64_t rows, int64_t columns, const T* x, int64_t row, T* out, int64_t out_row) {
  for (int64_t some = 0; some < columns; some += kColumns) {
    const int64_t end = some + kColumns < columns ? some + kColumns : columns;
    for (int64_t down = 0; down < rows; down += side) {
      const int64_t i = down + side < rows ? down : rows - side;
      for (int64_t across = some; across < end; across += side) {
        const int64_t j = across + side < columns ? across : columns - side;
        transpose_square(x + i * row + j, row, [&](int l) { return out + (j + l) * out_row + i; }, Square<side>{});
      }
    }
  }
}
#endif

template <class T>
void transpose(int64_t rows, int64_t columns, const T* x, int64_t row, T* out, int64_t out_row) {
#if __has_builtin(__builtin_shufflevector)
  if constexpr (kLanes<T> >= 8) {
    if (rows >= 8 && columns >= 8) return transpose_squares<T, 8>(rows, columns, x, row, out, out_row);
  }
  if (rows >= 4 && columns >= 4) return transpose_squares<T, 4>(rows, columns, x, row, out, out_row);
#endif
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t j = 0; j < columns; ++j) out[j * out_row + i] = x[i * row + j];
  }
}

template <class T> void add_squares(int64_t rows, int64_t columns, const T* x, int64_t row, double* sums) {
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t j = 0; j < columns; ++j) {
      const double value = static_cast<double>(x[i * row + j]);
      sums[j] += value * value;
    }
  }
}

// A row of a strip from element `from` on, in vectors of T and of doubles.
template <class T, int from> struct StripRow {
  static constexpr int kFirst = from / kLanes<T> * kLanes<T>;
  static constexpr int kCount = (kStrip - kFirst) / kLanes<T>;
  static constexpr int kWide = (kStrip - kFirst) / kLanes64;
};

PYINIT_INLINE void as_doubles(F32 x, F64* out) { widen(x, out[0], out[1]); }
PYINIT_INLINE void as_doubles(F64 x, F64* out) { *out = x; }

template <class T, int from>
void reflect_strip(int64_t rows, T* strip, int64_t column, const T* w, int64_t next, double* sums) {
  using Row = StripRow<T, from>;
  constexpr int L = kLanes<T>, kWidePerVector = Row::kWide / Row::kCount;
  Vec<T> factors[Row::kCount];
  F64 totals[Row::kWide];
  for (int j = 0; j < Row::kCount; ++j) factors[j] = load(w + Row::kFirst + j * L);
  for (int j = 0; j < Row::kWide; ++j) totals[j] = f64(0);
  for (int64_t i = 0; i < rows; ++i) {
    T* const row = strip + i * kStrip;
    const Vec<T> v = vec(row[column]);
    Vec<T> x[Row::kCount];
#pragma GCC unroll 16
    for (int j = 0; j < Row::kCount; ++j) {
      x[j] = multiply_subtract(v, factors[j], load(row + Row::kFirst + j * L));
      store(row + Row::kFirst + j * L, x[j]);
    }
    const F64 pivot = f64(static_cast<double>(row[next]));
#pragma GCC unroll 16
    for (int j = 0; j < Row::kCount; ++j) {
      F64 wide[kWidePerVector];
      as_doubles(x[j], wide);
#pragma GCC unroll 2
      for (int l = 0; l < kWidePerVector; ++l) {
        F64& total = totals[j * kWidePerVector + l];
        total = multiply_add(pivot, wide[l], total);
      }
    }
  }
  for (int j = 0; j < Row::kWide; ++j) store(sums + Row::kFirst + j * kLanes64, totals[j]);
}

template <class T> int64_t multiply_adds(int64_t rounds) {
  constexpr int kChains = 12;
  Vec<T> sums[kChains];
  for (int i = 0; i < kChains; ++i) sums[i] = vec(static_cast<T>(i));
  const Vec<T> half = vec(T{0.5});
  for (int64_t round = 0; round < rounds; ++round) {
#pragma GCC unroll 12
    for (int i = 0; i < kChains; ++i) sums[i] = multiply_add(sums[i], half, half);
  }
  T result[kLanes<T>];
  for (int i = 1; i < kChains; ++i) sums[0] = sums[0] + sums[i];
  store(result, sums[0]);
  // Looked at, so that it has to be computed.
  return result[0] < 0 ? 0 : rounds * kChains * kLanes<T>;
}

#define PYINIT_PANEL_KERNELS(T, ...)                                                       \
  {kRows,                                                                                  \
   kPanel<T>,                                                                              \
   {multiply<T, Product::set>, multiply<T, Product::extend>, multiply<T, Product::add>,    \
    multiply<T, Product::subtract>},                                                       \
   solve<T>,                                                                               \
   copy<T>,                                                                                \
   transpose<T>,                                                                           \
   {__VA_ARGS__},                                                                          \
   add_squares<T>,                                                                         \
   {reflect_strip<T, 0>, reflect_strip<T, 8>, reflect_strip<T, 16>, reflect_strip<T, 24>}, \
   multiply_adds<T>}

}  // namespace

const LinalgKernels linalg_kernels = {
    PYINIT_PANEL_KERNELS(float, scale<float, Half>, scale<float, BFloat16>, scale<float, float>, nullptr),
    PYINIT_PANEL_KERNELS(double, nullptr, nullptr, nullptr, scale<double, double>),
};

}  // namespace pyinit::PYINIT_NS
