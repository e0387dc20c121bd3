#include <algorithm>
#include <cmath>
#include <numeric>
#include <tuple>
#include <vector>

#include "core/integers.hpp"
#include "core/parallel.hpp"
#include "random/channel_layout.hpp"
#include "random/gather.hpp"
#include "random/moments.hpp"
#include "random/two_passes.hpp"

namespace pyinit {
namespace {

constexpr int64_t kGrain = 1 << 16;  // elements that are worth a thread
constexpr int64_t kLine = 64;        // bytes that the memory brings at a time
constexpr int64_t kSamples = 256;    // whose places are known at a time

// The elements [begin, end) of one channel, by blocks.
void describe_blocks(const Layout& layout, int64_t channel, int64_t begin, int64_t end, const Bounds& bounds,
                     Moments* to) {
  alignas(64) char gathered[kBlock * 8];
  const int64_t stride = layout.elements[layout.elements.size() - 1].stride;
  const int64_t ahead = layout.channel.stride * layout.size;
  for (int64_t i = begin; i < end; i += kBlock) {
    const int64_t count = std::min(kBlock, end - i);
    const char* values = gathered;
    int64_t done = 0;
    for_each_run(layout.elements, i, i + count, [&](int64_t offset, int64_t n) {
      const char* const from = layout.at(channel, offset);
      // Runs are too short, and too far apart, for the hardware to see that the next channel's come next.
      for (int64_t b = 0; b < n * layout.size; b += kLine) __builtin_prefetch(from + ahead + b);
      if (n == count && stride == 1) {
        values = from;
      } else {
        gather(from, gathered + done * layout.size, n, stride, layout.dtype);
      }
      done += n;
    });
    *to = *to + describe(values, layout.dtype, count, bounds);
  }
}

// The rows [begin, end) of `some` channels side by side: as floats or doubles, where the kernels find them.
class Rows {
 public:
  Rows(const Layout& layout, int64_t first, int64_t some, int64_t begin, int64_t end)
      : is_double_(layout.dtype == DType::f64) {
    const int64_t stride = layout.elements[layout.elements.size() - 1].stride;
    for_each_run(layout.elements, begin, end, [&](int64_t offset, int64_t n) {
      for (int64_t i = 0; i < n; ++i) offsets_[count_++] = first + offset + i * stride;
    });
    values_ = layout.data;
    // As they are if they are floats or doubles, and all columns are there.
    if (layout.size >= 4 && some == kColumns) return;
    visit(layout.dtype, [&](auto zero) {
      using T = decltype(zero);
      using Wide = decltype(value_of(zero));
      const T* const x = reinterpret_cast<const T*>(layout.data);
      Wide* const to = reinterpret_cast<Wide*>(copy_);
      for (int64_t i = 0; i < count_; ++i) {
        for (int64_t c = 0; c < some; ++c) to[i * kColumns + c] = value_of(x[offsets_[i] + c]);
        for (int64_t c = some; c < kColumns; ++c) to[i * kColumns + c] = 0;
        offsets_[i] = i * kColumns;
      }
    });
    values_ = copy_;
  }

  void describe(int64_t some, DType dtype, const Bounds& bounds, Moments* to) const {
    const MomentsKernels& kernels = moments_kernels();
    ColumnSums sums;
    kernels.column_sums[is_double_](values_, offsets_, count_, sums);
    Moments of[kColumns];
    Frame frames[kColumns] = {};
    double centres[kColumns] = {}, scales[kColumns] = {};
    for (int64_t c = 0; c < some; ++c) {
      const Sums one{sums.first[c], sums.sum[c], sums.squares[c], sums.min[c], sums.max[c]};
      std::tie(of[c], frames[c]) = begin_statistics(one, dtype, count_, [&] { return count_nonfinite(c); });
      // Sums of scaled distances from near the mean are the more exact ones.
      frames[c].is_needed = true;
      centres[c] = frames[c].centre;
      scales[c] = frames[c].scale;
    }
    ColumnPowers powers;
    const bool counts_bounds = std::any_of(of, of + some, [&](const Moments& m) { return reaches(m, bounds); });
    kernels.column_powers[is_double_](values_, offsets_, count_, centres, scales, counts_bounds ? &bounds : nullptr,
                                      powers);
    for (int64_t c = 0; c < some; ++c) {
      finish_statistics({powers.first[c], powers.second[c], powers.third[c], powers.fourth[c], powers.zeros[c],
                         powers.low[c], powers.high[c]},
                        frames[c], of[c]);
      to[c] = to[c] + of[c];
    }
  }

 private:
  int64_t count_nonfinite(int64_t column) const {
    int64_t n = 0;
    for (int64_t i = 0; i < count_; ++i) {
      const int64_t at = offsets_[i] + column;
      n += !std::isfinite(is_double_ ? static_cast<const double*>(values_)[at]
                                     : static_cast<double>(static_cast<const float*>(values_)[at]));
    }
    return n;
  }

