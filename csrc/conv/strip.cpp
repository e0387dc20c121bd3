#include "conv/strip.hpp"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <utility>

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

StripAxis::StripAxis(const std::vector<int64_t>& taps, int64_t outputs_step, int64_t outputs, bool by_remainder)
    : unit(by_remainder ? outputs_step : 1), step(by_remainder ? 1 : outputs_step), count(0), places(taps.size()) {
  const int64_t length = (outputs - 1) * step + 1;  // of what one tap takes
  const auto at = [&](size_t i) { return taps[i] - taps.front(); };
  std::vector<size_t> order;  // by remainders
  if (unit > 1) {
    order.resize(taps.size());
    std::iota(order.begin(), order.end(), size_t{0});
    std::sort(order.begin(), order.end(),
              [&](size_t a, size_t b) { return std::pair(at(a) % unit, a) < std::pair(at(b) % unit, b); });
  }
  for (size_t j = 0; j < taps.size(); ++j) {
    const size_t i = unit > 1 ? order[j] : j;
    const int64_t from_last = segments.empty() ? 0 : at(i) - segments.back().first;
    const bool continues = !segments.empty() && from_last % unit == 0 && from_last / unit <= segments.back().count;
    if (!continues) segments.push_back({at(i), 0, count});
    Segment& segment = segments.back();
    places[i] = segment.place + (at(i) - segment.first) / unit;
    segment.count = places[i] - segment.place + length;
    count = segment.place + segment.count;
  }
}

namespace {

std::array<StripAxis, kSpatial> axes_of(const Reach& reach, Order order, const Extents& outputs) {
  const auto axis = [&](size_t i) {
    StripAxis by_remainder(reach.taps[i], reach.step[i], outputs[i], true);
    // Pixels have to lie side by side.
    if (reach.step[i] == 1 || (order == Order::pixels && i == kSpatial - 1)) return by_remainder;
    // As they come they run on from tap to tap, but with those between that nobody takes.
    StripAxis as_they_come(reach.taps[i], reach.step[i], outputs[i], false);
    return as_they_come.count <= by_remainder.count ? as_they_come : by_remainder;
  };
  return {axis(0), axis(1), axis(2)};
}

int64_t inputs_of(const Block& largest, const std::array<StripAxis, kSpatial>& axes) {
  return largest.images * axes[0].count * axes[1].count * axes[2].count;
}

}  // namespace

int64_t strip_inputs(const Reach& reach, Order order, const Block& largest) {
  return inputs_of(largest, axes_of(reach, order, largest.size));
}

Strip::Strip(const Reach& reach, Order order, const Block& largest, int64_t channels)
    : order_(order), reach_(reach), largest_(largest), axes_(axes_of(reach, order, largest.size)) {
  const int64_t pitch = order == Order::pixels ? 1 : channels;
  strides_ = {axes_[1].count * axes_[2].count * pitch, axes_[2].count * pitch, pitch};
  image_ = axes_[0].count * strides_[0];
  channel_ = order == Order::pixels ? largest.images * image_ : 1;
  size_ = channels * inputs_of(largest_, axes_) + kSlack;
  taps_ = offsets(reach.taps);
}

std::vector<int64_t> Strip::offsets(const Taps& taps) const {
  Taps places;
  for (size_t i = 0; i < kSpatial; ++i) {
    const std::vector<int64_t>& all = reach_.taps[i];
    for (const int64_t tap : taps[i]) {
      const auto found = std::lower_bound(all.begin(), all.end(), tap);
      places[i].push_back(axes_[i].places[static_cast<size_t>(found - all.begin())]);
    }
  }
  return for_each_tap(
      places, [&](int64_t d, int64_t h, int64_t w) { return d * strides_[0] + h * strides_[1] + w * strides_[2]; });
}

