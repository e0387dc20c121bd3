// Copies of tensors that tell whether all of it is finite.
#pragma once

#include "core/isa.hpp"
#include "core/view.hpp"

namespace pyinit {

// Copies `count` elements side by side; whether all are finite.
bool copy_checked(const void* from, void* to, DType dtype, int64_t count, int threads);

struct CopyKernels {
  // `past_caches`: with stores that do not go through them.
  bool (*copy[kDTypes])(const void* from, void* to, int64_t count, bool past_caches);
};

PYINIT_KERNEL_TABLE(CopyKernels, copy_kernels)

}  // namespace pyinit
