#include "conv/correlation.hpp"

#include <algorithm>

#include "conv/finish.hpp"
#include "core/integers.hpp"
#include "core/parallel.hpp"
#include "core/scratch.hpp"
#include "linalg/kernels.hpp"

namespace pyinit {
namespace {

constexpr int64_t kGrain = int64_t{1} << 17;  // multiply-adds that a thread is worth
constexpr int64_t kMostParts = 8;             // of channels, a thread
constexpr int64_t kPartCost = 1;              // tiles of channels whose time goes into what each part does for itself
constexpr int64_t kCacheLine = 64;
constexpr int64_t kChain = 320;       // products, about, that are summed before they are added to others
constexpr int64_t kFewChannels = 12;  // that do not fill a panel

template <class T> double work_of(const Correlation<T>& c) {
  return static_cast<double>(c.output.batch * c.output.pixels()) * static_cast<double>(c.output.channels) *
         static_cast<double>(c.inputs() * c.reach.count());
}

}  // namespace

template <class T>
Tasks<T>::Tasks(const Correlation<T>& correlation, const Epilogue<T>& epilogue, int64_t pixels, int64_t align,
                int64_t outputs, int threads)
    : correlation_(correlation),
      epilogue_(epilogue),
      blocks_(correlation.output.batch, correlation.output.size, pixels, align),
      groups_(correlation.groups) {
  const int64_t inputs = correlation.inputs();
  channels_each_ = divide_up(inputs, divide_up(inputs, std::max<int64_t>(1, kChain / correlation.reach.count())));
  // Channels are divided, too, where blocks alone would leave threads without work.
  const int64_t most = divide_up(correlation.outputs(), outputs);
  double least = 0;
  for (int64_t parts = 1; parts <= std::min<int64_t>(most, kMostParts * threads); ++parts) {
    const int64_t rounds = divide_up(groups_ * blocks_.count() * parts, threads);
    const double cost = static_cast<double>(rounds * (divide_up(most, parts) + kPartCost));
    if (parts > 1 && cost >= least) continue;
    least = cost;
    outputs_each_ = divide_up(most, parts) * outputs;
  }
  parts_ = divide_up(correlation.outputs(), outputs_each_);
}

template <class T> typename Tasks<T>::Part Tasks<T>::part(int64_t task) const {
  const int64_t first = task % parts_ * outputs_each_;
  return {task / parts_ / blocks_.count(), blocks_[task / parts_ % blocks_.count()], first,
          std::min(outputs_each_, correlation_.outputs() - first)};
}

template <class T>
void Tasks<T>::pixels(const Block& block, int64_t image, const Extents& step, int64_t* offsets) {
  for (int64_t n = 0; n < block.images; ++n) {
    for (int64_t d = 0; d < block.size[0]; ++d) {
      for (int64_t h = 0; h < block.size[1]; ++h) {
        const int64_t row = n * image + d * step[0] + h * step[1];
        for (int64_t w = 0; w < block.size[2]; ++w) *offsets++ = row + w * step[2];
      }
    }
  }
}

template class Tasks<float>;
template class Tasks<double>;

template <class T>
void correlate(const std::vector<Correlation<T>>& correlations, const Epilogue<T>& epilogue, int threads) {
  double work = 0;
  for (const Correlation<T>& c : correlations) work += work_of(c);
  const int usable = usable_threads(threads, static_cast<int64_t>(std::min(work, 1e18)), kGrain);
  std::vector<std::unique_ptr<Tasks<T>>> all;
  std::vector<int64_t> ends;
  int64_t count = 0, scratch = 0;
  for (const Correlation<T>& c : correlations) {
    const bool channels = c.output.channel_stride == 1 && c.outputs() >= kFewChannels;
    all.push_back(channels ? tasks_by_channels(c, epilogue, usable) : tasks_by_pixels(c, epilogue, usable));
    ends.push_back(count += all.back()->count());
    scratch = std::max(scratch, all.back()->scratch());
  }
  scratch = round_up(scratch, kCacheLine);
  const int team = static_cast<int>(std::min<int64_t>(usable, count));
  const Scratch<T> memory(team * scratch);
  Steps steps;
  steps.add(count, [&](int64_t task, int thread) {
    const size_t which = static_cast<size_t>(std::upper_bound(ends.begin(), ends.end(), task) - ends.begin());
    all[which]->run(which == 0 ? task : task - ends[which - 1], memory.data() + thread * scratch);
  });
  steps.run(team);
}

template void correlate(const std::vector<Correlation<float>>&, const Epilogue<float>&, int);
template void correlate(const std::vector<Correlation<double>>&, const Epilogue<double>&, int);

}  // namespace pyinit
