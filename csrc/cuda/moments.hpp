// Statistics of tensors on a CUDA device: the CPU's, bit for bit.
#pragma once

#include <vector>

#include "core/view.hpp"
#include "cuda/queue.hpp"
#include "random/moments.hpp"

namespace pyinit::cuda {

// Numbers of a row: count, mean, squares, cubes, fourths, min, max, zeros, nonfinite, low, high.
constexpr int64_t kStatistics = 11;

// Bytes of device memory that describe_many and describe_channels work in. These and those refuse views with more than
// 6 dimensions once joined, the channels' aside.
int64_t describe_many_scratch(const std::vector<View>& views);
int64_t describe_channels_scratch(const View& view, size_t samples, size_t channel);

// As pyinit::describe_many and pyinit::describe_channels, of device memory: a row for each to `out`, and behind the
// channels' the total variance. They do not wait for the device.
void describe_many(const std::vector<View>& views, const std::vector<Bounds>& bounds, char* scratch, double* out,
                   const Queue& queue);
void describe_channels(const View& view, size_t samples, size_t channel, const Bounds& bounds, char* scratch,
                       double* out, const Queue& queue);

}  // namespace pyinit::cuda
