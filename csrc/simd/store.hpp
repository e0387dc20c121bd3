// Vectors to memory in any dtype, rounded to nearest even.
#pragma once

#include "core/dtype.hpp"
#include "simd/math.hpp"

namespace pyinit::PYINIT_NS {

PYINIT_INLINE void store_as(float* p, F32 x) { store(p, x); }
PYINIT_INLINE void store_as(double* p, F64 x) { store(p, x); }
PYINIT_INLINE void store_as(Half* p, F32 x) { store_f16(&p->bits, x); }
PYINIT_INLINE void store_as(BFloat16* p, F32 x) { store_low16(&p->bits, bf16_bits(x)); }

}  // namespace pyinit::PYINIT_NS
