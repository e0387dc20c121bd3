// Weights of 3 x 3 taps as Winograd's tiles read them: in 16 points.
#pragma once

#include <vector>

#include "conv/convolution.hpp"
#include "core/integers.hpp"
#include "core/scratch.hpp"

namespace pyinit {

// Distances between groups, outputs and inputs, and the places of nine taps.
struct GroupedFilters {
  const float* data;
  int64_t group, output, input;
  const std::vector<int64_t>& taps;
};

constexpr int64_t kInputsTogether = 128;  // whose weights lie together

// For each group, panel of outputs and some inputs that are taken together, 16 points, each with a row of the panel's
// outputs for each input.
class WinogradWeights {
 public:
  // Nothing is there before all tasks have been done.
  WinogradWeights(int64_t groups, int64_t outputs, int64_t inputs);  // outputs and inputs of a group
  WinogradWeights(const Images<const float>& filters, int64_t groups, int threads);

  // Tasks in any order; each needs so many elements of scratch.
  int64_t tasks() const;
  int64_t scratch() const;
  void make(const GroupedFilters& filters, int64_t task, float* scratch);

  // Whether they are those of such groups, for the instruction set in use.
  bool fit(int64_t groups, int64_t outputs, int64_t inputs) const;
  // Those of inputs `first`, a multiple of kInputsTogether, and after.
  const float* at(int64_t group, int64_t panel, int64_t first) const {
    return data_.data() + place(group, panel, first);
  }

 private:
  int64_t panels() const { return divide_up(outputs_, width_); }
  int64_t parts() const { return divide_up(inputs_, kInputsTogether); }
  int64_t place(int64_t group, int64_t panel, int64_t first) const;

  int64_t groups_, outputs_, inputs_, width_;
  Scratch<float> data_;
};

}  // namespace pyinit
