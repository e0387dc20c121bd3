// Weights of convolutions in the order in which register tiles read them: panels whose rows are output channels side by
// side.
#pragma once

#include <vector>

#include "conv/convolution.hpp"
#include "core/integers.hpp"
#include "core/scratch.hpp"

namespace pyinit {

// Distances between outputs and between inputs, and the places of taps.
template <class T> struct Filters {
  const T* data;
  int64_t output, input;
  const std::vector<int64_t>& taps;
};

// Row t * channels + i of `panel` becomes tap t of channel i of `width` outputs, and zeros behind. `turned` is as
// large.
template <class T> void pack_panel(const Filters<T>& filters, int64_t width, int64_t channels, T* turned, T* panel);

// Those of one convolution, packed once for many calls.
template <class T> class PackedWeights {
 public:
  // There must be weights, in groups of the same size.
  PackedWeights(const Images<const T>& weight, int64_t groups, int threads);

  // Whether they are the panels of that width which such a convolution takes in chains of so many channels.
  bool fit(int64_t groups, int64_t outputs, int64_t inputs, int64_t taps, int64_t chain, int64_t width) const {
    return groups == groups_ && outputs == outputs_ && inputs == inputs_ && taps == taps_ && chain == chain_ &&
           width == width_;
  }
  // A group's outputs from `output` on, a multiple of the width, and the chain of channels from `first` on.
  const T* panel(int64_t group, int64_t output, int64_t first) const {
    return data_.data() + place(group, output, first);
  }

 private:
  int64_t panels() const { return divide_up(outputs_, width_); }  // of a group
  int64_t place(int64_t group, int64_t output, int64_t first) const {
    return ((group * panels() + output / width_) * inputs_ + first) * taps_ * width_;
  }

  int64_t groups_, outputs_, inputs_, taps_;  // outputs and inputs of a group
  int64_t chain_, width_;
  Scratch<T> data_;
};

}  // namespace pyinit
