#include "random/torch_block_normal.hpp"

#include <numbers>

#include "random/libm.hpp"

namespace pyinit::torch_stream {

namespace {

// In place, from 16 uniforms a block.
template <class F> void transform_with_libm(F* x, int64_t blocks, F mean, F std, bool is_fused) {
  for (F* block = x; block != x + 16 * blocks; block += 16) {
    for (int j = 0; j < 8; ++j) {
      const F u1 = 1 - block[j], u2 = block[j + 8];
      const F radius = std::sqrt(-2 * std::log(u1));
      const auto theta = static_cast<F>(2 * std::numbers::pi * u2);
      block[j] = multiply_add(radius * std::cos(theta), std, mean, is_fused);
      block[j + 8] = multiply_add(radius * std::sin(theta), std, mean, is_fused);
    }
  }
}

}  // namespace

template <class T> void BlockNormal<T>::operator()(const uint32_t* words, int64_t blocks, T* out) const {
  if constexpr (std::is_same_v<T, Lane<T>>) {
    make(words, blocks, out);
  } else {
    Lane<T> batch[kBatch];
    for (int64_t done = 0; done < blocks; done += kBatch / 16) {
      const int64_t n = std::min(kBatch / 16, blocks - done);
      make(words + 16 * done, n, batch);
      narrow<T>(batch, 16 * n, out + 16 * done);
    }
  }
}

template <class T> void BlockNormal<T>::make(const uint32_t* words, int64_t blocks, Lane<T>* out) const {
  using F = Lane<T>;
  if constexpr (std::is_same_v<F, float>) {
    if (arithmetic_ == TorchArithmetic::vector) return torch_kernels().normal_blocks(normal_, words, blocks, out);
  }
  if constexpr (std::is_same_v<F, double>) {
    const auto kernel = torch_kernels().libm_normal_blocks;
    if (kernel != nullptr && libm_is_glibcs) {
      return kernel(normal_, arithmetic_ != TorchArithmetic::libm, words, blocks, out);
    }
  }
  torch_kernels().uniform[static_cast<int>(kDType<F>)](unit_, words, 16 * blocks, out);
  transform_with_libm(out, blocks, static_cast<F>(normal_.mean), static_cast<F>(normal_.std),
                      arithmetic_ != TorchArithmetic::libm);
}

template class BlockNormal<Half>;
template class BlockNormal<BFloat16>;
template class BlockNormal<float>;
template class BlockNormal<double>;

}  // namespace pyinit::torch_stream
