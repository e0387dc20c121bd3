#include "conv/correlation.hpp"

#include <algorithm>
#include <type_traits>

#include "conv/finish.hpp"
#include "conv/winograd.hpp"
#include "core/integers.hpp"
#include "core/parallel.hpp"
#include "core/scratch.hpp"

namespace pyinit {
namespace {

constexpr int64_t kGrain = int64_t{1} << 17;  // multiply-adds that a thread is worth
constexpr int64_t kMostParts = 8;             // of the channels, for each thread
constexpr int64_t kPartCost = 1;  // what each part does for itself takes as long as so many tiles of channels
constexpr int64_t kCacheLine = 64;
constexpr int64_t kFewChannels = 12;  // fewer than this do not fill a panel
// Sums that are worth turning: so many channels, or a multiple of whole vectors, of so many products, in rows of at
// most so many pixels. Weights of several phases, which are turned tap by tap, must not be too many.
constexpr int64_t kManyChannels = 96, kVectorChannels = 16, kManyProducts = 100, kShortRow = 36;
constexpr int64_t kFewWeights = int64_t{1} << 17;
constexpr int64_t kStripBytes = int64_t{4} << 20;  // the most that a strip takes, however far apart taps are
constexpr int64_t kManyPixels = 1024;              // that make up for packing all weights once

template <class T> double work_of(const Correlation<T>& c) {
  double work = 0;
  for (const Phase<T>& phase : c.phases) {
    work += static_cast<double>(phase.output.batch * phase.output.pixels()) * static_cast<double>(count(phase.taps));
  }
  return work * static_cast<double>(c.inputs()) * static_cast<double>(c.groups * c.outputs());
}

// The chain of each phase. A phase of fewer taps takes more inputs into a chain, as long as it stays no longer than a
// chain of the phase with the most taps.
template <class T> std::vector<int64_t> chains_of(const Correlation<T>& c) {
  const int64_t most_taps = c.most_taps(), least = chain_length(c.inputs(), most_taps, c.products);
  std::vector<int64_t> chains;
  for (const Phase<T>& phase : c.phases) {
    int64_t chain = least;
    while (2 * chain * count(phase.taps) <= least * most_taps) chain *= 2;
    chains.push_back(chain);
  }
  return chains;
}

// The most pixels that a block may have if a strip holds this many channels of each.
template <class T> int64_t most_pixels(const Reach& reach, int64_t channels) {
  return kStripBytes / int64_t{sizeof(T)} / (channels * count(reach.taps));
}

}  // namespace

template <class T> Reach Correlation<T>::reach() const {
  Reach all{step, {}};
  for (const Phase<T>& phase : phases) {
    for (size_t i = 0; i < kSpatial; ++i) {
      std::vector<int64_t>& taps = all.taps[i];
      taps.insert(taps.end(), phase.taps[i].begin(), phase.taps[i].end());
      std::sort(taps.begin(), taps.end());
      taps.erase(std::unique(taps.begin(), taps.end()), taps.end());
    }
  }
  return all;
}

template <class T> Extents Correlation<T>::pixels() const {
  Extents most{0, 0, 0};
  for (const Phase<T>& phase : phases) {
    for (size_t i = 0; i < kSpatial; ++i) most[i] = std::max(most[i], phase.output.size[i]);
  }
  return most;
}

template <class T> int64_t Correlation<T>::most_taps() const {
  int64_t most = 0;
  for (const Phase<T>& phase : phases) most = std::max(most, count(phase.taps));
  return most;
}

int64_t chain_length(int64_t inputs, int64_t taps, int64_t products) {
  // NOLINTNEXTLINE(clang-analyzer-core.DivideZero): what has no taps is not summed
  return divide_up(inputs, divide_up(inputs, std::max<int64_t>(1, products / taps)));
}

template <class T>
Tasks<T>::Tasks(const Correlation<T>& correlation, const Epilogue<T>& epilogue, int64_t pixels, const BlockCosts& costs,
                int64_t outputs, int threads)
    : correlation_(correlation),
      reach_(correlation.reach()),
      chains_(chains_of(correlation)),
      channels_(*std::max_element(chains_.begin(), chains_.end())),
      blocks_(correlation.input.batch, correlation.pixels(),
              std::clamp(most_pixels<T>(reach_, std::min(channels_, correlation.inputs())),
                         std::min(costs.align, pixels), pixels),
              costs, threads),
      depth_(0),
      epilogue_(epilogue),
      floor_(0) {
  for (size_t i = 0; i < chains_.size(); ++i) {
    depth_ = std::max(depth_, std::min(chains_[i], correlation.inputs()) * pyinit::count(correlation.phases[i].taps));
  }
  // Channels are divided, too, where blocks alone would leave threads without work.
  const int64_t most = divide_up(correlation.outputs(), outputs), blocks = correlation.groups * blocks_.count();
  const int64_t largest = blocks_.largest().pixels();
  const Extents size = correlation.pixels();
  const int64_t all = correlation.groups * correlation.input.batch * size[0] * size[1] * size[2];
  int64_t least_cost = INT64_MAX;
  for (int64_t parts = 1; parts <= std::min<int64_t>(most, kMostParts * threads); ++parts) {
    const int64_t tasks = blocks * parts, rounds = divide_up(tasks, threads),
                  tiles = divide_up(most, parts) + kPartCost;
    // Blocks are not of equal size. With few tasks for each thread, all may wait for the largest.
    const int64_t pixels =
        rounds <= 2 ? rounds * threads * largest : all * parts + (rounds * threads - tasks) * largest;
    const int64_t cost = pixels * tiles;
    if (cost >= least_cost) continue;
    least_cost = cost;
    outputs_each_ = divide_up(most, parts) * outputs;
  }
  parts_ = divide_up(correlation.outputs(), outputs_each_);
}

template <class T> typename Tasks<T>::Part Tasks<T>::part(int64_t task) const {
  const int64_t first = task % parts_ * outputs_each_;
  return {task / parts_ / blocks_.count(), blocks_[task / parts_ % blocks_.count()], first,
          std::min(outputs_each_, correlation_.outputs() - first)};
}

template <class T> Block Tasks<T>::clip(Block block, const Phase<T>& phase) {
  for (size_t i = 0; i < kSpatial; ++i) {
    block.size[i] = std::clamp<int64_t>(phase.output.size[i] - block.begin[i], 0, block.size[i]);
  }
  return block;
}

template <class T> void Tasks<T>::read_as_it_is() {
  channels_loaded_ = std::min(channels_, correlation_.inputs());
  for (const Phase<T>& phase : correlation_.phases) taps_.push_back(tap_offsets(phase.taps, correlation_.input));
}

template <class T> const Strip& Tasks<T>::read_from_strip(Order order, int64_t channels) {
  channels_loaded_ = std::min(channels, correlation_.inputs());
  strip_.emplace(reach_, order, blocks_.largest(), channels_loaded_);
  at_strip_ = place(strip_->size());
  for (const Phase<T>& phase : correlation_.phases) taps_.push_back(strip_->offsets(phase.taps));
  return *strip_;
}

template <class T> void Tasks<T>::pack(PanelOrder order, int64_t width, int64_t most_bytes, int threads) {
  const Correlation<T>& c = correlation_;
  packed_.assign(c.phases.size(), nullptr);
  if (c.packed != nullptr &&
      c.packed->fit(c.groups, c.outputs(), c.inputs(), c.most_taps(), order, chains_[0], width)) {
    packed_[0] = c.packed;
    return;
  }
  const int64_t pixels = c.pixels()[0] * c.pixels()[1] * c.pixels()[2];
  int64_t taps = 0;
  for (const Phase<T>& phase : c.phases) taps += pyinit::count(phase.taps);
  const int64_t weights = c.groups * round_up(c.outputs(), width) * c.inputs() * taps;
  if (c.input.batch * pixels < kManyPixels || weights * int64_t{sizeof(T)} > most_bytes) return;
  for (size_t i = 0; i < packed_.size(); ++i) {
    packed_[i] = &packed_once_.emplace_back(FilterGroups{c.groups, c.group, c.outputs(), c.inputs()},
                                            Filters<T>{c.weight, c.output, c.input_channel, c.phases[i].weights}, order,
                                            chains_[i], width, threads);
  }
}

// Other activations take vectors of many sums at a time. Adding -0 leaves everything as it is.
template <class T> void Tasks<T>::end_in_registers() {
  const int64_t channels = correlation_.groups * correlation_.outputs();
  const bool is_relu = epilogue_.activation == Activation::relu, is_none = epilogue_.activation == Activation::none;
  biases_.assign(static_cast<size_t>(channels + kMaxPanel), is_relu ? T{0} : -T{0});
  floor_ = lowest(epilogue_);
  if (!is_relu && !is_none) return;
  if (epilogue_.bias != nullptr) std::copy_n(epilogue_.bias, channels, biases_.begin());
  epilogue_ = {nullptr, Activation::none, T{0}};
}

template <class T> void Tasks<T>::run(int64_t task, T* scratch) const {
  const Correlation<T>& c = correlation_;
  const Part whole = part(task);
  const int64_t inputs = c.inputs(), output = whole.group * c.outputs() + whole.first;
  Lookout lookout;
  for (int64_t load = 0; load < inputs; load += channels_loaded_) {
    const int64_t loaded = std::min(channels_loaded_, inputs - load), channel = whole.group * inputs + load;
    const Source<T> source = strip_ ? strip_->fill(c.input, whole.block, channel, loaded, scratch + at_strip_)
                                    : as_it_is(reach_, c.input, whole.block, channel);
    for (size_t i = 0; i < c.phases.size(); ++i) {
      Part part = whole;
      part.block = clip(whole.block, c.phases[i]);
      if (part.block.pixels() == 0) continue;
      for (int64_t first = 0; first < loaded; first += chains_[i]) {
        Source<T> from = source;
        from.data += first * source.channel;
        run_chain(i, part, load + first, std::min(chains_[i], loaded - first), from, scratch);
        lookout.after(part.block.pixels() * part.outputs * depth_);
      }
    }
  }
  for (const Phase<T>& phase : c.phases) {
    finish(epilogue_, phase.output, clip(whole.block, phase), output, whole.outputs);
  }
}

template <class T> T* Tasks<T>::begin(const Phase<T>& phase, const Part& part) const {
  return phase.output.at(part.block.image, part.group * correlation_.outputs() + part.first, part.block.begin);
}

// Pixels side by side are gathered once for each tap, which costs most where rows are short; output channels side by
// side cost a turn of what is read and of all sums. Batch sizes, threads and machines do not matter, so that bits do
// not depend on them.
template <class T> bool goes_by_channels(const Correlation<T>& c) {
  if (c.outputs() < kFewChannels) return false;
  if (c.phases[0].output.channel_stride == 1) return true;
  int64_t taps = 0;
  for (const Phase<T>& phase : c.phases) taps += count(phase.taps);
  const bool fills_panels = c.outputs() % kVectorChannels == 0 || c.outputs() >= kManyChannels;
  const bool is_small = c.phases.size() == 1 || c.inputs() * c.outputs() <= kFewWeights;
  return c.most_taps() > 1 && c.pixels()[2] <= kShortRow && c.inputs() * taps >= kManyProducts && fills_panels &&
         is_small;
}

template <class T> void correlate(const Correlation<T>& c, const Epilogue<T>& epilogue, int threads) {
  if constexpr (std::is_same_v<T, float>) {
    if (goes_by_winograd(c)) return correlate_by_winograd(c, epilogue, threads);
  }
  const int usable = usable_threads(threads, static_cast<int64_t>(std::min(work_of(c), 1e18)), kGrain);
  const auto tasks =
      goes_by_channels(c) ? tasks_by_channels(c, epilogue, usable) : tasks_by_pixels(c, epilogue, usable);
  const int team = static_cast<int>(std::min<int64_t>(usable, tasks->count()));
  const int64_t scratch = round_up(tasks->scratch(), kCacheLine);
  const Scratch<T> memory(team * scratch);
  Steps steps;
  steps.add(tasks->count(), [&](int64_t task, int thread) { tasks->run(task, memory.data() + thread * scratch); });
  steps.run(team);
}

template struct Correlation<float>;
template struct Correlation<double>;
template class Tasks<float>;
template class Tasks<double>;
template bool goes_by_channels(const Correlation<float>&);
template bool goes_by_channels(const Correlation<double>&);
template void correlate(const Correlation<float>&, const Epilogue<float>&, int);
template void correlate(const Correlation<double>&, const Epilogue<double>&, int);

}  // namespace pyinit
