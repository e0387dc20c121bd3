// Winograd's transforms. Compiled once per instruction set.
//
// With g a filter and d a tile's inputs, the outputs are A'((G g G') * (B' d B))A, where * multiplies point by point,
//      1  0  0  0          1    0    0           1  0
//  B = 0  1 -1  1      G = 1/2  1/2  1/2     A = 1  1
//     -1  1  1  0          1/2 -1/2  1/2         1 -1
//      0  0  0 -1          0    0    1           0 -1
#include "conv/winograd_kernels.hpp"

#include <utility>  // integer_sequence: types only

#include "linalg/tile.hpp"

namespace pyinit::PYINIT_NS {
namespace {

constexpr int L = kLanes<float>;

// Three weights along a line become four points.
PYINIT_INLINE void weight_points(F32 a, F32 b, F32 c, F32 (&to)[4]) {
  const F32 half = vec(0.5F), outer = a + c;
  to[0] = a;
  to[1] = half * (outer + b);
  to[2] = half * (outer - b);
  to[3] = c;
}

PYINIT_INLINE void input_points(F32 a, F32 b, F32 c, F32 d, F32 (&to)[4]) {
  to[0] = a - c;
  to[1] = b + c;
  to[2] = c - b;
  to[3] = b - d;
}

PYINIT_INLINE void outputs_of(F32 a, F32 b, F32 c, F32 d, F32 (&to)[2]) {
  to[0] = a + b + c;
  to[1] = b - c - d;
}

void transform_weights(int64_t channels, const float* taps, int64_t tap, int64_t channel, float* points,
                       int64_t point) {
  for (int64_t c = 0; c < channels; ++c, taps += channel, points += kPanel<float>) {
#pragma GCC unroll 2
    for (int j = 0; j < kPanel<float>; j += L) {
      F32 columns[3][4];  // of the filter, each with its points down
#pragma GCC unroll 3
      for (int w = 0; w < 3; ++w) {
        const auto at = [&](int h) { return load(taps + (3 * h + w) * tap + j); };
        weight_points(at(0), at(1), at(2), columns[w]);
      }
#pragma GCC unroll 4
      for (int h = 0; h < 4; ++h) {
        F32 across[4];
        weight_points(columns[0][h], columns[1][h], columns[2][h], across);
#pragma GCC unroll 4
        for (int w = 0; w < 4; ++w) store(points + (4 * h + w) * point + j, across[w]);
      }
    }
  }
}

PYINIT_INLINE void load_column(const float* x, int64_t row, F32 (&to)[4]) {
  input_points(load(x), load(x + row), load(x + 2 * row), load(x + 3 * row), to);
}

void transform_inputs(TileRow size, const float* x, int64_t row, int64_t pixel, float* points, int64_t point,
                      int64_t tile) {
  for (int64_t c = 0; c < size.channels; c += L) {
    const float* from = x + c;
    float* to = points + c;
    F32 columns[4][4];  // of a tile, each with its points down; the last two are the next tile's first
    load_column(from, row, columns[0]);
    load_column(from + pixel, row, columns[1]);
    for (int64_t t = 0; t < size.tiles; ++t, to += tile) {
      from += 2 * pixel;
      load_column(from, row, columns[2]);
      load_column(from + pixel, row, columns[3]);
#pragma GCC unroll 4
      for (int h = 0; h < 4; ++h) {
        F32 across[4];
        input_points(columns[0][h], columns[1][h], columns[2][h], columns[3][h], across);
#pragma GCC unroll 4
        for (int w = 0; w < 4; ++w) store(to + (4 * h + w) * point, across[w]);
        columns[0][h] = columns[2][h];
        columns[1][h] = columns[3][h];
      }
    }
  }
}

void transform_outputs(TileRow size, int64_t rows, int64_t width, const float* points, int64_t point, int64_t tile,
                       float* out, int64_t row, int64_t pixel) {
  for (int64_t c = 0; c < size.channels; c += L) {
    const float* from = points + c;
    float* to = out + c;
    for (int64_t t = 0; t < size.tiles; ++t, from += tile, to += 2 * pixel) {
      F32 columns[4][2];
#pragma GCC unroll 4
      for (int w = 0; w < 4; ++w) {
        const auto at = [&](int h) { return load(from + (4 * h + w) * point); };
        outputs_of(at(0), at(1), at(2), at(3), columns[w]);
      }
      const bool has_second = 2 * t + 1 < width;
#pragma GCC unroll 2
      for (int h = 0; h < 2; ++h) {
        if (h >= rows) break;
        F32 across[2];
        outputs_of(columns[0][h], columns[1][h], columns[2][h], columns[3][h], across);
        store(to + h * row, across[0]);
        if (has_second) store(to + h * row + pixel, across[1]);
      }
    }
  }
}

// The transposed of outputs_of, but for the last point's sign.
PYINIT_INLINE void gradient_points(F32 a, F32 b, F32 (&to)[4]) {
  to[0] = a;
  to[1] = a + b;
  to[2] = a - b;
  to[3] = b;
}

// The transposed of weight_points, with that sign.
PYINIT_INLINE void weights_of(F32 a, F32 b, F32 c, F32 d, F32 (&to)[3]) {
  const F32 half = vec(0.5F), inner = half * (b + c);
  to[0] = a + inner;
  to[1] = half * (b - c);
  to[2] = inner - d;
}

void transform_gradients(TileRow size, const float* y, int64_t row, int64_t pixel, float* points, int64_t point,
                         int64_t tile) {
  for (int64_t c = 0; c < size.channels; c += L) {
    const float* from = y + c;
    float* to = points + c;
    for (int64_t t = 0; t < size.tiles; ++t, from += 2 * pixel, to += tile) {
      F32 columns[2][4];
      gradient_points(load(from), load(from + row), columns[0]);
      gradient_points(load(from + pixel), load(from + pixel + row), columns[1]);
#pragma GCC unroll 4
      for (int h = 0; h < 4; ++h) {
        F32 across[4];
        gradient_points(columns[0][h], columns[1][h], across);
#pragma GCC unroll 4
        for (int w = 0; w < 4; ++w) store(to + (4 * h + w) * point, across[w]);
      }
    }
  }
}

void transform_sums(int64_t channels, const float* points, int64_t point, int64_t parts, int64_t parts_apart,
                    float* taps) {
  for (int64_t c = 0; c < channels; ++c, points += kPanel<float>, taps += 9 * kPanel<float>) {
#pragma GCC unroll 4
    for (int j = 0; j < kPanel<float>; j += L) {
      F32 columns[4][3];  // of the points, each with its weights down
#pragma GCC unroll 4
      for (int w = 0; w < 4; ++w) {
        const auto at = [&](int h) {
          const float* from = points + (4 * h + w) * point + j;
          F32 sum = load(from);
          for (int64_t part = 1; part < parts; ++part) sum = sum + load(from + part * parts_apart);
          return sum;
        };
        weights_of(at(0), at(1), at(2), at(3), columns[w]);
      }
#pragma GCC unroll 3
      for (int h = 0; h < 3; ++h) {
        F32 across[3];
        weights_of(columns[0][h], columns[1][h], columns[2][h], columns[3][h], across);
#pragma GCC unroll 3
        for (int w = 0; w < 3; ++w) store(taps + (3 * h + w) * kPanel<float> + j, across[w]);
      }
    }
  }
}

// One vector wide: more rows, since it takes eight sums or so at a time to keep a processor busy.
constexpr int kTallRows = kRows < 12 ? 12 : kRows;

template <int rows, bool add>
void multiply_vector_tile(int64_t k, Factor<float> a, const float* b, float* c, int64_t c_row) {
  using Sums = Tile<float, rows, 1>;
  Sums t;
  Sums::clear(t);
  Sums::template accumulate<false>(t, k, a, b, kPanel<float>);
  if constexpr (add) {
    Sums::add_to(t, c, c_row);
  } else {
    Sums::store_to(t, c, c_row);
  }
}

template <bool add, class Rows> struct VectorTiles;
template <bool add, int... i> struct VectorTiles<add, std::integer_sequence<int, i...>> {
  static constexpr void (*multiply[])(int64_t, Factor<float>, const float*, float*,
                                      int64_t) = {multiply_vector_tile<i + 1, add>...};
};

template <bool add>
void multiply_vector(int64_t m, int64_t k, Factor<float> a, const float* b, float* c, int64_t c_row) {
  using Tiles = VectorTiles<add, std::make_integer_sequence<int, kTallRows>>;
  for_equal_parts<kTallRows>(m, [&](int64_t rows) {
    Tiles::multiply[rows - 1](k, a, b, c, c_row);
    a.data += rows * a.row;
    c += rows * c_row;
  });
}

}  // namespace

const WinogradKernels winograd_kernels = {transform_weights,
                                          transform_inputs,
                                          transform_outputs,
                                          transform_gradients,
                                          transform_sums,
                                          {multiply_vector<false>, multiply_vector<true>},
                                          L};

}  // namespace pyinit::PYINIT_NS
