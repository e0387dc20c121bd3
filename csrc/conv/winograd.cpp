#include "conv/winograd.hpp"

#include <algorithm>
#include <atomic>
#include <optional>

#include "conv/finish.hpp"
#include "conv/winograd_kernels.hpp"
#include "conv/winograd_weights.hpp"
#include "core/parallel.hpp"
#include "linalg/kernels.hpp"

namespace pyinit {
namespace {

constexpr int64_t kSide = 2, kTap = 3;  // of a tile's outputs, and of the kernel

// Inputs of one chain of multiply-adds, which keeps errors as small as those of chains of 160 products elsewhere: each
// point's product counts for nine.
constexpr int64_t kChain = 32;
static_assert(kInputsTogether % kChain == 0);
constexpr int64_t kTiles = 112;                       // the most of a block
constexpr int64_t kPointsBytes = int64_t{512} << 10;  // of a block's inputs, which pass through the second cache
constexpr int64_t kSumsBytes = int64_t{2} << 20;      // of a block's outputs
constexpr int64_t kBlockCost = 2;                     // tiles whose time goes into each block
constexpr int64_t kPartCost = 1;                      // panels whose time goes into transforms of inputs
// Sizes from which this is the faster way, whatever the batch: transforms take longer than what they save if channels
// are few, and those of weights if tiles are, the more so if the weights do not stay in a cache.
constexpr int64_t kFewChannels = 12, kFewTiles = 16, kManyTiles = 36, kManyWeights = int64_t{1} << 16;
constexpr int64_t kGrain = int64_t{1} << 17;  // multiply-adds that a thread is worth
constexpr int64_t kCacheLine = 64 / int64_t{sizeof(float)};

std::atomic<bool> is_winograd_used{true};

bool are_three(const std::vector<int64_t>& taps) {
  return taps.size() == kTap && taps[1] == taps[0] + 1 && taps[2] == taps[0] + 2;
}

Extents tiles_of(const Extents& pixels) {
  return {pixels[0], divide_up(pixels[1], kSide), divide_up(pixels[2], kSide)};
}

// A matrix for each point. Points lie an odd number of cache lines apart, so that they share no place of the first
// cache.
struct Points {
  int64_t row, point;

  Points(int64_t rows, int64_t columns)
      : row(round_up(columns, kCacheLine)), point((rows * row / kCacheLine | 1) * kCacheLine) {}
  int64_t size() const { return kPoints * point; }
};

class Winograd {
 public:
  Winograd(const Correlation<float>& c, const Epilogue<float>& epilogue, const WinogradWeights& weights, int threads)
      : c_(c),
        epilogue_(epilogue),
        weights_(weights),
        output_(c.phases[0].output),
        channels_(std::min(kInputsTogether, c.inputs())),
        blocks_(output_.batch, tiles_of(output_.size), most_tiles(channels_), {kernels_.rows, kBlockCost}, threads),
        outputs_each_(outputs_each(threads)),
        parts_(divide_up(c.outputs(), outputs_each_)),
        strip_(c.reach(), Order::channels, pixels_of(blocks_.largest()), channels_),
        inputs_(blocks_.largest().pixels(), channels_),
        sums_(blocks_.largest().pixels(), std::min(panel_, round_up(c.outputs(), winograd_.vector))),
        at_inputs_(round_up(strip_.size(), kCacheLine)),
        at_sums_(at_inputs_ + inputs_.size() + kMaxPanel),
        at_outputs_(at_sums_ + divide_up(outputs_each_, panel_) * sums_.size()),
        scratch_(at_outputs_ + blocks_.largest().pixels() * kSide * kSide * panel_) {}

  int64_t count() const { return c_.groups * blocks_.count() * parts_; }
  int64_t scratch() const { return round_up(scratch_, kCacheLine); }

  void run(int64_t task, float* scratch) const {
    const int64_t first = task % parts_ * outputs_each_, group = task / parts_ / blocks_.count();
    const int64_t outputs = std::min(outputs_each_, c_.outputs() - first);
    const Block tiles = blocks_[task / parts_ % blocks_.count()];
    Lookout lookout;
    for (int64_t channel = 0; channel < c_.inputs(); channel += kInputsTogether) {
      const int64_t channels = std::min(kInputsTogether, c_.inputs() - channel);
      transform_inputs(tiles, group * c_.inputs() + channel, channels, scratch);
      for (int64_t o = 0; o < outputs; o += panel_) {
        const int64_t width = std::min(panel_, outputs - o);
        float* const sums = scratch + at_sums_ + o / panel_ * sums_.size();
        multiply(tiles.pixels(), group, (first + o) / panel_, channel, channels, width, scratch + at_inputs_, sums);
        if (channel + channels == c_.inputs()) {
          transform_outputs(tiles, group * c_.outputs() + first + o, width, sums, scratch + at_outputs_);
        }
      }
      lookout.after(kPoints * tiles.pixels() * channels * outputs);
    }
    finish(epilogue_, output_, clip(tiles), group * c_.outputs() + first, outputs);
  }

