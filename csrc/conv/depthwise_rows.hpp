// How depthwise convolutions go through pixels of channels, row by row. Pixels near an edge have fewer taps than those
// inside, and a row is cut into runs of pixels that have the same ones.
#pragma once

#include <algorithm>
#include <vector>

#include "conv/convolution.hpp"
#include "conv/depthwise_kernels.hpp"

namespace pyinit::rows {

// Taps and where they are from a place in the source.
struct AxisTaps {
  std::vector<int64_t> taps, offsets;
  bool operator==(const AxisTaps&) const = default;
};

// A spatial dimension: what each output takes.
struct Axis {
  struct Place {
    int64_t base;  // in the source, possibly outside
    size_t taps;   // which of `lists`
  };
  std::vector<Place> places;
  std::vector<AxisTaps> lists;
};

inline Axis make_axis(const Window& w, size_t i, bool transposed, int64_t taps, int64_t source_size, int64_t out_size) {
  const int64_t stride = w.stride[i], padding = w.padding[i];
  Axis axis;
  for (int64_t q = 0; q < out_size; ++q) {
    const int64_t base = transposed ? (q + padding) / stride : q * stride - padding;
    AxisTaps list;
    for (int64_t t = 0; t < taps; ++t) {
      const int64_t at = t * w.dilation[i], offset = transposed ? -(at / stride) : at;
      if (transposed && at % stride != (q + padding) % stride) continue;
      if (base + offset < 0 || base + offset >= source_size) continue;
      list.taps.push_back(t), list.offsets.push_back(offset);
    }
    const auto found = std::find(axis.lists.begin(), axis.lists.end(), list);
    axis.places.push_back({base, static_cast<size_t>(found - axis.lists.begin())});
    if (found == axis.lists.end()) axis.lists.push_back(std::move(list));
  }
  return axis;
}

// Outputs of a row, `step` apart, that have the same taps.
struct Run {
  int64_t first, count;
  size_t taps;
};

inline std::vector<Run> make_runs(const Axis& axis, int64_t step) {
  std::vector<Run> runs;
  const auto size = static_cast<int64_t>(axis.places.size());
  for (int64_t phase = 0; phase < std::min(step, size); ++phase) {
    for (int64_t q = phase; q < size; q += step) {
      const size_t taps = axis.places[static_cast<size_t>(q)].taps;
      if (q == phase || runs.back().taps != taps) runs.push_back({q, 0, taps});
      ++runs.back().count;
    }
  }
  return runs;
}

// The taps of a run: at what distance they are in the source, and their rows of a table with a row for each tap.
template <class U> struct TapList {
  std::vector<int64_t> offsets;
  std::vector<U*> rows;
};

template <class U, class S>
void fill_list(const std::array<Axis, kSpatial>& axes, const std::array<size_t, kSpatial>& lists, const Extents& kernel,
               const Images<S>& source, U* table, TapList<U>& out) {
  const AxisTaps &d = axes[0].lists[lists[0]], &h = axes[1].lists[lists[1]], &w = axes[2].lists[lists[2]];
  out.offsets.clear(), out.rows.clear();
  for (size_t i = 0; i < d.taps.size(); ++i) {
    for (size_t j = 0; j < h.taps.size(); ++j) {
      for (size_t k = 0; k < w.taps.size(); ++k) {
        out.offsets.push_back(d.offsets[i] * source.strides[0] + h.offsets[j] * source.strides[1] +
                              w.offsets[k] * source.strides[2]);
        out.rows.push_back(table + ((d.taps[i] * kernel[1] + h.taps[j]) * kernel[2] + w.taps[k]) * source.channels);
      }
    }
  }
}

// Goes through rows of outputs, with the lists of earlier rows at hand: those of others are mostly the same.
template <class U, class S> class Rows {
 public:
  Rows(const Window& window, bool transposed, const Images<S>& source, const Extents& kernel, const Extents& out_size)
      : source_(source), kernel_(kernel), step_(transposed ? window.stride[2] : 1) {
    for (size_t i = 0; i < kSpatial; ++i) {
      axes_[i] = make_axis(window, i, transposed, kernel[i], source.size[i], out_size[i]);
    }
    runs_ = make_runs(axes_[2], step_);
    find_threes();
    // The rows of the source below a row's last taps are what the next row of outputs adds, if it takes most of them.
    ahead_.first = (transposed ? 1 : (kernel[1] - 1) * window.dilation[1] + 1) * source.strides[1];
    const bool takes_most = window.stride[2] <= kernel[2];
    ahead_.row = source.strides[1];
    ahead_.rows = transposed ? 1 : takes_most ? std::min(window.stride[1], kernel[1]) : 0;
    source_step_ = transposed ? source.strides[2] : window.stride[2] * source.strides[2];
  }

  // Those of the runs of a row, for every kind of row that there has been.
  struct Lists {
    std::vector<std::vector<TapList<U>>> kinds;
  };

  int64_t step() const { return step_; }
  int64_t source_step() const { return source_step_; }
  // From a run's place in the source.
  Ahead ahead() const { return ahead_; }

  // Whether rows are taken whole: the run that takes three taps, one pixel before it that takes the last two and one
  // behind it that takes the first two, of which there may be neither.
  struct Threes {
    bool are_all, lack_first, lack_last;
  };
  const Threes& threes() const { return threes_; }
  // How many rows from row h on, of `most`, take the same taps.
  int64_t alike(int64_t h, int64_t most) const {
    const auto taps = [&](int64_t at) { return axes_[1].places[static_cast<size_t>(at)].taps; };
    int64_t count = 1;
    while (count < most && h + count < static_cast<int64_t>(axes_[1].places.size()) && taps(h + count) == taps(h))
      ++count;
    return count;
  }

  // f(first, count, list, the first's place in the source) for the runs of row (d, h) of image n.
  template <class F> void for_each_run(int64_t n, int64_t d, int64_t h, U* table, Lists& lists, F&& f) const {
    const Axis::Place &at_d = axes_[0].places[static_cast<size_t>(d)], &at_h = axes_[1].places[static_cast<size_t>(h)];
    const size_t kind = at_d.taps * axes_[1].lists.size() + at_h.taps;
    lists.kinds.resize(axes_[0].lists.size() * axes_[1].lists.size());
    std::vector<TapList<U>>& of_runs = lists.kinds[kind];
    if (of_runs.empty()) {
      of_runs.resize(runs_.size());
      for (size_t i = 0; i < runs_.size(); ++i) {
        fill_list(axes_, {at_d.taps, at_h.taps, runs_[i].taps}, kernel_, source_, table, of_runs[i]);
      }
    }
    for (size_t i = 0; i < runs_.size(); ++i) {
      const int64_t base = axes_[2].places[static_cast<size_t>(runs_[i].first)].base;
      f(runs_[i].first, runs_[i].count, of_runs[i],
        source_.data + n * source_.batch_stride + at_d.base * source_.strides[0] + at_h.base * source_.strides[1] +
            base * source_.strides[2]);
    }
  }

 private:
  void find_threes() {
    const auto taps = [&](size_t run) { return axes_[2].lists[runs_[run].taps].taps; };
    const std::vector<int64_t> last_two = {1, 2}, all = {0, 1, 2}, first_two = {0, 1};
    size_t run = 0;
    threes_.lack_first = runs_[0].count == 1 && taps(0) == last_two;
    if (threes_.lack_first) ++run;
    const bool has_all = run < runs_.size() && taps(run) == all;
    if (has_all) ++run;
    threes_.lack_last = run < runs_.size() && runs_[run].count == 1 && taps(run) == first_two;
    if (threes_.lack_last) ++run;
    threes_.are_all =
        has_all && run == runs_.size() && kernel_[2] == 3 && kernel_[0] * kernel_[1] <= 3 && source_.strides[2] != 0;
  }

  Images<S> source_;
  Extents kernel_;
  int64_t step_, source_step_;
  Ahead ahead_;
  std::array<Axis, kSpatial> axes_;
  std::vector<Run> runs_;
  Threes threes_{};
};

}  // namespace pyinit::rows
