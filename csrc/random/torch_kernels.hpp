// The vector kernels of fills with torch's own numbers. Words are untempered words of MT19937.
#pragma once

#include "core/dtype.hpp"
#include "core/isa.hpp"
#include "random/distributions.hpp"

namespace pyinit {

// low + width * fraction, or `instead`, which is low in the dtype, where that would be the upper bound in
// the dtype: where it lies in [first_high, last_high]. All are values that the lanes hold.
struct TorchUniform {
  double low, width, first_high, last_high, instead;
  bool is_fused;  // whether product and sum are rounded once
};

struct TorchKernels {
  // From 624 words in a row to `count`, a multiple of 624, more behind them.
  void (*refresh)(uint32_t* words, int64_t count);
  void (*temper)(const uint32_t* words, int64_t count, uint32_t* out);
  // `count` elements from one word each; from two where the dtype is double.
  void (*uniform[kDTypes])(const TorchUniform&, const uint32_t* words, int64_t count, void* out);
  // Normals in blocks of 16 floats, eight pairs: element j of a block from words j and j + 8.
  void (*normal_blocks)(const Normal&, const uint32_t* words, int64_t blocks, float* out);
  // The same in doubles of two words, with the bits of the C library's log, sin and cos: one whose errors
  // are those of glibc from 2.28 on. Null where calling it for every element is faster.
  void (*libm_normal_blocks)(const Normal&, bool is_fused, const uint32_t* words, int64_t blocks, double* out);
  // For each block of 16 elements, those outside [low, high] as bits; the number of blocks that have any.
  int64_t (*mark_outside[kDTypes])(const void* x, int64_t blocks, double low, double high, uint16_t* marks);
  // Floats rounded to the 16-bit dtype; null for the others.
  void (*narrow[kDTypes])(const float*, int64_t count, void* out);
};

PYINIT_KERNEL_TABLE(TorchKernels, torch_kernels)

#define X(isa)                                                                                               \
  namespace isa {                                                                                            \
  void libm_normal_blocks(const Normal&, bool is_fused, const uint32_t* words, int64_t blocks, double* out); \
  }
PYINIT_FOR_EACH_ISA(X)
#undef X

}  // namespace pyinit
