// Fills with the numbers of torch's stateless generator, for whole tensors and for blocks of them.
#pragma once

#include "core/view.hpp"
#include "random/torch_func_kernels.hpp"

namespace pyinit {

// A key of torch.func._random.
struct TorchFuncKey {
  uint64_t seed, offset;
};

void torch_func_uniform(const View& view, const TorchFuncKey& key, double low, double high,
                        TorchFuncArithmetic arithmetic, int threads);
void torch_func_normal(const View& view, const TorchFuncKey& key, double mean, double std,
                       TorchFuncArithmetic arithmetic, int threads);

// Whether the C library's log, sin and cos have the bits of the vectors.
bool torch_func_matches_libm();

}  // namespace pyinit
