// Blocks of pixels pass all sums of a group. Of a block the input is copied into a strip with zeros around it, and the
// output's gradient into planes whose rows are as far apart as those of the strip, or are whole vectors. What is
// between its rows is zero, and what the strip has there counts for nothing, unless it is no number: those sums are
// made anew.
#include "conv/weight_gradient_planes.hpp"

#include <algorithm>
#include <cmath>
#include <vector>

#include "conv/depthwise_kernels.hpp"
#include "conv/gradient_kernels.hpp"
#include "conv/pixel_blocks.hpp"
#include "conv/strip.hpp"
#include "conv/sum_pixels.hpp"
#include "core/integers.hpp"
#include "core/parallel.hpp"
#include "core/scratch.hpp"
#include "linalg/kernels.hpp"

namespace pyinit {
namespace {

constexpr int64_t kPixels = 1024;                   // of a block
constexpr int64_t kLaneBytes = int64_t{384} << 10;  // of sums, which stay in the second cache
constexpr int64_t kStripBytes = int64_t{1} << 20;   // of a block's input at most
// Output channels that are few, also where they lie side by side and have to be transposed, and a row's least pixels.
constexpr int64_t kFew = 12, kFewByChannels = 6, kLeastWidth = 10;
constexpr int64_t kTasks = 8, kPartWork = int64_t{1} << 19;  // pixels are divided into parts of so many multiply-adds
constexpr int64_t kGrain = int64_t{1} << 18;                 // multiply-adds that a thread is worth
constexpr int64_t kCacheLine = 64;

// How the planes of a block's gradients are laid out, in vectors.
template <class T> class Planes {
 public:
  // For pixels whose rows are `step` apart in the strip.
  Planes(const Extents& size, int64_t step) : size_(size) {
    const int64_t flat = divide_up((size[1] - 1) * step + size[2], kLanes), each = divide_up(size[2], kLanes);
    is_flat_ = step > 0 && flat <= size[1] * each;
    vectors_ = is_flat_ ? flat : size[1] * each;
    row_ = is_flat_ ? step : each * kLanes;
  }
  int64_t row() const { return row_; }
  int64_t vectors() const { return vectors_; }  // of a plane
  int64_t elements() const { return vectors_ * kLanes; }

  // Where the vectors of all planes of a block are in the strip.
  void fill_steps(const Block& block, const Source<T>& source, int64_t* steps) const {
    const int64_t each = vectors_ / size_[1];
    for (int64_t n = 0; n < block.images; ++n) {
      for (int64_t d = 0; d < size_[0]; ++d) {
        const int64_t plane = n * source.image + d * source.step[0];
        for (int64_t k = 0; k < vectors_; ++k) {
          *steps++ = plane + (is_flat_ ? k * kLanes : k / each * source.step[1] + k % each * kLanes);
        }
      }
    }
  }

 private:
  static constexpr int64_t kLanes = kSumLanes<T>;
  Extents size_;
  bool is_flat_;
  int64_t vectors_, row_;
};

template <class T> class GradientByPlanes {
 public:
  GradientByPlanes(const Window& window, const Images<const T>& input, const Images<const T>& output,
                   const Images<T>& weight)
      : window_(window),
        input_(input),
        output_(output),
        weight_(weight),
        channels_(weight.channels),
        columns_(weight.batch / window.groups),
        rows_(weight.channels * weight.pixels()),
        reach_(reach_of(window, weight.size)),
        blocks_(output.batch, output.size, kPixels),
        strip_(reach_, Order::pixels, blocks_.largest(), weight.channels) {
    const double work = static_cast<double>(columns_ * rows_) * static_cast<double>(output.batch * output.pixels());
    parts_ = std::min(
        {kTasks / window.groups, blocks_.count(), static_cast<int64_t>(std::min(work / double{kPartWork}, 1e9))});
    parts_ = std::max<int64_t>(parts_, 1);
  }

  void run(int threads) const {
    const int64_t weights = weight_.batch * rows_;
    const Scratch<T> sums(parts_ * weights);
    const double work = static_cast<double>(weights) * static_cast<double>(output_.batch * output_.pixels());
    Steps steps;
    steps.add(window_.groups * parts_, [&](int64_t task, int) {
      const int64_t group = task / parts_, part = task % parts_;
      sum(group, part, sums.data() + part * weights + group * columns_ * rows_);
    });
    steps.add(weight_.batch, [&](int64_t column, int) { store(column, sums.data() + column * rows_); });
    steps.run(usable_threads(threads, static_cast<int64_t>(std::min(work, 1e18)), kGrain));
  }

 private:
  void sum(int64_t group, int64_t part, T* sums) const;
  void copy(int64_t group, const Block& block, const Planes<T>& planes, int64_t channel, T* to) const;
  void store(int64_t column, const T* sums) const;

  const Window& window_;
  const Images<const T>&input_, &output_;
  const Images<T>& weight_;
  int64_t channels_, columns_, rows_;  // of one group; a row is an input channel's tap
  Reach reach_;
  PixelBlocks blocks_;
  Strip strip_;
  int64_t parts_;
};

// One part of a group's sums.
template <class T> void GradientByPlanes<T>::sum(int64_t group, int64_t part, T* sums) const {
  const GradientKernels<T>& kernels = gradient_kernels<T>();
  const Block& largest = blocks_.largest();
  // Most elements of a plane: those of rows that are whole vectors, which a layout takes if it is no larger.
  const int64_t most = largest.images * largest.size[0] * largest.size[1] * round_up(largest.size[2], kSumLanes<T>);
  const int64_t lanes_size = columns_ * rows_ * kSumLanes<T>;
  const Scratch<T> memory(round_up(strip_.size(), kCacheLine) + columns_ * most + lanes_size);
  T *const strip = memory.data(), *const gradients = strip + round_up(strip_.size(), kCacheLine);
  T* const lanes = gradients + columns_ * most;
  std::fill_n(strip, strip_.size(), T{0});
  std::fill_n(lanes, lanes_size, T{0});
  std::vector<int64_t> offsets, steps(static_cast<size_t>(most / kSumLanes<T>));
  Extents size = {0, 0, 0};
  Lookout lookout;
  const int64_t end = blocks_.count() * (part + 1) / parts_;
  for (int64_t index = blocks_.count() * part / parts_; index < end; ++index) {
    const Block block = blocks_[index];
    const Source<T> source = strip_.fill(input_, block, group * channels_, channels_, strip);
    if (offsets.empty()) {
      for (int64_t i = 0; i < channels_; ++i) {
        for (const int64_t tap : strip_.taps()) offsets.push_back(i * source.channel + tap);
      }
    }
    const Planes<T> planes(block.size, source.step[1]);
    const int64_t count = block.images * block.size[0] * planes.vectors(), channel = count * kSumLanes<T>;
    if (block.size != size || block.images != largest.images) std::fill_n(gradients, columns_ * channel, T{0});
    size = block.size;
    planes.fill_steps(block, source, steps.data());
    copy(group, block, planes, channel, gradients);
    kernels.add_planes(columns_, rows_, count, strip, offsets.data(), steps.data(), gradients, channel, lanes);
    lookout.after(columns_ * rows_ * block.pixels());
  }
  kernels.add_lanes(columns_ * rows_, lanes, sums);
}

// The gradients of a block: each row of pixels to the places of its plane.
template <class T>
void GradientByPlanes<T>::copy(int64_t group, const Block& block, const Planes<T>& planes, int64_t channel,
                               T* to) const {
  const int64_t along = output_.strides[2], across = output_.channel_stride, width = block.size[2];
  const T* const origin = output_.at(block.image, group * columns_, block.begin);
  for (int64_t p = 0; p < block.images * block.size[0]; ++p) {
    const int64_t n = p / block.size[0], d = p % block.size[0];
    const T* const from = origin + n * output_.batch_stride + d * output_.strides[0];
    T* const plane = to + p * planes.elements();
    if (across == 1 && along != 1) {
      for (int64_t h = 0; h < block.size[1]; ++h) {
        panel_kernels<T>().transpose(width, columns_, from + h * output_.strides[1], along, plane + h * planes.row(),
                                     channel);
      }
      continue;
    }
    for (int64_t c = 0; c < columns_; ++c) {
      depthwise_kernels<T>().copy(1, block.size[1], width, {from + c * across, 0, output_.strides[1], along},
                                  {plane + c * channel, 0, planes.row(), 1});
    }
  }
}

// The parts of an output channel's sums are added, and go to the gradient.
template <class T> void GradientByPlanes<T>::store(int64_t column, const T* sums) const {
  const int64_t weights = weight_.batch * rows_, group = column / columns_;
  for (int64_t row = 0; row < rows_; ++row) {
    double sum = 0;
    for (int64_t part = 0; part < parts_; ++part) sum += static_cast<double>(sums[part * weights + row]);
    const int64_t channel = row / weight_.pixels(), t = row % weight_.pixels(), width = weight_.size[2];
    const Extents tap = {t / width / weight_.size[1], t / width % weight_.size[1], t % width};
    if (std::isnan(sum)) sum = sum_pixels(window_, input_, output_, group * channels_ + channel, column, tap);
    *weight_.at(column, channel, tap) = static_cast<T>(sum);
  }
}

}  // namespace

template <class T>
bool goes_by_planes(const Window& window, const Images<T>& weight, const Images<const T>& output) {
  const int64_t columns = weight.batch / window.groups, rows = weight.channels * weight.pixels();
  const bool by_channels = output.channel_stride == 1 && output.strides[2] != 1;
  if (weight.pixels() == 1 || output.size[2] < kLeastWidth || columns > (by_channels ? kFewByChannels : kFew) ||
      columns * rows * kCacheLine > kLaneBytes) {
    return false;
  }
  const Block largest = PixelBlocks(output.batch, output.size, kPixels).largest();
  const int64_t strip = weight.channels * strip_inputs(reach_of(window, weight.size), Order::pixels, largest);
  return strip * static_cast<int64_t>(sizeof(T)) <= kStripBytes;
}

template <class T>
void weight_gradient_by_planes(const Window& window, const Images<const T>& input, const Images<const T>& output,
                               const Images<T>& weight, int threads) {
  GradientByPlanes<T>(window, input, output, weight).run(threads);
}

#define PYINIT_INSTANTIATE(T)                                                                            \
  template bool goes_by_planes(const Window&, const Images<T>&, const Images<const T>&);                 \
  template void weight_gradient_by_planes(const Window&, const Images<const T>&, const Images<const T>&, \
                                          const Images<T>&, int);
PYINIT_INSTANTIATE(float)
PYINIT_INSTANTIATE(double)
#undef PYINIT_INSTANTIATE

}  // namespace pyinit
