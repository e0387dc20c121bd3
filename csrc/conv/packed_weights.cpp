#include "conv/packed_weights.hpp"

#include <algorithm>

#include "conv/correlation.hpp"
#include "conv/kernels.hpp"
#include "conv/strip.hpp"
#include "core/parallel.hpp"
#include "linalg/kernels.hpp"

namespace pyinit {
namespace {

constexpr int64_t kGrain = int64_t{1} << 15;  // weights that a thread is worth

constexpr int64_t kTogether = 16;  // panels

// At a distance of 1 or -1.
bool are_consecutive(const std::vector<int64_t>& taps, int64_t distance) {
  for (size_t t = 1; t < taps.size(); ++t) {
    if (taps[t] != taps[t - 1] + distance) return false;
  }
  return true;
}

}  // namespace

template <class T>
void pack_panel(const Filters<T>& filters, PanelOrder order, int64_t width, int64_t channels, int64_t row, T* turned,
                T* panel) {
  const PanelKernels<T>& kernels = panel_kernels<T>();
  const int64_t taps = static_cast<int64_t>(filters.taps.size());
  const int64_t of_tap = order == PanelOrder::taps ? channels * row : row;  // distances in the panel
  const int64_t of_channel = order == PanelOrder::taps ? row : taps * row;
  if (width < row) std::fill_n(panel, taps * channels * row, T{0});
  if (filters.input == taps && taps > 1 && are_consecutive(filters.taps, 1)) {
    // Filters by channels and then taps: turned as they are, then put in order.
    T* const to = order == PanelOrder::taps ? turned : panel;
    kernels.transpose(width, channels * taps, filters.data + filters.taps[0], filters.output, to, row);
    for (int64_t t = 0; t < taps && to == turned; ++t) {
      kernels.copy(channels, width == row ? row : width, turned + t * row, taps * row, panel + t * channels * row, row);
    }
    return;
  }
  if (filters.output == taps && taps > 1 && are_consecutive(filters.taps, -1)) {
    // Filters by outputs and then taps, which are to be in the opposite order.
    for (int64_t i = 0; i < channels; ++i) {
      kernels.transpose(width, taps, filters.data + filters.taps.back() + i * filters.input, filters.output,
                        panel + (taps - 1) * of_tap + i * of_channel, -of_tap);
    }
    return;
  }
  for (int64_t t = 0; t < taps; ++t) {
    const T* const x = filters.data + filters.taps[static_cast<size_t>(t)];
    T* const to = panel + t * of_tap;
    if (filters.input == 1) {
      kernels.transpose(width, channels, x, filters.output, to, of_channel);
    } else if (filters.output == 1) {
      kernels.copy(channels, width, x, filters.input, to, of_channel);
    } else {
      for (int64_t i = 0; i < channels; ++i) {
        for (int64_t j = 0; j < width; ++j) to[i * of_channel + j] = x[i * filters.input + j * filters.output];
      }
    }
  }
}

template <class T> int64_t panel_width(int64_t outputs) {
  const int64_t panel = panel_kernels<T>().panel;
  return outputs <= panel ? panel : conv_kernels<T>().wide_panel;
}

template <class T>
PackedWeights<T>::PackedWeights(const Images<const T>& weight, int64_t groups, int threads)
    : PackedWeights({groups, weight.batch / groups * weight.batch_stride, weight.batch / groups, weight.channels},
                    {weight.data, weight.batch_stride, weight.channel_stride, tap_offsets(weight)}, PanelOrder::taps,
                    chain_length(weight.channels, weight.pixels(), kChannelsChainProducts),
                    panel_width<T>(weight.batch / groups), threads) {}

template <class T>
PackedWeights<T>::PackedWeights(const FilterGroups& groups, const Filters<T>& filters, PanelOrder order, int64_t chain,
                                int64_t width, int threads)
    : groups_(groups.groups),
      outputs_(groups.outputs),
      inputs_(groups.inputs),
      taps_(static_cast<int64_t>(filters.taps.size())),
      order_(order),
      chain_(chain),
      width_(width),
      data_(groups_ * panels() * distance()) {
  if (filters.output == 1) {
    pack_rows(groups, filters, threads);
    return;
  }
  const int64_t largest = std::min(chain_, inputs_) * taps_ * width_, tasks = groups_ * panels();
  const int usable = usable_threads(threads, groups_ * outputs_ * inputs_ * taps_, kGrain);
  const int team = static_cast<int>(std::min<int64_t>(usable, tasks));
  const Scratch<T> turned(team * largest);
  Steps steps;
  steps.add(tasks, [&](int64_t task, int thread) {
    const int64_t group = task / panels(), output = task % panels() * width_;
    const T* const from = filters.data + group * groups.distance + output * filters.output;
    for (int64_t first = 0; first < inputs_; first += chain_) {
      pack_panel<T>({from + first * filters.input, filters.output, filters.input, filters.taps}, order_,
                    std::min(width_, outputs_ - output), std::min(chain_, inputs_ - first), width_,
                    turned.data() + thread * largest, data_.data() + place(group, output, first));
    }
  });
  steps.run(team);
}

// Outputs side by side: each row of several panels is read at once.
template <class T>
void PackedWeights<T>::pack_rows(const FilterGroups& groups, const Filters<T>& filters, int threads) {
  const int64_t parts = divide_up(panels(), kTogether), tasks = groups_ * parts;
  const int usable = usable_threads(threads, groups_ * outputs_ * inputs_ * taps_, kGrain);
  Steps steps;
  steps.add(tasks, [&](int64_t task, int) {
    const int64_t group = task / parts, output = task % parts * kTogether * width_;
    const int64_t outputs = std::min(kTogether * width_, outputs_ - output), whole = outputs / width_ * width_;
    const T* const from = filters.data + group * groups.distance + output;
    for (int64_t first = 0; first < inputs_; first += chain_) {
      const int64_t channels = std::min(chain_, inputs_ - first);
      const int64_t of_tap = order_ == PanelOrder::taps ? channels : 1,
                    of_channel = order_ == PanelOrder::taps ? 1 : taps_;
      T* const panel = data_.data() + place(group, output, first);
      for (int64_t t = 0; t < taps_; ++t) {
        for (int64_t i = 0; i < channels; ++i) {
          const T* const row = from + filters.taps[static_cast<size_t>(t)] + (first + i) * filters.input;
          T* const to = panel + (t * of_tap + i * of_channel) * width_;
          for (int64_t o = 0; o < whole; o += width_) std::copy_n(row + o, width_, to + o / width_ * distance());
          if (whole == outputs) continue;
          T* const last = to + whole / width_ * distance();
          std::fill(std::copy_n(row + whole, outputs - whole, last), last + width_, T{0});
        }
      }
    }
  });
  steps.run(static_cast<int>(std::min<int64_t>(usable, tasks)));
}

template void pack_panel(const Filters<float>&, PanelOrder, int64_t, int64_t, int64_t, float*, float*);
template void pack_panel(const Filters<double>&, PanelOrder, int64_t, int64_t, int64_t, double*, double*);
template int64_t panel_width<float>(int64_t);
template int64_t panel_width<double>(int64_t);
template class PackedWeights<float>;
template class PackedWeights<double>;

}  // namespace pyinit
