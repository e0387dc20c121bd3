// How depthwise convolutions go through planes: what is copied from each, and what is summed where.
//
// Planes are copied with zeros around them into one array for each phase of the stride, so that what a tap gives to the
// pixels of a row lies side by side, at a distance that is the tap's. If taps are so far apart that most of such an
// array would be copied in vain, there is an array for each tap instead. The transposed map has phases of its output,
// and each takes the taps that reach it.
#pragma once

#include <algorithm>
#include <vector>

#include "conv/convolution.hpp"
#include "core/integers.hpp"

namespace pyinit::planes {

// A copy of the source's phase from index u + start on, if the outputs begin at u.
struct Array {
  int64_t phase, start;
  bool operator==(const Array&) const = default;
};

// A spatial dimension. Index v of the source's phase a is its coordinate v source_step + a - source_shift, and index u
// of the output's phase r is u out_step + r - out_shift. Tap t takes u to v = u + the start of its array + shift[t].
struct Axis {
  int64_t taps, source_size, source_step, source_shift, out_size, out_step, out_shift;
  int64_t first, count;               // of the indices u, in any phase
  int64_t reach;                      // an array has `reach` more elements than there are indices u
  std::vector<Array> arrays;          // those that taps read
  std::vector<int64_t> array, shift;  // for each tap; `array` is an index of `arrays`
  std::vector<int64_t> out_phase;     // the one that each tap serves
  std::vector<int64_t> out_phases;    // all that taps serve, ascending

  struct Range {
    int64_t begin, end;
    int64_t size() const { return std::max<int64_t>(end - begin, 0); }
  };
  // Those of the `count` indices from `from` on whose coordinates exist.
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

// What a thread does at a time: the `extent` indices u from `first` on.
struct Band {
  Extents first, extent;
};

// How all planes are gone through.
struct Plan {
  std::array<Axis, kSpatial> axes;
  Extents band;     // the largest
  Extents bands;    // how many
  Extents strides;  // those of an array
  int64_t array_size;
  int64_t source_size;  // elements of a plane's arrays, with the zeros behind them
  int64_t copy_size;    // elements for all planes that go into one output

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

// A plan for a kernel, images and results of these sizes, whose elements have `element` bytes. `sources` planes go into
// one output.
Plan make_plan(const Window& window, bool transposed, const Extents& source, const Extents& kernel, const Extents& out,
               int64_t sources, size_t element);

// The distance of a pixel from the first one of its plane.
template <class T> int64_t offset_of(const Images<T>& x, const Extents& at) {
  return at[0] * x.strides[0] + at[1] * x.strides[1] + at[2] * x.strides[2];
}

// Calls f(a, b, c) for all combinations.
template <class F> void for_each_of(const Extents& counts, F&& f) {
  for (int64_t a = 0; a < counts[0]; ++a) {
    for (int64_t b = 0; b < counts[1]; ++b) {
      for (int64_t c = 0; c < counts[2]; ++c) f(a, b, c);
    }
  }
}

// Rows that are copied from a plane to its arrays.
struct Copy {
  int64_t from, to, rows, columns;
};

// The rows of a band. What is outside of the plane is left as it is.
template <class T> std::vector<Copy> make_copies(const Plan& plan, const Band& band, const Images<const T>& source);

// Copies the planes of image n's channels from c on.
template <class T>
void copy_planes(const Plan& plan, const std::vector<Copy>& copies, const Images<const T>& source, int64_t n, int64_t c,
                 int64_t planes, T* to);

// How many planes whose copies have `size` elements are taken together.
int64_t planes_together(int64_t size, size_t element);

// The taps of every phase of the output: where they are in the copies, and what number they have among an output
// channel's weights, which go source by source.
struct PhaseTaps {
  Extents phase;
  std::vector<int64_t> offsets, weights;
  size_t first_weight;  // the place of the first one among an output channel's, in the order of phases
};

std::vector<PhaseTaps> make_taps(const Plan& plan, int64_t sources);

}  // namespace pyinit::planes
