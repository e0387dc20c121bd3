// The elementary functions over arrays, for the tests that measure their errors.
#pragma once

#include <cstdint>

#include "core/isa.hpp"

namespace pyinit {

struct ElementaryKernels {
  void (*log32)(const float*, float*, int64_t);
  void (*log64)(const double*, double*, int64_t);
  void (*sqrt32)(const float*, float*, int64_t);
  void (*sqrt64)(const double*, double*, int64_t);
  // From p, taken as 1 - p above one half; fine for p near 0.
  void (*normal_quantile32)(const float*, float*, int64_t);
  void (*normal_quantile64)(const double*, double*, int64_t);
  // Of the angle 2 pi w / 2^32 and 2 pi w / 2^64.
  void (*sin32)(const uint32_t*, float*, int64_t);
  void (*cos32)(const uint32_t*, float*, int64_t);
  void (*sin64)(const uint64_t*, double*, int64_t);
  void (*cos64)(const uint64_t*, double*, int64_t);
};

PYINIT_KERNEL_TABLE(ElementaryKernels, elementary_kernels)

}  // namespace pyinit
