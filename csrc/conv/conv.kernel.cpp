// Panels gathered from images, and products that read images in place. Compiled once per instruction set.
#include "conv/kernels.hpp"

#include <utility>  // integer_sequence: types only

#include "linalg/tile.hpp"

namespace pyinit::PYINIT_NS {
namespace {

// The lanes of one vector at places that are the same for all rows but for a shift: side by side, side by side but for
// one jump, or anywhere.
template <class T>
PYINIT_INLINE void gather_vector(int64_t k, const int64_t* rows, const T* source, const int64_t* columns, const T* end,
                                 T* out) {
  constexpr int L = kLanes<T>;
  int jump = 1;
  while (jump < L && columns[jump] == columns[0] + jump) ++jump;
  int after = jump + 1;
  while (after < L && columns[after] == columns[jump] + after - jump) ++after;
  const T* const first = source + columns[0];
  if (jump == L && first + L <= end) {
    for (int64_t l = 0; l < k; ++l) store(out + l * kPanel<T>, load(first + rows[l]));
  } else if (jump < L && after >= L && columns[jump] >= jump &&  // rows may be the same one: a jump back
             first + L <= end && source + columns[jump] - jump + L <= end) {
    T lane[L];
    for (int j = 0; j < L; ++j) lane[j] = static_cast<T>(j);
    const auto is_first = less(load(lane), vec(static_cast<T>(jump)));
    const T* const second = source + columns[jump] - jump;
    for (int64_t l = 0; l < k; ++l) {
      store(out + l * kPanel<T>, select(is_first, load(first + rows[l]), load(second + rows[l])));
    }
  } else {
    for (int64_t l = 0; l < k; ++l) {
#pragma GCC unroll 16
      for (int j = 0; j < L; ++j) out[l * kPanel<T> + j] = source[columns[j] + rows[l]];
    }
  }
}

template <class T>
void gather(int64_t k, const int64_t* rows, const T* source, const int64_t* columns, const T* end, T* out) {
  for (int j = 0; j < kVectors; ++j) {
    gather_vector(k, rows, source, columns + j * kLanes<T>, end, out + j * kLanes<T>);
  }
}

template <class T> void every_second(int64_t count, const T* x, T* out) {
  int64_t i = 0;
#if __has_builtin(__builtin_shufflevector)                     // GCC 12, any Clang
  typedef T Four __attribute__((vector_size(4 * sizeof(T))));  // NOLINT(modernize-use-using)
  for (; i + 4 < count; i += 4) {
    Four low, high;
    __builtin_memcpy(&low, x + 2 * i, sizeof(Four));
    __builtin_memcpy(&high, x + 2 * i + 4, sizeof(Four));
    const Four even = __builtin_shufflevector(low, high, 0, 2, 4, 6);
    __builtin_memcpy(out + i, &even, sizeof(Four));
  }
#endif
  for (; i < count; ++i) out[i] = x[2 * i];
}

template <class T, int rows, int vectors, bool add>
void multiply_tile(int64_t k, const T* a, int64_t a_row, const int64_t* a_columns, const T* b, const int64_t* b_rows,
                   T* c, int64_t c_row) {
  constexpr int L = kLanes<T>;
  using Sums = Tile<T, rows, vectors>;
  Sums t;
  Sums::clear(t);
  for (int64_t l = 0; l < k; ++l) {
    // Every third row of A has a pointer; the two after it are one and two rows away.
    const T* const column = a + a_columns[l];
    const T* thirds[(rows + 2) / 3];
#pragma GCC unroll 5
    for (int i = 0; i < (rows + 2) / 3; ++i) thirds[i] = column + 3 * i * a_row;
    const auto a_of = [&](int i) { return vec(thirds[i / 3][i % 3 * a_row]); };
    const T* const row = b + b_rows[l];
    // The fewer of the two wait in registers.
    if constexpr (rows < vectors) {
      Vec<T> x[rows];
#pragma GCC unroll 8
      for (int i = 0; i < rows; ++i) x[i] = a_of(i);
#pragma GCC unroll 8
      for (int j = 0; j < vectors; ++j) {
        const Vec<T> y = load(row + j * L);
#pragma GCC unroll 8
        for (int i = 0; i < rows; ++i) t.sums[i][j] = multiply_add(x[i], y, t.sums[i][j]);
      }
    } else {
      Vec<T> y[vectors];
#pragma GCC unroll 8
      for (int j = 0; j < vectors; ++j) y[j] = load(row + j * L);
#pragma GCC unroll 14
      for (int i = 0; i < rows; ++i) {
        const Vec<T> x = a_of(i);
#pragma GCC unroll 8
        for (int j = 0; j < vectors; ++j) t.sums[i][j] = multiply_add(x, y[j], t.sums[i][j]);
      }
    }
  }
  if constexpr (add) {
    Sums::add_to(t, c, c_row);
  } else {
    Sums::store_to(t, c, c_row);
  }
}

constexpr int kWideRows = kRows / 2;  // that leave room for two panels

template <class T, class Rows> struct Tiles;
template <class T, int... i> struct Tiles<T, std::integer_sequence<int, i...>> {
  using Function = void (*)(int64_t, const T*, int64_t, const int64_t*, const T*, const int64_t*, T*, int64_t);
  template <bool add, int panels>
  static constexpr Function multiply[] = {multiply_tile<T, i + 1, panels * kVectors, add>...};
};

template <class T, bool add>
void multiply(int64_t m, int64_t k, const T* a, int64_t a_row, const int64_t* a_columns, const T* b,
              const int64_t* b_rows, int64_t panels, T* c, int64_t c_row) {
  if (panels == 2 && m <= kWideRows) {
    using Wide = Tiles<T, std::make_integer_sequence<int, kWideRows>>;
    return Wide::template multiply<add, 2>[m - 1](k, a, a_row, a_columns, b, b_rows, c, c_row);
  }
  using All = Tiles<T, std::make_integer_sequence<int, kRows>>;
  for (int64_t i = 0; i < m; i += kRows) {
    const auto tile = All::template multiply<add, 1>[(m - i < kRows ? m - i : kRows) - 1];
    for (int64_t p = 0; p < panels; ++p) {
      tile(k, a + i * a_row, a_row, a_columns, b + p * kPanel<T>, b_rows, c + i * c_row + p * kPanel<T>, c_row);
    }
  }
}

// Each row has a pointer of its own, so there are registers for fewer. Tiles of fewer vectors have as many rows, which
// keeps the units busy.
constexpr int kPointers = 12;
template <int vectors> constexpr int kPointersOf = vectors == kVectors && kRows < kPointers ? kRows : kPointers;

template <class T, int rows, int vectors, bool add>
void multiply_rows_tile(const T* a, const int64_t* a_rows, int64_t runs, int64_t length, const int64_t* offsets,
                        const T* b, T* c, const int64_t* c_rows) {
  constexpr int L = kLanes<T>;
  Vec<T> sums[rows][vectors];
#pragma GCC unroll 12
  for (int i = 0; i < rows; ++i) {
#pragma GCC unroll 4
    for (int j = 0; j < vectors; ++j) sums[i][j] = vec(T{0});
  }
#pragma GCC unroll 12
  for (int i = 0; i < rows; ++i) __builtin_prefetch(c + c_rows[i], 1);
  for (int64_t run = 0; run < runs; ++run) {
    const T* row[rows];
#pragma GCC unroll 12
    for (int i = 0; i < rows; ++i) row[i] = a + a_rows[i] + offsets[run];
    for (int64_t l = 0; l < length; ++l) {
      Vec<T> b_row[vectors];
#pragma GCC unroll 4
      for (int j = 0; j < vectors; ++j) b_row[j] = load(b + j * L);
#pragma GCC unroll 12
      for (int i = 0; i < rows; ++i) {
        const Vec<T> x = vec(row[i][l]);
#pragma GCC unroll 4
        for (int j = 0; j < vectors; ++j) sums[i][j] = multiply_add(x, b_row[j], sums[i][j]);
      }
      b += kPanel<T>;
    }
  }
#pragma GCC unroll 12
  for (int i = 0; i < rows; ++i) {
    T* const to = c + c_rows[i];
#pragma GCC unroll 4
    for (int j = 0; j < vectors; ++j) store(to + j * L, add ? load(to + j * L) + sums[i][j] : sums[i][j]);
  }
}

// The functions for tiles of 1, 2, ... rows.
template <class T, class Rows> struct RowTiles;
template <class T, int... i> struct RowTiles<T, std::integer_sequence<int, i...>> {
  template <int vectors, bool add>
  static constexpr void (*multiply[])(const T*, const int64_t*, int64_t, int64_t, const int64_t*, const T*, T*,
                                      const int64_t*) = {multiply_rows_tile<T, i + 1, vectors, add>...};
};

template <class T, bool add, int vectors = kVectors>
void multiply_rows(int64_t m, const T* a, const int64_t* a_rows, Runs runs, const T* b, int64_t width, T* c,
                   const int64_t* c_rows) {
  if constexpr (vectors > 1) {
    if (width <= (vectors - 1) * kLanes<T>) {
      return multiply_rows<T, add, vectors - 1>(m, a, a_rows, runs, b, width, c, c_rows);
    }
  }
  constexpr int kMost = kPointersOf<vectors>;
  using Tiles = RowTiles<T, std::make_integer_sequence<int, kMost>>;
  for (int64_t i = 0; i < m; i += kMost) {
    Tiles::template multiply<vectors, add>[(m - i < kMost ? m - i : kMost) - 1](
        a, a_rows + i, runs.count, runs.length, runs.offsets, b, c, c_rows + i);
  }
}

}  // namespace

const AllConvKernels all_conv_kernels = {
    {kLanes<float>,
     gather<float>,
     every_second<float>,
     {multiply<float, false>, multiply<float, true>},
     {multiply_rows<float, false>, multiply_rows<float, true>}},
    {kLanes<double>,
     gather<double>,
     every_second<double>,
     {multiply<double, false>, multiply<double, true>},
     {multiply_rows<double, false>, multiply_rows<double, true>}},
};

}  // namespace pyinit::PYINIT_NS
