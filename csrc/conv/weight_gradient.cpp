// A convolution's gradient by its weight: for each group the product of a matrix with a row for each input channel and
// tap, and one with a column for each output channel, over all pixels of the output.
#include <algorithm>
#include <type_traits>
#include <utility>
#include <vector>

#include "conv/convolution.hpp"
#include "conv/depthwise.hpp"
#include "conv/finish.hpp"
#include "conv/gradient_kernels.hpp"
#include "conv/kernels.hpp"
#include "conv/pixel_blocks.hpp"
#include "conv/strip.hpp"
#include "conv/trim.hpp"
#include "conv/upcoming.hpp"
#include "conv/weight_gradient_planes.hpp"
#include "conv/winograd_gradient.hpp"
#include "core/integers.hpp"
#include "core/parallel.hpp"
#include "core/scratch.hpp"
#include "linalg/kernels.hpp"

namespace pyinit {
namespace {

constexpr int64_t kPixels = 256;  // of a block: its products are one chain, and the blocks' sums are added up
// A tile of the gradient stays in the second cache while blocks of pixels pass, with what these take. A tile of one tap
// may be larger, so that images are read less often.
constexpr int64_t kColumns = 128, kTileBytes = int64_t{160} << 10;
constexpr int64_t kColumnsOfOneTap = 256, kTileBytesOfOneTap = int64_t{256} << 10, kChannels = 256;
constexpr int64_t kStripBytes = int64_t{2} << 20, kNearBytes = 1024;
constexpr int64_t kMostTileBytes = int64_t{4} << 20;  // where one channel's taps are many
// Where tiles are few, pixels are divided into parts of at least this many multiply-adds, which are summed at the end.
constexpr int64_t kTasks = 8, kPartWork = int64_t{1} << 19, kPartsBytes = int64_t{4} << 20;
constexpr int64_t kGrain = int64_t{1} << 18;        // multiply-adds that a thread is worth
constexpr int64_t kPixelsPacked = 8, kSquare = 16;  // taken together, so that what is read or written lies side by side
constexpr int64_t kPixelsAhead = 32;                // are fetched
constexpr int64_t kRowsInPlace = 16;                // for which panels are not worth a copy
constexpr int64_t kFarBytes = int64_t{12} << 20;    // of images that do not stay in the caches: they are asked for
constexpr int64_t kPieces = 4096;                   // of the next block, which the products of a block ask for
constexpr int64_t kCacheLine = 64;

// A tile of one group's gradient: what some input channels, with all taps, make with some output channels. It has a row
// for each input channel and tap.
struct Tile {
  int64_t group, channel, channels, column, columns;
};

// The memory of a thread.
template <class T> struct Workspace {
  T *strip, *panels, *sums;
  int64_t *rows, *steps;
  const void** pieces;
};

template <class T> class WeightGradient {
 public:
  WeightGradient(const Window& window, const Images<const T>& input, const Images<const T>& output,
                 const Images<T>& weight, int threads)
      : input_(input),
        output_(output),
        weight_(weight),
        groups_(window.groups),
        channels_(weight.channels),
        columns_(weight.batch / window.groups),
        taps_(weight.pixels()),
        reach_(reach_of(window, weight.size)),
        blocks_(output.batch, output.size, kPixels),
        order_(input.channel_stride == 1 && input.strides[2] != 1 ? Order::channels : Order::pixels),
        tiling_(*this, threads),
        strip_(reach_, order_, blocks_.largest(), tiling_.channels),
        taps_in_place_(tap_offsets(reach_.taps, input)),
        weight_taps_(tap_offsets(weight)),
        is_far_(output.batch * (input.channels * input.pixels() + output.channels * output.pixels()) >
                kFarBytes / int64_t{sizeof(T)}) {}

  void run() const;

 private:
  // How the gradient is cut into tiles, and pixels into parts: these by sizes alone, since sums depend on them.
  struct Tiling {
    Tiling(const WeightGradient& g, int most_threads);
    int threads;  // as many as the work is worth
    int64_t columns, column_tiles, channels, channel_tiles, tiles, parts;
  };

  Tile tile(int64_t index) const;
  T* origin(const Tile& tile) const {  // where its columns of the output's gradient begin
    return weight_.data + (tile.group * columns_ + tile.column) * weight_.batch_stride;
  }
  bool is_in_place() const;
  bool is_packed() const;
  bool is_direct(const Tile& tile) const;
  bool is_panel(const Tile& tile, const Block& block, bool is_near) const;
  void multiply(const Tile& tile, int64_t part, const Workspace<T>& work, T* sums, int64_t sums_row) const;
  // The columns of whole panels, of which the last one is one vector wide if that is enough.
  int64_t width(int64_t columns) const {
    const int64_t panel = gradient_kernels_.panel, vector = gradient_kernels_.vector, rest = columns % panel;
    return columns - rest + (rest == 0 ? 0 : rest <= vector ? vector : panel);
  }
  void pack(const Images<const T>& images, int64_t first, int64_t channels, const Block& block, int64_t panels_width,
            bool is_near, T* panels) const;
  void pack(const Images<const T>& images, int64_t pixels, int64_t columns, const T* x, T* panel, int64_t row) const;
  void store(const Tile& tile, int64_t begin, int64_t end, int64_t* offsets, const T* sums) const;
  template <class F> void for_each_row(int64_t channels, F&& f) const;

  const PanelKernels<T>& kernels_ = panel_kernels<T>();
  const ConvKernels<T>& conv_kernels_ = conv_kernels<T>();
  const GradientKernels<T>& gradient_kernels_ = gradient_kernels<T>();
  const Images<const T>&input_, &output_;
  const Images<T>& weight_;
  int64_t groups_, channels_, columns_, taps_;  // channels and columns are those of one group
  Reach reach_;
  PixelBlocks blocks_;
  Order order_;
  Tiling tiling_;
  Strip strip_;
  std::vector<int64_t> taps_in_place_, weight_taps_;
  bool is_far_;  // what images have does not stay in caches that are near
};

template <class T> WeightGradient<T>::Tiling::Tiling(const WeightGradient& g, int most_threads) {
  constexpr int64_t size = sizeof(T);
  columns =
      block_size(g.columns_, g.taps_ == 1 ? kColumnsOfOneTap : std::min(kColumns, kMostTileBytes / size / g.taps_));
  const int64_t bytes = g.taps_ == 1 ? kTileBytesOfOneTap : kTileBytes;
  // One channel's part of an input that has to be copied.
  const int64_t strip = strip_inputs(g.reach_, g.order_, g.blocks_.largest());
  channels =
      block_size(g.channels_, std::min({kChannels, bytes / size / (g.taps_ * columns), kStripBytes / size / strip}));
  column_tiles = divide_up(g.columns_, columns);
  const auto count = [&] {
    channel_tiles = divide_up(g.channels_, channels);
    tiles = g.groups_ * channel_tiles * column_tiles;
  };
  count();

  const int64_t weights = g.weight_.batch * g.channels_ * g.taps_;
  const double work = static_cast<double>(weights) * static_cast<double>(g.output_.batch * g.output_.pixels());
  parts = std::min({kTasks / tiles, g.blocks_.count(), static_cast<int64_t>(work / double{kPartWork}),
                    kPartsBytes / size / weights});
  parts = std::max<int64_t>(parts, 1);
  // If tasks are few, their number is chosen so that all threads get the same.
  threads = usable_threads(most_threads, static_cast<int64_t>(std::min(work, 1e18)), kGrain);
  if (tiles * parts < kTasks && tiles * parts % threads != 0) {
    channels = block_size(g.channels_, divide_up(channels, threads));
    count();
  }
}

template <class T> Tile WeightGradient<T>::tile(int64_t index) const {
  const Tiling& t = tiling_;
  const int64_t column = index % t.column_tiles * t.columns;
  const int64_t channel = index / t.column_tiles % t.channel_tiles * t.channels;
  return {index / (t.column_tiles * t.channel_tiles), channel, std::min(t.channels, channels_ - channel), column,
          std::min(t.columns, columns_ - column)};
}

// Whether the input is copied into panels, too: pixels at a distance of a power of two share few places of the first
// cache.
template <class T> bool WeightGradient<T>::is_packed() const {
  return taps_ == 1 && order_ == Order::channels && is_inside(reach_, input_, output_.size);
}

// Whether the input is read where it is. It is copied where each pixel lies in a page of its own.
template <class T> bool WeightGradient<T>::is_in_place() const {
  return is_inside(reach_, input_, output_.size) &&
         (order_ == Order::pixels || input_.strides[2] <= kNearBytes / static_cast<int64_t>(sizeof(T)));
}

// Calls f(row, channel, tap) for all rows of a tile, as far as possible in the order in which the gradient is stored.
template <class T> template <class F> void WeightGradient<T>::for_each_row(int64_t channels, F&& f) const {
  int64_t row = 0;
  if (weight_.channel_stride == 1) {
    for (int64_t t = 0; t < taps_; ++t) {
      for (int64_t i = 0; i < channels; ++i) f(row++, i, t);
    }
  } else {
    for (int64_t i = 0; i < channels; ++i) {
      for (int64_t t = 0; t < taps_; ++t) f(row++, i, t);
    }
  }
}

// Channels of a block's pixels, row after row of a panel. The last panel ends at `panels_width`.
template <class T>
void WeightGradient<T>::pack(const Images<const T>& images, int64_t first, int64_t channels, const Block& block,
                             int64_t panels_width, bool is_near, T* panels) const {
  const int64_t panel = gradient_kernels_.panel, depth = block.pixels();
  const Extents& strides = images.strides;
  const T* const origin = images.at(block.image, first, block.begin);
  // Rows that run on into one another are one.
  int64_t width = block.size[2], height = block.size[1];
  if (strides[1] == width * strides[2]) width *= height, height = 1;
  for (int64_t n = 0; n < block.images; ++n) {
    for (int64_t d = 0; d < block.size[0]; ++d) {
      for (int64_t h = 0; h < height; ++h) {
        const T* const x = origin + n * images.batch_stride + d * strides[0] + h * strides[1];
        const int64_t before = ((n * block.size[0] + d) * height + h) * width;
        // If channels lie side by side, some pixels are taken at a time, so that what is read lies side by side, too.
        const int64_t run = images.channel_stride == 1 ? kPixelsPacked : width;
        for (int64_t w = 0; w < width; w += run) {
          // What lies side by side is read in pieces, which no processor foresees. Blocks that were asked for are near.
          for (int64_t i = 0; !is_near && run < width && i < run; ++i) {
            const T* const ahead = x + (w + kPixelsAhead + i) * strides[2];
            for (int64_t j = 0; j < channels; j += kCacheLine / int64_t{sizeof(T)}) __builtin_prefetch(ahead + j);
          }
          for (int64_t j = 0; j < channels; j += panel) {
            const int64_t row = std::min(panel, panels_width - j);
            pack(images, std::min(run, width - w), std::min(panel, channels - j),
                 x + w * strides[2] + j * images.channel_stride, panels + j * depth + (before + w) * row, row);
          }
        }
      }
    }
  }
}

// Some pixels, and columns of one panel.
template <class T>
void WeightGradient<T>::pack(const Images<const T>& images, int64_t pixels, int64_t columns, const T* x, T* panel,
                             int64_t row) const {
  const int64_t along = images.strides[2], across = images.channel_stride;
  if (across == 1) {
    kernels_.copy(pixels, columns, x, along, panel, row);
  } else if (along == 1) {
    kernels_.transpose(columns, pixels, x, across, panel, row);
  } else if (along == 2 && pixels <= kPixels) {
    T line[kSquare * kPixels];
    for (int64_t j = 0; j < columns; j += kSquare) {
      const int64_t some = std::min(kSquare, columns - j);
      for (int64_t i = 0; i < some; ++i) conv_kernels_.every_second(pixels, x + (j + i) * across, line + i * pixels);
      kernels_.transpose(some, pixels, line, pixels, panel + j, row);
    }
  } else {
    for (int64_t i = 0; i < pixels; ++i) {
      for (int64_t j = 0; j < columns; ++j) panel[i * row + j] = x[i * along + j * across];
    }
  }
}

// Whether a tile's sums are written once, and as the gradient is stored.
template <class T> bool WeightGradient<T>::is_direct(const Tile& tile) const {
  return blocks_.count() == 1 && taps_ == 1 && weight_.batch_stride == 1 && tile.columns % gradient_kernels_.panel == 0;
}

// Whether a block of the output's gradient is read where it is: nothing lies between its pixels, and they are whole
// vectors. It is copied where a panel is read often, more than a line at a time, since pixels at a distance of a power
// of two share few places of the first cache; but not unless it has been brought near.
template <class T> bool WeightGradient<T>::is_panel(const Tile& tile, const Block& block, bool is_near) const {
  if (output_.channel_stride != 1 || tile.columns != width(tile.columns)) return false;
  const int64_t panel = gradient_kernels_.panel;
  const bool is_often = tile.columns > panel && panel * int64_t{sizeof(T)} > kCacheLine;
  if (is_often && is_near && tile.channels * taps_ > kRowsInPlace) return false;
  int64_t distance = tile.columns;
  for (size_t i = kSpatial; i-- > 0;) {
    if (block.size[i] > 1 && output_.strides[i] != distance) return false;
    distance *= block.size[i];
  }
  return block.images == 1 || output_.batch_stride == distance;
}

// One part of a tile's sums.
template <class T>
void WeightGradient<T>::multiply(const Tile& tile, int64_t part, const Workspace<T>& work, T* sums,
                                 int64_t sums_row) const {
  const int64_t begin = blocks_.count() * part / tiling_.parts, end = blocks_.count() * (part + 1) / tiling_.parts;
  const int64_t panel = gradient_kernels_.panel, panels_width = width(tile.columns);
  const int64_t first = tile.group * channels_ + tile.channel, column = tile.group * columns_ + tile.column;
  const bool packed = is_packed(), in_place = is_in_place();
  Block last = {};
  Lookout lookout;
  for (int64_t index = begin; index < end; ++index) {
    const Block block = blocks_[index];
    const bool is_near = is_far_ && index > begin;
    const bool is_new_size = block.images != last.images || block.size != last.size;
    last = block;
    const T* data = work.strip;
    if (packed) {
      pack(input_, first, tile.channels, block, round_up(tile.channels, panel), is_near, work.strip);
      if (is_new_size) {
        for (int64_t i = 0; i < tile.channels; ++i) work.rows[i] = i / panel * panel * block.pixels() + i % panel;
        for (int64_t i = 0; i < block.pixels(); ++i) work.steps[i] = i * panel;
      }
    } else {
      const Source<T> source = in_place ? as_it_is(reach_, input_, block, first)
                                        : strip_.fill(input_, block, first, tile.channels, work.strip);
      if (is_new_size) {
        const std::vector<int64_t>& taps = in_place ? taps_in_place_ : strip_.taps();
        for_each_row(tile.channels, [&](int64_t row, int64_t i, int64_t t) {
          work.rows[row] = i * source.channel + taps[static_cast<size_t>(t)];
        });
        fill_offsets(block, source.image, source.step, work.steps);
      }
      data = source.data;
    }
    const bool is_one_panel = is_panel(tile, block, is_near);
    if (!is_one_panel) {
      if (is_new_size && panels_width > tile.columns) {
        const int64_t filled = tile.columns / panel * panel;
        std::fill_n(work.panels + filled * block.pixels(), (panels_width - filled) * block.pixels(), T{0});
      }
      pack(output_, column, tile.columns, block, panels_width, is_near, work.panels);
    }
    const T* const gradients = is_one_panel ? output_.at(block.image, column, block.begin) : work.panels;
    const void** pieces_end = work.pieces;
    if (is_far_ && index + 1 < end) {
      const Block next = blocks_[index + 1];
      if (packed) pieces_end = add_pieces(input_, first, tile.channels, next, pieces_end, work.pieces + kPieces);
      pieces_end = add_pieces(output_, column, tile.columns, next, pieces_end, work.pieces + kPieces);
    }
    Upcoming upcoming = {work.pieces, pieces_end};
    const auto function = index == begin ? gradient_kernels_.set : gradient_kernels_.add;
    for (int64_t j = 0; j < tile.columns; j += panel) {
      const T* const b = gradients + (is_one_panel ? j : j * block.pixels());
      function(tile.channels * taps_, tile.columns - j, block.pixels(), data, work.rows, work.steps, b,
               is_one_panel ? panels_width : std::min(panel, panels_width - j), sums + j, sums_row, upcoming);
    }
    lookout.after(tile.channels * taps_ * tile.columns * block.pixels());
  }
}

// Rows [begin, end) of a tile, from `sums` on, go to the gradient.
template <class T>
void WeightGradient<T>::store(const Tile& tile, int64_t begin, int64_t end, int64_t* offsets, const T* sums) const {
  for_each_row(tile.channels, [&](int64_t row, int64_t i, int64_t t) {
    offsets[row] = (tile.channel + i) * weight_.channel_stride + weight_taps_[static_cast<size_t>(t)];
  });
  const int64_t sums_row = width(tile.columns);
  T* const to = origin(tile);
  for (int64_t row = begin, next = begin; row < end; row = next) {
    next = row + 1;
    while (next < end && offsets[next] == offsets[next - 1] + 1) ++next;
    const T* const from = sums + (row - begin) * sums_row;
    if (weight_.batch_stride == 1) {
      for (int64_t i = row; i < next; ++i) {
        kernels_.copy(1, tile.columns, from + (i - row) * sums_row, 0, to + offsets[i], 0);
      }
    } else {
      // In squares, what is written at a time lies in as few places as what is read.
      for (int64_t j = 0; j < tile.columns; j += kSquare) {
        for (int64_t i = row; i < next; i += kSquare) {
          kernels_.transpose(std::min(kSquare, next - i), std::min(kSquare, tile.columns - j),
                             from + (i - row) * sums_row + j, sums_row, to + offsets[i] + j * weight_.batch_stride,
                             weight_.batch_stride);
        }
      }
    }
  }
}

template <class T> void WeightGradient<T>::run() const {
  const int most = tiling_.threads;
  const int64_t panel = gradient_kernels_.panel, rows = tiling_.channels * taps_, depth = blocks_.largest().pixels();
  const int64_t columns = width(tiling_.columns), parts = tiling_.parts;
  const int64_t copied = is_packed() ? round_up(tiling_.channels, panel) * depth : is_in_place() ? 0 : strip_.size();
  const int64_t strip_size = round_up(copied, kCacheLine);
  const int64_t panels_size = round_up(columns * depth, kCacheLine), sums_size = round_up(rows * columns, kCacheLine);
  const int64_t each = strip_size + panels_size + (parts == 1 ? sums_size : 0);
  const Scratch<T> memory(most * each + (parts == 1 ? 0 : tiling_.tiles * parts * sums_size));
  const Scratch<int64_t> tables(most * (rows + depth));
  const Scratch<const void*> pieces(most * kPieces);
  const auto work_of = [&](int64_t thread) {
    T* const data = memory.data() + thread * each;
    int64_t* const table = tables.data() + thread * (rows + depth);
    return Workspace<T>{data,  data + strip_size, data + strip_size + panels_size,
                        table, table + rows,      pieces.data() + thread * kPieces};
  };

  Steps steps;
  if (parts == 1) {
    steps.add(tiling_.tiles, [&](int64_t task, int thread) {
      const Workspace<T> work = work_of(thread);
      const Tile t = tile(task);
      if (is_direct(t)) {
        multiply(t, 0, work, origin(t) + t.channel * weight_.channel_stride, weight_.channel_stride);
      } else {
        multiply(t, 0, work, work.sums, width(t.columns));
        store(t, 0, t.channels * taps_, work.rows, work.sums);
      }
    });
  } else {
    const auto sums_of = [&](int64_t tile, int64_t part) {
      return memory.data() + most * each + (tile * parts + part) * sums_size;
    };
    steps.add(tiling_.tiles * parts, [&, sums_of](int64_t task, int thread) {
      const Tile t = tile(task / parts);
      multiply(t, task % parts, work_of(thread), sums_of(task / parts, task % parts), width(t.columns));
    });
    steps.add(tiling_.tiles * parts, [&, sums_of](int64_t task, int thread) {
      const Tile t = tile(task / parts);
      const int64_t count = t.channels * taps_, row = width(t.columns);
      const int64_t begin = count * (task % parts) / parts, end = count * (task % parts + 1) / parts;
      T* const sums = sums_of(task / parts, 0) + begin * row;
      for (int64_t part = 1; part < parts; ++part) {
        gradient_kernels_.accumulate((end - begin) * row, sums_of(task / parts, part) + begin * row, sums);
      }
      store(t, begin, end, work_of(thread).rows, sums);
    });
  }
  steps.run(most);
}

// Whether each output pixel takes one input pixel and there are no others than these.
template <class T>
bool is_pointwise(const Window& window, const Images<const T>& input, const Images<const T>& output,
                  const Images<T>& weight) {
  bool is_it = weight.pixels() == 1 && window.padding == Extents{0, 0, 0};
  for (size_t i = 0; i < kSpatial; ++i) is_it &= (output.size[i] - 1) * window.stride[i] < input.size[i];
  return is_it;
}

}  // namespace

template <class T>
void convolve_weight_gradient(const Window& whole, const Images<const T>& input, const Images<const T>& output,
                              const Images<T>& filters, int threads) {
  if (filters.batch * filters.channels * filters.pixels() == 0) return;
  if (output.batch * output.pixels() == 0) return set_zero(filters);
  const auto [window, weight] = trim(whole, input.size, filters, output.size);
  if (weight.pixels() < filters.pixels()) set_zero(filters);
  if (weight.pixels() == 0) return;
  if (is_depthwise(window, weight)) return depthwise_weight_gradient(window, input, output, weight, threads);
  if constexpr (std::is_same_v<T, float>) {
    if (goes_by_winograd(window, weight, output)) {
      return weight_gradient_by_winograd(window, input, output, weight, threads);
    }
  }
  if (goes_by_planes(window, weight, output)) {
    return weight_gradient_by_planes(window, input, output, weight, threads);
  }
  if (!is_pointwise(window, input, output, weight)) {
    return WeightGradient<T>(window, input, output, weight, threads).run();
  }
  // A product of two matrices of pixels.
  Images<const T> taken = input;
  taken.size = output.size;
  for (size_t i = 0; i < kSpatial; ++i) taken.strides[i] *= window.stride[i];
  const Window one = {{1, 1, 1}, {0, 0, 0}, {1, 1, 1}, window.groups};
  if (window.groups > 1 || weight.channel_stride != 1) {
    return WeightGradient<T>(one, taken, output, weight, threads).run();
  }
  // Its transpose is faster to store.
  Images<T> transposed = weight;
  std::swap(transposed.batch, transposed.channels);
  std::swap(transposed.batch_stride, transposed.channel_stride);
  WeightGradient<T>(one, output, taken, transposed, threads).run();
}

template void convolve_weight_gradient<float>(const Window&, const Images<const float>&, const Images<const float>&,
                                              const Images<float>&, int);
template void convolve_weight_gradient<double>(const Window&, const Images<const double>&, const Images<const double>&,
                                               const Images<double>&, int);

}  // namespace pyinit
