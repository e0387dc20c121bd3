#include "conv/depthwise_planes_plan.hpp"

#include <algorithm>
#include <utility>

#include "conv/depthwise_kernels.hpp"

namespace pyinit::planes {

namespace {

constexpr int64_t kBandBytes = int64_t{64} << 10;      // of a copy
constexpr int64_t kTogetherBytes = int64_t{12} << 10;  // of copies of small planes, which are taken together
constexpr int64_t kApartBytes = int64_t{1} << 20;      // of the least copy, from which on taps have arrays of their own

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

}  // namespace

Plan make_plan(const Window& window, bool transposed, const Extents& source, const Extents& kernel, const Extents& out,
               int64_t sources, size_t element) {
  Plan p;
  // As a double: it may be beyond any integer.
  const auto bytes = [&] {
    double all = static_cast<double>(sources) * static_cast<double>(element);
    for (size_t i = 0; i < kSpatial; ++i) {
      const Axis& axis = p.axes[i];
      all *= static_cast<double>(axis.arrays.size()) * static_cast<double>(p.band[i] + axis.reach);
    }
    return all;
  };
  for (const bool is_apart : {false, true}) {
    for (size_t i = 0; i < kSpatial; ++i) {
      p.axes[i] = make_axis(window, i, transposed, kernel[i], source[i], out[i], is_apart);
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

template <class T> std::vector<Copy> make_copies(const Plan& plan, const Band& band, const Images<const T>& source) {
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

#define PYINIT_INSTANTIATE(T)                                                                                         \
  template std::vector<Copy> make_copies(const Plan&, const Band&, const Images<const T>&);                           \
  template void copy_planes(const Plan&, const std::vector<Copy>&, const Images<const T>&, int64_t, int64_t, int64_t, \
                            T*);
PYINIT_INSTANTIATE(float)
PYINIT_INSTANTIATE(double)
#undef PYINIT_INSTANTIATE

}  // namespace pyinit::planes
