// The gradient of depthwise convolutions by their weight, plane by plane.
#include <algorithm>
#include <cmath>
#include <vector>

#include "conv/depthwise_kernels.hpp"
#include "conv/depthwise_planes_plan.hpp"
#include "conv/depthwise_routes.hpp"
#include "conv/strip.hpp"
#include "conv/sum_pixels.hpp"
#include "core/integers.hpp"
#include "core/parallel.hpp"
#include "core/scratch.hpp"

namespace pyinit {

using namespace planes;

namespace {

constexpr int64_t kMultipliedBytes = int64_t{1} << 20;  // of a gradient's planes that are copied together
constexpr int64_t kGrain = int64_t{1} << 16;            // multiply-adds that a thread is worth
constexpr int64_t kProducts = 4096;                     // that are added up in single precision, in lanes, about
constexpr int64_t kGroups = 32;  // whose planes are taken in turn, if their sums take no more than
constexpr int64_t kLaneBytes = int64_t{32} << 10;
constexpr int64_t kTasks = 64;  // that many or more need no cut through the batch

// The sum of the lanes, which are set to 0.
template <class T> double take_sum(T* lanes) {
  double a = 0, b = 0, c = 0, d = 0;  // which need not wait for one another
  for (int64_t i = 0; i < kSumLanes<T>; i += 4) {
    a += static_cast<double>(lanes[i]), b += static_cast<double>(lanes[i + 1]);
    c += static_cast<double>(lanes[i + 2]), d += static_cast<double>(lanes[i + 3]);
  }
  std::fill_n(lanes, kSumLanes<T>, T{0});
  return (a + b) + (c + d);
}

}  // namespace

template <class T>
void depthwise_planes_gradient(const Window& window, const Images<const T>& input, const Images<const T>& output,
                               const Images<T>& weight, int threads) {
  const int64_t taps = weight.pixels(), multiplier = weight.batch / window.groups;
  const Plan plan = make_plan(window, false, input.size, weight.size, output.size, 1, sizeof(T));
  const PhaseTaps phase = make_taps(plan, 1).front();

  // Where groups are few, parts of the batch are summed on their own.
  const int64_t parts = std::clamp<int64_t>(kTasks / window.groups, 1, std::max<int64_t>(output.batch, 1));
  const int64_t part = divide_up(output.batch, parts), in_group = multiplier * taps;
  const int64_t sums_of_group = in_group * kSumLanes<T>;
  const int64_t block = std::clamp<int64_t>(kLaneBytes / (sums_of_group * static_cast<int64_t>(sizeof(T))), 1, kGroups);
  const int64_t blocks = divide_up(window.groups, block);
  std::vector<double> sums(static_cast<size_t>(parts * window.groups * in_group));
  const int64_t work = output.batch * output.channels * output.pixels() * taps;
  const auto& kernels = depthwise_kernels<T>();
  parallel_ranges(usable_threads(threads, work, kGrain), parts * blocks, 1, [&](int64_t begin, int64_t end) {
    const int64_t length = round_up(plan.length(plan.band), kSlack);
    const int64_t together = std::min(block, planes_together(plan.copy_size + multiplier * length, sizeof(T)));
    // Where an input has many outputs, they are taken some at a time.
    const int64_t some = std::clamp<int64_t>(kMultipliedBytes / (length * int64_t{sizeof(T)}), 1, multiplier);
    const Scratch<T> copy(together * plan.copy_size), gradients(together * some * length);
    const Scratch<T> lanes(block * sums_of_group);
    std::fill_n(lanes.data(), block * sums_of_group, T{0});
    Lookout lookout;
    for (int64_t b = 0; b < plan.count(); ++b) {
      const Band band = plan[b];
      const std::vector<Copy> copies = make_copies(plan, band, input);
      const int64_t count = round_up(plan.length(band.extent), kSlack);
      std::fill_n(copy.data(), together * plan.copy_size, T{0});
      std::fill_n(gradients.data(), together * some * length, T{0});
      const auto add = [&](int64_t n, int64_t group, int64_t groups, T* to) {
        copy_planes(plan, copies, input, n, group, groups, copy.data());
        const T* const from = output.data + n * output.batch_stride + group * multiplier * output.channel_stride +
                              offset_of(output, band.first);
        for (int64_t first = 0; first < multiplier; first += some) {
          const int64_t outputs = std::min(some, multiplier - first);
          const T* const of_first = from + first * output.channel_stride;
          for (int64_t d = 0; d < band.extent[0]; ++d) {
            kernels.copy(
                groups * outputs, band.extent[1], band.extent[2],
                {of_first + d * output.strides[0], output.channel_stride, output.strides[1], output.strides[2]},
                {gradients.data() + d * plan.strides[0], length, plan.strides[1], 1});
          }
          for (int64_t o = 0; o < outputs; ++o) {
            kernels.add_products(groups, count, taps, phase.offsets.data(), copy.data(), plan.copy_size,
                                 gradients.data() + o * length, outputs * length,
                                 to + (first + o) * taps * kSumLanes<T>, sums_of_group);
          }
        }
      };
      for (int64_t task = begin; task < end; ++task) {
        // Planes side by side in memory, image after image.
        const int64_t first = task % blocks * block, groups = std::min(block, window.groups - first);
        const int64_t image = task / blocks * part, last = std::min(image + part, output.batch);
        double* const totals = sums.data() + (task / blocks * window.groups + first) * in_group;
        int64_t added = 0;  // to a lane's sum, in single precision
        for (int64_t n = image; n < last; ++n) {
          for (int64_t g = 0; g < groups; g += together) {
            add(n, first + g, std::min(together, groups - g), lanes.data() + g * sums_of_group);
          }
          lookout.after(groups * (plan.copy_size + in_group * count));
          added += count;
          if (added < kProducts && n + 1 < last) continue;
          for (int64_t t = 0; t < groups * in_group; ++t) totals[t] += take_sum(lanes.data() + t * kSumLanes<T>);
          added = 0;
        }
      }
    }
  });

  const std::vector<int64_t> offsets = tap_offsets(weight);
  for (int64_t o = 0; o < weight.batch; ++o) {
    for (int64_t t = 0; t < taps; ++t) {
      double sum = 0;
      for (int64_t p = 0; p < parts; ++p) sum += sums[static_cast<size_t>((p * weight.batch + o) * taps + t)];
      // Between rows, elements of the input meet zeros, whose products with infinity and NaN are not 0.
      if (!std::isfinite(sum)) {
        const Extents tap = {t / weight.size[2] / weight.size[1], t / weight.size[2] % weight.size[1],
                             t % weight.size[2]};
        sum = sum_pixels(window, input, output, o / multiplier, o, tap);
      }
      weight.data[o * weight.batch_stride + offsets[static_cast<size_t>(t)]] = static_cast<T>(sum);
    }
  }
}

#define PYINIT_INSTANTIATE(T)                                                                               \
  template void depthwise_planes_gradient<T>(const Window&, const Images<const T>&, const Images<const T>&, \
                                             const Images<T>&, int);
PYINIT_INSTANTIATE(float)
PYINIT_INSTANTIATE(double)
#undef PYINIT_INSTANTIATE

}  // namespace pyinit
