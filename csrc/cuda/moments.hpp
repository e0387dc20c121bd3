// Means, standard deviations and ranges of tensors on a CUDA device.
#pragma once

#include <vector>

#include "core/view.hpp"
#include "cuda/queue.hpp"

namespace pyinit::cuda {

// Bytes of device memory that measure_many works in.
int64_t moments_scratch(const std::vector<View>& views);

// To out[4 i] and on the mean, standard deviation, minimum and maximum of view i; all NaN where a value is not finite,
// or squares overflow. Views are dense and not empty. In a fixed order: the same bits each time. Does not wait for the
// device.
void measure_many(const std::vector<View>& views, char* scratch, double* out, const Queue& queue);

}  // namespace pyinit::cuda
