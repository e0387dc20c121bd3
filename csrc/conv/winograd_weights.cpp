#include "conv/winograd_weights.hpp"

#include <algorithm>

#include "conv/correlation.hpp"
#include "conv/winograd_kernels.hpp"
#include "core/parallel.hpp"
#include "linalg/kernels.hpp"

namespace pyinit {
namespace {

constexpr int64_t kTaps = 9;
constexpr int64_t kChannels = 16;  // whose weights are transformed together, in the first cache
static_assert(kInputsTogether % kChannels == 0);
constexpr int64_t kGrain = int64_t{1} << 15;  // weights that a thread is worth
constexpr int64_t kCacheLine = 64 / int64_t{sizeof(float)};

int64_t panel() { return panel_kernels<float>().panel; }

// Weights of some outputs, side by side.
struct Turned {
  const float* data;
  int64_t tap, channel;
};

// Whether taps lie one after the other, forwards or, in the transposed map, backwards.
bool are_adjacent(const std::vector<int64_t>& taps) {
  const int64_t step = taps[1] - taps[0];
  for (size_t t = 1; t < taps.size(); ++t) {
    if (taps[t] - taps[t - 1] != step) return false;
  }
  return step == 1 || step == -1;
}

Turned turn(const Filters<float>& filters, int64_t width, int64_t channels, float* scratch) {
  const PanelKernels<float>& kernels = panel_kernels<float>();
  const int64_t row = kernels.panel, size = kTaps * channels * row;
  if (!are_adjacent(filters.taps)) {
    float* const taps = scratch + size;
    pack_panel(filters, PanelOrder::taps, width, channels, panel_kernels<float>().panel, scratch, taps);
    return {taps, channels * row, row};
  }
  if (width < row) std::fill_n(scratch, size, 0.0F);
  const float* const from = filters.data + std::min(filters.taps.front(), filters.taps.back());
  if (filters.input == kTaps) {
    kernels.transpose(width, channels * kTaps, from, filters.output, scratch, row);
  } else {
    for (int64_t i = 0; i < channels; ++i) {
      kernels.transpose(width, kTaps, from + i * filters.input, filters.output, scratch + i * kTaps * row, row);
    }
  }
  const bool is_forward = filters.taps.front() < filters.taps.back();
  return {is_forward ? scratch : scratch + (kTaps - 1) * row, is_forward ? row : -row, kTaps * row};
}

}  // namespace

WinogradWeights::WinogradWeights(int64_t groups, int64_t outputs, int64_t inputs)
    : groups_(groups),
      outputs_(outputs),
      inputs_(inputs),
      width_(panel()),
      data_(groups * panels() * inputs * width_ * kPoints) {}

WinogradWeights::WinogradWeights(const Images<const float>& filters, int64_t groups, int threads)
    : WinogradWeights(groups, filters.batch / groups, filters.channels) {
  const std::vector<int64_t> taps = tap_offsets(filters);
  const GroupedFilters all = {filters.data, outputs_ * filters.batch_stride, filters.batch_stride,
                              filters.channel_stride, taps};
  const int usable = usable_threads(threads, filters.batch * filters.channels * kTaps, kGrain);
  const int64_t each = round_up(scratch(), kCacheLine);
  const Scratch<float> memory(usable * each);
  Steps steps;
  steps.add(tasks(), [&](int64_t task, int thread) { make(all, task, memory.data() + thread * each); });
  steps.run(usable);
}

bool WinogradWeights::fit(int64_t groups, int64_t outputs, int64_t inputs) const {
  return groups == groups_ && outputs == outputs_ && inputs == inputs_ && width_ == panel();
}

int64_t WinogradWeights::place(int64_t group, int64_t panel, int64_t first) const {
  return ((group * panels() + panel) * inputs_ + first) * width_ * kPoints;
}

int64_t WinogradWeights::tasks() const { return groups_ * panels() * divide_up(inputs_, kChannels); }

int64_t WinogradWeights::scratch() const { return 2 * kChannels * kTaps * width_; }

void WinogradWeights::make(const GroupedFilters& filters, int64_t task, float* scratch) {
  const int64_t some = divide_up(inputs_, kChannels), first = task % some * kChannels;
  const int64_t panel = task / some % panels(), group = task / some / panels();
  const int64_t begin = first / kInputsTogether * kInputsTogether,
                together = std::min(kInputsTogether, inputs_ - begin);
  const int64_t output = panel * width_, channels = std::min(kChannels, inputs_ - first);
  const float* const from = filters.data + group * filters.group + output * filters.output + first * filters.input;
  const Turned taps =
      turn({from, filters.output, filters.input, filters.taps}, std::min(width_, outputs_ - output), channels, scratch);
  winograd_kernels().transform_weights(channels, taps.data, taps.tap, taps.channel,
                                       data_.data() + place(group, panel, begin) + (first - begin) * width_,
                                       together * width_);
}

}  // namespace pyinit
