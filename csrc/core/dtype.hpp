// Element types of the tensors that kernels write.
#pragma once

#include <bit>
#include <cstdint>
#include <stdexcept>

namespace pyinit {

enum class DType : int { f16, bf16, f32, f64 };
constexpr int kDTypes = 4;

// 16-bit floats are stored as bit patterns; distinct types select the rounding.
struct Half {
  uint16_t bits;
};
struct BFloat16 {
  uint16_t bits;
};

constexpr int64_t size_of(DType t) { return t == DType::f64 ? 8 : t == DType::f32 ? 4 : 2; }

// The value of an element.
inline float value_of(BFloat16 x) { return std::bit_cast<float>(static_cast<uint32_t>(x.bits) << 16); }
inline float value_of(Half x) {
  const uint32_t magnitude = x.bits & 0x7FFFU, sign = static_cast<uint32_t>(x.bits & 0x8000U) << 16;
  const uint32_t value = std::bit_cast<uint32_t>(std::bit_cast<float>(magnitude << 13) * 0x1p112F);
  return std::bit_cast<float>(sign | value | (magnitude >= 0x7C00U ? 0x7F800000U : 0U));
}
inline float value_of(float x) { return x; }
inline double value_of(double x) { return x; }

// Calls f with a value of the element type (its content is meaningless).
template <class F> decltype(auto) visit(DType t, F&& f) {
  switch (t) {
    case DType::f16: return f(Half{});
    case DType::bf16: return f(BFloat16{});
    case DType::f32: return f(float{});
    case DType::f64: return f(double{});
  }
  throw std::invalid_argument("dtype: unknown code");
}

}  // namespace pyinit
