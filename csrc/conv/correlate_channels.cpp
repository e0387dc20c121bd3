// Pixels are the rows of register tiles, and output channels their columns: images whose channels lie side by side are
// read as they are, and the weights are packed into panels.
#include <algorithm>
#include <optional>

#include "conv/correlation.hpp"
#include "conv/finish.hpp"
#include "conv/kernels.hpp"
#include "core/integers.hpp"
#include "linalg/kernels.hpp"

namespace pyinit {
namespace {

constexpr int64_t kPixels = 512;  // of a block

template <class T> class ByChannels final : public Tasks<T> {
 public:
  ByChannels(const Correlation<T>& c, const Epilogue<T>& epilogue, int threads)
      : Tasks<T>(c, epilogue, kPixels, panel_kernels<T>().rows, panel_kernels<T>().panel, threads) {
    const int64_t inputs = this->channels_each_, depth = inputs * c.reach.count();
    const Block largest = this->blocks_.largest();
    const bool as_it_is = c.input.channel_stride == 1 && is_inside(c.reach, c.input, c.output.size);
    if (!as_it_is) strip_.emplace(c.reach, Order::channels, largest, inputs);
    taps_ = as_it_is ? tap_offsets(c.reach, c.input) : strip_->taps();

    pixels_ = largest.pixels();
    const auto place = [&](int64_t elements) {
      const int64_t at_element = this->scratch_;
      this->scratch_ += round_up(elements, 64 / int64_t{sizeof(T)});
      return at_element;
    };
    at_strip_ = place(strip_ ? strip_->size() : 0);
    at_panel_ = place(depth * panel_);
    at_turned_ = place(depth * panel_);
    at_tile_ = place(pixels_ * panel_);
    at_offsets_ =
        place((3 * pixels_ + static_cast<int64_t>(taps_.size())) * int64_t{sizeof(int64_t)} / int64_t{sizeof(T)});
  }

  void run(int64_t task, T* scratch) const override {
    const Correlation<T>& c = this->correlation_;
    const auto part = this->part(task);
    const Block& block = part.block;
    const int64_t inputs = c.inputs(), pixels = block.pixels();
    int64_t* const rows = reinterpret_cast<int64_t*>(scratch + at_offsets_);
    int64_t* const places = rows + pixels_;
    int64_t* const tile_rows = places + pixels_;
    int64_t* const runs_at = tile_rows + pixels_;
    T* const tile = scratch + at_tile_;
    T* const out = c.output.data + block.image * c.output.batch_stride +
                   (part.group * c.outputs() + part.first) * c.output.channel_stride +
                   block.begin[0] * c.output.strides[0] + block.begin[1] * c.output.strides[1] +
                   block.begin[2] * c.output.strides[2];
    this->pixels(block, c.output.batch_stride, c.output.strides, places);
    for (int64_t i = 0; i < pixels; ++i) tile_rows[i] = i * panel_;

    for (int64_t first = 0; first < inputs; first += this->channels_each_) {
      const int64_t channels = std::min(this->channels_each_, inputs - first);
      const int64_t channel = part.group * inputs + first;
      const Source<T> source = strip_ ? strip_->fill(c.input, block, channel, channels, scratch + at_strip_)
                                      : as_it_is(c.reach, c.input, block, channel);
      if (first == 0) this->pixels(block, source.image, source.step, rows);
      const Runs runs = runs_of(channels, runs_at);
      for (int64_t o = 0; o < part.outputs; o += panel_) {
        const int64_t width = std::min(panel_, part.outputs - o);
        const T* const b = pack(part.group, part.first + o, width, first, channels, scratch);
        const auto multiply = [&](bool add, T* to, const int64_t* to_rows) {
          multiply_rows_[add](pixels, source.data, rows, runs, b, to, to_rows);
        };
        if (width == panel_ && c.output.channel_stride == 1) {
          multiply(first != 0, out + o, places);
          continue;
        }
        multiply(false, tile, tile_rows);
        for (int64_t i = 0; i < pixels; ++i) {
          T* const to = out + places[i] + o * c.output.channel_stride;
          for (int64_t j = 0; j < width; ++j) {
            T& sum = to[j * c.output.channel_stride];
            sum = first == 0 ? tile[i * panel_ + j] : sum + tile[i * panel_ + j];
          }
        }
      }
    }
    finish(this->epilogue_, c.output, block, part.group * c.outputs() + part.first, part.outputs);
  }

 private:
  // Taps whose channels run on into one another, as far as all have as many.
  Runs runs_of(int64_t channels, int64_t* offsets) const {
    const int64_t taps = static_cast<int64_t>(taps_.size());
    const auto run_on = [&](int64_t t) {
      return taps_[static_cast<size_t>(t)] - taps_[static_cast<size_t>(t - 1)] == channels;
    };
    int64_t together = 1;
    while (together < taps && run_on(together)) ++together;
    bool are_equal = taps % together == 0;
    for (int64_t t = 1; t < taps && are_equal; ++t) are_equal = t % together == 0 || run_on(t);
    if (!are_equal) together = 1;
    for (int64_t t = 0; t < taps; t += together) offsets[t / together] = taps_[static_cast<size_t>(t)];
    return {taps / together, together * channels, offsets};
  }

  // Row t * channels + i holds the weights of `width` outputs.
  const T* pack(int64_t group, int64_t output, int64_t width, int64_t first, int64_t channels, T* scratch) const {
    const Weights<T>& w = this->correlation_.weights;
    const T* const from = w.data + group * w.group + output * w.output + first * w.input;
    const int64_t taps = static_cast<int64_t>(w.taps.size());
    T* const panel = scratch + at_panel_;
    if (width < panel_) std::fill_n(panel, taps * channels * panel_, T{0});
    if (w.input == taps && taps > 1 && are_consecutive(w.taps)) {
      // Filters by channels and then taps: turned as they are, then put in order.
      T* const turned = scratch + at_turned_;
      kernels_.transpose(width, channels * taps, from + w.taps[0], w.output, turned, panel_);
      for (int64_t t = 0; t < taps; ++t) {
        kernels_.copy(channels, width == panel_ ? panel_ : width, turned + t * panel_, taps * panel_,
                      panel + t * channels * panel_, panel_);
      }
      return panel;
    }
    for (int64_t t = 0; t < taps; ++t) {
      const T* const x = from + w.taps[static_cast<size_t>(t)];
      T* const to = panel + t * channels * panel_;
      if (w.input == 1) {
        kernels_.transpose(width, channels, x, w.output, to, panel_);
      } else if (w.output == 1) {
        kernels_.copy(channels, width, x, w.input, to, panel_);
      } else {
        for (int64_t i = 0; i < channels; ++i) {
          for (int64_t j = 0; j < width; ++j) to[i * panel_ + j] = x[i * w.input + j * w.output];
        }
      }
    }
    return panel;
  }

  static bool are_consecutive(const std::vector<int64_t>& taps) {
    for (size_t t = 1; t < taps.size(); ++t) {
      if (taps[t] != taps[t - 1] + 1) return false;
    }
    return true;
  }

  const PanelKernels<T>& kernels_ = panel_kernels<T>();
  const int64_t panel_ = kernels_.panel;
  const decltype(ConvKernels<T>::multiply_rows)& multiply_rows_ = conv_kernels<T>().multiply_rows;
  std::optional<Strip> strip_;
  std::vector<int64_t> taps_;
  int64_t pixels_;
  int64_t at_strip_, at_panel_, at_turned_, at_tile_, at_offsets_;
};

}  // namespace

template <class T>
std::unique_ptr<Tasks<T>> tasks_by_channels(const Correlation<T>& c, const Epilogue<T>& epilogue, int threads) {
  return std::make_unique<ByChannels<T>>(c, epilogue, threads);
}

template std::unique_ptr<Tasks<float>> tasks_by_channels(const Correlation<float>&, const Epilogue<float>&, int);
template std::unique_ptr<Tasks<double>> tasks_by_channels(const Correlation<double>&, const Epilogue<double>&, int);

}  // namespace pyinit
