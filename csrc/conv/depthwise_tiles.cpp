// Planes that are small are turned into pixels of channels, a few channels of an image at a time, with zeros around
// them; outputs are made pixel by pixel and turned back. The same sums in the same order as plane by plane: short rows
// of planes fill no vectors, and with a stride hardly any of their elements lie side by side.
#include <algorithm>
#include <cmath>
#include <vector>

#include "conv/depthwise_kernels.hpp"
#include "conv/depthwise_routes.hpp"
#include "conv/depthwise_rows.hpp"
#include "conv/finish.hpp"
#include "conv/sum_pixels.hpp"
#include "core/integers.hpp"
#include "core/parallel.hpp"
#include "core/scratch.hpp"
#include "linalg/kernels.hpp"

namespace pyinit {

using namespace rows;

namespace {

constexpr int64_t kUnit = 16, kMostChannels = 64;  // a tile's channels are multiples of the one, and at most the other
constexpr int64_t kTileBytes = int64_t{64} << 10;  // of both images, if they can be so small
constexpr int64_t kLargestBytes = int64_t{96} << 10;  // with the fewest channels
constexpr int64_t kShort = 8;                         // rows of fewer pixels fill no vector of a plane
constexpr double kMostTaps = 64;                      // so that each thread's copy of the weight is small
constexpr int64_t kGrain = int64_t{1} << 16;          // multiply-adds that a thread is worth
constexpr int64_t kPixels = 256;                      // whose products are added up in single precision, about
constexpr int64_t kTasks = 64;                        // that many or more need no cut through the batch

// An image with zeros around it, such that every tap of every output is inside.
struct Padded {
  Extents before, size;
  Window window;

