#include "core/rounding.hpp"
#include "random/torch_elements.hpp"
#include "random/torch_fill.hpp"

namespace pyinit {

using namespace torch_stream;

TorchUniform torch_stream::make_torch_uniform(DType dtype, double low, double high, TorchArithmetic arithmetic) {
  const DType lanes = dtype == DType::f64 ? DType::f64 : DType::f32;
  const double first = round_to(lanes, low), top = round_to(dtype, high);
  TorchUniform p{.low = first,
                 .width = round_to(lanes, round_to(lanes, high) - first),
                 .first_high = top,
                 .last_high = top,
                 .instead = round_to(dtype, low),
                 .is_fused = arithmetic != TorchArithmetic::libm};
  if (size_of(dtype) == 2) {
    // What rounds to `top`: up to the middle between it and its neighbours, or to just before that.
    const double below = (next_below(dtype, top) + top) / 2, above = (top - next_below(dtype, -top)) / 2;
    p.first_high = round_to(dtype, below) == top ? below : -next_below(DType::f32, -below);
    p.last_high = round_to(dtype, above) == top ? above : next_below(DType::f32, above);
  }
  return p;
}

void torch_uniform(const View& view, TorchGenerator& g, double low, double high, TorchArithmetic arithmetic,
                   int threads) {
  const TorchUniform p = make_torch_uniform(view.dtype, low, high, arithmetic);
  const int64_t count = view.count();
  const auto kernel = torch_kernels().uniform[static_cast<int>(view.dtype)];
  visit(view.dtype, [&](auto type) {
    using T = decltype(type);
    constexpr int64_t kWords = kWordsPerElement<T>;
    const Elements<T> elements(view);
    mt19937::consume(g.mt, count * kWords, mt19937::kPiece, usable_threads(threads, count, kGrain),
                     [&](int64_t first, int64_t n, const uint32_t* words) {
                       elements.put(first / kWords, n / kWords,
                                    [&](int64_t done, int64_t m, T* out) { kernel(p, words + done * kWords, m, out); });
                     });
  });
}

}  // namespace pyinit
