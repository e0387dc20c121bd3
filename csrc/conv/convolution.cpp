#include "conv/convolution.hpp"

#include <algorithm>
#include <cstddef>
#include <optional>

#include "conv/correlation.hpp"
#include "conv/depthwise.hpp"
#include "conv/finish.hpp"
#include "core/integers.hpp"
#include "core/view.hpp"

namespace pyinit {
namespace {

constexpr int64_t kManyPixels = 2048, kFewWeightsBytes = int64_t{4} << 20;

// All of it, where there is nothing to sum.
template <class T> void fill_empty(const Images<T>& output, const Epilogue<T>& epilogue) {
  for (int64_t n = 0; n < output.batch; ++n) {
    for (int64_t c = 0; c < output.channels; ++c) {
      T* const plane = output.data + n * output.batch_stride + c * output.channel_stride;
      for (int64_t d = 0; d < output.size[0]; ++d) {
        for (int64_t h = 0; h < output.size[1]; ++h) {
          T* const row = plane + d * output.strides[0] + h * output.strides[1];
          for (int64_t w = 0; w < output.size[2]; ++w) row[w * output.strides[2]] = 0;
        }
      }
    }
  }
  finish(epilogue, output, {0, output.batch, {0, 0, 0}, output.size}, 0, output.channels);
}

template <class T> void prefer_huge_pages(const Images<T>& out) {
  View view;
  view.data = reinterpret_cast<char*>(out.data);
  view.dtype = sizeof(T) == 8 ? DType::f64 : DType::f32;
  view.dims = {{out.batch, out.batch_stride, 0}, {out.channels, out.channel_stride, 0}};
  for (size_t i = 0; i < kSpatial; ++i) view.dims.push_back({out.size[i], out.strides[i], 0});
  pyinit::prefer_huge_pages(view);
}

// Distances along each dimension, summed for all taps.
std::vector<int64_t> sums_of(const Taps& lines) {
  std::vector<int64_t> all;
  for (const int64_t d : lines[0]) {
    for (const int64_t h : lines[1]) {
      for (const int64_t w : lines[2]) all.push_back(d + h + w);
    }
  }
  return all;
}

}  // namespace

template <class T>
void convolve(const Window& window, const Images<const T>& input, const Images<const T>& weight,
              const Epilogue<T>& epilogue, const Images<T>& output, int threads, const PackedWeights<T>* packed) {
  if (output.batch * output.channels * output.pixels() == 0) return;
  if (weight.channels * weight.pixels() == 0) return fill_empty(output, epilogue);
  prefer_huge_pages(output);
  if (is_depthwise(window, weight)) return convolve_depthwise(window, input, weight, epilogue, output, threads);
  Taps taps, weights;
  for (size_t i = 0; i < kSpatial; ++i) {
    for (int64_t t = 0; t < weight.size[i]; ++t) {
      taps[i].push_back(t * window.dilation[i] - window.padding[i]);
      weights[i].push_back(t * weight.strides[i]);
    }
  }
  const int64_t group = output.channels / window.groups * weight.batch_stride;
  Correlation<T> all = {window.groups,
                        window.stride,
                        input,
                        weight.data,
                        group,
                        weight.batch_stride,
                        weight.channel_stride,
                        {{taps, sums_of(weights), output}},
                        kChainProducts,
                        packed};
  if (goes_by_channels(all)) all.products = kChannelsChainProducts;
  // Weights that are small beside what threads need anyway are packed once, if many blocks of pixels take them.
  std::optional<PackedWeights<T>> once;
  if (packed == nullptr && goes_by_channels(all) && output.batch * output.pixels() >= kManyPixels &&
      output.channels * weight.channels * weight.pixels() * int64_t{sizeof(T)} <= kFewWeightsBytes) {
    all.packed = &once.emplace(weight, window.groups, threads);
  }
  correlate(all, epilogue, threads);
}

// Output pixels of the same remainder by the stride take inputs side by side, through every stride-th tap.
template <class T>
void convolve_transposed(const Window& window, const Images<const T>& input, const Images<const T>& weight,
                         const Epilogue<T>& epilogue, const Images<T>& output, int threads) {
  if (output.batch * output.channels * output.pixels() == 0) return;
  if (input.channels * input.pixels() * weight.pixels() == 0) return fill_empty(output, epilogue);
  prefer_huge_pages(output);
  if (is_depthwise(window, weight)) {
    return convolve_depthwise_transposed(window, input, weight, epilogue, output, threads);
  }
  const int64_t group = input.channels / window.groups * weight.batch_stride;
  Correlation<T> all = {window.groups,         {1, 1, 1},           input, weight.data,   group,
                        weight.channel_stride, weight.batch_stride, {},    kChainProducts};
  const Extents& stride = window.stride;
  for (int64_t phase = 0; phase < stride[0] * stride[1] * stride[2]; ++phase) {
    const Extents remainder = {phase / stride[2] / stride[1], phase / stride[2] % stride[1], phase % stride[2]};
    Taps taps, weights;
    Images<T> pixels = output;
    for (size_t i = 0; i < kSpatial; ++i) {
      for (int64_t t = weight.size[i]; t-- > 0;) {
        const int64_t place = remainder[i] + window.padding[i] - t * window.dilation[i];
        if (place % stride[i] != 0) continue;
        taps[i].push_back(place / stride[i]);
        weights[i].push_back(t * weight.strides[i]);
      }
      pixels.data += remainder[i] * output.strides[i];
      pixels.strides[i] *= stride[i];
      pixels.size[i] = divide_up(std::max<int64_t>(output.size[i] - remainder[i], 0), stride[i]);
    }
    if (pixels.pixels() > 0) all.phases.push_back({taps, sums_of(weights), pixels});
  }
  if (all.most_taps() == 0) return fill_empty(output, epilogue);
  correlate(all, epilogue, threads);
}

#define PYINIT_INSTANTIATE(T)                                                                                  \
  template void convolve<T>(const Window&, const Images<const T>&, const Images<const T>&, const Epilogue<T>&, \
                            const Images<T>&, int, const PackedWeights<T>*);                                   \
  template void convolve_transposed<T>(const Window&, const Images<const T>&, const Images<const T>&,          \
                                       const Epilogue<T>&, const Images<T>&, int);
PYINIT_INSTANTIATE(float)
PYINIT_INSTANTIATE(double)

}  // namespace pyinit
