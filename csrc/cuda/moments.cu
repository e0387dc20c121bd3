#include "cuda/moments.hpp"

#include "core/integers.hpp"
#include "cuda/pieces.hpp"
#include "cuda/runtime.hpp"
#include "cuda/table.hpp"
#include "cuda/unit_variances.hpp"
#include "random/channel_layout.hpp"

namespace pyinit::cuda {
namespace {

constexpr int kThreads = 128;

struct Range {
  int64_t begin, count;
};

// A tensor, or the channels of one. The elements of each are cut into parts of kPart; a part, where rows end; and
// these, into pieces. All parts have as many pieces as one may have, and some are empty.
struct Work {
  const char* data;
  DType dtype;
  Elements elements;  // of a channel
  int64_t count;      // of them
  int64_t row;        // elements after which a piece ends
  int64_t piece;      // elements that it has at most
  int64_t channels, channel_stride;
  Bounds bounds;
  double* out;
  int64_t rows, row_pieces, part_pieces, parts;
  char* lanes;
  Piece* pieces;
  Moments* part_moments;
  int64_t first_block;

  int64_t all_parts() const { return channels * parts; }
  int64_t all_pieces() const { return all_parts() * part_pieces; }
  bool has_lanes() const { return std::min(row, piece) >= kWhole && count >= kWhole; }

