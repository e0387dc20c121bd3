// Depthwise convolutions of a few small planes, for which a plan would take longer than the sums: the same kernels in
// the same order as plane by plane.
#include <algorithm>
#include <array>
#include <cstddef>

#include "conv/depthwise_kernels.hpp"
#include "conv/depthwise_routes.hpp"
#include "conv/finish.hpp"

namespace pyinit {
namespace {

constexpr int64_t kPlanes = 8, kElements = 512, kTaps = 32;  // at most: planes, and the elements and taps of one

// How far the last tap is from the first one along a dimension.
int64_t reach(const Window& window, const Extents& kernel, size_t i) { return (kernel[i] - 1) * window.dilation[i]; }

}  // namespace

template <class T>
bool are_few(const Window& window, bool transposed, const Images<const T>& weight, const Images<T>& out) {
  const auto fits = [&](size_t i) {
    return window.stride[i] == 1 && (!transposed || window.padding[i] <= reach(window, weight.size, i));
  };
  return out.size[0] == 1 && weight.size[0] == 1 && window.padding[0] == 0 && weight.batch == window.groups &&
         out.batch * window.groups <= kPlanes && out.strides[2] == 1 && weight.pixels() <= kTaps && fits(0) &&
         fits(1) && fits(2) && out.size[1] <= kElements && out.size[2] <= kElements &&
         (out.size[1] + reach(window, weight.size, 1)) * (out.size[2] + reach(window, weight.size, 2)) <= kElements;
}

template <class T>
void depthwise_few(const Window& window, bool transposed, const Images<const T>& source, const Images<const T>& weight,
                   const Epilogue<T>& epilogue, const Images<T>& out) {
  const int64_t taps = weight.pixels(), rows = out.size[1], columns = out.size[2];
  Extents whole{}, first{},
      size{};  // of the copy, with zeros around; where the image begins in it; how much of it fits
  for (size_t i = 1; i < kSpatial; ++i) {
    const int64_t more = reach(window, weight.size, i);
    whole[i] = out.size[i] + more;
    first[i] = std::min(transposed ? more - window.padding[i] : window.padding[i], whole[i]);
    size[i] = std::min(source.size[i], whole[i] - first[i]);
  }
  std::array<int64_t, kTaps> offsets;
  std::array<T, kTaps> weights;
  for (int64_t t = 0; t < taps; ++t) {
    const int64_t h = t / weight.size[2] * window.dilation[1], w = t % weight.size[2] * window.dilation[2];
    const int64_t at = h * whole[2] + w;
    offsets[static_cast<size_t>(t)] =
        transposed ? reach(window, weight.size, 1) * whole[2] + reach(window, weight.size, 2) - at : at;
  }
  std::array<T, kElements + kSlack> copy;
  std::fill_n(copy.data(), whole[1] * whole[2] + kSlack, T{0});
  const auto& kernels = depthwise_kernels<T>();
  for (int64_t plane = 0; plane < out.batch * window.groups; ++plane) {
    const int64_t n = plane / window.groups, c = plane % window.groups;
    const T* const filter = weight.data + c * weight.batch_stride;
    for (int64_t t = 0; t < taps; ++t) {
      weights[static_cast<size_t>(t)] =
          filter[t / weight.size[2] * weight.strides[1] + t % weight.size[2] * weight.strides[2]];
    }
    if (size[1] > 0 && size[2] > 0) {
      kernels.copy(1, size[1], size[2], {source.at(n, c, {0, 0, 0}), 0, source.strides[1], source.strides[2]},
                   {copy.data() + first[1] * whole[2] + first[2], 0, whole[2], 1});
    }
    kernels.correlate(
        1, rows, columns,
        {taps, offsets.data(), weights.data(), 0, epilogue.bias == nullptr ? nullptr : epilogue.bias + c, 0},
        {copy.data(), 0, whole[2], 1}, lowest(epilogue),
        {out.data + n * out.batch_stride + c * out.channel_stride, 0, out.strides[1], 1});
  }
  finish(rest(epilogue), out, {0, out.batch, {0, 0, 0}, out.size}, 0, out.channels);
}

#define PYINIT_INSTANTIATE(T)                                                                         \
  template bool are_few<T>(const Window&, bool, const Images<const T>&, const Images<T>&);            \
  template void depthwise_few<T>(const Window&, bool, const Images<const T>&, const Images<const T>&, \
                                 const Epilogue<T>&, const Images<T>&);
PYINIT_INSTANTIATE(float)
PYINIT_INSTANTIATE(double)
#undef PYINIT_INSTANTIATE

}  // namespace pyinit
