// Products, triangular solves and reflections on panels. Compiled once per instruction set.
#include <utility>  // integer_sequence: types only

#include "linalg/kernels.hpp"
#include "simd/store.hpp"

namespace pyinit::PYINIT_NS {
namespace {

template <class T> using Vec = decltype(vec(T{}));
template <class T> constexpr int kLanes = std::is_same_v<T, float> ? kLanes32 : kLanes64;

// A register tile: as many accumulators as leave room for a row of B and an element of A.
#if defined(PYINIT_NS_avx512)
constexpr int kRows = 14, kVectors = 2;
#elif defined(PYINIT_NS_neon)
constexpr int kRows = 6, kVectors = 4;
#else
constexpr int kRows = 6, kVectors = 2;
#endif
template <class T> constexpr int kPanel = kVectors * kLanes<T>;

// Without hardware for it a fused multiply-add takes ten times as long; its bits are promised only with.
template <class V> PYINIT_INLINE V multiply_add(V a, V b, V c) {
  if constexpr (kHasFma) {
    return fma(a, b, c);
  } else {
    return c + a * b;
  }
}
template <class V> PYINIT_INLINE V multiply_subtract(V a, V b, V c) {
  if constexpr (kHasFma) {
    return fnma(a, b, c);
  } else {
    return c - a * b;
  }
}

// Register tiles of fewer rows serve what is left at the end.
template <class T, int rows> struct Tile {
  static constexpr int L = kLanes<T>;
  Vec<T> sums[rows][kVectors];

  PYINIT_INLINE void clear(Tile& t) {
    for_each(t, [](Vec<T>& x, int, int) { x = vec(T{0}); });
  }
  PYINIT_INLINE void load_from(Tile& t, const T* c, int64_t c_row) {
    for_each(t, [&](Vec<T>& x, int i, int j) { x = load(c + i * c_row + j * L); });
  }
  PYINIT_INLINE void store_to(Tile& t, T* c, int64_t c_row) {
    for_each(t, [&](Vec<T>& x, int i, int j) { store(c + i * c_row + j * L, x); });
  }

  // AB added, or subtracted.
  template <bool subtract> PYINIT_INLINE void accumulate(Tile& t, int64_t k, Factor<T> a, const T* b, int64_t b_step) {
    // Every third row of A has a pointer; the two after it are one and two steps away.
    const T* a_rows[(rows + 2) / 3];
#pragma GCC unroll 5
    for (int i = 0; i < (rows + 2) / 3; ++i) a_rows[i] = a.data + 3 * i * a.row;
    for (int64_t l = 0; l < k; ++l) {
      Vec<T> b_row[kVectors];
#pragma GCC unroll 4
      for (int j = 0; j < kVectors; ++j) b_row[j] = load(b + j * L);
#pragma GCC unroll 14
      for (int i = 0; i < rows; ++i) {
        const Vec<T> x = vec(a_rows[i / 3][i % 3 * a.row]);
#pragma GCC unroll 4
        for (int j = 0; j < kVectors; ++j) {
          t.sums[i][j] =
              subtract ? multiply_subtract(x, b_row[j], t.sums[i][j]) : multiply_add(x, b_row[j], t.sums[i][j]);
        }
      }
#pragma GCC unroll 5
      for (int i = 0; i < (rows + 2) / 3; ++i) a_rows[i] += a.step;
      b += b_step;
    }
  }

 private:
  template <class F> PYINIT_INLINE void for_each(Tile& t, F&& f) {
#pragma GCC unroll 14
    for (int i = 0; i < rows; ++i) {
#pragma GCC unroll 4
      for (int j = 0; j < kVectors; ++j) f(t.sums[i][j], i, j);
    }
  }
};

template <class T, int rows, Product product>
void multiply_tile(int64_t k, Factor<T> a, const T* b, int64_t b_step, T* c, int64_t c_row) {
  using Rows = Tile<T, rows>;
  Rows t;
  if constexpr (product == Product::set) {
    Rows::clear(t);
  } else {
    Rows::load_from(t, c, c_row);
  }
  Rows::template accumulate<product == Product::subtract>(t, k, a, b, b_step);
  Rows::store_to(t, c, c_row);
}

// Rows of the solution from those before it, then from one another.
template <class T, int rows>
void solve_tile(int64_t before, Factor<T> l, const T* x, T* c, int64_t x_step) {
  using Rows = Tile<T, rows>;
  Rows t;
  Rows::load_from(t, c, x_step);
  Rows::template accumulate<true>(t, before, l, x, x_step);
  const T* triangle = l.data + before * l.step;
#pragma GCC unroll 14
  for (int i = 0; i < rows; ++i) {
    const Vec<T> reciprocal = vec(triangle[i * (l.row + l.step)]);
#pragma GCC unroll 4
    for (int j = 0; j < kVectors; ++j) t.sums[i][j] = t.sums[i][j] * reciprocal;
#pragma GCC unroll 14
    for (int below = i + 1; below < rows; ++below) {
      const Vec<T> factor = vec(triangle[below * l.row + i * l.step]);
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
  static constexpr void (*multiply[])(int64_t, Factor<T>, const T*, int64_t, T*,
                                      int64_t) = {multiply_tile<T, i + 1, product>...};
  static constexpr void (*solve[])(int64_t, Factor<T>, const T*, T*, int64_t) = {solve_tile<T, i + 1>...};
};
template <class T> using AllTiles = Tiles<T, std::make_integer_sequence<int, kRows>>;

template <class T, Product product>
void multiply(int64_t m, int64_t k, Factor<T> a, const T* b, int64_t b_step, T* c, int64_t c_row) {
  for (; m > 0; m -= kRows) {
    AllTiles<T>::template multiply<product>[(m < kRows ? m : kRows) - 1](k, a, b, b_step, c, c_row);
    a.data += kRows * a.row;
    c += kRows * c_row;
  }
}

template <class T> void solve(int64_t k, Factor<T> l, T* x, int64_t x_step) {
  for (int64_t i = 0; i < k; i += kRows) {
    AllTiles<T>::solve[(k - i < kRows ? k - i : kRows) - 1](i, l, x, x + i * x_step, x_step);
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
   {multiply<T, Product::set>, multiply<T, Product::add>, multiply<T, Product::subtract>}, \
   solve<T>,                                                                               \
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
