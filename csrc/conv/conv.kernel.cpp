// Panels gathered from images, and products that read images in place. Compiled once per instruction set.
#include "conv/kernels.hpp"

#include <utility>  // integer_sequence: types only

#include "linalg/tile.hpp"

namespace pyinit::PYINIT_NS {
namespace {

constexpr int kMostRuns = 5;  // of a vector's lanes that are still loaded as vectors

// Lanes from `begin[i]` to that of the next run are those of the vector at first[i] + rows[l].
template <class T, int runs>
void gather_runs(int64_t k, const int64_t* rows, const T* const* first, const int* begin, T* out) {
  constexpr int L = kLanes<T>;
  T lane[L];
  for (int j = 0; j < L; ++j) lane[j] = static_cast<T>(j);
  const Vec<T> lanes = load(lane);
  for (int64_t l = 0; l < k; ++l) {
    Vec<T> x = load(first[0] + rows[l]);
    __builtin_prefetch(first[runs - 1] + rows[l] + kPanel<T>);  // the next panel's
#pragma GCC unroll 8
    for (int i = 1; i < runs; ++i) {
      x = select(less(lanes, vec(static_cast<T>(begin[i]))), x, load(first[i] + rows[l]));
    }
    store(out + l * kPanel<T>, x);
  }
}

template <class T, class Runs> struct GatherRuns;
template <class T, int... i> struct GatherRuns<T, std::integer_sequence<int, i...>> {
  static constexpr void (*gather[])(int64_t, const int64_t*, const T* const*, const int*,
                                    T*) = {gather_runs<T, i + 1>...};
};

// The lanes of one vector at places that are the same for all rows but for a shift: in a few runs side by side, or
// anywhere.
template <class T>
PYINIT_INLINE void gather_vector(int64_t k, const int64_t* rows, const T* source, const int64_t* columns, const T* end,
                                 T* out) {
  constexpr int L = kLanes<T>;
  const T* first[kMostRuns];
  int begin[kMostRuns];
  int runs = 0;
  bool are_whole = true;
  for (int j = 0; j < L && are_whole; ++j) {
    if (j > 0 && columns[j] == columns[j - 1] + 1) continue;
    // The whole vector is read: rows may be the first one, and the last.
    are_whole = runs < kMostRuns && columns[j] >= j && source + columns[j] - j + L <= end;
    if (!are_whole) break;
    first[runs] = source + columns[j] - j;
    begin[runs] = j;
    ++runs;
  }
  if (are_whole) {
    using All = GatherRuns<T, std::make_integer_sequence<int, kMostRuns>>;
    return All::gather[runs - 1](k, rows, first, begin, out);
  }
  for (int64_t l = 0; l < k; ++l) {
#pragma GCC unroll 16
    for (int j = 0; j < L; ++j) out[l * kPanel<T> + j] = source[columns[j] + rows[l]];
  }
}

template <class T>
void gather(int64_t k, const int64_t* rows, const T* source, const int64_t* columns, const T* end, T* out) {
  for (int j = 0; j < kVectors; ++j) {
    gather_vector(k, rows, source, columns + j * kLanes<T>, end, out + j * kLanes<T>);
  }
}

#if __has_builtin(__builtin_shufflevector)  // GCC 12, any Clang
// out[i] = x[2 i] for `lanes` elements from i on, of which the last one read is the last one taken.
template <class T, int... j>
PYINIT_INLINE void take_every_second(const T* x, T* out, std::integer_sequence<int, j...>) {
  constexpr int kCount = sizeof...(j);
  typedef T Some __attribute__((vector_size(kCount * sizeof(T))));  // NOLINT(modernize-use-using)
  Some low, high;
  __builtin_memcpy(&low, x, sizeof(Some));
  __builtin_memcpy(&high, x + kCount - 1, sizeof(Some));
  const Some even = __builtin_shufflevector(low, high, (2 * j < kCount ? 2 * j : 2 * j + 1)...);
  __builtin_memcpy(out, &even, sizeof(Some));
}

// In vectors of so many lanes, the last one over some of those before.
template <class T, int lanes> PYINIT_INLINE void take_all(int64_t count, const T* x, T* out) {
  for (int64_t done = 0; done < count; done += lanes) {
    const int64_t i = done + lanes < count ? done : count - lanes;
    take_every_second(x + 2 * i, out + i, std::make_integer_sequence<int, lanes>());
  }
}
#endif

template <class T> void every_second(int64_t count, const T* x, T* out) {
#if __has_builtin(__builtin_shufflevector)
  if (count >= kLanes<T>) return take_all<T, kLanes<T>>(count, x, out);
  if constexpr (kLanes<T> > 8) {
    if (count >= 8) return take_all<T, 8>(count, x, out);
  }
  if constexpr (kLanes<T> > 4) {
    if (count >= 4) return take_all<T, 4>(count, x, out);
  }
#endif
  for (int64_t i = 0; i < count; ++i) out[i] = x[2 * i];
}

// What sums are to be added to, or written to in memory, is to be there by then.
template <class T, int rows, int vectors> PYINIT_INLINE void prefetch_tile(const T* c, int64_t c_row) {
  constexpr int kLine = 64 / static_cast<int>(sizeof(T)), kWidth = vectors * kLanes<T>;
#pragma GCC unroll 14
  for (int i = 0; i < rows; ++i) {
#pragma GCC unroll 8
    for (int j = 0; j < kWidth; j += kLine) __builtin_prefetch(c + i * c_row + j, 1);
    __builtin_prefetch(c + i * c_row + kWidth - 1, 1);
  }
}

// With B a panel, and columns of A at equal distances.
template <class T, int rows, int vectors, bool add>
void multiply_panel_tile(int64_t k, const T* a, int64_t a_row, int64_t a_step, const T* b, T* c, int64_t c_row) {
  using Sums = Tile<T, rows, vectors>;
  Sums t;
  Sums::clear(t);
  if constexpr (add) prefetch_tile<T, rows, vectors>(c, c_row);
  Sums::template accumulate<false>(t, k, {a, a_row, a_step}, b, kPanel<T>);
  if constexpr (add) {
    Sums::add_to(t, c, c_row);
  } else {
    Sums::store_to(t, c, c_row);
  }
}

// t += AB, with column l of A at a + a_columns[l], and vector j of B's row l at row_of(l) + at[j].
template <class T, int rows, int vectors, class F>
PYINIT_INLINE void add_products(Tile<T, rows, vectors>& t, int64_t k, const T* a, int64_t a_row,
                                const int64_t* a_columns, const F& row_of, const int64_t* at) {
  for (int64_t l = 0; l < k; ++l) {
    // Every third row of A has a pointer; the two after it are one and two rows away.
    const T* const column = a + a_columns[l];
    const T* thirds[(rows + 2) / 3];
#pragma GCC unroll 5
    for (int i = 0; i < (rows + 2) / 3; ++i) thirds[i] = column + 3 * i * a_row;
    const auto a_of = [&](int i) { return vec(thirds[i / 3][i % 3 * a_row]); };
    const T* const row = row_of(l);
    // The fewer of the two wait in registers.
    if constexpr (rows < vectors) {
      Vec<T> x[rows];
#pragma GCC unroll 8
      for (int i = 0; i < rows; ++i) x[i] = a_of(i);
#pragma GCC unroll 8
      for (int j = 0; j < vectors; ++j) {
        const Vec<T> y = load(row + at[j]);
#pragma GCC unroll 8
        for (int i = 0; i < rows; ++i) t.sums[i][j] = multiply_add(x[i], y, t.sums[i][j]);
      }
    } else {
      Vec<T> y[vectors];
#pragma GCC unroll 8
      for (int j = 0; j < vectors; ++j) y[j] = load(row + at[j]);
#pragma GCC unroll 14
      for (int i = 0; i < rows; ++i) {
        const Vec<T> x = a_of(i);
#pragma GCC unroll 8
        for (int j = 0; j < vectors; ++j) t.sums[i][j] = multiply_add(x, y[j], t.sums[i][j]);
      }
    }
  }
}

// With vector j of B's row l at b + b_rows[l] + b_vectors[j], or with B a panel.
template <class T, int rows, int vectors, bool add, bool is_panel>
void multiply_tile(int64_t k, const T* a, int64_t a_row, const int64_t* a_columns, const T* b, const int64_t* b_rows,
                   const int64_t* b_vectors, T* c, int64_t c_row) {
  using Sums = Tile<T, rows, vectors>;
  Sums t;
  Sums::clear(t);
  int64_t at[vectors];
#pragma GCC unroll 8
  for (int j = 0; j < vectors; ++j) at[j] = is_panel ? j * kLanes<T> : b_vectors[j];
  if constexpr (add) prefetch_tile<T, rows, vectors>(c, c_row);
  add_products(t, k, a, a_row, a_columns, [&](int64_t l) { return is_panel ? b + l * kPanel<T> : b + b_rows[l]; }, at);
  if constexpr (add) {
    Sums::add_to(t, c, c_row);
  } else {
    Sums::store_to(t, c, c_row);
  }
}

constexpr int kWideRows = kRows / 2;  // that leave room for two panels

template <class T, class Rows> struct Tiles;
template <class T, int... i> struct Tiles<T, std::integer_sequence<int, i...>> {
  using Function = void (*)(int64_t, const T*, int64_t, const int64_t*, const T*, const int64_t*, const int64_t*, T*,
                            int64_t);
  template <bool add, int panels, bool is_panel>
  static constexpr Function multiply[] = {multiply_tile<T, i + 1, panels * kVectors, add, is_panel>...};
  template <int vectors, bool add>
  static constexpr void (*multiply_panel[])(int64_t, const T*, int64_t, int64_t, const T*, T*,
                                            int64_t) = {multiply_panel_tile<T, i + 1, vectors, add>...};
};

template <class T, bool add>
void multiply(int64_t m, int64_t k, const TileRows<T>& a, const T* b, const int64_t* b_rows, const int64_t* b_vectors,
              int64_t panels, T* c, int64_t c_row) {
  if (panels == 2 && m <= kWideRows) {
    using Wide = Tiles<T, std::make_integer_sequence<int, kWideRows>>;
    return Wide::template multiply<add, 2, false>[m - 1](k, a.data, a.row, a.columns, b, b_rows, b_vectors, c, c_row);
  }
  using All = Tiles<T, std::make_integer_sequence<int, kRows>>;
  const T* rows = a.data;
  for (int64_t i = 0; i < m; i += kRows, rows += a.tile, c += kRows * c_row) {
    const auto tile = All::template multiply<add, 1, false>[(m - i < kRows ? m - i : kRows) - 1];
    for (int64_t p = 0; p < panels; ++p) {
      tile(k, rows, a.row, a.columns, b, b_rows, b_vectors + p * kVectors, c + p * kPanel<T>, c_row);
    }
  }
}

template <class T, bool add, int vectors = kVectors>
void multiply_panel(int64_t m, int64_t k, const TileRows<T>& a, const T* b, int64_t width, T* c, int64_t c_row) {
  if constexpr (vectors > 1) {
    if (width <= (vectors - 1) * kLanes<T>) {
      return multiply_panel<T, add, vectors - 1>(m, k, a, b, width, c, c_row);
    }
  }
  using All = Tiles<T, std::make_integer_sequence<int, kRows>>;
  const T* rows = a.data + (a.step == 0 ? 0 : a.columns[0]);
  for (int64_t i = 0; i < m; i += kRows, rows += a.tile, c += kRows * c_row) {
    const int64_t last = (m - i < kRows ? m - i : kRows) - 1;
    if (a.step == 0) {
      All::template multiply<add, 1, true>[last](k, rows, a.row, a.columns, b, nullptr, nullptr, c, c_row);
    } else {
      All::template multiply_panel<vectors, add>[last](k, rows, a.row, a.step, b, c, c_row);
    }
  }
}

// What becomes of a tile's sums: vector j of row i goes to to(j) + i * c_row.
template <class T, int rows, int vectors, class Bias, class To>
PYINIT_INLINE void end_sums(const Tile<T, rows, vectors>& t, T floor, const Bias& bias, const To& to, int64_t c_row) {
#pragma GCC unroll 8
  for (int j = 0; j < vectors; ++j) {
#pragma GCC unroll 14
    for (int i = 0; i < rows; ++i) store(to(j) + i * c_row, max(vec(floor), t.sums[i][j] + bias(i, j)));
  }
}

// Wide tiles, of fewer rows: each row of A is followed on its own, and processors follow few. Tiles of fewer vectors
// have more rows, which keeps the units busy.
#if defined(PYINIT_NS_avx512) || defined(PYINIT_NS_neon)
constexpr int kSums = 24, kWideVectors = 4;
#else
constexpr int kSums = 12, kWideVectors = 2;
#endif
// Of one vector there are as many sums as keep the units busy.
template <int vectors>
constexpr int kWholeRows = vectors == 1 && kRows < 12 ? 12
                           : vectors <= kVectors      ? kRows
                                                      : kRows * kVectors / vectors;

template <class T, int vectors, int rows> struct WholeTile {
  using Sums = Tile<T, rows, vectors>;
  static void multiply(int64_t k, const TileRows<T>& a, const T* b, const int64_t* b_rows, const TileVectors& at,
                       const Ending<T>& ending, T* c, int64_t c_row) {
    Sums t;
    Sums::clear(t);
    int64_t from[vectors];
#pragma GCC unroll 8
    for (int j = 0; j < vectors; ++j) from[j] = at.b[j];
#pragma GCC unroll 8
    for (int j = 0; j < vectors; ++j) prefetch_tile<T, rows, 1>(c + at.c[j], c_row);
    add_products(t, k, a.data, a.row, a.columns, [&](int64_t l) { return b + b_rows[l]; }, from);
    end_sums(
        t, ending.floor, [&](int i, int) { return vec(ending.bias[i]); }, [&](int j) { return c + at.c[j]; }, c_row);
  }
  static void multiply_rows(const T* a, int64_t a_row, const Runs& runs, const T* b, int64_t b_step,
                            const Ending<T>& ending, T* c, int64_t c_row) {
    constexpr int L = kLanes<T>;
    Sums t;
    Sums::clear(t);
    prefetch_tile<T, rows, vectors>(c, c_row);
    for (int64_t run = 0; run < runs.count; ++run) {
      Sums::template accumulate<false>(t, runs.length, {a + runs.offsets[run], a_row, 1},
                                       b + runs.b_offsets[run] * b_step, b_step);
    }
    end_sums(
        t, ending.floor, [&](int, int j) { return load(ending.bias + j * L); }, [&](int j) { return c + j * L; },
        c_row);
  }
};

template <class T, int vectors, class Rows> struct WholeTiles;
template <class T, int vectors, int... i> struct WholeTiles<T, vectors, std::integer_sequence<int, i...>> {
  static constexpr decltype(&WholeTile<T, 1, 1>::multiply) multiply[] = {WholeTile<T, vectors, i + 1>::multiply...};
  static constexpr decltype(&WholeTile<T, 1, 1>::multiply_rows) multiply_rows[] = {
      WholeTile<T, vectors, i + 1>::multiply_rows...};
};

template <class T, int vectors = kVectors>
void multiply_whole(int64_t m, int64_t k, const TileRows<T>& a, const T* b, const int64_t* b_rows,
                    const TileVectors& at, const Ending<T>& ending, T* c, int64_t c_row) {
  if constexpr (vectors > 1) {
    if (at.count < vectors) return multiply_whole<T, vectors - 1>(m, k, a, b, b_rows, at, ending, c, c_row);
  }
  constexpr int kMost = kWholeRows<vectors>;
  using Tiles = WholeTiles<T, vectors, std::make_integer_sequence<int, kMost>>;
  TileRows<T> rest = a;
  Ending<T> ending_of_rest = ending;
  for_equal_parts<kMost>(m, [&](int64_t rows) {
    Tiles::multiply[rows - 1](k, rest, b, b_rows, at, ending_of_rest, c, c_row);
    rest.data += rows * a.row;
    ending_of_rest.bias += rows;
    c += rows * c_row;
  });
}

template <class T, int vectors = kWideVectors>
void multiply_whole_rows(int64_t m, const T* a, int64_t a_row, const Runs& runs, const Columns<T>& b,
                         const Ending<T>& ending, T* c, int64_t c_row) {
  if constexpr (vectors > 1) {
    if (b.width <= (vectors - 1) * kLanes<T>) {
      return multiply_whole_rows<T, vectors - 1>(m, a, a_row, runs, b, ending, c, c_row);
    }
  }
  constexpr int kMost = kWholeRows<vectors>;
  using Tiles = WholeTiles<T, vectors, std::make_integer_sequence<int, kMost>>;
  for_equal_parts<kMost>(m, [&](int64_t rows) {
    Tiles::multiply_rows[rows - 1](a, a_row, runs, b.data, b.row, ending, c, c_row);
    a += rows * a_row;
    c += rows * c_row;
  });
}

template <class T>
void spread(int64_t rows, const T* x, int64_t row, const PixelRun* runs, int64_t count, T* out, int64_t out_row) {
  for (int64_t i = 0; i < rows; ++i, x += row, out += out_row) {
    for (int64_t r = 0; r < count; ++r) {
      const T* const from = x + runs[r].at;
      T* const to = out + runs[r].place;
      const int64_t length = runs[r].length;
      if (length < 4) {
        for (int64_t j = 0; j < length; ++j) to[j] = from[j];
        continue;
      }
      if (length >= kLanes<T>) {
        int64_t j = 0;
        for (; j + kLanes<T> <= length; j += kLanes<T>) store(to + j, load(from + j));
        store(to + length - kLanes<T>, load(from + length - kLanes<T>));
        continue;
      }
      constexpr size_t kFour = 4 * sizeof(T);
      for (int64_t j = 0; j + 4 < length; j += 4) __builtin_memcpy(to + j, from + j, kFour);
      __builtin_memcpy(to + length - 4, from + length - 4, kFour);
    }
  }
}

constexpr int kMostRows = 12;
template <int vectors> constexpr int kRowsOf = kSums / vectors < kMostRows ? kSums / vectors : kMostRows;

template <class T, int rows, int vectors, bool add, bool is_ahead>
void multiply_rows_tile(const T* a, const int64_t* a_rows, const Runs& runs, int64_t ahead, const T* panel,
                        int64_t b_step, T* c, const int64_t* c_rows) {
  constexpr int L = kLanes<T>;
  constexpr int64_t kLine = 64 / int64_t{sizeof(T)};
  Vec<T> sums[rows][vectors];
#pragma GCC unroll 12
  for (int i = 0; i < rows; ++i) {
#pragma GCC unroll 4
    for (int j = 0; j < vectors; ++j) sums[i][j] = vec(T{0});
  }
  // What is written is to be there by then: sums may be few, and stores wait for their lines.
#pragma GCC unroll 12
  for (int i = 0; i < rows; ++i) {
#pragma GCC unroll 4
    for (int j = 0; j < vectors * L; j += kLine) __builtin_prefetch(c + c_rows[i] + j, 1);
  }
  for (int64_t run = 0; run < runs.count; ++run) {
    const int64_t offset = runs.offsets[run];
    const T* b = panel + runs.b_offsets[run] * b_step;
    const T* row[rows];
#pragma GCC unroll 12
    for (int i = 0; i < rows; ++i) row[i] = a + a_rows[i] + offset;
    for (int64_t l = 0, end; l < runs.length; l = end) {
      end = runs.length;
      if constexpr (is_ahead) {
        // A line at a time, between the products that take as long.
        end = end - l > kLine ? l + kLine : end;
#pragma GCC unroll 12
        for (int i = 0; i < rows; ++i) __builtin_prefetch(a + a_rows[i + ahead] + offset + l, 0, 2);
      }
      for (int64_t k = l; k < end; ++k) {
        Vec<T> b_row[vectors];
#pragma GCC unroll 4
        for (int j = 0; j < vectors; ++j) b_row[j] = load(b + j * L);
#pragma GCC unroll 12
        for (int i = 0; i < rows; ++i) {
          const Vec<T> x = vec(row[i][k]);
#pragma GCC unroll 4
          for (int j = 0; j < vectors; ++j) sums[i][j] = multiply_add(x, b_row[j], sums[i][j]);
        }
        b += b_step;
      }
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
  static constexpr void (*multiply[])(const T*, const int64_t*, const Runs&, int64_t, const T*, int64_t, T*,
                                      const int64_t*) = {multiply_rows_tile<T, i + 1, vectors, add, false>...};
};

template <class T, bool add, int vectors = kWideVectors>
void multiply_rows(int64_t m, const T* a, const int64_t* a_rows, const Runs& runs, int64_t ahead, const Columns<T>& b,
                   T* c, const int64_t* c_rows) {
  if constexpr (vectors > 1) {
    if (b.width <= (vectors - 1) * kLanes<T>) {
      return multiply_rows<T, add, vectors - 1>(m, a, a_rows, runs, ahead, b, c, c_rows);
    }
  }
  constexpr int kMost = kRowsOf<vectors>;
  using Tiles = RowTiles<T, std::make_integer_sequence<int, kMost>>;
  int64_t i = 0;
  for (; ahead > 0 && i + kMost + ahead <= m; i += kMost) {
    multiply_rows_tile<T, kMost, vectors, add, true>(a, a_rows + i, runs, ahead, b.data, b.row, c, c_rows + i);
  }
  for (; i < m; i += kMost) {
    Tiles::template multiply<vectors, add>[(m - i < kMost ? m - i : kMost) - 1](a, a_rows + i, runs, 0, b.data, b.row,
                                                                                c, c_rows + i);
  }
}

}  // namespace

const AllConvKernels all_conv_kernels = {
    {kLanes<float>,
     kRowsOf<kWideVectors>,
     kWideVectors* kLanes<float>,
     gather<float>,
     every_second<float>,
     spread<float>,
     {multiply<float, false>, multiply<float, true>},
     {multiply_panel<float, false>, multiply_panel<float, true>},
     multiply_whole<float>,
     multiply_whole_rows<float>,
     {multiply_rows<float, false>, multiply_rows<float, true>}},
    {kLanes<double>,
     kRowsOf<kWideVectors>,
     kWideVectors* kLanes<double>,
     gather<double>,
     every_second<double>,
     spread<double>,
     {multiply<double, false>, multiply<double, true>},
     {multiply_panel<double, false>, multiply_panel<double, true>},
     multiply_whole<double>,
     multiply_whole_rows<double>,
     {multiply_rows<double, false>, multiply_rows<double, true>}},
};

}  // namespace pyinit::PYINIT_NS
