#include "conv/winograd_gradient.hpp"

#include <algorithm>
#include <optional>
#include <vector>

#include "conv/pixel_blocks.hpp"
#include "conv/strip.hpp"
#include "conv/winograd_kernels.hpp"
#include "core/integers.hpp"
#include "core/parallel.hpp"
#include "core/scratch.hpp"
#include "linalg/kernels.hpp"

namespace pyinit {
namespace {

constexpr int64_t kSide = 2, kTap = 3, kTaps = kTap * kTap;
constexpr int64_t kTiles = 112;  // of a block
constexpr int64_t kChain = 32;   // tiles whose products are one chain; the chains' sums are added up
constexpr int64_t kMost = 128;   // channels, and outputs, of a task
// Transforms of a channel take as long as the products of so many.
constexpr int64_t kTransformCost = 5;
// Where tasks are few, blocks are divided into parts of at least so many multiply-adds, which are summed at the end.
constexpr int64_t kTasks = 8, kPartWork = int64_t{1} << 19, kPartsBytes = int64_t{4} << 20;
constexpr int64_t kGrain = int64_t{3} << 16;  // multiply-adds that a thread is worth
constexpr int64_t kTogether = 32;             // channels whose weights are made and stored together
// Sizes from which this is the faster way. Of eight of the tiles' pixels so many must not lie beyond the edges, more of
// them where channels are few and transforms take as long as products.
constexpr int64_t kFewChannels = 16, kFewTiles = 16, kManyChannels = 24, kInside = 6, kInsideOfFew = 7;
constexpr int64_t kNear = 1024 / int64_t{sizeof(float)};  // between pixels that are read where they are
constexpr int64_t kCacheLine = 64 / int64_t{sizeof(float)};

const Reach kPixel = {{1, 1, 1}, {{{0}, {0}, {0}}}};  // a tap of its own

Extents tiles_of(const Extents& pixels) {
  return {pixels[0], divide_up(pixels[1], kSide), divide_up(pixels[2], kSide)};
}
Block pixels_of(Block tiles) {
  for (size_t i = 1; i < kSpatial; ++i) tiles.begin[i] *= kSide, tiles.size[i] *= kSide;
  return tiles;
}

// Points lie an odd number of cache lines apart, so that they share no place of the first cache.
int64_t apart(int64_t elements) { return (divide_up(elements, kCacheLine) | 1) * kCacheLine; }

// What some channels make with some outputs of a group.
struct Tile {
  int64_t group, channel, channels, output, outputs;
};

class WinogradGradient {
 public:
  WinogradGradient(const Window& window, const Images<const float>& input, const Images<const float>& output,
                   const Images<float>& weight, int threads)
      : input_(input),
        output_(output),
        weight_(weight),
        groups_(window.groups),
        channels_(weight.channels),
        outputs_(weight.batch / window.groups),
        blocks_(output.batch, tiles_of(output.size), kTiles),
        taps_(tap_offsets(weight)) {
    divide(threads);
    const Block largest = pixels_of(blocks_.largest());
    const int64_t tiles = blocks_.largest().pixels();
    inputs_.emplace(reach_of(window, weight.size), Order::channels, largest, channels_each_);
    gradients_.emplace(kPixel, Order::channels, largest, outputs_each_);
    inputs_row_ = round_up(channels_each_, kCacheLine);
    inputs_point_ = apart(tiles * inputs_row_);
    gradients_point_ = apart(tiles * outputs_each_);
    sums_point_ = apart(channels_each_ * outputs_each_);
    at_inputs_ = round_up(std::max({inputs_->size(), gradients_->size(), kTogether * kTaps * panel_}), kCacheLine);
    at_gradients_ = at_inputs_ + kPoints * inputs_point_ + kMaxPanel;
    at_sums_ = at_gradients_ + kPoints * gradients_point_;
  }

  void run() const {
    const int64_t tiles = groups_ * channel_tiles_ * output_tiles_, panels = outputs_each_ / panel_;
    const int64_t sums = kPoints * sums_point_;
    const int64_t each = at_sums_ + (parts_ == 1 ? sums : 0);
    const Scratch<float> memory(threads_ * each + (parts_ == 1 ? 0 : tiles * parts_ * sums));
    float* const all = memory.data() + threads_ * each;
    Steps steps;
    if (parts_ == 1) {
      steps.add(tiles, [&](int64_t task, int thread) {
        float* const scratch = memory.data() + thread * each;
        const Tile t = tile(task);
        sum(t, 0, scratch, scratch + at_sums_);
        for (int64_t o = 0; o < t.outputs; o += panel_) finish(t, o, scratch + at_sums_, scratch);
      });
    } else {
      steps.add(tiles * parts_, [&](int64_t task, int thread) {
        sum(tile(task / parts_), task % parts_, memory.data() + thread * each, all + task * sums);
      });
      steps.add(tiles * panels, [&](int64_t task, int thread) {
        const Tile t = tile(task / panels);
        const int64_t o = task % panels * panel_;
        if (o < t.outputs) finish(t, o, all + task / panels * parts_ * sums, memory.data() + thread * each);
      });
    }
    steps.run(threads_);
  }

