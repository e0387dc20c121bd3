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
  set_zero(output);
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

}  // namespace

template <class T>
void convolve(const Window& window, const Images<const T>& input, const Images<const T>& weight,
              const Epilogue<T>& epilogue, const Images<T>& output, int threads, const PackedWeights<T>* packed) {
  if (output.batch * output.channels * output.pixels() == 0) return;
  if (weight.channels * weight.pixels() == 0) return fill_empty(output, epilogue);
  prefer_huge_pages(output);
  if (is_depthwise(window, weight)) return convolve_depthwise(window, input, weight, epilogue, output, threads);
  const int64_t group = output.channels / window.groups * weight.batch_stride;
  Correlation<T> all = {window.groups,
                        window.stride,
                        input,
                        weight.data,
                        group,
                        weight.batch_stride,
                        weight.channel_stride,
                        {{reach_of(window, weight.size).taps, tap_offsets(weight), output}},
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
    Taps taps, of_kernel;
    Images<T> pixels = output;
    for (size_t i = 0; i < kSpatial; ++i) {
      for (int64_t t = weight.size[i]; t-- > 0;) {
        const int64_t place = remainder[i] + window.padding[i] - t * window.dilation[i];
        if (place % stride[i] != 0) continue;
        taps[i].push_back(place / stride[i]);
        of_kernel[i].push_back(t);
      }
      pixels.data += remainder[i] * output.strides[i];
      pixels.strides[i] *= stride[i];
      pixels.size[i] = divide_up(std::max<int64_t>(output.size[i] - remainder[i], 0), stride[i]);
    }
    if (pixels.pixels() > 0) all.phases.push_back({taps, tap_offsets(of_kernel, weight), pixels});
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
