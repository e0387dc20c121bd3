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

// What the rows of a panel go by first, and within that by the other.
enum class PanelOrder { taps, channels };

// Each row of `panel`, of `row` elements, becomes a tap of a channel of `width` outputs, and zeros behind. `turned` is
// as large.
template <class T>
void pack_panel(const Filters<T>& filters, PanelOrder order, int64_t width, int64_t channels, int64_t row, T* turned,
                T* panel);

// How wide the panels of wide register tiles are for so many outputs: for few, as panels of others are.
template <class T> int64_t panel_width(int64_t outputs);

// How many filters there are: in groups of the same size, so far apart, of so many outputs and inputs each.
struct FilterGroups {
  int64_t groups, distance, outputs, inputs;
};

// Those of one convolution, packed once for many blocks of pixels, or for many calls.
template <class T> class PackedWeights {
 public:
  // For forward convolutions with vectors of output channels. There must be weights.
  PackedWeights(const Images<const T>& weight, int64_t groups, int threads);
  // In panels of any width, for chains of so many channels.
  PackedWeights(const FilterGroups& groups, const Filters<T>& filters, PanelOrder order, int64_t chain, int64_t width,
                int threads);

  // Whether they are the panels which such a convolution takes in chains of so many channels.
  bool fit(int64_t groups, int64_t outputs, int64_t inputs, int64_t taps, PanelOrder order, int64_t chain,
           int64_t width) const {
    return groups == groups_ && outputs == outputs_ && inputs == inputs_ && taps == taps_ && order == order_ &&
           chain == chain_ && width == width_;
  }
  // A group's outputs from `output` on, up to the next multiple of the width, and the chain of channels from `first`
  // on.
  const T* panel(int64_t group, int64_t output, int64_t first) const {
    return data_.data() + place(group, output, first) + output % width_;
  }
  // From a panel to the next one.
  int64_t distance() const { return inputs_ * taps_ * width_; }

 private:
  void pack_rows(const FilterGroups& groups, const Filters<T>& filters, int threads);

  int64_t panels() const { return divide_up(outputs_, width_); }  // of a group
  int64_t place(int64_t group, int64_t output, int64_t first) const {
    return (group * panels() + output / width_) * distance() + first * taps_ * width_;
  }

  int64_t groups_, outputs_, inputs_, taps_;  // outputs and inputs of a group
  PanelOrder order_;
  int64_t chain_, width_;
  Scratch<T> data_;
};

}  // namespace pyinit
