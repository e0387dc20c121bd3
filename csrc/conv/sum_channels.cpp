// The gradient of a convolution by its bias.
#include <algorithm>
#include <array>
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
constexpr int64_t kSumsBytes = int64_t{4} << 20;  // of all parts' sums
constexpr int64_t kColumns = 32;                  // of rows that are cut, at least
constexpr int64_t kWhole = 16;                    // elements that are whole vectors on any instruction set

// run(offset, length, step) for the elements of one channel, in order: as far as they go at one step.
template <class T, class Run> void for_each_line(const Images<const T>& x, Run&& run) {
  constexpr size_t last = kSpatial;
  std::array<int64_t, last + 1> size{x.batch, x.size[0], x.size[1], x.size[2]};
  std::array<int64_t, last + 1> strides{x.batch_stride, x.strides[0], x.strides[1], x.strides[2]};
  for (size_t i = last; i-- > 0;) {  // joined with the last dimension where that runs on
    if (size[last] != 1 && size[i] != 1 && strides[i] != size[last] * strides[last]) break;
    if (size[last] == 1) strides[last] = strides[i];
    size[last] *= size[i];
    size[i] = 1;
  }
  for (int64_t n = 0; n < size[0]; ++n) {
    for (int64_t d = 0; d < size[1]; ++d) {
      for (int64_t h = 0; h < size[2]; ++h) {
        run(n * strides[0] + d * strides[1] + h * strides[2], size[last], strides[last]);
      }
    }
  }
}

template <class T>
void sum_rows(int64_t rows, int64_t columns, const T* x, int64_t row, double* sums, Lookout& lookout) {
  for (int64_t i = 0; i < rows; i += kSumRows) {
    const int64_t some = std::min(kSumRows, rows - i);
    gradient_kernels<T>().sum_rows(some, columns, x + i * row, row, sums);
    lookout.after(some * columns);
  }
}

// Channels side by side are rows to be added up. Of few channels some pixels are one row, which is whole vectors.
template <class T> void sum_by_rows(const Images<const T>& x, double* sums, Lookout& lookout) {
  for_each_line(x, [&](int64_t offset, int64_t length, int64_t step) {
    const T* const line = x.data + offset;
    int64_t done = 0;
    if (step == x.channels && x.channels < kWhole) {
      const int64_t pixels = kWhole / std::gcd(x.channels, kWhole), columns = pixels * x.channels;
      double wide[kWhole * kWhole] = {};
      sum_rows(length / pixels, columns, line, columns, wide, lookout);
      for (int64_t i = 0; i < columns; ++i) sums[i % x.channels] += wide[i];
      done = length / pixels * pixels;
    }
    sum_rows(length - done, x.channels, line + done * step, step, sums, lookout);
  });
}

// Otherwise each channel has lines to be added up. What does not lie side by side is put there.
template <class T> void sum_by_lines(const Images<const T>& x, double* sums, Lookout& lookout) {
  const auto sum_lines = gradient_kernels<T>().sum_lines;
  for_each_line(x, [&](int64_t offset, int64_t length, int64_t step) {
    for (int64_t i = 0; i < length; i += kSumBlock) {
      const T* const lines = x.data + offset + i * step;
      const int64_t count = std::min(kSumBlock, length - i);
      lookout.after(count * x.channels);
      if (step == 1) {
        sum_lines(x.channels, count, lines, x.channel_stride, sums);
        continue;
      }
      for (int64_t c = 0; c < x.channels; ++c) {
        T line[kSumBlock];
        for (int64_t j = 0; j < count; ++j) line[j] = lines[c * x.channel_stride + j * step];
        sum_lines(1, count, line, 0, sums + c);
      }
    }
  });
}

}  // namespace

template <class T> void sum_channels(const Images<const T>& x, T* sums, int64_t stride, int threads) {
  const bool by_rows = x.channel_stride == 1 && (x.channels > 1 || x.strides[2] != 1);
  // A few images are a part of the sums, and each part is a task, of which several channels' lines may be several.
  const int64_t each = x.channels * x.pixels();
  const int64_t kept = kSumsBytes / int64_t{sizeof(double)} / std::max<int64_t>(x.channels, 1);
  const int64_t parts = std::max<int64_t>(std::min({x.batch, each * x.batch / kPart, kParts, kept}), 1);
  const int most = usable_threads(threads, each * x.batch, kGrain);
  // Rows are cut only where there are fewer parts than threads.
  const int64_t width =
      parts < most ? std::max(round_up(divide_up(x.channels * parts, int64_t{most}), kColumns), kColumns) : x.channels;
  const int64_t tasks = by_rows ? divide_up(x.channels, width) : x.channels;  // of a part
  std::vector<double> totals(static_cast<size_t>(parts * x.channels), 0.0);
  parallel_ranges(most, parts * tasks, 1, [&](int64_t begin, int64_t end) {
    Lookout lookout;
    for (int64_t task = begin, next = begin; task < end; task = next) {
      const int64_t part = task / tasks, first = x.batch * part / parts;
      next = std::min(end, (part + 1) * tasks);
      Images<const T> some = x;
      some.data += first * x.batch_stride;
      some.batch = x.batch * (part + 1) / parts - first;
      if (by_rows) {
        const int64_t c = task % tasks * width;
        next = task + 1;
        some.data += c;
        some.channels = std::min(width, x.channels - c);
        sum_by_rows(some, totals.data() + part * x.channels + c, lookout);
      } else {
        some.data += task % tasks * x.channel_stride;
        some.channels = next - task;
        sum_by_lines(some, totals.data() + task, lookout);
      }
    }
  });
  for (int64_t c = 0; c < x.channels; ++c) {
    double total = 0;
    for (int64_t part = 0; part < parts; ++part) total += totals[static_cast<size_t>(part * x.channels + c)];
    sums[c * stride] = static_cast<T>(total);
  }
}

template void sum_channels<float>(const Images<const float>&, float*, int64_t, int);
template void sum_channels<double>(const Images<const double>&, double*, int64_t, int);

}  // namespace pyinit