 private:
  static int64_t most_tiles(int64_t channels) {
    return std::clamp<int64_t>(kPointsBytes / int64_t{sizeof(float)} / kPoints / channels, 1, kTiles);
  }

  // Channels are divided, too, where blocks alone would leave threads without work.
  int64_t outputs_each(int64_t threads) const {
    const int64_t panels = divide_up(c_.outputs(), panel_), blocks = c_.groups * blocks_.count();
    const int64_t panel_bytes = Points(blocks_.largest().pixels(), panel_).size() * int64_t{sizeof(float)};
    const int64_t least = divide_up(panels, std::max<int64_t>(kSumsBytes / panel_bytes, 1));
    int64_t best = panels, least_cost = INT64_MAX;
    for (int64_t parts = least; parts <= std::min(panels, std::max(least, 4 * threads)); ++parts) {
      const int64_t each = divide_up(panels, parts);
      const int64_t cost = divide_up(blocks * divide_up(panels, each), threads) * (each + kPartCost);
      if (cost < least_cost) least_cost = cost, best = each;
    }
    return best * panel_;
  }

  static Block pixels_of(Block tiles) {
    for (size_t i = 1; i < kSpatial; ++i) tiles.begin[i] *= kSide, tiles.size[i] *= kSide;
    return tiles;
  }
  // Those that are there.
  Block clip(const Block& tiles) const {
    Block pixels = pixels_of(tiles);
    for (size_t i = 1; i < kSpatial; ++i) pixels.size[i] = std::min(pixels.size[i], output_.size[i] - pixels.begin[i]);
    return pixels;
  }

  void transform_inputs(const Block& tiles, int64_t first, int64_t channels, float* scratch) const {
    const Block pixels = pixels_of(tiles);
    const Source<float> source = strip_.fill(c_.input, pixels, first, channels, scratch);
    float* to = scratch + at_inputs_;
    const Extents step = {source.step[0], kSide * source.step[1], 0};
    for_each_row(tiles, source.image, step, [&](int64_t row) {
      winograd_.transform_inputs({tiles.size[2], channels}, source.data + row, source.step[1], source.step[2], to,
                                 inputs_.point, inputs_.row);
      to += tiles.size[2] * inputs_.row;
    });
  }

  void multiply(int64_t tiles, int64_t group, int64_t panel, int64_t first, int64_t channels, int64_t width,
                const float* inputs, float* sums) const {
    const float* b = weights_.at(group, panel, first);
    const bool is_narrow = width <= winograd_.vector;
    for (int64_t p = 0; p < kPoints; ++p, inputs += inputs_.point, sums += sums_.point) {
      if (first > 0 && p + 1 < kPoints) {
        for (int64_t l = 0; l < tiles * sums_.row; l += kCacheLine) __builtin_prefetch(sums + sums_.point + l, 1, 2);
      }
      for (int64_t i = 0; i < channels; i += kChain) {
        const int64_t chain = std::min(kChain, channels - i);
        for (int64_t l = 0; l < chain * panel_; l += kCacheLine) __builtin_prefetch(b + chain * panel_ + l, 0, 2);
        const bool adds = first + i > 0;
        if (is_narrow) {
          winograd_.multiply_vector[adds](tiles, chain, {inputs + i, inputs_.row, 1}, b, sums, sums_.row);
        } else {
          kernels_.multiply[static_cast<int>(adds ? Product::add : Product::set)](
              tiles, chain, {inputs + i, inputs_.row, 1}, b, panel_, sums, sums_.row);
        }
        b += chain * panel_;
      }
    }
  }

