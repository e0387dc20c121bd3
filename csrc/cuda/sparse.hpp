// sparse_ on a CUDA device: the values that the CPU makes, bit for bit.
#pragma once

#include "core/view.hpp"
#include "cuda/queue.hpp"
#include "random/philox.hpp"

namespace pyinit::cuda {

// As pyinit::fill_sparse. Does not wait for the device.
void fill_sparse(const View& view, const Stream& stream, int64_t zeros, double std, const Queue& queue);

}  // namespace pyinit::cuda