  bool is_double_;
  int64_t count_ = 0;
  int64_t offsets_[kRows];
  const void* values_;
  alignas(64) char copy_[kRows * kColumns * 8];
};

// The variances over the samples of the units at positions [begin, end) of `some` channels, summed up for each channel.
// Units are numbered by position and then channel, so that those side by side in memory have numbers side by side.
void sum_variances(const Layout& layout, int64_t first, int64_t some, int64_t begin, int64_t end, double* to) {
  double origins[kUnits], sums[kUnits], squares[kUnits];
  alignas(64) char wide[kUnits * 8];
  const auto add = moments_kernels().add_samples[layout.dtype == DType::f64];
  const int64_t units = (end - begin) * some, stride = layout.positions[layout.positions.size() - 1].stride;
  const int64_t samples = count_of(layout.samples), step = layout.samples[layout.samples.size() - 1].stride;
  std::fill(sums, sums + units, 0.0);
  std::fill(squares, squares + units, 0.0);
  visit(layout.dtype, [&](auto zero) {
    using T = decltype(zero);
    using Wide = decltype(value_of(zero));
    int64_t offsets[kSamples], known = 0, done = 0;  // of samples
    const auto add_known = [&] {
      int64_t unit = 0;
      // The first sample is what the others are measured from.
      const int64_t from = done == 0 ? 1 : 0;
      const auto take = [&](const T* x, int64_t count, int64_t apart) {
        double* const origin = origins + unit;
        if (from == 1) {
          for (int64_t i = 0; i < count; ++i) {
            origin[i] = static_cast<double>(value_of(x[offsets[0] + i * apart]));
          }
        }
        if (apart == 1 && sizeof(T) == sizeof(Wide)) {
          add(x, offsets + from, known - from, count, origin, sums + unit, squares + unit);
        } else {
          Wide* const copy = reinterpret_cast<Wide*>(wide);
          const int64_t nowhere = 0;
          for (int64_t s = from; s < known; ++s) {
            for (int64_t i = 0; i < count; ++i) copy[i] = value_of(x[offsets[s] + i * apart]);
            add(copy, &nowhere, 1, count, origin, sums + unit, squares + unit);
          }
        }
        unit += count;
      };
      for_each_run(layout.positions, begin, end, [&](int64_t offset, int64_t run) {
        const T* const x = reinterpret_cast<const T*>(layout.at(first, offset));
        if (some == 1) return take(x, run, stride);
        for (int64_t i = 0; i < run; ++i) take(x + i * stride, some, 1);
      });
      done += known;
      known = 0;
    };
    for_each_run(layout.samples, 0, samples, [&](int64_t sample, int64_t n) {
      for (int64_t s = 0; s < n; ++s) {
        offsets[known++] = sample + s * step;
        if (known == kSamples) add_known();
      }
    });
    if (known > 0) add_known();
  });
  const double share = 1 / static_cast<double>(samples);
  double lanes[kColumns] = {};
  if (some == 1 || some == kColumns) {
    moments_kernels().add_variances(sums, squares, units, share, lanes);
  } else {
    for (int64_t u = 0; u < units; u += some) {
      for (int64_t i = 0; i < some; ++i) lanes[i] += std::max(0.0, squares[u + i] - sums[u + i] * sums[u + i] * share);
    }
  }
  if (some == 1) lanes[0] = std::accumulate(lanes, lanes + kColumns, 0.0);
  for (int64_t c = 0; c < some; ++c) to[c] = lanes[c] * share;
}

// What a thread does at a time: a part of the elements of some channels, or of their positions.
struct Task {
  int64_t first, end;  // channels
  int64_t part;
};

}  // namespace

Channels describe_channels(const View& view, size_t samples, size_t channel, const Bounds& bounds, int threads) {
  const Layout layout(view, samples, channel);
  const int64_t channels = layout.channel.size;
  Channels all;
  all.channels.resize(static_cast<size_t>(channels));
  if (view.count() == 0) return all;
  const int64_t elements = count_of(layout.elements), positions = count_of(layout.positions);
  // Channels of a task, a multiple of those together, and parts of a channel.
  const int64_t each = round_up(divide_up(kPart / 4, elements), layout.together);
  const int64_t parts = divide_up(elements, kPart), some_positions = layout.positions_of_part();
  const int64_t position_parts = positions > 1 ? divide_up(positions, some_positions) : 0;
  std::vector<Moments> moments(static_cast<size_t>(channels * parts));
  std::vector<double> variances(static_cast<size_t>(channels * position_parts));
  std::vector<Task> tasks;
  for (int64_t c = 0; c < channels; c += each) {
    for (int64_t p = 0; p < parts + position_parts; ++p) tasks.push_back({c, std::min(channels, c + each), p});
  }
  Steps steps;
  steps.add(static_cast<int64_t>(tasks.size()), [&](int64_t i, int) {
    const Task& task = tasks[static_cast<size_t>(i)];
    for (int64_t c = task.first; c < task.end; c += layout.together) {
      const int64_t some = std::min(layout.together, task.end - c);
      if (task.part >= parts) {
        const int64_t p = task.part - parts;
        double of[kColumns] = {};
        sum_variances(layout, c, some, p * some_positions, std::min(positions, (p + 1) * some_positions), of);
        for (int64_t j = 0; j < some; ++j) variances[static_cast<size_t>((c + j) * position_parts + p)] = of[j];
        continue;
      }
      Moments of[kColumns];
      const int64_t begin = task.part * kPart, end = std::min(elements, begin + kPart);
      if (layout.together == 1) {
        describe_blocks(layout, c, begin, end, bounds, of);
      } else {
        for (int64_t row = begin; row < end; row += kRows) {
          Rows(layout, c, some, row, std::min(end, row + kRows)).describe(some, layout.dtype, bounds, of);
        }
      }
      for (int64_t j = 0; j < some; ++j) moments[static_cast<size_t>((c + j) * parts + task.part)] = of[j];
    }
  });
  steps.run(usable_threads(threads, view.count(), kGrain));
  for (int64_t c = 0; c < channels; ++c) {
    Moments& m = all.channels[static_cast<size_t>(c)];
    for (int64_t p = 0; p < parts; ++p) m = m + moments[static_cast<size_t>(c * parts + p)];
    // A channel of one position is a unit.
    double variance = positions > 1 ? 0 : m.squares / static_cast<double>(m.count);
    for (int64_t p = 0; p < position_parts; ++p) variance += variances[static_cast<size_t>(c * position_parts + p)];
    all.total_variance += variance;
  }
  return all;
}

}  // namespace pyinit
