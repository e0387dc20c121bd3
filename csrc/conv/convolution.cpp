#include "conv/convolution.hpp"

#include <algorithm>
#include <cstddef>
#include <map>
#include <type_traits>
#include <utility>
#include <vector>

#include "conv/correlation.hpp"
#include "conv/depthwise.hpp"
#include "conv/finish.hpp"
#include "conv/trim.hpp"
#include "conv/winograd.hpp"
#include "core/integers.hpp"
#include "core/parallel.hpp"
#include "core/view.hpp"

namespace pyinit {
namespace {

constexpr int64_t kGrain = int64_t{1} << 16;  // outputs without sums that a thread is worth
// Phases that are computed together: at most so many, and of no more taps in all than so many times those of one.
constexpr size_t kPhases = 1024;
constexpr int64_t kTaps = 16;

// All of it, as where there is nothing to sum.
template <class T> void fill_empty(const Images<T>& output, const Epilogue<T>& epilogue, int threads) {
  const bool by_rows = output.channel_stride == 1;  // else by planes
  const int64_t channels = by_rows ? output.channels : 1, parts = output.channels / channels;
  const int64_t rows = by_rows ? output.size[0] * output.size[1] : 1;
  const int64_t work = output.batch * output.channels * output.pixels();
  const auto block = [&](int64_t n, int64_t row) -> Block {
    if (!by_rows) return {n, 1, {0, 0, 0}, output.size};
    return {n, 1, {row / output.size[1], row % output.size[1], 0}, {1, 1, output.size[2]}};
  };
  parallel_ranges(usable_threads(threads, work, kGrain), output.batch * rows * parts, 1,
                  [&](int64_t begin, int64_t end) {
                    for (int64_t i = begin; i < end; ++i) {
                      const Block some = block(i / (rows * parts), i / parts % rows);
                      set_zero(output, some, i % parts * channels, channels);
                      finish(epilogue, output, some, i % parts * channels, channels);
                    }
                  });
}

template <class T>
Correlation<T> correlation_of(const Window& window, const Images<const T>& input, const Images<const T>& weight,
                              const Images<T>& output) {
  const int64_t group = output.channels / window.groups * weight.batch_stride;
  Correlation<T> all = {window.groups,
                        window.stride,
                        input,
                        weight.data,
                        group,
                        weight.batch_stride,
                        weight.channel_stride,
                        {{reach_of(window, weight.size).taps, tap_offsets(weight), output}},
                        kChainProducts};
  if (output.channel_stride == 1 && goes_by_channels(all)) all.products = kChannelsChainProducts;
  return all;
}

template <class T> Packing reads(const Correlation<T>& correlation) {
  if constexpr (std::is_same_v<T, float>) {
    if (goes_by_winograd(correlation)) return Packing::points;
  }
  const bool is_channels_last = correlation.phases[0].output.channel_stride == 1;
  return is_channels_last && goes_by_channels(correlation) ? Packing::panels : Packing::none;
}

// What output pixels of one remainder by the stride take along a dimension: the places of inputs, and taps of the
// kernel.
struct AxisPhase {
  std::vector<int64_t> taps, of_kernel;
};

// Those of remainders that have both taps and pixels.
std::map<int64_t, AxisPhase> axis_phases(int64_t stride, int64_t padding, int64_t dilation, int64_t kernel,
                                         int64_t pixels) {
  std::map<int64_t, AxisPhase> phases;
  const auto few = static_cast<size_t>(divide_up(kernel, stride));
  for (int64_t t = kernel; t-- > 0;) {
    const int64_t at = t * dilation - padding, remainder = (at % stride + stride) % stride;
    if (remainder >= pixels) continue;
    AxisPhase& phase = phases[remainder];
    if (phase.taps.empty()) phase.taps.reserve(few), phase.of_kernel.reserve(few);
    phase.taps.push_back((remainder - at) / stride);
    phase.of_kernel.push_back(t);
  }
  return phases;
}

// All phases together, unless tables or the strip of what they take would become too large.
template <class T> void correlate_phases(Correlation<T>& all, const Epilogue<T>& epilogue, int threads) {
  const size_t phases = all.phases.size();
  if (phases == 1 || (phases <= kPhases && count(all.reach().taps) <= kTaps * all.most_taps())) {
    return correlate(all, epilogue, threads);
  }
  std::vector<Phase<T>> second(all.phases.begin() + static_cast<std::ptrdiff_t>(phases / 2), all.phases.end());
  all.phases.resize(phases / 2);
  correlate_phases(all, epilogue, threads);
  all.phases = std::move(second);
  correlate_phases(all, epilogue, threads);
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
void convolve(const Window& whole, const Images<const T>& input, const Images<const T>& filters,
              const Epilogue<T>& epilogue, const Images<T>& output, int threads, const Packed<T>& packed) {
  if (output.batch * output.channels * output.pixels() == 0) return;
  const auto [window, weight] = trim(whole, input.size, filters, output.size);
  if (weight.channels * weight.pixels() == 0) return fill_empty(output, epilogue, threads);
  prefer_huge_pages(output);
  if (is_depthwise(window, weight)) return convolve_depthwise(window, input, weight, epilogue, output, threads);
  Correlation<T> all = correlation_of(window, input, weight, output);
  all.packed = packed.panels;
  all.points = packed.points;
  correlate(all, epilogue, threads);
}

template <class T>
Packing packing_of(const Window& whole, const Images<const T>& input, const Images<const T>& filters,
                   const Images<T>& output) {
  const auto [window, weight] = trim(whole, input.size, filters, output.size);
  if (weight.pixels() < filters.pixels() || is_depthwise(window, weight)) return Packing::none;
  return reads(correlation_of(window, input, weight, output));
}

// Output pixels of the same remainder by the stride take inputs side by side, through every stride-th tap.
template <class T>
void convolve_transposed(const Window& whole, const Images<const T>& input, const Images<const T>& filters,
                         const Epilogue<T>& epilogue, const Images<T>& output, int threads) {
  if (output.batch * output.channels * output.pixels() == 0) return;
  const auto [window, weight] = trim(whole, output.size, filters, input.size);
  if (input.channels * input.pixels() * weight.pixels() == 0) return fill_empty(output, epilogue, threads);
  prefer_huge_pages(output);
  if (is_depthwise(window, weight)) {
    return convolve_depthwise_transposed(window, input, weight, epilogue, output, threads);
  }
  const int64_t group = input.channels / window.groups * weight.batch_stride;
  Correlation<T> all = {window.groups,         {1, 1, 1},           input, weight.data,   group,
                        weight.channel_stride, weight.batch_stride, {},    kChainProducts};
  std::array<std::map<int64_t, AxisPhase>, kSpatial> axes;
  for (size_t i = 0; i < kSpatial; ++i) {
    axes[i] = axis_phases(window.stride[i], window.padding[i], window.dilation[i], weight.size[i], output.size[i]);
  }
  int64_t left = output.pixels();  // that no phase has
  for (const auto& [d, depth] : axes[0]) {
    for (const auto& [h, row] : axes[1]) {
      for (const auto& [w, pixel] : axes[2]) {
        const Extents remainder = {d, h, w};
        Images<T> pixels = output;
        for (size_t i = 0; i < kSpatial; ++i) {
          pixels.data += remainder[i] * output.strides[i];
          pixels.strides[i] *= window.stride[i];
          pixels.size[i] = divide_up(output.size[i] - remainder[i], window.stride[i]);
        }
        left -= pixels.pixels();
        const Taps of_kernel = {depth.of_kernel, row.of_kernel, pixel.of_kernel};
        all.phases.push_back({{depth.taps, row.taps, pixel.taps}, tap_offsets(of_kernel, weight), pixels});
      }
    }
  }
  if (left > 0) fill_empty(output, epilogue, threads);
  if (!all.phases.empty()) correlate_phases(all, epilogue, threads);
}

#define PYINIT_INSTANTIATE(T)                                                                                      \
  template void convolve<T>(const Window&, const Images<const T>&, const Images<const T>&, const Epilogue<T>&,     \
                            const Images<T>&, int, const Packed<T>&);                                              \
  template Packing packing_of<T>(const Window&, const Images<const T>&, const Images<const T>&, const Images<T>&); \
  template void convolve_transposed<T>(const Window&, const Images<const T>&, const Images<const T>&,              \
                                       const Epilogue<T>&, const Images<T>&, int);
PYINIT_INSTANTIATE(float)
PYINIT_INSTANTIATE(double)

}  // namespace pyinit
