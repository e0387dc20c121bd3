// Words of a stream on a device.
#pragma once

#include "random/philox.hpp"
#include "simd/vec.hpp"

namespace pyinit::cuda {

struct Word4 {
  uint32_t w[4];
};

// In one instruction: what the compiler makes of 64-bit operands adds a zero to the upper half.
PYINIT_INLINE uint64_t wide_product(uint32_t a, uint32_t b) {
#if defined(__CUDA_ARCH__)
  uint64_t product;
  asm("mul.wide.u32 %0, %1, %2;" : "=l"(product) : "r"(a), "r"(b));
  return product;
#else
  return uint64_t{a} * b;
#endif
}

PYINIT_INLINE Word4 philox_block(const Stream& s, uint64_t index) {
  uint32_t c0 = static_cast<uint32_t>(index), c1 = static_cast<uint32_t>(index >> 32);
  uint32_t c2 = static_cast<uint32_t>(s.id), c3 = static_cast<uint32_t>(s.id >> 32);
  uint32_t k0 = static_cast<uint32_t>(s.key), k1 = static_cast<uint32_t>(s.key >> 32);
#pragma unroll
  for (int round = 0; round < philox::kRounds; ++round) {
    const uint64_t p0 = wide_product(c0, philox::kMultiplier0), p1 = wide_product(c2, philox::kMultiplier1);
    c0 = static_cast<uint32_t>(p1 >> 32) ^ c1 ^ k0;
    c1 = static_cast<uint32_t>(p1);
    c2 = static_cast<uint32_t>(p0 >> 32) ^ c3 ^ k1;
    c3 = static_cast<uint32_t>(p0);
    k0 += philox::kWeyl0;
    k1 += philox::kWeyl1;
  }
  return {{c0, c1, c2, c3}};
}

// Without an array to index, which would lie in memory.
PYINIT_INLINE uint32_t philox_word(const Stream& s, uint64_t index) {
  const Word4 b = philox_block(s, index / 4);
  const uint32_t low = (index & 1) != 0 ? b.w[1] : b.w[0], high = (index & 1) != 0 ? b.w[3] : b.w[2];
  return (index & 2) != 0 ? high : low;
}

}  // namespace pyinit::cuda
