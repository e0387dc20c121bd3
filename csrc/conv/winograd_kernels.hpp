// The vector kernels of Winograd's minimal filtering F(2x2, 3x3): a tile of 2 x 2 outputs takes 4 x 4 inputs, which
// are transformed into 16 points, as the weights are; the products of each point are summed over channels, and the
// sums of a tile's points transformed back. All vectors are channels side by side.
#pragma once

#include <cstdint>

#include "core/isa.hpp"
#include "linalg/kernels.hpp"

namespace pyinit {

constexpr int kPoints = 16;  // of a tile, row after row

// A row of tiles side by side.
struct TileRow {
  int64_t tiles, channels;
};

struct WinogradKernels {
  // Point p of weight j of channel i, of a panel's, at points + p * point + i * panel + j, from tap t at
  // taps + t * tap + i * channel + j.
  void (*transform_weights)(int64_t channels, const float* taps, int64_t tap, int64_t channel, float* points,
                            int64_t point);

  // Point p of tile t at points + p * point + t * tile, from pixels at a distance of `row` and `pixel`. As many
  // channels as make whole vectors are read and written.
  void (*transform_inputs)(TileRow size, const float* x, int64_t row, int64_t pixel, float* points, int64_t point,
                           int64_t tile);

  // `rows` x `width` outputs of a row of tiles, from point p of tile t at points + p * point + t * tile. The channels
  // make whole vectors.
  void (*transform_outputs)(TileRow size, int64_t rows, int64_t width, const float* points, int64_t point, int64_t tile,
                            float* out, int64_t row, int64_t pixel);

  // Point p of tile t of 2 x 2 pixels of an output's gradient at points + p * point + t * tile, each times -1 for its
  // row and for its column if these are the last. Channels as in transform_inputs.
  void (*transform_gradients)(TileRow size, const float* y, int64_t row, int64_t pixel, float* points, int64_t point,
                              int64_t tile);

  // Tap t of weight j of channel i, of a panel's, at taps + (9 * i + t) * panel + j, from the sums over parts of point
  // p, with those signs, at points + part * parts_apart + p * point + i * panel + j.
  void (*transform_sums)(int64_t channels, const float* points, int64_t point, int64_t parts, int64_t parts_apart,
                         float* taps);

  // C, or C +=, AB for m rows of C at a distance, and one vector of B's k rows of a panel.
  void (*multiply_vector[2])(int64_t m, int64_t k, Factor<float> a, const float* b, float* c, int64_t c_row);
  int vector;  // its elements
};

PYINIT_KERNEL_TABLE(WinogradKernels, winograd_kernels)

}  // namespace pyinit