  Padded(const Window& w, bool transposed, const Extents& kernel, const Extents& out) : window(w) {
    for (size_t i = 0; i < kSpatial; ++i) {
      const int64_t reach = (kernel[i] - 1) * w.dilation[i];
      if (transposed) {
        before[i] = reach / w.stride[i];
        size[i] = (out[i] - 1 + w.padding[i]) / w.stride[i] + before[i] + 1;
        window.padding[i] += before[i] * w.stride[i];
      } else {
        before[i] = w.padding[i];
        size[i] = (out[i] - 1) * w.stride[i] + reach + 1;
        window.padding[i] = 0;
      }
    }
  }
  // Of an image of this size.
  Extents inside(const Extents& image) const {
    Extents in;
    for (size_t i = 0; i < kSpatial; ++i) in[i] = std::clamp<int64_t>(size[i] - before[i], 0, image[i]);
    return in;
  }
};

double elements(const Extents& size) {
  return static_cast<double>(size[0]) * static_cast<double>(size[1]) * static_cast<double>(size[2]);
}

// The pixels of a plane lie one after the other.
template <class T> bool is_dense(const Images<T>& x) {
  return x.strides[2] == 1 && (x.size[1] == 1 || x.strides[1] == x.size[2]) &&
         (x.size[0] == 1 || x.strides[0] == x.size[1] * x.size[2]);
}

int64_t channels_of_tile(const Padded& padded, const Extents& out, int64_t channels, size_t element) {
  const auto bytes = static_cast<int64_t>((elements(padded.size) + elements(out)) * static_cast<double>(element));
  const int64_t most = std::clamp(kTileBytes / bytes / kUnit * kUnit, kUnit, kMostChannels);
  return round_up(divide_up(channels, divide_up(channels, most)), kUnit);
}

// Pixels of `channels` channels in memory of a thread's own.
template <class T> struct Tile {
  Scratch<T> memory;
  Images<T> images;

  Tile(const Extents& size, int64_t channels)
      : memory(size[0] * size[1] * size[2] * channels),
        images{memory.data(), 1, channels, size, 0, 1, {size[1] * size[2] * channels, size[2] * channels, channels}} {
    std::fill_n(memory.data(), images.pixels() * channels, T{0});
  }
};

// Fills a tile's inside from an image's planes.
template <class T> class TurnedIn {
 public:
  TurnedIn(const Images<const T>& source, const Images<T>& tile, const Extents& before, const Extents& inside)
      : source_(source), tile_(tile), inside_(inside) {
    // Where whole planes are inside, their rows are turned as one.
    is_whole_ = inside == source.size;
    rows_ = is_whole_ ? 1 : inside[0] * inside[1];
    for (int64_t d = 0; d < inside[0]; ++d) {
      for (int64_t h = 0; h < inside[1]; ++h) {
        for (int64_t w = 0; w < inside[2]; ++w) {
          places_.push_back(tile.at(0, 0, {before[0] + d, before[1] + h, before[2] + w}) - tile.data);
        }
      }
    }
  }
  void operator()(int64_t image, int64_t channel, int64_t channels) const {
    const int64_t pixels = static_cast<int64_t>(places_.size()) / std::max<int64_t>(rows_, 1);
    for (int64_t row = 0; pixels > 0 && row < rows_; ++row) {
      const T* const from = source_.at(image, channel, {row / inside_[1], row % inside_[1], 0});
      depthwise_kernels<T>().turn(channels, pixels, from, source_.channel_stride, places_.data() + row * pixels,
                                  tile_.data);
    }
  }

 private:
  Images<const T> source_;
  Images<T> tile_;
  Extents inside_;
  bool is_whole_;
  int64_t rows_;
  std::vector<int64_t> places_;
};

template <class T> T* tap_of(const Images<T>& weight, int64_t t) {
  return weight.at(0, 0,
                   {t / weight.size[2] / weight.size[1], t / weight.size[2] % weight.size[1], t % weight.size[2]});
}

}  // namespace

template <class A, class B>
bool fit_tiles(const Window& window, bool transposed, const Images<A>& source, const Images<B>& out,
               const Extents& kernel) {
  if (elements(kernel) > kMostTaps || (window.stride[2] == 1 && out.size[2] >= kShort)) return false;
  if (source.channels != out.channels || out.channels < kUnit || source.pixels() == 0 || out.pixels() == 0)
    return false;
  const Padded padded(window, transposed, kernel, out.size);
  return is_dense(source) && is_dense(out) &&
         (elements(padded.size) + elements(out.size)) * double{sizeof(A) * kUnit} <= double{kLargestBytes};
}

template <class T>
void depthwise_tiles(const Window& window, bool transposed, const Images<const T>& source,
                     const Images<const T>& weight, const Epilogue<T>& epilogue, const Images<T>& out, int threads) {
  const int64_t taps = weight.pixels();
  const Padded padded(window, transposed, weight.size, out.size);
  const int64_t width = channels_of_tile(padded, out.size, out.channels, sizeof(T));
  const int64_t blocks = divide_up(out.channels, width);
  // The weights and biases of each block.
  const Scratch<T> weights(blocks * (taps + 1) * width);
  std::fill_n(weights.data(), blocks * (taps + 1) * width, T{0});
  for (int64_t b = 0; b < blocks; ++b) {
    const int64_t first = b * width, channels = std::min(width, out.channels - first);
    T* to = weights.data() + b * (taps + 1) * width;
    for (int64_t t = 0; t < taps; ++t, to += width) {
      const T* const tap = tap_of(weight, t) + first * weight.batch_stride;
      for (int64_t c = 0; c < channels; ++c) to[c] = tap[c * weight.batch_stride];
    }
    if (epilogue.bias != nullptr) std::copy_n(epilogue.bias + first, channels, to);
  }
  const T floor = lowest(epilogue);
  const int64_t work = out.batch * out.channels * std::max(source.pixels() * taps / window.stride[2], out.pixels());
  parallel_ranges(usable_threads(threads, work, kGrain), out.batch * blocks, 1, [&](int64_t begin, int64_t end) {
    const Tile<T> in(padded.size, width), made(out.size, width);
    const TurnedIn<T> turn_in(source, in.images, padded.before, padded.inside(source.size));
    const Scratch<T> table((taps + 1) * width);
    const Images<const T> from = {in.images.data, 1, width, padded.size, 0, 1, in.images.strides};
    const Rows<const T, const T> rows(padded.window, transposed, from, weight.size, out.size);
    typename Rows<const T, const T>::Lists lists;
    Lookout lookout;
    for (int64_t task = begin; task < end; ++task) {
      const int64_t n = task / blocks, first = task % blocks * width;
      const int64_t channels = std::min(width, out.channels - first);
      std::copy_n(weights.data() + task % blocks * (taps + 1) * width, (taps + 1) * width, table.data());
      turn_in(n, first, channels);
      for (int64_t d = 0; d < out.size[0]; ++d) {
        for (int64_t h = 0; h < out.size[1]; ++h) {
          rows.for_each_run(0, d, h, table.data(), lists, [&](int64_t at, int64_t count, const auto& list, const T* x) {
            depthwise_kernels<T>().correlate_channels(
                count, width, {static_cast<int64_t>(list.offsets.size()), list.offsets.data(), list.rows.data()}, x,
                rows.source_step(), {}, table.data() + taps * width, floor,
                {made.images.at(0, 0, {d, h, at}), rows.step() * width, false});
          });
        }
      }
      panel_kernels<T>().transpose(out.pixels(), channels, made.images.data, width, out.at(n, first, {0, 0, 0}),
                                   out.channel_stride);
      finish(rest(epilogue), out, {n, 1, {0, 0, 0}, out.size}, first, channels);
      lookout.after(channels * (source.pixels() + out.pixels() * taps));
    }
  });
}

template <class T>
void depthwise_tiles_gradient(const Window& window, const Images<const T>& input, const Images<const T>& output,
                              const Images<T>& weight, int threads) {
  const int64_t taps = weight.pixels();
  const Padded padded(window, false, weight.size, output.size);
  const int64_t width = channels_of_tile(padded, output.size, output.channels, sizeof(T));
  const int64_t blocks = divide_up(output.channels, width), whole = blocks * width;
  // Where blocks are few, parts of the batch are summed on their own.
  const int64_t parts = std::clamp<int64_t>(kTasks / blocks, 1, std::max<int64_t>(output.batch, 1));
  const int64_t part = divide_up(output.batch, parts);
  std::vector<double> sums(static_cast<size_t>(parts * taps * whole));
  const int64_t work = output.batch * output.channels * output.pixels() * taps;
  parallel_ranges(usable_threads(threads, work, kGrain), parts * blocks, 1, [&](int64_t begin, int64_t end) {
    const Tile<T> in(padded.size, width), gradients(output.size, width);
    const TurnedIn<T> turn_in(input, in.images, padded.before, padded.inside(input.size));
    const TurnedIn<T> turn_gradients(output, gradients.images, {}, output.size);
    const Images<const T> from = {in.images.data, 1, width, padded.size, 0, 1, in.images.strides};
    const Rows<T, const T> rows(padded.window, false, from, weight.size, output.size);
    const int64_t some = std::clamp<int64_t>(kPixels / output.size[2], 1, output.size[1]);  // rows at a time
    const int64_t x_row = window.stride[1] * from.strides[1], y_row = output.size[2] * width;
    const Scratch<T> table(taps * whole);
    std::fill_n(table.data(), taps * whole, T{0});
    std::vector<typename Rows<T, const T>::Lists> lists(static_cast<size_t>(blocks));
    Lookout lookout;
    for (int64_t task = begin; task < end;) {
      // The blocks of a part that this thread has go together.
      const int64_t p = task / blocks, block = task % blocks, end_block = std::min(block + end - task, blocks);
      task += end_block - block;
      std::vector<int64_t> pixels(static_cast<size_t>(blocks));
      const auto flush = [&](int64_t b) {
        depthwise_kernels<T>().take_sums(taps * width, table.data() + b * taps * width,
                                         sums.data() + (p * blocks + b) * taps * width);
        pixels[static_cast<size_t>(b)] = 0;
      };
      const auto add = [&](int64_t b) {
        for (int64_t row = 0, count = 0; row < output.size[0] * output.size[1]; row += count) {
          const int64_t d = row / output.size[1], h = row % output.size[1];
          count = std::min(some, output.size[1] - h);
          // All pixels of a row have the same taps.
          const auto add_rows = [&](int64_t, int64_t all, const auto& list, const T* x) {
            for (int64_t w = 0; w < all; w += kPixels) {
              const int64_t columns = std::min(kPixels, all - w);
              depthwise_kernels<T>().add_products_of_channels(
                  width, {taps, list.offsets.data(), list.rows.data()},
                  {count, columns, false, false, x_row, rows.source_step(), y_row, width}, x + w * rows.source_step(),
                  gradients.images.at(0, 0, {d, h, w}));
              pixels[static_cast<size_t>(b)] += count * columns;
              if (pixels[static_cast<size_t>(b)] >= kPixels) flush(b);
            }
          };
          rows.for_each_run(0, d, h, table.data() + b * taps * width, lists[static_cast<size_t>(b)], add_rows);
        }
      };
      for (int64_t n = p * part; n < std::min((p + 1) * part, output.batch); ++n) {
        for (int64_t b = block; b < end_block; ++b) {
          const int64_t first = b * width, channels = std::min(width, output.channels - first);
          turn_in(n, first, channels), turn_gradients(n, first, channels);
          add(b);
          lookout.after(channels * output.pixels() * taps);
        }
      }
      for (int64_t b = block; b < end_block; ++b) flush(b);
    }
  });

  for (int64_t t = 0; t < taps; ++t) {
    for (int64_t c = 0; c < output.channels; ++c) {
      double sum = 0;
      for (int64_t p = 0; p < parts; ++p)
        sum += sums[static_cast<size_t>(((p * blocks + c / width) * taps + t) * width + c % width)];
      // Zeros around the input meet gradients, whose products with infinity and NaN are not 0.
      if (!std::isfinite(sum)) {
        const Extents tap = {t / weight.size[2] / weight.size[1], t / weight.size[2] % weight.size[1],
                             t % weight.size[2]};
        sum = sum_pixels(window, input, output, c, c, tap);
      }
      tap_of(weight, t)[c * weight.batch_stride] = static_cast<T>(sum);
    }
  }
}

#define PYINIT_INSTANTIATE(T)                                                                                   \
  template bool fit_tiles(const Window&, bool, const Images<const T>&, const Images<T>&, const Extents&);       \
  template bool fit_tiles(const Window&, bool, const Images<const T>&, const Images<const T>&, const Extents&); \
  template void depthwise_tiles<T>(const Window&, bool, const Images<const T>&, const Images<const T>&,         \
                                   const Epilogue<T>&, const Images<T>&, int);                                  \
  template void depthwise_tiles_gradient<T>(const Window&, const Images<const T>&, const Images<const T>&,      \
                                            const Images<T>&, int);
PYINIT_INSTANTIATE(float)
PYINIT_INSTANTIATE(double)
#undef PYINIT_INSTANTIATE

}  // namespace pyinit