  void transform_outputs(const Block& tiles, int64_t channel, int64_t width, const float* sums, float* buffer) const {
    const Block pixels = clip(tiles);
    float* const out = output_.at(pixels.image, channel, pixels.begin);
    const int64_t w = pixels.size[2], across = output_.channel_stride, along = output_.strides[2];
    const bool is_direct = across == 1 && width % winograd_.vector == 0;
    const int64_t columns = round_up(width, winograd_.vector);
    int64_t tile = 0, made = 0;
    for (int64_t n = 0; n < tiles.images; ++n) {
      for (int64_t d = 0; d < tiles.size[0]; ++d) {
        for (int64_t h = 0; h < tiles.size[1]; ++h, tile += tiles.size[2]) {
          const int64_t height = std::min(kSide, pixels.size[1] - kSide * h);
          float* const there = out + n * output_.batch_stride + d * output_.strides[0] + kSide * h * output_.strides[1];
          winograd_.transform_outputs({tiles.size[2], columns}, height, w, sums + tile * sums_.row, sums_.point,
                                      sums_.row, is_direct ? there : buffer + made * panel_,
                                      is_direct ? output_.strides[1] : w * panel_, is_direct ? along : panel_);
          made += height * w;
        }
      }
    }
    if (!is_direct) store(pixels, width, buffer, out);
  }

  // Pixels of a panel go to where they belong. Rows that run on into one another are one.
  void store(const Block& pixels, int64_t width, const float* from, float* out) const {
    Extents size = pixels.size;
    if (output_.strides[1] == size[2] * output_.strides[2]) size[2] *= size[1], size[1] = 1;
    const Block runs = {0, pixels.images, {0, 0, 0}, size};
    const int64_t across = output_.channel_stride, along = output_.strides[2];
    for_each_row(runs, output_.batch_stride, output_.strides, [&](int64_t row) {
      float* const to = out + row;
      if (along == 1) {
        kernels_.transpose(size[2], width, from, panel_, to, across);
      } else {
        for (int64_t i = 0; i < size[2]; ++i) {
          for (int64_t j = 0; j < width; ++j) to[i * along + j * across] = from[i * panel_ + j];
        }
      }
      from += size[2] * panel_;
    });
  }

  const PanelKernels<float>& kernels_ = panel_kernels<float>();
  const WinogradKernels& winograd_ = winograd_kernels();
  const int64_t panel_ = kernels_.panel;
  const Correlation<float>& c_;
  const Epilogue<float>& epilogue_;
  const WinogradWeights& weights_;
  const Images<float>& output_;
  const int64_t channels_;  // that are transformed together
  const Blocks blocks_;     // of tiles
  const int64_t outputs_each_, parts_;
  const Strip strip_;
  const Points inputs_, sums_;
  const int64_t at_inputs_, at_sums_, at_outputs_, scratch_;
};

}  // namespace

void set_winograd(bool is_used) { is_winograd_used.store(is_used, std::memory_order_relaxed); }
bool winograd() { return is_winograd_used.load(std::memory_order_relaxed); }

bool goes_by_winograd(const Correlation<float>& c) {
  if (!winograd() || c.phases.size() != 1 || c.step != Extents{1, 1, 1}) return false;
  const auto& [first, second, third] = c.phases[0].taps;
  if (first.size() != 1 || !are_three(second) || !are_three(third)) return false;
  const Extents tiles = tiles_of(c.phases[0].output.size);
  const int64_t fewest = c.inputs() * c.outputs() <= kManyWeights ? kFewTiles : kManyTiles;
  return std::min(c.inputs(), c.outputs()) >= kFewChannels && tiles[1] * tiles[2] >= fewest;
}

void correlate_by_winograd(const Correlation<float>& c, const Epilogue<float>& epilogue, int threads) {
  const Images<float>& output = c.phases[0].output;
  const double work = static_cast<double>(output.batch * output.pixels()) *
                      static_cast<double>(kTap * kTap * c.inputs()) * static_cast<double>(output.channels);
  const int usable = usable_threads(threads, static_cast<int64_t>(std::min(work, 1e18)), kGrain);
  const bool are_there = c.points != nullptr && c.points->fit(c.groups, c.outputs(), c.inputs());
  std::optional<WinogradWeights> made;
  if (!are_there) made.emplace(c.groups, c.outputs(), c.inputs());
  const Winograd tasks(c, epilogue, are_there ? *c.points : *made, usable);
  const int64_t scratch = std::max(tasks.scratch(), are_there ? 0 : round_up(made->scratch(), kCacheLine));
  const Scratch<float> memory(usable * scratch);
  const GroupedFilters filters = {c.weight, c.group, c.output, c.input_channel, c.phases[0].weights};
  Steps steps;
  if (!are_there) {
    steps.add(made->tasks(),
              [&](int64_t task, int thread) { made->make(filters, task, memory.data() + thread * scratch); });
  }
  steps.add(tasks.count(), [&](int64_t task, int thread) { tasks.run(task, memory.data() + thread * scratch); });
  steps.run(usable);
}

}  // namespace pyinit
