// Channels lie side by side: outputs are made pixel by pixel, straight from the images. Pixels near an edge have fewer
// taps than those inside, and a row is cut into runs of pixels that have the same ones.
#include <algorithm>
#include <vector>

#include "conv/depthwise_kernels.hpp"
#include "conv/depthwise_routes.hpp"
#include "conv/depthwise_rows.hpp"
#include "conv/finish.hpp"
#include "core/integers.hpp"
#include "core/parallel.hpp"
#include "core/scratch.hpp"

namespace pyinit {

using namespace rows;

namespace {

constexpr int64_t kGrain = int64_t{1} << 16;       // multiply-adds that a thread is worth
constexpr int64_t kPixels = 256;                   // whose products are added up in single precision, about
constexpr int64_t kChannelUnit = 16;               // threads share out channels by
constexpr int64_t kPastCaches = int64_t{8} << 20;  // bytes, of outputs that will not stay in the caches
constexpr int64_t kManyChannels = 128;             // enough to share out
// Parts of the rows are summed on their own, so that threads read what lies side by side.
constexpr int64_t kParts = 4, kPartWork = int64_t{1} << 21;
constexpr int64_t kSumsBytes = int64_t{4} << 20;  // of all parts

template <class T> T* row_of(const Images<T>& x, int64_t n, int64_t d, int64_t h) {
  return x.data + n * x.batch_stride + d * x.strides[0] + h * x.strides[1];
}

template <class T> int64_t bytes_of(const Images<T>& x) {
  return x.batch * x.pixels() * x.channels * static_cast<int64_t>(sizeof(T));
}

// Whether all pixels begin at multiples of 64 bytes and are too many to stay in the caches.
template <class T> bool goes_past_caches(const Images<T>& x) {
  const auto whole = [](int64_t stride) { return stride * static_cast<int64_t>(sizeof(T)) % 64 == 0; };
  return reinterpret_cast<uintptr_t>(x.data) % 64 == 0 && whole(x.channels) && whole(x.batch_stride) &&
         std::all_of(x.strides.begin(), x.strides.end(), whole) && bytes_of(x) >= kPastCaches;
}

}  // namespace

template <class T>
void depthwise_pixels(const Window& window, bool transposed, const Images<const T>& source,
                      const Images<const T>& weight, const Epilogue<T>& epilogue, const Images<T>& out, int threads) {
  const int64_t channels = out.channels, taps = weight.pixels();
  const Scratch<T> table(taps * channels);
  for (int64_t t = 0; t < taps; ++t) {
    const T* const from =
        row_of(weight, 0, t / (weight.size[1] * weight.size[2]), t / weight.size[2] % weight.size[1]) +
        t % weight.size[2] * weight.strides[2];
    for (int64_t c = 0; c < channels; ++c) table.data()[t * channels + c] = from[c * weight.batch_stride];
  }

  const Rows<const T, const T> rows(window, transposed, source, weight.size, out.size);
  const T floor = lowest(epilogue);
  const bool past_caches = goes_past_caches(out) && rest(epilogue).activation == Activation::none;
  // To fetch what is in a cache costs more than to wait for it.
  const Ahead ahead = bytes_of(source) + bytes_of(out) >= 2 * kPastCaches ? rows.ahead() : Ahead{};
  const int64_t in_image = out.size[0] * out.size[1], work = out.batch * out.pixels() * channels * taps;
  parallel_ranges(usable_threads(threads, work, kGrain), out.batch * in_image, 1, [&](int64_t begin, int64_t end) {
    typename Rows<const T, const T>::Lists lists;
    Lookout lookout;
    for (int64_t i = begin; i < end; ++i) {
      const int64_t n = i / in_image, d = i % in_image / out.size[1], h = i % out.size[1];
      T* const to = row_of(out, n, d, h);
      rows.for_each_run(n, d, h, table.data(), lists, [&](int64_t first, int64_t count, const auto& list, const T* x) {
        depthwise_kernels<T>().correlate_channels(
            count, channels, {static_cast<int64_t>(list.offsets.size()), list.offsets.data(), list.rows.data()}, x,
            rows.source_step(), ahead, epilogue.bias, floor,
            {to + first * out.strides[2], rows.step() * out.strides[2], past_caches});
      });
      finish(rest(epilogue), out, {n, 1, {d, h, 0}, {1, 1, out.size[2]}}, 0, channels);
      lookout.after(out.size[2] * channels * taps);
    }
    if (past_caches) depthwise_kernels<T>().fence();
  });
}

template <class T>
void depthwise_pixels_gradient(const Window& window, const Images<const T>& input, const Images<const T>& output,
                               const Images<T>& weight, int threads) {
  const int64_t channels = output.channels, taps = weight.pixels();
  const Rows<T, const T> rows(window, false, input, weight.size, output.size);
  const auto& threes = rows.threes();
  const bool in_threes = threes.are_all && output.size[2] <= kPixels;
  const int64_t x_row = window.stride[1] * input.strides[1], x_step = rows.source_step();
  const int64_t y_row = output.strides[1], y_step = output.strides[2];

  // Of few channels, or much work, parts of the rows are summed on their own.
  const int64_t in_image = output.size[0] * output.size[1], all = output.batch * in_image;
  const int64_t kept = kSumsBytes / int64_t{sizeof(double)} / (taps * channels);
  const int64_t worth = std::min({kParts, output.batch * output.pixels() * channels * taps / kPartWork, kept});
  const int64_t parts = std::clamp<int64_t>(std::max(kManyChannels / channels, worth), 1, std::max<int64_t>(all, 1));
  const int64_t part = divide_up(all, parts), units = divide_up(channels, kChannelUnit);
  std::vector<double> sums(static_cast<size_t>(parts * taps * channels));
  const int64_t work = output.batch * output.pixels() * channels * taps;
  parallel_ranges(usable_threads(threads, work, kGrain), parts * units, 1, [&](int64_t begin, int64_t end) {
    typename Rows<T, const T>::Lists lists;
    const Scratch<T> table(taps * channels);
    Lookout lookout;
    for (int64_t task = begin; task < end;) {
      // The units of a part that this thread has go together.
      const int64_t p = task / units, c = task % units * kChannelUnit;
      const int64_t next = std::min(end, (p + 1) * units);
      const int64_t width = std::min((next - p * units) * kChannelUnit, channels) - c;
      task = next;
      std::fill_n(table.data(), taps * channels, T{0});
      int64_t pixels = 0;
      const auto flush = [&] {
        for (int64_t t = 0; t < taps; ++t) {
          depthwise_kernels<T>().take_sums(width, table.data() + t * channels + c,
                                           sums.data() + (p * taps + t) * channels + c);
        }
        pixels = 0;
      };
      const int64_t last = std::min((p + 1) * part, all);
      for (int64_t i = p * part, some = 1; i < last; i += some) {
        const int64_t n = i / in_image, d = i % in_image / output.size[1], h = i % output.size[1];
        const T* const y = row_of(output, n, d, h) + c;
        some = in_threes ? rows.alike(h, std::min(last - i, kPixels / output.size[2])) : 1;
        const auto add = [&](const TapList<T>& list, const PixelRows& of, const T* x, const T* gradient) {
          depthwise_kernels<T>().add_products_of_channels(
              width, {static_cast<int64_t>(list.offsets.size()), list.offsets.data(), list.rows.data()}, of, x,
              gradient);
          pixels += of.rows * (of.count + (of.lacks_first ? 1 : 0) + (of.lacks_last ? 1 : 0));
          if (pixels >= kPixels) flush();
        };
        rows.for_each_run(
            n, d, h, table.data() + c, lists, [&](int64_t first, int64_t count, const TapList<T>& list, const T* x) {
              x += c;
              if (in_threes) {
                const int64_t before = threes.lack_first ? 1 : 0;
                if (first != before) return;
                add(list, {some, count, threes.lack_first, threes.lack_last, x_row, x_step, y_row, y_step},
                    x - before * x_step, y);
              } else if (!list.offsets.empty()) {
                for (int64_t j = 0; j < count; j += kPixels) {
                  add(list, {1, std::min(kPixels, count - j), false, false, 0, x_step, 0, y_step}, x + j * x_step,
                      y + (first + j) * y_step);
                }
              }
            });
        lookout.after(some * output.size[2] * width * taps);
      }
      flush();
      lists = {};  // they are for channels from c on
    }
  });

  for (int64_t t = 0; t < taps; ++t) {
    T* const to = row_of(weight, 0, t / (weight.size[1] * weight.size[2]), t / weight.size[2] % weight.size[1]) +
                  t % weight.size[2] * weight.strides[2];
    for (int64_t c = 0; c < channels; ++c) {
      double sum = 0;
      for (int64_t p = 0; p < parts; ++p) sum += sums[static_cast<size_t>((p * taps + t) * channels + c)];
      to[c * weight.batch_stride] = static_cast<T>(sum);
    }
  }
}

#define PYINIT_INSTANTIATE(T)                                                                               \
  template void depthwise_pixels<T>(const Window&, bool, const Images<const T>&, const Images<const T>&,    \
                                    const Epilogue<T>&, const Images<T>&, int);                             \
  template void depthwise_pixels_gradient<T>(const Window&, const Images<const T>&, const Images<const T>&, \
                                             const Images<T>&, int);
PYINIT_INSTANTIATE(float)
PYINIT_INSTANTIATE(double)

}  // namespace pyinit
