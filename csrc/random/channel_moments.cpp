#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <vector>

#include "core/integers.hpp"
#include "core/parallel.hpp"
#include "random/gather.hpp"
#include "random/moments.hpp"

namespace pyinit {
namespace {

constexpr int64_t kGrain = 1 << 16;  // elements that are worth a thread
constexpr int64_t kBlock = 1024;     // elements of a channel that are described at a time
constexpr int64_t kChunk = 64;       // blocks of a task
constexpr int64_t kTogether = 16;    // channels that share cache lines, where channels lie side by side
constexpr int64_t kPositions = 256;  // units of a channel whose variances are taken at a time

// Neighbours joined where one runs into the next.
InlineVector<Dim> joined(const InlineVector<Dim>& dims) {
  InlineVector<Dim> out;
  for (const Dim& d : dims) {
    if (d.size == 1) continue;
    if (!out.empty() && out.back().stride == d.size * d.stride) {
      out.back() = {out.back().size * d.size, d.stride, 0};
    } else {
      out.push_back(d);
    }
  }
  if (out.empty()) out.push_back({1, 1, 0});
  return out;
}

int64_t count_of(const InlineVector<Dim>& dims) {
  int64_t n = 1;
  for (const Dim& d : dims) n *= d.size;
  return n;
}

int64_t offset_of(const InlineVector<Dim>& dims, int64_t i) {
  int64_t offset = 0;
  for (size_t d = dims.size(); d-- > 0;) {
    offset += i % dims[d].size * dims[d].stride;
    i /= dims[d].size;
  }
  return offset;
}

// A tensor by samples, channels and positions.
struct Layout {
  Layout(const View& view, size_t sample_dims, size_t channel_dim)
      : data(view.data), dtype(view.dtype), channel(view.dims[channel_dim]) {
    InlineVector<Dim> of_samples, of_positions, all;
    for (size_t d = 0; d < view.dims.size(); ++d) {
      if (d == channel_dim) continue;
      (d < sample_dims ? of_samples : of_positions).push_back(view.dims[d]);
      all.push_back(view.dims[d]);
    }
    samples = joined(of_samples);
    positions = joined(of_positions);
    elements = joined(all);
    const int64_t inner = elements.back().stride;
    together = channel.stride == 1 && inner != 1 ? kTogether : 1;
  }

  const char* at(int64_t channel_number, int64_t offset) const {
    return data + (channel_number * channel.stride + offset) * size_of(dtype);
  }

  char* data;
  DType dtype;
  Dim channel;
  InlineVector<Dim> samples, positions;
  InlineVector<Dim> elements;  // of a channel: samples, then positions
  int64_t together;            // channels of a task
};

// The statistics of the elements [begin, end) of `some` channels from `first` on, added to theirs.
void describe_blocks(const Layout& layout, int64_t first, int64_t some, int64_t begin, int64_t end,
                     const Bounds& bounds, Moments* to) {
  alignas(64) static thread_local char gathered[kTogether * kBlock * 8];
  const int64_t size = size_of(layout.dtype), stride = layout.elements.back().stride;
  for (int64_t i = begin; i < end; i += kBlock) {
    const int64_t count = std::min(kBlock, end - i);
    const char* from = nullptr;
    int64_t done = 0;
    for_each_run(layout.elements, i, i + count, [&](int64_t offset, int64_t n) {
      if (n == count && stride == 1 && some == 1) {
        from = layout.at(first, offset);
      } else if (some == 1) {
        gather(layout.at(first, offset), gathered + done * size, n, stride, layout.dtype);
      } else {
        gather_columns(layout.at(first, offset), gathered + done * size, n, stride, some, kBlock, layout.dtype);
      }
      done += n;
    });
    for (int64_t c = 0; c < some; ++c) {
      const char* const values = from != nullptr ? from : gathered + c * kBlock * size;
      to[c] = to[c] + describe(values, layout.dtype, count, bounds);
    }
  }
}

// Sums over samples of units' distances from their values at the first sample, and of the squares.
struct UnitSums {
  static constexpr int64_t kUnits = kPositions * kTogether;
  double first[kUnits], sum[kUnits], squares[kUnits];

