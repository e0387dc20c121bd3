// Register tiles: as many sums as leave room for a row of B and an element of A. For kernel sources.
#pragma once

#include "linalg/kernels.hpp"
#include "simd/store.hpp"

namespace pyinit::PYINIT_NS {

// A register tile: as many accumulators as leave room for a row of B and an element of A.
#if defined(PYINIT_NS_avx512)
constexpr int kRows = 14, kVectors = 2;
#elif defined(PYINIT_NS_neon)
constexpr int kRows = 6, kVectors = 4;
#else
constexpr int kRows = 6, kVectors = 2;
#endif
template <class T> constexpr int kPanel = kVectors * kLanes<T>;

// Register tiles of fewer rows serve what is left at the end.
template <class T, int rows, int vectors = kVectors> struct Tile {
  static constexpr int L = kLanes<T>;
  Vec<T> sums[rows][vectors];

  PYINIT_INLINE void clear(Tile& t) {
    for_each(t, [](Vec<T>& x, int, int) { x = vec(T{0}); });
  }
  PYINIT_INLINE void load_from(Tile& t, const T* c, int64_t c_row) {
    for_each(t, [&](Vec<T>& x, int i, int j) { x = load(c + i * c_row + j * L); });
  }
  PYINIT_INLINE void store_to(Tile& t, T* c, int64_t c_row) {
    for_each(t, [&](Vec<T>& x, int i, int j) { store(c + i * c_row + j * L, x); });
  }
  PYINIT_INLINE void add_to(const Tile& t, T* c, int64_t c_row) {
    for_each(t, [&](const Vec<T>& x, int i, int j) { store(c + i * c_row + j * L, load(c + i * c_row + j * L) + x); });
  }
  PYINIT_INLINE void subtract_from(const Tile& t, T* c, int64_t c_row) {
    for_each(t, [&](const Vec<T>& x, int i, int j) { store(c + i * c_row + j * L, load(c + i * c_row + j * L) - x); });
  }

  // AB added, or subtracted.
  template <bool subtract> PYINIT_INLINE void accumulate(Tile& t, int64_t k, Factor<T> a, const T* b, int64_t b_step) {
    // Every third row of A has a pointer; the two after it are one and two steps away.
    const T* a_rows[(rows + 2) / 3];
#pragma GCC unroll 5
    for (int i = 0; i < (rows + 2) / 3; ++i) a_rows[i] = a.data + 3 * i * a.row;
    for (int64_t l = 0; l < k; ++l) {
      Vec<T> b_row[vectors];
#pragma GCC unroll 4
      for (int j = 0; j < vectors; ++j) b_row[j] = load(b + j * L);
#pragma GCC unroll 14
      for (int i = 0; i < rows; ++i) {
        const Vec<T> x = vec(a_rows[i / 3][i % 3 * a.row]);
#pragma GCC unroll 4
        for (int j = 0; j < vectors; ++j) {
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
  template <class Self, class F> PYINIT_INLINE void for_each(Self& t, F&& f) {
#pragma GCC unroll 28
    for (int i = 0; i < rows; ++i) {
#pragma GCC unroll 4
      for (int j = 0; j < vectors; ++j) f(t.sums[i][j], i, j);
    }
  }
};

// Calls f(count) for parts of m that have at most so many each, all as many as any other or one more: a last tile of
// few rows would take as long as a full one.
template <int most, class F> PYINIT_INLINE void for_equal_parts(int64_t m, F&& f) {
  for (int64_t parts = (m + most - 1) / most; parts > 0; --parts) {
    const int64_t count = (m + parts - 1) / parts;
    f(count);
    m -= count;
  }
}

}  // namespace pyinit::PYINIT_NS
