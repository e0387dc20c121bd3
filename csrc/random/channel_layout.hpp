// How the statistics of channels are cut into parts. The bits depend on it, and on nothing else.
#pragma once

#include <stdexcept>

#include "core/view.hpp"
#include "random/moments.hpp"

namespace pyinit {

constexpr int64_t kBlock = 1024;  // elements of a channel that are described at a time
constexpr int64_t kRows = 256;    // of columns
constexpr int64_t kUnits = 2048;  // units whose variances are taken at a time

// A tensor by samples, channels and positions.
struct Layout {
  Layout(const View& view, size_t sample_dims, size_t channel_dim)
      : data(view.data), dtype(view.dtype), size(size_of(view.dtype)) {
    if (channel_dim >= view.dims.size() || sample_dims > channel_dim) {
      throw std::invalid_argument("channel: must be a dimension behind the samples'");
    }
    channel = view.dims[channel_dim];
    InlineVector<Dim> of_samples, of_positions, all;
    for (size_t d = 0; d < view.dims.size(); ++d) {
      if (d == channel_dim) continue;
      (d < sample_dims ? of_samples : of_positions).push_back(view.dims[d]);
      all.push_back(view.dims[d]);
    }
    samples = joined(of_samples);
    positions = joined(of_positions);
    elements = joined(all);
    const bool are_columns = channel.size > 1 && channel.stride == 1 && elements[elements.size() - 1].stride != 1;
    together = are_columns ? kColumns : 1;
  }

  const char* at(int64_t channel_number, int64_t offset) const {
    return data + (channel_number * channel.stride + offset) * size;
  }

  // Positions whose units' variances are taken at a time.
  int64_t positions_of_part() const { return kUnits / together; }

  char* data;
  DType dtype;
  int64_t size;
  Dim channel{};
  InlineVector<Dim> samples, positions;
  InlineVector<Dim> elements;  // of a channel: samples, then positions
  int64_t together;            // channels side by side that are described together
};

}  // namespace pyinit
