// Output channels are the rows of register tiles, and pixels their columns. What the pixels take, channel by channel
// and tap by tap, is gathered into panels that stay in the cache while the weights pass; or, of pixels side by side
// that few outputs take, read where it is.
#include <algorithm>

#include "conv/correlation.hpp"
#include "conv/kernels.hpp"
#include "core/integers.hpp"
#include "linalg/kernels.hpp"

namespace pyinit {
namespace {

constexpr int64_t kFewOutputs = 32;                   // that do not make up for gathering
constexpr int64_t kPixels = 512, kManyPixels = 4096;  // of a block; with few outputs
constexpr int64_t kBlockCost = 8;                     // pixels whose time goes into tables
constexpr int64_t kPanelsBytes = int64_t{2} << 20;    // that its panels may take
constexpr int64_t kTablesBytes = int64_t{2} << 20;    // that tables of all phases may take
constexpr int64_t kInputBytes = int64_t{256} << 10;   // that a block may take in, so that it is read once
constexpr int64_t kStripBytes = int64_t{512} << 10;
constexpr int64_t kPackedBytes = int64_t{4} << 20;     // weights that are packed once
constexpr int64_t kGatheringCost = 6;                  // outputs of a panel whose time goes into gathering it
constexpr int64_t kTileOutputs = 4;                    // that keep the units busy with two vectors of pixels each
constexpr int64_t kMostInVain = 4;                     // pixels of a row for each that may be computed twice
constexpr int64_t kTileBytes = int64_t{16} << 10;      // of weights that stay in the first cache
constexpr int64_t kNowhere = -1;                       // the place of a column that is no pixel
constexpr int64_t kWeightsBytes = int64_t{112} << 10;  // weights that pass together

bool is_run(const int64_t* places, int64_t count) {
  if (places[count - 1] != places[0] + count - 1) return false;
  for (int64_t i = 1; i < count; ++i) {
    if (places[i] != places[0] + i) return false;
  }
  return true;
}

template <class T> class ByPixels final : public Tasks<T> {
 public:
  ByPixels(const Correlation<T>& c, const Epilogue<T>& epilogue, int threads)
      : Tasks<T>(c, epilogue, most_pixels(c), {panel_kernels<T>().panel, kBlockCost}, panel_kernels<T>().rows, threads),
        few_outputs_(c.outputs() <= kFewOutputs) {
    const int64_t depth = this->depth_;
    const Block largest = this->blocks_.largest();
    if (c.input.strides[2] * c.step[2] == 1 && is_inside(this->reach_, c.input, c.pixels())) {
      this->read_as_it_is();
      pitch_ = c.input.strides[1] * c.step[1];
    } else {
      // Where channels lie side by side, all that a block takes is read at once.
      const int64_t one = strip_inputs(this->reach_, Order::pixels, largest), size = sizeof(T);
      const int64_t loads = c.input.channel_stride == 1 ? kStripBytes / size / one / this->channels_ : 1;
      pitch_ = this->read_from_strip(Order::pixels, std::max<int64_t>(loads, 1) * this->channels_).row_step();
    }
    row_ = row_of(largest);
    is_whole_ = few_outputs_ && this->has_whole_sums() && fills_vectors(largest.size[2]);
    if (is_whole_) this->end_in_registers();
    // Where products would read a cache line each.
    if (!is_whole_ && (c.output < c.input_channel || c.input_channel > 2 * c.most_taps())) {
      this->pack(PanelOrder::channels, kernels_.rows, kPackedBytes, threads);
    }
    outputs_together_ =
        std::max(int64_t{1}, kWeightsBytes / int64_t{sizeof(T)} / depth / kernels_.rows) * kernels_.rows;

    columns_ = round_up(columns_of(largest), panel_);
    const int64_t per_offset = int64_t{sizeof(int64_t)} / int64_t{sizeof(T)};
    at_panels_ = this->place(columns_ * depth);
    at_tile_ = this->place(2 * outputs_together_ * panel_);
    const int64_t phases = static_cast<int64_t>(c.phases.size());
    at_columns_ = this->place(phases * columns_ * per_offset);
    at_places_ = this->place(phases * columns_ * per_offset);
    at_rows_ = this->place(depth * per_offset);
    at_weights_ = this->place(depth * per_offset);
    at_layout_ = this->place(phases * columns_ / panel_);
    const int64_t sums = phases * columns_ * this->outputs_each_;
    keeps_sums_ = (this->scratch() + sums) * int64_t{sizeof(T)} <= kKeepingBytes;
    at_sums_ = this->place(keeps_sums_ ? sums : 0);
  }

 private:
  using Part = typename Tasks<T>::Part;
  enum class Kind : char { gathered, in_place, first_of_two };
  // Of a panel; its outputs lie side by side, or go through a tile.
  struct Layout {
    Kind kind;
    bool is_direct;
  };
  // A block's pixels in a phase, which is the same for all chains: what pixel j takes starts at columns[j], and its
  // outputs at places[j].
  struct Pixels {
    int64_t count;
    int64_t* columns;
    int64_t* places;
    Layout* panels;
  };

  // Product l is of column l of the weights and source[columns[j] + rows[l]], for pixel j. Gathered panels are copies,
  // row after row.
  struct Products {
    int64_t count;
    TileRows<T> weights;
    const T* source;
    const int64_t* rows;
    const T* gathered;
  };

  void run_chain(size_t index, const Part& part, int64_t first, int64_t channels, const Source<T>& source,
                 T* scratch) const override {
    const Correlation<T>& c = this->correlation_;
    const Phase<T>& phase = c.phases[index];
    const std::vector<int64_t>& taps = this->taps_[index];
    const int64_t depth = channels * static_cast<int64_t>(taps.size());
    int64_t* const rows = offsets(scratch, at_rows_);
    int64_t* const weights = offsets(scratch, at_weights_);
    const PackedWeights<T>* const packed = this->packed(index);
    for (int64_t i = 0, l = 0; i < channels; ++i) {
      for (size_t t = 0; t < taps.size(); ++t, ++l) {
        rows[l] = i * source.channel + taps[t];
        weights[l] = packed == nullptr ? i * c.input_channel + phase.weights[t] : l * kernels_.rows;
      }
    }
    if (is_whole_) {
      const TileRows<T> a = {c.weights(part.group, part.first, 0), c.output, 0, 0, weights};
      return multiply_whole(part, source, {depth, a, source.data, rows, nullptr});
    }
    const Pixels pixels = pixels_of(index, part.block, scratch);
    // All rows of a column may be read up to here.
    const T* const end = source.end - (channels - 1) * source.channel - *std::max_element(taps.begin(), taps.end());
    if (first == 0) {
      const int64_t later = this->strip_ ? 0 : c.inputs() - channels;  // channels that are read after these
      find(pixels, phase, part.block, source, end - source.data - later * source.channel);
    }
    T* const panels = scratch + at_panels_;
    for (int64_t j = 0; j < pixels.count; j += panel_) {
      if (pixels.panels[j / panel_].kind != Kind::gathered) continue;
      conv_kernels_.gather(depth, rows, source.data, pixels.columns + j, end, panels + j * depth);
    }
    const int64_t step = step_of(weights, depth);
    const TileRows<T> a =
        packed == nullptr
            ? TileRows<T>{c.weights(part.group, part.first, first), c.output, c.output * kernels_.rows, step, weights}
            : TileRows<T>{packed->panel(part.group, part.first, first), 1, packed->distance(), step, weights};
    const Products products = {depth, a, source.data, rows, panels};
    T* const out = this->begin(phase, part);
    for (int64_t o = 0; o < part.outputs; o += outputs_together_) {
      const int64_t height = std::min(outputs_together_, part.outputs - o);
      T* const tile = keeps_sums_
                          ? scratch + at_sums_ + (static_cast<int64_t>(index) * this->outputs_each_ + o) * columns_
                          : scratch + at_tile_;
      multiply(first == 0, first + channels == c.inputs(), o, height, products, pixels, out,
               phase.output.channel_stride, tile);
    }
  }

  // Whether outputs and their rows of pixels, whose last vectors begin where they end with the rows, are worth whole
  // vectors and tiles.
  bool fills_vectors(int64_t row) const {
    const Correlation<T>& c = this->correlation_;
    const int64_t last = (c.pixels()[2] - 1) % row + 1;
    return c.phases[0].output.strides[2] == 1 && c.outputs() >= kTileOutputs && last >= lanes_ &&
           (round_up(row, lanes_) - row) * kMostInVain <= row;
  }

  // Vectors of pixels are taken as many at a time as a tile has, from one row or from two.
  void multiply_whole(const Part& part, const Source<T>& source, const Products& p) const {
    const Images<T>& output = this->correlation_.phases[0].output;
    const int64_t width = part.block.size[2], most = panel_ / lanes_;
    const int64_t together =
        std::max(int64_t{1}, kTileBytes / int64_t{sizeof(T)} / p.count / kernels_.rows) * kernels_.rows;
    T* const out = this->begin(this->correlation_.phases[0], part);
    for (int64_t o = 0; o < part.outputs; o += together) {
      TileRows<T> weights = p.weights;
      weights.data += o * weights.row;
      Ending<T> ending = this->ending(part);
      ending.bias += o;
      int64_t from[kMaxPanel], to[kMaxPanel], count = 0;
      const auto multiply = [&] {
        conv_kernels_.multiply_whole(std::min(together, part.outputs - o), p.count, weights, p.source, p.rows,
                                     {count, from, to}, ending, out + o * output.channel_stride, output.channel_stride);
        count = 0;
      };
      for_each_row_of_two(part.block, source.image, source.step, output.batch_stride, output.strides,
                          [&](int64_t row, int64_t out_row) {
                            for (int64_t w = 0; w < width; w += lanes_) {
                              const int64_t at = std::min(w, width - lanes_);
                              from[count] = row + at;
                              to[count] = out_row + at;
                              if (++count == most) multiply();
                            }
                          });
      if (count > 0) multiply();
    }
  }

  // From each to the next, or 0 if these are not equal.
  static int64_t step_of(const int64_t* offsets, int64_t count) {
    const int64_t step = count > 1 ? offsets[1] - offsets[0] : 1;
    for (int64_t i = 2; i < count; ++i) {
      if (offsets[i] - offsets[i - 1] != step) return 0;
    }
    return step;
  }

  static int64_t* offsets(T* scratch, int64_t at) { return reinterpret_cast<int64_t*>(scratch + at); }

  Pixels pixels_of(size_t phase, const Block& block, T* scratch) const {
    const int64_t i = static_cast<int64_t>(phase);
    return {columns_of(block), offsets(scratch, at_columns_) + i * columns_,
            offsets(scratch, at_places_) + i * columns_,
            reinterpret_cast<Layout*>(scratch + at_layout_) + i * columns_ / panel_};
  }

  // `end` is that of what may be read, as the columns' offsets are.
  void find(const Pixels& pixels, const Phase<T>& phase, const Block& block, const Source<T>& source,
            int64_t end) const {
    const int64_t width = block.size[2], length = row_length(width);
    int64_t* column = pixels.columns;
    int64_t left = pixels.count;
    for_each_row(block, source.image, source.step, [&](int64_t row) {
      for (int64_t w = 0; w < std::min(length, left); ++w) *column++ = row + w * source.step[2];
      left -= length;
    });
    int64_t* place = pixels.places;
    left = pixels.count;
    for_each_row(block, phase.output.batch_stride, phase.output.strides, [&](int64_t row) {
      for (int64_t w = 0; w < width; ++w) *place++ = row + w * phase.output.strides[2];
      for (int64_t w = width; w < std::min(length, left); ++w) *place++ = kNowhere;
      left -= length;
    });
    // Behind a row is not always another one, nor memory: rows of expanded images lie at the same place.
    for (int64_t j = 0; j < pixels.count; ++j) {
      if (pixels.columns[j] >= end) pixels.columns[j] = pixels.columns[j - 1];
    }
    // The last panel's columns that no pixel has: anything that may be read.
    const int64_t last = pixels.columns[pixels.count - 1];
    const int64_t step = this->strip_ || last + panel_ < end ? 1 : 0;
    for (int64_t j = pixels.count; j % panel_ != 0; ++j) pixels.columns[j] = pixels.columns[j - 1] + step;

    for (int64_t j = 0; j < pixels.count; j += panel_) {
      const bool is_direct = j + panel_ <= pixels.count && is_run(pixels.places + j, panel_);
      pixels.panels[j / panel_] = {
          few_outputs_ && is_in_place(pixels.columns + j, end) ? Kind::in_place : Kind::gathered, is_direct};
    }
    for (int64_t j = 0; j + 2 * panel_ <= pixels.count; j += panel_) {
      Layout* const two = pixels.panels + j / panel_;
      if (two[0].kind != Kind::in_place || two[1].kind != Kind::in_place) continue;
      two[0] = {Kind::first_of_two,
                two[0].is_direct && two[1].is_direct && pixels.places[j + panel_] == pixels.places[j] + panel_};
      j += panel_;
    }
  }

  // Whether the vectors of a panel are runs, all of which may be read.
  bool is_in_place(const int64_t* columns, int64_t end) const {
    for (int64_t j = 0; j < panel_; j += lanes_) {
      if (!is_run(columns + j, lanes_) || columns[j] + lanes_ > end) return false;
    }
    return true;
  }

  static int64_t most_pixels(const Correlation<T>& c) {
    const int64_t depth = std::max(c.most_taps(), c.products), size = sizeof(T);
    const int64_t phases = static_cast<int64_t>(c.phases.size()), tables = 2 * int64_t{sizeof(int64_t)} * phases;
    const int64_t wanted = c.outputs() > kFewOutputs
                               ? kPixels
                               : std::clamp(kInputBytes / (read_together(c) * size), kPixels, kManyPixels / phases);
    return std::clamp(std::min(kPanelsBytes / size / depth, kTablesBytes / tables), int64_t{panel_kernels<T>().panel},
                      wanted);
  }

  // Channels: all where they lie side by side.
  static int64_t read_together(const Correlation<T>& c) {
    return c.input.channel_stride == 1 ? c.inputs() : std::min(c.inputs(), c.products / c.most_taps() + 1);
  }

  // How far the columns of a row go. Beyond its pixels they are computed in vain, so that panels can be read in place:
  // until a vector is full, or until the next row begins in what is read.
  enum class Row : char { pixels, vectors, running_on };

  Row row_of(const Block& block) const {
    if (!few_outputs_) return Row::pixels;
    const int64_t width = block.size[2], rows = block.pixels() / width;
    const auto cost = [&](int64_t length, bool is_gathered) {
      return rows * length * (this->outputs_each_ + (is_gathered ? kGatheringCost : 0));
    };
    const int64_t gathered = cost(width, width != pitch_);
    const int64_t vectors = cost(round_up(width, lanes_), false);
    const int64_t running_on = pitch_ >= width ? cost(pitch_, false) : INT64_MAX;
    if (gathered <= vectors && gathered <= running_on) return Row::pixels;
    return vectors <= running_on ? Row::vectors : Row::running_on;
  }

  int64_t row_length(int64_t width) const {
    if (row_ == Row::pixels) return width;
    return row_ == Row::vectors ? round_up(width, lanes_) : pitch_;
  }

  // Without those behind the last pixel.
  int64_t columns_of(const Block& block) const {
    const int64_t width = block.size[2], length = row_length(width);
    return block.pixels() / width * length - (length - width);
  }

  // Outputs [first, first + height).
  void multiply(bool is_set, bool is_last, int64_t first, int64_t height, const Products& p, const Pixels& pixels,
                T* out, int64_t channel, T* tile) const {
    TileRows<T> weights = p.weights;
    weights.data += first / kernels_.rows * weights.tile;
    out += first * channel;
    int64_t at[2 * kMaxPanel];  // of vectors
    int64_t panels;
    for (int64_t j = 0; j < pixels.count; j += panels * panel_) {
      const auto [kind, is_direct] = pixels.panels[j / panel_];
      panels = kind == Kind::first_of_two ? 2 : 1;
      const int64_t width = std::min(panels * panel_, pixels.count - j);
      const int64_t* const places = pixels.places + j;
      T* const sums = keeps_sums_ ? tile + j * height : tile;
      T* const c = is_direct ? out + places[0] : sums;
      const int64_t c_row = is_direct ? channel : panels * panel_;
      const bool is_added = !is_set && (is_direct || keeps_sums_);
      if (kind == Kind::gathered) {
        conv_kernels_.multiply_panel[is_added](height, p.count, weights, p.gathered + j * p.count, width, c, c_row);
      } else {
        for (int64_t v = 0; v < panels * panel_ / lanes_; ++v) at[v] = pixels.columns[j + v * lanes_];
        conv_kernels_.multiply[is_added](height, p.count, weights, p.source, p.rows, at, panels, c, c_row);
      }
      if (is_direct || (keeps_sums_ && !is_last)) continue;
      if (is_set || keeps_sums_) {
        spread(height, sums, c_row, places, width, out, channel);
        continue;
      }
      for (int64_t o = 0; o < height; ++o) {
        T* const to = out + o * channel;
        const T* const from = sums + o * c_row;
        for (int64_t i = 0; i < width; ++i) {
          if (places[i] != kNowhere) to[places[i]] += from[i];
        }
      }
    }
  }

  // Sums of so many pixels to where they belong.
  void spread(int64_t outputs, const T* sums, int64_t row, const int64_t* places, int64_t count, T* out,
              int64_t channel) const {
    PixelRun runs[2 * kMaxPanel];
    int64_t found = 0, pixels = 0;
    for (int64_t i = 0; i < count; ++i) {
      if (places[i] == kNowhere) continue;
      ++pixels;
      if (found > 0 && places[i] == places[i - 1] + 1) {
        ++runs[found - 1].length;
      } else {
        runs[found++] = {i, places[i], 1};
      }
    }
    if (found == pixels) {
      for (int64_t o = 0; o < outputs; ++o, sums += row, out += channel) {
        for (int64_t r = 0; r < found; ++r) out[runs[r].place] = sums[runs[r].at];
      }
      return;
    }
    conv_kernels_.spread(outputs, sums, row, runs, found, out, channel);
  }

  const PanelKernels<T>& kernels_ = panel_kernels<T>();
  const ConvKernels<T>& conv_kernels_ = conv_kernels<T>();
  const int64_t panel_ = kernels_.panel, lanes_ = conv_kernels_.lanes;
  const bool few_outputs_;
  Row row_;
  int64_t pitch_;  // from a row of pixels to the next one, in what is read
  int64_t outputs_together_, columns_;
  int64_t at_panels_, at_tile_, at_columns_, at_places_, at_rows_, at_weights_, at_layout_, at_sums_;
  bool keeps_sums_, is_whole_;
};

}  // namespace

template <class T>
std::unique_ptr<Tasks<T>> tasks_by_pixels(const Correlation<T>& c, const Epilogue<T>& epilogue, int threads) {
  return std::make_unique<ByPixels<T>>(c, epilogue, threads);
}

template std::unique_ptr<Tasks<float>> tasks_by_pixels(const Correlation<float>&, const Epilogue<float>&, int);
template std::unique_ptr<Tasks<double>> tasks_by_pixels(const Correlation<double>&, const Epilogue<double>&, int);

}  // namespace pyinit
