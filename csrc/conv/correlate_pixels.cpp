// Output channels are the rows of register tiles, and pixels their columns: what an image takes, channel by channel and
// tap by tap, is gathered into panels that stay in the cache while the weights pass.
#include <algorithm>
#include <optional>

#include "conv/correlation.hpp"
#include "conv/finish.hpp"
#include "conv/kernels.hpp"
#include "core/integers.hpp"
#include "linalg/kernels.hpp"

namespace pyinit {
namespace {

constexpr int64_t kPixels = 256;                       // of a block
constexpr int64_t kPanelsBytes = int64_t{1} << 20;     // that its panels may take
constexpr int64_t kWeightsBytes = int64_t{112} << 10;  // weights that pass together

template <class T> class ByPixels final : public Tasks<T> {
 public:
  ByPixels(const Correlation<T>& c, const Epilogue<T>& epilogue, int threads)
      : Tasks<T>(c, epilogue, most_pixels(c), panel_kernels<T>().panel, panel_kernels<T>().rows, threads) {
    const int64_t inputs = this->channels_each_, depth = inputs * c.reach.count();
    const Block largest = this->blocks_.largest();
    const bool as_it_is = c.input.strides[2] * c.reach.step[2] == 1 && is_inside(c.reach, c.input, c.output.size);
    if (!as_it_is) strip_.emplace(c.reach, Order::pixels, largest, inputs);
    taps_ = as_it_is ? tap_offsets(c.reach, c.input) : strip_->taps();
    farthest_tap_ = *std::max_element(taps_.begin(), taps_.end());

    // Weights whose rows run on in the order of channels and taps stay where they are.
    const std::vector<int64_t>& at = c.weights.taps;
    const int64_t step = at.size() > 1 ? at[1] - at[0] : c.weights.input;
    weights_stay_ = c.weights.input == step * static_cast<int64_t>(at.size());
    for (size_t t = 1; t < at.size(); ++t) weights_stay_ = weights_stay_ && at[t] - at[t - 1] == step;
    weight_step_ = step;
    outputs_together_ =
        std::max(int64_t{1}, kWeightsBytes / int64_t{sizeof(T)} / depth / kernels_.rows) * kernels_.rows;

    columns_ = round_up(largest.pixels(), kernels_.panel);
    const auto place = [&](int64_t elements) {
      const int64_t at_element = this->scratch_;
      this->scratch_ += round_up(elements, 64 / int64_t{sizeof(T)});
      return at_element;
    };
    at_strip_ = place(strip_ ? strip_->size() : 0);
    at_panels_ = place(columns_ * depth);
    at_weights_ = place(weights_stay_ ? 0 : outputs_together_ * depth);
    at_tile_ = place(outputs_together_ * kernels_.panel);
    at_offsets_ = place((2 * columns_ + depth) * int64_t{sizeof(int64_t)} / int64_t{sizeof(T)});
  }

  void run(int64_t task, T* scratch) const override {
    const Correlation<T>& c = this->correlation_;
    const auto part = this->part(task);
    const Block& block = part.block;
    const int64_t taps = c.reach.count(), inputs = c.inputs(), pixels = block.pixels();
    int64_t* const columns = reinterpret_cast<int64_t*>(scratch + at_offsets_);
    int64_t* const places = columns + columns_;
    int64_t* const rows = places + columns_;
    T* const panels = scratch + at_panels_;
    T* const out = c.output.data + block.image * c.output.batch_stride +
                   (part.group * c.outputs() + part.first) * c.output.channel_stride +
                   block.begin[0] * c.output.strides[0] + block.begin[1] * c.output.strides[1] +
                   block.begin[2] * c.output.strides[2];
    this->pixels(block, c.output.batch_stride, c.output.strides, places);

    for (int64_t first = 0; first < inputs; first += this->channels_each_) {
      const int64_t channels = std::min(this->channels_each_, inputs - first), depth = channels * taps;
      const int64_t channel = part.group * inputs + first;
      const Source<T> source = strip_ ? strip_->fill(c.input, block, channel, channels, scratch + at_strip_)
                                      : as_it_is(c.reach, c.input, block, channel);
      if (first == 0) {
        this->pixels(block, source.image, source.step, columns);
        for (int64_t i = 0; i < depth; ++i) rows[i] = i / taps * source.channel + taps_[static_cast<size_t>(i % taps)];
      }
      const T* const end = source.end - (channels - 1) * source.channel - farthest_tap_;
      fill_up(columns, pixels, end - source.data);
      for (int64_t j = 0; j < pixels; j += kernels_.panel) {
        gather_(depth, rows, source.data, columns + j, end, panels + j * depth);
      }
      for (int64_t o = 0; o < part.outputs; o += outputs_together_) {
        const int64_t height = std::min(outputs_together_, part.outputs - o);
        const Factor<T> weights = weights_from(part.group, part.first + o, height, first, channels, scratch);
        multiply(first == 0, height, depth, weights, panels, pixels, places, out + o * c.output.channel_stride,
                 scratch + at_tile_);
      }
    }
    finish(this->epilogue_, c.output, block, part.group * c.outputs() + part.first, part.outputs);
  }

 private:
  static int64_t most_pixels(const Correlation<T>& c) {
    const int64_t depth = std::max<int64_t>(c.reach.count(), 320);
    return std::clamp(kPanelsBytes / int64_t{sizeof(T)} / depth, int64_t{panel_kernels<T>().panel}, kPixels);
  }

  // The last panel's columns that no pixel has: anything that may be read.
  void fill_up(int64_t* columns, int64_t pixels, int64_t end) const {
    const int64_t more = round_up(pixels, kernels_.panel) - pixels, last = columns[pixels - 1];
    const int64_t step = last + more < end ? 1 : 0;
    for (int64_t i = 0; i < more; ++i) columns[pixels + i] = last + (i + 1) * step;
  }

  // Element (o, i * taps + t) of these weights; where they do not stay, in slices.
  Factor<T> weights_from(int64_t group, int64_t output, int64_t height, int64_t first, int64_t channels,
                         T* scratch) const {
    const Weights<T>& w = this->correlation_.weights;
    const T* const from = w.data + group * w.group + output * w.output + first * w.input;
    if (weights_stay_) return {from + w.taps[0], w.output, weight_step_};
    T* const slices = scratch + at_weights_;
    const int64_t taps = static_cast<int64_t>(w.taps.size()), rows = kernels_.rows;
    for (int64_t o = 0; o < height; o += rows) {
      T* const to = slices + o * channels * taps;
      const int64_t wide = std::min(rows, height - o);
      for (int64_t t = 0; t < taps; ++t) {
        const T* const x = from + o * w.output + w.taps[static_cast<size_t>(t)];
        for (int64_t i = 0; i < channels; ++i) {
          for (int64_t j = 0; j < wide; ++j) to[(i * taps + t) * rows + j] = x[i * w.input + j * w.output];
        }
      }
    }
    return {slices, 1, rows};
  }

  void multiply(bool is_first, int64_t height, int64_t depth, Factor<T> weights, const T* panels, int64_t pixels,
                const int64_t* places, T* out, T* tile) const {
    const int64_t channel = this->correlation_.output.channel_stride, panel = kernels_.panel;
    const auto slices = [&](Product product, const T* b, T* c, int64_t c_row) {
      const auto function = kernels_.multiply[static_cast<int>(product)];
      if (weights_stay_) return function(height, depth, weights, b, panel, c, c_row);
      for (int64_t o = 0; o < height; o += kernels_.rows) {
        function(std::min<int64_t>(kernels_.rows, height - o), depth, {weights.data + o * depth, 1, weights.step}, b,
                 panel, c + o * c_row, c_row);
      }
    };
    for (int64_t j = 0; j < pixels; j += panel) {
      const T* const b = panels + j * depth;
      const int64_t width = std::min(panel, pixels - j);
      if (width == panel && places[j + panel - 1] == places[j] + panel - 1 && is_run(places + j)) {
        slices(is_first ? Product::set : Product::add, b, out + places[j], channel);
        continue;
      }
      slices(Product::set, b, tile, panel);
      for (int64_t o = 0; o < height; ++o) {
        T* const to = out + o * channel;
        const T* const from = tile + o * panel;
        if (is_first) {
          for (int64_t i = 0; i < width; ++i) to[places[j + i]] = from[i];
        } else {
          for (int64_t i = 0; i < width; ++i) to[places[j + i]] += from[i];
        }
      }
    }
  }

  bool is_run(const int64_t* places) const {
    for (int64_t i = 1; i < kernels_.panel; ++i) {
      if (places[i] != places[0] + i) return false;
    }
    return true;
  }

  const PanelKernels<T>& kernels_ = panel_kernels<T>();
  const decltype(ConvKernels<T>::gather) gather_ = conv_kernels<T>().gather;
  std::optional<Strip> strip_;
  std::vector<int64_t> taps_;
  int64_t farthest_tap_, weight_step_, outputs_together_, columns_;
  bool weights_stay_;
  int64_t at_strip_, at_panels_, at_weights_, at_tile_, at_offsets_;
};

}  // namespace

template <class T>
std::unique_ptr<Tasks<T>> tasks_by_pixels(const Correlation<T>& c, const Epilogue<T>& epilogue, int threads) {
  return std::make_unique<ByPixels<T>>(c, epilogue, threads);
}

template std::unique_ptr<Tasks<float>> tasks_by_pixels(const Correlation<float>&, const Epilogue<float>&, int);
template std::unique_ptr<Tasks<double>> tasks_by_pixels(const Correlation<double>&, const Epilogue<double>&, int);

}  // namespace pyinit