  template <class T> void begin(const T* x, int64_t unit, int64_t count) {
    for (int64_t i = 0; i < count; ++i) {
      first[unit + i] = static_cast<double>(value_of(x[i]));
      sum[unit + i] = squares[unit + i] = 0;
    }
  }
  template <class T> void add(const T* x, int64_t unit, int64_t count) {
    for (int64_t i = 0; i < count; ++i) {
      const double distance = static_cast<double>(value_of(x[i])) - first[unit + i];
      sum[unit + i] += distance;
      squares[unit + i] += distance * distance;
    }
  }
  double variance(int64_t unit, double samples) const {
    return std::max(0.0, squares[unit] - sum[unit] * sum[unit] / samples) / samples;
  }
};

// Adds the variances of the units at positions [begin, end) of `some` channels from `first` on to theirs. Units are
// numbered by position and then channel, so that those side by side in memory have numbers side by side.
template <class T> void add_variances(const Layout& layout, int64_t first, int64_t some, int64_t begin, int64_t end,
                                      double* to) {
  static thread_local UnitSums sums;
  T gathered[kPositions];
  const int64_t samples = count_of(layout.samples), stride = layout.positions.back().stride;
  for (int64_t s = 0; s < samples; ++s) {
    const int64_t sample = offset_of(layout.samples, s);
    int64_t unit = 0;
    const auto take = [&](const T* x, int64_t count) {
      if (s == 0) {
        sums.begin(x, unit, count);
      } else {
        sums.add(x, unit, count);
      }
      unit += count;
    };
    for_each_run(layout.positions, begin, end, [&](int64_t offset, int64_t n) {
      const char* from = layout.at(first, sample + offset);
      if (some > 1) {
        for (int64_t i = 0; i < n; ++i) take(reinterpret_cast<const T*>(from) + i * stride, some);
      } else if (stride == 1) {
        take(reinterpret_cast<const T*>(from), n);
      } else {
        gather(from, reinterpret_cast<char*>(gathered), n, stride, layout.dtype);
        take(gathered, n);
      }
    });
  }
  for (int64_t c = 0; c < some; ++c) {
    for (int64_t i = 0; i < end - begin; ++i) to[c] += sums.variance(i * some + c, static_cast<double>(samples));
  }
}

// A part of what is to be known of some channels: blocks to describe, or positions whose variances are summed.
struct Task {
  int64_t first, some, begin, end;
  bool is_variance;
  Moments moments[kTogether];
  double variances[kTogether] = {};
};

}  // namespace

Channels describe_channels(const View& view, size_t samples, size_t channel, const Bounds& bounds, int threads) {
  const size_t dims = view.dims.size();
  if (channel >= dims || samples > channel) {
    throw std::invalid_argument("channel: must be a dimension behind the samples'");
  }
  const Layout layout(view, samples, channel);
  Channels all;
  all.channels.resize(static_cast<size_t>(layout.channel.size));
  if (view.count() == 0) return all;
  const int64_t elements = count_of(layout.elements), positions = count_of(layout.positions);
  std::vector<Task> tasks;
  for (int64_t c = 0; c < layout.channel.size; c += layout.together) {
    const int64_t some = std::min(layout.together, layout.channel.size - c);
    for (int64_t i = 0; i < elements; i += kChunk * kBlock) {
      tasks.push_back({c, some, i, std::min(elements, i + kChunk * kBlock), false, {}, {}});
    }
    for (int64_t p = 0; positions > 1 && p < positions; p += kPositions) {
      tasks.push_back({c, some, p, std::min(positions, p + kPositions), true, {}, {}});
    }
  }
  Steps steps;
  steps.add(static_cast<int64_t>(tasks.size()), [&](int64_t i, int) {
    Task& task = tasks[static_cast<size_t>(i)];
    if (!task.is_variance) {
      return describe_blocks(layout, task.first, task.some, task.begin, task.end, bounds, task.moments);
    }
    visit(layout.dtype, [&](auto zero) {
      add_variances<decltype(zero)>(layout, task.first, task.some, task.begin, task.end, task.variances);
    });
  });
  steps.run(usable_threads(threads, view.count(), kGrain));
  std::vector<double> variances(all.channels.size());
  for (const Task& task : tasks) {
    for (int64_t c = 0; c < task.some; ++c) {
      const auto at = static_cast<size_t>(task.first + c);
      all.channels[at] = all.channels[at] + task.moments[c];
      variances[at] += task.variances[c];
    }
  }
  for (size_t c = 0; c < variances.size(); ++c) {
    const Moments& m = all.channels[c];
    // A channel of one position is a unit.
    all.total_variance += positions > 1 ? variances[c] : m.squares / static_cast<double>(m.count);
  }
  return all;
}

}  // namespace pyinit
