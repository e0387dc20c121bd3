// The vector kernels of convolutions that have one input channel a group. There are two families: on planes, where
// a row's pixels lie side by side, and on channels, where those of a pixel do.
#pragma once

#include <cstdint>
#include <type_traits>

#include "conv/gradient_kernels.hpp"
#include "core/isa.hpp"

namespace pyinit {

// What reaches an output: elements at these distances from its place in the source, each with its weight; and the bias,
// which may be null. Those of the next plane are a step further.
template <class T> struct PlaneTaps {
  int64_t count;
  const int64_t* offsets;
  const T* weights;
  int64_t weights_step;
  const T* bias;
  int64_t bias_step;
};

// The same for all channels of a pixel: weights[i], or sums[i], is a row of one for each channel.
template <class T> struct ChannelTaps {
  int64_t count;
  const int64_t* offsets;
  T* const* rows;
};

// Planes of elements that lie at equal distances.
template <class T> struct Grid {
  T* data;
  int64_t plane, row, column;
};

// Where pixels of channels go. They go past the caches only if all of them begin at multiples of 64 bytes; fence() then
// makes them visible to other threads.
template <class T> struct Pixels {
  T* data;
  int64_t step;
  bool past_caches;
};

// Rows that are about to be read: the first one's distance, and how many.
struct Ahead {
  int64_t first, row, rows;
};

// Rows of pixels of two images. Taps in threes are up to three times three at equal distances; before the `count`
// pixels of a row that take them all there may be one that lacks the first of each three, and behind them one that
// lacks the last.
struct PixelRows {
  int64_t rows, count;
  bool lacks_first, lacks_last;
  int64_t x_row, x_step, y_row, y_step;
};

constexpr int64_t kSlack = 16;

template <class T> struct DepthwiseKernels {
  void (*copy)(int64_t planes, int64_t rows, int64_t columns, const Grid<const T>& x, const Grid<T>& out);

  // Pixels of planes that are `plane` apart become pixels of channels: pixel i goes to out[places[i]].
  void (*turn)(int64_t planes, int64_t pixels, const T* x, int64_t plane, const int64_t* places, T* out);

  // The first `columns` of even's and odd's elements in turn. Columns of all lie side by side.
  void (*weave)(int64_t planes, int64_t rows, int64_t columns, const Grid<const T>& even, const Grid<const T>& odd,
                const Grid<T>& out);

  // Sums over the taps, from the bias on, none below `floor`. Columns of x and out lie side by side; up to kSlack
  // elements behind a row of x are read.
  void (*correlate)(int64_t planes, int64_t rows, int64_t columns, const PlaneTaps<T>& taps, const Grid<const T>& x,
                    T floor, const Grid<T>& out);

  // Each tap's kSumLanes sums, in turn, += x[offsets[i] + j] y[j] for j < count, which is a multiple of kSlack. Planes
  // are `step` apart.
  void (*add_products)(int64_t planes, int64_t count, int64_t taps, const int64_t* offsets, const T* x, int64_t x_step,
                       const T* y, int64_t y_step, T* sums, int64_t sums_step);

  // `count` pixels of `channels` channels side by side. The bias may be null. Meanwhile the same columns of `ahead`'s
  // rows are fetched, which the next pixels will take.
  void (*correlate_channels)(int64_t count, int64_t channels, ChannelTaps<const T> taps, const T* x, int64_t x_step,
                             Ahead ahead, const T* bias, T floor, const Pixels<T>& out);
  void (*fence)();

  // Each tap's row += x y, pixel by pixel. There is at least one tap. Only of taps in threes pixels may lack some.
  void (*add_products_of_channels)(int64_t channels, ChannelTaps<T> taps, const PixelRows& rows, const T* x,
                                   const T* y);

  // totals[i] += sums[i], which are set to 0.
  void (*take_sums)(int64_t count, T* sums, double* totals);
};

struct AllDepthwiseKernels {
  DepthwiseKernels<float> f32;
  DepthwiseKernels<double> f64;
};

PYINIT_KERNEL_TABLE(AllDepthwiseKernels, all_depthwise_kernels)

template <class T> const DepthwiseKernels<T>& depthwise_kernels() {
  if constexpr (std::is_same_v<T, float>) {
    return all_depthwise_kernels().f32;
  } else {
    return all_depthwise_kernels().f64;
  }
}

}  // namespace pyinit
