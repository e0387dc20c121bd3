// The total variance: the sum over all units of the variance over the samples.
#pragma once

#include "cuda/queue.hpp"
#include "random/channel_layout.hpp"

namespace pyinit::cuda {

int64_t unit_variances_scratch(const Layout& layout);

// To the double behind the rows of the channels at `rows`, which are there already.
void sum_unit_variances(const Layout& layout, char* scratch, double* rows, const Queue& queue);

}  // namespace pyinit::cuda
