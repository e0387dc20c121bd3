// Pixels are the rows of register tiles, and output channels their columns: images whose channels lie side by side are
// read as they are, and the weights are packed into panels.
#include <algorithm>

#include "conv/correlation.hpp"
#include "conv/kernels.hpp"
#include "conv/packed_weights.hpp"
#include "core/integers.hpp"
#include "linalg/kernels.hpp"

namespace pyinit {
namespace {

constexpr int64_t kPixels = 512;    // the most of a block
// Weights that are small beside what threads need anyway are packed once. If that only copies rows, they are copied
// again for each block unless they stay in the cache.
constexpr int64_t kTurnedBytes = int64_t{4} << 20, kCopiedBytes = int64_t{512} << 10;
constexpr int64_t kTurnedOutputs = 8;
constexpr int64_t kBlockCost = 40;  // packing the weights once more takes as long as so many pixels

template <class T> class ByChannels final : public Tasks<T> {
 public:
  ByChannels(const Correlation<T>& c, const Epilogue<T>& epilogue, int threads)
      : Tasks<T>(c, epilogue, kPixels, {panel_kernels<T>().rows, kBlockCost}, panel_kernels<T>().panel, threads) {
    const int64_t depth = this->depth_;
    if (c.input.channel_stride == 1 && is_inside(this->reach_, c.input, c.pixels())) {
      this->read_as_it_is();
    } else {
      this->read_from_strip(Order::channels, this->channels_);
    }
    this->pack(PanelOrder::taps, panel_, c.output == 1 ? kCopiedBytes : kTurnedBytes, threads);
    const int64_t per_offset = int64_t{sizeof(int64_t)} / int64_t{sizeof(T)}, pixels = this->blocks_.largest().pixels();
    at_panel_ = this->place(depth * panel_);
    at_turned_ = this->place(depth * panel_);
    at_rows_ = this->place(pixels * per_offset);
    at_places_ = this->place(pixels * per_offset);
    at_tile_rows_ = this->place(pixels * per_offset);
    at_runs_ = this->place(c.most_taps() * per_offset);
    // One panel, or the sums of all until the last chain has been added.
    const int64_t sums = static_cast<int64_t>(c.phases.size()) * pixels * round_up(this->outputs_each_, panel_);
    keeps_sums_ = (this->scratch() + sums) * int64_t{sizeof(T)} <= kKeepingBytes;
    at_tile_ = this->place(keeps_sums_ ? sums : pixels * panel_);
  }

 private:
  using Part = typename Tasks<T>::Part;

  void run_chain(size_t index, const Part& part, int64_t first, int64_t channels, const Source<T>& source,
                 T* scratch) const override {
    const Phase<T>& phase = this->correlation_.phases[index];
    const int64_t pixels = part.block.pixels(), channel = phase.output.channel_stride;
    int64_t* const rows = reinterpret_cast<int64_t*>(scratch + at_rows_);
    int64_t* const places = reinterpret_cast<int64_t*>(scratch + at_places_);
    int64_t* const tile_rows = reinterpret_cast<int64_t*>(scratch + at_tile_rows_);
    T* const out = this->begin(phase, part);
    fill_offsets(part.block, source.image, source.step, rows);
    fill_offsets(part.block, phase.output.batch_stride, phase.output.strides, places);
    for (int64_t i = 0; i < pixels; ++i) tile_rows[i] = i * panel_;
    const Runs runs = runs_of(this->taps_[index], channels, reinterpret_cast<int64_t*>(scratch + at_runs_));
    for (int64_t o = 0; o < part.outputs; o += panel_) {
      const int64_t width = std::min(panel_, part.outputs - o);
      const T* const b = panel(index, part.group, part.first + o, width, first, channels, scratch);
      if (width % lanes_ == 0 && channel == 1) {
        multiply_rows_[first != 0](pixels, source.data, rows, runs, b, width, out + o, places);
        continue;
      }
      T* const tile = scratch + at_tile_ + (keeps_sums_ ? tile_of(index, o) : 0);
      multiply_rows_[keeps_sums_ && first != 0](pixels, source.data, rows, runs, b, width, tile, tile_rows);
      if (!keeps_sums_) {
        add(first == 0, tile, width, places, pixels, out + o * channel, channel);
      } else if (first + channels == this->correlation_.inputs()) {
        spread(tile, width, places, pixels, out + o * channel, channel);
      }
    }
  }

  int64_t tile_of(size_t phase, int64_t output) const {
    const int64_t panels = round_up(this->outputs_each_, panel_);
    return (static_cast<int64_t>(phase) * panels + output) * this->blocks_.largest().pixels();
  }

  void add(bool is_set, const T* tile, int64_t width, const int64_t* places, int64_t pixels, T* out,
           int64_t channel) const {
    for (int64_t i = 0; i < pixels; ++i) {
      T* const to = out + places[i];
      for (int64_t j = 0; j < width; ++j) {
        T& sum = to[j * channel];
        sum = is_set ? tile[i * panel_ + j] : sum + tile[i * panel_ + j];
      }
    }
  }

  // Pixels that lie side by side are turned together, for few outputs at a time: planes of outputs may lie at distances
  // at which they drive one another out of the cache.
  void spread(const T* tile, int64_t width, const int64_t* places, int64_t pixels, T* out, int64_t channel) const {
    for (int64_t o = 0; o < width; o += kTurnedOutputs, tile += kTurnedOutputs, out += kTurnedOutputs * channel) {
      const int64_t outputs = std::min(kTurnedOutputs, width - o);
      for (int64_t i = 0, end; i < pixels; i = end) {
        end = i + 1;
        while (end < pixels && places[end] == places[end - 1] + 1) ++end;
        if (end - i > 1) {
          kernels_.transpose(end - i, outputs, tile + i * panel_, panel_, out + places[i], channel);
        } else {
          for (int64_t j = 0; j < outputs; ++j) out[places[i] + j * channel] = tile[i * panel_ + j];
        }
      }
    }
  }

  // Taps whose channels run on into one another, as far as all have as many.
  static Runs runs_of(const std::vector<int64_t>& at, int64_t channels, int64_t* offsets) {
    const int64_t taps = static_cast<int64_t>(at.size());
    const auto run_on = [&](int64_t t) {
      return at[static_cast<size_t>(t)] - at[static_cast<size_t>(t - 1)] == channels;
    };
    int64_t together = 1;
    while (together < taps && run_on(together)) ++together;
    bool are_equal = taps % together == 0;
    for (int64_t t = 1; t < taps && are_equal; ++t) are_equal = t % together == 0 || run_on(t);
    if (!are_equal) together = 1;
    for (int64_t t = 0; t < taps; t += together) offsets[t / together] = at[static_cast<size_t>(t)];
    return {taps / together, together * channels, offsets};
  }

  // The weights of `width` outputs, in rows by taps and then channels.
  const T* panel(size_t phase, int64_t group, int64_t output, int64_t width, int64_t first, int64_t channels,
                 T* scratch) const {
    if (const PackedWeights<T>* const packed = this->packed(phase)) return packed->panel(group, output, first);
    const Correlation<T>& c = this->correlation_;
    T* const panel = scratch + at_panel_;
    pack_panel<T>({c.weights(group, output, first), c.output, c.input_channel, c.phases[phase].weights}, PanelOrder::taps,
                  width, channels, panel_, scratch + at_turned_, panel);
    return panel;
  }

  const PanelKernels<T>& kernels_ = panel_kernels<T>();
  const int64_t panel_ = kernels_.panel;
  bool keeps_sums_;
  const int64_t lanes_ = conv_kernels<T>().lanes;
  const decltype(ConvKernels<T>::multiply_rows)& multiply_rows_ = conv_kernels<T>().multiply_rows;
  int64_t at_panel_, at_turned_, at_tile_, at_rows_, at_places_, at_tile_rows_, at_runs_;
};

}  // namespace

template <class T>
std::unique_ptr<Tasks<T>> tasks_by_channels(const Correlation<T>& c, const Epilogue<T>& epilogue, int threads) {
  return std::make_unique<ByChannels<T>>(c, epilogue, threads);
}

template std::unique_ptr<Tasks<float>> tasks_by_channels(const Correlation<float>&, const Epilogue<float>&, int);
template std::unique_ptr<Tasks<double>> tasks_by_channels(const Correlation<double>&, const Epilogue<double>&, int);

}  // namespace pyinit
