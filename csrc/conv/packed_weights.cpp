#include "conv/packed_weights.hpp"

#include <algorithm>

#include "conv/correlation.hpp"
#include "conv/strip.hpp"
#include "core/parallel.hpp"
#include "linalg/kernels.hpp"

namespace pyinit {
namespace {

constexpr int64_t kGrain = int64_t{1} << 15;  // weights that a thread is worth

bool are_consecutive(const std::vector<int64_t>& taps) {
  for (size_t t = 1; t < taps.size(); ++t) {
    if (taps[t] != taps[t - 1] + 1) return false;
  }
  return true;
}

}  // namespace

template <class T> void pack_panel(const Filters<T>& filters, int64_t width, int64_t channels, T* turned, T* panel) {
  const PanelKernels<T>& kernels = panel_kernels<T>();
  const int64_t taps = static_cast<int64_t>(filters.taps.size()), row = kernels.panel;
  if (width < row) std::fill_n(panel, taps * channels * row, T{0});
  if (filters.input == taps && taps > 1 && are_consecutive(filters.taps)) {
    // Filters by channels and then taps: turned as they are, then put in order.
    kernels.transpose(width, channels * taps, filters.data + filters.taps[0], filters.output, turned, row);
    for (int64_t t = 0; t < taps; ++t) {
      kernels.copy(channels, width == row ? row : width, turned + t * row, taps * row, panel + t * channels * row, row);
    }
    return;
  }
  for (int64_t t = 0; t < taps; ++t) {
    const T* const x = filters.data + filters.taps[static_cast<size_t>(t)];
    T* const to = panel + t * channels * row;
    if (filters.input == 1) {
      kernels.transpose(width, channels, x, filters.output, to, row);
    } else if (filters.output == 1) {
      kernels.copy(channels, width, x, filters.input, to, row);
    } else {
      for (int64_t i = 0; i < channels; ++i) {
        for (int64_t j = 0; j < width; ++j) to[i * row + j] = x[i * filters.input + j * filters.output];
      }
    }
  }
}

template <class T>
PackedWeights<T>::PackedWeights(const Images<const T>& weight, int64_t groups, int threads)
    : groups_(groups),
      outputs_(weight.batch / groups),
      inputs_(weight.channels),
      taps_(weight.pixels()),
      chain_(chain_length(inputs_, taps_, kChannelsChainProducts)),
      width_(panel_kernels<T>().panel),
      data_(groups * panels() * inputs_ * taps_ * width_) {
  const std::vector<int64_t> taps = tap_offsets(weight);
  const int64_t largest = chain_ * taps_ * width_, tasks = groups_ * panels();
  const int usable = usable_threads(threads, weight.batch * inputs_ * taps_, kGrain);
  const int team = static_cast<int>(std::min<int64_t>(usable, tasks));
  const Scratch<T> turned(team * largest);
  Steps steps;
  steps.add(tasks, [&](int64_t task, int thread) {
    const int64_t group = task / panels(), output = task % panels() * width_;
    const T* const from = weight.data + (group * outputs_ + output) * weight.batch_stride;
    for (int64_t first = 0; first < inputs_; first += chain_) {
      pack_panel<T>({from + first * weight.channel_stride, weight.batch_stride, weight.channel_stride, taps},
                    std::min(width_, outputs_ - output), std::min(chain_, inputs_ - first),
                    turned.data() + thread * largest, data_.data() + place(group, output, first));
    }
  });
  steps.run(team);
}

template void pack_panel(const Filters<float>&, int64_t, int64_t, float*, float*);
template void pack_panel(const Filters<double>&, int64_t, int64_t, double*, double*);
template class PackedWeights<float>;
template class PackedWeights<double>;

}  // namespace pyinit
