// Convolutions that have one input channel a group. Compiled once per instruction set.
#include <utility>  // integer_sequence: types only

#include "conv/depthwise_kernels.hpp"
#include "simd/square.hpp"
#include "simd/vec.hpp"

namespace pyinit::PYINIT_NS {
namespace {

constexpr int kRows = 4;                // rows of a plane whose sums are made side by side
constexpr int kPixels = 8;              // pixels of a row whose sums are made side by side
constexpr int kTaps = 5;                // taps whose sums of products are made side by side
constexpr int kChannelTaps = 9;         // the same where a sum is one vector
constexpr int64_t kChannelBlock = 256;  // all pixels of a row go through a block, so that its weights stay in the cache

// A row of at least `n` elements in pieces of n, the last one over some of those before.
template <int n, class T> PYINIT_INLINE void copy_pieces(int64_t count, const T* x, T* out) {
  for (int64_t i = 0; i < count - n; i += n) __builtin_memcpy(out + i, x + i, n * sizeof(T));
  __builtin_memcpy(out + count - n, x + count - n, n * sizeof(T));
}

template <class T> PYINIT_INLINE Vec<T> load_some(const T* p, int64_t count) {
  T buffer[kLanes<T>] = {};
  for (int64_t i = 0; i < count; ++i) buffer[i] = p[i];
  return load(buffer);
}
template <class T, class V> PYINIT_INLINE void store_some(T* p, V x, int64_t count) {
  T buffer[sizeof(V) / sizeof(T)];
  store(buffer, x);
  if constexpr (sizeof(V) / sizeof(T) > 4) {
    if (count >= 4) return copy_pieces<4>(count, buffer, p);
  }
  for (int64_t i = 0; i < count; ++i) p[i] = buffer[i];
}

// Four elements, whatever the width of vectors.
template <class T> struct FourOf {
  typedef T type __attribute__((vector_size(4 * sizeof(T))));  // NOLINT(modernize-use-using)
};
template <class T> using Four = typename FourOf<T>::type;
template <class T>
PYINIT_INLINE void copy_each(int64_t count, const T* x, int64_t step, T* out, int64_t out_step) {
  for (int64_t i = 0; i < count; ++i) out[i * out_step] = x[i * step];
}

template <class T, int step, int out_step>
PYINIT_INLINE void copy_row(int64_t count, const T* x, int64_t any_step, T* out, int64_t any_out_step) {
  if constexpr (step == 1 && out_step == 1) {
    if (count >= kLanes<T>) return copy_pieces<kLanes<T>>(count, x, out);
    if (count >= 4) return copy_pieces<4>(count, x, out);
  }
#if __has_builtin(__builtin_shufflevector)  // GCC 12, any Clang
  if constexpr (step == 2 && out_step == 1) {
    if (count < 4) return copy_each(count, x, 2, out, 1);
    const auto piece = [&](int64_t i) {
      Four<T> low, high;
      __builtin_memcpy(&low, x + 2 * i, sizeof low);
      __builtin_memcpy(&high, x + 2 * i + 3, sizeof high);
      low = __builtin_shufflevector(low, high, 0, 2, 5, 7);
      __builtin_memcpy(out + i, &low, sizeof low);
    };
    for (int64_t i = 0; i < count - 4; i += 4) piece(i);
    return piece(count - 4);
  }
#endif
  copy_each(count, x, step == 0 ? any_step : step, out, out_step == 0 ? any_out_step : out_step);
}

template <class T, int step, int out_step>
PYINIT_INLINE void copy_planes(int64_t planes, int64_t rows, int64_t columns, const Grid<const T>& x,
                               const Grid<T>& out) {
  for (int64_t p = 0; p < planes; ++p) {
    const T* from = x.data + p * x.plane;
    T* to = out.data + p * out.plane;
    for (int64_t i = 0; i < rows; ++i, from += x.row, to += out.row) {
      copy_row<T, step, out_step>(columns, from, x.column, to, out.column);
    }
  }
}

// Rows of n to 2 n elements.
template <int n, class T>
PYINIT_INLINE void copy_pairs(int64_t planes, int64_t rows, int64_t columns, const Grid<const T>& x,
                              const Grid<T>& out) {
  const int64_t x_row = x.row, out_row = out.row;
  for (int64_t p = 0; p < planes; ++p) {
    const T* from = x.data + p * x.plane;
    T* to = out.data + p * out.plane;
    for (int64_t i = 0; i < rows; ++i, from += x_row, to += out_row) {
      __builtin_memcpy(to, from, n * sizeof(T));
      __builtin_memcpy(to + columns - n, from + columns - n, n * sizeof(T));
    }
  }
}

template <class T>
void copy(int64_t planes, int64_t rows, int64_t columns, const Grid<const T>& x, const Grid<T>& out) {
  if (x.column == 1 && out.column == 1) {
    if (columns >= 4 && columns <= 8) return copy_pairs<4>(planes, rows, columns, x, out);
    if (columns >= 8 && columns <= 16) return copy_pairs<8>(planes, rows, columns, x, out);
    return copy_planes<T, 1, 1>(planes, rows, columns, x, out);
  }
  if (x.column == 2 && out.column == 1) return copy_planes<T, 2, 1>(planes, rows, columns, x, out);
  copy_planes<T, 0, 0>(planes, rows, columns, x, out);
}

#if __has_builtin(__builtin_shufflevector)
// In squares, the last ones over some of those before.
template <int side, class T>
PYINIT_INLINE void turn_squares(int64_t planes, int64_t pixels, const T* x, int64_t plane, const int64_t* places,
                                T* out) {
  for (int64_t across = 0; across < pixels; across += side) {
    const int64_t j = across + side < pixels ? across : pixels - side;
    for (int64_t down = 0; down < planes; down += side) {
      const int64_t i = down + side < planes ? down : planes - side;
      transpose_square(x + i * plane + j, plane, [&](int l) { return out + places[j + l] + i; }, Square<side>{});
    }
  }
}
#endif

template <class T>
void turn(int64_t planes, int64_t pixels, const T* x, int64_t plane, const int64_t* places, T* out) {
#if __has_builtin(__builtin_shufflevector)
  if constexpr (kLanes<T> >= 8) {
    if (planes >= 8 && pixels >= 8) return turn_squares<8>(planes, pixels, x, plane, places, out);
  }
  if (planes >= 4 && pixels >= 4) return turn_squares<4>(planes, pixels, x, plane, places, out);
#endif
  for (int64_t i = 0; i < planes; ++i) {
    for (int64_t j = 0; j < pixels; ++j) out[places[j] + i] = x[i * plane + j];
  }
}

// In pieces of eight, the last one over some of those before.
template <class T> PYINIT_INLINE void weave_row(int64_t columns, const T* even, const T* odd, T* out) {
  int64_t done = 0;
#if __has_builtin(__builtin_shufflevector)
  const auto piece = [&](int64_t j) {
    Four<T> x, y;
    __builtin_memcpy(&x, even + j / 2, sizeof x);
    __builtin_memcpy(&y, odd + j / 2, sizeof y);
    const Four<T> low = __builtin_shufflevector(x, y, 0, 4, 1, 5), high = __builtin_shufflevector(x, y, 2, 6, 3, 7);
    __builtin_memcpy(out + j, &low, sizeof low);
    __builtin_memcpy(out + j + 4, &high, sizeof high);
  };
  const int64_t pairs = columns / 2 * 2;
  if (pairs >= 8) {
    for (int64_t j = 0; j < pairs - 8; j += 8) piece(j);
    piece(pairs - 8);
    done = pairs;
  }
#endif
  for (int64_t j = done; j < columns; ++j) out[j] = (j % 2 == 0 ? even : odd)[j / 2];
}

template <class T>
void weave(int64_t planes, int64_t rows, int64_t columns, const Grid<const T>& even, const Grid<const T>& odd,
           const Grid<T>& out) {
  for (int64_t p = 0; p < planes; ++p) {
    for (int64_t i = 0; i < rows; ++i) {
      weave_row(columns, even.data + p * even.plane + i * even.row, odd.data + p * odd.plane + i * odd.row,
                out.data + p * out.plane + i * out.row);
    }
  }
}

// The functions for 1, 2, ... of what is done side by side.
template <template <class, int> class F, class T, class Counts> struct ForEach;
template <template <class, int> class F, class T, int... i> struct ForEach<F, T, std::integer_sequence<int, i...>> {
  static constexpr decltype(&F<T, 1>::run) table[] = {F<T, i + 1>::run...};
};
template <template <class, int> class F, class T, int most>
constexpr auto& kUpTo = ForEach<F, T, std::make_integer_sequence<int, most>>::table;

// Rows of planes are short, and hardly anything in them is aligned: vectors of 64 bytes would cost more than they do.
#if defined(PYINIT_NS_avx512)
struct RowF32 {
  __m256 v;
};
struct RowF64 {
  __m256d v;
};
PYINIT_INLINE RowF32 row_vec(float x) { return {_mm256_set1_ps(x)}; }
PYINIT_INLINE RowF64 row_vec(double x) { return {_mm256_set1_pd(x)}; }
PYINIT_INLINE RowF32 load_row(const float* p) { return {_mm256_loadu_ps(p)}; }
PYINIT_INLINE RowF64 load_row(const double* p) { return {_mm256_loadu_pd(p)}; }
PYINIT_INLINE void store(float* p, RowF32 x) { _mm256_storeu_ps(p, x.v); }
PYINIT_INLINE void store(double* p, RowF64 x) { _mm256_storeu_pd(p, x.v); }
PYINIT_INLINE RowF32 multiply_add(RowF32 a, RowF32 b, RowF32 c) { return {_mm256_fmadd_ps(a.v, b.v, c.v)}; }
PYINIT_INLINE RowF64 multiply_add(RowF64 a, RowF64 b, RowF64 c) { return {_mm256_fmadd_pd(a.v, b.v, c.v)}; }
PYINIT_INLINE RowF32 max(RowF32 a, RowF32 b) { return {_mm256_max_ps(a.v, b.v)}; }
PYINIT_INLINE RowF64 max(RowF64 a, RowF64 b) { return {_mm256_max_pd(a.v, b.v)}; }
#else
template <class T> PYINIT_INLINE Vec<T> row_vec(T x) { return vec(x); }
template <class T> PYINIT_INLINE Vec<T> load_row(const T* p) { return load(p); }
#endif
template <class T> using RowVec = decltype(row_vec(T{}));
template <class T> constexpr int kRowLanes = static_cast<int>(sizeof(RowVec<T>) / sizeof(T));

// `taps` is their number if it is known beforehand, or 0.
template <class T, int rows, int taps>
PYINIT_INLINE void correlate_rows(int64_t columns, int64_t any_count, const int64_t* offsets, const T* weights,
                                  const T* x, int64_t x_row, T bias, T floor, T* out, int64_t out_row, const T* end) {
  constexpr int L = kRowLanes<T>;
  const int64_t count = taps == 0 ? any_count : taps;
  for (int64_t begin = 0; begin < columns; begin += L) {
    // The last vector of a row begins where it ends with the row.
    const int64_t at = begin + L <= columns || columns < L ? begin : columns - L;
    RowVec<T> sums[rows];
#pragma GCC unroll 4
    for (int i = 0; i < rows; ++i) sums[i] = row_vec(bias);
#pragma GCC unroll 9
    for (int64_t t = 0; t < count; ++t) {
      const RowVec<T> weight = row_vec(weights[t]);
      const T* const from = x + at + offsets[t];
#pragma GCC unroll 4
      for (int i = 0; i < rows; ++i) sums[i] = multiply_add(weight, load_row(from + i * x_row), sums[i]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < rows; ++i) {
      const RowVec<T> sum = max(row_vec(floor), sums[i]);
      if (columns < L) {
        // What goes too far is overwritten by the rows after it.
        if (out + i * out_row + L <= end) {
          store(out + i * out_row, sum);
        } else {
          store_some<T>(out + i * out_row, sum, columns);
        }
      } else {
        store(out + i * out_row + at, sum);
      }
    }
  }
}

template <class T, int rows> struct Correlate {
  static void run(int64_t columns, int64_t count, const int64_t* offsets, const T* weights, const T* x, int64_t x_row,
                  T bias, T floor, T* out, int64_t out_row, const T* end) {
    const auto make = count == 9 ? correlate_rows<T, rows, 9> : correlate_rows<T, rows, 0>;
    make(columns, count, offsets, weights, x, x_row, bias, floor, out, out_row, end);
  }
};

template <class T>
void correlate(int64_t planes, int64_t rows, int64_t columns, const PlaneTaps<T>& taps, const Grid<const T>& x, T floor,
               const Grid<T>& out) {
  // Whether rows follow one another without gaps, in a plane or in all planes.
  const bool in_plane = out.row == columns, in_all = in_plane && out.plane == rows * columns;
  for (int64_t p = 0; p < planes; ++p) {
    const T bias = taps.bias == nullptr ? T{0} : taps.bias[p * taps.bias_step];
    T* const plane = out.data + p * out.plane;
    const T* const end = in_all ? out.data + planes * out.plane : in_plane ? plane + rows * columns : plane;
    for (int64_t i = 0; i < rows; i += kRows) {
      kUpTo<Correlate, T, kRows>[(rows - i < kRows ? rows - i : kRows) - 1](
          columns, taps.count, taps.offsets, taps.weights + p * taps.weights_step, x.data + p * x.plane + i * x.row,
          x.row, bias, floor, plane + i * out.row, out.row, end);
    }
  }
}

// 64 bytes of lanes on every instruction set.
template <class T, int taps> struct AddProducts {
  static void run(int64_t count, const int64_t* offsets, const T* x, const T* y, T* sums) {
    constexpr int L = kLanes<T>, kSums = kSumLanes<T>, kVectors = kSums / L;
    Vec<T> total[taps][kVectors];
#pragma GCC unroll 5
    for (int t = 0; t < taps; ++t) {
#pragma GCC unroll 8
      for (int j = 0; j < kVectors; ++j) total[t][j] = load(sums + t * kSums + j * L);
    }
    for (int64_t i = 0; i < count; i += kSums) {
#pragma GCC unroll 5
      for (int t = 0; t < taps; ++t) {
#pragma GCC unroll 8
        for (int j = 0; j < kVectors; ++j) {
          total[t][j] = multiply_add(load(y + i + j * L), load(x + offsets[t] + i + j * L), total[t][j]);
        }
      }
    }
#pragma GCC unroll 5
    for (int t = 0; t < taps; ++t) {
#pragma GCC unroll 8
      for (int j = 0; j < kVectors; ++j) store(sums + t * kSums + j * L, total[t][j]);
    }
  }
};

template <class T>
void add_products(int64_t planes, int64_t count, int64_t taps, const int64_t* offsets, const T* x, int64_t x_step,
                  const T* y, int64_t y_step, T* sums, int64_t sums_step) {
  for (int64_t p = 0; p < planes; ++p, x += x_step, y += y_step, sums += sums_step) {
    for (int64_t t = 0, groups = (taps + kTaps - 1) / kTaps; groups > 0; --groups) {
      const int64_t some = (taps - t + groups - 1) / groups;
      kUpTo<AddProducts, T, kTaps>[some - 1](count, offsets + t, x, y, sums + t * kSumLanes<T>);
      t += some;
    }
  }
}

template <class T> PYINIT_INLINE void put(const Pixels<T>& out, int64_t pixel, int64_t c, Vec<T> x) {
  T* const to = out.data + pixel * out.step + c;
  if (out.past_caches) return stream(to, x);
  store(to, x);
}

template <class T, int pixels, bool whole>
PYINIT_INLINE void correlate_vector(int64_t c, int64_t channels, const ChannelTaps<const T>& taps, const T* x,
                                    int64_t x_step, const T* bias, T floor, const Pixels<T>& out) {
  const auto get = [&](const T* p) {
    if constexpr (whole) {
      return load(p);
    } else {
      return load_some<T>(p, channels - c);
    }
  };
  Vec<T> sums[pixels];
  const Vec<T> start = bias == nullptr ? vec(T{0}) : get(bias + c);
#pragma GCC unroll 8
  for (int i = 0; i < pixels; ++i) sums[i] = start;
  for (int64_t t = 0; t < taps.count; ++t) {
    const Vec<T> weight = get(taps.rows[t] + c);
    const T* const from = x + c + taps.offsets[t];
#pragma GCC unroll 8
    for (int i = 0; i < pixels; ++i) sums[i] = multiply_add(weight, get(from + i * x_step), sums[i]);
  }
#pragma GCC unroll 8
  for (int i = 0; i < pixels; ++i) {
    const Vec<T> sum = max(vec(floor), sums[i]);
    if constexpr (whole) {
      put(out, i, c, sum);
    } else {
      store_some<T>(out.data + c + i * out.step, sum, channels - c);
    }
  }
}

// Takes taps in threes, each a pixel further than the one before, or nearer. Neighbouring pixels take the same
// elements, which are loaded once. Adds up in the same order as correlate_vector.
template <class T, int pixels, bool further>
PYINIT_INLINE void correlate_threes(int64_t c, const ChannelTaps<const T>& taps, const T* x, int64_t x_step,
                                    const T* bias, T floor, const Pixels<T>& out) {
  Vec<T> sums[pixels];
  const Vec<T> start = bias == nullptr ? vec(T{0}) : load(bias + c);
#pragma GCC unroll 8
  for (int i = 0; i < pixels; ++i) sums[i] = start;
  for (int64_t t = 0; t < taps.count; t += 3) {
    const Vec<T> weights[3] = {load(taps.rows[t] + c), load(taps.rows[t + 1] + c), load(taps.rows[t + 2] + c)};
    const T* from = x + c + taps.offsets[t] + (further ? 0 : (pixels - 1) * x_step);
#pragma GCC unroll 10
    for (int j = 0; j < pixels + 2; ++j) {
      const Vec<T> element = load(from);
      from += further ? x_step : -x_step;
#pragma GCC unroll 3
      for (int k = 0; k < 3; ++k) {
        const int i = further ? j - k : pixels - 1 - j + k;
        if (i >= 0 && i < pixels) sums[i] = multiply_add(weights[k], element, sums[i]);
      }
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < pixels; ++i) put(out, i, c, max(vec(floor), sums[i]));
}

// The distance from each tap of a three to the next, if all have the same; else 0.
template <class T> int64_t step_of_threes(const ChannelTaps<T>& taps) {
  if (taps.count == 0 || taps.count % 3 != 0) return 0;
  const int64_t step = taps.offsets[1] - taps.offsets[0];
  for (int64_t t = 0; t < taps.count; t += 3) {
    if (taps.offsets[t + 1] - taps.offsets[t] != step || taps.offsets[t + 2] - taps.offsets[t + 1] != step) return 0;
  }
  return step;
}

// Asks for rows a little at a time. All of them at once would hold up everything else.
template <class T> struct Fetch {
  const T* from;
  int64_t row, rows, lines;  // lines of each row at a time

  static constexpr int64_t kLine = 64 / sizeof(T);
  PYINIT_INLINE void some(Fetch& f) {
    for (int64_t i = 0; i < f.rows; ++i) {
      for (int64_t j = 0; j < f.lines; ++j) __builtin_prefetch(f.from + i * f.row + j * kLine);
    }
    f.from += f.lines * kLine;
  }
};

template <class T, int pixels> struct CorrelateChannels {
  static void run(int64_t begin, int64_t end, ChannelTaps<const T> taps, const T* x, int64_t x_step, Fetch<T> ahead,
                  int64_t threes, const T* bias, T floor, const Pixels<T>& out) {
    int64_t c = begin;
    const auto make = [&](auto&& f) {
      for (; c + kLanes<T> <= end; c += kLanes<T>) {
        Fetch<T>::some(ahead);
        f();
      }
    };
    const bool in_threes = pixels > 2 && threes != 0;  // pixels of an expanded row are 0 apart
    if (in_threes && threes == x_step) {
      make([&] { correlate_threes<T, pixels, true>(c, taps, x, x_step, bias, floor, out); });
    } else if (in_threes && threes == -x_step) {
      make([&] { correlate_threes<T, pixels, false>(c, taps, x, x_step, bias, floor, out); });
    } else {
      make([&] { correlate_vector<T, pixels, true>(c, end, taps, x, x_step, bias, floor, out); });
    }
    if (c < end) correlate_vector<T, pixels, false>(c, end, taps, x, x_step, bias, floor, out);
  }
};

// Channels are gone through in equal blocks.
template <class F> PYINIT_INLINE void for_each_block(int64_t channels, F&& f) {
  const int64_t blocks = (channels + kChannelBlock - 1) / kChannelBlock;
  const int64_t block = ((channels + blocks - 1) / blocks + 15) / 16 * 16;
  for (int64_t c = 0; c < channels; c += block) f(c, c + block < channels ? c + block : channels);
}

template <class T>
void correlate_channels(int64_t count, int64_t channels, ChannelTaps<const T> taps, const T* x, int64_t x_step,
                        Ahead ahead, const T* bias, T floor, const Pixels<T>& out) {
  const int64_t threes = step_of_threes(taps);
  for_each_block(channels, [&](int64_t c, int64_t end) {
    // A block of several would be fetched in pieces: such images are small.
    const int64_t rows = end - c == channels ? ahead.rows : 0, vectors = (channels + kLanes<T> - 1) / kLanes<T>;
    for (int64_t i = 0; i < count; i += kPixels) {
      const int64_t pixels = count - i < kPixels ? count - i : kPixels, per_line = Fetch<T>::kLine * vectors;
      const T* const from = x + i * x_step;
      kUpTo<CorrelateChannels, T, kPixels>[pixels - 1](
          c, end, taps, from, x_step,
          {from + ahead.first, ahead.row, rows, (pixels * x_step + per_line - 1) / per_line}, threes, bias, floor,
          {out.data + i * out.step, out.step, out.past_caches});
    }
  });
}

// What some taps gain in the channels of some vectors, pixel by pixel: their sums stay in registers meanwhile. Of taps
// in threes, which lie `three_step` apart, the first or the last pixel of a row may lack the first or the last ones.
template <class T, int taps, int vectors, bool in_threes, bool whole>
PYINIT_INLINE void add_vectors(int64_t c, int64_t channels, const PixelRows& rows, const int64_t* offsets,
                               int64_t three_step, T* const* to, const T* x, const T* y) {
  constexpr int L = kLanes<T>;
  const auto get = [&](const T* p) {
    if constexpr (whole) {
      return load(p);
    } else {
      return load_some<T>(p, channels - c);
    }
  };
  Vec<T> sums[taps][vectors];
#pragma GCC unroll 9
  for (int t = 0; t < taps; ++t) {
#pragma GCC unroll 4
    for (int v = 0; v < vectors; ++v) sums[t][v] = get(to[t] + c + v * L);
  }
  x += c, y += c;
  for (int64_t r = 0; r < rows.rows; ++r, x += rows.x_row, y += rows.y_row) {
    constexpr int step = in_threes ? 3 : 1;
    const T* from[taps / step];
#pragma GCC unroll 9
    for (int t = 0; t < taps / step; ++t) from[t] = x + offsets[t * step];
    const T* factor_at = y;
    // For the taps of each step from `first` to `end`.
    const auto add = [&]<int first, int end>() __attribute__((always_inline)) {
      Vec<T> factors[vectors];
#pragma GCC unroll 4
      for (int v = 0; v < vectors; ++v) factors[v] = get(factor_at + v * L);
#pragma GCC unroll 9
      for (int t = 0; t < taps; ++t) {
        if (t % step < first || t % step >= end) continue;
#pragma GCC unroll 4
        for (int v = 0; v < vectors; ++v) {
          sums[t][v] = multiply_add(factors[v], get(from[t / step] + t % step * three_step + v * L), sums[t][v]);
        }
      }
#pragma GCC unroll 9
      for (int t = 0; t < taps / step; ++t) from[t] += rows.x_step;
      factor_at += rows.y_step;
    };
    if (in_threes && rows.lacks_first) add.template operator()<1, step>();
    for (int64_t i = 0; i < rows.count; ++i) add.template operator()<0, step>();
    if (in_threes && rows.lacks_last) add.template operator()<0, in_threes ? step - 1 : step>();
  }
#pragma GCC unroll 9
  for (int t = 0; t < taps; ++t) {
#pragma GCC unroll 4
    for (int v = 0; v < vectors; ++v) {
      if constexpr (whole) {
        store(to[t] + c + v * L, sums[t][v]);
      } else {
        store_some<T>(to[t] + c, sums[t][v], channels - c);
      }
    }
  }
}

// It takes some eight sums at a time to keep a processor busy: of few taps, several vectors are taken together.
template <class T, int taps, bool in_threes>
PYINIT_INLINE void add_taps(int64_t channels, const PixelRows& rows, const int64_t* offsets, int64_t three_step,
                            T* const* to, const T* x, const T* y) {
  constexpr int L = kLanes<T>, vectors = taps == 1 ? 4 : kChannelTaps / taps;
  int64_t c = 0;
  for (; c + vectors * L <= channels; c += vectors * L) {
    add_vectors<T, taps, vectors, in_threes, true>(c, channels, rows, offsets, three_step, to, x, y);
  }
  for (; vectors > 1 && c + L <= channels; c += L) {
    add_vectors<T, taps, 1, in_threes, true>(c, channels, rows, offsets, three_step, to, x, y);
  }
  if (c < channels) add_vectors<T, taps, 1, in_threes, false>(c, channels, rows, offsets, three_step, to, x, y);
}

template <class T, int taps> struct AddProductsOfChannels {
  static void run(int64_t channels, const PixelRows& rows, const int64_t* offsets, T* const* to, const T* x,
                  const T* y) {
    add_taps<T, taps, false>(channels, rows, offsets, 0, to, x, y);
  }
};
template <class T, int threes> struct AddProductsInThrees {
  static void run(int64_t channels, const PixelRows& rows, const int64_t* offsets, T* const* to, const T* x,
                  const T* y) {
    add_taps<T, 3 * threes, true>(channels, rows, offsets, offsets[1] - offsets[0], to, x, y);
  }
};

template <class T>
void add_products_of_channels(int64_t channels, ChannelTaps<T> taps, const PixelRows& rows, const T* x, const T* y) {
  if (step_of_threes(taps) != 0 && taps.count <= kChannelTaps) {
    return kUpTo<AddProductsInThrees, T, kChannelTaps / 3>[taps.count / 3 - 1](channels, rows, taps.offsets, taps.rows,
                                                                               x, y);
  }
  for (int64_t t = 0, groups = (taps.count + kChannelTaps - 1) / kChannelTaps; groups > 0; --groups) {
    const int64_t some = (taps.count - t + groups - 1) / groups;
    kUpTo<AddProductsOfChannels, T, kChannelTaps>[some - 1](channels, rows, taps.offsets + t, taps.rows + t, x, y);
    t += some;
  }
}

template <class T> void take_sums(int64_t count, T* sums, double* totals) {
  for (int64_t i = 0; i < count; ++i) totals[i] += static_cast<double>(sums[i]), sums[i] = 0;
}

template <class T>
constexpr DepthwiseKernels<T> kKernels = {copy<T>,         turn<T>,
                                          weave<T>,        correlate<T>,
                                          add_products<T>, correlate_channels<T>,
                                          stream_fence,    add_products_of_channels<T>,
                                          take_sums<T>};

}  // namespace

const AllDepthwiseKernels all_depthwise_kernels = {kKernels<float>, kKernels<double>};

}  // namespace pyinit::PYINIT_NS
