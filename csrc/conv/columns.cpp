#include "conv/columns.hpp"

#include <algorithm>
#include <cstring>
#include <vector>

#include "core/integers.hpp"
#include "core/parallel.hpp"

namespace pyinit {
namespace {

constexpr int64_t kGrain = int64_t{1} << 15;  // elements that a thread is worth

// A tap of the kernel along one dimension: it lies on the image at the places [begin, end), and at place 0 on the
// pixel `first`, which may be outside.
struct Tap {
  int64_t begin, end, first;

  bool is_inside(int64_t place) const { return begin <= place && place < end; }
};

Tap tap_of(const Window& window, int64_t size, int64_t places, size_t dim, int64_t tap) {
  const int64_t first = tap * window.dilation[dim] - window.padding[dim], stride = window.stride[dim];
  const auto places_before = [&](int64_t pixel) {
    return pixel <= first ? 0 : std::min(divide_up(pixel - first, stride), places);
  };
  return {places_before(0), places_before(size), first};
}

template <class T> void set_zero(int64_t count, T* to, int64_t step) {
  if (step == 1) {
    std::fill_n(to, count, T{0});
  } else {
    for (int64_t i = 0; i < count; ++i) to[i * step] = 0;
  }
}

template <class T> void copy(int64_t count, const T* from, int64_t from_step, T* to, int64_t to_step) {
  if (from_step == 1 && to_step == 1) {
    std::memcpy(to, from, static_cast<size_t>(count) * sizeof(T));
  } else {
    for (int64_t i = 0; i < count; ++i) to[i * to_step] = from[i * from_step];
  }
}

template <class T> void add(int64_t count, const T* from, int64_t from_step, T* to, int64_t to_step) {
  if (from_step == 1 && to_step == 1) {
    for (int64_t i = 0; i < count; ++i) to[i] += from[i];
  } else {
    for (int64_t i = 0; i < count; ++i) to[i * to_step] += from[i * from_step];
  }
}

// The pixels of one channel under one tap.
template <class T>
void copy_tap(const Window& window, const std::array<Tap, kSpatial>& tap, const Images<const T>& images, const T* from,
              const Columns<T>& columns, T* to) {
  const auto& [depth, row, pixel] = tap;
  const int64_t step = window.stride[2] * images.strides[2], place = columns.place_stride, width = columns.places[2];
  for (int64_t d = 0; d < columns.places[0]; ++d) {
    for (int64_t h = 0; h < columns.places[1]; ++h, to += width * place) {
      if (!depth.is_inside(d) || !row.is_inside(h)) {
        set_zero(width, to, place);
        continue;
      }
      const T* const line = from + (depth.first + d * window.stride[0]) * images.strides[0] +
                            (row.first + h * window.stride[1]) * images.strides[1];
      set_zero(pixel.begin, to, place);
      copy(pixel.end - pixel.begin, line + pixel.first * images.strides[2] + pixel.begin * step, step,
           to + pixel.begin * place, place);
      set_zero(width - pixel.end, to + pixel.end * place, place);
    }
  }
}

// The place at which a tap lies on a pixel; -1 if there is none.
int64_t place_of(const Window& window, const Extents& places, size_t dim, int64_t tap, int64_t pixel) {
  const int64_t distance = pixel + window.padding[dim] - tap * window.dilation[dim];
  const int64_t place = distance / window.stride[dim];
  return distance < 0 || distance % window.stride[dim] != 0 || place >= places[dim] ? -1 : place;
}

}  // namespace

template <class T>
void im2col(const Window& window, const Images<const T>& images, const Columns<T>& columns, int threads) {
  const Extents &kernel = columns.kernel, &places = columns.places;
  const int64_t taps = columns.taps(), rows = images.channels * taps, count = images.batch * rows;
  const int64_t each = places[0] * places[1] * places[2];
  const int team = usable_threads(threads, count * each, kGrain);
  parallel_pieces(team, count, 1, each, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t n = i / rows, c = i % rows / taps, t = i % taps;
      const Extents at = {t / kernel[2] / kernel[1], t / kernel[2] % kernel[1], t % kernel[2]};
      std::array<Tap, kSpatial> tap;
      for (size_t d = 0; d < kSpatial; ++d) tap[d] = tap_of(window, images.size[d], places[d], d, at[d]);
      copy_tap(window, tap, images, images.data + n * images.batch_stride + c * images.channel_stride, columns,
               columns.data + n * columns.batch_stride + i % rows * columns.row_stride);
    }
  });
}

template <class T>
void col2im(const Window& window, const Columns<const T>& columns, const Images<T>& images, int threads) {
  const Extents &kernel = columns.kernel, &places = columns.places, &size = images.size;
  const int64_t taps = columns.taps(), rows = size[0] * size[1], count = images.batch * images.channels * rows;
  const int64_t step = window.stride[2] * images.strides[2], place = columns.place_stride;
  std::vector<Tap> along_row;
  along_row.reserve(static_cast<size_t>(kernel[2]));
  for (int64_t t = 0; t < kernel[2]; ++t) along_row.push_back(tap_of(window, size[2], places[2], 2, t));
  // A row of pixels stays in the first cache while the taps add to it.
  const auto sum_up = [&](int64_t n, int64_t c, int64_t d, int64_t h) {
    T* const to = images.data + n * images.batch_stride + c * images.channel_stride + d * images.strides[0] +
                  h * images.strides[1];
    const T* const from = columns.data + n * columns.batch_stride + c * taps * columns.row_stride;
    set_zero(size[2], to, images.strides[2]);
    for (int64_t i = 0; i < kernel[0]; ++i) {
      const int64_t place_d = place_of(window, places, 0, i, d);
      for (int64_t j = 0; j < kernel[1] && place_d >= 0; ++j) {
        const int64_t place_h = place_of(window, places, 1, j, h);
        if (place_h < 0) continue;
        const T* line = from + (i * kernel[1] + j) * kernel[2] * columns.row_stride +
                        (place_d * places[1] + place_h) * places[2] * place;
        for (const Tap& tap : along_row) {
          add(tap.end - tap.begin, line + tap.begin * place, place,
              to + tap.first * images.strides[2] + tap.begin * step, step);
          line += columns.row_stride;
        }
      }
    }
  };
  const int team =
      usable_threads(threads, images.batch * images.channels * taps * places[0] * places[1] * places[2], kGrain);
  parallel_pieces(team, count, 1, taps * size[2], [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t plane = i / rows, row = i % rows;
      sum_up(plane / images.channels, plane % images.channels, row / size[1], row % size[1]);
    }
  });
}

#define PYINIT_INSTANTIATE(T)                                                             \
  template void im2col<T>(const Window&, const Images<const T>&, const Columns<T>&, int); \
  template void col2im<T>(const Window&, const Columns<const T>&, const Images<T>&, int);
PYINIT_INSTANTIATE(float)
PYINIT_INSTANTIATE(double)
#undef PYINIT_INSTANTIATE

}  // namespace pyinit
