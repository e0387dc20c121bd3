#include "cuda/columns.hpp"

#include <algorithm>
#include <limits>

#include "core/integers.hpp"
#include "cuda/runtime.hpp"
#include "simd/vec.hpp"

namespace pyinit::cuda {
namespace {

constexpr int kThreads = 256;

struct Place {
  int64_t image, channel, at[kSpatial];
};

// Where element i of (images, channels, size) is. Index is the type to divide in: the narrow one takes a fraction of
// the time.
template <class Index> PYINIT_INLINE Place place_of(Index i, int64_t channels, const Extents& size) {
  Place p{};
  for (int d = kSpatial; d-- > 0;) {
    const Index extent = static_cast<Index>(size[d]);
    p.at[d] = static_cast<int64_t>(i % extent);
    i /= extent;
  }
  p.channel = static_cast<int64_t>(i % static_cast<Index>(channels));
  p.image = static_cast<int64_t>(i / static_cast<Index>(channels));
  return p;
}

PYINIT_INLINE int64_t thread_number() { return static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; }

PYINIT_INLINE bool is_inside(int64_t pixel, int64_t size) { return 0 <= pixel && pixel < size; }

// All taps of a channel at a place.
template <class T, class Index>
__global__ void copy_taps(Window window, Images<const T> images, Columns<T> columns, int64_t count) {
  const int64_t i = thread_number();
  if (i >= count) return;
  const Extents &kernel = columns.kernel, &places = columns.places;
  const auto [n, c, at] = place_of(static_cast<Index>(i), images.channels, places);
  const T* const from = images.data + n * images.batch_stride + c * images.channel_stride;
  T* to = columns.data + n * columns.batch_stride + c * (kernel[0] * kernel[1] * kernel[2]) * columns.row_stride +
          ((at[0] * places[1] + at[1]) * places[2] + at[2]) * columns.place_stride;
  int64_t first[kSpatial];
  for (int d = 0; d < kSpatial; ++d) first[d] = at[d] * window.stride[d] - window.padding[d];
  for (int64_t z = 0; z < kernel[0]; ++z) {
    const int64_t depth = first[0] + z * window.dilation[0];
    for (int64_t y = 0; y < kernel[1]; ++y) {
      const int64_t row = first[1] + y * window.dilation[1];
      const bool is_on_image = is_inside(depth, images.size[0]) && is_inside(row, images.size[1]);
      const T* const line = from + depth * images.strides[0] + row * images.strides[1];
      for (int64_t x = 0; x < kernel[2]; ++x, to += columns.row_stride) {
        const int64_t pixel = first[2] + x * window.dilation[2];
        *to = is_on_image && is_inside(pixel, images.size[2]) ? line[pixel * images.strides[2]] : T{0};
      }
    }
  }
}

// The place at which a tap lies on a pixel; -1 if there is none.
template <class Index>
PYINIT_INLINE int64_t place_under(const Window& window, const Extents& places, int dim, int64_t tap, int64_t pixel) {
  const int64_t distance = pixel + window.padding[dim] - tap * window.dilation[dim];
  if (distance < 0) return -1;
  const Index stride = static_cast<Index>(window.stride[dim]);
  const Index place = static_cast<Index>(distance) / stride;
  return place * stride != static_cast<Index>(distance) || static_cast<int64_t>(place) >= places[dim]
             ? -1
             : static_cast<int64_t>(place);
}

// All taps on a pixel.
template <class T, class Index>
__global__ void sum_taps(Window window, Columns<const T> columns, Images<T> images, int64_t count) {
  const int64_t i = thread_number();
  if (i >= count) return;
  const Extents &kernel = columns.kernel, &places = columns.places;
  const auto [n, c, at] = place_of(static_cast<Index>(i), images.channels, images.size);
  const T* const from =
      columns.data + n * columns.batch_stride + c * (kernel[0] * kernel[1] * kernel[2]) * columns.row_stride;
  T sum = 0;
  for (int64_t z = 0; z < kernel[0]; ++z) {
    const int64_t depth = place_under<Index>(window, places, 0, z, at[0]);
    for (int64_t y = 0; y < kernel[1] && depth >= 0; ++y) {
      const int64_t row = place_under<Index>(window, places, 1, y, at[1]);
      if (row < 0) continue;
      const T* line = from + (z * kernel[1] + y) * kernel[2] * columns.row_stride +
                      (depth * places[1] + row) * places[2] * columns.place_stride;
      for (int64_t x = 0; x < kernel[2]; ++x, line += columns.row_stride) {
        const int64_t place = place_under<Index>(window, places, 2, x, at[2]);
        if (place >= 0) sum = add(sum, line[place * columns.place_stride]);
      }
    }
  }
  images.data[n * images.batch_stride + c * images.channel_stride + at[0] * images.strides[0] +
              at[1] * images.strides[1] + at[2] * images.strides[2]] = sum;
}

constexpr int64_t product(const Extents& e) { return e[0] * e[1] * e[2]; }

// Whether nothing that is divided is beyond 31 bits.
bool is_narrow(const Window& window, const Extents& size, int64_t count) {
  int64_t largest = count;
  for (size_t d = 0; d < kSpatial; ++d) {
    largest = std::max({largest, size[d] + window.padding[d], window.stride[d]});
  }
  return largest <= std::numeric_limits<int32_t>::max();
}

}  // namespace

template <class T>
void im2col(const Window& window, const Images<const T>& images, const Columns<T>& columns, const Queue& queue) {
  const int64_t count = images.batch * images.channels * product(columns.places);
  if (count == 0) return;
  const int threads = threads_of_block(kThreads);
  const bool narrow = is_narrow(window, images.size, count);
  launch(narrow ? copy_taps<T, uint32_t> : copy_taps<T, uint64_t>, divide_up(count, threads), threads, queue, window,
         images, columns, count);
}

template <class T>
void col2im(const Window& window, const Columns<const T>& columns, const Images<T>& images, const Queue& queue) {
  const int64_t count = images.batch * images.channels * product(images.size);
  if (count == 0) return;
  const int threads = threads_of_block(kThreads);
  const bool narrow = is_narrow(window, images.size, count);
  launch(narrow ? sum_taps<T, uint32_t> : sum_taps<T, uint64_t>, divide_up(count, threads), threads, queue, window,
         columns, images, count);
}

#define PYINIT_INSTANTIATE(T)                                                                      \
  template void im2col<T>(const Window&, const Images<const T>&, const Columns<T>&, const Queue&); \
  template void col2im<T>(const Window&, const Columns<const T>&, const Images<T>&, const Queue&);
PYINIT_INSTANTIATE(float)
PYINIT_INSTANTIATE(double)
#undef PYINIT_INSTANTIATE

}  // namespace pyinit::cuda
