#include "conv/trim.hpp"

#include <algorithm>

#include "core/integers.hpp"

namespace pyinit {

template <class T>
Trimmed<T> trim(const Window& window, const Extents& image, const Images<T>& weight, const Extents& result) {
  Trimmed<T> all{window, weight};
  for (size_t i = 0; i < kSpatial; ++i) {
    const int64_t dilation = window.dilation[i], padding = window.padding[i];
    // Tap t passes over [t dilation - padding, t dilation - padding + passed].
    const int64_t passed = (result[i] - 1) * window.stride[i];
    // One that is beside it may stay the first, so that padding stays one.
    const int64_t before = std::min(divide_up(std::max<int64_t>(padding - passed, 0), dilation), padding / dilation);
    const int64_t first = std::min(before, weight.size[i]);
    const int64_t end = std::clamp(divide_up(image[i] + padding, dilation), first, weight.size[i]);
    all.window.padding[i] -= first * dilation;
    all.weight.data += first * weight.strides[i];
    all.weight.size[i] = end - first;
  }
  return all;
}

template Trimmed<const float> trim(const Window&, const Extents&, const Images<const float>&, const Extents&);
template Trimmed<const double> trim(const Window&, const Extents&, const Images<const double>&, const Extents&);
template Trimmed<float> trim(const Window&, const Extents&, const Images<float>&, const Extents&);
template Trimmed<double> trim(const Window&, const Extents&, const Images<double>&, const Extents&);

}  // namespace pyinit
