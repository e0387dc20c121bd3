// Depthwise convolutions and their transposed maps, plane by plane.
#include <algorithm>
#include <vector>

#include "conv/depthwise_kernels.hpp"
#include "conv/depthwise_planes_plan.hpp"
#include "conv/depthwise_routes.hpp"
#include "conv/finish.hpp"
#include "core/parallel.hpp"
#include "core/scratch.hpp"

namespace pyinit {

using namespace planes;

namespace {

constexpr int64_t kGrain = int64_t{1} << 16;  // multiply-adds that a thread is worth

// Rows of a phase of the output: where its first pixel is in the copy and in the plane.
struct Sums {
  int64_t from, to, rows, columns;
  const PhaseTaps* taps;
};

// The rows of a band. Phases of columns come one after the other.
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

}  // namespace

template <class T>
void depthwise_planes(const Window& window, bool transposed, const Images<const T>& source,
                      const Images<const T>& weight, const Epilogue<T>& epilogue, const Images<T>& out, int threads) {
  const int64_t taps = weight.pixels(), multiplier = weight.batch / window.groups;
  const int64_t sources = transposed ? multiplier : 1, outputs = transposed ? 1 : multiplier;
  const Plan plan = make_plan(window, transposed, source.size, weight.size, out.size, sources, sizeof(T));
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

#define PYINIT_INSTANTIATE(T)                                                                            \
  template void depthwise_planes<T>(const Window&, bool, const Images<const T>&, const Images<const T>&, \
                                    const Epilogue<T>&, const Images<T>&, int);
PYINIT_INSTANTIATE(float)
PYINIT_INSTANTIATE(double)
#undef PYINIT_INSTANTIATE

}  // namespace pyinit
