#include "conv/strip.hpp"

#include <algorithm>
#include <cstring>

#include "conv/kernels.hpp"
#include "core/integers.hpp"
#include "linalg/kernels.hpp"

namespace pyinit {
namespace {

constexpr int64_t kSlack = kMaxPanel;  // elements behind the last one that a vector may read

template <class F> std::vector<int64_t> for_each_tap(const Taps& taps, F&& offset) {
  std::vector<int64_t> all;
  all.reserve(static_cast<size_t>(count(taps)));
  for (const int64_t d : taps[0]) {
    for (const int64_t h : taps[1]) {
      for (const int64_t w : taps[2]) all.push_back(offset(d, h, w));
    }
  }
  return all;
}

// Mostly one or two.
template <class T> void zero_edge(T* x, int64_t count) {
  if (count == 0) return;
  x[0] = x[count - 1] = 0;
  if (count > 2) std::fill_n(x, count, T{0});
}

}  // namespace

Strip::Strip(const Reach& reach, Order order, const Block& largest, int64_t channels)
    : order_(order), step_(reach.step), largest_(largest.size) {
  for (size_t i = 0; i < kSpatial; ++i) {
    least_[i] = reach.taps[i].front();
    extent_[i] = (largest.size[i] - 1) * step_[i] + reach.taps[i].back() - least_[i] + 1;
    is_taken_[i].resize(static_cast<size_t>(step_[i]));
    for (const int64_t tap : reach.taps[i]) is_taken_[i][static_cast<size_t>((tap - least_[i]) % step_[i])] = true;
  }
  const int64_t step = step_[2];
  phase_ = divide_up(extent_[2], step);
  if (order == Order::pixels) {
    strides_ = {extent_[1] * step * phase_, step * phase_, 1};
    image_ = extent_[0] * strides_[0];
    channel_ = largest.images * image_;
    size_ = channels * channel_ + kSlack;
  } else {
    strides_ = {extent_[1] * extent_[2] * channels, extent_[2] * channels, channels};
    image_ = extent_[0] * strides_[0];
    channel_ = 1;
    size_ = largest.images * image_ + kSlack;
  }
  taps_ = offsets(reach.taps);
}

std::vector<int64_t> Strip::offsets(const Taps& taps) const {
  return for_each_tap(taps, [&](int64_t d, int64_t h, int64_t w) {
    const int64_t x = w - least_[2];
    return (d - least_[0]) * strides_[0] + (h - least_[1]) * strides_[1] +
           (order_ == Order::pixels ? x % step_[2] * phase_ + x / step_[2] : x * strides_[2]);
  });
}

// `width` inputs of a row from x on, of which those outside the image become zeros; none of them is inside if `row` is
// null.
template <class T>
void Strip::fill_row(const Images<const T>& images, const T* row, int64_t x, int64_t width, int64_t first,
                     int64_t channels, T* out) const {
  const PanelKernels<T>& kernels = panel_kernels<T>();
  const int64_t begin = row == nullptr ? width : std::clamp<int64_t>(-x, 0, width);
  const int64_t end = row == nullptr ? width : std::clamp<int64_t>(images.size[2] - x, begin, width);
  const auto input = [&](int64_t i) { return row + first * images.channel_stride + (x + i) * images.strides[2]; };
  if (order_ == Order::channels) {
    const int64_t pitch = strides_[2];
    std::fill_n(out, begin * pitch, T{0});
    std::fill_n(out + end * pitch, (width - end) * pitch, T{0});
    if (begin == end) return;
    const T* const source = input(begin);
    T* const to = out + begin * pitch;
    if (images.channel_stride == 1 && images.strides[2] == channels && pitch == channels) {
      std::memcpy(to, source, static_cast<size_t>((end - begin) * channels) * sizeof(T));
    } else if (images.channel_stride == 1) {
      kernels.copy(end - begin, channels, source, images.strides[2], to, pitch);
    } else if (images.strides[2] == 1) {
      kernels.transpose(channels, end - begin, source, images.channel_stride, to, pitch);
    } else {
      for (int64_t i = 0; i < end - begin; ++i) {
        for (int64_t c = 0; c < channels; ++c) {
          to[i * pitch + c] = source[i * images.strides[2] + c * images.channel_stride];
        }
      }
    }
    return;
  }
  const int64_t step = step_[2], distance = step * images.strides[2];
  for (int64_t phase = 0; phase < step; ++phase) {
    if (!is_taken_[2][static_cast<size_t>(phase)]) continue;
    // Inputs phase + i * step, of which i in [inner, outer) are inside.
    const int64_t inner = std::clamp<int64_t>(divide_up(begin - phase, step), 0, phase_);
    const int64_t outer = std::clamp<int64_t>(divide_up(end - phase, step), inner, phase_);
    T* const to = out + phase * phase_;
    for (int64_t c = 0; c < channels; ++c) {
      zero_edge(to + c * channel_, inner);
      zero_edge(to + c * channel_ + outer, phase_ - outer);
    }
    if (inner == outer) continue;
    const T* const source = input(phase + inner * step);
    if (images.channel_stride == 1 && images.strides[2] != 1) {
      kernels.transpose(outer - inner, channels, source, distance, to + inner, channel_);
    } else if (distance == 1) {
      for (int64_t c = 0; c < channels; ++c) {
        std::memcpy(to + c * channel_ + inner, source + c * images.channel_stride,
                    static_cast<size_t>(outer - inner) * sizeof(T));
      }
    } else if (distance == 2) {
      const auto every_second = conv_kernels<T>().every_second;
      for (int64_t c = 0; c < channels; ++c) {
        every_second(outer - inner, source + c * images.channel_stride, to + c * channel_ + inner);
      }
    } else {
      for (int64_t c = 0; c < channels; ++c) {
        const T* const x_of_channel = source + c * images.channel_stride;
        T* const to_channel = to + c * channel_ + inner;
        for (int64_t i = 0; i < outer - inner; ++i) to_channel[i] = x_of_channel[i * distance];
      }
    }
  }
}

template <class T>
Source<T> Strip::fill(const Images<const T>& images, const Block& block, int64_t first, int64_t channels,
                      T* strip) const {
  Extents origin, extent;
  for (size_t i = 0; i < kSpatial; ++i) {
    origin[i] = block.begin[i] * step_[i] + least_[i];
    extent[i] = extent_[i] - (largest_[i] - block.size[i]) * step_[i];
  }
  const auto is_taken = [&](size_t i, int64_t at) { return is_taken_[i][static_cast<size_t>(at % step_[i])]; };
  const auto is_in = [&](size_t i, int64_t at) { return at >= 0 && at < images.size[i]; };
  for (int64_t n = 0; n < block.images; ++n) {
    for (int64_t d = 0; d < extent[0]; ++d) {
      for (int64_t h = 0; h < extent[1]; ++h) {
        if (!is_taken(0, d) || !is_taken(1, h)) continue;
        const int64_t z = origin[0] + d, y = origin[1] + h;
        const T* const row = is_in(0, z) && is_in(1, y) ? images.at(block.image + n, 0, {z, y, 0}) : nullptr;
        fill_row(images, row, origin[2], extent[2], first, channels,
                 strip + n * image_ + d * strides_[0] + h * strides_[1]);
      }
    }
  }
  const int64_t along = order_ == Order::pixels ? 1 : step_[2] * strides_[2];
  return {strip, strip + size_, channel_, image_, {step_[0] * strides_[0], step_[1] * strides_[1], along}};
}

Reach reach_of(const Window& window, const Extents& kernel) {
  Reach reach{window.stride, {}};
  for (size_t i = 0; i < kSpatial; ++i) {
    for (int64_t t = 0; t < kernel[i]; ++t) reach.taps[i].push_back(t * window.dilation[i] - window.padding[i]);
  }
  return reach;
}

template <class T> std::vector<int64_t> tap_offsets(const Images<const T>& filters) {
  return tap_offsets(reach_of({{1, 1, 1}, {0, 0, 0}, {1, 1, 1}, 1}, filters.size).taps, filters);
}

template <class T> std::vector<int64_t> tap_offsets(const Taps& taps, const Images<const T>& images) {
  return for_each_tap(taps, [&](int64_t d, int64_t h, int64_t w) {
    return d * images.strides[0] + h * images.strides[1] + w * images.strides[2];
  });
}

template <class T> bool is_inside(const Reach& reach, const Images<const T>& images, const Extents& outputs) {
  for (size_t i = 0; i < kSpatial; ++i) {
    if (reach.taps[i].front() < 0 || (outputs[i] - 1) * reach.step[i] + reach.taps[i].back() >= images.size[i]) {
      return false;
    }
  }
  return true;
}

template <class T>
Source<T> as_it_is(const Reach& reach, const Images<const T>& images, const Block& block, int64_t first) {
  Extents begin, last, step;
  for (size_t i = 0; i < kSpatial; ++i) {
    begin[i] = block.begin[i] * reach.step[i];
    last[i] = images.size[i] - 1;
    step[i] = reach.step[i] * images.strides[i];
  }
  return {images.at(block.image, first, begin), images.at(images.batch - 1, images.channels - 1, last) + 1,
          images.channel_stride, images.batch_stride, step};
}

#define PYINIT_INSTANTIATE(T)                                                                       \
  template Source<T> Strip::fill(const Images<const T>&, const Block&, int64_t, int64_t, T*) const; \
  template std::vector<int64_t> tap_offsets(const Taps&, const Images<const T>&);                   \
  template std::vector<int64_t> tap_offsets(const Images<const T>&);                                \
  template bool is_inside(const Reach&, const Images<const T>&, const Extents&);                    \
  template Source<T> as_it_is(const Reach&, const Images<const T>&, const Block&, int64_t);
PYINIT_INSTANTIATE(float)
PYINIT_INSTANTIATE(double)
#undef PYINIT_INSTANTIATE

}  // namespace pyinit