 private:
  // Into tasks: parts of the blocks by sizes alone, since sums depend on them.
  void divide(int most_threads) {
    const Extents size = tiles_of(output_.size);
    const double work = static_cast<double>(output_.batch * size[0] * size[1] * size[2]) *
                        static_cast<double>(kPoints * weight_.batch) * static_cast<double>(channels_);
    threads_ = usable_threads(most_threads, static_cast<int64_t>(std::min(work, 1e18)), kGrain);
    const int64_t usual = groups_ * divide_up(channels_, kMost) * divide_up(outputs_, kMost);
    const int64_t bytes = kPoints * weight_.batch * channels_ * int64_t{sizeof(float)};
    parts_ = std::min({kTasks / usual, blocks_.count(), static_cast<int64_t>(std::min(work / double{kPartWork}, 1e9)),
                       kPartsBytes / bytes});
    parts_ = std::max<int64_t>(parts_, 1);

    // Channels and outputs are divided, too, where tasks would leave threads without work.
    const int64_t panels = divide_up(outputs_, panel_), there = groups_ * parts_;
    const int64_t least_channels = divide_up(channels_, kMost), least_outputs = divide_up(outputs_, kMost);
    const int64_t most = std::max<int64_t>(there * least_channels * least_outputs, 4 * threads_);
    int64_t least_cost = INT64_MAX;
    for (int64_t o = least_outputs; o <= panels && there * o * least_channels <= most; ++o) {
      for (int64_t c = least_channels; c <= channels_ && there * o * c <= most; ++c) {
        const int64_t channels = divide_up(channels_, c), outputs = divide_up(panels, o) * panel_;
        const int64_t tasks = there * divide_up(channels_, channels) * divide_up(outputs_, outputs);
        const int64_t cost = divide_up(tasks, threads_) * (channels * outputs + kTransformCost * (channels + outputs));
        if (cost < least_cost) least_cost = cost, channels_each_ = channels, outputs_each_ = outputs;
      }
    }
    channel_tiles_ = divide_up(channels_, channels_each_);
    output_tiles_ = divide_up(outputs_, outputs_each_);
  }

  Tile tile(int64_t index) const {
    const int64_t output = index % output_tiles_ * outputs_each_,
                  channel = index / output_tiles_ % channel_tiles_ * channels_each_;
    return {index / output_tiles_ / channel_tiles_, channel, std::min(channels_each_, channels_ - channel), output,
            std::min(outputs_each_, outputs_ - output)};
  }

  // One part of a tile's sums.
  void sum(const Tile& tile, int64_t part, float* scratch, float* sums) const {
    const int64_t begin = blocks_.count() * part / parts_, end = blocks_.count() * (part + 1) / parts_;
    Lookout lookout;
    for (int64_t index = begin; index < end; ++index) {
      const Block tiles = blocks_[index];
      transform_inputs(tiles, tile, scratch);
      transform_gradients(tiles, tile, scratch);
      multiply(tiles.pixels(), tile, index > begin, scratch, sums);
      lookout.after(kPoints * tiles.pixels() * tile.channels * tile.outputs);
    }
  }

  // Whether a tile's gradients are read where they are: whole vectors of whole tiles. They are copied where each pixel
  // lies in a page of its own.
  bool is_in_place(const Tile& tile) const {
    return output_.channel_stride == 1 && output_.strides[2] <= kNear && output_.size[1] % kSide == 0 &&
           output_.size[2] % kSide == 0 && tile.outputs % winograd_.vector == 0;
  }

  void transform_inputs(const Block& tiles, const Tile& tile, float* scratch) const {
    const Source<float> source =
        // NOLINTNEXTLINE(bugprone-unchecked-optional-access): the constructor has made it
        inputs_->fill(input_, pixels_of(tiles), tile.group * channels_ + tile.channel, tile.channels, scratch);
    float* to = scratch + at_inputs_;
    for_each_row(tiles, source.image, {source.step[0], kSide * source.step[1], 0}, [&](int64_t row) {
      winograd_.transform_inputs({tiles.size[2], tile.channels}, source.data + row, source.step[1], source.step[2], to,
                                 inputs_point_, inputs_row_);
      to += tiles.size[2] * inputs_row_;
    });
  }

