// Random variates from Philox words. Compiled once per instruction set.
#include "random/generate.hpp"
#include "random/kernels.hpp"
#include "random/values.hpp"

namespace pyinit::PYINIT_NS {
namespace {

void select_step(const uint32_t* words, uint32_t left, uint32_t* remaining, uint32_t* chosen, int64_t count) {
  const U64 n = u64(left);
  const U32 ones = u32(~0U), zeros = u32(0);
  for (int64_t j = 0; j < count; j += kLanes32) {
    const U32 w = load(words + j), r = load(remaining + j);
    // floor(w left / 2^32) < remaining; both are below 2^31.
    const U32 scaled = weave(shr<32>(mul_low(even_lanes(w), n)), shr<32>(mul_low(odd_lanes(w), n)));
    const U32 is_chosen = select(signed_greater(r, scaled), ones, zeros);
    store(chosen + j, is_chosen);
    store(remaining + j, r + is_chosen);
  }
}

void repeat(uint64_t pattern, void* out, int64_t count) {
  auto* to = static_cast<uint32_t*>(out);
  const U32 x = as_u32(u64(pattern));
  int64_t i = 0;
  for (; i + kLanes64 <= count; i += kLanes64) store(to + 2 * i, x);
  for (; i < count; ++i) std::memcpy(to + 2 * i, &pattern, sizeof pattern);
}

}  // namespace

const RandomKernels random_kernels = {
    PYINIT_PER_DTYPE(UniformKernel, Uniform),
    PYINIT_PER_DTYPE(NormalKernel, Normal),
    PYINIT_PER_DTYPE(TruncNormalKernel, TruncNormal),
    PYINIT_PER_DTYPE(NormalTailKernel, NormalTail),
    PYINIT_PER_DTYPE(BernoulliKernel, Bernoulli),
    generate<RawWordsKernel, RawWords, float>,
    select_step,
    repeat,
};

}  // namespace pyinit::PYINIT_NS
