// Pixels are the rows of register tiles, and output channels their columns: images whose channels lie side by side are
// read as they are, and the weights are packed into panels.
#include <algorithm>
#include <array>
#include <vector>

#include "conv/correlation.hpp"
#include "conv/kernels.hpp"
#include "conv/packed_weights.hpp"
#include "core/integers.hpp"
#include "linalg/kernels.hpp"

namespace pyinit {
namespace {

constexpr int64_t kPixels = 512;  // the most of a block
// Weights that are small beside what threads need anyway are packed once. If that only copies rows, they are copied
// again for each block unless they stay in the cache.
constexpr int64_t kTurnedBytes = int64_t{4} << 20, kCopiedBytes = int64_t{512} << 10;
constexpr int64_t kTurnedOutputs = 8;
// Taps outside the image are left out if there are at most so many zones of outputs along a dimension, and if no more
// than so much is left of all products.
constexpr size_t kZones = 3;
constexpr int64_t kMostZones = kZones * kZones * kZones;
constexpr double kWorthwhile = 0.93;
constexpr int64_t kProductsAhead = 64;  // of a row, for which rows are asked beforehand
constexpr int64_t kBusySums = 8;        // vectors of sums that keep the units busy
constexpr int64_t kTallTile = 8, kFewProducts = 64;
constexpr int64_t kBlockCost = 40;  // packing the weights once more takes as long as so many pixels

template <class T> class ByChannels final : public Tasks<T> {
 public:
  ByChannels(const Correlation<T>& c, const Epilogue<T>& epilogue, int threads)
      : Tasks<T>(c, epilogue, kPixels, {conv_kernels<T>().rows, kBlockCost}, panel_kernels<T>().panel, threads),
        panel_(panel_width<T>(c.outputs())) {
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
    at_places_ = this->place(2 * pixels * per_offset);
    at_tile_rows_ = this->place(pixels * per_offset);
    for (const Phase<T>& phase : c.phases) zones_.push_back(zones_of(c, phase));
    at_runs_ = this->place(2 * kMostZones * c.most_taps() * per_offset);
    is_whole_ = this->has_whole_sums() && has_one_zone() && fills_tiles(this->blocks_.largest().size[2]);
    if (is_whole_) this->end_in_registers();
    // One panel, or the sums of all until the last chain has been added.
    const int64_t sums = static_cast<int64_t>(c.phases.size()) * pixels * round_up(this->outputs_each_, lanes_);
    keeps_sums_ = (this->scratch() + sums) * int64_t{sizeof(T)} <= kKeepingBytes;
    at_tile_ = this->place(keeps_sums_ ? sums : pixels * panel_);
  }

 private:
  using Part = typename Tasks<T>::Part;
  // Outputs [begin, end) along a dimension, for which the same taps [first, last) lie inside the image.
  struct Zone {
    int64_t begin, end, first, last;
  };
  struct ZoneOfBlock {
    int64_t first, count;  // pixels
    Runs runs;
  };

  bool has_one_zone() const {
    for (const std::vector<Zone>& zones : zones_[0]) {
      if (zones.size() > 1) return false;
    }
    return true;
  }

  // Whether tiles of a row's pixels have sums enough to keep the units busy. With few pixels, what is saved around the
  // products makes up for tiles that are not full only if there are few products.
  bool fills_tiles(int64_t row) const {
    const int64_t vectors = std::min(divide_up(this->correlation_.outputs(), lanes_), kernels_.panel / lanes_);
    const int64_t pixels = row / divide_up(row, kernels_.rows);
    return pixels * vectors >= kBusySums && (pixels >= kTallTile || this->depth_ <= kFewProducts);
  }

  // The pixels of a row lie at equal distances.
  void run_whole(const Part& part, const Source<T>& source, T* scratch) const {
    const Correlation<T>& c = this->correlation_;
    const Images<T>& output = c.phases[0].output;
    const int64_t inputs = c.inputs(), pixels = part.block.pixels(), columns = part.block.size[2];
    const int64_t channel = output.channel_stride;
    int64_t* const places = reinterpret_cast<int64_t*>(scratch + at_places_);
    const auto& [d, h, w] = zones_[0];
    const Runs runs = runs_of(0, d[0], h[0], w[0], inputs, reinterpret_cast<int64_t*>(scratch + at_runs_));
    if (channel != 1 || part.outputs % lanes_ != 0) {
      fill_offsets(part.block, output.batch_stride, output.strides, places);
    }
    T* const out = this->begin(c.phases[0], part);
    int64_t width;
    for (int64_t o = 0; o < part.outputs; o += width) {
      width = std::min(panel_ - (part.first + o) % panel_, part.outputs - o);
      const Columns<T> b = panel(0, part.group, part.first + o, width, 0, inputs, scratch);
      const bool is_direct = width % lanes_ == 0 && channel == 1;
      const int64_t tile_row = round_up(width, lanes_);
      T* const tile = scratch + at_tile_;
      Ending<T> ending = this->ending(part);
      ending.bias += o;
      int64_t row = 0;  // of the block
      const auto multiply = [&](int64_t from, int64_t to) {
        T* const sums = is_direct ? out + o + to : tile + row * columns * tile_row;
        conv_kernels_.multiply_whole_rows(columns, source.data + from, source.step[2], runs, b, ending, sums,
                                          is_direct ? output.strides[2] : tile_row);
        ++row;
      };
      for_each_row_of_two(part.block, source.image, source.step, output.batch_stride, output.strides, multiply);
      if (is_direct) continue;
      if (channel == 1) {
        add(true, tile, width, places, pixels, out + o, channel);
      } else {
        spread(tile, width, places, pixels, out + o * channel, channel);
      }
    }
  }

  void run_chain(size_t index, const Part& part, int64_t first, int64_t channels, const Source<T>& source,
                 T* scratch) const override {
    if (is_whole_) return run_whole(part, source, scratch);
    const Phase<T>& phase = this->correlation_.phases[index];
    const int64_t pixels = part.block.pixels(), channel = phase.output.channel_stride;
    int64_t* const rows = reinterpret_cast<int64_t*>(scratch + at_rows_);
    int64_t* const places = reinterpret_cast<int64_t*>(scratch + at_places_);
    int64_t* const places_by_zones = places + pixels;
    int64_t* const tile_rows = reinterpret_cast<int64_t*>(scratch + at_tile_rows_);
    int64_t* runs = reinterpret_cast<int64_t*>(scratch + at_runs_);
    T* const out = this->begin(phase, part);
    // Whether sums go to the output from registers.
    const bool is_direct = channel == 1 && part.outputs % lanes_ == 0;
    const Extents& size = part.block.size;
    const Extents in_block = {size[1] * size[2], size[2], 1};
    if (!is_direct) fill_offsets(part.block, phase.output.batch_stride, phase.output.strides, places);
    ZoneOfBlock zones[kMostZones];
    int64_t count = 0, done = 0;
    for_each_zone(index, part.block, [&](const Block& pixels_of_zone, const Zone& d, const Zone& h, const Zone& w) {
      ZoneOfBlock& zone = zones[count++];
      zone.first = done;
      const auto fill = [&](int64_t image, const Extents& step, int64_t* offsets) {
        fill_part(part.block, pixels_of_zone, image, step, offsets + done);
      };
      fill(source.image, source.step, rows);
      if (channel == 1) fill(phase.output.batch_stride, phase.output.strides, places_by_zones);
      if (!is_direct) fill(size[0] * in_block[0], in_block, tile_rows);
      done += pixels_of_zone.pixels();
      zone.count = done - zone.first;
      zone.runs = runs_of(index, d, h, w, channels, runs);
      runs += 2 * this->correlation_.most_taps();
    });
    // For the first panel, images that are not in a strip come from memory, along more rows than processors follow.
    const auto multiply = [&](int64_t o, bool is_added, const Columns<T>& b, T* c, const int64_t* c_rows) {
      for (int64_t z = 0; z < count; ++z) {
        const auto& [begin, pixels_of_zone, runs_of_zone] = zones[z];
        const int64_t depth = runs_of_zone.count * runs_of_zone.length;
        const int64_t ahead = o == 0 && !this->strip_ ? divide_up(kProductsAhead, depth) * rows_ : 0;
        multiply_rows_[is_added](pixels_of_zone, source.data, rows + begin, runs_of_zone, ahead, b, c, c_rows + begin);
      }
    };
    int64_t width, row = 1;
    for (int64_t o = 0; o < part.outputs; o += width) {
      width = std::min(panel_ - (part.first + o) % panel_, part.outputs - o);
      const Columns<T> b = panel(index, part.group, part.first + o, width, first, channels, scratch);
      if (width % lanes_ == 0 && channel == 1) {
        multiply(o, first != 0, b, out + o, places_by_zones);
        continue;
      }
      const int64_t tile_row = round_up(width, lanes_);
      T* const tile = scratch + at_tile_ + (keeps_sums_ ? tile_of(index, o) : 0);
      for (int64_t i = 0; i < pixels && row != tile_row; ++i) tile_rows[i] = tile_rows[i] / row * tile_row;
      row = tile_row;
      multiply(o, keeps_sums_ && first != 0, b, tile, tile_rows);
      if (!keeps_sums_) {
        add(first == 0, tile, width, places, pixels, out + o * channel, channel);
      } else if (first + channels == this->correlation_.inputs()) {
        spread(tile, width, places, pixels, out + o * channel, channel);
      }
    }
  }

  int64_t tile_of(size_t phase, int64_t output) const {
    const int64_t outputs = round_up(this->outputs_each_, lanes_);
    return (static_cast<int64_t>(phase) * outputs + output) * this->blocks_.largest().pixels();
  }

  void add(bool is_set, const T* tile, int64_t width, const int64_t* places, int64_t pixels, T* out,
           int64_t channel) const {
    const int64_t row = round_up(width, lanes_);
    for (int64_t i = 0; i < pixels; ++i) {
      T* const to = out + places[i];
      for (int64_t j = 0; j < width; ++j) {
        T& sum = to[j * channel];
        sum = is_set ? tile[i * row + j] : sum + tile[i * row + j];
      }
    }
  }

  // Pixels that lie side by side are turned together, for few outputs at a time: planes of outputs may lie at distances
  // at which they drive one another out of the cache.
  void spread(const T* tile, int64_t width, const int64_t* places, int64_t pixels, T* out, int64_t channel) const {
    const int64_t row = round_up(width, lanes_);
    for (int64_t o = 0; o < width; o += kTurnedOutputs, tile += kTurnedOutputs, out += kTurnedOutputs * channel) {
      const int64_t outputs = std::min(kTurnedOutputs, width - o);
      for (int64_t i = 0, end; i < pixels; i = end) {
        end = i + 1;
        while (end < pixels && places[end] == places[end - 1] + 1) ++end;
        if (end - i > 1) {
          kernels_.transpose(end - i, outputs, tile + i * row, row, out + places[i], channel);
        } else {
          for (int64_t j = 0; j < outputs; ++j) out[places[i] + j * channel] = tile[i * row + j];
        }
      }
    }
  }

  static std::array<std::vector<Zone>, kSpatial> zones_of(const Correlation<T>& c, const Phase<T>& phase) {
    std::array<std::vector<Zone>, kSpatial> zones;
    double left = 1;  // of all products
    for (size_t i = 0; i < kSpatial; ++i) {
      const std::vector<int64_t>& taps = phase.taps[i];
      const int64_t outputs = phase.output.size[i], all = static_cast<int64_t>(taps.size());
      int64_t inside = 0;
      for (int64_t p = 0; p < outputs && zones[i].size() <= kZones; ++p) {
        Zone zone{p, p + 1, 0, all};
        const auto at = [&](int64_t t) { return p * c.step[i] + taps[static_cast<size_t>(t)]; };
        while (zone.first < all && at(zone.first) < 0) ++zone.first;
        while (zone.last > zone.first && at(zone.last - 1) >= c.input.size[i]) --zone.last;
        inside += zone.last - zone.first;
        if (p > 0 && zones[i].back().first == zone.first && zones[i].back().last == zone.last) {
          zones[i].back().end = zone.end;
        } else {
          zones[i].push_back(zone);
        }
      }
      if (zones[i].size() > kZones) {
        zones[i] = {{0, outputs, 0, all}};
      } else {
        left *= static_cast<double>(inside) / static_cast<double>(outputs * all);
      }
    }
    if (left > kWorthwhile) {
      for (size_t i = 0; i < kSpatial; ++i) {
        zones[i] = {{0, phase.output.size[i], 0, static_cast<int64_t>(phase.taps[i].size())}};
      }
    }
    return zones;
  }

  // f(pixels, zones along the dimensions) for each part of a block.
  template <class F> void for_each_zone(size_t phase, const Block& block, F&& f) const {
    const auto& [depth, rows, columns] = zones_[phase];
    for (const Zone& d : depth) {
      for (const Zone& h : rows) {
        for (const Zone& w : columns) {
          Block part = block;
          const Zone* const zones[] = {&d, &h, &w};
          for (size_t i = 0; i < kSpatial; ++i) {
            part.begin[i] = std::max(block.begin[i], zones[i]->begin);
            part.size[i] =
                std::max<int64_t>(0, std::min(block.begin[i] + block.size[i], zones[i]->end) - part.begin[i]);
          }
          if (part.pixels() > 0) f(part, d, h, w);
        }
      }
    }
  }

  // Where the pixels of a part of a block lie, from the first one of the block on.
  static void fill_part(const Block& block, const Block& part, int64_t image, const Extents& step, int64_t* offsets) {
    int64_t first = 0;
    for (size_t i = 0; i < kSpatial; ++i) first += (part.begin[i] - block.begin[i]) * step[i];
    fill_offsets(part, image, step, offsets, first);
  }

  // Taps of zones whose channels run on into one another, as far as all have as many.
  Runs runs_of(size_t phase, const Zone& d, const Zone& h, const Zone& w, int64_t channels, int64_t* offsets) const {
    const std::vector<int64_t>& all = this->taps_[phase];
    const Taps& of_phase = this->correlation_.phases[phase].taps;
    const int64_t height = static_cast<int64_t>(of_phase[1].size()), width = static_cast<int64_t>(of_phase[2].size());
    int64_t* const b_offsets = offsets + this->correlation_.most_taps();
    int64_t taps = 0;
    for (int64_t z = d.first; z < d.last; ++z) {
      for (int64_t y = h.first; y < h.last; ++y) {
        for (int64_t x = w.first; x < w.last; ++x, ++taps) {
          const int64_t tap = (z * height + y) * width + x;
          offsets[taps] = all[static_cast<size_t>(tap)];
          b_offsets[taps] = tap * channels;
        }
      }
    }
    const auto run_on = [&](int64_t t) {
      return offsets[t] - offsets[t - 1] == channels && b_offsets[t] - b_offsets[t - 1] == channels;
    };
    int64_t together = 1;
    while (together < taps && run_on(together)) ++together;
    bool are_equal = taps % together == 0;
    for (int64_t t = 1; t < taps && are_equal; ++t) are_equal = t % together == 0 || run_on(t);
    if (!are_equal) together = 1;
    for (int64_t t = 0; t < taps; t += together) {
      offsets[t / together] = offsets[t];
      b_offsets[t / together] = b_offsets[t];
    }
    return {taps / together, together * channels, offsets, b_offsets};
  }

  // The weights of `width` outputs, in rows by taps and then channels.
  Columns<T> panel(size_t phase, int64_t group, int64_t output, int64_t width, int64_t first, int64_t channels,
                   T* scratch) const {
    if (const PackedWeights<T>* const packed = this->packed(phase)) {
      return {packed->panel(group, output, first), panel_, width};
    }
    const int64_t row = round_up(width, lanes_);
    const Correlation<T>& c = this->correlation_;
    T* const panel = scratch + at_panel_;
    pack_panel<T>({c.weights(group, output, first), c.output, c.input_channel, c.phases[phase].weights},
                  PanelOrder::taps, width, channels, row, scratch + at_turned_, panel);
    return {panel, row, width};
  }

  const PanelKernels<T>& kernels_ = panel_kernels<T>();
  const ConvKernels<T>& conv_kernels_ = conv_kernels<T>();
  const int64_t panel_;
  bool keeps_sums_, is_whole_;
  std::vector<std::array<std::vector<Zone>, kSpatial>> zones_;  // of each phase
  const int64_t lanes_ = conv_kernels<T>().lanes, rows_ = conv_kernels<T>().rows;
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
