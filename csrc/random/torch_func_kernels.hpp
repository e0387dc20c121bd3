// The vector kernels of fills with the numbers of torch's stateless generator (torch.func._random). Its words are those
// of stream 0 of a key, from a block on that the generator's key names.
#pragma once

#include "random/kernels.hpp"

namespace pyinit {

// Whether torch's build rounds the last product and sum once, and whether log, sin and cos come from vectors or, one
// element at a time, from the C library.
struct TorchFuncArithmetic {
  bool is_fused, is_by_libm;
};

// low + width (word & mask) step.
struct TorchFuncUniform {
  double low, width, step;
  uint64_t mask, first_block;
  bool is_fused;
};

struct TorchFuncNormal {
  double mean, std;
  uint64_t first_block;
  TorchFuncArithmetic arithmetic;
};

struct TorchFuncKernels {
  Generate<TorchFuncUniform> uniform[kDTypes];
  Generate<TorchFuncNormal> normal[kDTypes];
  // Whether the vectors' logarithms, sines and cosines in single precision are the C library's, for `count` numbers all
  // over their ranges.
  bool (*matches_libm)(int64_t count);
};

PYINIT_KERNEL_TABLE(TorchFuncKernels, torch_func_kernels)

}  // namespace pyinit
