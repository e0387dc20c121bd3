// Correlations of 3 x 3 taps by Winograd's minimal filtering F(2x2, 3x3): 16 multiplications for each tile of 2 x 2
// outputs instead of 36.
#pragma once

#include "conv/correlation.hpp"
#include "core/scratch.hpp"

namespace pyinit {

// The points of a correlation's weights, in the order in which tiles read them: for each group, panel of outputs and
// chain of inputs, 16 points, each with a row of the panel's outputs for each input.
class WinogradWeights {
 public:
  WinogradWeights(int64_t groups, int64_t outputs, int64_t inputs);

  // Tasks that make all of it, in any order; each needs so many elements of scratch.
  int64_t tasks() const { return groups_ * panels() * chains(); }
  int64_t scratch() const;
  void make(const Correlation<float>& correlation, int64_t task, float* scratch);

  // Whether they are those of such a correlation, for the instruction set in use.
  bool fit(int64_t groups, int64_t outputs, int64_t inputs) const;
  int64_t chain() const { return chain_; }
  const float* at(int64_t group, int64_t panel, int64_t first) const { return data_.data() + place(group, panel, first); }

 private:
  int64_t panels() const { return divide_up(outputs_, width_); }
  int64_t chains() const { return divide_up(inputs_, chain_); }
  int64_t place(int64_t group, int64_t panel, int64_t first) const;

  int64_t groups_, outputs_, inputs_;  // outputs and inputs of a group
  int64_t chain_, width_;
  Scratch<float> data_;
};

// Whether a correlation is computed like that. It depends on sizes alone, and on no batch size.
template <class T> bool goes_by_winograd(const Correlation<T>& correlation);

// Computes one for which this is true. `weights` may hold the points of its weights.
void correlate_by_winograd(const Correlation<float>& correlation, const Epilogue<float>& epilogue, int threads,
                           const WinogradWeights* weights = nullptr);

}  // namespace pyinit
