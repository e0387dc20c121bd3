// The vector kernels of random fills: per distribution and dtype a function that writes rows of elements to `out`, one
// row behind the other.
#pragma once

#include "core/isa.hpp"
#include "random/distributions.hpp"
#include "random/philox.hpp"

namespace pyinit {

// Rows of `columns` elements with consecutive indices: row r begins with index `first` + r `step`.
struct Rows {
  uint64_t first;
  int64_t columns, rows = 1, step = 0;
};

template <class Params> using Generate = void (*)(const Params&, const Stream&, const Rows&, void* out);

struct RandomKernels {
  Generate<Uniform> uniform[kDTypes];
  Generate<Normal> normal[kDTypes];
  Generate<RedrawnNormal> redrawn_normal[kDTypes];
  Generate<TruncNormal> trunc_normal[kDTypes];
  Generate<NormalTail> normal_tail[kDTypes];
  Generate<Bernoulli> bernoulli[kDTypes];
  // The stream's words themselves, as uint32_t.
  Generate<RawWords> raw_words;
  // One step of selection sampling in `count` columns side by side: sets chosen[j] to all ones with
  // probability remaining[j] / left, words[j] deciding, and then takes one off remaining[j].
  void (*select_step)(const uint32_t* words, uint32_t left, uint32_t* remaining, uint32_t* chosen, int64_t count);
  // `count` times the same 8 bytes.
  void (*repeat)(uint64_t pattern, void* out, int64_t count);
};

PYINIT_KERNEL_TABLE(RandomKernels, random_kernels)

}  // namespace pyinit
