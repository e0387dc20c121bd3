// The gradient of a convolution by its bias.
#include <algorithm>
#include <numeric>
#include <vector>

#include "conv/convolution.hpp"
#include "conv/gradient_kernels.hpp"
#include "core/integers.hpp"
#include "core/parallel.hpp"

namespace pyinit {
namespace {

constexpr int64_t kGrain = int64_t{1} << 16;  // elements that a thread is worth
constexpr int64_t kPart = int64_t{1} << 16;   // elements whose sums are one part of the channels' sums
constexpr int64_t kParts = 64;
constexpr int64_t kWhole = 16;  // elements that are whole vectors on any instruction set

// run(offset, length, step) for the elements of one channel of one image, in order: as far as they go at one step.
template <class T, class Run> void for_each_line(const Images<const T>& x, Run&& run) {
  Extents size = x.size, strides = x.strides;
  for (size_t i = kSpatial - 1; i-- > 0;) {  // joined with the last dimension where that runs on
    if (size[2] != 1 && size[i] != 1 && strides[i] != size[2] * strides[2]) break;
    if (size[2] == 1) strides[2] = strides[i];
    size[2] *= size[i];
    size[i] = 1;
  }
  for (int64_t d = 0; d < size[0]; ++d) {
    for (int64_t h = 0; h < size[1]; ++h) run(d * strides[0] + h * strides[1], size[2], strides[2]);
  }
}

template <class T> void sum_rows(int64_t rows, int64_t columns, const T* x, int64_t row, double* sums) {
  for (int64_t i = 0; i < rows; i += kSumRows) {
    gradient_kernels<T>().sum_rows(std::min(kSumRows, rows - i), columns, x + i * row, row, sums);
  }
}

// Channels side by side are rows to be added up. Of few channels some pixels are one row, which is whole vectors.
template <class T> void sum_image_of_rows(const Images<const T>& x, const T* image, double* sums) {
  for_each_line(x, [&](int64_t offset, int64_t length, int64_t step) {
    const T* const line = image + offset;
    int64_t done = 0;
    if (step == x.channels && x.channels < kWhole) {
      const int64_t pixels = kWhole / std::gcd(x.channels, kWhole), columns = pixels * x.channels;
      double wide[kWhole * kWhole] = {};
      sum_rows(length / pixels, columns, line, columns, wide);
      for (int64_t i = 0; i < columns; ++i) sums[i % x.channels] += wide[i];
      done = length / pixels * pixels;
    }
    sum_rows(length - done, x.channels, line + done * step, step, sums);
  });
}

// One channel: what does not lie side by side is put there.
template <class T> double sum_channel(const Images<const T>& x, const T* channel) {
  double sum = 0;
  for_each_line(x, [&](int64_t offset, int64_t length, int64_t step) {
    T copied[kSumBlock];
    for (int64_t i = 0; i < length; i += kSumBlock) {
      const T* run = channel + offset + i * step;
      const int64_t count = std::min(kSumBlock, length - i);
      if (step != 1) {
        for (int64_t j = 0; j < count; ++j) copied[j] = run[j * step];
        run = copied;
      }
      sum += gradient_kernels<T>().sum(count, run);
    }
  });
  return sum;
}

}  // namespace

template <class T> void sum_channels(const Images<const T>& images, T* sums, int64_t stride, int threads) {
  Images<const T> x = images;
  const bool in_rows = x.channel_stride == 1 && (x.channels > 1 || x.strides[2] != 1);
  // A few images are a part of the sums, and each part is a task.
  const int64_t each = x.channels * x.pixels();
  const int64_t parts = std::max<int64_t>(std::min({x.batch, each * x.batch / kPart, kParts}), 1);
  std::vector<double> totals(static_cast<size_t>(parts * x.channels), 0.0);
  const int most = usable_threads(threads, each * x.batch, kGrain);
  const auto part_of = [&](int64_t part) { return x.batch * part / parts; };
  if (in_rows) {
    parallel_ranges(most, parts, 1, [&](int64_t begin, int64_t end) {
      for (int64_t part = begin; part < end; ++part) {
        for (int64_t n = part_of(part); n < part_of(part + 1); ++n) {
          sum_image_of_rows(x, x.data + n * x.batch_stride, totals.data() + part * x.channels);
        }
      }
    });
  } else {
    parallel_ranges(most, parts * x.channels, 1, [&](int64_t begin, int64_t end) {
      for (int64_t task = begin; task < end; ++task) {
        const int64_t part = task / x.channels, c = task % x.channels;
        for (int64_t n = part_of(part); n < part_of(part + 1); ++n) {
          totals[static_cast<size_t>(task)] += sum_channel(x, x.data + n * x.batch_stride + c * x.channel_stride);
        }
      }
    });
  }
  for (int64_t c = 0; c < x.channels; ++c) {
    double total = 0;
    for (int64_t part = 0; part < parts; ++part) total += totals[static_cast<size_t>(part * x.channels + c)];
    sums[c * stride] = static_cast<T>(total);
  }
}

template void sum_channels<float>(const Images<const float>&, float*, int64_t, int);
template void sum_channels<double>(const Images<const double>&, double*, int64_t, int);

}  // namespace pyinit
