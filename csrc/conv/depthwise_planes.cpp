// Planes are copied with zeros around them into one array for each phase of the stride, so that what a tap gives to the
// pixels of a row lies side by side, at a distance that is the tap's; where taps are so far apart that most of this
// would be in vain, into an array for each tap. The transposed map has phases of its output, and each takes the taps
// that reach it.
#include <algorithm>
#include <cmath>
#include <vector>

#include "conv/depthwise_kernels.hpp"
#include "conv/depthwise_routes.hpp"
#include "conv/finish.hpp"
#include "core/integers.hpp"
#include "core/parallel.hpp"
#include "core/scratch.hpp"

namespace pyinit {
namespace {

constexpr int64_t kBandBytes = int64_t{64} << 10;  // of a copy
constexpr int64_t kApartBytes = int64_t{1} << 20;  // of the least copy, from which on taps have arrays of their own
constexpr int64_t kMultipliedBytes = int64_t{1} << 20;  // of a gradient's planes that are copied together
constexpr int64_t kGrain = int64_t{1} << 16;            // multiply-adds that a thread is worth
constexpr int64_t kProducts = 4096;                     // that are added up in single precision, in lanes, about
constexpr int64_t kGroups = 8;  // whose planes are taken in turn, if their sums take no more than
constexpr int64_t kLaneBytes = int64_t{32} << 10;
constexpr int64_t kTogetherBytes = int64_t{12} << 10;  // of copies of small planes, which are taken together
constexpr int64_t kTasks = 64;                         // that many or more need no cut through the batch

// A copy of the source: of phase a from index u + start on, where the outputs begin at u.
struct Array {
  int64_t phase, start;
  bool operator==(const Array&) const = default;
};

// A spatial dimension. Index v of the source's phase a is its coordinate v source_step + a - source_shift, and index u
// of the output's phase r is u out_step + r - out_shift. Tap t takes u to v = u + the start of its array + shift[t].
struct Axis {
  int64_t taps, source_size, source_step, source_shift, out_size, out_step, out_shift;
  int64_t first, count;               // of u, in any phase
  int64_t reach;                      // an array has `reach` more than u
  std::vector<Array> arrays;          // that taps read
  std::vector<int64_t> array, shift;  // of each tap; the array as an index of `arrays`
  std::vector<int64_t> out_phase;     // that each tap serves
  std::vector<int64_t> out_phases;    // that any serves, ascending

  struct Range {
    int64_t begin, end;
    int64_t size() const { return std::max<int64_t>(end - begin, 0); }
  };
  // Of `count` indices from `from` on, those of coordinates that exist.
  static Range inside(int64_t from, int64_t count, int64_t phase, int64_t step, int64_t shift, int64_t size) {
    const auto index = [&](int64_t coordinate) {
      return std::clamp<int64_t>(divide_up(coordinate + shift - phase, step) - from, 0, count);
    };
    return {index(0), index(size)};
  }
  Range source_inside(int64_t u, int64_t extent, const Array& a) const {
    return inside(u + a.start, extent + reach, a.phase, source_step, source_shift, source_size);
  }
  Range out_inside(int64_t u, int64_t extent, int64_t r) const {
    return inside(u, extent, r, out_step, out_shift, out_size);
  }
  int64_t source_at(int64_t u, int64_t index, const Array& a) const {
    return (u + a.start + index) * source_step + a.phase - source_shift;
  }
  int64_t out_at(int64_t u, int64_t index, int64_t r) const { return (u + index) * out_step + r - out_shift; }
};

Axis make_axis(const Window& w, size_t i, bool transposed, int64_t taps, int64_t source_size, int64_t out_size,
               bool is_apart) {
  Axis x{};
  const int64_t stride = w.stride[i];
  x.taps = taps, x.source_size = source_size, x.out_size = out_size;
  x.source_step = transposed ? 1 : stride, x.source_shift = transposed ? 0 : w.padding[i];
  x.out_step = transposed ? stride : 1, x.out_shift = transposed ? w.padding[i] : 0;
  x.first = x.out_shift / x.out_step;
  x.count = divide_up(out_size + x.out_shift, x.out_step) - x.first;
  const int64_t most = (taps - 1) * w.dilation[i] / stride;
  x.reach = is_apart ? 0 : most;
  for (int64_t t = 0; t < taps; ++t) {
    const int64_t at = t * w.dilation[i], phase = at % stride, place = transposed ? -(at / stride) : at / stride;
    const Array array = {transposed ? 0 : phase, is_apart ? place : transposed ? -most : 0};
    const auto found = std::find(x.arrays.begin(), x.arrays.end(), array);
    x.array.push_back(found - x.arrays.begin());
    if (found == x.arrays.end()) x.arrays.push_back(array);
    x.shift.push_back(place - array.start);
    x.out_phase.push_back(transposed ? phase : 0);
  }
  x.out_phases = x.out_phase;
  std::sort(x.out_phases.begin(), x.out_phases.end());
  x.out_phases.erase(std::unique(x.out_phases.begin(), x.out_phases.end()), x.out_phases.end());
  return x;
}

// What a thread does at a time: u from `first` on, `extent` of them.
struct Band {
  Extents first, extent;
};

// How all planes are gone through.
struct Plan {
  std::array<Axis, kSpatial> axes;
  Extents band;     // the largest
  Extents bands;    // how many
  Extents strides;  // of an array
  int64_t array_size;
  int64_t source_size;  // of a plane's arrays, and zeros behind them
  int64_t copy_size;    // of all planes that go into one output

