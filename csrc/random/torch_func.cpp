#include "random/torch_func.hpp"

#include "core/rounding.hpp"
#include "random/filling.hpp"
#include "random/libm.hpp"

namespace pyinit {

namespace {

// How many of a word's low bits torch takes: as many as the dtype's significand has.
int bits_taken(DType dtype) {
  switch (dtype) {
    case DType::f16: return 11;
    case DType::bf16: return 8;
    case DType::f32: return 24;
    case DType::f64: break;
  }
  return 53;
}

DType lanes_of(DType dtype) { return dtype == DType::f64 ? DType::f64 : DType::f32; }

// torch's conversion to a dtype of 16 bits goes by way of float.
double converted(DType dtype, double x) { return round_to(dtype, round_to(lanes_of(dtype), x)); }

TorchFuncUniform make_uniform(DType dtype, const TorchFuncKey& key, double low, double high, bool is_fused) {
  const double first = converted(dtype, low), width = converted(dtype, converted(dtype, high) - first);
  const uint64_t values = uint64_t{1} << bits_taken(dtype);
  return {.low = first,
          .width = width,
          .step = 1.0 / static_cast<double>(values),
          .mask = values - 1,
          .first_block = key.offset,
          .is_fused = is_fused};
}

}  // namespace

void torch_func_uniform(const View& view, const TorchFuncKey& key, double low, double high,
                        TorchFuncArithmetic arithmetic, int threads) {
  if (view.count() == 0) return;
  fill_by(torch_func_kernels().uniform, view, Stream{key.seed, 0},
          make_uniform(view.dtype, key, low, high, arithmetic.is_fused), threads);
}

void torch_func_normal(const View& view, const TorchFuncKey& key, double mean, double std,
                       TorchFuncArithmetic arithmetic, int threads) {
  if (view.count() == 0) return;
  fill_by(torch_func_kernels().normal, view, Stream{key.seed, 0}, TorchFuncNormal{mean, std, key.offset, arithmetic},
          threads);
}

bool torch_func_matches_libm() { return libm_is_glibcs && torch_func_kernels().matches_libm(1 << 15); }

}  // namespace pyinit
