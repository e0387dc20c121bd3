// Products of pixels, and sums of them. Compiled once per instruction set.
#include <utility>  // integer_sequence: types only

#include "conv/gradient_kernels.hpp"
#include "linalg/tile.hpp"

namespace pyinit::PYINIT_NS {
namespace {

// Rows that lie side by side share a pointer, for which there must be registers, too. These are the rows of a tile that
// have one each.
constexpr int kRowsAnywhere = kRows < 8 ? kRows : 8;
// One vector wide: more rows, since it takes eight sums or so at a time to keep a processor busy, and as many as there
// are registers where that takes few pointers.
constexpr int kTallRows = 9, kMostTallRows = kRows * kVectors;

constexpr int kCacheLine = 64;
// The processor is asked for a piece of what is upcoming each time that so many rows of B are multiplied: more at a
// time would hold it up.
constexpr int64_t kRowsBetween = 8;

// The rows of a tile are `runs` of `run` rows that lie side by side.
template <class T, int runs, int run, int vectors, bool add>
void multiply_tile(int64_t k, const T* a, const int64_t* a_rows, const int64_t* steps, const T* b, int64_t b_step, T* c,
                   int64_t c_row, Upcoming& upcoming) {
  constexpr int rows = runs * run;
  using Sums = Tile<T, rows, vectors>;
  Sums t;
  Sums::clear(t);
  const T* row[runs];
#pragma GCC unroll 9
  for (int i = 0; i < runs; ++i) row[i] = a + a_rows[i * run];
  for (int64_t l = 0, end; l < k; l = end) {
    end = k - l > kRowsBetween ? l + kRowsBetween : k;
    if (upcoming.next != upcoming.end) {
      const char* const piece = static_cast<const char*>(*upcoming.next++);
#pragma GCC unroll 4
      for (int i = 0; i < kPieceLines; ++i) __builtin_prefetch(piece + kCacheLine * i, 0, 2);
    }
    for (int64_t p = l; p < end; ++p, b += b_step) {
      const int64_t step = steps[p];
      Vec<T> b_row[vectors];
#pragma GCC unroll 4
      for (int j = 0; j < vectors; ++j) b_row[j] = load(b + j * Sums::L);
#pragma GCC unroll 28
      for (int i = 0; i < rows; ++i) {
        const Vec<T> x = vec(row[i / run][step + i % run]);
#pragma GCC unroll 4
        for (int j = 0; j < vectors; ++j) t.sums[i][j] = multiply_add(x, b_row[j], t.sums[i][j]);
      }
    }
  }
  add ? Sums::add_to(t, c, c_row) : Sums::store_to(t, c, c_row);
}

// The functions for tiles of 1, 2, ... runs.
template <class T, int run, int vectors, bool add, class Runs> struct Tiles;
template <class T, int run, int vectors, bool add, int... i>
struct Tiles<T, run, vectors, add, std::integer_sequence<int, i...>> {
  static constexpr decltype(&multiply_tile<T, 1, 1, 1, true>) multiply[] = {
      multiply_tile<T, i + 1, run, vectors, add>...};
};

template <class T, int run, int vectors, bool add, int most>
void multiply_tiles(int64_t m, int64_t k, const T* a, const int64_t* rows, const int64_t* steps, const T* b,
                    int64_t b_step, T* c, int64_t c_row, Upcoming& upcoming) {
  using All = Tiles<T, run, vectors, add, std::make_integer_sequence<int, most>>;
  for_equal_parts<most>(m / run, [&](int64_t runs) {
    All::multiply[runs - 1](k, a, rows, steps, b, b_step, c, c_row, upcoming);
    rows += runs * run;
    c += runs * run * c_row;
  });
}

// The greatest number of rows that all runs of rows side by side can be divided into.
int64_t common_run(int64_t m, const int64_t* rows) {
  int64_t common = 0;
  for (int64_t begin = 0, end = 1; begin < m; begin = end++) {
    while (end < m && rows[end] == rows[end - 1] + 1) ++end;
    for (int64_t rest = end - begin; rest != 0;) {
      const int64_t next = common % rest;
      common = rest;
      rest = next;
    }
  }
  return common;
}

template <class T, bool add>
void multiply(int64_t m, int64_t columns, int64_t k, const T* a, const int64_t* rows, const int64_t* steps, const T* b,
              int64_t b_step, T* c, int64_t c_row, Upcoming& upcoming) {
  if (columns > kLanes<T>) {
    return multiply_tiles<T, 1, kVectors, add, kRowsAnywhere>(m, k, a, rows, steps, b, b_step, c, c_row, upcoming);
  }
  const int64_t common = common_run(m, rows);
  const auto as_runs_of = [&](auto run) {
    constexpr int most = run == 1 ? kTallRows : kMostTallRows / run;
    multiply_tiles<T, run, 1, add, most>(m, k, a, rows, steps, b, b_step, c, c_row, upcoming);
  };
  // The widths of most kernels, and what numbers of channels can be divided by.
  if (common % 3 == 0) return as_runs_of(std::integral_constant<int, 3>());
  if (common % 4 == 0) return as_runs_of(std::integral_constant<int, 4>());
  if (common % 5 == 0) return as_runs_of(std::integral_constant<int, 5>());
  if (common % 7 == 0) return as_runs_of(std::integral_constant<int, 7>());
  as_runs_of(std::integral_constant<int, 1>());
}

// Sums over pixels in lanes: as many side by side as leave room for the elements of both images.
#if defined(PYINIT_NS_avx512) || defined(PYINIT_NS_neon)
constexpr int kTileOutputs = 4, kTileTaps = 6;
#else
constexpr int kTileOutputs = 3, kTileTaps = 4;
#endif

template <class T, int outputs, int taps>
void add_planes_tile(int64_t count, const T* x, const int64_t* offsets, const int64_t* steps, const T* y,
                     int64_t y_step, T* sums, int64_t sums_row) {
  constexpr int L = kLanes<T>, kLanesOfSum = static_cast<int>(kSumLanes<T>);
  for (int lane = 0; lane < kLanesOfSum; lane += L) {
    Vec<T> total[outputs][taps];
#pragma GCC unroll 4
    for (int i = 0; i < outputs; ++i) {
#pragma GCC unroll 6
      for (int j = 0; j < taps; ++j) total[i][j] = load(sums + i * sums_row + j * kLanesOfSum + lane);
    }
    const T* at[taps];
#pragma GCC unroll 6
    for (int j = 0; j < taps; ++j) at[j] = x + offsets[j] + lane;
    const T* factors_at = y + lane;
    for (int64_t k = 0; k < count; ++k, factors_at += kLanesOfSum) {
      const int64_t step = steps[k];
      Vec<T> factors[outputs];
#pragma GCC unroll 4
      for (int i = 0; i < outputs; ++i) factors[i] = load(factors_at + i * y_step);
#pragma GCC unroll 6
      for (int j = 0; j < taps; ++j) {
        const Vec<T> element = load(at[j] + step);
#pragma GCC unroll 4
        for (int i = 0; i < outputs; ++i) total[i][j] = multiply_add(factors[i], element, total[i][j]);
      }
    }
#pragma GCC unroll 4
    for (int i = 0; i < outputs; ++i) {
#pragma GCC unroll 6
      for (int j = 0; j < taps; ++j) store(sums + i * sums_row + j * kLanesOfSum + lane, total[i][j]);
    }
  }
}

template <class T, int outputs, class Taps> struct PlaneTiles;
template <class T, int outputs, int... i> struct PlaneTiles<T, outputs, std::integer_sequence<int, i...>> {
  static constexpr decltype(&add_planes_tile<T, 1, 1>) add[] = {add_planes_tile<T, outputs, i + 1>...};
};
template <class T, class Outputs> struct AllPlaneTiles;
template <class T, int... i> struct AllPlaneTiles<T, std::integer_sequence<int, i...>> {
  static constexpr decltype(&add_planes_tile<T, 1, 1>)
      const* add[] = {PlaneTiles<T, i + 1, std::make_integer_sequence<int, kTileTaps>>::add...};
};

template <class T>
void add_planes(int64_t outputs, int64_t taps, int64_t count, const T* x, const int64_t* offsets, const int64_t* steps,
                const T* y, int64_t y_step, T* sums) {
  int64_t i = 0;
  for_equal_parts<kTileOutputs>(outputs, [&](int64_t some) {
    const auto& add = AllPlaneTiles<T, std::make_integer_sequence<int, kTileOutputs>>::add[some - 1];
    int64_t j = 0;
    for_equal_parts<kTileTaps>(taps, [&](int64_t together) {
      add[together - 1](count, x, offsets + j, steps, y + i * y_step, y_step, sums + (i * taps + j) * kSumLanes<T>,
                        taps * kSumLanes<T>);
      j += together;
    });
    i += some;
  });
}

template <class T> void add_lanes(int64_t count, const T* sums, T* out) {
  for (int64_t i = 0; i < count; ++i, sums += kSumLanes<T>) {
    T lanes[kSumLanes<T> / 2];
#pragma GCC unroll 8
    for (int l = 0; l < kSumLanes<T> / 2; ++l) lanes[l] = sums[l] + sums[l + kSumLanes<T> / 2];
#pragma GCC unroll 3
    for (int half = kSumLanes<T> / 4; half > 0; half /= 2) {
#pragma GCC unroll 4
      for (int l = 0; l < half; ++l) lanes[l] += lanes[l + half];
    }
    out[i] = lanes[0];
  }
}

template <class T> void accumulate(int64_t count, const T* x, T* sums) {
  for (int64_t i = 0; i < count; i += kLanes<T>) store(sums + i, load(sums + i) + load(x + i));
}

// A line has 32 sums on any instruction set: element i goes to sum i mod 32, and then sum i takes sum i + 16, the sum
// of both sum i + 8 more, and so on.
constexpr int kSums = 32;

// As many sums of a line as a vector has lanes. Its last elements, of which `is_rest` tells those that are there, are
// read at `rest`.
template <class T, class Mask>
PYINIT_INLINE Vec<T> sum_line(int64_t count, const T* x, const T* rest, Mask is_rest) {
  constexpr int L = kLanes<T>, vectors = kSums / L;
  Vec<T> sums[vectors];
  for (int j = 0; j < vectors; ++j) sums[j] = vec(T{0});
  int64_t i = 0;
  for (; i + kSums <= count; i += kSums) {
#pragma GCC unroll 16
    for (int j = 0; j < vectors; ++j) sums[j] = sums[j] + load(x + i + j * L);
  }
#pragma GCC unroll 16
  for (int j = 0; j < vectors; ++j, i += L) {
    if (i + L <= count) {
      sums[j] = sums[j] + load(x + i);
    } else if (i < count) {
      sums[j] = sums[j] + select(is_rest, load(rest), vec(T{0}));
    }
  }
#pragma GCC unroll 5
  for (int half = vectors / 2; half > 0; half /= 2) {
#pragma GCC unroll 8
    for (int j = 0; j < half; ++j) sums[j] = sums[j] + sums[j + half];
  }
  return sums[0];
}

// Lane i of the vectors becomes elements i * (their number), ... of their sequence.
PYINIT_INLINE void interleave(F32 (&x)[4]) { interleave(x[0], x[1], x[2], x[3]); }
PYINIT_INLINE void interleave(F64 (&x)[2]) { interleave(x[0], x[1]); }

template <class T> void sum_lines(int64_t lines, int64_t count, const T* x, int64_t row, double* sums) {
  constexpr int L = kLanes<T>, together = std::is_same_v<T, float> ? 4 : 2;
  const int64_t rest = count % L;
  T lane[L];
  for (int l = 0; l < L; ++l) lane[l] = static_cast<T>(l);
  const auto is_rest = less(load(lane), vec(static_cast<T>(rest)));
  // A rest is read as a whole vector where that ends before the outermost line does, and copied where not.
  const T* const end = x + (row > 0 ? (lines - 1) * row : 0) + count;
  T copied[L] = {};
  for (int64_t first = 0; first < lines; first += together) {
    Vec<T> line[together];
#pragma GCC unroll 4
    for (int r = 0; r < together; ++r) {
      line[r] = vec(T{0});
      if (first + r >= lines) continue;
      const T* const from = x + (first + r) * row;
      const T* at = from + count - rest;
      if (end - at < L) {
        for (int64_t l = 0; l < rest; ++l) copied[l] = at[l];
        at = copied;
      }
      line[r] = sum_line(count, from, at, is_rest);
    }
    interleave(line);
#pragma GCC unroll 2
    for (int half = together / 2; half > 0; half /= 2) {
#pragma GCC unroll 2
      for (int r = 0; r < half; ++r) line[r] = line[r] + line[r + half];
    }
    T lanes[L];
    store(lanes, line[0]);
#pragma GCC unroll 2
    for (int half = L / 2; half >= together; half /= 2) {
#pragma GCC unroll 8
      for (int l = 0; l < half; ++l) lanes[l] += lanes[l + half];
    }
    for (int r = 0; r < together && first + r < lines; ++r) sums[first + r] += static_cast<double>(lanes[r]);
  }
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
  constexpr int L = kLanes<T>, wide = 8;  // vectors that are read side by side
  int64_t j = 0;
  for (; j + wide * L <= columns; j += wide * L) sum_columns<T, wide>(rows, x + j, row, sums + j);
  for (; j + kSums <= columns; j += kSums) sum_columns<T, kSums / L>(rows, x + j, row, sums + j);
  for (; j + L <= columns; j += L) sum_columns<T, 1>(rows, x + j, row, sums + j);
  for (; j < columns; ++j) {
    T total = 0;
    for (int64_t i = 0; i < rows; ++i) total += x[i * row + j];
    sums[j] += static_cast<double>(total);
  }
}

template <class T>
constexpr GradientKernels<T> kKernels = {kPanel<T>,         kLanes<T>,     multiply<T, false>,
                                         multiply<T, true>, add_planes<T>, add_lanes<T>,
                                         accumulate<T>,     sum_lines<T>,  sum_rows<T>};

}  // namespace

const AllGradientKernels all_gradient_kernels = {kKernels<float>, kKernels<double>};

}  // namespace pyinit::PYINIT_NS