// `width` inputs of a row from x on, of which those outside the image become zeros; none of them is inside if `row` is
// null.
template <class T>
void Strip::fill_row(const Images<const T>& images, const T* row, int64_t x, int64_t width, int64_t first,
                     int64_t channels, T* out) const {
  const PanelKernels<T>& kernels = panel_kernels<T>();
  const int64_t unit = axes_[2].unit, distance = unit * images.strides[2];
  const int64_t begin = row == nullptr ? width : std::clamp<int64_t>(divide_up(-x, unit), 0, width);
  const int64_t end = row == nullptr ? width : std::clamp<int64_t>(divide_up(images.size[2] - x, unit), begin, width);
  const int64_t inside = end - begin;
  const T* const source =
      inside == 0 ? nullptr : row + first * images.channel_stride + (x + begin * unit) * images.strides[2];
  if (order_ == Order::channels) {
    const int64_t pitch = strides_[2];
    std::fill_n(out, begin * pitch, T{0});
    std::fill_n(out + end * pitch, (width - end) * pitch, T{0});
    if (inside == 0) return;
    T* const to = out + begin * pitch;
    if (images.channel_stride == 1 && distance == channels && pitch == channels) {
      std::memcpy(to, source, static_cast<size_t>(inside * channels) * sizeof(T));
    } else if (images.channel_stride == 1) {
      kernels.copy(inside, channels, source, distance, to, pitch);
    } else if (distance == 1) {
      kernels.transpose(channels, inside, source, images.channel_stride, to, pitch);
    } else {
      for (int64_t i = 0; i < inside; ++i) {
        for (int64_t c = 0; c < channels; ++c) to[i * pitch + c] = source[i * distance + c * images.channel_stride];
      }
    }
    return;
  }
  for (int64_t c = 0; c < channels; ++c) {
    zero_edge(out + c * channel_, begin);
    zero_edge(out + c * channel_ + end, width - end);
  }
  if (inside == 0) return;
  T* const to = out + begin;
  if (images.channel_stride == 1 && images.strides[2] != 1) {
    kernels.transpose(inside, channels, source, distance, to, channel_);
  } else if (distance == 1) {
    kernels.copy(channels, inside, source, images.channel_stride, to, channel_);
  } else if (distance == 2) {
    const auto every_second = conv_kernels<T>().every_second;
    for (int64_t c = 0; c < channels; ++c) {
      every_second(inside, source + c * images.channel_stride, to + c * channel_);
    }
  } else {
    for (int64_t c = 0; c < channels; ++c) {
      const T* const x_of_channel = source + c * images.channel_stride;
      T* const to_channel = to + c * channel_;
      for (int64_t i = 0; i < inside; ++i) to_channel[i] = x_of_channel[i * distance];
    }
  }
}

template <class T>
Source<T> Strip::fill(const Images<const T>& images, const Block& block, int64_t first, int64_t channels,
                      T* strip) const {
  // f(input, place, how many) for each segment.
  const auto for_each_segment = [&](size_t i, auto&& f) {
    const StripAxis& axis = axes_[i];
    const int64_t origin = block.begin[i] * reach_.step[i] + reach_.taps[i].front();
    const int64_t fewer = (largest_.size[i] - block.size[i]) * axis.step;
    for (const StripAxis::Segment& s : axis.segments) f(origin + s.first, s.place, s.count - fewer);
  };
  const auto for_each_input = [&](size_t i, auto&& f) {
    for_each_segment(i, [&](int64_t x, int64_t place, int64_t count) {
      for (int64_t j = 0; j < count; ++j, x += axes_[i].unit) f(x, x >= 0 && x < images.size[i], place + j);
    });
  };
  for (int64_t n = 0; n < block.images; ++n) {
    for_each_input(0, [&](int64_t z, bool plane_is_in, int64_t d) {
      for_each_input(1, [&](int64_t y, bool row_is_in, int64_t h) {
        const T* const row = plane_is_in && row_is_in ? images.at(block.image + n, 0, {z, y, 0}) : nullptr;
        T* const to = strip + n * image_ + d * strides_[0] + h * strides_[1];
        for_each_segment(2, [&](int64_t x, int64_t w, int64_t width) {
          fill_row(images, row, x, width, first, channels, to + w * strides_[2]);
        });
      });
    });
  }
  const Extents& s = strides_;
  return {strip, strip + size_, channel_, image_, {axes_[0].step * s[0], axes_[1].step * s[1], axes_[2].step * s[2]}};
}

Reach reach_of(const Window& window, const Extents& kernel) {
  Reach reach{window.stride, {}};
  for (size_t i = 0; i < kSpatial; ++i) {
    for (int64_t t = 0; t < kernel[i]; ++t) reach.taps[i].push_back(t * window.dilation[i] - window.padding[i]);
  }
  return reach;
}

template <class T> std::vector<int64_t> tap_offsets(const Images<T>& filters) {
  return tap_offsets(reach_of({{1, 1, 1}, {0, 0, 0}, {1, 1, 1}, 1}, filters.size).taps, filters);
}

template <class T> std::vector<int64_t> tap_offsets(const Taps& taps, const Images<T>& images) {
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
  template std::vector<int64_t> tap_offsets(const Images<T>&);                                      \
  template bool is_inside(const Reach&, const Images<const T>&, const Extents&);                    \
  template Source<T> as_it_is(const Reach&, const Images<const T>&, const Block&, int64_t);
PYINIT_INSTANTIATE(float)
PYINIT_INSTANTIATE(double)
#undef PYINIT_INSTANTIATE

}  // namespace pyinit
