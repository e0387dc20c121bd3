// One element of a convolution's gradient by its weight, where sums over lanes have met something that is no number.
#pragma once

#include <cmath>

#include "conv/convolution.hpp"

namespace pyinit {

// What one tap of a filter gets, pixel by pixel, until that is no number.
template <class T>
double sum_pixels(const Window& window, const Images<const T>& input, const Images<const T>& output, int64_t channel,
                  int64_t out_channel, const Extents& tap) {
  double sum = 0;
  for (int64_t n = 0; n < output.batch; ++n) {
    for (int64_t p = 0; p < output.pixels(); ++p) {
      const Extents at = {p / (output.size[1] * output.size[2]), p / output.size[2] % output.size[1],
                          p % output.size[2]};
      Extents from;
      bool is_inside = !std::isnan(sum);
      for (size_t i = 0; i < kSpatial; ++i) {
        from[i] = at[i] * window.stride[i] - window.padding[i] + tap[i] * window.dilation[i];
        is_inside = is_inside && from[i] >= 0 && from[i] < input.size[i];
      }
      if (is_inside) {
        sum += static_cast<double>(*input.at(n, channel, from)) * static_cast<double>(*output.at(n, out_channel, at));
      }
    }
    if (std::isnan(sum)) break;
  }
  return sum;
}

}  // namespace pyinit