  int64_t count() const { return bands[0] * bands[1] * bands[2]; }
  Band operator[](int64_t index) const {
    Band b;
    for (size_t i = kSpatial; i-- > 0; index /= bands[i]) {
      const int64_t at = index % bands[i] * band[i];
      b.first[i] = axes[i].first + at;
      b.extent[i] = std::min(band[i], axes[i].count - at);
    }
    return b;
  }
  // Elements from the first pixel of a band to the end of the last one.
  int64_t length(const Extents& extent) const {
    return (extent[0] - 1) * strides[0] + (extent[1] - 1) * strides[1] + extent[2];
  }
};

template <class A, class B, class W>
Plan make_plan(const Window& window, bool transposed, const Images<A>& source, const Images<W>& weight,
               const Images<B>& out, int64_t sources) {
  Plan p;
  // As a double: it may be beyond any integer.
  const auto bytes = [&] {
    double all = static_cast<double>(sources) * double{sizeof(A)};
    for (size_t i = 0; i < kSpatial; ++i) {
      const Axis& axis = p.axes[i];
      all *= static_cast<double>(axis.arrays.size()) * static_cast<double>(p.band[i] + axis.reach);
    }
    return all;
  };
  for (const bool is_apart : {false, true}) {
    for (size_t i = 0; i < kSpatial; ++i) {
      p.axes[i] = make_axis(window, i, transposed, weight.size[i], source.size[i], out.size[i], is_apart);
      p.band[i] = p.axes[i].count;
    }
    // Outer dimensions are cut first: rows stay long.
    for (size_t i = 0; i < kSpatial; ++i) {
      while (bytes() > double{kBandBytes} && p.band[i] > 1) p.band[i] = divide_up(p.band[i], 2);
    }
    if (bytes() <= double{kApartBytes}) break;
  }
  p.strides[2] = 1, p.strides[1] = p.band[2] + p.axes[2].reach;
  p.strides[0] = p.strides[1] * (p.band[1] + p.axes[1].reach);
  p.array_size = p.strides[0] * (p.band[0] + p.axes[0].reach);
  p.source_size = p.array_size;
  for (const Axis& axis : p.axes) p.source_size *= static_cast<int64_t>(axis.arrays.size());
  p.source_size += kSlack;
  p.copy_size = p.source_size * sources;
  for (size_t i = 0; i < kSpatial; ++i) p.bands[i] = divide_up(p.axes[i].count, p.band[i]);
  return p;
}

// In its plane.
template <class T> int64_t offset_of(const Images<T>& x, const Extents& at) {
  return at[0] * x.strides[0] + at[1] * x.strides[1] + at[2] * x.strides[2];
}

// f(a, b, c) for all combinations.
template <class F> void for_each_of(const Extents& counts, F&& f) {
  for (int64_t a = 0; a < counts[0]; ++a) {
    for (int64_t b = 0; b < counts[1]; ++b) {
      for (int64_t c = 0; c < counts[2]; ++c) f(a, b, c);
    }
  }
}

// Where a filter has its taps.
template <class T> std::vector<int64_t> tap_offsets(const Images<T>& weight) {
  std::vector<int64_t> offsets;
  for_each_of(weight.size, [&](int64_t i, int64_t j, int64_t k) { offsets.push_back(offset_of(weight, {i, j, k})); });
  return offsets;
}

// Rows that are copied from a plane to its copy.
struct Copy {
  int64_t from, to, rows, columns;
};

// Those of a band; what is outside of the plane is left as it is.
template <class T> std::vector<Copy> make_copies(const Plan& plan, const Band& band, const Images<T>& source) {
  const auto& axes = plan.axes;
  const auto count = [&](size_t i) { return static_cast<int64_t>(axes[i].arrays.size()); };
  std::vector<Copy> copies;
  int64_t to = 0;
  for_each_of({count(0), count(1), count(2)}, [&](int64_t i, int64_t j, int64_t k) {
    const Extents index = {i, j, k};
    std::array<Axis::Range, kSpatial> in;
    Extents first;  // coordinates
    for (size_t x = 0; x < kSpatial; ++x) {
      const Array& array = axes[x].arrays[static_cast<size_t>(index[x])];
      in[x] = axes[x].source_inside(band.first[x], band.extent[x], array);
      first[x] = axes[x].source_at(band.first[x], in[x].begin, array);
    }
    for (int64_t d = in[0].begin; d < in[0].end; ++d, first[0] += axes[0].source_step) {
      if (in[1].size() > 0 && in[2].size() > 0) {
        copies.push_back({offset_of(source, first),
                          to + d * plan.strides[0] + in[1].begin * plan.strides[1] + in[2].begin, in[1].size(),
                          in[2].size()});
      }
    }
    to += plan.array_size;
  });
  return copies;
}

// Planes of channels from c on.
template <class T>
void copy_planes(const Plan& plan, const std::vector<Copy>& copies, const Images<const T>& source, int64_t n, int64_t c,
                 int64_t planes, T* to) {
  const T* const from = source.data + n * source.batch_stride + c * source.channel_stride;
  for (const Copy& copy : copies) {
    depthwise_kernels<T>().copy(planes, copy.rows, copy.columns,
                                {from + copy.from, source.channel_stride, plan.axes[1].source_step * source.strides[1],
                                 plan.axes[2].source_step * source.strides[2]},
                                {to + copy.to, plan.source_size, plan.strides[1], 1});
  }
}

int64_t planes_together(int64_t size, size_t element) {
  return std::max<int64_t>(kTogetherBytes / (size * static_cast<int64_t>(element)), 1);
}

// The taps of every phase of the output: where they are in the copies, and what number they have among an output
// channel's weights, which go source by source.
struct PhaseTaps {
  Extents phase;
  std::vector<int64_t> offsets, weights;
  size_t first_weight;  // of an output channel's, in the order of phases
};

std::vector<PhaseTaps> make_taps(const Plan& plan, int64_t sources) {
  const auto& axes = plan.axes;
  const auto count = [&](size_t i) { return static_cast<int64_t>(axes[i].arrays.size()); };
  const auto phases = [&](size_t i) { return static_cast<int64_t>(axes[i].out_phases.size()); };
  std::vector<PhaseTaps> all;
  for_each_of({phases(0), phases(1), phases(2)}, [&](int64_t d, int64_t h, int64_t w) {
    const auto phase = [&](size_t i, int64_t at) { return axes[i].out_phases[static_cast<size_t>(at)]; };
    const int64_t a = phase(0, d), b = phase(1, h), c = phase(2, w);
    PhaseTaps taps{{a, b, c}, {}, {}, all.empty() ? 0 : all.back().first_weight + all.back().weights.size()};
    for (int64_t s = 0; s < sources; ++s) {
      int64_t number = s * axes[0].taps * axes[1].taps * axes[2].taps;
      for_each_of({axes[0].taps, axes[1].taps, axes[2].taps}, [&](int64_t i, int64_t j, int64_t k) {
        const std::array<size_t, kSpatial> t = {static_cast<size_t>(i), static_cast<size_t>(j), static_cast<size_t>(k)};
        if (axes[0].out_phase[t[0]] == a && axes[1].out_phase[t[1]] == b && axes[2].out_phase[t[2]] == c) {
          const int64_t array = (axes[0].array[t[0]] * count(1) + axes[1].array[t[1]]) * count(2) + axes[2].array[t[2]];
          taps.offsets.push_back(s * plan.source_size + array * plan.array_size +
                                 axes[0].shift[t[0]] * plan.strides[0] + axes[1].shift[t[1]] * plan.strides[1] +
                                 axes[2].shift[t[2]]);
          taps.weights.push_back(number);
        }
        ++number;
      });
    }
    all.push_back(std::move(taps));
  });
  return all;
}

// Rows of a phase of the output: where its first pixel is in the copy and in the plane.
struct Sums {
  int64_t from, to, rows, columns;
  const PhaseTaps* taps;
};

// Those of a band. Phases of columns come one after the other.
template <class T>
std::vector<Sums> make_sums(const Plan& plan, const Band& band, const std::vector<PhaseTaps>& phases,
                            const Images<T>& out) {
  const auto& axes = plan.axes;
  std::vector<Sums> sums;
  const size_t columns = axes[2].out_phases.size();
  for (size_t row_phase = 0; row_phase < phases.size(); row_phase += columns) {
    const Extents& of_rows = phases[row_phase].phase;
    const auto in_depth = axes[0].out_inside(band.first[0], band.extent[0], of_rows[0]);
    for (int64_t d = in_depth.begin; d < in_depth.end; ++d) {
      for (size_t column = 0; column < columns; ++column) {
        const PhaseTaps& taps = phases[row_phase + column];
        std::array<Axis::Range, kSpatial> in = {Axis::Range{d, d + 1}};
        Extents first;
        for (size_t x = 0; x < kSpatial; ++x) {
          if (x > 0) in[x] = axes[x].out_inside(band.first[x], band.extent[x], taps.phase[x]);
          first[x] = axes[x].out_at(band.first[x], in[x].begin, taps.phase[x]);
        }
        sums.push_back({d * plan.strides[0] + in[1].begin * plan.strides[1] + in[2].begin, offset_of(out, first),
                        in[1].size(), in[2].size(), &taps});
      }
    }
  }
  return sums;
}

// What makes planes of the output: weights and bias of the first one, the first copy, and where the first one is.
template <class T> struct Planes {
  int64_t count;
  const T* weights;
  int64_t weights_step;
  const T* bias;
  int64_t bias_step;
  const T* copy;
  T* out;
  int64_t out_step;
};

// Phases of columns are made in `rows` and put together.
template <class T>
void sum_planes(const Plan& plan, const std::vector<Sums>& all, const Planes<T>& planes, T floor, const Images<T>& out,
                T* rows) {
  const auto& kernels = depthwise_kernels<T>();
  const auto make = [&](const Sums& sums, T* to, int64_t step, int64_t row) {
    kernels.correlate(planes.count, sums.rows, sums.columns,
                      {static_cast<int64_t>(sums.taps->offsets.size()), sums.taps->offsets.data(),
                       planes.weights + sums.taps->first_weight, planes.weights_step, planes.bias, planes.bias_step},
                      {planes.copy + sums.from, plan.copy_size, plan.strides[1], 1}, floor, {to, step, row, 1});
  };
  const int64_t row = plan.axes[1].out_step * out.strides[1], column = plan.axes[2].out_step * out.strides[2];
  const int64_t size = plan.band[1] * plan.band[2];
  if (column == 1) {
    for (const Sums& sums : all) make(sums, planes.out + sums.to, planes.out_step, row);
  } else if (column == 2 && out.strides[2] == 1 && plan.axes[2].out_phases.size() == 2) {
    T* const other = rows + planes.count * size;
    for (size_t i = 0; i < all.size(); i += 2) {
      // Every other column, and those between: which phase has the first one depends on the padding.
      const bool swapped = all[i].columns == 0 || (all[i + 1].columns > 0 && all[i + 1].to < all[i].to);
      const Sums &even = all[i + (swapped ? 1 : 0)], &odd = all[i + (swapped ? 0 : 1)];
      make(even, rows, size, even.columns), make(odd, other, size, odd.columns);
      kernels.weave(planes.count, even.rows, even.columns + odd.columns, {rows, size, even.columns, 1},
                    {other, size, odd.columns, 1}, {planes.out + even.to, planes.out_step, row, 1});
    }
  } else {
    for (const Sums& sums : all) {
      make(sums, rows, size, sums.columns);
      kernels.copy(planes.count, sums.rows, sums.columns, {rows, size, sums.columns, 1},
                   {planes.out + sums.to, planes.out_step, row, column});
    }
  }
}

// The outputs of a band, of all phases.
Block out_block(const Plan& plan, const Band& band) {
  Block block{};
  block.images = 1;
  for (size_t i = 0; i < kSpatial; ++i) {
    const Axis& axis = plan.axes[i];
    const auto at = [&](int64_t u) { return std::clamp<int64_t>(axis.out_at(u, 0, 0), 0, axis.out_size); };
    block.begin[i] = at(band.first[i]);
    block.size[i] = at(band.first[i] + band.extent[i]) - block.begin[i];
  }
  return block;
}

// What one tap of a filter gets, pixel by pixel, until that is no number.
template <class T>
double sum_pixels(const Window& window, const Images<const T>& input, const Images<const T>& output, int64_t channel,
                  int64_t out_channel, const Extents& tap) {
  double sum = 0;
  for (int64_t n = 0; n < output.batch; ++n) {
    for_each_of(output.size, [&](int64_t d, int64_t h, int64_t w) {
      const Extents at = {d, h, w};
      Extents from;
      bool is_inside = !std::isnan(sum);
      for (size_t i = 0; i < kSpatial; ++i) {
        from[i] = at[i] * window.stride[i] - window.padding[i] + tap[i] * window.dilation[i];
        is_inside = is_inside && from[i] >= 0 && from[i] < input.size[i];
      }
      if (is_inside) {
        sum += static_cast<double>(*input.at(n, channel, from)) * static_cast<double>(*output.at(n, out_channel, at));
      }
    });
    if (std::isnan(sum)) break;
  }
  return sum;
}

// Whether there are outputs that no tap reaches.
bool leaves_out(const Plan& plan) {
  return std::any_of(plan.axes.begin(), plan.axes.end(),
                     [](const Axis& axis) { return static_cast<int64_t>(axis.out_phases.size()) < axis.out_step; });
}

template <class T> void fill(const Images<T>& out, const Block& block, int64_t c, T value) {
  T* const to = out.at(block.image, c, block.begin);
  for_each_row(block, out.batch_stride, out.strides, [&](int64_t row) {
    for (int64_t w = 0; w < block.size[2]; ++w) to[row + w * out.strides[2]] = value;
  });
}

// The sum of lanes, which become 0.
template <class T> double take_sum(T* lanes) {
  double a = 0, b = 0, c = 0, d = 0;  // which need not wait for one another
  for (int64_t i = 0; i < kSumLanes<T>; i += 4) {
    a += static_cast<double>(lanes[i]), b += static_cast<double>(lanes[i + 1]);
    c += static_cast<double>(lanes[i + 2]), d += static_cast<double>(lanes[i + 3]);
  }
  std::fill_n(lanes, kSumLanes<T>, T{0});
  return (a + b) + (c + d);
}

}  // namespace

template <class T>
void correlate_planes(const Window& window, bool transposed, const Images<const T>& source,
                      const Images<const T>& weight, const Epilogue<T>& epilogue, const Images<T>& out, int threads) {
  const int64_t taps = weight.pixels(), multiplier = weight.batch / window.groups;
  const int64_t sources = transposed ? multiplier : 1, outputs = transposed ? 1 : multiplier;
  const Plan plan = make_plan(window, transposed, source, weight, out, sources);
  const std::vector<PhaseTaps> phases = make_taps(plan, sources);

  // The weights of each output channel, in the order of `phases`.
  const Scratch<T> weights(weight.batch * taps);
  std::vector<int64_t> places;
  const std::vector<int64_t> offsets = tap_offsets(weight);
  for (const PhaseTaps& phase : phases) {
    for (const int64_t number : phase.weights) {
      places.push_back(number / taps * weight.batch_stride + offsets[static_cast<size_t>(number % taps)]);
    }
  }
  T* next = weights.data();
  for (int64_t c = 0; c < out.channels; ++c) {
    const T* const filters = weight.data + c * sources * weight.batch_stride;
    for (const int64_t place : places) *next++ = filters[place];
  }

  const int64_t planes = out.batch * window.groups;
  const T floor = lowest(epilogue);
  const bool fills = leaves_out(plan);
  const int64_t work = std::max(source.batch * source.channels * source.pixels() * taps / window.stride[2],
                                out.batch * out.channels * out.pixels());
  parallel_ranges(usable_threads(threads, work, kGrain), plan.count() * planes, 1, [&](int64_t begin, int64_t end) {
    const int64_t together = planes_together(plan.copy_size, sizeof(T));
    const Scratch<T> copy(together * plan.copy_size);
    const Scratch<T> rows(together * 2 * plan.band[1] * plan.band[2]);
    std::vector<Copy> copies;
    std::vector<Sums> sums;
    Block block{};
    Lookout lookout;
    for (int64_t task = begin, groups = 0; task < end; task += groups) {
      const int64_t n = task % planes / window.groups, group = task % window.groups;
      groups = std::min({together, window.groups - group, end - task});
      if (task == begin || task % planes == 0) {
        const Band band = plan[task / planes];
        copies = make_copies(plan, band, source), sums = make_sums(plan, band, phases, out);
        block = out_block(plan, band);
        // What is outside the image is the same for all planes.
        std::fill_n(copy.data(), together * plan.copy_size, T{0});
      }
      copy_planes(plan, copies, source, n, group * sources, groups * sources, copy.data());
      block.image = n;
      for (int64_t c = group * outputs; fills && c < (group + groups) * outputs; ++c) {
        fill(out, block, c, std::max(epilogue.bias == nullptr ? T{0} : epilogue.bias[c], floor));
      }
      for (int64_t o = 0; o < outputs; ++o) {
        const int64_t c = group * outputs + o;
        sum_planes<T>(plan, sums,
                      {groups, weights.data() + c * sources * taps, outputs * sources * taps,
                       epilogue.bias == nullptr ? nullptr : epilogue.bias + c, outputs, copy.data(),
                       out.data + n * out.batch_stride + c * out.channel_stride, outputs * out.channel_stride},
                      floor, out, rows.data());
      }
      finish(rest(epilogue), out, block, group * outputs, groups * outputs);
      lookout.after(groups * (plan.copy_size + outputs * sources * taps * plan.length(plan.band)));
    }
  });
}

template <class T>
void weight_gradient_of_planes(const Window& window, const Images<const T>& input, const Images<const T>& output,
                               const Images<T>& weight, int threads) {
  const int64_t taps = weight.pixels(), multiplier = weight.batch / window.groups;
  const Plan plan = make_plan(window, false, input, weight, output, 1);
  const PhaseTaps phase = make_taps(plan, 1).front();

  // Of few groups, parts of the batch are summed on their own.
  const int64_t parts = std::clamp<int64_t>(kTasks / window.groups, 1, std::max<int64_t>(output.batch, 1));
  const int64_t part = divide_up(output.batch, parts), in_group = multiplier * taps;
  const int64_t sums_of_group = in_group * kSumLanes<T>;
  const int64_t block = std::clamp<int64_t>(kLaneBytes / (sums_of_group * static_cast<int64_t>(sizeof(T))), 1, kGroups);
  const int64_t blocks = divide_up(window.groups, block);
  std::vector<double> sums(static_cast<size_t>(parts * window.groups * in_group));
  const int64_t work = output.batch * output.channels * output.pixels() * taps;
  const auto& kernels = depthwise_kernels<T>();
  parallel_ranges(usable_threads(threads, work, kGrain), parts * blocks, 1, [&](int64_t begin, int64_t end) {
    const int64_t length = round_up(plan.length(plan.band), kSlack);
    const int64_t together = std::min(block, planes_together(plan.copy_size + multiplier * length, sizeof(T)));
    // Of many outputs to an input, some at a time.
    const int64_t some = std::clamp<int64_t>(kMultipliedBytes / (length * int64_t{sizeof(T)}), 1, multiplier);
    const Scratch<T> copy(together * plan.copy_size), gradients(together * some * length);
    const Scratch<T> lanes(block * sums_of_group);
    std::fill_n(lanes.data(), block * sums_of_group, T{0});
    Lookout lookout;
    for (int64_t b = 0; b < plan.count(); ++b) {
      const Band band = plan[b];
      const std::vector<Copy> copies = make_copies(plan, band, input);
      const int64_t count = round_up(plan.length(band.extent), kSlack);
      std::fill_n(copy.data(), together * plan.copy_size, T{0});
      std::fill_n(gradients.data(), together * some * length, T{0});
      const auto add = [&](int64_t n, int64_t group, int64_t groups, T* to) {
        copy_planes(plan, copies, input, n, group, groups, copy.data());
        const T* const from = output.data + n * output.batch_stride + group * multiplier * output.channel_stride +
                              offset_of(output, band.first);
        for (int64_t first = 0; first < multiplier; first += some) {
          const int64_t outputs = std::min(some, multiplier - first);
          const T* const of_first = from + first * output.channel_stride;
          for (int64_t d = 0; d < band.extent[0]; ++d) {
            kernels.copy(
                groups * outputs, band.extent[1], band.extent[2],
                {of_first + d * output.strides[0], output.channel_stride, output.strides[1], output.strides[2]},
                {gradients.data() + d * plan.strides[0], length, plan.strides[1], 1});
          }
          for (int64_t o = 0; o < outputs; ++o) {
            kernels.add_products(groups, count, taps, phase.offsets.data(), copy.data(), plan.copy_size,
                                 gradients.data() + o * length, outputs * length,
                                 to + (first + o) * taps * kSumLanes<T>, sums_of_group);
          }
        }
      };
      for (int64_t task = begin; task < end; ++task) {
        // Planes side by side in memory, image after image.
        const int64_t first = task % blocks * block, groups = std::min(block, window.groups - first);
        const int64_t image = task / blocks * part, last = std::min(image + part, output.batch);
        double* const totals = sums.data() + (task / blocks * window.groups + first) * in_group;
        int64_t added = 0;  // to a lane's sum, in single precision
        for (int64_t n = image; n < last; ++n) {
          for (int64_t g = 0; g < groups; g += together) {
            add(n, first + g, std::min(together, groups - g), lanes.data() + g * sums_of_group);
          }
          lookout.after(groups * (plan.copy_size + in_group * count));
          added += count;
          if (added < kProducts && n + 1 < last) continue;
          for (int64_t t = 0; t < groups * in_group; ++t) totals[t] += take_sum(lanes.data() + t * kSumLanes<T>);
          added = 0;
        }
      }
    }
  });

  const std::vector<int64_t> offsets = tap_offsets(weight);
  for (int64_t o = 0; o < weight.batch; ++o) {
    for (int64_t t = 0; t < taps; ++t) {
      double sum = 0;
      for (int64_t p = 0; p < parts; ++p) sum += sums[static_cast<size_t>((p * weight.batch + o) * taps + t)];
      // Between rows, elements of the input meet zeros, whose products with infinity and NaN are not 0.
      if (!std::isfinite(sum)) {
        const Extents tap = {t / weight.size[2] / weight.size[1], t / weight.size[2] % weight.size[1],
                             t % weight.size[2]};
        sum = sum_pixels(window, input, output, o / multiplier, o, tap);
      }
      weight.data[o * weight.batch_stride + offsets[static_cast<size_t>(t)]] = static_cast<T>(sum);
    }
  }
}

#define PYINIT_INSTANTIATE(T)                                                                               \
  template void correlate_planes<T>(const Window&, bool, const Images<const T>&, const Images<const T>&,    \
                                    const Epilogue<T>&, const Images<T>&, int);                             \
  template void weight_gradient_of_planes<T>(const Window&, const Images<const T>&, const Images<const T>&, \
                                             const Images<T>&, int);
PYINIT_INSTANTIATE(float)
PYINIT_INSTANTIATE(double)

}  // namespace pyinit