  PYINIT_METHOD Range range_of(int64_t number) const {
    const int64_t part = number / part_pieces % parts, slot = number % part_pieces;
    const int64_t first = part * kPart, last = count - first < kPart ? count : first + kPart;
    const int64_t this_row = first / row + slot / row_pieces, from = this_row * row;
    const int64_t begin = (from > first ? from : first) + slot % row_pieces * piece;
    const int64_t end = from + row < last ? from + row : last, left = end - begin;
    return {begin, left < 0 ? 0 : left < piece ? left : piece};
  }
  template <class T> PYINIT_METHOD Values<T> values_of(int64_t channel, const Range& range) const {
    return {reinterpret_cast<const T*>(data) + channel * channel_stride, elements, range.begin, range.count};
  }
  template <class T> PYINIT_METHOD Values<T> values_of_piece(int64_t number, const Range& range) const {
    return values_of<T>(number / (parts * part_pieces), range);
  }
};

struct Table {
  static constexpr int kMost = static_cast<int>(kTableBytes / sizeof(Work));
  int count = 0;
  Work works[kMost];
};

PYINIT_INLINE const Work& work_of(const Table& table) {
  return table.works[entry_at(blockIdx.x, table.count, [&](int i) { return table.works[i].first_block; })];
}
PYINIT_INLINE int64_t thread_of(const Work& work) {
  return (static_cast<int64_t>(blockIdx.x) - work.first_block) * static_cast<int64_t>(blockDim.x) + threadIdx.x;
}

// The first pass: a thread for each lane of each piece.
template <class T> __global__ void sum_lanes(const Table table) {
  const Work& work = work_of(table);
  const int64_t thread = thread_of(work), number = thread / kColumns;
  if (number >= work.channels * work.parts * work.part_pieces) return;
  Range range = work.range_of(number);
  range.count = range.count / kWhole * kWhole;
  if (range.count == 0) return;
  reinterpret_cast<DistanceSums<LaneOf<T>>*>(work.lanes)[thread] =
      lane_sums(work.values_of_piece<T>(number, range), range.count, thread % kColumns);
}

// What the second pass is to do: a thread for each piece.
template <class T> __global__ void begin_pieces(const Table table) {
  const Work& work = work_of(table);
  const int64_t number = thread_of(work);
  if (number >= work.channels * work.parts * work.part_pieces) return;
  Range range = work.range_of(number);
  range.count = range.count / kWhole * kWhole;
  if (range.count == 0) return;
  const auto* const lanes = reinterpret_cast<const DistanceSums<LaneOf<T>>*>(work.lanes) + number * kColumns;
  const Sums sums = sums_of(work.values_of_piece<T>(number, range)(0), lanes);
  // Values that are not finite are counted in the second pass, whose other sums do not matter then.
  auto [moments, frame] = begin_statistics<Rounded>(sums, kDTypeOf<T>, range.count, [&]() -> int64_t {
    return std::isfinite(sums.min) && std::isfinite(sums.max) ? 0 : 1;
  });
  work.pieces[number] = {moments, frame};
}

// The second pass.
template <class T> __global__ void sum_powers(const Table table) {
  const Work& work = work_of(table);
  const int64_t thread = thread_of(work), number = thread / kColumns;
  if (number >= work.channels * work.parts * work.part_pieces) return;
  Range range = work.range_of(number);
  range.count = range.count / kWhole * kWhole;
  if (range.count == 0) return;
  using V = LaneOf<T>;
  const Frame frame = work.pieces[number].frame;
  const V centre = constant<V>(frame.centre), scale = constant<V>(frame.scale), low = constant<V>(work.bounds.low),
          high = constant<V>(work.bounds.high);
  const Values<T> values = work.values_of_piece<T>(number, range);
  LanePowers<V> of;
  of.begin();
#pragma unroll 8
  for (int64_t k = 0; k < range.count / kColumns; ++k) {
    of.add(values(element_of<T>(thread % kColumns, k)), centre, scale, low, high);
  }
  reinterpret_cast<LanePowers<V>*>(work.lanes)[thread] = of;
}

// The statistics of each piece, and of what is left of it.
template <class T> __global__ void finish_pieces(const Table table) {
  const Work& work = work_of(table);
  const int64_t number = thread_of(work);
  if (number >= work.channels * work.parts * work.part_pieces) return;
  const Range range = work.range_of(number);
  const int64_t whole = range.count / kWhole * kWhole, rest = range.count - whole;
  Moments of;
  if (whole > 0) {
    const auto* const lanes = reinterpret_cast<const LanePowers<LaneOf<T>>*>(work.lanes) + number * kColumns;
    const Piece piece = work.pieces[number];
    of = piece.of;
    of.nonfinite = whole;
    for (int i = 0; i < kColumns; ++i) of.nonfinite -= static_cast<int64_t>(lanes[i].finite.v);
    finish_statistics<Rounded>(powers_of(lanes), piece.frame, of);
  }
  if (rest > 0) {
    const Range last{range.begin + whole, rest};
    of = merged<Rounded>(of, describe_few(work.values_of_piece<T>(number, last), rest, work.bounds));
  }
  work.pieces[number].of = of;
}

// Of channels side by side: a thread for each channel's rows, with neighbours in neighbouring threads.
template <class T> __global__ void describe_columns(const Table table) {
  const Work& work = work_of(table);
  const int64_t thread = thread_of(work), channel = thread % work.channels, slot = thread / work.channels;
  if (slot >= work.parts * work.part_pieces) return;
  using V = LaneOf<T>;
  const int64_t number = channel * work.parts * work.part_pieces + slot;
  const Range range = work.range_of(number);
  Moments of;
  if (range.count > 0) {
    const Values<T> values = work.values_of<T>(channel, range);
    const V first = values(0);
    DistanceSums<V> sums;
    sums.begin(first);
#pragma unroll 8
    for (int64_t i = 0; i < range.count; ++i) sums.add(values(i), first);
    auto [moments, frame] = begin_statistics<Rounded>(
        {static_cast<double>(first.v), static_cast<double>(sums.sum.v), static_cast<double>(sums.squares.v),
         static_cast<double>(sums.low.v), static_cast<double>(sums.high.v)},
        kDTypeOf<T>, range.count, [&] { return count_nonfinite(values, range.count); });
    // As on the CPU.
    frame.is_needed = true;
    const V centre = constant<V>(frame.centre), scale = constant<V>(frame.scale), low = constant<V>(work.bounds.low),
            high = constant<V>(work.bounds.high);
    PowerSums<V> powers;
    Counts<V> counts;
    powers.begin();
    counts.begin();
#pragma unroll 8
    for (int64_t i = 0; i < range.count; ++i) {
      const V value = values(i);
      powers.add(value, centre, scale);
      counts.add(value, low, high);
    }
    of = moments;
    finish_statistics<Rounded>(
        {static_cast<double>(powers.first.v), static_cast<double>(powers.second.v), static_cast<double>(powers.third.v),
         static_cast<double>(powers.fourth.v), static_cast<int64_t>(counts.zeros.v), static_cast<int64_t>(counts.low.v),
         static_cast<int64_t>(counts.high.v)},
        frame, of);
  }
  work.pieces[number].of = of;
}

__global__ void merge_pieces(const Table table) {
  const Work& work = work_of(table);
  const int64_t part = thread_of(work);
  if (part >= work.channels * work.parts) return;
  Moments all;
  for (int64_t i = 0; i < work.part_pieces; ++i)
    all = merged<Rounded>(all, work.pieces[part * work.part_pieces + i].of);
  work.part_moments[part] = all;
}

__global__ void merge_parts(const Table table) {
  const Work& work = work_of(table);
  const int64_t channel = thread_of(work);
  if (channel >= work.channels) return;
  Moments all;
  for (int64_t i = 0; i < work.parts; ++i) all = merged<Rounded>(all, work.part_moments[channel * work.parts + i]);
  double* const to = work.out + channel * kStatistics;
  to[0] = static_cast<double>(all.count);
  to[1] = all.mean;
  to[2] = all.squares;
  to[3] = all.cubes;
  to[4] = all.fourths;
  to[5] = all.min;
  to[6] = all.max;
  to[7] = static_cast<double>(all.zeros);
  to[8] = static_cast<double>(all.nonfinite);
  to[9] = static_cast<double>(all.low);
  to[10] = static_cast<double>(all.high);
}

// Launches of as many works as a table holds, each with the threads that it needs.
template <class Kernel, class Threads>
void launch_all(Kernel kernel, const std::vector<Work>& works, const Queue& queue, Threads threads_of) {
  const int threads = threads_of_block(kThreads);
  Table table;
  int64_t blocks = 0;
  const auto send = [&] {
    if (table.count > 0) launch(kernel, blocks, threads, queue, table);
    table.count = 0;
    blocks = 0;
  };
  for (const Work& work : works) {
    const int64_t needed = divide_up(threads_of(work), threads);
    if (needed == 0) continue;
    if (table.count == Table::kMost) send();
    Work& entry = table.works[table.count++] = work;
    entry.first_block = blocks;
    blocks += needed;
  }
  send();
}

int64_t lanes_of(const Work& work) { return work.has_lanes() ? work.all_pieces() * kColumns : 0; }
int64_t pieces_of(const Work& work) { return work.all_pieces(); }

template <class T> void describe_pieces(const std::vector<Work>& works, const Queue& queue) {
  launch_all(sum_lanes<T>, works, queue, lanes_of);
  launch_all(begin_pieces<T>, works, queue, [](const Work& work) { return work.has_lanes() ? pieces_of(work) : 0; });
  launch_all(sum_powers<T>, works, queue, lanes_of);
  launch_all(finish_pieces<T>, works, queue, pieces_of);
}

void merge(const std::vector<Work>& works, const Queue& queue) {
  launch_all(merge_pieces, works, queue, [](const Work& work) { return work.all_parts(); });
  launch_all(merge_parts, works, queue, [](const Work& work) { return work.channels; });
}

Work work_of(const View& view, const InlineVector<Dim>& elements, int64_t row, int64_t piece, const Dim& channel,
             const Bounds& bounds) {
  Work work{};
  work.data = view.data;
  work.dtype = view.dtype;
  work.elements = Elements(elements);
  work.count = count_of(elements);
  work.row = std::max<int64_t>(row, 1);
  work.piece = piece;
  work.channels = channel.size;
  work.channel_stride = channel.stride;
  work.bounds = bounds;
  work.parts = divide_up(work.count, kPart);
  work.rows = work.row >= work.count ? 1 : (kPart - 2) / work.row + 2;
  work.row_pieces = divide_up(std::min({work.row, kPart, std::max<int64_t>(work.count, 1)}), piece);
  work.part_pieces = work.rows * work.row_pieces;
  return work;
}

Work work_of(const View& view, const Bounds& bounds) {
  const InlineVector<Dim> elements = memory_order(view);
  return work_of(view, elements, elements[elements.size() - 1].size, kMeasured, {1, 0, 0}, bounds);
}

Work work_of(const Layout& layout, const View& view, const Bounds& bounds) {
  return work_of(view, layout.elements, count_of(layout.elements), layout.together == 1 ? kBlock : kRows,
                 layout.channel, bounds);
}

// Gives the work its places from `scratch` on, and returns their bytes.
int64_t place(Work& work, bool needs_lanes, char* scratch) {
  const int64_t lane =
      static_cast<int64_t>(work.dtype == DType::f64 ? std::max(sizeof(DistanceSums<F64>), sizeof(LanePowers<F64>))
                                                    : std::max(sizeof(DistanceSums<F32>), sizeof(LanePowers<F32>)));
  const int64_t pieces = work.all_pieces() * static_cast<int64_t>(sizeof(Piece));
  const int64_t parts = work.all_parts() * static_cast<int64_t>(sizeof(Moments));
  if (scratch != nullptr) {
    work.pieces = reinterpret_cast<Piece*>(scratch);
    work.part_moments = reinterpret_cast<Moments*>(scratch + pieces);
    work.lanes = scratch + pieces + parts;
  }
  return pieces + parts + (needs_lanes ? lanes_of(work) * lane : 0);
}

}  // namespace

int64_t describe_many_scratch(const std::vector<View>& views) {
  int64_t bytes = 0;
  for (const View& view : views) {
    Work work = work_of(view, {});
    bytes += place(work, true, nullptr);
  }
  return bytes;
}

void describe_many(const std::vector<View>& views, const std::vector<Bounds>& bounds, char* scratch, double* out,
                   const Queue& queue) {
  std::vector<Work> works, of_dtype[kDTypes];
  for (size_t i = 0; i < views.size(); ++i) {
    Work work = work_of(views[i], bounds[i]);
    scratch += place(work, true, scratch);
    work.out = out + static_cast<int64_t>(i) * kStatistics;
    works.push_back(work);
    of_dtype[static_cast<int>(work.dtype)].push_back(work);
  }
  for (int dtype = 0; dtype < kDTypes; ++dtype) {
    visit(static_cast<DType>(dtype), [&](auto zero) { describe_pieces<decltype(zero)>(of_dtype[dtype], queue); });
  }
  merge(works, queue);
}

int64_t describe_channels_scratch(const View& view, size_t samples, size_t channel) {
  const Layout layout(view, samples, channel);
  Work work = work_of(layout, view, {});
  return place(work, layout.together == 1, nullptr) + unit_variances_scratch(layout);
}

void describe_channels(const View& view, size_t samples, size_t channel, const Bounds& bounds, char* scratch,
                       double* out, const Queue& queue) {
  const Layout layout(view, samples, channel);
  Work work = work_of(layout, view, bounds);
  scratch += place(work, layout.together == 1, scratch);
  work.out = out;
  visit(view.dtype, [&](auto zero) {
    using T = decltype(zero);
    if (layout.together == 1) {
      describe_pieces<T>({work}, queue);
    } else {
      launch_all(describe_columns<T>, {work}, queue, pieces_of);
    }
  });
  merge({work}, queue);
  sum_unit_variances(layout, scratch, out, queue);
}

}  // namespace pyinit::cuda