  void transform_gradients(const Block& tiles, const Tile& tile, float* scratch) const {
    const int64_t first = tile.group * outputs_ + tile.output;
    const Block pixels = pixels_of(tiles);
    const Source<float> source = is_in_place(tile) ? as_it_is(kPixel, output_, pixels, first)
                                                   // NOLINTNEXTLINE(bugprone-unchecked-optional-access): as above
                                                   : gradients_->fill(output_, pixels, first, tile.outputs, scratch);
    for (int64_t o = 0; o < tile.outputs; o += panel_) {
      float* to = scratch + at_gradients_ + o * tiles.pixels();
      for_each_row(tiles, source.image, {source.step[0], kSide * source.step[1], 0}, [&](int64_t row) {
        winograd_.transform_gradients({tiles.size[2], std::min(panel_, tile.outputs - o)}, source.data + row + o,
                                      source.step[1], source.step[2], to, gradients_point_, panel_);
        to += tiles.size[2] * panel_;
      });
    }
  }

  void multiply(int64_t tiles, const Tile& tile, bool adds, const float* scratch, float* sums) const {
    const int64_t chain = block_size(tiles, kChain);
    for (int64_t p = 0; p < kPoints; ++p) {
      for (int64_t o = 0; o < tile.outputs; o += panel_) {
        float* const c = sums + p * sums_point_ + o * channels_each_;
        for (int64_t t = 0; t < tiles; t += chain) {
          const int64_t count = std::min(chain, tiles - t);
          const Factor<float> a = {scratch + at_inputs_ + p * inputs_point_ + t * inputs_row_, 1, inputs_row_};
          const float* const b = scratch + at_gradients_ + p * gradients_point_ + o * tiles + t * panel_;
          if (tile.outputs - o <= winograd_.vector) {
            winograd_.multiply_vector[adds || t > 0](tile.channels, count, a, b, c, panel_);
          } else {
            kernels_.multiply[static_cast<int>(adds || t > 0 ? Product::add : Product::set)](tile.channels, count, a, b,
                                                                                             panel_, c, panel_);
          }
        }
      }
    }
  }

  // Weights of a panel from the parts' sums.
  void finish(const Tile& tile, int64_t o, const float* sums, float* buffer) const {
    const int64_t width = std::min(panel_, tile.outputs - o), across = weight_.batch_stride;
    float* const out = weight_.at(tile.group * outputs_ + tile.output + o, tile.channel, {0, 0, 0});
    const bool is_dense = weight_.strides[2] == 1 && weight_.strides[1] == kTap && weight_.channel_stride == kTaps;
    for (int64_t i = 0; i < tile.channels; i += kTogether) {
      const int64_t channels = std::min(kTogether, tile.channels - i);
      winograd_.transform_sums(channels, sums + o * channels_each_ + i * panel_, sums_point_, parts_,
                               kPoints * sums_point_, buffer);
      float* const to = out + i * weight_.channel_stride;
      if (is_dense) {
        kernels_.transpose(channels * kTaps, width, buffer, panel_, to, across);
        continue;
      }
      for (int64_t t = 0; t < kTaps; ++t) {
        const float* const from = buffer + t * panel_;
        float* const at = to + taps_[static_cast<size_t>(t)];
        if (weight_.channel_stride == 1) {
          kernels_.transpose(channels, width, from, kTaps * panel_, at, across);
        } else {
          for (int64_t k = 0; k < channels; ++k) {
            for (int64_t j = 0; j < width; ++j) {
              at[k * weight_.channel_stride + j * across] = from[k * kTaps * panel_ + j];
            }
          }
        }
      }
    }
  }

  const PanelKernels<float>& kernels_ = panel_kernels<float>();
  const WinogradKernels& winograd_ = winograd_kernels();
  const int64_t panel_ = kernels_.panel;
  const Images<const float>&input_, &output_;
  const Images<float>& weight_;
  const int64_t groups_, channels_, outputs_;  // channels and outputs are those of one group
  const PixelBlocks blocks_;                   // of tiles
  const std::vector<int64_t> taps_;
  int threads_;
  int64_t parts_, channels_each_, outputs_each_, channel_tiles_, output_tiles_;
  std::optional<Strip> inputs_, gradients_;
  int64_t inputs_row_, inputs_point_, gradients_point_, sums_point_;
  int64_t at_inputs_, at_gradients_, at_sums_;
};

}  // namespace

bool goes_by_winograd(const Window& window, const Images<float>& weight, const Images<const float>& output) {
  if (!winograd() || weight.size != Extents{1, kTap, kTap} || window.stride != Extents{1, 1, 1} ||
      window.dilation[1] != 1 || window.dilation[2] != 1) {
    return false;
  }
  const Extents size = tiles_of(output.size);
  const int64_t tiles = output.batch * size[0] * size[1] * size[2], pixels = output.batch * output.pixels();
  const int64_t channels = std::min(weight.channels, weight.batch / window.groups);
  const int64_t inside = channels < kManyChannels ? kInsideOfFew : kInside;
  return channels >= kFewChannels && tiles >= kFewTiles && 8 * pixels >= inside * kSide * kSide * tiles;
}

void weight_gradient_by_winograd(const Window& window, const Images<const float>& input,
                                 const Images<const float>& output, const Images<float>& weight, int threads) {
  WinogradGradient(window, input, output, weight, threads).run();
}

}  // namespace pyinit
