// One element of a convolution's gradient by its weight, where sums over lanes have met something that is no number.
#pragma once

#include <algorithm>
#include <cmath>

#include "conv/convolution.hpp"
#include "core/integers.hpp"

namespace pyinit {

// What one tap of a filter gets, pixel by pixel, until that is no number.
template <class T>
double sum_pixels(const Window& window, const Images<const T>& input, const Images<const T>& output, int64_t channel,
                  int64_t out_channel, const Extents& tap) {
  // Outputs [begin, end) take a pixel inside, namely that at p * stride - shift.
  Extents shift, begin, end;
  for (size_t i = 0; i < kSpatial; ++i) {
    const int64_t stride = window.stride[i];
    shift[i] = window.padding[i] - tap[i] * window.dilation[i];
    begin[i] = std::clamp<int64_t>(divide_up(shift[i], stride), 0, output.size[i]);
    end[i] = std::clamp<int64_t>(divide_up(input.size[i] + shift[i], stride), begin[i], output.size[i]);
    if (begin[i] == end[i]) return 0;
  }
  const auto from = [&](size_t i, int64_t p) { return p * window.stride[i] - shift[i]; };
  const int64_t along = input.strides[2] * (end[2] - begin[2] > 1 ? window.stride[2] : 0);
  double sum = 0;
  for (int64_t n = 0; n < output.batch; ++n) {
    for (int64_t d = begin[0]; d < end[0]; ++d) {
      for (int64_t h = begin[1]; h < end[1]; ++h) {
        const T* const x = input.at(n, channel, {from(0, d), from(1, h), from(2, begin[2])});
        const T* const y = output.at(n, out_channel, {d, h, begin[2]});
        for (int64_t w = 0; w < end[2] - begin[2]; ++w) {
          sum += static_cast<double>(x[w * along]) * static_cast<double>(y[w * output.strides[2]]);
        }
        if (std::isnan(sum)) return sum;
      }
    }
  }
  return sum;
}

}  // namespace pyinit
