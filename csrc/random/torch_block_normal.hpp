// torch's normals of contiguous memory: 16 elements at a time, of 16 uniforms.
#pragma once

#include "core/parallel.hpp"
#include "random/distributions.hpp"
#include "random/torch_elements.hpp"

namespace pyinit::torch_stream {

template <class T> class BlockNormal {
 public:
  BlockNormal(double mean, double std, TorchArithmetic arithmetic)
      : normal_(make_normal(mean, std)),
        unit_(make_torch_uniform(kDType<Lane<T>>, 0, 1, arithmetic)),
        arithmetic_(arithmetic) {}

  // Writes `blocks` blocks of 16 elements side by side.
  void operator()(const uint32_t* words, int64_t blocks, T* out) const;

 private:
  void make(const uint32_t* words, int64_t blocks, Lane<T>* out) const;

  Normal normal_;
  TorchUniform unit_;
  TorchArithmetic arithmetic_;
};

// One pass of torch's block path over `count` >= 16 elements: body(block, first, blocks, words) for whole
// blocks in the order of memory. What is left over is made with the last 16 elements drawn anew, as a
// block of its own; its number follows the others'.
template <class T, class Body> void block_pass(TorchGenerator& g, int64_t count, int threads, Body&& body) {
  constexpr int64_t kWords = kWordsPerElement<T>;
  const int64_t whole = count / 16 * 16, rest = count % 16;
  const int team = usable_threads(threads, count, kGrain);
  mt19937::consume(g.mt, whole * kWords, mt19937::kPiece, team, [&](int64_t first, int64_t n, const uint32_t* words) {
    body(first / kWords / 16, first / kWords, n / kWords / 16, words);
  });
  if (rest == 0) return;
  if (!kIsHalf<T>) mt19937::skip(g.mt, rest * kWords);
  mt19937::consume(g.mt, 16 * kWords, 16 * kWords, 1,
                   [&](int64_t, int64_t, const uint32_t* words) { body(whole / 16, count - 16, int64_t{1}, words); });
}

}  // namespace pyinit::torch_stream
