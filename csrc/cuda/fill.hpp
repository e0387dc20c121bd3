// Fills on a CUDA device: the values that the CPU makes, bit for bit.
#pragma once

#include <vector>

#include "core/view.hpp"
#include "cuda/queue.hpp"
#include "random/distributions.hpp"
#include "random/philox.hpp"

namespace pyinit::cuda {

constexpr int kMostDims = 5;  // that a view may have once joined

struct DeviceFill {
  View view;
  Stream stream;
  Distribution distribution;
  Numbers numbers;
};

// Whether a fill can write it.
bool can_fill(const View& view);

// As few launches as their kinds and number allow; does not wait for them.
void fill_many(const std::vector<DeviceFill>& fills, const Queue& queue);

}  // namespace pyinit::cuda
