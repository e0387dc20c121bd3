// Words of MT19937 as programs see them, and as numbers.
#pragma once

#include "simd/math.hpp"

namespace pyinit::PYINIT_NS {

PYINIT_INLINE U32 tempered(const uint32_t* p) {
  U32 y = load(p);
  y = y ^ shr<11>(y);
  y = y ^ (shl<7>(y) & u32(0x9D2C5680U));
  y = y ^ (shl<15>(y) & u32(0xEFC60000U));
  return y ^ shr<18>(y);
}

// 24 bits of a word, or 53 of two, the first being the high one, as a fraction in [0, 1).
PYINIT_INLINE void fraction(const uint32_t* words, F32& x) {
  x = signed_to_f32(tempered(words) & u32(0xFFFFFFU)) * f32(0x1p-24F);
}
PYINIT_INLINE void fraction(const uint32_t* words, F64& x) {
  const U64 y = as_u64(tempered(words));
  const F64 high = from_bits((y & u64(0x1FFFFFU)) | u64(0x41E0000000000000U));  // 2^31 + 21 bits, in steps of 2^-21
  const F64 low = from_bits(shr<32>(y) | u64(0x3FE0000000000000U));             // 1/2 + 32 bits, in steps of 2^-53
  x = (high - f64(0x1p31 + 0.5)) + low;
}

}  // namespace pyinit::PYINIT_NS
